//! When a plane that drains closes what: idle clients spread over a window (F46), requests by their limits.
//!
//! A request of HTTP/1.1 that is under way when we close an idle connection is lost: the client has no answer,
//! and nothing had told it. So a client whose next request is due by its own habit is waited for, within a bound,
//! and gets an answer that says `Connection: close`; where the stop is announced beforehand, it gets that earlier.

use std::sync::Arc;
use std::time::Duration;

use crate::link::message::Table;

/// Idle clients are closed over so long, so that they do not all come back at once.
const SPREAD: u64 = 1_000;
/// A client whose answer promised keep-alive has so long to send its next request, beyond four times its longest pause: who pauses
/// at random exceeds twice of it often.
const COURTESY: u64 = 250;
/// The same for one of which no pause is known, as it has sent one request or none.
const UNKNOWN: u64 = 2_000;
/// Nobody is waited for longer: a stop should not take as long as its slowest client.
const LONGEST: u64 = 5_000;
/// Clients that are let go before a drain are told over so long, or half of the time that is left if that is less:
/// each comes back at once, perhaps to us.
const NOTICE: u64 = 10_000;

/// An idle client that was told to leave has so long to say that it has heard, and what is left of its last answer
/// to move.
pub(super) const PARTING: u64 = 3_000;

/// What is known of when an idle client sends its next request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Habit {
    /// Nothing.
    #[default]
    Unknown,
    /// The longest time it took after an answer.
    Pauses(u64),
    /// It need not be known: what crosses our goodbye is served, as HTTP/2 can (F45).
    Served,
}

impl Habit {
    /// The same after another pause.
    pub(super) fn after(self, pause: u64) -> Self {
        match self {
            Self::Unknown => Self::Pauses(pause),
            Self::Pauses(longest) => Self::Pauses(longest.max(pause)),
            Self::Served => Self::Served,
        }
    }

    /// How long after its last answer it is waited for.
    fn patience(self) -> u64 {
        match self {
            Self::Unknown => UNKNOWN,
            Self::Pauses(longest) => longest
                .saturating_mul(4)
                .saturating_add(COURTESY)
                .min(LONGEST),
            Self::Served => COURTESY,
        }
    }
}

/// A drain that is announced: clients that were there before are let go, each with an answer. Whoever comes later
/// may have nowhere else to go yet, and would come again with each request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Notice {
    /// When it came, on the plane's clock.
    since: u64,
    spread: u64,
    /// The first number that a client had who came later.
    later: u64,
}

impl Notice {
    /// The drain is due in so many milliseconds.
    pub(super) fn new(since: u64, due: u64, later: u64) -> Self {
        Self {
            since,
            spread: (due / 2).clamp(1, NOTICE),
            later,
        }
    }

    /// Whether this client is to go.
    pub(super) fn lets_go(self, client: u64, now: u64) -> bool {
        client < self.later && now >= self.since + scattered(client, self.spread)
    }
}

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
    pub(super) fn close_at(self, client: u64, idle_since: u64, habit: Habit) -> u64 {
        if self.orphaned {
            return self.since;
        }
        (self.since + scattered(client, SPREAD)).max(idle_since + habit.patience())
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
        let habit = Habit::Unknown;
        let times: Vec<_> = (0..100).map(|n| draining.close_at(n, 0, habit)).collect();
        assert!(times.iter().all(|at| (10_000..11_000).contains(at)));
        let early = times.iter().filter(|at| **at < 10_500).count();
        assert!((30..70).contains(&early), "{early} in the first half");
        assert!(draining.close_at(1, 12_000, Habit::Served) >= 12_250);
    }

    #[test]
    fn f46_a_client_is_waited_for_by_its_longest_pause_and_nobody_without_end() {
        let draining = Draining {
            since: 10_000,
            orphaned: false,
        };
        let waits = |habit: Habit| draining.close_at(0, 10_000, habit) - 10_000;
        let habit = Habit::default();
        assert_eq!(waits(habit), UNKNOWN);
        let habit = [300, 700, 20].into_iter().fold(habit, Habit::after);
        assert_eq!(waits(habit), 3_050);
        assert_eq!(waits(habit.after(60_000)), LONGEST);
        assert_eq!(waits(Habit::Pauses(u64::MAX)), LONGEST);
        assert_eq!(waits(Habit::Served.after(60_000)), COURTESY);
        let orphaned = Draining {
            orphaned: true,
            ..draining
        };
        assert_eq!(orphaned.close_at(7, 10_000, habit), 10_000);
    }

    #[test]
    fn f46_before_a_drain_those_who_were_there_are_let_go_one_after_another() {
        let notice = Notice::new(1_000, 8_000, 100);
        let gone = |now| (0..200).filter(|n| notice.lets_go(*n, now)).count();
        assert!((30..70).contains(&gone(3_000)), "{}", gone(3_000));
        assert_eq!([gone(999), gone(5_000)], [0, 100]);
        let notice = Notice::new(1_000, 600_000, 100);
        assert!((0..100).all(|n| notice.lets_go(n, 11_000)));
        // A delay of nothing.
        assert!(Notice::new(1_000, 0, 1).lets_go(0, 1_000));
    }
}
