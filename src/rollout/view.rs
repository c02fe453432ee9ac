//! What the core shows of itself: one immutable value after every step. The API, the command line, the
//! page and the metrics all read it, and nothing else of the core.

use serde::{Deserialize, Serialize};

use super::action::Role;
use super::command::Trigger;
use super::fact::{InFlight, Outcomes};
use super::id::{Generation, Moment, ServiceName, Slot, Weight, WorkerId};
use super::record::WorkerFailure;

/// Everything, by service in name order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The services.
    pub services: Vec<ServiceView>,
    /// A stop was ordered.
    pub stopping: bool,
}

impl View {
    /// Every worker of every service.
    pub fn workers(&self) -> impl Iterator<Item = &WorkerView> {
        let generations = self
            .services
            .iter()
            .flat_map(|service| &service.generations);
        generations.flat_map(|generation| &generation.workers)
    }
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name.
    pub service: ServiceName,
    /// Number of the stable generation; changes at promotion.
    pub stable: Generation,
    /// The stable generation's release.
    pub release: String,
    /// Workers wanted.
    pub wanted: u32,
    /// Workers that take new requests.
    pub ready: u32,
    /// Every generation with a worker that is not gone.
    pub generations: Vec<GenerationView>,
    /// The last rollout, kept until the next begins.
    pub rollout: Option<RolloutView>,
    /// The rollout that waits for the running one's batch to end.
    pub pending: Option<RolloutView>,
    /// What the service waits for.
    pub waiting_on: Option<WaitingOn>,
}

/// One generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationView {
    /// Its number.
    pub number: Generation,
    /// What it is for.
    pub role: Role,
    /// The operator's name for it.
    pub release: String,
    /// Its share of the requests now.
    pub weight: Weight,
    /// Its workers that are not gone, and slots that wait for a restart, in slot order.
    pub workers: Vec<WorkerView>,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerView {
    /// The worker.
    pub worker: WorkerId,
    /// Its slot.
    pub slot: Slot,
    /// Its pid, once there is a process.
    pub pid: Option<u32>,
    /// Where it is in its life.
    pub state: WorkerState,
    /// What its probes say.
    pub health: Health,
    /// What it has in flight.
    pub in_flight: InFlight,
    /// When it was spawned.
    pub started_at: Moment,
    /// When its drain must be over, while it drains.
    pub drain_deadline: Option<Moment>,
    /// In flight when its drain began.
    pub drain_initial: Option<InFlight>,
    /// Failed starts and early crashes in a row in this slot.
    pub failures: u32,
}

/// Where a worker is in its life. Lifecycle is not health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// Spawned, has not answered yet.
    Starting,
    /// Has answered; takes requests if its generation has weight.
    Ready,
    /// Its gate is shut; those in flight finish.
    Draining,
    /// SIGTERM was sent.
    Terminating,
    /// SIGKILL was sent.
    Killing,
    /// No process; the next start waits.
    Backoff,
}

/// What the probes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No probe has ended yet.
    Unknown,
    /// The last `rise` probes passed.
    Passing,
    /// The last `fall` probes failed, or it never passed one.
    Failing,
}

/// One rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutView {
    /// `SERVICE-NUMBER` is its id.
    pub number: Generation,
    /// The generation it leaves.
    pub from: Generation,
    /// The generation it makes, or takes back.
    pub to: Generation,
    /// The new generation's release.
    pub release: String,
    /// Who asked.
    pub trigger: Trigger,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Where it is.
    pub state: RolloutState,
    /// The batch it is in, from 1; 0 before the first.
    pub batch: u32,
    /// Batches in all, as planned now.
    pub batches: u32,
    /// What the batch does now.
    pub step: Step,
    /// Parts in 10,000 done; never falls in a forward rollout.
    pub progress: Weight,
    /// Candidate workers ready.
    pub candidate_ready: u32,
    /// Old workers still taking requests.
    pub stable_ready: u32,
    /// Old workers still draining or ending.
    pub retiring: u32,
    /// Plain requests (not streams, not tunnels) in flight on old workers.
    pub retiring_plain: u32,
    /// What it waits for.
    pub waiting_on: Option<WaitingOn>,
    /// A verdict for each batch that ended, and the failing one.
    pub verdicts: Vec<VerdictView>,
    /// Why it failed.
    pub failure: Option<FailureView>,
    /// When it was ordered.
    pub requested_at: Moment,
    /// When it began.
    pub started_at: Option<Moment>,
    /// When it reached a final state.
    pub ended_at: Option<Moment>,
    /// When it last made progress.
    pub progressed_at: Moment,
    /// The service has the wanted count of healthy stable workers again (after a rollback), or the
    /// candidate has (after completion).
    pub full_strength: bool,
}

/// Where a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// Waits for another to end its batch.
    Pending,
    /// Goes forward.
    Running,
    /// Held by a person, by a stop of remuda, by `on_failure = "pause"` or by `not_enough = "hold"`.
    Paused,
    /// The candidate is stable.
    Completed,
    /// Goes back.
    RollingBack,
    /// Went back; the old generation serves at full strength.
    RolledBack,
    /// Could not go back to full strength, or could not begin.
    Failed,
    /// A newer one took over.
    Superseded,
}

impl RolloutState {
    /// Nothing will change it any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::Running | Self::Paused | Self::RollingBack => false,
            Self::Completed | Self::RolledBack | Self::Failed | Self::Superseded => true,
        }
    }
}

/// What a batch does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Nothing yet.
    Waiting,
    /// New workers start.
    Starting,
    /// The share climbs.
    Ramping,
    /// The batch is watched.
    Soaking,
    /// Old workers of the batch drain and end.
    Retiring,
    /// The last old workers finish.
    Finishing,
    /// The old generation is refilled.
    Refilling,
    /// Over.
    Ended,
}

/// A judgement on a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The soak ended with enough requests and no reason to fail.
    Pass,
    /// The candidate is worse.
    Fail,
    /// Too few requests to say.
    NotEnough,
}

/// A judgement with its numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictView {
    /// The batch.
    pub batch: u32,
    /// The verdict.
    pub verdict: Verdict,
    /// The candidate's requests and failures over the watched time.
    pub candidate: Outcomes,
    /// The stable generation's over the same time.
    pub stable: Outcomes,
    /// One sentence.
    pub message: String,
}

/// Why a rollout failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureView {
    /// What kind: a closed set for metrics.
    pub reason: FailureReason,
    /// One sentence.
    pub message: String,
    /// The worker that caused it; the shell adds its last lines and last probe answer.
    pub worker: Option<FailedWorker>,
}

impl FailureView {
    /// A stop ends the rollout, which may have failed `before` and not have ended for that yet.
    pub(super) fn by_stop(before: Option<Self>) -> Self {
        let stops = "remuda stops";
        let message = before
            .as_ref()
            .map(|before| format!("{stops}; before, {}", before.message));
        Self {
            reason: FailureReason::Stopped,
            message: message.unwrap_or_else(|| stops.to_owned()),
            worker: before.and_then(|before| before.worker),
        }
    }
}

/// A closed set of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// A candidate worker failed.
    Worker,
    /// The candidate answers worse than the stable generation.
    Judgement,
    /// No progress in time.
    ProgressDeadline,
    /// A person aborted.
    Aborted,
    /// Remuda stops.
    Stopped,
}

/// The worker that made a rollout fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedWorker {
    /// The worker.
    pub worker: WorkerId,
    /// Its slot.
    pub slot: Slot,
    /// Its pid, if there was a process.
    pub pid: Option<u32>,
    /// What it did.
    pub failure: WorkerFailure,
}

/// What is awaited, since when, and which limit ends it. The same sentence everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingOn {
    /// What kind: a closed set.
    pub kind: WaitingKind,
    /// One sentence, without the deadline.
    pub message: String,
    /// Since when.
    pub since: Moment,
    /// When it ends by itself, and the sentence says how.
    pub deadline: Option<Moment>,
}

/// A closed set of things to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitingKind {
    /// Workers to become ready.
    Ready,
    /// A share to climb.
    Ramp,
    /// A soak to end.
    Soak,
    /// Requests in flight to finish.
    Drain,
    /// Processes to end.
    Exit,
    /// A plane to acknowledge a table.
    Acknowledge,
    /// A restart delay.
    Backoff,
    /// A worker that serves no more to recover, or to be replaced.
    Health,
    /// A person.
    Person,
    /// Another rollout.
    Rollout,
    /// A parked generation's time.
    Park,
}
