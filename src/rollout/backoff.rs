//! Restart delays: how long a slot waits after a failed start or a crash (F20, I12).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::settings::Settings;

/// The only chance in the core: a splitmix64 stream, so that restarts of many slots do not march in
/// step. Its state is saved with the rest, so a restored core draws the same numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The delay, 80 % to 120 % of it.
    fn spread(&mut self, delay: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let percent = u32::try_from(z % 41).unwrap_or(20) + 80;
        delay.saturating_mul(percent) / 100
    }
}

/// The delay after `failures` in a row: the first one, doubled for each failure after the first, up to the
/// longest; the cap is not exceeded by jitter.
pub(super) fn delay(settings: &Settings, failures: u32, jitter: &mut Jitter) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    let plain = settings
        .backoff_first
        .saturating_mul(1 << doublings)
        .min(settings.backoff_max);
    jitter.spread(plain).min(settings.backoff_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f20_delay_doubles_to_the_cap_with_jitter() {
        let settings = Settings::default();
        let mut jitter = Jitter::new(7);
        for (failures, plain) in [
            (0, 100),
            (1, 100),
            (2, 200),
            (5, 1600),
            (9, 25_600),
            (10, 30_000),
            (4_000_000, 30_000),
        ] {
            let plain = Duration::from_millis(plain);
            let got = delay(&settings, failures, &mut jitter);
            assert!(got >= plain * 8 / 10, "{failures}: {got:?}");
            assert!(
                got <= (plain * 12 / 10).min(settings.backoff_max),
                "{failures}: {got:?}"
            );
        }
    }
}
