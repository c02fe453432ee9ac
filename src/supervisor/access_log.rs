//! The access log's file: opened here, at start and at SIGUSR1, and handed to every plane. A plane never
//! opens anything; one that comes later writes to the same file as the one before.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde_json::json;
use tracing::Level;

use super::control::Supervisor;
use crate::config::{AccessLogConfig, LogTarget};
use crate::link::message::{AccessLog, ToPlane};

/// An access log that can be written to.
#[derive(Debug)]
pub(super) struct OpenLog {
    pub(super) log: AccessLog,
    pub(super) fd: OwnedFd,
}

impl OpenLog {
    /// What a plane is told, with a descriptor of its own.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub(super) fn letter(&self) -> io::Result<(ToPlane, Vec<OwnedFd>)> {
        let message = ToPlane::AccessLog(Some(self.log.clone()));
        Ok((message, vec![self.fd.try_clone()?]))
    }
}

/// Opens what the config says; `None` if there is to be none.
///
/// # Errors
/// What cannot be opened, why, and what to do.
pub(super) fn open(config: &AccessLogConfig) -> Result<Option<OpenLog>, String> {
    let opened = match &config.to {
        LogTarget::Off => return Ok(None),
        LogTarget::Stdout => io::stdout().as_fd().try_clone_to_owned(),
        LogTarget::Stderr => io::stderr().as_fd().try_clone_to_owned(),
        LogTarget::File(path) => open_file(path),
    };
    let log = config.log.clone();
    match opened {
        Ok(fd) => Ok(Some(OpenLog { log, fd })),
        Err(error) => Err(format!(
            "cannot open the access log {}: {error}; make its directory writable for us, or name another file in `access_log.to`",
            name_of(&config.to)
        )),
    }
}

fn open_file(path: &Path) -> io::Result<OwnedFd> {
    // A pipe that nobody reads must not hold us up.
    let waits_not = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(waits_not.bits())
        .open(path)?;
    // Whoever writes may wait for its reader: that is a thread of its own.
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
    Ok(file.into())
}

fn name_of(to: &LogTarget) -> String {
    match to {
        LogTarget::Off => "off".to_owned(),
        LogTarget::Stdout => "on stdout".to_owned(),
        LogTarget::Stderr => "on stderr".to_owned(),
        LogTarget::File(path) => path.display().to_string(),
    }
}

impl Supervisor {
    /// SIGUSR1: the file was renamed, and a new one is to be begun. If that cannot be opened the old one
    /// goes on, under whatever name it has now.
    pub(super) fn reopen_logs(&mut self) {
        let LogTarget::File(path) = &self.config.access_log.to else {
            return tracing::info!("SIGUSR1: no log goes to a file, nothing to reopen");
        };
        let shown = path.display().to_string();
        let (level, event, text) = match open(&self.config.access_log) {
            Ok(opened) => {
                self.planes.log_to(opened);
                let text = format!("the access log {shown} is opened anew");
                (Level::INFO, "access_log_reopened", text)
            }
            Err(why) => {
                let text = format!("{why}; the one that is open goes on");
                (Level::WARN, "access_log_failed", text)
            }
        };
        let now = self.clock.now();
        self.journal
            .note(now, level, event, &text, json!({ "path": shown }));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::link::message::LogFormat;

    fn config(to: LogTarget) -> AccessLogConfig {
        let log = AccessLog {
            format: LogFormat::Json,
            query: false,
        };
        AccessLogConfig { to, log }
    }

    #[test]
    fn a_file_is_made_for_us_and_our_group_and_appended_to() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("access.log");
        let opened = open(&config(LogTarget::File(path.clone())));
        let opened = opened.expect("opens").expect("a file");
        let meta = std::fs::metadata(&path).expect("it is there");
        assert_eq!(meta.mode() & 0o137, 0, "{:o}", meta.mode());
        let flags = fcntl(&opened.fd, FcntlArg::F_GETFL).expect("flags");
        let flags = OFlag::from_bits_retain(flags);
        assert!(flags.contains(OFlag::O_APPEND) && !flags.contains(OFlag::O_NONBLOCK));
    }

    #[test]
    fn what_cannot_be_opened_is_named_with_the_next_step_and_waited_for_by_nobody() {
        let dir = tempfile::tempdir().expect("directory");
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        for path in [dir.path().join("none/log"), dir.path().to_owned(), pipe] {
            let why = open(&config(LogTarget::File(path.clone()))).expect_err("it cannot");
            assert!(why.contains(&*path.to_string_lossy()), "{why}");
            assert!(why.contains("access_log.to"), "{why}");
        }
    }
}
