//! What a line says that is known when a request begins. It is written out at once, as it will stand in
//! the line: the head is gone by the time the line is made, so that its buffer can serve the next reader.

use std::sync::Arc;

use http::Version;
use http::uri::Authority;

use super::format::Format;
use super::time::Stamp;
use crate::proxy::head::{RequestHead, is_token};

/// Longest value that is kept of one field. A longer one is an attack or a cookie in disguise, and a
/// line must have an end.
const LONGEST: usize = 4096;
/// Longest method that is kept of a line that is none of HTTP's; the longest registered one has 17 letters.
const LONGEST_METHOD: usize = 32;
/// Notes that grew beyond this are not kept for another request.
const SMALL: usize = 4096;
/// `00-`, 32 digits of the trace, `-`, 16 of the parent, `-`, 2 of the flags.
const TRACEPARENT: usize = 55;

/// The parts of a line between those that only its end tells, in their order.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Notes {
    pub(super) text: Vec<u8>,
    /// Where each part ends.
    ends: Vec<usize>,
    /// What they were made by: the line is, too, though another one is in use by then.
    format: Option<Arc<Format>>,
}

impl Notes {
    /// They are to be made by this format. Notes that serve one request after another are so already: all loops
    /// would write to its count otherwise.
    pub(super) fn adopt(&mut self, format: &Arc<Format>) {
        let same = |known: &Arc<Format>| Arc::ptr_eq(known, format);
        if !self.format.as_ref().is_some_and(same) {
            self.format = Some(Arc::clone(format));
        }
    }

    /// What they were made by.
    pub(super) fn format(&self) -> Option<&Format> {
        self.format.as_deref()
    }

    /// For another request.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    /// What was written since the last one is a part.
    pub(super) fn end_part(&mut self) {
        self.ends.push(self.text.len());
    }

    /// The parts.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let span = std::mem::replace(&mut start, *end)..*end;
            self.text.get(span).unwrap_or_default()
        })
    }

    /// Whether it is worth keeping.
    pub(super) fn is_small(&self) -> bool {
        self.text.capacity() <= SMALL
    }
}

/// What is known when a request begins. What there is not is empty.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) stamp: &'a Stamp,
    pub(super) request_id: &'a [u8],
    /// The client's address alone.
    pub(super) client: &'a [u8],
    pub(super) tls: &'static str,
    pub(super) service: &'a str,
    /// Empty if the head could not be read.
    pub(super) method: &'a str,
    pub(super) proto: &'static str,
    pub(super) host: &'a [u8],
    pub(super) path: &'a [u8],
    pub(super) query: &'a [u8],
    pub(super) user_agent: &'a [u8],
    pub(super) referer: &'a [u8],
    /// Digits, if any.
    pub(super) trace_id: &'a [u8],
}

impl<'a> Known<'a> {
    /// Adds what a head says. If the host it is for is not known yet, it is what its target or its field says.
    pub(super) fn read(&mut self, request: &'a RequestHead, query: bool) {
        let (mut host, mut trace, mut traces) = (&[][..], None, 0_u32);
        for (name, value) in request.fields.iter() {
            match name {
                b"host" => host = value,
                b"referer" => self.referer = short(value),
                b"user-agent" => self.user_agent = short(value),
                b"traceparent" => {
                    traces += 1;
                    trace = trace_id(value);
                }
                _ => {}
            }
        }
        if self.host.is_empty() {
            // Of a target that has one it counts, as by the rules (RFC 9112 §3.2.2, RFC 9113 §8.3.1).
            self.host = short(request.uri.authority().map_or(host, named));
        }
        // Two of them are none (W3C Trace Context §3.2.2.5).
        self.trace_id = trace.filter(|_| traces == 1).unwrap_or_default();
        self.path = short(request.uri.path().as_bytes());
        if query {
            self.query = short(request.uri.query().unwrap_or_default().as_bytes());
        }
        self.method = request.asked().as_str();
        self.proto = match request.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            _ => "HTTP/1.1",
        };
    }

    /// Adds what can be read of the first line of a head that was refused, up to where it is malformed.
    pub(super) fn read_line(&mut self, line: &'a [u8], query: bool) {
        let mut words = line.trim_ascii_end().split(|byte| *byte == b' ');
        let mut next = || words.next().unwrap_or_default();
        let (method, target, proto) = (next(), next(), next());
        let is_method = (1..=LONGEST_METHOD).contains(&method.len());
        let (true, Ok(method)) = (
            is_method && method.iter().all(|byte| is_token(*byte)),
            str::from_utf8(method),
        ) else {
            return;
        };
        // One word alone is anything, a greeting of another protocol for one.
        if !target.starts_with(b"/") {
            return;
        }
        self.method = method;
        let mut parts = target.splitn(2, |byte| matches!(byte, b'?' | b'#'));
        self.path = short(parts.next().unwrap_or_default());
        if query {
            self.query = short(parts.next().unwrap_or_default());
        }
        self.proto = match proto {
            b"HTTP/1.0" => "HTTP/1.0",
            b"HTTP/1.1" => "HTTP/1.1",
            b"HTTP/2.0" => "HTTP/2.0",
            _ => "",
        };
    }
}

/// Without user information, which may be a secret.
fn named(authority: &Authority) -> &[u8] {
    let text = authority.as_str();
    text.rsplit('@').next().unwrap_or(text).as_bytes()
}

fn short(value: &[u8]) -> &[u8] {
    value.get(..LONGEST).unwrap_or(value)
}

/// The trace id of a well-formed `traceparent` (W3C Trace Context §3.2.2).
fn trace_id(value: &[u8]) -> Option<&[u8]> {
    let (head, rest) = value.split_at_checked(TRACEPARENT)?;
    let [a, b, b'-', rest_of_head @ ..] = head else {
        return None;
    };
    let (trace, after) = rest_of_head.split_at_checked(32)?;
    let [b'-', parent @ .., b'-', c, d] = after else {
        return None;
    };
    let lower = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let ends = match (a, b) {
        (b'f', b'f') => false,
        (b'0', b'0') => rest.is_empty(),
        // A later version may add members.
        _ => rest.first().is_none_or(|byte| *byte == b'-'),
    };
    let digits = [a, b, c, d].into_iter().chain(trace).chain(parent);
    let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == b'0');
    let good = ends && digits.copied().all(|b| lower(&b)) && !zero(trace) && !zero(parent);
    good.then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_that_of_a_well_formed_traceparent() {
        const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let id = |text: &str| trace_id(text.as_bytes()).map(<[u8]>::to_vec);
        let expected = Some(b"0af7651916cd43dd8448eb211c80319c".to_vec());
        assert_eq!(id(GOOD), expected);
        assert_eq!(id(&GOOD.replacen("00", "cc", 1)), expected);
        assert_eq!(
            id(&format!("{}-more", GOOD.replacen("00", "cc", 1))),
            expected
        );
        for bad in [
            "",
            "00",
            &GOOD[1..],
            &GOOD[..54],
            &format!("{GOOD}-more"),
            &format!("{}x", GOOD.replacen("00", "cc", 1)),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replacen('a', "A", 1),
            &GOOD.replacen('a', "\"", 1),
            &GOOD.replacen('-', "_", 2),
            &GOOD.replacen("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32), 1),
            &GOOD.replacen("b7ad6b7169203331", &"0".repeat(16), 1),
        ] {
            assert_eq!(id(bad), None, "{bad}");
        }
    }
}
