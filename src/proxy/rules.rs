//! What HTTP asks of a proxy, as pure functions: which requests are refused, which head goes to the
//! worker, which fields come back (RFC 9110, 9112; threats T7–T9, T11).

use std::net::IpAddr;

use bytes::Bytes;
use http::{Method, StatusCode, request, response};

use crate::link::message::Front;

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
    pub request_id: String,
}

/// A request that passed [`check`], as it goes to a worker.
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

/// The id the client gave, if there is exactly one `X-Request-Id` of 1 to 128 visible characters.
#[must_use]
pub fn request_id(_request: &request::Parts) -> Option<&str> {
    None
}

/// Checks a request and makes the head for the worker.
///
/// # Errors
/// The rejection to answer with.
pub fn outgoing(
    _request: &request::Parts,
    _body: Framing,
    _origin: &Origin,
    _front: &Front,
) -> Result<Outgoing, Rejection> {
    Err(Rejection {
        status: StatusCode::NOT_IMPLEMENTED,
        why: "not built yet",
    })
}

/// Makes the head for the client from a worker's: hop-by-hop fields gone, `X-Request-Id` set, framing
/// left to the server. A 101 keeps `Connection: upgrade` and `Upgrade`.
///
/// # Errors
/// Why the answer cannot be passed on: the client gets 502 and the worker's connection is closed.
pub fn answer(
    _answer: response::Parts,
    _to: &Outgoing,
    _request_id: &str,
) -> Result<response::Parts, &'static str> {
    Err("not built yet")
}
