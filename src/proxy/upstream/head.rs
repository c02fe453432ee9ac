//! Parsing the head of an answer and deciding its framing, once.

use std::mem::MaybeUninit;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap};
use http::{Method, StatusCode, Version, response};

use super::super::h1::{Chunked, Decoder, check_lines, convert, section_end};
use super::super::rules;

/// Longest head of an answer; as much as we take from clients.
const MAX_HEAD: usize = 64 << 10;
/// Most fields of an answer. Some set dozens of cookies; the front's limit for requests is 100.
const MAX_FIELDS: usize = 128;

/// How an answer's body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delimited {
    /// There is none.
    Empty,
    Length(u64),
    Chunked,
    /// By the connection's end.
    Close,
}

impl From<Delimited> for Decoder {
    fn from(delimited: Delimited) -> Self {
        match delimited {
            Delimited::Empty => Self::Empty,
            Delimited::Length(length) => Self::Length(length),
            Delimited::Chunked => Self::Chunked(Chunked::new()),
            Delimited::Close => Self::Close,
        }
    }
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) parts: response::Parts,
    pub(super) body: Delimited,
    /// The worker keeps the connection open afterwards.
    pub(super) keep_alive: bool,
    /// For so long, if it said.
    pub(super) keep_for: Option<Duration>,
}

/// Takes the head of an answer off the front of `buffer`; `None` if it is not complete. `searched` is
/// the caller's memory between calls and starts at 0.
pub(super) fn parse(
    buffer: &mut BytesMut,
    searched: &mut usize,
    method: &Method,
) -> Result<Option<Head>, &'static str> {
    const START: &[u8] = b"HTTP/1.";
    let start = buffer.len().min(START.len());
    if buffer[..start] != START[..start] {
        return Err("no status line");
    }
    let Some(end) = section_end(buffer, searched) else {
        return match buffer.len() {
            ..=MAX_HEAD => Ok(None),
            _ => Err("too long a head"),
        };
    };
    if end > MAX_HEAD {
        return Err("too long a head");
    }
    let section = buffer.split_to(end).freeze();
    check_lines(&section)?;

    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut raw = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut raw,
        &section,
        &mut fields,
    );
    match parsed {
        Ok(httparse::Status::Complete(n)) if n == end => {}
        Ok(_) => return Err("the head ends twice"),
        Err(httparse::Error::TooManyHeaders) => return Err("too many fields"),
        Err(_) => return Err("malformed head"),
    }
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.version = match raw.version {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    parts.status = raw
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or("no such status")?;
    parts.headers = HeaderMap::with_capacity(raw.headers.len() + 2);
    let framing = take_fields(&section, raw.headers, &mut parts.headers)?;
    framing.decide(parts, method).map(Some)
}

/// What the fields say about framing and the connection.
#[derive(Debug, Default)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep: bool,
    keep_for: Option<Duration>,
}

fn take_fields(
    section: &Bytes,
    raw: &[httparse::Header<'_>],
    into: &mut HeaderMap,
) -> Result<Framing, &'static str> {
    let mut framing = Framing::default();
    for field in raw {
        let (name, value) = convert(section, field)?;
        if name == header::CONTENT_LENGTH {
            let length = rules::decimal(value.as_bytes()).ok_or("malformed Content-Length")?;
            match framing.length {
                Some(other) if other != length => return Err("two Content-Lengths"),
                Some(_) => continue,
                None => framing.length = Some(length),
            }
        } else if name == header::TRANSFER_ENCODING {
            if framing.chunked || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err("Transfer-Encoding is not one `chunked`");
            }
            framing.chunked = true;
        } else if name == header::CONNECTION {
            for token in rules::list(value.as_bytes()) {
                framing.close |= token.eq_ignore_ascii_case(b"close");
                framing.keep |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if name.as_str() == "keep-alive" {
            for parameter in rules::list(value.as_bytes()) {
                if let Some((b"timeout=", seconds)) = parameter.split_at_checked(8) {
                    framing.keep_for = rules::decimal(seconds).map(Duration::from_secs);
                }
            }
        }
        if into.try_append(name, value).is_err() {
            return Err("too many fields");
        }
    }
    Ok(framing)
}

impl Framing {
    fn decide(self, parts: response::Parts, method: &Method) -> Result<Head, &'static str> {
        if self.chunked && self.length.is_some() {
            return Err("both Content-Length and Transfer-Encoding");
        }
        if self.chunked && parts.version == Version::HTTP_10 {
            return Err("Transfer-Encoding in HTTP/1.0");
        }
        let status = parts.status;
        let mut keep_alive = match parts.version {
            Version::HTTP_10 => self.keep && !self.close,
            _ => !self.close,
        };
        let never = status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::RESET_CONTENT;
        let body = if never {
            // Whoever announces a body here may also send one: nothing after it can be trusted.
            keep_alive &= !self.chunked && self.length.unwrap_or(0) == 0;
            Delimited::Empty
        } else if method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
            Delimited::Empty
        } else if self.chunked {
            Delimited::Chunked
        } else if let Some(length) = self.length {
            match length {
                0 => Delimited::Empty,
                length => Delimited::Length(length),
            }
        } else {
            keep_alive = false;
            Delimited::Close
        };
        Ok(Head {
            parts,
            body,
            keep_alive,
            keep_for: self.keep_for,
        })
    }
}
