//! The JSON of the admin API, one set of types for server, command line and page.
//!
//! A value that is missing is null, never absent. Times are RFC 3339 in UTC with milliseconds, lengths
//! of time are seconds as numbers, shares are ratios from 0 to 1.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::rollout;

/// `GET /v1/status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of the supervisor.
    pub version: String,
    /// The supervisor's pid; never changes.
    pub pid: u32,
    /// Running data planes.
    pub data_planes: Vec<DataPlane>,
    /// By name.
    pub services: BTreeMap<String, Service>,
    /// `running`, or `stopping` after a stop was ordered.
    pub state: String,
    /// When the supervisor started.
    pub started_at: String,
    /// Public addresses, as bound.
    pub listeners: Vec<String>,
    /// Address of the TCP admin listener, if there is one.
    pub admin: Option<String>,
    /// What an operator should know until it is mended: a changed config that awaits a restart, a config
    /// or certificate that could not be used, a service that does not run what the config says.
    pub notices: Vec<String>,
}

/// One data plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DataPlane {
    /// Its pid.
    pub pid: u32,
    /// `starting`, `accepting`, `draining` or `killing`.
    pub state: String,
    /// When it was started.
    pub started_at: String,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Service {
    /// Number of the stable generation; changes at promotion.
    pub generation: u64,
    /// The stable generation's release.
    pub release: Option<String>,
    /// Workers wanted.
    pub wanted: u32,
    /// Workers that take new requests.
    pub ready: u32,
    /// What it waits for.
    pub waiting_on: Option<WaitingOn>,
    /// The last rollout, kept until the next begins.
    pub rollout: Option<Rollout>,
    /// Every generation with an unreaped process, and no other.
    pub generations: Vec<Generation>,
    /// Requests in flight, parked ones included.
    pub in_flight: u32,
    /// Requests that wait for a worker.
    pub parked: u32,
    /// What keeps them from every worker that takes requests, as far as it is known; null if none waits.
    pub parked_as: Option<String>,
}

impl Service {
    /// The workers of all its generations, those of each in slot order.
    pub fn workers(&self) -> impl DoubleEndedIterator<Item = &Worker> {
        self.generations.iter().flat_map(|of| &of.workers)
    }
}

/// One generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Generation {
    /// Its number.
    pub number: u64,
    /// `stable`, `candidate`, `parked` or `retiring`.
    pub role: String,
    /// The operator's name for it.
    pub release: Option<String>,
    /// Its share of the requests now, 0 to 1.
    pub weight: f64,
    /// Its workers, in slot order.
    pub workers: Vec<Worker>,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Worker {
    /// Its slot.
    pub slot: u32,
    /// Its pid; null before the process exists, and for workers somebody else runs.
    pub pid: Option<u32>,
    /// Its generation.
    pub generation: u64,
    /// `starting`, `ready`, `draining`, `terminating`, `killing` or `backoff`.
    pub state: String,
    /// `unknown`, `passing` or `failing`.
    pub health: String,
    /// Requests in flight.
    pub in_flight: u32,
    /// The same by class.
    pub in_flight_by_class: InFlight,
    /// Resident memory of its main process in bytes; children, such as those of gunicorn, are not in it.
    pub rss: Option<u64>,
    /// When it was spawned.
    pub started_at: Option<String>,
    /// Where it listens.
    pub address: Option<String>,
    /// While it drains: when the last request is cut.
    pub drain_deadline: Option<String>,
    /// While it drains: in flight when the drain began.
    pub drain_initial: Option<u32>,
    /// Failed starts and early crashes in a row in this slot.
    pub failures: u32,
    /// Gets no requests for a while, because it failed and others did not.
    pub ejected: bool,
}

/// Requests in flight by class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InFlight {
    /// None of the others.
    pub plain: u32,
    /// Bodies that still come in.
    pub upload: u32,
    /// Answers that stream.
    pub stream: u32,
    /// Upgraded connections.
    pub tunnel: u32,
}

impl From<rollout::InFlight> for InFlight {
    fn from(of: rollout::InFlight) -> Self {
        let rollout::InFlight {
            plain,
            upload,
            stream,
            tunnel,
        } = of;
        Self {
            plain,
            upload,
            stream,
            tunnel,
        }
    }
}

impl fmt::Display for InFlight {
    /// In the words of the core, which stand in the log and in what is awaited.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            plain,
            upload,
            stream,
            tunnel,
        } = *self;
        let same = rollout::InFlight {
            plain,
            upload,
            stream,
            tunnel,
        };
        same.fmt(f)
    }
}

/// What is awaited: the same sentence everywhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WaitingOn {
    /// A closed set: `ready ramp soak drain exit acknowledge backoff person rollout park`.
    pub kind: String,
    /// One sentence.
    pub message: String,
    /// Since when.
    pub since: String,
    /// When it ends by itself.
    pub deadline: Option<String>,
}

/// One rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rollout {
    /// `SERVICE-NUMBER`: the number of the generation it makes. One that takes a parked generation back makes
    /// none, and has a number of its own.
    pub id: String,
    /// The service.
    pub service: String,
    /// The generation it leaves.
    pub from: u64,
    /// The generation it makes, or takes back.
    pub to: u64,
    /// The new generation's release.
    pub release: Option<String>,
    /// `signal`, `api`, `cli`, `reload` or `rollback`.
    pub trigger: String,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// `pending running paused completed rolling_back rolled_back failed superseded`.
    pub state: String,
    /// What it does now.
    pub step: RolloutStep,
    /// 0 to 1.
    pub progress: f64,
    /// What it waits for.
    pub waiting_on: Option<WaitingOn>,
    /// Workers.
    pub counts: RolloutCounts,
    /// A verdict for each batch that ended, and the failing one.
    pub verdicts: Vec<Verdict>,
    /// Every request during the rollout, accounted for.
    pub ledger: Ledger,
    /// What is to be known of its workers whatever its end: that they run different bytes, because their program
    /// was replaced on disk meanwhile.
    pub remarks: Vec<String>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// When it was ordered.
    pub requested_at: String,
    /// When it began.
    pub started_at: Option<String>,
    /// When it reached a final state.
    pub ended_at: Option<String>,
    /// The service is at full strength; once the rollout has ended, it was then.
    pub full_strength: bool,
}

/// What a rollout does now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RolloutStep {
    /// `waiting starting ramping soaking retiring finishing refilling ended`.
    pub name: String,
    /// The batch, from 1; the first is the canary.
    pub batch: u32,
    /// Batches in all.
    pub of: u32,
}

/// Workers of a rollout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolloutCounts {
    /// Workers wanted.
    pub wanted: u32,
    /// New workers ready.
    pub candidate_ready: u32,
    /// Old workers that take requests.
    pub stable_ready: u32,
    /// Old workers that drain or end.
    pub retiring: u32,
    /// Plain requests in flight on old workers.
    pub retiring_requests: u32,
}

/// A judgement with its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Verdict {
    /// The batch.
    pub batch: u32,
    /// `pass`, `fail` or `not_enough`.
    pub verdict: String,
    /// One sentence.
    pub message: String,
    /// The candidate's numbers over the watched time.
    pub candidate: Outcomes,
    /// The stable generation's over the same time.
    pub stable: Outcomes,
}

/// Requests and failures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Outcomes {
    /// Requests that ended.
    pub requests: u64,
    /// Of these, failed.
    pub failures: u64,
}

/// Every request of the service between a rollout's begin and end (or now).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ledger {
    /// Requests that ended.
    pub requests: u64,
    /// Answered by the candidate (or the former candidate).
    pub candidate: u64,
    /// Answered by another generation.
    pub stable: u64,
    /// Tried again elsewhere.
    pub retried: u64,
    /// Answered by us in a worker's place, or cut short.
    pub proxy_errors: u64,
    /// Cut by a drain's limit, also while old workers drain after the end.
    pub cut: InFlight,
    /// The client left.
    pub client_gone: u64,
}

/// Why a rollout failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// `worker`, `judgement`, `progress_deadline`, `aborted` or `stopped`.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// The worker that caused it.
    pub worker: Option<FailedWorker>,
}

/// The worker that made a rollout fail, with what is needed to see why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailedWorker {
    /// Its slot.
    pub slot: u32,
    /// Its generation.
    pub generation: u64,
    /// Its pid.
    pub pid: Option<u32>,
    /// How it ended, such as `exit status 1`.
    pub exit: Option<String>,
    /// Its last lines, oldest first.
    pub output: Vec<String>,
    /// The last probe's answer or error.
    pub probe: Option<String>,
}

/// `POST /v1/rollouts`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewRollout {
    /// The service; all if missing.
    pub service: Option<String>,
    /// The release's name; a restart of the stable one if missing.
    pub release: Option<String>,
    /// Only `rolling` for now.
    pub strategy: Option<String>,
    /// Why, in your words.
    pub reason: Option<String>,
    /// Roll even if the release is stable already.
    pub force: bool,
    /// Refuse unless this is the stable generation.
    pub expected_generation: Option<u64>,
}

/// Answer to `POST /v1/rollouts` and `GET /v1/rollouts`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rollouts {
    /// One per service meant, or all that are remembered, newest first.
    pub rollouts: Vec<Rollout>,
}

/// `POST /v1/services/{s}/scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The new count.
    pub workers: u32,
}

/// `GET /v1/services/{s}/requests`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Requests {
    /// Oldest first.
    pub requests: Vec<LiveRequest>,
}

/// One request in flight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LiveRequest {
    /// Its id.
    pub id: String,
    /// `plain`, `upload`, `stream`, `tunnel` or `parked`.
    pub class: String,
    /// The method.
    pub method: String,
    /// The path, without its query.
    pub route: String,
    /// The client's address.
    pub client: String,
    /// Seconds since its head was complete.
    pub age: f64,
    /// Seconds since the last byte.
    pub idle: f64,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// The worker's slot.
    pub slot: Option<u32>,
    /// The worker's generation.
    pub generation: Option<u64>,
    /// The worker drains: this request holds it.
    pub blocks_drain: bool,
    /// Seconds until it is cut at the latest.
    pub eta: Option<f64>,
    /// Tries so far.
    pub attempt: u32,
}

/// One line of a worker's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// When it was read.
    pub at: String,
    /// The worker's slot.
    pub slot: u32,
    /// The worker's generation.
    pub generation: u64,
    /// The worker's pid.
    pub pid: u32,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// The line, control characters escaped, at most 8 KiB.
    pub line: String,
}

/// `GET /v1/services/{s}/logs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Logs {
    /// Oldest first.
    pub lines: Vec<LogLine>,
}

/// Answer to an order for one worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerOrdered {
    /// What the order does to the service's capacity, if it takes some: one sentence.
    pub notice: Option<String>,
    /// The service as it is now.
    #[serde(flatten)]
    pub service: Service,
}

/// `POST /v1/reload`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReloadOrder {
    /// Only say what would change; nothing does.
    pub dry_run: bool,
}

/// Answer to `POST /v1/reload`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// What changed, or would, in sentences; one says so if nothing did.
    pub changes: Vec<String>,
    /// What is likely to be a mistake in the new config and was not in the one before, in sentences.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// One for each service that is rolled for it.
    pub rollouts: Vec<Rollout>,
}

/// One event of `GET /v1/events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// When.
    pub at: String,
    /// The service it is about.
    pub service: Option<String>,
    /// What kind, such as `worker_ready` or `rollout_state`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One sentence.
    pub message: String,
    /// The numbers.
    pub data: serde_json::Value,
}

/// RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `about:blank` or a name of ours, such as `urn:remuda:no-service`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Short and always the same for the kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, and what to do.
    pub detail: String,
}
