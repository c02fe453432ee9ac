//! What a supervisor that was killed left: workers, and paths. When its plane has finished what is in flight,
//! the process beside that ([`super::cleanup`]) ends and removes them; if the plane was killed too, the next
//! start does.
//!
//! The workers have been sent SIGTERM by the kernel when their parent died. What ignores it, outlives its
//! parent or sits in a session of its own is found by the marker that every worker's environment bears,
//! and signalled by a handle that no reused number can mislead.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::remains::{is_alive, left_by, signal_all};
use super::runtime_dir;

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is looked whether they are gone.
const LOOK: Duration = Duration::from_millis(50);
/// Looks at a tree that forks while it is being killed.
const LAST_LOOKS: u32 = 20;

/// What is to be seen to if a supervisor goes before its plane.
#[derive(Debug)]
pub(crate) struct Estate {
    /// See [`super::remains::our_name`].
    supervisor: String,
    directory: PathBuf,
}

impl Estate {
    /// As the supervisor tells it on the command line of its plane: its name, and its runtime directory.
    pub(crate) fn told(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let supervisor = arguments.next()?.into_string().ok()?;
        let directory = PathBuf::from(arguments.next()?);
        Some(Self {
            supervisor,
            directory,
        })
    }

    /// Ends the workers, then removes the paths. Nothing as long as the supervisor lives: it has only let go
    /// of its plane.
    pub(crate) async fn settle(self) {
        let limit = Instant::now() + GRACE;
        // Its sockets are closed a moment before it is gone.
        while is_alive(&self.supervisor) {
            if Instant::now() >= limit {
                return;
            }
            sleep(LOOK).await;
        }
        end_workers(self.supervisor.clone()).await;
        let limit = Instant::now() + GRACE;
        while !runtime_dir::clear_after(&self.directory, &self.supervisor) && Instant::now() < limit
        {
            sleep(LOOK).await;
        }
    }
}

/// Ends every process that bears the supervisor's marker: SIGTERM, and SIGKILL to what remains.
pub(super) async fn end_workers(supervisor: String) {
    signal_all(&left_by(&supervisor), Signal::SIGTERM);
    let limit = Instant::now() + GRACE;
    while Instant::now() < limit {
        if left_by(&supervisor).is_empty() {
            return;
        }
        sleep(LOOK).await;
    }
    for _ in 0..LAST_LOOKS {
        let left = left_by(&supervisor);
        if left.is_empty() {
            return;
        }
        signal_all(&left, Signal::SIGKILL);
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::supervisor::remains::our_name;
    use crate::supervisor::spec::MARKER;

    #[tokio::test(start_paused = true)]
    async fn t16_who_tidies_up_touches_nothing_of_a_supervisor_that_lives() {
        let directory = tempfile::tempdir().expect("directory");
        let mut worker = Command::new("sleep")
            .arg("1000")
            .env(MARKER, format!("{}-7", our_name()))
            .spawn()
            .expect("spawn");
        let estate = Estate {
            supervisor: our_name(),
            directory: directory.path().to_owned(),
        };
        estate.settle().await;
        let ended = worker.try_wait().expect("ours");
        worker.kill().expect("ours");
        worker.wait().expect("ours");
        assert_eq!(ended, None);
    }
}
