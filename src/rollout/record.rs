//! One transition, one record: log line, event, journal entry and metric all come from it.

#![expect(
    missing_docs,
    reason = "the fields are words of the glossary, the same in every variant"
)]

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::command::Trigger;
use super::fact::{Exit, InFlight};
use super::id::{Generation, ServiceName, Slot, WorkerId};
use super::view::{RolloutState, Verdict};

/// What happened, where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The service it is about.
    pub service: ServiceName,
    /// The transition.
    pub event: Event,
}

/// A transition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A worker is being started.
    WorkerStarting {
        worker: WorkerId,
        slot: Slot,
        generation: Generation,
    },
    /// A worker answered; it may be routed to.
    WorkerReady {
        worker: WorkerId,
        slot: Slot,
        generation: Generation,
        after: Duration,
    },
    /// A ready worker failed its probes.
    WorkerUnhealthy {
        worker: WorkerId,
        slot: Slot,
        generation: Generation,
        problem: String,
    },
    /// A worker passes its probes again.
    WorkerHealthy {
        worker: WorkerId,
        slot: Slot,
        generation: Generation,
    },
    /// A ready worker gets no requests for a while: it fails far more than the others.
    WorkerEjected {
        worker: WorkerId,
        slot: Slot,
        generation: Generation,
    },
    /// A worker gets requests again.
    WorkerReadmitted {
        worker: WorkerId,
        slot: Slot,
        generation: Generation,
        after: Duration,
    },
    /// A ready worker has failed its probes for so long that it is replaced, the new one first.
    WorkerReplaced {
        worker: WorkerId,
        slot: Slot,
        generation: Generation,
        failing: Duration,
        problem: String,
    },
    /// A worker could not be started, never became ready, or ended though nobody asked; also one that
    /// has failed at nothing ([`WorkerFailure::Ended`]).
    WorkerFailed {
        worker: WorkerId,
        slot: Slot,
        generation: Generation,
        failure: WorkerFailure,
    },
    /// The next start in this slot waits.
    WorkerBackoff {
        slot: Slot,
        generation: Generation,
        failures: u32,
        delay: Duration,
    },
    /// A worker's gate is being shut.
    WorkerDraining {
        worker: WorkerId,
        slot: Slot,
        generation: Generation,
        in_flight: InFlight,
    },
    /// A worker's drain ended; `left` is what a deadline cut, `took` from gate to empty.
    WorkerDrained {
        worker: WorkerId,
        slot: Slot,
        generation: Generation,
        took: Duration,
        left: InFlight,
    },
    /// SIGTERM was sent.
    WorkerTerminating {
        worker: WorkerId,
        slot: Slot,
        generation: Generation,
    },
    /// SIGKILL was sent: the grace was over, or a stop is wanted now.
    WorkerKilling {
        worker: WorkerId,
        slot: Slot,
        generation: Generation,
    },
    /// SIGKILL did not take within the grace (F25).
    WorkerStuck {
        worker: WorkerId,
        slot: Slot,
        generation: Generation,
    },
    /// A worker that was asked to end has ended, and nothing of it is left.
    WorkerRetired {
        worker: WorkerId,
        slot: Slot,
        generation: Generation,
        exit: Option<Exit>,
    },
    /// A rollout was asked for and begins, or waits for another.
    RolloutRequested {
        number: Generation,
        to: Generation,
        release: String,
        trigger: Trigger,
        reason: Option<String>,
    },
    /// A rollout changed state.
    RolloutState {
        number: Generation,
        to: Generation,
        from: Generation,
        state: RolloutState,
        trigger: Trigger,
        elapsed: Duration,
        message: String,
    },
    /// A batch began.
    RolloutBatch {
        to: Generation,
        batch: u32,
        of: u32,
        size: u32,
    },
    /// A batch was judged.
    RolloutVerdict {
        to: Generation,
        batch: u32,
        verdict: Verdict,
        message: String,
    },
    /// The candidate's share reached a batch's target.
    RolloutRamped {
        to: Generation,
        weight: super::id::Weight,
    },
    /// The candidate is the stable generation now.
    Promoted {
        generation: Generation,
        release: String,
        previous: Option<Generation>,
    },
    /// Another count of workers is wanted.
    Scaled { from: u32, to: u32 },
    /// Nobody can answer: requests are parked.
    NobodyReady { message: String },
    /// A stop was ordered.
    Stopping { message: String },
}

/// Why a worker failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WorkerFailure {
    /// No process (F37).
    Spawn { error: String },
    /// It ended before it was ready.
    ExitedEarly { exit: Exit },
    /// Exit status 0 before ready: it probably went to the background (F27).
    Daemonised,
    /// Not ready in time.
    StartTimeout {
        after: Duration,
        last_probe: Option<String>,
    },
    /// It ended while it served.
    Crashed { exit: Exit },
    /// It served for a while and ended by itself with exit status 0, as one does that has its number of
    /// requests behind it. Nothing has failed.
    Ended,
    /// Its probes failed `fall` times in a row.
    Unhealthy { problem: String },
}

impl std::fmt::Display for WorkerFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Spawn { error } => write!(f, "could not be started: {error}"),
            Self::ExitedEarly { exit } => write!(f, "ended before it was ready: {exit}"),
            Self::Daemonised => f.write_str(
                "ended with exit status 0 before it was ready; a worker must stay in the foreground, not daemonise",
            ),
            Self::StartTimeout { after, last_probe } => {
                write!(f, "was not ready in {}", humantime::format_duration(*after))?;
                match last_probe {
                    Some(problem) => write!(f, " (last probe: {problem})"),
                    None => Ok(()),
                }
            }
            Self::Crashed { exit } => write!(f, "ended while it served: {exit}"),
            Self::Ended => f.write_str("ended by itself: exit status 0"),
            Self::Unhealthy { problem } => write!(f, "failed its health check: {problem}"),
        }
    }
}
