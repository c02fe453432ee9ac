//! Numbers and addresses as text, without an allocation and, where it matters, without the machinery of `fmt`.

use std::fmt::Write as _;
use std::net::IpAddr;
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

/// Longest text of an address: eight groups of IPv6.
const LONGEST: usize = 39;

/// An address as text, such as `192.0.2.7` or `2001:db8::7`; one of IPv4 that came to a socket of both
/// families is one of IPv4.
#[derive(Debug, Clone, Copy)]
pub struct Address {
    text: [u8; LONGEST],
    length: u8,
}

impl Address {
    /// That of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        let mut shown = Self {
            text: [0; LONGEST],
            length: 0,
        };
        match address.to_canonical() {
            // As its `Display` writes it, which takes ten times as long.
            IpAddr::V4(address) => {
                for (place, octet) in address.octets().into_iter().enumerate() {
                    if place > 0 {
                        shown.push(b".");
                    }
                    shown.push(Digits::of(octet.into()).text());
                }
            }
            // The longest fits.
            IpAddr::V6(address) => drop(write!(shown, "{address}")),
        }
        shown
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// As bytes of ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        let text = self.text.get(..usize::from(self.length));
        text.unwrap_or_default()
    }

    /// Whether it is one of IPv6.
    #[must_use]
    pub fn is_v6(&self) -> bool {
        self.as_str().contains(':')
    }

    fn push(&mut self, part: &[u8]) {
        let start = usize::from(self.length);
        if let Some(room) = self.text.get_mut(start..start + part.len()) {
            room.copy_from_slice(part);
            self.length += u8::try_from(part.len()).unwrap_or_default();
        }
    }
}

impl std::fmt::Write for Address {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        self.push(part.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_fmt_writes_and_one_of_ipv4_has_no_prefix() {
        for (address, text, v6) in [
            ("127.0.0.1", "127.0.0.1", false),
            ("255.255.255.255", "255.255.255.255", false),
            ("0.0.0.0", "0.0.0.0", false),
            ("::", "::", true),
            ("2001:db8::1", "2001:db8::1", true),
            (
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                true,
            ),
            ("::ffff:10.0.0.1", "10.0.0.1", false),
        ] {
            let shown = Address::of(address.parse().expect("an address"));
            assert_eq!((shown.as_str(), shown.is_v6()), (text, v6));
        }
    }

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
