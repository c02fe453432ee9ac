//! The `remuda` program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The roles that the supervisor starts come first: they take no flags and must not see the tree.
    let role = std::env::args_os().nth(1);
    match role.as_ref().and_then(|role| role.to_str()) {
        Some("shim") => remuda::shim::run(),
        Some("demo-child") => remuda::demo::become_child(),
        Some("demo-worker") => remuda::demo::run_worker(),
        Some("cleanup") => remuda::supervisor::run_cleanup(),
        Some("proxy") => remuda::proxy::run_from_stdin(),
        _ => remuda::cli::main(),
    }
}
