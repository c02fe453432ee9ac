//! The id of a request, by which a person finds it again in logs and answers.

use std::sync::Arc;

use super::super::head::RequestHead;

/// Longest that is believed.
const LONGEST: usize = 128;
/// Digits of one that we make.
const MADE: usize = 32;

/// Two hexadecimal digits of each byte.
const PAIRS: [[u8; 2]; 256] = {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let (mut pairs, mut byte) = ([[0; 2]; 256], 0);
    while byte < pairs.len() {
        pairs[byte] = [HEX[byte >> 4], HEX[byte & 0xf]];
        byte += 1;
    }
    pairs
};

/// A request's id: 1 to 128 visible characters of ASCII, whoever made it, so that it can go into any head.
#[derive(Debug, Clone)]
pub struct RequestId(Text);

#[derive(Debug, Clone)]
enum Text {
    /// Most are, so they need no allocation.
    Made([u8; MADE]),
    Given(Arc<str>),
}

impl RequestId {
    /// One of two random numbers.
    #[must_use]
    pub fn of(random: [u64; 2]) -> Self {
        let mut digits = [0; MADE];
        let (pairs, _) = digits.as_chunks_mut::<2>();
        let bytes = random.into_iter().flat_map(u64::to_be_bytes);
        for (pair, byte) in pairs.iter_mut().zip(bytes) {
            *pair = PAIRS[usize::from(byte)];
        }
        Self(Text::Made(digits))
    }

    /// A text, if it can be one.
    #[must_use]
    pub fn from_text(id: &str) -> Option<Self> {
        let fits = (1..=LONGEST).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| Self(Text::Given(id.into())))
    }

    /// The one the client gave, if there is exactly one `X-Request-Id` that can be one.
    #[must_use]
    pub fn given(request: &RequestHead) -> Option<Self> {
        let id = request.fields.only(b"x-request-id")?;
        Self::from_text(str::from_utf8(id).ok()?)
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // Hexadecimal digits are text.
            Text::Made(digits) => str::from_utf8(digits).unwrap_or_default(),
            Text::Given(id) => id,
        }
    }

    /// As bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Text::Made(digits) => digits,
            Text::Given(id) => id.as_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_ours_has_all_digits_of_both_numbers() {
        let id = RequestId::of([0x0123_4567_89ab_cdef, 0xfedc_ba98_0000_000f]);
        assert_eq!(id.as_str(), "0123456789abcdeffedcba980000000f");
        assert_eq!(id.as_bytes(), id.as_str().as_bytes());
    }
}
