//! Parsing the head of an answer and deciding its framing, once.

use std::time::Duration;

use bytes::BytesMut;
use http::{Method, StatusCode, Version};

use super::super::h1::{Chunked, Decoder, section_end};
use super::super::head::{AnswerHead, Fields, Unfit, is_control};
use super::super::rules;

/// Longest head of an answer; as much as we take from clients.
const MAX_HEAD: usize = 64 << 10;
/// Most fields of an answer. Some set hundreds of cookies, and what the head may hold bounds them as well.
const MAX_FIELDS: usize = 1_024;

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) answer: AnswerHead,
    /// How its body is delimited.
    pub(super) body: Decoder,
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
    let mut section = buffer.split_to(end);
    let (version, status) = {
        let Some(lf) = memchr::memchr(b'\n', &section) else {
            return Err("no status line");
        };
        status_line(&section.split_to(lf + 1))?
    };
    let fields = Fields::parse(section, MAX_FIELDS).map_err(|unfit| match unfit {
        Unfit::Malformed(why) => why,
        Unfit::TooMany => "too many fields",
    })?;
    let framing = Framing::of(&fields)?;
    let answer = AnswerHead {
        status,
        version,
        fields,
    };
    framing.decide(answer, method).map(Some)
}

/// Version and status; the phrase behind them is nobody's (RFC 9112 §4).
fn status_line(line: &[u8]) -> Result<(Version, StatusCode), &'static str> {
    let line = line.strip_suffix(b"\r\n").ok_or("bare LF in a head")?;
    let (version, rest) = line.split_at_checked(9).ok_or("malformed status line")?;
    let version = match version {
        b"HTTP/1.1 " => Version::HTTP_11,
        b"HTTP/1.0 " => Version::HTTP_10,
        _ => return Err("no version of HTTP that we speak"),
    };
    let (code, phrase) = rest.split_at_checked(3).ok_or("malformed status line")?;
    let separated = phrase.is_empty() || phrase.starts_with(b" ");
    if !separated || phrase.iter().any(|b| is_control(*b)) {
        return Err("malformed status line");
    }
    let status = StatusCode::from_bytes(code).map_err(|_| "no such status")?;
    Ok((version, status))
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

impl Framing {
    fn of(fields: &Fields) -> Result<Self, &'static str> {
        let mut framing = Self::default();
        for (name, value) in fields.iter() {
            match name {
                b"content-length" => {
                    // As in requests: others may count with a sign.
                    let length = rules::decimal(value).filter(|n| i64::try_from(*n).is_ok());
                    let length = length.ok_or("malformed Content-Length")?;
                    if framing.length.is_some_and(|other| other != length) {
                        return Err("two Content-Lengths");
                    }
                    framing.length = Some(length);
                }
                b"transfer-encoding" => {
                    if framing.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                        return Err("Transfer-Encoding is not one `chunked`");
                    }
                    framing.chunked = true;
                }
                b"connection" => {
                    for token in rules::list(value) {
                        framing.close |= token.eq_ignore_ascii_case(b"close");
                        framing.keep |= token.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                b"keep-alive" => {
                    for parameter in rules::list(value) {
                        if let Some((b"timeout=", seconds)) = parameter.split_at_checked(8) {
                            framing.keep_for = rules::decimal(seconds).map(Duration::from_secs);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(framing)
    }

    fn decide(self, answer: AnswerHead, method: &Method) -> Result<Head, &'static str> {
        if self.chunked && self.length.is_some() {
            return Err("both Content-Length and Transfer-Encoding");
        }
        if self.chunked && answer.version == Version::HTTP_10 {
            return Err("Transfer-Encoding in HTTP/1.0");
        }
        let status = answer.status;
        let mut keep_alive = match answer.version {
            Version::HTTP_10 => self.keep && !self.close,
            _ => !self.close,
        };
        let never = status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::RESET_CONTENT;
        let body = if never {
            // Whoever announces a body here may also send one: nothing after it can be trusted.
            keep_alive &= !self.chunked && self.length.unwrap_or(0) == 0;
            // Of a 205 that says nothing, others read a body up to the connection's end (RFC 9112 §6.3).
            keep_alive &= status != StatusCode::RESET_CONTENT || self.length.is_some();
            Decoder::Empty
        } else if method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
            Decoder::Empty
        } else if self.chunked {
            Decoder::Chunked(Chunked::of_answer())
        } else if let Some(length) = self.length {
            match length {
                0 => Decoder::Empty,
                length => Decoder::Length(length),
            }
        } else {
            keep_alive = false;
            Decoder::Close
        };
        Ok(Head {
            answer,
            body,
            keep_alive,
            keep_for: self.keep_for,
        })
    }
}
