//! What a client gives up before it is answered (rapid reset, CVE-2023-44487).
//!
//! How many streams a client may have open bounds what it has workers do at once. A stream that it resets
//! is open no more, yet its worker may be at work on it all the same: so it is that work which is bounded
//! here, what a client may leave behind beyond what it has open. That is [`BURST`] requests at once,
//! [`PER_SECOND`] each second after that, and one for [`FOR_ONE`] that were answered to their end, for which it
//! has had more done anyway: a proxy that brings many clients by one connection may lose some of each
//! hundred.
//!
//! The longer a stream was open, the less its reset counts, and from [`PATIENCE`] on nothing: those are few, because
//! the streams that may be open are. They are no flood, but calls whose deadline is shorter than a slow worker takes.
//!
//! An answer that has begun was work that was asked for and done. To give up its rest is how a call of gRPC
//! is left, and saves work; what the frames cost is the meter's affair.

/// A page that is closed gives up all that it waits for, and the next one does so, too.
const BURST: u32 = 200;
/// One that types ahead, or scrolls, gives up some each second; a flood does so thousands of times.
const PER_SECOND: u32 = 50;
/// So many answers pay for one.
const FOR_ONE: u32 = 8;

/// A stream that was open for so long, in milliseconds, was waited for.
const PATIENCE: u64 = 300;

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

    /// A request that came at `since` was given up before its answer began.
    pub(super) fn given_up(&mut self, since: u64, now: u64) {
        let time = now.saturating_sub(self.paid);
        self.paid = self.paid.max(now);
        let time = u32::try_from(time).unwrap_or(u32::MAX);
        self.pay(time.saturating_mul(PER_MILLISECOND));
        let price = price(now.saturating_sub(since));
        self.overdrawn |= self.left < price;
        self.left = self.left.saturating_sub(price);
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

/// What a reset of a stream counts that was open for so long.
fn price(open: u64) -> u32 {
    // The clock goes by tenths of a second, so that what was reset at once may seem to be as old as one.
    let waited = open.saturating_sub(PATIENCE / 3);
    let rest = (PATIENCE * 2 / 3).saturating_sub(waited);
    u32::try_from(u64::from(RESET) * rest / (PATIENCE * 2 / 3)).unwrap_or(RESET)
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
            let now = 7_000 + number * 1_000 / per_second;
            resets.given_up(now, now);
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
                let now = number * 1_000 / per_second;
                resets.given_up(now, now);
            }
            assert!(!resets.are_too_many(), "{per_second} {answered}");
        }
    }

    #[test]
    fn a_calm_saves_up_no_more_than_there_was_at_first() {
        let mut resets = Resets::new(0);
        (0..10_000).for_each(|_| resets.answered());
        for _ in 0..200 {
            resets.given_up(u64::MAX, u64::MAX);
        }
        assert!(!resets.are_too_many());
        // A clock that goes back brings nothing.
        resets.given_up(0, 0);
        assert!(resets.are_too_many());
        resets.answered();
        assert!(resets.are_too_many(), "it stays so");
    }

    #[test]
    fn a_stream_that_was_waited_for_is_no_flood() {
        for (open, each) in [
            (0, 1_000),
            (100, 1_000),
            (200, 500),
            (299, 5),
            (300, 0),
            (u64::MAX, 0),
        ] {
            assert_eq!(price(open), each, "{open}");
        }
        let mut resets = Resets::new(0);
        (0..1_000_000).for_each(|_| resets.given_up(1_000, 1_300));
        assert!(!resets.are_too_many());
        // Those that are given up at once count beside them.
        (0..201).for_each(|_| resets.given_up(1_300, 1_300));
        assert!(resets.are_too_many());
    }
}
