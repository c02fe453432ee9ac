//! Whom a request is for: its method, its target and its Host.

use http::uri::PathAndQuery;
use http::{Method, StatusCode, Version};

use super::{Rejection, reject};
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
        return Err(reject(StatusCode::URI_TOO_LONG, "target too long"));
    }
    let asterisk = path == "*" && request.method == Method::OPTIONS;
    if !asterisk && !path.starts_with('/') {
        return Err(reject(StatusCode::BAD_REQUEST, "form of the target"));
    }
    if path.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return Err(reject(StatusCode::BAD_REQUEST, "byte in the target"));
    }
    // `OPTIONS http://host` without a path means the server as a whole (RFC 9112 §3.2.4), but http's
    // parser makes the same "/" of it as of `http://host/`, so it goes on as that.
    Ok(path)
}

fn host(request: &RequestHead) -> Result<&str, Rejection> {
    let bad = |why| Err(reject(StatusCode::BAD_REQUEST, why));
    let mut lines = request.fields.all(b"host");
    let field = match (lines.next(), lines.next()) {
        (None, _) => None,
        (Some(line), None) => match str::from_utf8(line).ok().filter(|h| is_host(h)) {
            Some(host) => Some(host),
            None => return bad("malformed Host"),
        },
        (Some(_), Some(_)) => return bad("more than one Host"),
    };
    let target = match request.uri.authority() {
        None => None,
        Some(authority) if is_host(authority.as_str()) => Some(authority.as_str()),
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

/// `uri-host [":" port]`, not empty, without user information.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else {
                return false;
            };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match port {
                "" => return true,
                port => match port.strip_prefix(':') {
                    Some(port) => ("6", port),
                    None => return false,
                },
            }
        }
        None => match text.bytes().position(|b| b == b':') {
            Some(colon) => (&text[..colon], &text[colon + 1..]),
            None => (text, ""),
        },
    };
    // A reg-name may hold more (RFC 3986 §3.2.2), but no name on the web does, and each further byte is
    // one that somebody's parser takes for a delimiter.
    let name_ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    let port_ok = port.is_empty() || (port.len() <= 5 && port.parse::<u16>().is_ok());
    !name.is_empty()
        && name.len() <= 255
        && name.bytes().all(name_ok)
        && port_ok
        && port.bytes().all(|b| b.is_ascii_digit())
}

/// The limits on the head as a whole.
pub(super) fn check_size(request: &RequestHead, front: &Front) -> Result<usize, Rejection> {
    let too_large = |why| Err(reject(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, why));
    let count = request.fields.count();
    if count > front.max_headers as usize {
        return too_large("too many fields");
    }
    let size = request.fields.size() + 4 * count;
    if size > front.max_head as usize {
        return too_large("head too large");
    }
    Ok(size)
}
