//! Times as people read them: how old, how much is left.

use std::time::{Duration, SystemTime};

/// A length of time in at most two units: `4s`, `3m12s`, `2h05m`, `3d04h`.
pub(crate) fn short(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        86_400.. => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// How long ago, nothing if the text is no time or lies ahead of `now`.
pub(crate) fn since(at: &str, now: SystemTime) -> Option<Duration> {
    now.duration_since(parse(at)?).ok()
}

/// How much is left until then; zero when it has passed.
pub(crate) fn left(until: &str, now: SystemTime) -> Option<Duration> {
    Some(parse(until)?.duration_since(now).unwrap_or_default())
}

/// Between two times of the API.
pub(crate) fn between(begin: &str, end: &str) -> Option<Duration> {
    parse(end)?.duration_since(parse(begin)?).ok()
}

/// The wall clock; ages and countdowns of another process's times need it.
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

fn parse(at: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339_weak(at).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{between, left, parse, short};

    #[test]
    fn lengths_have_at_most_two_units() {
        let cases = [
            (4, "4s"),
            (192, "3m12s"),
            (7_500, "2h05m"),
            (273_600, "3d04h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_deadline_that_has_passed_leaves_nothing() {
        let now = parse("2026-11-23T02:00:10.500Z").expect("a time");
        assert_eq!(
            left("2026-11-23T02:00:12.000Z", now),
            Some(Duration::from_millis(1_500))
        );
        assert_eq!(left("2026-11-23T02:00:00.000Z", now), Some(Duration::ZERO));
        assert_eq!(left("soon", now), None);
        assert_eq!(
            between("2026-11-23T02:00:00.000Z", "2026-11-23T02:00:09.400Z"),
            Some(Duration::from_millis(9_400))
        );
    }
}
