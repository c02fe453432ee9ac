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
mod forwarded;
mod hops;
mod request_id;
mod target;

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Method, StatusCode, Version};

use super::digits::{Address, Digits};
use super::head::{AnswerHead, Fields, RequestHead};
use super::websocket;
use crate::link::message::{Edits, FieldEdits, Front, Limit};
use fields::{Named, has_token};
pub(crate) use fields::{allowed_trailers, is_ours, last_chunk, list, trailer_allowed};
pub(super) use fields::{put as put_field, write as write_field};
pub(super) use forwarded::client as forwarded_client;
pub(super) use hops::{Hops, hop};
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

/// Why a request is refused before anybody sees it; the connection is closed after the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// 400, 405, 413, 414, 417, 421, 431 or 501.
    pub status: StatusCode,
    /// For the log; never sent to the client.
    pub why: &'static str,
    /// The limit that it is over.
    pub limit: Option<Limit>,
}

/// What is known of the client's side of a request.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The peer; `None` for a unix socket.
    pub client: Option<Address>,
    /// Its forwarding headers and request id are believed.
    pub trusted: bool,
    /// `http` or `https`, as the client reached us.
    pub scheme: &'static str,
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

/// The certificate that the client was shown is not for the host, and another one is.
pub(super) fn misdirected() -> Rejection {
    let why = "the host is another certificate's";
    reject(StatusCode::MISDIRECTED_REQUEST, why)
}

/// A TRACE that is out of hops: to send back what came could tell a script what it is not to know.
pub(super) fn nothing_to_trace() -> Rejection {
    let why = "TRACE is out of hops";
    reject(StatusCode::METHOD_NOT_ALLOWED, why)
}

/// It came where every request is sent to `https`, and no URL says it.
pub(super) fn no_url() -> Rejection {
    let why = "no URL to send it to";
    reject(StatusCode::BAD_REQUEST, why)
}

pub(super) fn reject(status: StatusCode, why: &'static str) -> Rejection {
    Rejection {
        status,
        why,
        limit: None,
    }
}

/// The target has too many bytes (RFC 9110 §15.5.15).
pub(super) fn long_target() -> Rejection {
    Rejection {
        limit: Some(Limit::Target),
        ..reject(StatusCode::URI_TOO_LONG, "target too long")
    }
}

/// The head has too many bytes (RFC 6585 §5).
pub(super) fn long_head() -> Rejection {
    Rejection {
        limit: Some(Limit::Head),
        ..reject(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "head too large",
        )
    }
}

/// The head has too many fields (RFC 6585 §5).
pub(super) fn many_fields() -> Rejection {
    Rejection {
        limit: Some(Limit::Headers),
        ..reject(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "too many fields",
        )
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

/// The fields that the service writes.
fn put_set(head: &mut impl Written, edits: &FieldEdits) {
    for (name, value) in &edits.set {
        head.field(name.as_bytes(), value.as_bytes());
    }
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

/// An answer's head as it is written for its client: each version of HTTP has its own form of it.
pub trait Written {
    /// The status, before any field.
    fn status(&mut self, status: StatusCode);

    /// A field, its name in lower case, its value without a byte that could end it early.
    fn field(&mut self, name: &[u8], value: &[u8]);

    /// Those of a worker's fields that go on, by name.
    fn fields(&mut self, all: &Fields, goes_on: impl Fn(&[u8]) -> bool) {
        for (name, value) in all.iter() {
            if goes_on(name) {
                self.field(name, value);
            }
        }
    }
}

/// Lines of HTTP/1.1, without the empty one.
impl Written for BytesMut {
    fn status(&mut self, status: StatusCode) {
        self.put_slice(b"HTTP/1.1 ");
        self.put_slice(status.as_str().as_bytes());
        self.put_u8(b' ');
        self.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        self.put_slice(b"\r\n");
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        fields::write(self, name, value);
    }

    fn fields(&mut self, all: &Fields, goes_on: impl Fn(&[u8]) -> bool) {
        fields::write_all(self, all, goes_on);
    }
}

/// An answer that passed the rules, as it goes to the client; its framing is the server's to add.
#[derive(Debug)]
pub struct Returning<Head = BytesMut> {
    /// Its status.
    pub status: StatusCode,
    /// Status and end-to-end fields, canonical; never a byte of the worker's head.
    pub head: Head,
    /// Content-Length as the worker said it: of a body that is not there (HEAD, 304) it is passed on.
    pub length: Option<u64>,
    /// The value of `Trailer`, for an answer that has trailers.
    pub trailer: Option<Bytes>,
    /// It has a `Date`.
    pub dated: bool,
    /// No request may follow on the client's connection.
    pub closes: bool,
}

impl<Head: Written> Returning<Head> {
    /// An answer that has no field yet; its head is written into `head`, which is empty.
    #[must_use]
    pub fn new(status: StatusCode, mut head: Head) -> Self {
        head.status(status);
        Self {
            status,
            head,
            length: None,
            trailer: None,
            dated: false,
            closes: false,
        }
    }

    /// Adds a field. A value that could end its line early is left out.
    pub fn field(&mut self, name: &str, value: &[u8]) {
        if fields::is_clean(value) {
            self.head.field(name.as_bytes(), value);
        }
    }
}

/// Makes the head for the client from a worker's, in `into`: hop-by-hop fields gone, `X-Request-Id` set,
/// framing left to the server. A 101 and a 426 keep `Connection: upgrade` and `Upgrade`.
///
/// # Errors
/// Why the answer cannot be passed on: the client gets 502 and the worker's connection is closed.
pub fn answer<Head: Written>(
    answer: &AnswerHead,
    to: &Outgoing,
    request_id: &RequestId,
    edits: &FieldEdits,
    into: Head,
) -> Result<Returning<Head>, &'static str> {
    let fields = &answer.fields;
    let switching = answer.status == StatusCode::SWITCHING_PROTOCOLS;
    let protocol = match (switching, to.upgrade.as_deref()) {
        (true, Some(asked)) => Some(switches_to(fields, asked)?),
        (true, None) => return Err("101 without an upgrade asked"),
        (false, _) => None,
    };
    let length = fields.all(b"content-length").next();
    if length.is_some() && fields.has(b"transfer-encoding") {
        return Err("both Content-Length and Transfer-Encoding");
    }
    let mut returning = Returning::new(answer.status, into);
    let head = &mut returning.head;
    put_returned(head, fields, edits);
    put_set(head, edits);
    if let Some(protocol) = protocol {
        head.field(b"connection", b"upgrade");
        head.field(b"upgrade", protocol);
    }
    if answer.status == StatusCode::UPGRADE_REQUIRED {
        put_wanted(head, fields);
    }
    head.field(b"x-request-id", request_id.as_bytes());
    returning.dated = fields.has(b"date");
    returning.length = length.and_then(decimal);
    returning.trailer = fields::trailer_names(fields);
    Ok(returning)
}

/// The protocols that a worker wants the client to upgrade to, which a 426 must say (RFC 9110 §15.5.22).
fn put_wanted(head: &mut impl Written, fields: &Fields) {
    if fields.has(b"upgrade") {
        head.field(b"connection", b"upgrade");
    }
    for protocols in fields.all(b"upgrade") {
        head.field(b"upgrade", protocols);
    }
}

/// The whole head of an informational answer (103 and others), as a client gets it.
pub(super) fn informational(answer: &AnswerHead) -> BytesMut {
    let mut head = Returning::new(answer.status, BytesMut::new()).head;
    put_returned(&mut head, &answer.fields, &FieldEdits::default());
    head.extend_from_slice(b"\r\n");
    head
}

/// The worker's fields that are for the client.
fn put_returned(head: &mut impl Written, all: &Fields, edits: &FieldEdits) {
    let named = Named::of(all);
    head.fields(all, |name| {
        let written_by_us = matches!(name, b"content-length" | b"x-request-id");
        !written_by_us && !named.strips(name) && !edits.touches(name)
    });
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

/// Whether a worker has agreed to an upgrade that its client asked for in another way, with a key of ours if it
/// is one of WebSocket, or refused it: one that has not read the key may be no WebSocket (RFC 6455 §4.1). A client
/// that made its key looks itself.
pub(super) fn agreed(answer: &AnswerHead, to: &Outgoing) -> Result<(), &'static str> {
    const LABEL: &[u8] = b"\r\nsec-websocket-key: ";
    if answer.status.is_success() {
        return Err("no 101 to an upgrade");
    }
    let switches = answer.status == StatusCode::SWITCHING_PROTOCOLS;
    if !switches || to.upgrade.as_deref() != Some("websocket") {
        return Ok(());
    }
    let Some(at) = memchr::memmem::find(&to.head, LABEL) else {
        return Ok(());
    };
    let mut key = to.head[at + LABEL.len()..].split(|byte| *byte == b'\r');
    let expected = websocket::accept(key.next().unwrap_or_default());
    match answer.fields.only(b"sec-websocket-accept") {
        Some(said) if *said == *expected => Ok(()),
        Some(_) | None => Err("101 without the answer to our key"),
    }
}

/// A 101 that switches to the protocol asked for, and to nothing else; its name as the worker writes it.
pub(crate) fn switches_to<'a>(fields: &'a Fields, asked: &str) -> Result<&'a [u8], &'static str> {
    let protocol = fields.only(b"upgrade").ok_or("101 without one Upgrade")?;
    if !protocol.eq_ignore_ascii_case(asked.as_bytes()) {
        return Err("101 to another protocol");
    }
    match has_token(fields, b"connection", b"upgrade") {
        true => Ok(protocol),
        false => Err("101 without `Connection: upgrade`"),
    }
}
