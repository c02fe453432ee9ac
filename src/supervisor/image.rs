//! Our own program file, opened once, so that helpers are started from the same bytes as we are even
//! after the file was replaced on disk (T13).
//!
//! Used for the exec shim and for planes. It starts processes and nothing else: whoever starts one tells
//! the [`super::reaper::Reaper`], which alone waits for it.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;

/// Variables that are addressed to us and would mislead a helper.
pub(super) const OURS_ALONE: [&str; 8] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "FDSTORE",
];

/// An open handle on our program file.
#[derive(Debug)]
pub struct Image {
    file: File,
    variables: Vec<(&'static str, OsString)>,
}

impl Image {
    /// Opens the file that this process runs. To be called at start.
    ///
    /// # Errors
    /// The system's; usually that there is no `/proc`.
    pub fn open() -> io::Result<Self> {
        Self::open_path("/proc/self/exe")
    }

    /// Opens another program file: for tests, which are not the program themselves.
    ///
    /// # Errors
    /// The system's.
    pub fn open_path(path: impl AsRef<std::path::Path>) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_PATH | OFlag::O_CLOEXEC).bits())
            .open(path)?;
        Ok(Self {
            file,
            variables: Vec::new(),
        })
    }

    /// Tells all that are started by it this variable, too.
    #[must_use]
    pub(super) fn telling(mut self, variable: Option<(&'static str, OsString)>) -> Self {
        self.variables.extend(variable);
        self
    }

    /// Starts ourselves with `args`, `stdin` and the variables `more`; stdout and stderr are ours. Returns
    /// the pid, which is to be given to the reaper before anything is awaited.
    ///
    /// std's posix_spawn path is kept (nothing here needs code between fork and exec), so the cost does
    /// not grow with our memory (E6).
    ///
    /// # Errors
    /// The system's.
    pub fn spawn_self(
        &self,
        args: &[impl AsRef<OsStr>],
        stdin: OwnedFd,
        more: &[(&str, OsString)],
    ) -> io::Result<u32> {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        command.arg0("remuda").args(args).stdin(Stdio::from(stdin));
        for name in OURS_ALONE {
            command.env_remove(name);
        }
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        for (name, value) in more {
            command.env(name, value);
        }
        let child = command.spawn()?;
        // Dropping the handle neither waits nor kills: the reaper is the only one that waits.
        Ok(child.id())
    }
}
