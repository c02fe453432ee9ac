//! What a plane does last if its supervisor is gone: it ends the workers that the supervisor left, so
//! that nothing is left behind.
//!
//! The workers have been sent SIGTERM by the kernel when their parent died. What ignores it, outlives its
//! parent or sits in a session of its own is found by the marker that every worker's environment bears,
//! and signalled by a handle that no reused number can mislead.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::remains::{left_by, signal_all};

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is looked whether they are gone.
const LOOK: Duration = Duration::from_millis(50);
/// Looks at a tree that forks while it is being killed.
const LAST_LOOKS: u32 = 20;

/// Ends every process that bears the supervisor's marker: SIGTERM, and SIGKILL to what remains.
pub(crate) async fn end_workers(supervisor: u32) {
    signal_all(&left_by(supervisor), Signal::SIGTERM);
    let limit = Instant::now() + GRACE;
    while Instant::now() < limit {
        if left_by(supervisor).is_empty() {
            return;
        }
        sleep(LOOK).await;
    }
    for _ in 0..LAST_LOOKS {
        let left = left_by(supervisor);
        if left.is_empty() {
            return;
        }
        signal_all(&left, Signal::SIGKILL);
        sleep(LOOK).await;
    }
}
