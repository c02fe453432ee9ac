//! How a call of gRPC went, which its answer says in `grpc-status`: in its trailers, or in its head if it has
//! nothing else. The status of HTTP is 200 in either case; so it is in answers of ours to a call.

use http::{HeaderMap, HeaderValue, StatusCode};

use super::head::AnswerHead;

/// The name of the field.
pub(super) const FIELD: &str = "grpc-status";

const UNKNOWN: u32 = 2;
const DEADLINE_EXCEEDED: u32 = 4;
const PERMISSION_DENIED: u32 = 7;
const RESOURCE_EXHAUSTED: u32 = 8;
const UNIMPLEMENTED: u32 = 12;
const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;
const DATA_LOSS: u32 = 15;
const UNAUTHENTICATED: u32 = 16;

/// And of what it says in words.
pub(super) const MESSAGE: &str = "grpc-message";

/// What a call ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status(pub(super) u32);

impl Status {
    /// The answer broke off, by no doing of its client's.
    pub(super) const BROKEN: Self = Self(UNAVAILABLE);
    /// The client sent too much.
    pub(super) const TOO_MUCH: Self = Self(RESOURCE_EXHAUSTED);

    /// The trailers of a call whose answer broke off. Without them its client would be told of a reset, which it takes
    /// for a fault of its own or its worker's (`INTERNAL`, `CANCELLED`), where one that met the worker alone would have
    /// seen its connection break (`UNAVAILABLE`), and tried again.
    pub(super) fn trailers(self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        trailers.insert(FIELD, HeaderValue::from(self.0));
        let words = HeaderValue::from_static("the answer broke off");
        trailers.insert(MESSAGE, words);
        trailers
    }

    /// What an answer's head says, if it is all there is.
    pub(super) fn of_head(head: &AnswerHead) -> Option<Self> {
        Self::read(head.fields.only(FIELD.as_bytes())?)
    }

    /// What the trailers say.
    pub(super) fn of_trailers(trailers: &HeaderMap) -> Option<Self> {
        Self::read(trailers.get(FIELD)?.as_bytes())
    }

    /// What a client would make of an answer of HTTP ("HTTP to gRPC Status Code Mapping" of gRPC's documentation);
    /// of a limit that it has reached, and of a body that did not come, it can be told more exactly.
    pub(super) fn of_http(status: StatusCode) -> Self {
        Self(match status {
            StatusCode::BAD_REQUEST => INTERNAL,
            StatusCode::UNAUTHORIZED => UNAUTHENTICATED,
            StatusCode::FORBIDDEN => PERMISSION_DENIED,
            StatusCode::NOT_FOUND => UNIMPLEMENTED,
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => UNAVAILABLE,
            StatusCode::REQUEST_TIMEOUT => DEADLINE_EXCEEDED,
            StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::URI_TOO_LONG
            | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => RESOURCE_EXHAUSTED,
            _ => UNKNOWN,
        })
    }

    fn read(value: &[u8]) -> Option<Self> {
        let number = super::rules::decimal(value)?;
        u32::try_from(number).ok().map(Self)
    }

    /// The worker failed. All others may be what the client asked for: had it not the right, or not the
    /// time, or asked for what is not there (UNIMPLEMENTED, 12, is the 501 of gRPC) or for too much, it could
    /// have any worker ejected.
    pub(super) fn is_failure(self) -> bool {
        matches!(self.0, UNKNOWN | INTERNAL | UNAVAILABLE | DATA_LOSS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_worker_is_to_blame_for_is_its_failure() {
        let failures: Vec<_> = (0..20).filter(|n| Status(*n).is_failure()).collect();
        assert_eq!(failures, [2, 13, 14, 15]);
    }

    #[test]
    fn a_status_is_a_number() {
        let read = |value: &[u8]| Status::read(value).map(|status| status.0);
        assert_eq!(read(b"0"), Some(0));
        assert_eq!(read(b"14"), Some(14));
        for bad in [&b""[..], b"-1", b"x", b"4294967296", b"\xff", b"1 4"] {
            assert_eq!(read(bad), None);
        }
    }
}
