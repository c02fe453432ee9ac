//! What the tasks around the control loop tell it. One bounded queue; the loop reads nothing else.

use tokio::sync::mpsc;

use super::probe::Missed;
use crate::link::message::FromPlane;
use crate::rollout::WorkerId;
use crate::shim::Bytes;

/// One piece of news.
#[derive(Debug)]
pub(super) enum Input {
    /// A plane said something.
    Plane {
        /// Which.
        incarnation: u64,
        /// What.
        message: FromPlane,
    },
    /// A plane's channel ended: it exited, or spoke nonsense.
    PlaneClosed {
        /// Which.
        incarnation: u64,
        /// How.
        why: String,
    },
    /// The shim became the worker, or could not.
    Launched {
        /// Which.
        worker: WorkerId,
        /// What it runs, if that is not simply its program's file; or the error in the system's words.
        outcome: Result<Option<Bytes>, String>,
    },
    /// A probe ended.
    Probed {
        /// Which.
        worker: WorkerId,
        /// What came instead of an answer.
        outcome: Result<(), Missed>,
    },
}

/// Most news that wait. Tasks wait for a place, so nothing is lost; each has one thing to say at a time.
pub(super) const QUEUE: usize = 1024;

/// The tasks' end.
pub(super) type Inputs = mpsc::Sender<Input>;
