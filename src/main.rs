//! The `remuda` program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The shim runs between a worker and its start: before anything else, nothing else.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == "shim")
    {
        return remuda::shim::run();
    }
    ExitCode::SUCCESS
}
