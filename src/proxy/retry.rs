//! Whether a request that failed at one worker may be tried again: one decision and its budget.
//!
//! Anything may be sent again if nothing of it was sent. After that only idempotent requests whose body
//! is still whole, and only if no byte of an answer came (RFC 9110 §9.2.2; F40, F41, F43, I13), and only
//! once: a request that ends the worker that has it must not go through them all (F49).

use std::cell::Cell;
use std::time::Duration;

use crate::link::message::Retry;

/// How a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// Nothing was sent.
    Unsent,
    /// The worker said that it has looked at nothing of it.
    Refused,
    /// Something may have been sent, and no byte of an answer came.
    Unanswered,
    /// Too late: an answer had begun, or the worker was only slow.
    Final,
}

/// What of a request decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tried {
    /// The method may be repeated.
    pub(super) idempotent: bool,
    /// The body from its first byte can be had again.
    pub(super) replayable: bool,
    /// Tries so far, the failed one included.
    pub(super) tries: u32,
    /// At how many workers they ended [`Failed::Unanswered`]. One that was killed accepts a last connection
    /// while it dies; that it fails a second time does not make two of it.
    pub(super) unanswered: u32,
}

/// Whether the rules allow a further try, the budget aside.
pub(super) fn may_repeat(failed: Failed, tried: Tried, rules: Retry) -> bool {
    let safe = match failed {
        Failed::Unsent | Failed::Refused => tried.replayable,
        Failed::Unanswered => tried.idempotent && tried.replayable && tried.unanswered <= 1,
        Failed::Final => false,
    };
    safe && tried.tries <= rules.tries
}

/// A connection that had waited and ends so soon was dead before (F41); what comes later, a worker may have
/// worked for.
const DEAD_AT_ONCE: Duration = Duration::from_millis(100);

/// Whether the budget bears a further try after the `tries`-th, which failed so, and so soon. Not one that cost
/// no worker anything: there are never more of those than connections that a good answer left behind, or than
/// tries. A stream that was refused cost nothing either (RFC 9113 §8.7), but who refuses again may be full, and
/// the next one, too.
pub(super) fn is_charged(failed: Failed, reused: bool, took: Duration, tries: u32) -> bool {
    match failed {
        Failed::Unsent => false,
        Failed::Unanswered => !reused || took >= DEAD_AT_ONCE,
        Failed::Refused => tries > 1,
        Failed::Final => true,
    }
}

/// Tokens for further tries of one service in one loop: each request brings a part of one (F49).
#[derive(Debug)]
pub(super) struct Budget {
    hundredths: Cell<u32>,
    /// Further tries that failed as well since anybody last answered anything.
    in_vain: Cell<u32>,
    /// Requests that wait for an answer to begin, and the most that ever did.
    live: Cell<u32>,
    peak: Cell<u32>,
}

/// One of those that may fail.
#[derive(Debug)]
pub(super) struct Live<'a>(&'a Budget);

impl Budget {
    /// What there is at the start, and may be saved up at any time: under little traffic, too, a worker's
    /// death costs nobody an answer.
    const RESERVE: u32 = 10;
    /// After so many further tries in vain all workers are bad. Not after first tries: those of a worker that
    /// dies fail all at once, and its successor may have them.
    const IN_VAIN: u32 = 5;

    /// A budget at its reserve.
    pub(super) fn new() -> Self {
        Self {
            hundredths: Cell::new(Self::RESERVE * 100),
            in_vain: Cell::new(0),
            live: Cell::new(0),
            peak: Cell::new(Self::RESERVE),
        }
    }

    /// A request came. More than one try for each of those that may fail at once is never saved up, so that
    /// a long calm does not pay for a storm, and a worker's death takes nobody with it.
    pub(super) fn enters(&self, rules: Retry) -> Live<'_> {
        let live = self.live.get().saturating_add(1);
        self.live.set(live);
        // Nobody has saved up yet for one more than ever before.
        let is_more = self.peak.replace(live.max(self.peak.get())) < live;
        let part = if is_more { 100 } else { rules.budget_percent };
        let most = live.max(Self::RESERVE).saturating_mul(100);
        let sum = self.hundredths.get().saturating_add(part);
        self.hundredths.set(sum.min(most));
        Live(self)
    }

    /// A worker answered, whatever.
    pub(super) fn answered(&self) {
        self.in_vain.set(0);
    }

    /// A further try has failed, too.
    pub(super) fn failed_again(&self) {
        self.in_vain.set(self.in_vain.get().saturating_add(1));
    }

    /// Whether further tries may succeed: not while all workers are bad.
    pub(super) fn is_of_use(&self) -> bool {
        self.in_vain.get() < Self::IN_VAIN
    }

    /// Takes one further try, if there is one, and it may succeed.
    pub(super) fn withdraw(&self, rules: Retry) -> bool {
        let may = rules.budget_percent > 0 && self.is_of_use();
        let rest = self.hundredths.get().checked_sub(100);
        let Some(rest) = rest.filter(|_| may) else {
            return false;
        };
        self.hundredths.set(rest);
        true
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        let live = &self.0.live;
        live.set(live.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Retry = Retry {
        tries: 2,
        budget_percent: 20,
        buffer: 1,
    };

    fn tried(idempotent: bool, replayable: bool) -> Tried {
        Tried {
            idempotent,
            replayable,
            tries: 1,
            unanswered: 1,
        }
    }

    #[test]
    fn f40_any_method_may_be_sent_again_if_nothing_was_sent() {
        assert!(may_repeat(Failed::Unsent, tried(false, true), RULES));
    }

    #[test]
    fn f41_i13_after_a_byte_only_an_idempotent_whole_request_is_repeated() {
        assert!(may_repeat(Failed::Unanswered, tried(true, true), RULES));
        assert!(!may_repeat(Failed::Unanswered, tried(false, true), RULES));
        assert!(!may_repeat(Failed::Unanswered, tried(true, false), RULES));
        assert!(!may_repeat(Failed::Final, tried(true, true), RULES));
    }

    #[test]
    fn f49_tries_end() {
        let third = Tried {
            tries: 3,
            ..tried(true, true)
        };
        assert!(!may_repeat(Failed::Unsent, third, RULES));
        let second_death = Tried {
            tries: 2,
            unanswered: 2,
            ..tried(true, true)
        };
        assert!(!may_repeat(Failed::Unanswered, second_death, RULES));
        assert!(may_repeat(Failed::Unsent, second_death, RULES));
    }

    #[test]
    fn f49_a_calm_of_any_length_pays_for_few_further_tries() {
        let budget = Budget::new();
        for _ in 0..100_000 {
            drop(budget.enters(RULES));
        }
        assert_eq!(withdrawn(&budget), 10);
        for _ in 0..100 {
            drop(budget.enters(RULES));
        }
        assert_eq!(withdrawn(&budget), 10, "not 20");
        for _ in 0..15 {
            drop(budget.enters(RULES));
        }
        assert_eq!(withdrawn(&budget), 3);
    }

    #[test]
    fn f49_in_a_storm_a_fifth_of_the_requests_is_tried_again() {
        let budget = Budget::new();
        let tries = (0..1_000).filter(|_| {
            let _live = budget.enters(RULES);
            budget.withdraw(RULES)
        });
        // The first one found the reserve full.
        assert_eq!(tries.count(), 10 + 199);
    }

    #[test]
    fn i13_a_death_under_much_traffic_costs_no_more_than_one_under_little() {
        let budget = Budget::new();
        let live: Vec<_> = (0..400).map(|_| budget.enters(RULES)).collect();
        assert_eq!(withdrawn(&budget), 400);
        drop(live);
        // That they come again is no reason for as many.
        let _again: Vec<_> = (0..400).map(|_| budget.enters(RULES)).collect();
        assert_eq!(withdrawn(&budget), 80);
    }

    #[test]
    fn f49_where_further_tries_are_in_vain_there_are_none_until_somebody_answers() {
        let budget = Budget::new();
        for _ in 0..5 {
            assert!(budget.withdraw(RULES));
            budget.failed_again();
        }
        assert!(!budget.withdraw(RULES));
        assert!(!budget.is_of_use(), "nor one that is free");
        budget.answered();
        assert!(budget.withdraw(RULES));
    }

    #[test]
    fn no_budget_is_none() {
        let rules = Retry {
            budget_percent: 0,
            ..RULES
        };
        assert!(!Budget::new().withdraw(rules));
    }

    #[test]
    fn f41_what_cost_no_worker_anything_is_free() {
        let (soon, late) = (Duration::from_millis(5), Duration::from_secs(1));
        assert!(!is_charged(Failed::Unsent, false, late, 2));
        assert!(!is_charged(Failed::Unanswered, true, soon, 2));
        assert!(is_charged(Failed::Unanswered, true, late, 1));
        assert!(is_charged(Failed::Unanswered, false, soon, 1));
    }

    #[test]
    fn f44_a_first_refusal_is_free_and_a_second_one_is_not() {
        let soon = Duration::from_millis(5);
        assert!(!is_charged(Failed::Refused, false, soon, 1));
        assert!(is_charged(Failed::Refused, false, soon, 2));
    }

    fn withdrawn(budget: &Budget) -> usize {
        let all = 0..1_000;
        all.filter(|_| budget.withdraw(RULES)).count()
    }
}
