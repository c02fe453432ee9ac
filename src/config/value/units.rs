//! Times, sizes and parts: units are always visible, so a bare number is none of them.

use std::time::Duration;

use super::{Value, Wrong};

/// Longest time: a year; every sum of a few stays far from overflow.
const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// Largest size: a pebibyte. One that is larger than a number can be is read as the largest number.
const MAX_SIZE: u64 = 1 << 50;

/// Reads a time such as `30s`, `1m30s` or `250ms`; for flags of other commands too.
///
/// # Errors
///
/// One line that says what is wrong and what to write.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    duration(text).map_err(Wrong::line)
}

/// Reads `1m30s`.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    if text.trim().parse::<f64>().is_ok() {
        return Err(
            Wrong::new(format!("`{text}` is a time without its unit")).help(format!(
                "write \"{0}s\" for seconds or \"{0}ms\" for milliseconds",
                text.trim()
            )),
        );
    }
    let time = humantime::parse_duration(text).map_err(|_| {
        Wrong::new(format!("`{}` is not a time", text.escape_debug()))
            .help("write a number and its unit, such as \"250ms\", \"30s\" or \"1m30s\"")
    })?;
    if time > MAX_TIME {
        return Err(Wrong::new(format!(
            "`{text}` is too long: at most 365 days"
        )));
    }
    Ok(time)
}

/// Refuses a time below so many milliseconds.
pub(super) fn at_least(time: Duration, least: u64) -> Result<Value, Wrong> {
    if time < Duration::from_millis(least) {
        return Err(Wrong::new("this time must be at least 1ms"));
    }
    Ok(Value::Time(time))
}

/// Reads `64KiB`.
pub(super) fn size(text: &str) -> Result<u64, Wrong> {
    let wrong = || {
        Wrong::new(format!("`{}` is not a size", text.escape_debug()))
            .help("write a number and its unit, such as \"512B\", \"64KiB\" or \"10MB\"")
    };
    if !text.ends_with(['B', 'b']) {
        return Err(wrong());
    }
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) if size.as_u64() <= MAX_SIZE => Ok(size.as_u64()),
        Ok(_) => Err(Wrong::new(format!(
            "`{text}` is too large: at most 1,048,576 GiB"
        ))),
        Err(_) => Err(wrong()),
    }
}

/// Reads `25%`.
pub(super) fn percent(text: &str) -> Result<u32, Wrong> {
    let digits = text.strip_suffix('%').map(str::trim);
    match digits.and_then(|digits| digits.parse::<u32>().ok()) {
        Some(part) if part <= 100 => Ok(part),
        Some(_) => Err(Wrong::new(format!("`{text}` is more than 100%"))),
        None => Err(
            Wrong::new(format!("`{}` is not a percentage", text.escape_debug()))
                .help("write a whole number and its sign, such as \"25%\""),
        ),
    }
}

/// A part of the workers, in a text: a count is written without quotes.
pub(super) fn amount(text: &str) -> Result<u32, Wrong> {
    let number = text.trim().parse::<u32>();
    percent(text).map_err(|wrong| match number {
        Ok(number) => wrong.help(format!(
            "write {number} without quotes for workers, or \"{number}%\" for a part of them"
        )),
        Err(_) => wrong,
    })
}

/// A time as `1m30s`.
pub(crate) fn time_text(time: Duration) -> String {
    if time.is_zero() {
        return "0s".to_owned();
    }
    humantime::format_duration(time)
        .to_string()
        .replace(' ', "")
}

/// A size with the largest unit that is whole in it.
pub(super) fn size_text(size: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units
        .into_iter()
        .find(|(_, unit)| size > 0 && size.is_multiple_of(*unit))
    {
        Some((name, unit)) => format!("{}{name}", size / unit),
        None => format!("{size}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_needs_its_unit() {
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["30", "1.5", "", "s", "30 parsecs", "-1s", "900000days"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert!(parse_duration("30").is_err_and(|line| line.contains("\"30s\"")));
    }

    #[test]
    fn a_size_needs_its_unit() {
        assert_eq!(size("10MB"), Ok(10_000_000));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("0B"), Ok(0));
        assert_eq!(size("1048576GiB"), Ok(1 << 50));
        let too_large = ["1048577GiB", "99999999999999999999KiB"];
        for bad in ["10", "10M", "MB", "", "-1B", "10 elephantsB"]
            .into_iter()
            .chain(too_large)
        {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
