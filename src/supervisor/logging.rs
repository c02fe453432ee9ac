//! Our own log: to stderr, through a queue that drops and counts rather than block (F66).

use std::ffi::OsString;
use std::fmt;
use std::io::IsTerminal;
use std::time::SystemTime;

use nix::sys::stat::{FileStat, fstat};
use serde_json::json;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{self, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::console::Console;

/// How the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For somebody who watches it in a terminal.
    Watched,
    /// For a file or a pipe.
    Plain,
    /// For the journal, which has the time of each line and wants to be told its priority.
    Journal,
    /// Objects for machines.
    Json,
}

impl Form {
    /// What is asked for by the command line (`json`) or `REMUDA_LOG_FORMAT`, else what fits our stderr.
    pub(super) fn of_stderr(json: bool) -> Self {
        let asked = std::env::var(FORMAT).ok();
        if json || asked.as_deref() == Some(JSON) {
            Self::Json
        } else if leads_to_the_journal() {
            Self::Journal
        } else if std::io::stderr().is_terminal() {
            Self::Watched
        } else {
            Self::Plain
        }
    }

    /// The variable that has a data plane log likewise.
    pub(super) fn variable(self) -> Option<(&'static str, OsString)> {
        (self == Self::Json).then(|| (FORMAT, JSON.into()))
    }

    /// A sentence that must be seen whatever is filtered, as a line.
    pub(super) fn last_words(self, why: &str) -> String {
        match self {
            Self::Watched | Self::Plain => format!("remuda: {why}\n"),
            Self::Journal => format!("<3>remuda: {}\n", why.replace('\n', "\n<3>")),
            Self::Json => {
                let at = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
                let fields = json!({ "message": why });
                format!(
                    "{}\n",
                    json!({ "timestamp": at, "level": "ERROR", "fields": fields })
                )
            }
        }
    }
}

const FORMAT: &str = "REMUDA_LOG_FORMAT";
const JSON: &str = "json";

/// The variable alone proves nothing: it is inherited by whoever has another stderr.
fn leads_to_the_journal() -> bool {
    let named = std::env::var("JOURNAL_STREAM").ok();
    let stderr = fstat(std::io::stderr());
    let same = |stderr: FileStat| {
        named
            .as_deref()
            .is_some_and(|named| is_named(named, &stderr))
    };
    stderr.is_ok_and(same)
}

/// `DEVICE:INODE`.
fn is_named(named: &str, stream: &FileStat) -> bool {
    named == format!("{}:{}", stream.st_dev, stream.st_ino)
}

/// What is logged unless somebody asks for more. Of the crates that we are made of only errors: what they
/// else say is for those who look for a mistake in them, and some of it any client has them say as often as
/// it likes.
const USUAL: &str = "error,remuda=info";

/// Installs the log. `REMUDA_LOG` (or `RUST_LOG`) filters, the default is [`USUAL`];
/// `form` is how it looks. A second call changes nothing.
pub(super) fn install(console: &Console, form: Form) {
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
    let _ = match form {
        Form::Json => builder.json().try_init(),
        Form::Watched => builder.with_timer(TimeOfDay).try_init(),
        Form::Journal => builder.event_format(Prioritised).try_init(),
        Form::Plain => builder.try_init(),
    };
}

/// `<4>what is to be looked at`: the journal takes the number for its priority, as sd-daemon(3) has them.
struct Prioritised;

impl<S, N> FormatEvent<S, N> for Prioritised
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str(match *event.metadata().level() {
            Level::ERROR => "<3>",
            Level::WARN => "<4>",
            Level::INFO => "<6>",
            _ => "<7>",
        })?;
        format::format()
            .without_time()
            .with_level(false)
            .with_target(false)
            .format_event(context, writer, event)
    }
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
        install(&console, Form::of_stderr(false));
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::fstat;

    use super::{Form, is_named};

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        let file = tempfile::tempfile().expect("a file");
        let found = fstat(&file).expect("it is open");
        let (device, inode) = (found.st_dev, found.st_ino);
        assert!(is_named(&format!("{device}:{inode}"), &found));
        for other in ["", ":", "8:1", &format!("{device}:{}", inode + 1)] {
            assert!(!is_named(other, &found), "{other}");
        }
    }

    #[test]
    fn each_line_of_the_last_words_has_its_priority_or_is_an_object() {
        let why = "cannot listen on \"a\"\ncannot listen on b";
        assert_eq!(
            Form::Journal.last_words(why),
            "<3>remuda: cannot listen on \"a\"\n<3>cannot listen on b\n"
        );
        let line = Form::Json.last_words(why);
        let object: serde_json::Value = serde_json::from_str(&line).expect("an object");
        assert_eq!(object["fields"]["message"], why);
        assert_eq!(line.lines().count(), 1);
    }
}
