//! Heads between HTTP/2 and what the rules know: fields of a request as lines, lines of an answer as fields.

use h2::ext::Protocol;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, SEC_WEBSOCKET_KEY, TRAILER, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, Version};

use crate::proxy::digits::Digits;
use crate::proxy::front::{Head, Refused};
use crate::proxy::head::{Fields, RequestHead};
use crate::proxy::rules::{self, Framing, RequestId, Returning, Written};

/// The field that every answer has.
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request's head. `ends` if no body follows; `id` makes one of 32 digits, most of them by chance.
///
/// # Errors
/// What to answer, and to what, told as HTTP/1.1 would.
pub(super) fn request(
    mut parts: Parts,
    ends: bool,
    id: impl FnOnce() -> RequestId,
) -> Result<Head, Refused> {
    let must_upgrade = becomes_upgrade(&mut parts, id);
    let ends = ends || must_upgrade;
    let refused = |method: &Method, uri: &Uri, rejection| {
        let line = format!("{method} {} HTTP/2.0", uri.path());
        Refused {
            rejection,
            line: line.into(),
        }
    };
    let Some(fields) = Fields::from_client(&parts.headers) else {
        let rejection = rules::reject(StatusCode::BAD_REQUEST, "malformed field value");
        return Err(refused(&parts.method, &parts.uri, rejection));
    };
    let request = Box::new(RequestHead {
        method: parts.method,
        by_connect: must_upgrade,
        uri: parts.uri,
        version: Version::HTTP_2,
        fields,
    });
    let framing = rules::framing(&request)
        .map_err(|rejection| refused(&request.method, &request.uri, rejection))?;
    let framing = match framing {
        // The frames delimit it.
        Framing::Empty if !ends => Framing::Chunked,
        framing => framing,
    };
    Ok(Head {
        request,
        framing,
        keep_alive: true,
        must_upgrade,
    })
}

/// CONNECT with a protocol asks for what HTTP/1.1 calls an upgrade (RFC 8441), and becomes one: the worker
/// gets a handshake with a key of ours.
fn becomes_upgrade(parts: &mut Parts, id: impl FnOnce() -> RequestId) -> bool {
    if parts.method != Method::CONNECT {
        return false;
    }
    let Some(protocol) = parts.extensions.get::<Protocol>() else {
        return false;
    };
    let Ok(protocol) = HeaderValue::from_str(protocol.as_str()) else {
        return false;
    };
    // Sixteen bytes in base64, of which hexadecimal digits are a part; the last ones of an id are by chance.
    let id = id();
    let digits = id.as_str().bytes().filter(u8::is_ascii_hexdigit);
    let key: Vec<u8> = digits.skip(11).chain(*b"A==").collect();
    let key = HeaderValue::from_bytes(&key);
    if protocol.as_bytes().eq_ignore_ascii_case(b"websocket")
        && let Ok(key) = key
    {
        parts.headers.insert(SEC_WEBSOCKET_KEY, key);
    }
    parts.method = Method::GET;
    parts.headers.insert(UPGRADE, protocol);
    parts
        .headers
        .insert(CONNECTION, HeaderValue::from_static("upgrade"));
    true
}

/// An answer's fields, as `h2` takes them.
#[derive(Debug)]
pub(super) struct Sent(HeaderMap);

impl Sent {
    /// None yet.
    pub(super) fn new() -> Self {
        Self(HeaderMap::new())
    }

    fn put(&mut self, name: HeaderName, value: &[u8]) {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            self.0.append(name, value);
        }
    }
}

impl Written for Sent {
    fn status(&mut self, _: StatusCode) {
        // It is no field.
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        // Fields of one connection of HTTP/1.1 mean nothing here (RFC 9113 §8.2.2), and the last is the
        // answer to a key that the client did not send.
        if matches!(name, b"connection" | b"upgrade" | b"sec-websocket-accept") {
            return;
        }
        if name != REQUEST_ID.as_str().as_bytes() {
            if let Ok(name) = HeaderName::from_bytes(name) {
                self.put(name, value);
            }
        } else if let Ok(mut value) = HeaderValue::from_bytes(value) {
            // One that is another each time would only drive the others out of the compressor's table.
            value.set_sensitive(true);
            self.0.append(&REQUEST_ID, value);
        }
    }

    fn fields(&mut self, all: &Fields, goes_on: impl Fn(&[u8]) -> bool) {
        // And the request's id. A map grows in large steps, and a large one costs more to make.
        self.0.reserve(all.count() + 1);
        for (name, value) in all.iter().filter(|(name, _)| goes_on(name)) {
            self.field(name, value);
        }
    }
}

/// An answer's head; `length` is that of its body, if it is known.
pub(super) fn response(
    returning: Returning<Sent>,
    length: Option<u64>,
    date: HeaderValue,
) -> Response<()> {
    let mut head = returning.head;
    if let Some(length) = length {
        head.put(CONTENT_LENGTH, Digits::of(length).text());
    }
    if let Some(names) = &returning.trailer {
        head.put(TRAILER, names);
    }
    if !returning.dated {
        head.0.append(DATE, date);
    }
    let mut response = Response::new(());
    *response.status_mut() = match returning.status {
        // What it says here (RFC 8441 §5).
        StatusCode::SWITCHING_PROTOCOLS => StatusCode::OK,
        status => status,
    };
    *response.version_mut() = Version::HTTP_2;
    *response.headers_mut() = head.0;
    response
}

/// Informational answers, each from its status line to its empty line.
pub(super) fn informational(heads: &[u8]) -> Vec<Response<()>> {
    let mut all = Vec::new();
    let mut rest = heads;
    while let Some(end) = memchr::memmem::find(rest, b"\r\n\r\n") {
        let (head, after) = rest.split_at(end + 4);
        rest = after;
        let status = head
            .get(9..12)
            .and_then(|code| StatusCode::from_bytes(code).ok());
        if let Some(status) = status {
            let mut sent = Sent::new();
            for line in head.split(|byte| *byte == b'\n').skip(1) {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                if let Some(colon) = memchr::memchr(b':', line) {
                    let value = line.get(colon + 2..).unwrap_or_default();
                    sent.field(&line[..colon], value);
                }
            }
            let mut response = Response::new(());
            *response.status_mut() = status;
            *response.headers_mut() = sent.0;
            all.push(response);
        }
    }
    all
}
