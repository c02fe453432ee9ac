//! What became of the load: every request with the moment it was due and how long it took from then.
//!
//! Time is counted from when a request was *due*, not from when it was sent: if everything stalls, the
//! requests that could not be sent meanwhile count with the time they would have waited.

use std::collections::BTreeMap;
use std::time::Duration;

/// What a request was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Answered at once.
    Fast,
    /// A body that comes back.
    Echo,
    /// Takes three seconds.
    Slow,
    /// Server-sent events for some seconds.
    Stream,
    /// A WebSocket for some seconds.
    Tunnel,
}

/// One request and its end.
#[derive(Debug, Clone)]
pub(super) struct Shot {
    /// What it was.
    pub(super) kind: Kind,
    /// When it was due, since the load began.
    pub(super) due: Duration,
    /// From due to its last byte.
    pub(super) took: Duration,
    /// The release that answered, or what went wrong.
    pub(super) end: Result<String, String>,
}

/// Every request so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    shots: Vec<Shot>,
    begun: u64,
}

/// The numbers of a span of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    /// Requests that ended.
    pub(super) requests: u64,
    /// Of these, failed.
    pub(super) failed: u64,
    /// The middle one of those that are answered at once.
    pub(super) p50: Duration,
    /// All but one in a hundred of these took no longer.
    pub(super) p99: Duration,
    /// Answers by release.
    pub(super) answers: BTreeMap<String, u64>,
    /// What went wrong first.
    pub(super) first_fault: Option<String>,
}

impl Tally {
    /// A request was due.
    pub(super) fn begin(&mut self) {
        self.begun += 1;
    }

    /// A request ended.
    pub(super) fn end(&mut self, shot: Shot) {
        self.shots.push(shot);
    }

    /// Requests that have not ended.
    pub(super) fn in_flight(&self) -> u64 {
        self.begun - self.shots.len() as u64
    }

    /// The numbers of the requests that ended in this span.
    pub(super) fn between(&self, from: Duration, to: Duration) -> Numbers {
        let mut numbers = Numbers::default();
        let mut quick = Vec::new();
        // The shots are in the order of their ends, so the span is a run of them.
        let begin = self
            .shots
            .partition_point(|shot| shot.due + shot.took < from);
        for shot in &self.shots[begin..] {
            if shot.due + shot.took >= to {
                break;
            }
            numbers.requests += 1;
            match &shot.end {
                Ok(release) => *numbers.answers.entry(release.clone()).or_default() += 1,
                Err(fault) => {
                    numbers.failed += 1;
                    numbers.first_fault.get_or_insert_with(|| fault.clone());
                }
            }
            if matches!(shot.kind, Kind::Fast | Kind::Echo) {
                quick.push(shot.took);
            }
        }
        quick.sort_unstable();
        numbers.p50 = at(&quick, 50);
        numbers.p99 = at(&quick, 99);
        numbers
    }
}

/// The value that so many percent do not exceed, by nearest rank; nothing for nothing.
fn at(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Kind, Shot, Tally, at};

    fn shot(due: u64, took: u64, end: Result<&str, &str>) -> Shot {
        Shot {
            kind: Kind::Fast,
            due: Duration::from_millis(due),
            took: Duration::from_millis(took),
            end: end.map(str::to_owned).map_err(str::to_owned),
        }
    }

    #[test]
    fn a_span_counts_what_ended_in_it() {
        let mut tally = Tally::default();
        for end in [
            shot(0, 5, Ok("v1")),
            shot(5, 15, Ok("v1")),
            shot(10, 15, Ok("v2")),
            shot(15, 90, Err("refused")),
        ] {
            tally.begin();
            tally.end(end);
        }
        tally.begin();
        assert_eq!(tally.in_flight(), 1);
        let numbers = tally.between(Duration::from_millis(20), Duration::from_millis(100));
        assert_eq!((numbers.requests, numbers.failed), (2, 0));
        assert_eq!(numbers.answers.get("v2"), Some(&1));
        let all = tally.between(Duration::ZERO, Duration::MAX);
        assert_eq!((all.requests, all.failed), (4, 1));
        assert_eq!(all.first_fault.as_deref(), Some("refused"));
        assert_eq!(all.p50, Duration::from_millis(15));
        assert_eq!(all.p99, Duration::from_millis(90));
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let hundred: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(at(&hundred, 50), Duration::from_millis(50));
        assert_eq!(at(&hundred, 99), Duration::from_millis(99));
        assert_eq!(at(&[], 99), Duration::ZERO);
    }
}
