//! What the shell must do. Actions are imperative; each ends in a fact.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::id::{Epoch, Generation, ServiceName, Slot, Weight, WorkerId};
use super::record::Record;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Send this table to every plane; ends in `Acknowledged`.
    Publish(Routes),
    /// Start a process (unmanaged: begin to probe its address); ends in `Spawned` or `SpawnFailed`.
    /// Probing begins by itself after `Spawned` and goes on until `Exited`.
    Spawn {
        /// The new worker.
        worker: WorkerId,
        /// Its service.
        service: ServiceName,
        /// Its slot.
        slot: Slot,
        /// Its generation; the shell keeps the resolved spec of each.
        generation: Generation,
    },
    /// SIGTERM to the main process alone; ends in `Exited`.
    Terminate {
        /// The worker.
        worker: WorkerId,
    },
    /// SIGTERM to what is left of the group after the main process ended; ends in `Cleared`.
    TerminateGroup {
        /// The worker.
        worker: WorkerId,
    },
    /// SIGKILL to the whole group, main process included; ends in `Exited` and `Cleared`.
    KillGroup {
        /// The worker.
        worker: WorkerId,
    },
    /// The new generation's spec is a copy of an older one's, not resolved anew: a way back to an earlier
    /// release. Comes before the generation's first `Spawn`, while the older spec is still kept; keep
    /// a copy at once, the older one may be forgotten before the first `Spawn`.
    Reuse {
        /// The service.
        service: ServiceName,
        /// The new generation.
        generation: Generation,
        /// The one whose spec it gets.
        spec_of: Generation,
    },
    /// The generation has no worker left and none will come: its spec may go. The stable generation
    /// before the present one is kept until the next promotion, for `Rollback`.
    Forget {
        /// The service.
        service: ServiceName,
        /// The generation.
        generation: Generation,
    },
    /// A transition, for log, events, journal and metrics.
    Record(Record),
    /// Every worker is gone after `Stop`; the shell may stop planes and end.
    Finished,
}

/// Who gets which share: the core's part of the routing table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routes {
    /// The table's number.
    pub epoch: Epoch,
    /// By service, in name order. A service about which nothing has changed keeps its part.
    pub services: Vec<Arc<ServiceRoutes>>,
}

/// One service's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRoutes {
    /// The service.
    pub service: ServiceName,
    /// Its generations that have a worker in the table, in number order. Weights sum to
    /// [`Weight::FULL`], or are all zero when nobody can answer (requests are parked).
    pub generations: Vec<GenerationRoutes>,
}

/// One generation's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRoutes {
    /// Its number.
    pub number: Generation,
    /// Its role.
    pub role: Role,
    /// Its share of the service's requests.
    pub weight: Weight,
    /// Its workers that planes may know: ready ones and those that drain.
    pub workers: Vec<WorkerRoute>,
}

/// One worker's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRoute {
    /// The worker.
    pub worker: WorkerId,
    /// Its slot.
    pub slot: Slot,
    /// Whether it takes new requests.
    pub gate: GateState,
}

/// Whether a worker takes new requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GateState {
    /// It does.
    Open,
    /// It does not, as long as it fails its probes: it may be busy, and does not leave. Those in flight finish
    /// in their own time.
    Aside,
    /// It does not, and leaves: those in flight finish within the limits of its drain.
    Shut,
}

/// What a generation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It serves and is trusted.
    Stable,
    /// It is being tried.
    Candidate,
    /// Alive at weight 0, for an instant rollback.
    Parked,
    /// On its way out.
    Retiring,
}
