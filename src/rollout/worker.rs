//! One worker's life, from spawn to gone. Lifecycle ([`Phase`]) is not health.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fact::{Exit, InFlight};
use super::id::{Epoch, Generation, Moment, Slot, WorkerId};
use super::record::WorkerFailure;
use super::settings::Settings;
use super::view::{Health, WorkerState};

/// How long what is left of a group has at least after its SIGTERM. No longer if nobody asked the main process
/// to end, whose slot waits for this; otherwise what is left of its own time.
pub(super) const GROUP_GRACE: Duration = Duration::from_secs(1);

/// How long the core waits past the plane's own deadline before it ends a drain itself. The plane cuts at
/// the deadline and reports; this only helps when the report never comes.
const DRAIN_SLACK: Duration = Duration::from_secs(2);

/// One incarnation of a worker process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) slot: Slot,
    pub(super) generation: Generation,
    /// Its pid once `Spawned` came; `None` for workers that somebody else runs.
    pub(super) pid: Option<u32>,
    pub(super) started_at: Moment,
    /// When it first became ready.
    pub(super) ready_at: Option<Moment>,
    pub(super) health: Health,
    /// Since when it fails its probes though it was ready.
    pub(super) failing_since: Option<Moment>,
    /// It fails them because it is busy: they were late while it had requests. A rollout bears with it for a
    /// while.
    pub(super) busy: bool,
    /// Since when planes give it no requests, because it fails far more than others.
    pub(super) ejected_since: Option<Moment>,
    /// Probes in a row that say the contrary of, or lead to, the present health.
    pub(super) passes: u32,
    pub(super) misses: u32,
    /// What the last failed probe met.
    pub(super) problem: Option<String>,
    pub(super) load: InFlight,
    /// When a plane will have cut the last request, if it said so.
    pub(super) load_deadline: Option<Moment>,
    /// The drain, from the shutting of the gate.
    pub(super) drain: Option<Drain>,
    pub(super) phase: Phase,
    /// Failed starts and early crashes in a row in this slot, before this worker.
    pub(super) failures: u32,
    /// How the last of them ended.
    pub(super) after: Option<WorkerFailure>,
    /// A person drained its slot: it is held as soon as it is ready, and so is what is started in its place
    /// should it end.
    pub(super) drained: bool,
    /// A person ordered its replacement: it retires when the new one is ready.
    pub(super) outgoing: bool,
    /// It has failed its probes for too long: likewise, unless it passes them again before that.
    pub(super) sick: bool,
    /// `Cleared` came before `Exited`.
    pub(super) cleared: bool,
    /// SIGKILL did not take; nobody waits for it any more, but its slot stays taken (F25).
    pub(super) stuck: bool,
}

/// The drain of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Drain {
    /// When the gate was ordered shut.
    pub(super) since: Moment,
    /// In flight at that time.
    pub(super) initial: InFlight,
}

/// Where a worker is in its life. From `Shutting` on it is the retire order, one state per arrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Spawned, has not passed `rise` probes in a row. After the deadline (none for workers that
    /// somebody else runs) the start has failed.
    Starting { deadline: Option<Moment> },
    /// It takes requests if its generation has weight and its health allows.
    Ready,
    /// A person shut its gate and keeps the process. No deadline: until `Undrain`.
    Held,
    /// Its gate is shut in the table `epoch` (`None`: the one about to be published); ends when every
    /// plane has acknowledged that. No deadline: a plane that does not answer is killed by the shell.
    Shutting { epoch: Option<Epoch> },
    /// No new request can reach it. Ends when a count taken after the acknowledgement (`counted`) is
    /// zero, or at the drain's deadline.
    Emptying { counted: bool },
    /// It is not in the table `epoch` any more; ends when every plane has acknowledged that, which
    /// means that their pooled connections are closed.
    Unlisting { epoch: Option<Epoch> },
    /// SIGTERM was sent to the main process. After the deadline follows SIGKILL.
    Terminating { deadline: Moment },
    /// SIGKILL was sent to the group while the main process lived. After the deadline it counts as
    /// stuck.
    Killing { deadline: Moment },
    /// The main process was reaped; what is left of the group got SIGTERM and gets SIGKILL after
    /// `next` (see [`Self::group_deadline`]), or got that (`killed`) and counts as stuck after `next`.
    Sweeping {
        exit: Exit,
        asked: bool,
        killed: bool,
        next: Moment,
    },
}

impl Phase {
    /// Until when what is left of the group has time to end by itself if the main process ends now.
    pub(super) fn group_deadline(self, now: Moment) -> Moment {
        let least = now + GROUP_GRACE;
        match self {
            Self::Terminating { deadline } => deadline.max(least),
            Self::Starting { .. }
            | Self::Ready
            | Self::Held
            | Self::Shutting { .. }
            | Self::Emptying { .. }
            | Self::Unlisting { .. }
            | Self::Killing { .. }
            | Self::Sweeping { .. } => least,
        }
    }
}

impl Worker {
    pub(super) fn new(id: WorkerId, slot: Slot, generation: Generation, now: Moment) -> Self {
        Self {
            id,
            slot,
            generation,
            pid: None,
            started_at: now,
            ready_at: None,
            health: Health::Unknown,
            failing_since: None,
            busy: false,
            ejected_since: None,
            passes: 0,
            misses: 0,
            problem: None,
            load: InFlight::default(),
            load_deadline: None,
            drain: None,
            phase: Phase::Starting { deadline: None },
            failures: 0,
            after: None,
            drained: false,
            outgoing: false,
            sick: false,
            cleared: false,
            stuck: false,
        }
    }

    /// It fills one of its generation's wanted places.
    pub(super) fn in_place(&self) -> bool {
        match self.phase {
            Phase::Starting { .. } | Phase::Ready | Phase::Held => true,
            Phase::Shutting { .. }
            | Phase::Emptying { .. }
            | Phase::Unlisting { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. }
            | Phase::Sweeping { .. } => false,
        }
    }

    /// It is to be replaced, the new one first.
    pub(super) fn leaves(&self) -> bool {
        self.in_place() && (self.outgoing || self.sick)
    }

    /// It was ready, and stays.
    pub(super) fn stays(&self) -> bool {
        matches!(self.phase, Phase::Ready | Phase::Held) && !self.leaves()
    }

    /// It is ready, or was ready and is held by a person: no reason to wait for it.
    pub(super) fn staffed(&self) -> bool {
        matches!(self.phase, Phase::Held) || self.routable()
    }

    /// It can take new requests.
    pub(super) fn routable(&self) -> bool {
        matches!(self.phase, Phase::Ready) && self.health != Health::Failing
    }

    /// Planes must know it.
    pub(super) fn listed(&self) -> bool {
        match self.phase {
            Phase::Ready | Phase::Held | Phase::Shutting { .. } | Phase::Emptying { .. } => true,
            Phase::Starting { .. }
            | Phase::Unlisting { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. }
            | Phase::Sweeping { .. } => false,
        }
    }

    /// When the core ends its drain, whatever is in flight: the planes' deadline, or without one the
    /// request limit from the shutting of the gate; with slack for the report.
    pub(super) fn drain_limit(&self, settings: &Settings) -> Option<Moment> {
        Some(self.drain_deadline(settings)? + DRAIN_SLACK)
    }

    /// When planes have cut the last request.
    pub(super) fn drain_deadline(&self, settings: &Settings) -> Option<Moment> {
        let drain = self.drain?;
        // A deadline before this drain is an older one's: its gate was shut before, and opened again.
        Some(
            self.load_deadline
                .filter(|deadline| *deadline > drain.since)
                .unwrap_or(drain.since + settings.drain_request),
        )
    }

    /// When something must happen by itself.
    pub(super) fn deadline(&self, settings: &Settings) -> Option<Moment> {
        match self.phase {
            Phase::Starting { deadline } => deadline,
            Phase::Ready | Phase::Held | Phase::Shutting { .. } | Phase::Unlisting { .. } => None,
            Phase::Emptying { .. } => self.drain_limit(settings),
            Phase::Terminating { deadline } => Some(deadline),
            Phase::Killing { deadline } => (!self.stuck).then_some(deadline),
            Phase::Sweeping { next, .. } => (!self.stuck).then_some(next),
        }
    }

    /// The state as shown.
    pub(super) fn state(&self) -> WorkerState {
        match self.phase {
            Phase::Starting { .. } => WorkerState::Starting,
            Phase::Ready => WorkerState::Ready,
            Phase::Held
            | Phase::Shutting { .. }
            | Phase::Emptying { .. }
            | Phase::Unlisting { .. } => WorkerState::Draining,
            Phase::Terminating { .. } => WorkerState::Terminating,
            Phase::Killing { .. } => WorkerState::Killing,
            Phase::Sweeping { killed, .. } => {
                if killed {
                    WorkerState::Killing
                } else {
                    WorkerState::Terminating
                }
            }
        }
    }
}

/// A slot without a process whose next start waits (`WorkerState::Backoff`). It fills a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Vacancy {
    /// The worker that was there.
    pub(super) last: WorkerId,
    pub(super) slot: Slot,
    pub(super) generation: Generation,
    pub(super) since: Moment,
    /// When the next start is due; it also waits until nothing of the last worker is left, unless that
    /// is stuck: then another slot is taken.
    pub(super) due: Moment,
    /// Failed starts and early crashes in a row, the last worker's own included.
    pub(super) failures: u32,
    /// How the last worker ended; by itself without a fault is one of the ways.
    pub(super) failure: WorkerFailure,
    /// A person drained the slot.
    pub(super) drained: bool,
}
