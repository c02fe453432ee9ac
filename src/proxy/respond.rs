//! The only place that maps errors to answers: what the client reads, apart from what the log says.

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;

use super::digits::Digits;
use super::grpc;
use super::rules::{Rejection, RequestId, Returning, Target, Written};
use crate::link::message::{Limit, Page, ProxyReason};

/// Seconds a client is told to wait after a 503: a crashed worker is back in less.
const RETRY_AFTER_SECONDS: &[u8] = b"1";

/// An answer that we made, and that tells of no error (RFC 9209 §2).
pub(super) const OURS: &[u8] = b"remuda";

/// Why a request gets an answer of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProxyError {
    /// The metric's label.
    pub(super) reason: ProxyReason,
    /// What the client reads.
    pub(super) status: StatusCode,
    /// For the log; never sent to the client.
    pub(super) why: &'static str,
    /// The limit that its client has reached.
    pub(super) limit: Option<Limit>,
}

impl ProxyError {
    /// The usual answer for a reason.
    pub(super) fn new(reason: ProxyReason, why: &'static str) -> Self {
        let status = match reason {
            // The client is gone: nobody reads it if it is.
            ProxyReason::BadRequest | ProxyReason::ClientGone => StatusCode::BAD_REQUEST,
            ProxyReason::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            ProxyReason::Connect
            | ProxyReason::Reset
            | ProxyReason::BadResponse
            | ProxyReason::Upgrade => StatusCode::BAD_GATEWAY,
            ProxyReason::ResponseTimeout | ProxyReason::DrainLimit => StatusCode::GATEWAY_TIMEOUT,
            ProxyReason::Unavailable | ProxyReason::QueueFull | ProxyReason::QueueTimeout => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ProxyReason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let limit = (reason == ProxyReason::RequestTimeout).then_some(Limit::BodyTime);
        Self {
            reason,
            status,
            why,
            limit,
        }
    }

    /// What we call the reason towards others (RFC 9209 §2.3).
    fn proxy_status(self) -> &'static str {
        match self.reason {
            ProxyReason::BadRequest if self.status == StatusCode::NOT_FOUND => {
                "remuda; error=destination_not_found"
            }
            ProxyReason::BadRequest | ProxyReason::RequestTimeout | ProxyReason::ClientGone => {
                "remuda; error=http_request_error"
            }
            ProxyReason::Connect => "remuda; error=connection_refused",
            ProxyReason::Reset => "remuda; error=connection_terminated",
            ProxyReason::BadResponse => "remuda; error=http_protocol_error",
            ProxyReason::Upgrade => "remuda; error=http_upgrade_failed",
            ProxyReason::ResponseTimeout => "remuda; error=http_response_timeout",
            ProxyReason::DrainLimit => "remuda; error=connection_timeout",
            ProxyReason::Unavailable => "remuda; error=destination_unavailable",
            ProxyReason::QueueFull | ProxyReason::QueueTimeout => {
                "remuda; error=connection_limit_reached"
            }
            ProxyReason::Internal => "remuda; error=proxy_internal_error",
        }
    }

    /// CONNECT with a protocol that the service does not take.
    pub(super) fn no_such_protocol() -> Self {
        Self {
            status: StatusCode::NOT_IMPLEMENTED,
            ..Self::new(ProxyReason::BadRequest, "no such protocol")
        }
    }

    /// Nobody serves this host and path.
    pub(super) fn no_service() -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            ..Self::new(ProxyReason::BadRequest, "no service for this host and path")
        }
    }

    /// The body is over `max_body`.
    pub(super) fn too_large() -> Self {
        Self {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            limit: Some(Limit::Body),
            ..Self::new(ProxyReason::BadRequest, "the body is over `max_body`")
        }
    }
}

impl From<Rejection> for ProxyError {
    fn from(rejection: Rejection) -> Self {
        Self {
            reason: ProxyReason::BadRequest,
            status: rejection.status,
            why: rejection.why,
            limit: rejection.limit,
        }
    }
}

/// The answer that sends a request to the same place by `https`, at this port.
pub(super) fn redirect<Head: Written>(
    target: Target<'_>,
    port: u16,
    request_id: &RequestId,
    into: Head,
) -> (Returning<Head>, Bytes) {
    let name = match target
        .host
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((address, _)) => format!("[{address}]"),
        None => target.host.split(':').next().unwrap_or_default().to_owned(),
    };
    let path = target.path;
    let location = match port {
        443 => format!("https://{name}{path}"),
        port => format!("https://{name}:{port}{path}"),
    };
    // Method and body stay as they are (RFC 9110 §15.4.9).
    let mut returning = Returning::new(StatusCode::PERMANENT_REDIRECT, into);
    returning.field("location", location.as_bytes());
    returning.field("x-request-id", request_id.as_bytes());
    returning.field("proxy-status", OURS);
    (returning, Bytes::new())
}

/// What a client reads whose head did not come to its end in time.
pub(super) fn too_slow(request_id: &RequestId) -> String {
    let error = ProxyError::new(ProxyReason::RequestTimeout, "the head took too long");
    let (status, id) = (error.proxy_status(), request_id.as_str());
    format!(
        "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\nx-request-id: {id}\r\n\
         proxy-status: {status}\r\n\r\n"
    )
}

/// A request's id as it may stand in a page of this kind. It may be one that a balancer took from its client, and
/// must become no markup and end no string.
fn quoted<'a>(id: &'a str, kind: &str) -> Cow<'a, str> {
    let quote: fn(char) -> Option<&'static str> = if kind.starts_with("text/plain") {
        |_| None
    } else if kind.contains("json") {
        |letter| match letter {
            '"' => Some("\\\""),
            '\\' => Some("\\\\"),
            _ => None,
        }
    } else {
        |letter| match letter {
            '&' => Some("&amp;"),
            '<' => Some("&lt;"),
            '>' => Some("&gt;"),
            '"' => Some("&quot;"),
            '\'' => Some("&#39;"),
            _ => None,
        }
    };
    if id.chars().all(|letter| quote(letter).is_none()) {
        return Cow::Borrowed(id);
    }
    let mut text = String::new();
    for letter in id.chars() {
        match quote(letter) {
            Some(instead) => text.push_str(instead),
            None => text.push(letter),
        }
    }
    Cow::Owned(text)
}

/// Who reads an answer of ours.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reader<'a> {
    /// A person, by these pages if there is one for the status.
    Person(&'a [Page]),
    /// A client of gRPC: it gets a head that ends its stream (`Trailers-Only`). Not all would try again behind any
    /// other (gRFC A6).
    Grpc,
}

impl Reader<'_> {
    /// The status that it gets for an error.
    pub(super) fn status(self, error: ProxyError) -> StatusCode {
        match self {
            Self::Person(_) => error.status,
            Self::Grpc => StatusCode::OK,
        }
    }
}

/// The answer to an error, its head written into `into`, and its body. `close` ends the connection after
/// it, which it must whenever the request's framing is in doubt or its body was not read to the end.
pub(super) fn answer<Head: Written>(
    error: ProxyError,
    request_id: &RequestId,
    close: bool,
    reader: Reader<'_>,
    into: Head,
) -> (Returning<Head>, Bytes) {
    let pages = match reader {
        Reader::Person(pages) => pages,
        Reader::Grpc => return call_ended(error, request_id, close, into),
    };
    let page = pages
        .iter()
        .find(|page| page.status == error.status.as_u16());
    let (kind, text) = match page {
        Some(page) => {
            let id = quoted(request_id.as_str(), &page.kind);
            (&*page.kind, page.text.replace("{request_id}", &id))
        }
        None => {
            let words = error.status.canonical_reason().unwrap_or("error");
            let (code, id) = (error.status.as_u16(), request_id.as_str());
            let text = format!("{code} {words}\nrequest {id}\n");
            ("text/plain; charset=utf-8", text)
        }
    };
    let mut returning = Returning::new(error.status, into);
    returning.field("content-type", kind.as_bytes());
    returning.field("x-request-id", request_id.as_bytes());
    returning.field("proxy-status", error.proxy_status().as_bytes());
    if error.status == StatusCode::SERVICE_UNAVAILABLE {
        returning.field("retry-after", RETRY_AFTER_SECONDS);
    }
    returning.closes = close;
    (returning, Bytes::from(text))
}

/// The same for a call of gRPC.
fn call_ended<Head: Written>(
    error: ProxyError,
    request_id: &RequestId,
    close: bool,
    into: Head,
) -> (Returning<Head>, Bytes) {
    let number = grpc::Status::of_http(error.status).0;
    let words = error.status.canonical_reason().unwrap_or("error");
    // Of visible characters only this one is encoded in it.
    let id = request_id.as_str().replace('%', "%25");
    let message = format!("{} {words}, request {id}", error.status.as_u16());
    let mut returning = Returning::new(StatusCode::OK, into);
    returning.field("content-type", b"application/grpc");
    returning.field(grpc::FIELD, Digits::of(number.into()).text());
    returning.field(grpc::MESSAGE, message.as_bytes());
    returning.field("x-request-id", request_id.as_bytes());
    returning.field("proxy-status", error.proxy_status().as_bytes());
    returning.closes = close;
    (returning, Bytes::new())
}
