//! The `remuda` program: everything is in the library.

use std::process::ExitCode;

/// Most of what a request costs in user space beyond its own work is memory taken and given back.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The roles that the supervisor starts come first: they take no flags and must not see the tree.
    let role = std::env::args_os().nth(1);
    match role.as_ref().and_then(|role| role.to_str()) {
        Some("shim") => remuda::shim::run(),
        Some("demo-child") => remuda::demo::become_child(),
        Some("demo-worker") => remuda::demo::run_worker(),
        Some("proxy") => remuda::proxy::run_from_stdin(),
        _ => remuda::cli::main(),
    }
}
