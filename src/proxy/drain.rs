//! When a plane that drains closes what: idle clients spread over a window (F46), requests by their limits.

use std::sync::Arc;
use std::time::Duration;

use crate::link::message::Table;

/// Idle clients are closed over so long, so that they do not all come back at once.
const SPREAD: u64 = 1_000;
/// A client whose answer promised keep-alive has so long to send its next request.
const COURTESY: u64 = 250;

/// An idle client that was told to leave has so long to say that it has heard, and what is left of its last answer
/// to move.
const PARTING: u64 = 3_000;

/// A drain of the whole plane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draining {
    /// When it began, on the plane's clock.
    pub(super) since: u64,
    /// The supervisor is gone: every class has the plain limit, and idle clients no time.
    pub(super) orphaned: bool,
}

impl Draining {
    /// When an idle client's connection is closed.
    pub(super) fn close_at(self, client: u64, idle_since: u64) -> u64 {
        if self.orphaned {
            return self.since;
        }
        (self.since + scattered(client, SPREAD)).max(idle_since + COURTESY)
    }

    /// Whether an idle client is not waited for any more that was told to leave, or last took a byte, at `last`.
    pub(super) fn is_given_up(self, last: u64, now: u64) -> bool {
        now >= last.saturating_add(PARTING)
    }
}

/// A client's place below `bound`, which is not 0. Neighbours in the order of accept are far apart.
pub(super) fn scattered(client: u64, bound: u64) -> u64 {
    client.wrapping_mul(0x9E37_79B9_7F4A_7C15) % bound
}

/// The hard end of a plane without a supervisor.
pub(super) fn orphan_limit(table: Option<&Arc<Table>>) -> Duration {
    let services = table.into_iter().flat_map(|table| &table.services);
    let longest = services.map(|service| service.rules.drain.request).max();
    // What is cut at the limit needs a moment to be closed.
    longest.unwrap_or_default() + Duration::from_millis(500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f46_idle_clients_close_spread_over_the_window_and_never_at_once() {
        let draining = Draining {
            since: 10_000,
            orphaned: false,
        };
        let times: Vec<_> = (0..100).map(|n| draining.close_at(n, 0)).collect();
        assert!(times.iter().all(|at| (10_000..11_000).contains(at)));
        let early = times.iter().filter(|at| **at < 10_500).count();
        assert!((30..70).contains(&early), "{early} in the first half");
        assert!(draining.close_at(1, 12_000) >= 12_250);
    }
}
