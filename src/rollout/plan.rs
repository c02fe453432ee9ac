//! A rollout's state: how far it is, what it watches, why it stands.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::command::Trigger;
use super::fact::Outcomes;
use super::id::{Generation, Moment, Weight};
use super::view::{FailureView, RolloutState, VerdictView};

/// A service without a request for so long has nobody to protect: ramp and soak are skipped.
pub(super) const IDLE: Duration = Duration::from_secs(10);

/// The share climbs in steps of this: finer ones would only cost tables.
pub(super) const RAMP_STEP: Duration = Duration::from_millis(100);

/// Failed starts in a row after which the stable generation counts as not refillable.
pub(super) const REFILL_TRIES: u32 = 3;

/// One supervised change of generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rollout {
    /// `SERVICE-NUMBER` is its id: the number of the generation it makes. One that takes a parked generation
    /// back makes none, and has a number of its own.
    pub(super) number: Generation,
    pub(super) from: Generation,
    pub(super) to: Generation,
    pub(super) release: String,
    pub(super) trigger: Trigger,
    pub(super) reason: Option<String>,
    /// Its spec is that of an earlier generation.
    pub(super) spec_of: Option<Generation>,
    pub(super) state: RolloutState,
    pub(super) stage: Stage,
    pub(super) hold: Option<Hold>,
    /// From 1; 0 before the first.
    pub(super) batch: u32,
    /// Candidate workers of the batches that passed.
    pub(super) passed: u32,
    /// Candidate workers wanted through this batch.
    pub(super) goal: u32,
    /// Old workers this batch retires before its new ones are ready (`max_unavailable`).
    pub(super) early: u32,
    /// The candidate's share.
    pub(super) share: Weight,
    /// It has spawned a worker: nobody joins it any more.
    pub(super) spawned: bool,
    /// A person said `promote`: no ramp and no soak any more.
    pub(super) hurry: bool,
    /// A person resumed after `not_enough = "hold"`: the batch counts as passed.
    pub(super) approved: bool,
    /// Counts when the candidate got its first request.
    pub(super) baseline: Option<Baseline>,
    pub(super) verdicts: Vec<VerdictView>,
    pub(super) failure: Option<FailureView>,
    pub(super) requested_at: Moment,
    pub(super) started_at: Option<Moment>,
    pub(super) ended_at: Option<Moment>,
    /// When it last made progress, for show.
    pub(super) progressed_at: Moment,
    /// From when the progress deadline counts: the last progress, moved on by pauses, drains and watching.
    pub(super) patience: Moment,
    /// At the last look it waited for what has a time of its own: a drain, a ramp, a soak.
    pub(super) blocked: bool,
    pub(super) progress: Weight,
    /// Failed starts of stable workers in a row since the rollback began.
    pub(super) refill_failures: u32,
    /// Most stable workers ready at once since the rollback began.
    pub(super) refill_best: u32,
    pub(super) full_strength: bool,
}

/// What the batch does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// Nothing is spawned: too many old generations still end. No deadline but theirs.
    Waiting,
    /// The batch's workers start. The progress deadline and each worker's start timeout count.
    Starting { since: Moment },
    /// The share climbs and the batch is watched. It ends by its own times; the progress deadline counts only
    /// for answers that it waits for after its soak.
    Watching(Watch),
    /// The same number of old workers is put on the retire order, as soon as they can be spared. The
    /// progress deadline counts.
    Retiring { since: Moment },
    /// Back: the old generation is refilled and takes its share again. The progress deadline counts from
    /// each stable worker more than ever before in this rollback.
    Refilling { since: Moment },
    /// Over.
    Ended,
}

/// The watching of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Watch {
    /// When the batch's last worker became ready: begin of the ramp.
    pub(super) since: Moment,
    /// The share at that time.
    pub(super) from: Weight,
    /// When the share reached the batch's target.
    pub(super) arrived: Option<Moment>,
    /// The first request after `since`: begin of the soak.
    pub(super) first: Option<Moment>,
    /// The service is idle: no ramp, no soak.
    pub(super) idle: bool,
}

impl Watch {
    /// Its clocks stood still for so long.
    pub(super) fn stood(&mut self, by: Duration) {
        self.since = self.since + by;
        self.arrived = self.arrived.map(|at| at + by);
        self.first = self.first.map(|at| at + by);
    }
}

/// Why a rollout is paused. It is `Paused` exactly while there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Hold {
    /// A person said so: every clock of the rollout stops.
    Person { since: Moment },
    /// Remuda stops, and nothing that begins now would be brought to an end.
    Stop { since: Moment },
    /// It failed and `on_failure = "pause"`.
    Failure { since: Moment },
    /// Too few requests and `not_enough = "hold"`.
    NotEnough { since: Moment },
}

impl Hold {
    pub(super) fn since(self) -> Moment {
        match self {
            Self::Person { since }
            | Self::Stop { since }
            | Self::Failure { since }
            | Self::NotEnough { since } => since,
        }
    }
}

/// What there was when the candidate got its first request, to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Baseline {
    pub(super) candidate: Outcomes,
    pub(super) stable: Outcomes,
    pub(super) at: Moment,
    /// How long requests have been at the stable generation since, all together and by what was seen.
    pub(super) spent: Spent,
}

/// The time of requests, summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spent {
    millis: u128,
    until: Moment,
}

impl Spent {
    pub(super) fn from(until: Moment) -> Self {
        Self { millis: 0, until }
    }

    /// So many requests were there until now.
    pub(super) fn add(&mut self, requests: u64, now: Moment) {
        self.millis = self.at(requests, now);
        self.until = self.until.max(now);
    }

    /// The sum in milliseconds, if so many are there since it was last added to.
    pub(super) fn at(self, requests: u64, now: Moment) -> u128 {
        self.millis + u128::from(requests) * now.since(self.until).as_millis()
    }
}

impl Rollout {
    pub(super) fn new(
        from: Generation,
        to: Generation,
        release: String,
        trigger: Trigger,
        reason: Option<String>,
        now: Moment,
    ) -> Self {
        Self {
            number: to,
            from,
            to,
            release,
            trigger,
            reason,
            spec_of: None,
            state: RolloutState::Pending,
            stage: Stage::Waiting,
            hold: None,
            batch: 0,
            passed: 0,
            goal: 0,
            early: 0,
            share: Weight::NONE,
            spawned: false,
            hurry: false,
            approved: false,
            baseline: None,
            verdicts: Vec::new(),
            failure: None,
            requested_at: now,
            started_at: None,
            ended_at: None,
            progressed_at: now,
            patience: now,
            blocked: false,
            progress: Weight::NONE,
            refill_failures: 0,
            refill_best: 0,
            full_strength: false,
        }
    }

    /// Sets the batch's goal: the very first batch is one worker, the canary.
    pub(super) fn aim(&mut self, size: u32, wanted: u32, unavailable: u32) {
        let size = if self.passed == 0 { 1 } else { size };
        self.goal = (self.passed + size).min(wanted).max(self.passed);
        self.early = unavailable.min(self.goal - self.passed);
    }

    /// No batch has passed: the old workers are whole.
    pub(super) fn first(&self) -> bool {
        self.batch <= 1
    }

    /// It goes forward, or stands and would.
    pub(super) fn forward(&self) -> bool {
        matches!(self.state, RolloutState::Running | RolloutState::Paused)
    }

    /// It goes back, or could not.
    pub(super) fn back(&self) -> bool {
        matches!(self.state, RolloutState::RollingBack | RolloutState::Failed)
    }

    /// It is over, and with it the service went back: it was undone, or was itself the way back. A way back
    /// that was undone led nowhere.
    pub(super) fn led_back(&self) -> bool {
        match self.state {
            RolloutState::Completed => self.spec_of.is_some(),
            RolloutState::RolledBack | RolloutState::Failed => self.spec_of.is_none(),
            RolloutState::Pending
            | RolloutState::Running
            | RolloutState::Paused
            | RolloutState::RollingBack
            | RolloutState::Superseded => false,
        }
    }

    /// It is held because it failed.
    pub(super) fn held_by_failure(&self) -> bool {
        matches!(self.hold, Some(Hold::Failure { .. }))
    }

    /// It made progress.
    pub(super) fn progressed(&mut self, now: Moment) {
        self.progressed_at = now;
        self.patience = now;
    }

    /// Ends the pause: every clock goes on where it stood.
    pub(super) fn release_hold(&mut self, now: Moment) {
        let Some(hold) = self.hold.take() else { return };
        let stood = now.since(hold.since());
        // What was made in the pause counts from now.
        self.patience = (self.patience + stood).min(now);
        if let Stage::Watching(watch) = &mut self.stage {
            watch.stood(stood);
        }
    }
}

/// `part` of `whole` as a share, at most all of it.
pub(super) fn share(part: u32, whole: u32) -> Weight {
    if whole == 0 || part >= whole {
        return Weight::FULL;
    }
    let parts = u64::from(part) * u64::from(Weight::FULL.0) / u64::from(whole);
    Weight(u16::try_from(parts).unwrap_or(Weight::FULL.0))
}
