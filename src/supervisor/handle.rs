//! What the admin side holds of the supervisor: questions to ask, and values to read at any time.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::feed::Feed;
use crate::rollout::{Accepted, Command, Refusal, Trigger};
use crate::wire;

/// A question to the control loop. Each is answered once; a dropped answer means that the loop is gone.
#[derive(Debug)]
pub enum Ask {
    /// An order for one service.
    Command {
        /// The order. Boxed: one of a reload brings all settings.
        command: Box<Command>,
        /// Who, for the audit log line: `uid 1000 pid 4121` or a TCP peer.
        by: String,
        /// What became of it.
        reply: oneshot::Sender<Result<Accepted, Refusal>>,
    },
    /// A rollout of one service or of all.
    Rollout {
        /// What is wanted.
        order: wire::NewRollout,
        /// Who asked.
        trigger: Trigger,
        /// Who, for the audit log line.
        by: String,
        /// One rollout per service meant.
        reply: oneshot::Sender<Result<Vec<wire::Rollout>, Refusal>>,
    },
    /// What is in flight.
    Requests {
        /// The service.
        service: String,
        /// Oldest first.
        reply: oneshot::Sender<Result<Vec<wire::LiveRequest>, Refusal>>,
    },
    /// The exposition text, after a fresh sample of every plane or 50 ms.
    Metrics {
        /// Prometheus text format 0.0.4.
        reply: oneshot::Sender<String>,
    },
    /// Say what a reload would change.
    Plan {
        /// That, or why it would change nothing.
        reply: oneshot::Sender<Result<wire::Reloaded, Refusal>>,
    },
    /// Re-read the config.
    Reload {
        /// Who, for the audit log line.
        by: String,
        /// What changed, or why nothing did.
        reply: oneshot::Sender<Result<wire::Reloaded, Refusal>>,
    },
}

/// The admin side's end.
#[derive(Debug, Clone)]
pub struct Handle {
    /// Questions.
    pub asks: mpsc::Sender<Ask>,
    /// The status, replaced after every step.
    pub status: watch::Receiver<Arc<wire::Status>>,
    /// Every rollout that is remembered, newest first.
    pub rollouts: watch::Receiver<Arc<Vec<wire::Rollout>>>,
    /// Events; the feed's number is the SSE id.
    pub events: Feed<wire::Event>,
    /// Workers' output, all services and slots.
    pub logs: Feed<(String, wire::LogLine)>,
    /// Turns false before the listeners stop, and is true only while a request can be answered.
    pub ready: watch::Receiver<bool>,
}
