//! The id of a request, by which a person finds it again in logs and answers.

use std::sync::Arc;
use std::time::Duration;

use uuid::Builder;
use uuid::fmt::Hyphenated;

use super::super::head::RequestHead;

/// Longest that is believed.
const LONGEST: usize = 128;

/// A request's id: 1 to 128 visible characters of ASCII, whoever made it, so that it can go into any head.
#[derive(Debug, Clone)]
pub struct RequestId(Text);

#[derive(Debug, Clone)]
enum Text {
    /// Most are, so they need no allocation.
    Made([u8; Hyphenated::LENGTH]),
    Given(Arc<str>),
}

impl RequestId {
    /// One that we make: a UUID of version 7 (RFC 9562 §5.7), which sorts by time, of so long since 1970 and a
    /// random number.
    #[must_use]
    pub fn of(time: Duration, random: u128) -> Self {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let [_, _, _, _, _, _, random @ ..] = random.to_be_bytes();
        let id = Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        let mut text = [0; Hyphenated::LENGTH];
        id.hyphenated().encode_lower(&mut text);
        Self(Text::Made(text))
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
            // Digits and hyphens are text.
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
    fn one_of_ours_is_a_uuid_of_version_7_with_its_time() {
        let time = Duration::from_millis(0x0123_4567_89ab);
        let id = RequestId::of(time, u128::MAX);
        assert_eq!(id.as_str(), "01234567-89ab-7fff-bfff-ffffffffffff");
        let id = RequestId::of(time, 0x1234_5678_9abc_def0_1122);
        assert_eq!(id.as_str(), "01234567-89ab-7234-9678-9abcdef01122");
        assert_eq!(id.as_bytes(), id.as_str().as_bytes());
    }
}
