//! Our own log: to stderr, through a queue that drops and counts rather than block (F66).

use std::fmt;
use std::io::IsTerminal;
use std::time::SystemTime;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use super::console::Console;

/// Whether the log is objects for machines.
pub(super) fn is_json() -> bool {
    std::env::var("REMUDA_LOG_FORMAT").is_ok_and(|format| format == "json")
}

/// Whether somebody watches the log in a terminal.
pub(super) fn is_watched() -> bool {
    std::io::stderr().is_terminal() && !is_json()
}

/// What is logged unless somebody asks for more. Of the crates that we are made of only errors: what they
/// else say is for those who look for a mistake in them, and some of it any client has them say as often as
/// it likes.
const USUAL: &str = "error,remuda=info";

/// Installs the log. `REMUDA_LOG` (or `RUST_LOG`) filters, the default is [`USUAL`];
/// `REMUDA_LOG_FORMAT=json` prints objects. A second call changes nothing.
pub(super) fn install(console: &Console) {
    let filter = EnvFilter::try_from_env("REMUDA_LOG")
        .or_else(|_| EnvFilter::try_from_default_env())
        .unwrap_or_else(|_| EnvFilter::new(USUAL));
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var("TERM").is_ok_and(|term| term == "dumb");
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal() && !plain)
        .with_writer(console.clone());
    // Fails only if a log is installed already: tests run several supervisors in a process.
    let _ = if is_json() {
        builder.json().try_init()
    } else if is_watched() {
        builder.with_timer(TimeOfDay).try_init()
    } else {
        builder.try_init()
    };
}

/// `03:17:05.130Z`: who watches knows the day, and a line is short.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        writer.write_str(now.split_once('T').map_or(&now, |(_, time)| time))
    }
}

/// The same for a process that has no console of its own yet: the data plane.
pub(crate) fn install_here() {
    // Without a thread for it there is no log, and nothing else is lost.
    if let Ok(console) = Console::start() {
        install(&console);
    }
}
