//! The one owner of every child: alone in waiting for them, alone in signalling them.
//!
//! A pid (and a session, which bears its leader's number) cannot be reused before it was reaped, and all
//! signals go through here, so none ever reaches a stranger (F29). Called by the control loop on SIGCHLD.

use std::collections::BTreeSet;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::rollout::Exit;
use crate::sys;

/// All children, those we started and those that became ours when their parents died.
#[derive(Debug, Default)]
pub struct Reaper {
    /// Children of ours that were not reaped.
    live: BTreeSet<u32>,
}

impl Reaper {
    /// A reaper without children. Makes us the parent of orphans below us, so that what a worker leaves
    /// behind comes to us and not to init (F26, F28).
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> std::io::Result<Self> {
        nix::sys::prctl::set_child_subreaper(true)?;
        Ok(Self::default())
    }

    /// Takes charge of a child just started, before anything is awaited.
    pub fn watch(&mut self, pid: u32) {
        self.live.insert(pid);
    }

    /// Whether the child was started by us and not reaped yet.
    #[must_use]
    pub fn is_live(&self, pid: u32) -> bool {
        self.live.contains(&pid)
    }

    /// Reaps everything that has ended and returns it, strangers too (F28): each pid once. Never waits.
    pub fn reap_all(&mut self) -> Vec<(u32, Exit)> {
        let mut ended = Vec::new();
        while let Some((pid, status)) = sys::reap_one() {
            self.live.remove(&pid);
            let exit = match status {
                sys::WaitStatus::Exited(code) => Exit::Code(code),
                sys::WaitStatus::Signaled(signal, core) => Exit::Signal { signal, core },
            };
            ended.push((pid, exit));
        }
        ended
    }

    /// SIGTERM to the child alone. Nothing happens if it was reaped; false then.
    pub fn terminate(&self, pid: u32) -> bool {
        self.signal(pid, Signal::SIGTERM)
    }

    /// SIGKILL to the child alone: planes. False if it was reaped.
    pub fn kill(&self, pid: u32) -> bool {
        self.signal(pid, Signal::SIGKILL)
    }

    /// SIGTERM to the group the child leads. False if it was reaped: what is left then is for
    /// [`super::remains`].
    pub fn terminate_group(&self, pid: u32) -> bool {
        self.signal_group(pid, Signal::SIGTERM)
    }

    /// SIGKILL to the group the child leads and to the child itself. False if it was reaped.
    pub fn kill_group(&self, pid: u32) -> bool {
        self.signal_group(pid, Signal::SIGKILL);
        // A shim that was killed before its setsid leads no group yet.
        self.signal(pid, Signal::SIGKILL)
    }

    fn signal(&self, pid: u32, signal: Signal) -> bool {
        match self.number(pid) {
            Some(number) => kill(number, signal).is_ok(),
            None => false,
        }
    }

    fn signal_group(&self, pid: u32, signal: Signal) -> bool {
        match self.number(pid) {
            // ESRCH: it leads no group (yet), so nobody is hit.
            Some(number) => killpg(number, signal).is_ok(),
            None => false,
        }
    }

    /// The number to signal, if it is certainly still our child. Never 0, 1 or ourselves.
    fn number(&self, pid: u32) -> Option<Pid> {
        self.live.get(&pid)?;
        let number = i32::try_from(pid).ok().filter(|number| *number > 1)?;
        Some(Pid::from_raw(number))
    }
}
