//! The words for the core's states: one for each, the same in the API, in metrics and in events.

use super::{Health, Role, RolloutState, Step, Trigger, WorkerState};

impl Role {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Candidate => "candidate",
            Self::Parked => "parked",
            Self::Retiring => "retiring",
        }
    }
}

impl WorkerState {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Terminating => "terminating",
            Self::Killing => "killing",
            Self::Backoff => "backoff",
        }
    }
}

impl Health {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Passing => "passing",
            Self::Failing => "failing",
        }
    }
}

impl Trigger {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Api => "api",
            Self::Cli => "cli",
            Self::Reload => "reload",
            Self::Rollback => "rollback",
        }
    }
}

impl RolloutState {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::RollingBack => "rolling_back",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
        }
    }
}

impl Step {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Ramping => "ramping",
            Self::Soaking => "soaking",
            Self::Retiring => "retiring",
            Self::Finishing => "finishing",
            Self::Refilling => "refilling",
            Self::Ended => "ended",
        }
    }
}
