//! What a supervisor that was killed left: workers, and paths. Its plane, which finishes what is in flight
//! first, ends and removes them; if that was killed too, the next start does.
//!
//! The workers have been sent SIGTERM by the kernel when their parent died. What ignores it, outlives its
//! parent or sits in a session of its own is found by the marker that every worker's environment bears,
//! and signalled by a handle that no reused number can mislead.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use nix::fcntl::Flock;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::remains::{left_by, signal_all};
use super::runtime_dir;

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is looked whether they are gone.
const LOOK: Duration = Duration::from_millis(50);
/// Looks at a tree that forks while it is being killed.
const LAST_LOOKS: u32 = 20;

/// What a plane must see to if its supervisor goes before it.
#[derive(Debug)]
pub(crate) struct Estate {
    /// See [`super::remains::our_name`].
    supervisor: String,
    directory: PathBuf,
    /// As long as it is held, whoever starts next leaves the workers to us.
    _hold: Option<Flock<File>>,
}

impl Estate {
    /// As the supervisor tells it on the command line of its plane: its name, and its runtime directory.
    pub(crate) fn told(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let supervisor = arguments.next()?.into_string().ok()?;
        let directory = PathBuf::from(arguments.next()?);
        Some(Self {
            _hold: runtime_dir::hold(&directory),
            supervisor,
            directory,
        })
    }

    /// Ends the workers, then removes the paths.
    pub(crate) async fn settle(self) {
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
