//! How far a request may still go that asks about its way (RFC 9110 §7.6.2).

use http::Method;

use super::decimal;
use crate::proxy::digits::Digits;
use crate::proxy::head::RequestHead;

const FIELD: &[u8] = b"max-forwards";

/// Whether a request may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Hops {
    /// It may.
    Left,
    /// It is for whoever has it now.
    Last,
}

/// Takes a hop off those that a request has left, if it is one that counts them. What is no number, or too large
/// a one, counts nothing.
#[inline]
pub(in crate::proxy) fn hop(request: &mut RequestHead) -> Hops {
    match request.method {
        Method::OPTIONS | Method::TRACE => counted(request),
        _ => Hops::Left,
    }
}

#[cold]
fn counted(request: &mut RequestHead) -> Hops {
    match request.fields.only(FIELD).and_then(decimal) {
        None => Hops::Left,
        Some(0) => Hops::Last,
        Some(hops) => {
            request.fields = request.fields.with(FIELD, Digits::of(hops - 1).text());
            Hops::Left
        }
    }
}
