//! What the operator may set about a service, as the core sees it: already checked, no strings.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Most workers of a service: far above what one host can run, and few enough that a slip of the hand
/// cannot stall the supervisor.
pub const MAX_WORKERS: u32 = 4096;

/// A count, or a part of the wanted workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Amount {
    /// So many workers.
    Count(u32),
    /// So many hundredths of the wanted workers, 0 to 100.
    Percent(u32),
}

impl Amount {
    /// The number of workers, rounded up (surge).
    #[must_use]
    pub fn of_rounded_up(self, wanted: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (wanted * percent).div_ceil(100),
        }
    }

    /// The number of workers, rounded down (unavailable).
    #[must_use]
    pub fn of_rounded_down(self, wanted: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => wanted * percent / 100,
        }
    }
}

/// What a failed rollout does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFailure {
    /// Go back to the stable generation at once.
    Rollback,
    /// Stop with the candidate at weight 0 and wait for `abort` or `resume`.
    Pause,
}

/// What a soak that ended with too few requests means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotEnough {
    /// Go on because the workers stayed healthy, and say so.
    Continue,
    /// Pause and wait for a person.
    Hold,
}

/// Who runs the workers of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ownership {
    /// We start, signal and reap them.
    Managed,
    /// Somebody else runs them (`upstream = […]`): routed, probed and drained, never started or
    /// signalled. There is one worker per address, and `wanted` is their number.
    Unmanaged,
}

/// Everything the core needs to know of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Who runs the workers.
    pub ownership: Ownership,
    /// How many workers should serve, at least 1.
    pub wanted: u32,
    /// Workers above the wanted count a rollout may start; at least 1 when given in percent.
    pub max_surge: Amount,
    /// Workers below the wanted count a rollout may go.
    pub max_unavailable: Amount,
    /// How long the candidate's share climbs to its target.
    pub ramp: Duration,
    /// How long a batch is watched, from the first request routed to it; includes the ramp.
    pub soak: Duration,
    /// How long a rollout may go without progress before it fails: workers that do not start, old ones
    /// that cannot be spared, answers too few of which come to judge by. Pauses, drains, ramps and soaks do not count: they have their own times.
    pub progress_deadline: Duration,
    /// What a failure does.
    pub on_failure: OnFailure,
    /// How long the old generation stays alive at weight 0 after promotion.
    pub park: Duration,
    /// Generations alive at once before a draining worker holds up the next batch.
    pub max_generations: u32,
    /// Candidate requests below which there is no judgement.
    pub judge_min_requests: u64,
    /// What too few requests mean at the soak's end.
    pub not_enough: NotEnough,
    /// Probes in a row that make a worker ready.
    pub rise: u32,
    /// Failed probes in a row that make a ready worker unready.
    pub fall: u32,
    /// How long a worker may take from spawn to ready.
    pub start_timeout: Duration,
    /// How long after SIGTERM before SIGKILL.
    pub kill_grace: Duration,
    /// Upper bound of a drain when no plane reports a deadline of its own, from the gate's shutting
    /// (the request limit); a plane's later deadline wins.
    pub drain_request: Duration,
    /// How long an upload on a draining worker may make no progress before it is cut; said, not measured, here.
    pub drain_upload: Duration,
    /// The same for a stream.
    pub drain_stream: Duration,
    /// The same for a tunnel.
    pub drain_tunnel: Duration,
    /// How long any of these may take in all, from the gate's shutting; said, not measured, here.
    pub drain_at_most: Duration,
    /// First restart delay; doubles with each failed start in a row.
    pub backoff_first: Duration,
    /// Longest restart delay.
    pub backoff_max: Duration,
    /// How long a ready worker may fail its probes before it is replaced; zero means for ever.
    pub unhealthy_after: Duration,
    /// Healthy time after which the restart delay starts from the first again.
    pub backoff_reset: Duration,
}

impl Default for Settings {
    /// The defaults of the config reference, for a managed service of two workers.
    fn default() -> Self {
        Self {
            ownership: Ownership::Managed,
            wanted: 2,
            max_surge: Amount::Percent(25),
            max_unavailable: Amount::Count(0),
            ramp: Duration::from_secs(3),
            soak: Duration::from_secs(5),
            progress_deadline: Duration::from_secs(120),
            on_failure: OnFailure::Rollback,
            park: Duration::ZERO,
            max_generations: 3,
            judge_min_requests: 20,
            not_enough: NotEnough::Continue,
            rise: 1,
            fall: 3,
            start_timeout: Duration::from_secs(60),
            kill_grace: Duration::from_secs(10),
            drain_request: Duration::from_secs(30),
            drain_upload: Duration::from_secs(120),
            drain_stream: Duration::from_secs(300),
            drain_tunnel: Duration::from_secs(900),
            drain_at_most: Duration::from_secs(3600),
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            unhealthy_after: Duration::from_secs(30),
            backoff_reset: Duration::from_secs(60),
        }
    }
}
