//! Our own log: to stderr, through a queue that drops and counts rather than block (F66).

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::console::Console;

/// Installs the log. `REMUDA_LOG` (or `RUST_LOG`) filters, the default is `info`;
/// `REMUDA_LOG_FORMAT=json` prints objects. A second call changes nothing.
pub(super) fn install(console: &Console) {
    let filter = EnvFilter::try_from_env("REMUDA_LOG")
        .or_else(|_| EnvFilter::try_from_default_env())
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let json = std::env::var("REMUDA_LOG_FORMAT").is_ok_and(|format| format == "json");
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var("TERM").is_ok_and(|term| term == "dumb");
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal() && !plain)
        .with_writer(console.clone());
    // Fails only if a log is installed already: tests run several supervisors in a process.
    let _ = if json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
}

/// The same for a process that has no console of its own yet: the data plane.
pub(crate) fn install_here() {
    // Without a thread for it there is no log, and nothing else is lost.
    if let Ok(console) = Console::start() {
        install(&console);
    }
}
