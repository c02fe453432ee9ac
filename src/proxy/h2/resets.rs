//! What a client gives up before it is answered (rapid reset, CVE-2023-44487).
//!
//! How many streams a client may have open bounds what it has workers do at once. A stream that it resets
//! is open no more, yet its worker may be at work on it all the same: so it is that work which is bounded
//! here, what a client may leave behind beyond what it has open. That is [`BURST`] requests at once,
//! [`PER_SECOND`] each second after that, and one for [`FOR_ONE`] that were answered to their end, for which it
//! has had more done anyway: a proxy that brings many clients by one connection may lose some of each
//! hundred.
//!
//! An answer that has begun was work that was asked for and done. To give up its rest is how a call of gRPC
//! is left, and saves work; what the frames cost is the meter's affair.

/// A page that is closed gives up all that it waits for, and the next one does so, too.
const BURST: u32 = 200;
/// One that types ahead, or scrolls, gives up some each second; a flood does so thousands of times.
const PER_SECOND: u32 = 50;
/// So many answers pay for one.
const FOR_ONE: u32 = 8;

/// One reset, in parts that a millisecond pays a whole number of.
const RESET: u32 = 1_000;
const PER_MILLISECOND: u32 = PER_SECOND * RESET / 1_000;
const FULL: u32 = BURST * RESET;

/// The account of a connection.
#[derive(Debug)]
pub(super) struct Resets {
    left: u32,
    /// Until when time has paid, on the plane's clock.
    paid: u64,
    overdrawn: bool,
}

impl Resets {
    pub(super) fn new(now: u64) -> Self {
        Self {
            left: FULL,
            paid: now,
            overdrawn: false,
        }
    }

    /// A request was given up before its answer began.
    pub(super) fn given_up(&mut self, now: u64) {
        let time = now.saturating_sub(self.paid);
        self.paid = self.paid.max(now);
        let time = u32::try_from(time).unwrap_or(u32::MAX);
        self.pay(time.saturating_mul(PER_MILLISECOND));
        self.overdrawn |= self.left < RESET;
        self.left = self.left.saturating_sub(RESET);
    }

    /// One was answered to its end.
    pub(super) fn answered(&mut self) {
        self.pay(RESET / FOR_ONE);
    }

    fn pay(&mut self, part: u32) {
        self.left = self.left.saturating_add(part).min(FULL);
    }

    /// They only cost. It stays so.
    pub(super) fn are_too_many(&self) -> bool {
        self.overdrawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many resets a second of flood, each with so many good answers before it, is let through within
    /// ten seconds.
    fn endured(per_second: u64, answered: u32) -> Option<u64> {
        let mut resets = Resets::new(7_000);
        (0..10 * per_second).find(|number| {
            (0..answered).for_each(|_| resets.answered());
            resets.given_up(7_000 + number * 1_000 / per_second);
            resets.are_too_many()
        })
    }

    #[test]
    fn t10_a_flood_is_ended_within_a_second_whatever_it_lets_end_well() {
        for per_second in [250, 500, 1_000, 100_000] {
            let let_through = endured(per_second, 0).expect("it ends");
            assert!(let_through <= per_second.max(201), "{per_second}");
        }
        for per_second in [300, 1_000, 10_000] {
            let let_through = endured(per_second, 1).expect("it ends");
            assert!(let_through <= per_second, "{per_second}");
        }
        // All at once.
        assert_eq!(endured(1_000_000, 0), Some(200));
    }

    #[test]
    fn some_each_second_are_given_up_for_ever() {
        for (per_second, answered) in [(20, 0), (50, 0), (50, 8), (1_000, 8)] {
            let mut resets = Resets::new(0);
            for number in 0..100 * per_second {
                (0..answered).for_each(|_| resets.answered());
                resets.given_up(number * 1_000 / per_second);
            }
            assert!(!resets.are_too_many(), "{per_second} {answered}");
        }
    }

    #[test]
    fn a_calm_saves_up_no_more_than_there_was_at_first() {
        let mut resets = Resets::new(0);
        (0..10_000).for_each(|_| resets.answered());
        for _ in 0..200 {
            resets.given_up(u64::MAX);
        }
        assert!(!resets.are_too_many());
        // A clock that goes back brings nothing.
        resets.given_up(0);
        assert!(resets.are_too_many());
        resets.answered();
        assert!(resets.are_too_many(), "it stays so");
    }
}
