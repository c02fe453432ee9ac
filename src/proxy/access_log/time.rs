//! The time of a request as text, in UTC. The date is worked out once a second.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::proxy::digits::pair;

const DAY: u64 = 24 * 3600;
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// Which time it is at a moment; made anew at each turn of a loop's clock, so that a step of the
/// machine's time is seen soon.
#[derive(Debug)]
pub(super) struct Wall {
    moment: Instant,
    /// Since 1970, at that moment.
    time: Duration,
    last: Stamp,
}

/// A time as text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    second: u64,
    /// `2026-11-27T23:16:08.123Z`, as RFC 3339 has it.
    pub(super) rfc3339: [u8; 24],
    /// `27/Nov/2026:23:16:08 +0000`, as the Common Log Format has it.
    pub(super) common: [u8; 26],
}

impl Wall {
    pub(super) fn now() -> Self {
        Self::at(Instant::now(), SystemTime::now())
    }

    fn at(moment: Instant, time: SystemTime) -> Self {
        // A clock that stands before 1970 is not set.
        let time = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            moment,
            time,
            last: Stamp::of(time.as_secs()),
        }
    }

    /// The time at a moment, before or after ours.
    pub(super) fn stamp(&mut self, moment: Instant) -> &Stamp {
        let time = match moment.checked_duration_since(self.moment) {
            Some(later) => self.time.saturating_add(later),
            None => self.time.saturating_sub(self.moment - moment),
        };
        if self.last.second != time.as_secs() {
            self.last = Stamp::of(time.as_secs());
        }
        let millis = u64::from(time.subsec_millis());
        let ([_, hundreds], [tens, ones]) = (pair(millis / 100), pair(millis));
        self.last.rfc3339[20..23].copy_from_slice(&[hundreds, tens, ones]);
        &self.last
    }
}

impl Stamp {
    fn of(second: u64) -> Self {
        let (year, month, day) = civil(second / DAY);
        let (hour, minute) = (second % DAY / 3600, second % 3600 / 60);
        let mut rfc3339 = *b"0000-00-00T00:00:00.000Z";
        let mut common = *b"00/Xxx/0000:00:00:00 +0000";
        for (at, number) in [
            (0, year / 100),
            (2, year),
            (5, month),
            (8, day),
            (11, hour),
            (14, minute),
            (17, second % 60),
        ] {
            rfc3339[at..at + 2].copy_from_slice(&pair(number));
        }
        for (at, number) in [
            (0, day),
            (7, year / 100),
            (9, year),
            (12, hour),
            (15, minute),
            (18, second % 60),
        ] {
            common[at..at + 2].copy_from_slice(&pair(number));
        }
        let name = usize::try_from(month - 1)
            .ok()
            .and_then(|at| MONTHS.get(at));
        common[3..6].copy_from_slice(*name.unwrap_or(&MONTHS[0]));
        Self {
            second,
            rfc3339,
            common,
        }
    }
}

/// Year, month and day of a day since 1970, in the Gregorian calendar (Howard Hinnant's
/// `civil_from_days`: years begin in March there, so that the leap day is the last one).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> (String, String) {
        let moment = Instant::now();
        let mut wall = Wall::at(moment, UNIX_EPOCH + Duration::from_millis(millis));
        let stamp = *wall.stamp(moment);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("ASCII");
        (text(&stamp.rfc3339), text(&stamp.common))
    }

    #[test]
    fn times_are_as_the_formats_have_them() {
        for (millis, rfc3339, common) in [
            (0, "1970-01-01T00:00:00.000Z", "01/Jan/1970:00:00:00 +0000"),
            (
                951_827_696_789,
                "2000-02-29T12:34:56.789Z",
                "29/Feb/2000:12:34:56 +0000",
            ),
            (
                1_795_821_368_007,
                "2026-11-27T23:16:08.007Z",
                "27/Nov/2026:23:16:08 +0000",
            ),
        ] {
            assert_eq!(at(millis), (rfc3339.to_owned(), common.to_owned()));
        }
    }

    #[test]
    fn dates_are_those_of_another_calendar_for_400_years() {
        for day in 0..146_097 {
            let seconds = UNIX_EPOCH + Duration::from_secs(day * DAY);
            let other = humantime::format_rfc3339_seconds(seconds).to_string();
            assert_eq!(at(day * DAY * 1000).0[..10], other[..10]);
        }
    }

    #[test]
    fn a_moment_before_the_last_turn_has_its_own_time() {
        let now = Instant::now() + Duration::from_secs(10);
        let mut wall = Wall::at(now, UNIX_EPOCH + Duration::from_millis(60_250));
        let text = |wall: &mut Wall, moment| {
            String::from_utf8(wall.stamp(moment).rfc3339.to_vec()).expect("ASCII")
        };
        let before = now - Duration::from_millis(300);
        assert_eq!(text(&mut wall, before), "1970-01-01T00:00:59.950Z");
        assert_eq!(text(&mut wall, now), "1970-01-01T00:01:00.250Z");
    }
}
