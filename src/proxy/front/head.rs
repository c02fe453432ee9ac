//! Parsing the head of a request, once and strictly: what has two readings is refused here (T9).
//!
//! A proxy before us, or a worker, may take a bare LF for a line's end, or one of a Content-Length and a
//! Transfer-Encoding for the other's superior. Nothing of the kind gets further.

use bytes::{Buf, Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Uri, Version};

use crate::link::message::Front;
use crate::proxy::h1::section_end;
use crate::proxy::head::{Fields, RequestHead, Unfit, is_token};
use crate::proxy::rules::{self, Framing, Rejection, reject};

const BLANK: &[u8] = b"\r\n";

/// A request's head, and what its fields say about the rest of the message and the connection.
#[derive(Debug)]
pub(in crate::proxy) struct Head {
    /// Boxed: it is large, and goes through many hands.
    pub(in crate::proxy) request: Box<RequestHead>,
    pub(in crate::proxy) framing: Framing,
    /// The client would send another request on this connection (RFC 9112 §9.3).
    pub(in crate::proxy) keep_alive: bool,
    /// It makes sense as an upgrade only: CONNECT with a protocol (RFC 8441).
    pub(in crate::proxy) must_upgrade: bool,
}

/// A head that is refused.
#[derive(Debug)]
pub(in crate::proxy) struct Refused {
    /// What to answer.
    pub(in crate::proxy) rejection: Rejection,
    /// Its first line as it came, or what came of it: for the log, which believes none of it.
    pub(in crate::proxy) line: Bytes,
}

/// An empty line before a head is no part of it (RFC 9112 §2.2).
pub(super) fn skip_empty_lines(came: &mut BytesMut, searched: &mut usize) {
    while came.starts_with(BLANK) {
        came.advance(BLANK.len());
        *searched = 0;
    }
}

/// Takes a head off the front of what came; `None` if it is not complete. `searched` is the caller's memory
/// between calls and starts at 0.
///
/// # Errors
/// What to answer, and to what.
pub(super) fn take(
    came: &mut BytesMut,
    searched: &mut usize,
    front: &Front,
) -> Result<Option<Head>, Refused> {
    let is_too_large = |length| length > front.max_head as usize;
    let (rejection, line) = match section_end(came, searched) {
        Some(end) if is_too_large(end) => (too_large(&came[..end], front), first_line(came)),
        Some(end) => {
            let mut fields = came.split_to(end);
            let first = first_line(&mut fields);
            match parse(&first, fields, front) {
                Ok(head) => return Ok(Some(head)),
                Err(rejection) => (rejection, first),
            }
        }
        None if is_too_large(came.len()) => (too_large(came, front), first_line(came)),
        None => return Ok(None),
    };
    Err(Refused { rejection, line })
}

/// Takes the first line with its end off the front, or all if it has none.
fn first_line(head: &mut BytesMut) -> Bytes {
    let end = memchr::memchr(b'\n', head).map_or(head.len(), |lf| lf + 1);
    head.split_to(end).freeze()
}

/// Parses a whole head: its first line, and what is behind it to its empty line.
///
/// # Errors
/// The rejection to answer with.
fn parse(first: &Bytes, fields: BytesMut, front: &Front) -> Result<Head, Rejection> {
    let bad = |why| Err(reject(StatusCode::BAD_REQUEST, why));
    let Some(line) = first.strip_suffix(b"\r\n") else {
        return bad("bare LF in a head");
    };
    let mut words = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return bad("malformed request line");
    };
    if method.is_empty() || !method.iter().all(|b| is_token(*b)) {
        return bad("malformed method");
    }
    // A fragment is not sent (RFC 9112 §3.2), and who reads it may see another target than who does not.
    let is_bad = |b: &u8| *b <= b' ' || matches!(*b, b'#' | 0x7f);
    if target.is_empty() || target.iter().any(is_bad) {
        return bad("malformed target");
    }
    if target.len() > front.max_target as usize {
        return Err(rules::long_target());
    }
    let version = version_of(version)?;
    let Ok(method) = Method::from_bytes(method) else {
        return bad("malformed method");
    };
    let uri = match target.first() {
        Some(b'/') => Uri::from_maybe_shared(first.slice_ref(target)).ok(),
        _ => uri_of(target, &method),
    };
    let Some(uri) = uri else {
        return bad("malformed target");
    };
    let most = usize::try_from(front.max_headers).unwrap_or(usize::MAX);
    let fields = match Fields::parse(fields, most) {
        Ok(fields) => fields,
        Err(Unfit::Malformed(why)) => return bad(why),
        Err(Unfit::TooMany) => return Err(rules::many_fields()),
    };
    let request = Box::new(RequestHead {
        method,
        by_connect: false,
        uri,
        version,
        fields,
    });
    Ok(Head {
        framing: rules::framing(&request)?,
        keep_alive: rules::keeps_alive(&request),
        must_upgrade: false,
        request,
    })
}

/// A target that does not begin with its path. An absolute one may have none: that is `/` for all but OPTIONS,
/// which so speaks of the server as a whole (RFC 9112 §3.2.1, §3.2.4). http's parser does not tell the two apart.
fn uri_of(target: &[u8], method: &Method) -> Option<Uri> {
    let uri = Uri::try_from(target).ok()?;
    let scheme = memchr::memmem::find(target, b"://");
    let (Some(scheme), Some(_)) = (scheme, uri.scheme()) else {
        return Some(uri);
    };
    let behind = target.iter().skip(scheme + 3);
    let mut parts = uri.into_parts();
    parts.path_and_query = match behind.copied().find(|byte| matches!(byte, b'/' | b'?')) {
        None if method == Method::OPTIONS => Some(PathAndQuery::from_static("*")),
        Some(b'?') => {
            let query = parts.path_and_query.as_ref().and_then(PathAndQuery::query);
            format!("/?{}", query.unwrap_or_default()).try_into().ok()
        }
        None | Some(_) => parts.path_and_query,
    };
    Uri::from_parts(parts).ok()
}

/// What to answer to a head of which already too much has come.
fn too_large(head: &[u8], front: &Front) -> Rejection {
    let first = head.iter().position(|b| *b == b'\n');
    // A method and a version are short: it is the target that is too long.
    match first.is_none_or(|end| end > front.max_target as usize + 64) {
        true => rules::long_target(),
        false => rules::long_head(),
    }
}

fn version_of(version: &[u8]) -> Result<Version, Rejection> {
    match version {
        b"HTTP/1.1" => Ok(Version::HTTP_11),
        b"HTTP/1.0" => Ok(Version::HTTP_10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(reject(
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                "version of HTTP",
            ))
        }
        _ => Err(reject(StatusCode::BAD_REQUEST, "malformed version")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(head: &str) -> Result<Framing, u16> {
        take(&mut BytesMut::from(head), &mut 0, &Front::default())
            .map(|head| head.expect("a whole one").framing)
            .map_err(|refused| refused.rejection.status.as_u16())
    }

    #[test]
    fn t9_only_one_reading_gets_through() {
        assert_eq!(
            status("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            Ok(Framing::Empty)
        );
        let with = |fields: &str| status(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(with("Content-Length: 5\r\n"), Ok(Framing::Length(5)));
        assert_eq!(with("content-length:\t5 \r\n"), Ok(Framing::Length(5)));
        assert_eq!(with("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: \r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Content-Length: 9223372036854775808\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: ,chunked\r\n",
            "Transfer-Encoding:\r\n",
            "X: a\nY: b\r\n",
            "X: a\rY: b\r\n",
            "X: \0\r\n",
            " folded\r\n",
            ": no name\r\n",
            "X : space\r\n",
        ] {
            assert_eq!(with(fields), Err(400), "{fields:?}");
        }
        assert_eq!(with("Transfer-Encoding: gzip, chunked\r\n"), Err(501));
        assert_eq!(status("GET  / HTTP/1.1\r\n\r\n"), Err(400));
        assert_eq!(status("GET / HTTP/1.1\n\n"), Err(400));
        assert_eq!(status("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"), Err(400));
        assert_eq!(status("PRI * HTTP/2.0\r\n\r\n"), Err(505));
    }
}
