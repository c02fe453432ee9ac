//! Which fields are for the next hop only, which are ours, and how a field is written.

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};

/// The members of a comma-separated list, without white space and empty ones.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|b| *b == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// Whether any line of a field has `token` as a member.
pub(super) fn has_token(fields: &HeaderMap, name: &HeaderName, token: &[u8]) -> bool {
    fields
        .get_all(name)
        .iter()
        .any(|value| list(value.as_bytes()).any(|member| member.eq_ignore_ascii_case(token)))
}

/// The field's only line, if there is exactly one.
pub(super) fn only<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = fields.get_all(name).iter();
    let first = lines.next()?;
    lines.next().is_none().then_some(first)
}

/// Fields of one hop, whether named by Connection or not. What goes on of them is written anew.
/// The last five are no standard names; they are compared as text.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::TE
            | header::TRAILER
            | header::TRANSFER_ENCODING
            | header::UPGRADE
            | header::PROXY_AUTHENTICATE
            | header::PROXY_AUTHORIZATION
    ) || matches!(
        name.as_str(),
        "keep-alive" | "proxy-connection" | "http2-settings" | "proxy-authentication-info"
    )
}

/// The fields that Connection names. Framing and Host cannot be named away.
pub(super) struct Named<'a>(Vec<&'a [u8]>);

impl<'a> Named<'a> {
    /// Reads every Connection line. Allocates only if something else than the usual is named.
    pub(super) fn of(fields: &'a HeaderMap) -> Self {
        let lines = fields.get_all(header::CONNECTION).iter();
        let named = lines.flat_map(|value| list(value.as_bytes()));
        Self(named.filter(|name| !is_usual(name)).collect())
    }

    /// Whether the field must stay on this hop.
    pub(super) fn strips(&self, name: &HeaderName) -> bool {
        if is_hop_by_hop(name) {
            return true;
        }
        if self.0.is_empty() || *name == header::HOST || *name == header::CONTENT_LENGTH {
            return false;
        }
        let name = name.as_str().as_bytes();
        self.0.iter().any(|named| named.eq_ignore_ascii_case(name))
    }
}

/// Members of Connection that name no field, or one of the fixed list.
fn is_usual(member: &[u8]) -> bool {
    const USUAL: [&[u8]; 5] = [
        b"close",
        b"keep-alive",
        b"upgrade",
        b"te",
        b"http2-settings",
    ];
    USUAL.iter().any(|usual| member.eq_ignore_ascii_case(usual))
}

/// Fields that tell a worker who the client is and what it asked. Whoever may set them can pretend.
pub(super) fn is_forwarding(name: &str) -> bool {
    name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "x-real-ip" | "x-request-id")
}

/// A name that a worker with CGI-like variables cannot tell from one of ours, or from framing:
/// `X_Forwarded_For` becomes `HTTP_X_FORWARDED_FOR` too. Such a field never goes on.
pub(super) fn is_disguised(name: &str) -> bool {
    if !name.contains('_') {
        return false;
    }
    let plain = name.replace('_', "-");
    is_forwarding(&plain)
        || matches!(
            &*plain,
            "content-length" | "transfer-encoding" | "proxy-connection" | "http2-settings"
        )
}

/// Whether a field may stand in a trailer section: not framing, routing, authentication, or one that
/// steers how the message is read (RFC 9110 §6.5.1), nor one of ours.
pub(crate) fn trailer_allowed(name: &HeaderName) -> bool {
    let forbidden = matches!(
        *name,
        header::HOST
            | header::CONTENT_LENGTH
            | header::CONTENT_ENCODING
            | header::CONTENT_TYPE
            | header::CONTENT_RANGE
            | header::AUTHORIZATION
            | header::WWW_AUTHENTICATE
            | header::COOKIE
            | header::SET_COOKIE
            | header::CACHE_CONTROL
            | header::EXPECT
            | header::MAX_FORWARDS
            | header::RANGE
            | header::AGE
            | header::DATE
            | header::EXPIRES
            | header::LOCATION
            | header::RETRY_AFTER
            | header::VARY
            | header::WARNING
            | header::PRAGMA
            | header::IF_MATCH
            | header::IF_NONE_MATCH
            | header::IF_MODIFIED_SINCE
            | header::IF_UNMODIFIED_SINCE
            | header::IF_RANGE
    );
    let name_text = name.as_str();
    !forbidden && !is_hop_by_hop(name) && !is_forwarding(name_text) && !is_disguised(name_text)
}

/// The names of a `Trailer` field that may stand there, as one value; `None` if there are none.
pub(super) fn trailer_names(fields: &HeaderMap) -> Option<HeaderValue> {
    let lines = fields.get_all(header::TRAILER).iter();
    let mut names = BytesMut::new();
    for member in lines.flat_map(|value| list(value.as_bytes())) {
        let Ok(name) = HeaderName::from_bytes(member) else {
            continue;
        };
        if trailer_allowed(&name) {
            if !names.is_empty() {
                names.extend_from_slice(b", ");
            }
            names.extend_from_slice(name.as_str().as_bytes());
        }
    }
    if names.is_empty() {
        return None;
    }
    HeaderValue::from_maybe_shared(names.freeze()).ok()
}

/// The end of a chunked body with its trailers, those that are allowed.
pub(crate) fn last_chunk(trailers: &HeaderMap) -> Bytes {
    let mut out = BytesMut::from(&b"0\r\n"[..]);
    for (name, value) in trailers {
        if trailer_allowed(name) && is_clean(value.as_bytes()) {
            write(&mut out, name.as_str(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
    out.freeze()
}

/// No byte that could end a line early.
pub(super) fn is_clean(value: &[u8]) -> bool {
    let bad = |b: &u8| (*b < 0x20 && *b != b'\t') || *b == 0x7f;
    !value.iter().fold(false, |any, b| any | bad(b))
}

/// Writes one line. The caller has seen to it that the value is clean.
pub(in crate::proxy) fn write(out: &mut BytesMut, name: &str, value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}
