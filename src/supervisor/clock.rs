//! The supervisor's clock: monotonic moments for decisions, wall time for people (F36).

use std::time::SystemTime;

use tokio::time::Instant;

use crate::rollout::Moment;

/// Tells the time since the supervisor began, and what the wall clock said then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    origin: Instant,
    wall: SystemTime,
}

impl Clock {
    /// A clock that begins now.
    #[must_use]
    pub(super) fn start() -> Self {
        Self {
            origin: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// Now.
    #[must_use]
    pub(super) fn now(&self) -> Moment {
        Moment(self.origin.elapsed())
    }

    /// The moment as the runtime's timer counts it.
    #[must_use]
    pub(super) fn instant(&self, moment: Moment) -> Instant {
        self.origin + moment.0
    }

    /// The moment as RFC 3339 in UTC with milliseconds. A wall clock that was set meanwhile is not
    /// followed, so that two printed times always differ by what passed between them.
    #[must_use]
    pub(super) fn print(&self, moment: Moment) -> String {
        rfc3339(self.wall + moment.0)
    }

    /// The wall time of a moment.
    #[must_use]
    pub(super) fn wall(&self, moment: Moment) -> SystemTime {
        self.wall + moment.0
    }
}

/// RFC 3339 in UTC with milliseconds.
#[must_use]
fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
