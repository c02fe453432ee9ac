//! Why a request is refused, each reason in one place.

use http::StatusCode;

use crate::link::message::Limit;

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

/// The certificate that the client was shown is not for the host, and another one is.
pub(in crate::proxy) fn misdirected() -> Rejection {
    let why = "the host is another certificate's";
    reject(StatusCode::MISDIRECTED_REQUEST, why)
}

/// A TRACE that is out of hops: to send back what came could tell a script what it is not to know.
pub(in crate::proxy) fn nothing_to_trace() -> Rejection {
    let why = "TRACE is out of hops";
    reject(StatusCode::METHOD_NOT_ALLOWED, why)
}

/// It came where every request is sent to `https`, and no URL says it.
pub(in crate::proxy) fn no_url() -> Rejection {
    let why = "no URL to send it to";
    reject(StatusCode::BAD_REQUEST, why)
}

pub(in crate::proxy) fn reject(status: StatusCode, why: &'static str) -> Rejection {
    Rejection {
        status,
        why,
        limit: None,
    }
}

/// The target has too many bytes (RFC 9110 §15.5.15).
pub(in crate::proxy) fn long_target() -> Rejection {
    Rejection {
        limit: Some(Limit::Target),
        ..reject(StatusCode::URI_TOO_LONG, "target too long")
    }
}

/// The head has too many bytes (RFC 6585 §5).
pub(in crate::proxy) fn long_head() -> Rejection {
    Rejection {
        limit: Some(Limit::Head),
        ..reject(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "head too large",
        )
    }
}

/// The head has too many fields (RFC 6585 §5).
pub(in crate::proxy) fn many_fields() -> Rejection {
    Rejection {
        limit: Some(Limit::Headers),
        ..reject(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "too many fields",
        )
    }
}
