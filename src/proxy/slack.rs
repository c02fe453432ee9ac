//! When memory that nobody uses is given back to the system.
//!
//! The C library keeps what was freed, for the next who asks; what many connections held at once it would keep
//! for ever, though hardly anybody comes. Giving it back costs some milliseconds in which no loop gets a large
//! block, so it is done once after many have left, and have stayed away for a while.

/// So many must have left: fewer do not hold much.
const MANY: u32 = 16;
/// They stay away for so long, in milliseconds. Who only comes and goes asks for it again at once.
const CALM: u64 = 10_000;

/// What is known of how many there were.
#[derive(Debug, Default)]
pub(super) struct Slack {
    /// The most since it was given back last.
    most: u32,
    /// Since when there are few.
    few_since: Option<u64>,
}

impl Slack {
    /// So many connections are open now, on a clock of milliseconds. Says whether to give back what nobody uses.
    pub(super) fn is_to_be_given_back(&mut self, open: u32, now: u64) -> bool {
        self.most = self.most.max(open);
        let few = open <= self.most / 2 && self.most - open >= MANY;
        if !few {
            self.few_since = None;
            return false;
        }
        let since = *self.few_since.get_or_insert(now);
        if now < since.saturating_add(CALM) {
            return false;
        }
        *self = Self {
            most: open,
            few_since: None,
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When it is given back, of so many connections each second.
    fn given_back(open: impl IntoIterator<Item = u32>) -> Vec<u64> {
        let mut slack = Slack::default();
        let given = |(open, second): (u32, u64)| {
            let is = slack.is_to_be_given_back(open, second * 1_000);
            is.then_some(second)
        };
        open.into_iter().zip(0..).filter_map(given).collect()
    }

    #[test]
    fn memory_is_given_back_once_after_many_have_left_and_stayed_away() {
        let flood = [0, 500, 4_000, 100];
        let calm = flood.into_iter().chain([3; 60]);
        assert_eq!(given_back(calm), [13]);
        let second = flood
            .into_iter()
            .chain([3; 20])
            .chain([300; 5])
            .chain([0; 20]);
        assert_eq!(given_back(second), [13, 39]);
    }

    #[test]
    fn those_that_come_and_go_keep_their_memory() {
        assert!(
            given_back([10, 0].into_iter().chain([0; 60])).is_empty(),
            "few"
        );
        assert!(
            given_back([100, 60].repeat(50)).is_empty(),
            "half of them stay"
        );
        let waves = [1_000, 10, 10, 10, 10].repeat(50);
        assert!(given_back(waves).is_empty(), "they come again");
    }
}
