//! The bytes of a request's head, before anybody parses them: what has two readings is refused here.
//!
//! The server behind this takes a bare LF for a line's end and forgets a Content-Length next to a
//! Transfer-Encoding. A proxy before us, or a worker, may see it otherwise; so neither gets that far (T9).

use http::StatusCode;

use super::{Framing, Rejection, reject};
use crate::link::message::Front;

/// Checks a whole head, from its first line to its empty line, and says how its body is delimited.
///
/// # Errors
/// The rejection to answer with.
pub(crate) fn check(head: &[u8], front: &Front) -> Result<Framing, Rejection> {
    let bad = |why| Err(reject(StatusCode::BAD_REQUEST, why));
    if head.len() > front.max_head as usize {
        return Err(too_large(head, front));
    }
    let mut lines = Lines(head);
    let Some(first) = lines.next() else {
        return bad("no request line");
    };
    let old = request_line(first?, front)?;
    let (mut fields, mut found) = (0, Found::default());
    for line in lines {
        let line = line?;
        if line.is_empty() {
            return found.framing(old);
        }
        fields += 1;
        if fields > front.max_headers {
            return Err(reject(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "too many fields",
            ));
        }
        let name = line.iter().take_while(|b| is_token(**b)).count();
        if name == 0 || line.get(name) != Some(&b':') {
            return bad("malformed field name");
        }
        let value = &line[name + 1..];
        if value.iter().fold(false, |bad, b| bad | is_control(*b)) {
            return bad("byte in a field value");
        }
        found.field(&line[..name], value.trim_ascii())?;
    }
    bad("head without an end")
}

/// What to answer to a head of which already too much has come.
pub(crate) fn too_large(head: &[u8], front: &Front) -> Rejection {
    let first = head.iter().position(|b| *b == b'\n');
    // A method and a version are short: it is the target that is too long.
    match first.is_none_or(|end| end > front.max_target as usize + 64) {
        true => reject(StatusCode::URI_TOO_LONG, "target too long"),
        false => reject(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "head too large",
        ),
    }
}

/// Lines, each of which ends in CRLF.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], Rejection>;

    fn next(&mut self) -> Option<Self::Item> {
        let lf = self.0.iter().position(|b| *b == b'\n')?;
        let (line, rest) = self.0.split_at(lf + 1);
        self.0 = rest;
        Some(match line {
            [line @ .., b'\r', b'\n'] => Ok(line),
            _ => Err(reject(StatusCode::BAD_REQUEST, "bare LF in a head")),
        })
    }
}

/// Method, target and version with one space between; true for HTTP/1.0.
fn request_line(line: &[u8], front: &Front) -> Result<bool, Rejection> {
    let bad = |why| Err(reject(StatusCode::BAD_REQUEST, why));
    let mut words = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return bad("malformed request line");
    };
    if method.is_empty() || !method.iter().all(|b| is_token(*b)) {
        return bad("malformed method");
    }
    if target.is_empty() || target.iter().any(|b| *b <= b' ' || *b == 0x7f) {
        return bad("malformed target");
    }
    if target.len() > front.max_target as usize {
        return Err(reject(StatusCode::URI_TOO_LONG, "target too long"));
    }
    match version {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(reject(
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                "version of HTTP",
            ))
        }
        _ => bad("malformed version"),
    }
}

/// What the fields say about the body.
#[derive(Default)]
struct Found {
    length: Option<u64>,
    /// `Transfer-Encoding` lines.
    codings: u32,
    /// A coding other than `chunked`.
    other: bool,
    /// One line that is exactly `chunked`.
    chunked: bool,
}

impl Found {
    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Rejection> {
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = super::decimal(value);
            match (length, self.length) {
                (None, _) => {
                    return Err(reject(StatusCode::BAD_REQUEST, "malformed Content-Length"));
                }
                (Some(length), Some(other)) if length != other => {
                    return Err(reject(StatusCode::BAD_REQUEST, "two Content-Lengths"));
                }
                (length, _) => self.length = length,
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.codings += 1;
            self.chunked = value.eq_ignore_ascii_case(b"chunked");
            self.other |= super::list(value).any(|c| !c.eq_ignore_ascii_case(b"chunked"));
        }
        Ok(())
    }

    fn framing(self, old: bool) -> Result<Framing, Rejection> {
        let bad = |why| Err(reject(StatusCode::BAD_REQUEST, why));
        match self.length {
            _ if self.codings > 0 && old => bad("Transfer-Encoding in HTTP/1.0"),
            Some(_) if self.codings > 0 => bad("both Content-Length and Transfer-Encoding"),
            _ if self.other => Err(reject(StatusCode::NOT_IMPLEMENTED, "transfer coding")),
            None if self.codings == 1 && self.chunked => Ok(Framing::Chunked),
            _ if self.codings > 0 => bad("Transfer-Encoding is not one `chunked`"),
            None => Ok(Framing::Empty),
            Some(length) => Ok(Framing::Length(length)),
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(head: &str) -> Result<Framing, u16> {
        check(head.as_bytes(), &Front::default()).map_err(|rejection| rejection.status.as_u16())
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
        assert_eq!(status("PRI * HTTP/2.0\r\n\r\n"), Err(505));
    }
}
