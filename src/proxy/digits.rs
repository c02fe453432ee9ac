//! Numbers as text, without an allocation and without the machinery of `fmt`.

use std::time::Duration;

/// Two digits of each number below 100.
const PAIRS: [[u8; 2]; 100] = {
    let (mut pairs, mut number) = ([[0; 2]; 100], 0_u8);
    while number < 100 {
        pairs[number as usize] = [b'0' + number / 10, b'0' + number % 10];
        number += 1;
    }
    pairs
};

/// The last two decimal digits of a number.
pub(super) fn pair(number: u64) -> [u8; 2] {
    // The remainder is below 100, whatever comes.
    PAIRS[usize::try_from(number % 100).unwrap_or(0)]
}

/// A whole number in decimal.
#[derive(Debug)]
pub(super) struct Digits {
    /// The digits stand at the end.
    text: [u8; 20],
    start: usize,
}

impl Digits {
    /// Those of a number.
    pub(super) fn of(mut number: u64) -> Self {
        let mut text = [0; 20];
        let mut start = text.len();
        while number >= 100 {
            start -= 2;
            text[start..start + 2].copy_from_slice(&pair(number));
            number /= 100;
        }
        if number >= 10 {
            start -= 2;
            text[start..start + 2].copy_from_slice(&pair(number));
        } else {
            start -= 1;
            text[start] = pair(number)[1];
        }
        Self { text, start }
    }

    /// As text.
    pub(super) fn text(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

/// Writes a whole number.
#[inline]
pub(super) fn whole(out: &mut Vec<u8>, number: u64) {
    match u8::try_from(number) {
        // Most slots, attempts and empty bodies.
        Ok(digit @ 0..=9) => out.push(b'0' + digit),
        _ => out.extend_from_slice(Digits::of(number).text()),
    }
}

/// Writes a time in seconds, to the microsecond.
pub(super) fn seconds(out: &mut Vec<u8>, time: Duration) {
    whole(out, time.as_secs());
    let micros = u64::from(time.subsec_micros());
    let ([a, b], [c, d], [e, f]) = (pair(micros / 10_000), pair(micros / 100), pair(micros));
    out.extend_from_slice(&[b'.', a, b, c, d, e, f]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_fmt_writes() {
        let powers = (0..20).map(|power| 10_u64.pow(power));
        let others = [7, 65_535, u64::MAX];
        for number in powers.flat_map(|p| [p - 1, p, p + 1]).chain(others) {
            let mut out = Vec::new();
            whole(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
            assert_eq!(Digits::of(number).text(), out);
        }
    }

    #[test]
    fn times_are_seconds_to_the_microsecond() {
        for (micros, text) in [
            (0, "0.000000"),
            (7, "0.000007"),
            (1_234_567, "1.234567"),
            (90_000_000, "90.000000"),
        ] {
            let mut out = Vec::new();
            seconds(&mut out, Duration::from_micros(micros));
            assert_eq!(out, text.as_bytes());
        }
    }
}
