//! Whom a request is for: its method, its target and its Host.

use http::uri::PathAndQuery;
use http::{Method, StatusCode, Version};

use super::{Rejection, long_head, long_target, many_fields, reject};
use crate::link::message::Front;
use crate::proxy::head::RequestHead;

/// Longest method. The longest registered one has 17 letters (`UPDATEREDIRECTREF`).
const MAX_METHOD: usize = 32;

/// Target and Host as they go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// In origin-form, or `*`.
    pub path: &'a str,
    /// Value of Host; empty only for HTTP/1.0 without one. An empty value is what RFC 9110 §7.2 asks
    /// for where there is no authority; an invented name could stand in a worker's list of trusted ones.
    pub host: &'a str,
}

impl Target<'_> {
    /// Whether a URL says it: one of no host has none, nor has `*`.
    pub(in crate::proxy) fn has_url(&self) -> bool {
        !self.host.is_empty() && self.path != "*"
    }
}

/// Checks method, target and Host.
pub(super) fn check<'a>(request: &'a RequestHead, front: &Front) -> Result<Target<'a>, Rejection> {
    if request.method == Method::CONNECT {
        return Err(reject(StatusCode::METHOD_NOT_ALLOWED, "CONNECT"));
    }
    if request.method.as_str().len() > MAX_METHOD {
        return Err(reject(StatusCode::NOT_IMPLEMENTED, "method too long"));
    }
    let path = path(request, front)?;
    let host = host(request)?;
    Ok(Target { path, host })
}

fn path<'a>(request: &'a RequestHead, front: &Front) -> Result<&'a str, Rejection> {
    let uri = &request.uri;
    if let Some(scheme) = uri.scheme_str()
        && !matches!(scheme, "http" | "https")
    {
        return Err(reject(StatusCode::BAD_REQUEST, "scheme of the target"));
    }
    let Some(path) = uri.path_and_query().map(PathAndQuery::as_str) else {
        return Err(reject(StatusCode::BAD_REQUEST, "target in authority-form"));
    };
    // In HTTP/2 it is a field of its own.
    let authority = match request.version {
        Version::HTTP_2 => 0,
        _ => uri.authority().map_or(0, |a| a.as_str().len()),
    };
    if path.len() + authority > front.max_target as usize {
        return Err(long_target());
    }
    let asterisk = path == "*" && request.method == Method::OPTIONS;
    if !asterisk && !path.starts_with('/') {
        return Err(reject(StatusCode::BAD_REQUEST, "form of the target"));
    }
    if path.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return Err(reject(StatusCode::BAD_REQUEST, "byte in the target"));
    }
    Ok(path)
}

/// Its host, by Host or by its target.
pub(in crate::proxy) fn host(request: &RequestHead) -> Result<&str, Rejection> {
    let bad = |why| Err(reject(StatusCode::BAD_REQUEST, why));
    let mut lines = request.fields.all(b"host");
    let field = match (lines.next(), lines.next()) {
        (None, _) => None,
        (Some(line), None) => match str::from_utf8(line) {
            Ok(host) if is_host(line) => Some(host),
            Ok(_) | Err(_) => return bad("malformed Host"),
        },
        (Some(_), Some(_)) => return bad("more than one Host"),
    };
    let target = match request.uri.authority() {
        None => None,
        Some(authority) if is_host(authority.as_str().as_bytes()) => Some(authority.as_str()),
        Some(_) => return bad("malformed authority"),
    };
    match (target, field) {
        (Some(target), Some(field))
            if request.version == Version::HTTP_2 && !target.eq_ignore_ascii_case(field) =>
        {
            bad("Host differs from :authority")
        }
        (None, None) | (Some(_), None) if request.version == Version::HTTP_11 => bad("no Host"),
        (None, None) if request.version == Version::HTTP_10 => Ok(""),
        (None, None) => bad("no authority"),
        // The target's authority replaces Host (RFC 9112 §3.2.2).
        (Some(host), _) | (None, Some(host)) => Ok(host),
    }
}

/// What a name of a host may consist of. A reg-name may hold more (RFC 3986 §3.2.2), but no name on the web
/// does, and each further byte is one that somebody's parser takes for a delimiter.
const IN_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let unreserved = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        table[byte as usize] = unreserved;
        byte += 1;
    }
    table
};
/// Longest name of a host: RFC 1035 §2.3.4.
const MAX_NAME: usize = 255;

/// `uri-host [":" port]`, not empty, without user information.
fn is_host(text: &[u8]) -> bool {
    let after = match text.strip_prefix(b"[") {
        Some(literal) => after_ipv6(literal),
        None => after_name(text),
    };
    match after {
        Some([b':', port @ ..]) => is_port(port),
        Some(rest) => rest.is_empty(),
        None => false,
    }
}

fn after_name(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|b| !IN_NAME[usize::from(*b)]);
    let end = end.unwrap_or(text.len());
    (1..=MAX_NAME).contains(&end).then(|| &text[end..])
}

fn after_ipv6(literal: &[u8]) -> Option<&[u8]> {
    let end = literal.iter().position(|b| *b == b']')?;
    let address = str::from_utf8(&literal[..end]).ok()?;
    address.parse::<std::net::Ipv6Addr>().ok()?;
    Some(&literal[end + 1..])
}

/// Digits, or nothing: RFC 3986 §3.2.3.
fn is_port(text: &[u8]) -> bool {
    let digit = |b: &u8| b.is_ascii_digit().then(|| u32::from(b - b'0'));
    let number = |number: u32, b: &u8| Some(number * 10 + digit(b)?);
    text.len() <= 5
        && text
            .iter()
            .try_fold(0, number)
            .is_some_and(|n| n <= u32::from(u16::MAX))
}

/// The limits on the head as a whole.
pub(super) fn check_size(request: &RequestHead, front: &Front) -> Result<usize, Rejection> {
    let count = request.fields.count();
    if count > front.max_headers as usize {
        return Err(many_fields());
    }
    let size = request.fields.size() + 4 * count;
    if size > front.max_head as usize {
        return Err(long_head());
    }
    Ok(size)
}
