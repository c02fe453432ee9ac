//! A client's request, checked, and the head that goes to a worker for it.

use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Method, StatusCode, Version};

use super::fields::{self, Named, has_token, list};
use super::rejection::{Rejection, reject};
use super::target::{self, Target};
use super::{Framing, RequestId, framing, put_set};
use crate::link::message::{Edits, FieldEdits, Front};
use crate::proxy::digits::{Address, Digits};
use crate::proxy::head::{Fields, RequestHead};

/// What is known of the client's side of a request.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The peer; `None` for a unix socket.
    pub client: Option<Address>,
    /// Its forwarding headers and request id are believed.
    pub trusted: bool,
    /// `http` or `https`, as the client reached us.
    pub scheme: &'static str,
    /// It is a call of gRPC, and so must be an answer of ours to it.
    pub grpc: bool,
    /// This request's id: the client's if trusted and well-formed (see [`RequestId::given`]), else a new one.
    pub request_id: RequestId,
    /// The certificate that the client showed and that was verified, as whole lines of a head.
    pub certificate: Option<Bytes>,
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

/// By what a request is treated.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// Limits towards clients.
    pub front: &'a Front,
    /// What the service changes.
    pub edits: &'a Edits,
}

/// Checks a request's method, target and Host.
///
/// # Errors
/// The rejection to answer with.
pub fn target<'a>(request: &'a RequestHead, front: &Front) -> Result<Target<'a>, Rejection> {
    target::check(request, front)
}

/// Checks the rest of a request and makes the head for the worker.
///
/// The length of the body is taken from the request's fields; `body` is what the server made of them, and
/// a request where the two differ is refused. The head is written into `heads`, which is empty, and
/// split off it: many heads share one allocation.
///
/// # Errors
/// The rejection to answer with.
pub fn outgoing(
    request: &RequestHead,
    target: Target<'_>,
    body: Framing,
    origin: &Origin,
    terms: Terms<'_>,
    heads: &mut BytesMut,
) -> Result<Outgoing, Rejection> {
    let edits = terms.edits;
    let size = target::check_size(request, terms.front)?;
    let framing = match framing(request)? {
        // The frames of HTTP/2 delimit a body by themselves.
        Framing::Empty if request.version == Version::HTTP_2 => body,
        framing => framing,
    };
    let same = framing == body || !(framing.has_body() || body.has_body());
    if !same {
        return Err(reject(
            StatusCode::BAD_REQUEST,
            "body and its framing differ",
        ));
    }
    let has_body = framing.has_body();
    let expects_continue = expects_continue(request)? && has_body;
    let upgrade = upgrade(request, has_body, &edits.upgrades);

    heads.reserve(size + target.path.len() + 256);
    let head = &mut *heads;
    head.put_slice(request.method.as_str().as_bytes());
    head.put_u8(b' ');
    head.put_slice(target.path.as_bytes());
    head.put_slice(b" HTTP/1.1\r\n");
    fields::put(head, b"host: ", target.host.as_bytes());
    put_end_to_end(head, &request.fields, origin.trusted, &edits.request);
    put_hop(head, request, framing, upgrade, expects_continue);
    put_forwarding(head, request, origin, target.host);
    put_set(head, &edits.request);
    head.put_slice(b"\r\n");

    Ok(Outgoing {
        head: heads.split().freeze(),
        method: request.method.clone(),
        framing,
        upgrade: upgrade.map(str::to_owned),
        expects_continue,
        idempotent: request.method.is_idempotent(),
    })
}

/// Only exactly `100-continue` means it; an HTTP/1.0 client cannot (RFC 9110 §10.1.1).
fn expects_continue(request: &RequestHead) -> Result<bool, Rejection> {
    if !request.fields.has(b"expect") {
        return Ok(false);
    }
    match request.fields.only(b"expect") {
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => {
            Ok(request.version != Version::HTTP_10)
        }
        _ => Err(reject(StatusCode::EXPECTATION_FAILED, "expectation")),
    }
}

/// The upgrade to ask the worker for: of those that the client lists the first that we allow, asked as it must
/// be. Any other is left out, which RFC 9110 §7.8 allows, and the request goes on as a plain one.
fn upgrade<'a>(request: &RequestHead, has_body: bool, allowed: &'a [String]) -> Option<&'a str> {
    if request.version == Version::HTTP_10 || request.method != Method::GET || has_body {
        return None;
    }
    // In the client's order, which goes on from line to line.
    let mut asked = request.fields.all(b"upgrade").flat_map(list);
    let protocol = asked.find_map(|asked| {
        let same = |protocol: &&String| asked.eq_ignore_ascii_case(protocol.as_bytes());
        allowed.iter().find(same)
    })?;
    has_token(&request.fields, b"connection", b"upgrade").then_some(&**protocol)
}

/// The client's fields that are for the worker.
fn put_end_to_end(head: &mut BytesMut, all: &Fields, trusted: bool, edits: &FieldEdits) {
    let named = Named::of(all);
    fields::write_all(head, all, |name| {
        let written_by_us = matches!(
            name,
            b"host"
                | b"content-length"
                | b"expect"
                // What a trusted peer says of these is added to, below.
                | b"x-request-id"
                | b"x-forwarded-for"
                | b"x-forwarded-proto"
                | b"x-forwarded-host"
                | b"forwarded"
                // Nobody's word is taken for a certificate that we have not seen (RFC 9440 §4).
                | b"client-cert"
                | b"client-cert-chain"
        );
        // What it says of others is passed on.
        let forged = !trusted && fields::is_of_proxies(name);
        let goes_on = !written_by_us && !forged && !named.strips(name);
        goes_on && !fields::is_disguised(name) && !edits.touches(name)
    });
}

/// The fields of this hop.
fn put_hop(
    head: &mut BytesMut,
    request: &RequestHead,
    framing: Framing,
    upgrade: Option<&str>,
    expects_continue: bool,
) {
    // Methods whose meaning lies in their body say so even when it is empty (RFC 9110 §8.6).
    let means_body = matches!(request.method, Method::POST | Method::PUT | Method::PATCH);
    match framing {
        Framing::Chunked => {
            head.put_slice(b"transfer-encoding: chunked\r\n");
            if let Some(names) = fields::trailer_names(&request.fields) {
                fields::write(head, b"trailer", &names);
            }
        }
        Framing::Length(length) => put_length(head, length),
        Framing::Empty if means_body => put_length(head, 0),
        Framing::Empty => {}
    }
    if expects_continue {
        head.put_slice(b"expect: 100-continue\r\n");
    }
    let trailers = has_token(&request.fields, b"te", b"trailers");
    if trailers {
        head.put_slice(b"te: trailers\r\n");
    }
    match (upgrade, trailers) {
        (Some(protocol), trailers) => {
            fields::write(head, b"upgrade", protocol.as_bytes());
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
    fields::put(head, b"content-length: ", Digits::of(length).text());
}

/// Who the client is and what it asked (T7). Only a trusted peer's word is kept, and added to. Of the two
/// forms the worker always gets `X-Forwarded-*`; `Forwarded` only if a trusted peer uses it.
fn put_forwarding(head: &mut BytesMut, request: &RequestHead, origin: &Origin, host: &str) {
    let nothing = Fields::default();
    let believed = match origin.trusted {
        true => &request.fields,
        false => &nothing,
    };
    let theirs = |name: &'static [u8]| believed.all(name);
    let client = origin.client.as_ref();

    // A unix peer has no address; a made-up word in the list would break those who parse it.
    if client.is_some() || theirs(b"x-forwarded-for").next().is_some() {
        head.put_slice(b"x-forwarded-for: ");
        let start = head.len();
        for line in theirs(b"x-forwarded-for") {
            put_member(head, start, line);
        }
        if let Some(address) = client {
            put_member(head, start, address.as_bytes());
        }
        head.put_slice(b"\r\n");
    }

    let scheme = theirs(b"x-forwarded-proto").next();
    let scheme = scheme.unwrap_or(origin.scheme.as_bytes());
    fields::put(head, b"x-forwarded-proto: ", scheme);
    let asked = theirs(b"x-forwarded-host")
        .next()
        .unwrap_or(host.as_bytes());
    if !asked.is_empty() {
        fields::put(head, b"x-forwarded-host: ", asked);
    }

    if theirs(b"forwarded").next().is_some() {
        head.put_slice(b"forwarded: ");
        let start = head.len();
        for line in theirs(b"forwarded") {
            put_member(head, start, line);
        }
        put_member(head, start, b"");
        let _ = match client {
            Some(address) if address.is_v6() => write!(head, "for=\"[{}]\"", address.as_str()),
            Some(address) => write!(head, "for={}", address.as_str()),
            None => write!(head, "for=unknown"),
        };
        let _ = write!(head, ";proto={}", origin.scheme);
        if !host.is_empty() {
            let _ = write!(head, ";host=\"{host}\"");
        }
        head.put_slice(b"\r\n");
    }
    fields::put(head, b"x-request-id: ", origin.request_id.as_bytes());
    if let Some(certificate) = &origin.certificate {
        head.put_slice(certificate);
    }
}

/// Adds a member to the list that began at `start`.
fn put_member(head: &mut BytesMut, start: usize, member: &[u8]) {
    if head.len() > start {
        head.put_slice(b", ");
    }
    head.put_slice(member);
}
