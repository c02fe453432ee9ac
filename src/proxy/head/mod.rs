//! Heads as they were read: slices of what came, checked, nothing interpreted yet.

mod fields;
mod octets;

use http::{Method, StatusCode, Uri, Version};

pub use fields::Fields;
pub(super) use fields::{Unfit, is_padded};
pub(crate) use octets::{is_control, is_token};

/// A request's head.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// Its method, as a worker gets it.
    pub method: Method,
    /// The client sent CONNECT with a protocol (RFC 8441), which has become an upgrade.
    pub by_connect: bool,
    /// Its target.
    pub uri: Uri,
    /// HTTP/1.0, 1.1 or 2.
    pub version: Version,
    /// Its fields.
    pub fields: Fields,
}

/// An answer's head.
#[derive(Debug, Clone)]
pub struct AnswerHead {
    /// Its status.
    pub status: StatusCode,
    /// HTTP/1.0 or 1.1.
    pub version: Version,
    /// Its fields.
    pub fields: Fields,
}

impl RequestHead {
    /// Its method, as the client sent it.
    pub(super) fn asked(&self) -> &Method {
        match self.by_connect {
            true => &Method::CONNECT,
            false => &self.method,
        }
    }

    /// It is a call of gRPC, by HTTP/2 as they all are: its client reads how it went from `grpc-status` alone.
    pub(super) fn is_grpc(&self) -> bool {
        self.version == Version::HTTP_2 && is_call(kind(&self.fields))
    }
}

impl AnswerHead {
    /// It says that its body is a stream of events (Server-Sent Events) or messages (gRPC), which is silent
    /// for as long as nothing happens.
    pub(super) fn is_event_stream(&self) -> bool {
        let kind = kind(&self.fields);
        is_of(kind, b"text/event-stream") || is_of(kind, GRPC)
    }

    /// It is an answer of gRPC, which says behind its body how it went.
    pub(super) fn is_grpc(&self) -> bool {
        is_of(kind(&self.fields), GRPC)
    }
}

const GRPC: &[u8] = b"application/grpc";

fn kind(fields: &Fields) -> &[u8] {
    fields.all(b"content-type").next().unwrap_or_default()
}

/// Whether a Content-Type is gRPC's, in whatever form its messages are; gRPC-Web's is another.
fn is_call(says: &[u8]) -> bool {
    is_of(says, GRPC) && matches!(says.get(GRPC.len()), None | Some(b'+' | b';' | b' '))
}

/// Whether a Content-Type is of a kind, whatever else it says.
fn is_of(says: &[u8], kind: &[u8]) -> bool {
    let start = says.get(..kind.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_grpc_are_told_from_those_of_grpc_web() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("Application/gRPC+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_call(kind.as_bytes()), expected, "{kind}");
        }
    }
}
