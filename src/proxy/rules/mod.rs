//! What HTTP asks of a proxy, as pure functions: which requests are refused, which head goes to the
//! worker, which fields come back (RFC 9110, 9112; threats T7–T9, T11).
//!
//! The front calls [`outgoing`] for each request and [`answer`] for each answer. Nothing a client or a
//! worker sent is passed on as it was: heads are made anew from parsed parts, hop-by-hop fields are gone,
//! and exactly one framing field, chosen here, leaves the proxy. Nothing here may keep state or do I/O.
//!
//! The bytes of a head were checked when it was parsed; what is checked here again is what could make the
//! head that goes on ambiguous, whoever parsed the request (HTTP/2 will not pass there).

mod fields;
mod target;

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version, request, response};

use crate::link::message::Front;
pub(super) use fields::write as write_field;
use fields::{Named, has_token, only};
pub(crate) use fields::{last_chunk, list, trailer_allowed};

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

/// Why a request is refused before anybody sees it; the connection is closed after the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// 400, 405, 413, 414, 417, 431 or 501.
    pub status: StatusCode,
    /// For the log; never sent to the client.
    pub why: &'static str,
}

/// What is known of the client's side of a request.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The peer; `None` for a unix socket.
    pub client: Option<IpAddr>,
    /// Its forwarding headers and request id are believed.
    pub trusted: bool,
    /// `http` or `https`, as the client reached us.
    pub scheme: &'static str,
    /// This request's id: the client's if trusted and well-formed (see [`request_id`]), else a new one.
    pub request_id: Arc<str>,
}

/// A request that passed the rules, as it goes to a worker.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The whole head, from the request line to the empty line, canonical; never a byte of the client's.
    pub head: Bytes,
    /// The method.
    pub method: Method,
    /// How the body is delimited towards the worker.
    pub framing: Framing,
    /// The protocol asked for, lower case (`websocket`), if this is an upgrade to be forwarded.
    pub upgrade: Option<String>,
    /// The client waits for `100 Continue` before it sends the body; the head says so too.
    pub expects_continue: bool,
    /// GET, HEAD, OPTIONS, TRACE, PUT or DELETE (RFC 9110 §9.2.2): may be tried again.
    pub idempotent: bool,
}

/// Protocols that a request may be upgraded to (T11). Any other upgrade is left out, which RFC 9110 §7.8
/// allows, and the request goes on as a plain one.
const UPGRADES: [&str; 1] = ["websocket"];

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The id the client gave, if there is exactly one `X-Request-Id` of 1 to 128 visible characters.
#[must_use]
pub fn request_id(request: &request::Parts) -> Option<&str> {
    let id = only(&request.headers, &X_REQUEST_ID)?.to_str().ok()?;
    is_request_id(id).then_some(id)
}

fn is_request_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
}

/// Checks a request and makes the head for the worker.
///
/// The length of the body is taken from the request's fields; `body` is what the server made of them, and
/// a request where the two differ is refused.
///
/// # Errors
/// The rejection to answer with.
pub fn outgoing(
    request: &request::Parts,
    body: Framing,
    origin: &Origin,
    front: &Front,
) -> Result<Outgoing, Rejection> {
    let target = target::check(request, front)?;
    let size = target::check_size(request, front)?;
    let framing = match framing(request)? {
        // The frames of HTTP/2 delimit a body by themselves.
        Framing::Empty if request.version == Version::HTTP_2 => body,
        framing => framing,
    };
    let same = match (framing, body) {
        (Framing::Empty | Framing::Length(0), Framing::Empty | Framing::Length(0)) => true,
        (framing, body) => framing == body,
    };
    if !same {
        return Err(reject(
            StatusCode::BAD_REQUEST,
            "body and its framing differ",
        ));
    }
    let has_body = !matches!(framing, Framing::Empty | Framing::Length(0));
    let expects_continue = expects_continue(request)? && has_body;
    let upgrade = upgrade(request, has_body);

    let mut head = BytesMut::with_capacity(size + target.path.len() + 256);
    head.put_slice(request.method.as_str().as_bytes());
    head.put_u8(b' ');
    head.put_slice(target.path.as_bytes());
    head.put_slice(b" HTTP/1.1\r\n");
    fields::write(&mut head, "host", target.host.as_bytes());
    put_end_to_end(&mut head, &request.headers, origin.trusted);
    put_hop(&mut head, request, framing, upgrade, expects_continue);
    put_forwarding(&mut head, request, origin, target.host);
    head.put_slice(b"\r\n");

    Ok(Outgoing {
        head: head.freeze(),
        method: request.method.clone(),
        framing,
        upgrade: upgrade.map(str::to_owned),
        expects_continue,
        idempotent: request.method.is_idempotent(),
    })
}

pub(super) fn reject(status: StatusCode, why: &'static str) -> Rejection {
    Rejection { status, why }
}

/// How the body is delimited, by the fields alone.
fn framing(request: &request::Parts) -> Result<Framing, Rejection> {
    let bad = |why| Err(reject(StatusCode::BAD_REQUEST, why));
    let mut lengths = request.headers.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.any(|other| Some(other) != length) {
        return bad("two Content-Lengths");
    }
    if request.headers.contains_key(header::TRANSFER_ENCODING) {
        if request.version != Version::HTTP_11 {
            return bad("Transfer-Encoding outside HTTP/1.1");
        }
        if length.is_some() {
            return bad("both Content-Length and Transfer-Encoding");
        }
        let chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
        if let Some(value) = only(&request.headers, &header::TRANSFER_ENCODING)
            && chunked(value.as_bytes())
        {
            return Ok(Framing::Chunked);
        }
        let lines = request.headers.get_all(header::TRANSFER_ENCODING).iter();
        return match lines.flat_map(|v| list(v.as_bytes())).all(chunked) {
            true => bad("Transfer-Encoding is not one `chunked`"),
            false => Err(reject(StatusCode::NOT_IMPLEMENTED, "transfer coding")),
        };
    }
    let Some(length) = length else {
        return Ok(Framing::Empty);
    };
    match decimal(length.as_bytes()) {
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

/// Only exactly `100-continue` means it; an HTTP/1.0 client cannot (RFC 9110 §10.1.1).
fn expects_continue(request: &request::Parts) -> Result<bool, Rejection> {
    if !request.headers.contains_key(header::EXPECT) {
        return Ok(false);
    }
    match only(&request.headers, &header::EXPECT) {
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            Ok(request.version != Version::HTTP_10)
        }
        _ => Err(reject(StatusCode::EXPECTATION_FAILED, "expectation")),
    }
}

/// The upgrade to ask the worker for: one protocol that we allow, asked as it must be.
fn upgrade(request: &request::Parts, has_body: bool) -> Option<&'static str> {
    if request.version != Version::HTTP_11 || request.method != Method::GET || has_body {
        return None;
    }
    let asked = only(&request.headers, &header::UPGRADE)?.as_bytes();
    let allowed = |protocol: &&str| asked.eq_ignore_ascii_case(protocol.as_bytes());
    let protocol = UPGRADES.into_iter().find(allowed)?;
    has_token(&request.headers, &header::CONNECTION, b"upgrade").then_some(protocol)
}

/// The client's fields that are for the worker.
fn put_end_to_end(head: &mut BytesMut, headers: &HeaderMap, trusted: bool) {
    let named = Named::of(headers);
    for (name, value) in headers {
        let written_by_us = matches!(
            *name,
            header::HOST | header::CONTENT_LENGTH | header::EXPECT
        );
        if written_by_us || named.strips(name) {
            continue;
        }
        let text = name.as_str();
        // What a trusted peer says of these is added to, below; of others it is passed on.
        let ours = matches!(
            text,
            "x-request-id"
                | "x-forwarded-for"
                | "x-forwarded-proto"
                | "x-forwarded-host"
                | "forwarded"
        );
        if ours || (fields::is_forwarding(text) && !trusted) || fields::is_disguised(text) {
            continue;
        }
        fields::write(head, text, value.as_bytes());
    }
}

/// The fields of this hop.
fn put_hop(
    head: &mut BytesMut,
    request: &request::Parts,
    framing: Framing,
    upgrade: Option<&str>,
    expects_continue: bool,
) {
    // Methods whose meaning lies in their body say so even when it is empty (RFC 9110 §8.6).
    let means_body = matches!(request.method, Method::POST | Method::PUT | Method::PATCH);
    match framing {
        Framing::Chunked => {
            head.put_slice(b"transfer-encoding: chunked\r\n");
            if let Some(names) = fields::trailer_names(&request.headers) {
                fields::write(head, "trailer", names.as_bytes());
            }
        }
        Framing::Length(length) => put_length(head, length),
        Framing::Empty if means_body => put_length(head, 0),
        Framing::Empty => {}
    }
    if expects_continue {
        head.put_slice(b"expect: 100-continue\r\n");
    }
    let trailers = has_token(&request.headers, &header::TE, b"trailers");
    if trailers {
        head.put_slice(b"te: trailers\r\n");
    }
    match (upgrade, trailers) {
        (Some(protocol), trailers) => {
            fields::write(head, "upgrade", protocol.as_bytes());
            head.put_slice(match trailers {
                true => b"connection: upgrade, te\r\n",
                false => b"connection: upgrade\r\n",
            });
        }
        (None, true) => head.put_slice(b"connection: te\r\n"),
        (None, false) => {}
    }
}

fn put_length(head: &mut BytesMut, length: u64) {
    // Writing to memory cannot fail.
    let _ = write!(head, "content-length: {length}\r\n");
}

/// Who the client is and what it asked (T7). Only a trusted peer's word is kept, and added to. Of the two
/// forms the worker always gets `X-Forwarded-*`; `Forwarded` only if a trusted peer uses it.
fn put_forwarding(head: &mut BytesMut, request: &request::Parts, origin: &Origin, host: &str) {
    let theirs = |name: &HeaderName| {
        let lines = match origin.trusted {
            true => Some(request.headers.get_all(name).iter()),
            false => None,
        };
        lines.into_iter().flatten().map(HeaderValue::as_bytes)
    };
    let client = origin.client.map(|address| address.to_canonical());

    // A unix peer has no address; a made-up word in the list would break those who parse it.
    if client.is_some() || theirs(&X_FORWARDED_FOR).next().is_some() {
        head.put_slice(b"x-forwarded-for: ");
        let start = head.len();
        for line in theirs(&X_FORWARDED_FOR) {
            put_member(head, start, line);
        }
        if let Some(address) = client {
            put_member(head, start, b"");
            let _ = write!(head, "{address}");
        }
        head.put_slice(b"\r\n");
    }

    let scheme = theirs(&X_FORWARDED_PROTO).next();
    fields::write(
        head,
        "x-forwarded-proto",
        scheme.unwrap_or(origin.scheme.as_bytes()),
    );
    let asked = theirs(&X_FORWARDED_HOST).next().unwrap_or(host.as_bytes());
    if !asked.is_empty() {
        fields::write(head, "x-forwarded-host", asked);
    }

    if theirs(&header::FORWARDED).next().is_some() {
        head.put_slice(b"forwarded: ");
        let start = head.len();
        for line in theirs(&header::FORWARDED) {
            put_member(head, start, line);
        }
        put_member(head, start, b"");
        let _ = match client {
            Some(IpAddr::V4(address)) => write!(head, "for={address}"),
            Some(IpAddr::V6(address)) => write!(head, "for=\"[{address}]\""),
            None => write!(head, "for=unknown"),
        };
        let _ = write!(head, ";proto={}", origin.scheme);
        if !host.is_empty() {
            let _ = write!(head, ";host=\"{host}\"");
        }
        head.put_slice(b"\r\n");
    }
    if is_request_id(&origin.request_id) {
        fields::write(head, "x-request-id", origin.request_id.as_bytes());
    }
}

/// Adds a member to the list that began at `start`.
fn put_member(head: &mut BytesMut, start: usize, member: &[u8]) {
    if head.len() > start {
        head.put_slice(b", ");
    }
    head.put_slice(member);
}

/// Makes the head for the client from a worker's: hop-by-hop fields gone, `X-Request-Id` set, framing
/// left to the server. A 101 keeps `Connection: upgrade` and `Upgrade`.
///
/// Content-Length stays, since it is what the server frames by (the upstream side has refused every
/// answer where it could be doubted); Transfer-Encoding and Content-Length never leave here together.
///
/// # Errors
/// Why the answer cannot be passed on: the client gets 502 and the worker's connection is closed.
pub fn answer(
    mut answer: response::Parts,
    to: &Outgoing,
    request_id: &str,
) -> Result<response::Parts, &'static str> {
    let switching = answer.status == StatusCode::SWITCHING_PROTOCOLS;
    let protocol = match (switching, to.upgrade.as_deref()) {
        (true, Some(asked)) => {
            switches_to(&answer, asked)?;
            answer.headers.get(header::UPGRADE).cloned()
        }
        (true, None) => return Err("101 without an upgrade asked"),
        (false, _) => None,
    };
    let headers = &mut answer.headers;
    if headers.contains_key(header::TRANSFER_ENCODING)
        && headers.contains_key(header::CONTENT_LENGTH)
    {
        return Err("both Content-Length and Transfer-Encoding");
    }
    let trailer = fields::trailer_names(headers);
    strip(headers);
    if answer.status.is_informational() || answer.status == StatusCode::NO_CONTENT {
        headers.remove(header::CONTENT_LENGTH);
    }
    if let Some(names) = trailer {
        headers.insert(header::TRAILER, names);
    }
    if let Some(protocol) = protocol {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    match HeaderValue::from_str(request_id) {
        Ok(id) if is_request_id(request_id) => headers.insert(X_REQUEST_ID, id),
        _ => headers.remove(X_REQUEST_ID),
    };
    answer.version = Version::HTTP_11;
    Ok(answer)
}

/// The fields of an informational answer that are for the client.
pub(super) fn informational(answer: &response::Parts) -> HeaderMap {
    let mut headers = answer.headers.clone();
    strip(&mut headers);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(X_REQUEST_ID);
    headers
}

/// Whether a client takes trailers (RFC 9110 §6.5.1).
pub(super) fn takes_trailers(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TE) && has_token(headers, &header::TE, b"trailers")
}

/// Removes the fields of the worker's hop.
fn strip(headers: &mut HeaderMap) {
    let named = Named::of(headers);
    let gone: Vec<HeaderName> = headers
        .keys()
        .filter(|n| named.strips(n))
        .cloned()
        .collect();
    for name in gone {
        headers.remove(name);
    }
}

/// A 101 that switches to the protocol asked for, and to nothing else.
pub(crate) fn switches_to(answer: &response::Parts, asked: &str) -> Result<(), &'static str> {
    let protocol = only(&answer.headers, &header::UPGRADE).ok_or("101 without one Upgrade")?;
    if !protocol.as_bytes().eq_ignore_ascii_case(asked.as_bytes()) {
        return Err("101 to another protocol");
    }
    match has_token(&answer.headers, &header::CONNECTION, b"upgrade") {
        true => Ok(()),
        false => Err("101 without `Connection: upgrade`"),
    }
}
