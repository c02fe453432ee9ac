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

/// Writes a whole number.
#[inline]
pub(super) fn whole(out: &mut Vec<u8>, number: u64) {
    match u8::try_from(number) {
        // Most slots, attempts and empty bodies.
        Ok(digit @ 0..=9) => out.push(b'0' + digit),
        _ => long(out, number),
    }
}

fn long(out: &mut Vec<u8>, mut number: u64) {
    let mut text = [0; 20];
    let mut at = text.len();
    while number >= 100 {
        at -= 2;
        text[at..at + 2].copy_from_slice(&pair(number));
        number /= 100;
    }
    if number >= 10 {
        at -= 2;
        text[at..at + 2].copy_from_slice(&pair(number));
    } else {
        at -= 1;
        text[at] = pair(number)[1];
    }
    out.extend_from_slice(&text[at..]);
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
        for number in powers.flat_map(|p| [p - 1, p, p + 1]).chain([u64::MAX]) {
            let mut out = Vec::new();
            whole(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
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
