//! Whether a request that failed at one worker may be tried again: one decision and its budget.
//!
//! Anything may be sent again if nothing of it was sent. After that only idempotent requests whose body
//! is still whole, and only if no byte of an answer came (RFC 9110 §9.2.2; F40, F41, F43, I13), and only
//! once: a request that ends the worker that has it must not go through them all (F49).

use std::cell::Cell;

use crate::link::message::Retry;

/// How a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// Nothing was sent.
    Unsent,
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
        Failed::Unsent => tried.replayable,
        Failed::Unanswered => tried.idempotent && tried.replayable && tried.unanswered <= 1,
        Failed::Final => false,
    };
    safe && tried.tries <= rules.tries
}

/// Tokens for further tries of one service in one loop: each request brings a part of one (F49).
#[derive(Debug)]
pub(super) struct Budget {
    hundredths: Cell<u32>,
}

impl Budget {
    /// What there is at the start, so that a worker's death under little traffic is survived.
    const RESERVE: u32 = 100 * 100;
    /// More is never saved up, so that a long calm does not pay for a storm.
    const CAP: u32 = 5 * Self::RESERVE;

    /// A budget at its reserve.
    pub(super) fn new() -> Self {
        Self {
            hundredths: Cell::new(Self::RESERVE),
        }
    }

    /// A request came.
    pub(super) fn deposit(&self, rules: Retry) {
        let sum = self.hundredths.get().saturating_add(rules.budget_percent);
        self.hundredths.set(sum.min(Self::CAP));
    }

    /// Takes one further try, if there is one.
    pub(super) fn withdraw(&self) -> bool {
        let Some(rest) = self.hundredths.get().checked_sub(100) else {
            return false;
        };
        self.hundredths.set(rest);
        true
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
    fn f49_tries_and_budget_end() {
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
        let budget = Budget::new();
        assert_eq!((0..1000).filter(|_| budget.withdraw()).count(), 100);
        for _ in 0..5 {
            budget.deposit(RULES);
        }
        assert!(budget.withdraw());
        assert!(!budget.withdraw());
    }
}
