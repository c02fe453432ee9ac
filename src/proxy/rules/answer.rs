//! A worker's answer, checked, and the head that goes to the client for it.

use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;

use super::fields::{self, Named, has_token};
use super::request::Outgoing;
use super::{RequestId, decimal, put_set};
use crate::link::message::FieldEdits;
use crate::proxy::head::{AnswerHead, Fields};
use crate::proxy::websocket;

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
pub(in crate::proxy) fn informational(answer: &AnswerHead) -> BytesMut {
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

/// Whether a worker has agreed to an upgrade that its client asked for in another way, with a key of ours if it
/// is one of WebSocket, or refused it: one that has not read the key may be no WebSocket (RFC 6455 §4.1). A client
/// that made its key looks itself.
pub(in crate::proxy) fn agreed(answer: &AnswerHead, to: &Outgoing) -> Result<(), &'static str> {
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
