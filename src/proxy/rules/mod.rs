//! What HTTP asks of a proxy, as pure functions: which requests are refused, which head goes to the
//! worker, which fields come back (RFC 9110, 9112; threats T7–T9, T11).
//!
//! The front calls [`outgoing`] for each request (`request`) and [`answer()`] for each answer (`answer`); why a
//! request is refused is in `rejection`, and what a field is to us in `fields`. Nothing a client or a
//! worker sent is passed on as it was: heads are made anew from parsed parts, hop-by-hop fields are gone,
//! and exactly one framing field, chosen here, leaves the proxy. Nothing here may keep state or do I/O.
//!
//! The bytes of a head were checked when it was parsed; what is checked here again is what could make the
//! head that goes on ambiguous, whoever parsed the request (HTTP/2 will not pass there).

mod answer;
mod fields;
mod forwarded;
mod hops;
mod rejection;
mod request;
mod request_id;
mod target;

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;

use http::{StatusCode, Version};

use super::head::RequestHead;
use crate::link::message::FieldEdits;
pub(crate) use answer::switches_to;
pub use answer::{Returning, Written, answer};
pub(super) use answer::{agreed, informational};
use fields::has_token;
pub(crate) use fields::{allowed_trailers, is_ours, last_chunk, list, trailer_allowed};
pub(super) use fields::{put as put_field, write as write_field};
pub(super) use forwarded::client as forwarded_client;
pub(super) use hops::{Hops, hop};
pub use rejection::Rejection;
pub(super) use rejection::{
    long_head, long_target, many_fields, misdirected, no_url, nothing_to_trace, reject,
};
pub use request::{Origin, Outgoing, Terms, outgoing, target};
pub use request_id::RequestId;
pub use target::Target;
pub(super) use target::host;

/// How a message's body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// So many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

impl Framing {
    /// Whether a byte of a body may come.
    #[must_use]
    pub fn has_body(self) -> bool {
        match self {
            Self::Empty | Self::Length(0) => false,
            Self::Length(_) | Self::Chunked => true,
        }
    }
}

/// How the body is delimited, by the fields alone.
pub(super) fn framing(request: &RequestHead) -> Result<Framing, Rejection> {
    let bad = |why| Err(reject(StatusCode::BAD_REQUEST, why));
    let mut lengths = request.fields.all(b"content-length");
    let length = lengths.next();
    if lengths.any(|other| Some(other) != length) {
        return bad("two Content-Lengths");
    }
    if request.fields.has(b"transfer-encoding") {
        if request.version != Version::HTTP_11 {
            return bad("Transfer-Encoding outside HTTP/1.1");
        }
        if length.is_some() {
            return bad("both Content-Length and Transfer-Encoding");
        }
        let chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
        if let Some(value) = request.fields.only(b"transfer-encoding")
            && chunked(value)
        {
            return Ok(Framing::Chunked);
        }
        let mut codings = request.fields.all(b"transfer-encoding").flat_map(list);
        return match codings.all(chunked) {
            true => bad("Transfer-Encoding is not one `chunked`"),
            false => Err(reject(StatusCode::NOT_IMPLEMENTED, "transfer coding")),
        };
    }
    let Some(length) = length else {
        return Ok(Framing::Empty);
    };
    // A worker may count with a sign.
    match decimal(length).filter(|length| i64::try_from(*length).is_ok()) {
        Some(length) => Ok(Framing::Length(length)),
        None => bad("malformed Content-Length"),
    }
}

/// Digits only, checked.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |n, b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    })
}

/// The fields that the service writes.
fn put_set(head: &mut impl Written, edits: &FieldEdits) {
    for (name, value) in &edits.set {
        head.field(name.as_bytes(), value.as_bytes());
    }
}

/// Whether a client would send another request on its connection (RFC 9112 §9.3).
pub(super) fn keeps_alive(request: &RequestHead) -> bool {
    let says = |token| has_token(&request.fields, b"connection", token);
    !says(b"close") && (request.version != Version::HTTP_10 || says(b"keep-alive"))
}

/// Whether a client takes trailers (RFC 9110 §6.5.1).
pub(super) fn takes_trailers(request: &RequestHead) -> bool {
    has_token(&request.fields, b"te", b"trailers")
}
