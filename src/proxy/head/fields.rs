//! The fields of a head: slices of its text.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use super::octets::{TOKEN, is_control, next_control};

/// Room for so many fields without growing; browsers send a dozen.
const USUAL: usize = 16;

/// The fields of a head, in the order they came: slices of its text, names in lower case.
///
/// A map would be dearer to make than all look-ups in it together save: a head is read once, passed on
/// once, and asked for a handful of names, most of which are not there; that the filter tells.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    text: Bytes,
    lines: Vec<Line>,
    filter: Filter,
}

/// Names that may be there: one bit each of 64, so that a name whose bit is missing is not there.
#[derive(Debug, Clone, Copy, Default)]
struct Filter(u64);

impl Filter {
    /// A name's bit, of its length and its ends.
    fn bit(name: &[u8]) -> u64 {
        let (Some(first), Some(last)) = (name.first(), name.last()) else {
            return 0;
        };
        let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        let mixed = first.wrapping_mul(7) ^ last.wrapping_mul(13) ^ length.wrapping_mul(3);
        1 << (mixed % 64)
    }

    fn note(&mut self, name: &[u8]) {
        self.0 |= Self::bit(name);
    }

    fn may_have(self, name: &[u8]) -> bool {
        self.0 & Self::bit(name) != 0
    }
}

/// Where in the text a field's name and value are.
#[derive(Debug, Clone, Copy)]
struct Line {
    name: Span,
    value: Span,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// A head is far below 4 GiB; of one that is not, nothing is read.
    fn new(start: usize, end: usize) -> Option<Self> {
        Some(Self {
            start: u32::try_from(start).ok()?,
            end: u32::try_from(end).ok()?,
        })
    }

    fn of(self, text: &[u8]) -> &[u8] {
        text.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// Why lines are no fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Unfit {
    /// They break RFC 9112 §5.
    Malformed(&'static str),
    /// There are more than may be.
    TooMany,
}

/// What a value is that begins or ends with white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Padded {
    Malformed,
    Trimmed,
}

impl Fields {
    /// Reads the lines behind a head's first one to its empty line, which must be the end of `section`.
    /// Every line ends in CRLF; nothing else is mended either (T9).
    pub(in crate::proxy) fn parse(mut section: BytesMut, most: usize) -> Result<Self, Unfit> {
        let bad = |why| Err(Unfit::Malformed(why));
        let (mut at, mut seen) = (0, 0);
        let mut lines = Vec::with_capacity(USUAL);
        let mut filter = Filter::default();
        loop {
            let Some(found) = next_control(&section, seen) else {
                return bad("head without an end");
            };
            match section.get(found..).unwrap_or_default() {
                // White space in a value; a name is looked at below.
                [b'\t', ..] => {
                    seen = found + 1;
                    continue;
                }
                [b'\r', b'\n', ..] => seen = found + 2,
                [b'\r', ..] => return bad("bare CR in a head"),
                [b'\n', ..] => return bad("bare LF in a head"),
                _ => return bad("byte in a field value"),
            }
            let line = section.get_mut(at..found).unwrap_or_default();
            if line.is_empty() {
                if seen != section.len() {
                    return bad("the head ends twice");
                }
                break;
            }
            if lines.len() == most {
                return Err(Unfit::TooMany);
            }
            let mut name = 0;
            while let Some(byte) = line.get_mut(name) {
                match TOKEN[usize::from(*byte)] {
                    0 => break,
                    lower => *byte = lower,
                }
                name += 1;
            }
            if name == 0 || line.get(name) != Some(&b':') {
                return bad("malformed field name");
            }
            filter.note(&line[..name]);
            let value = &line[name + 1..];
            let blank = |b: &u8| matches!(b, b' ' | b'\t');
            let before = value.iter().take_while(|b| blank(b)).count();
            let after = value[before..]
                .iter()
                .rev()
                .take_while(|b| blank(b))
                .count();
            let (start, end) = (at + name + 1 + before, found - after);
            let (Some(name), Some(value)) = (Span::new(at, at + name), Span::new(start, end))
            else {
                return Err(Unfit::TooMany);
            };
            lines.push(Line { name, value });
            at = seen;
        }
        Ok(Self {
            text: section.freeze(),
            lines,
            filter,
        })
    }

    /// Fields that a client of HTTP/2 sent; `None` if one is malformed: white space at an end of a value is
    /// nothing that a worker of HTTP/1.1 would see (RFC 9113 §8.2.1). Crumbs of a cookie become one line
    /// (§8.2.3).
    pub(in crate::proxy) fn from_client(map: &HeaderMap) -> Option<Self> {
        Self::from_map(map, Padded::Malformed)
    }

    /// Fields that a worker of HTTP/2 sent; `None` if a byte is in one that may not be.
    pub(in crate::proxy) fn from_worker(map: &HeaderMap) -> Option<Self> {
        Self::from_map(map, Padded::Trimmed)
    }

    fn from_map(map: &HeaderMap, padded: Padded) -> Option<Self> {
        let mut text = BytesMut::with_capacity(USUAL * 32);
        let mut lines = Vec::with_capacity(map.len());
        let mut filter = Filter::default();
        // Those of one name come in a row.
        let mut fields = map.iter().peekable();
        while let Some((name, value)) = fields.next() {
            let start = text.len();
            text.extend_from_slice(name.as_str().as_bytes());
            let end = text.len();
            filter.note(&text[start..]);
            text.extend_from_slice(b": ");
            let middle = text.len();
            text.extend_from_slice(value.as_bytes());
            while *name == COOKIE
                && let Some((_, crumb)) = fields.next_if(|(name, _)| **name == COOKIE)
            {
                if padded == Padded::Malformed && (is_padded(value) || is_padded(crumb)) {
                    return None;
                }
                text.extend_from_slice(b"; ");
                text.extend_from_slice(crumb.as_bytes());
            }
            if text[middle..].iter().any(|byte| is_control(*byte)) {
                return None;
            }
            let value = text[middle..].trim_ascii();
            if padded == Padded::Malformed && value.len() < text.len() - middle {
                return None;
            }
            let before = text.len() - middle - text[middle..].trim_ascii_start().len();
            let from = middle + before;
            let (name, value) = (Span::new(start, end)?, Span::new(from, from + value.len())?);
            text.extend_from_slice(b"\r\n");
            lines.push(Line { name, value });
        }
        Some(Self {
            text: text.freeze(),
            lines,
            filter,
        })
    }

    /// The same with another value for a field; the caller has seen to it that it is clean.
    pub(in crate::proxy) fn with(&self, name: &[u8], value: &[u8]) -> Self {
        let mut changed = Self {
            filter: self.filter,
            ..Self::default()
        };
        let mut text = BytesMut::with_capacity(self.text.len() + value.len());
        for (known, old) in self.iter() {
            let start = text.len();
            text.extend_from_slice(known);
            let end = text.len();
            text.extend_from_slice(b": ");
            let from = text.len();
            text.extend_from_slice(if known == name { value } else { old });
            // A head that was read is far shorter than what a span can say.
            if let (Some(name), Some(value)) = (Span::new(start, end), Span::new(from, text.len()))
            {
                changed.lines.push(Line { name, value });
            }
            text.extend_from_slice(b"\r\n");
        }
        changed.text = text.freeze();
        changed
    }

    /// All fields: name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let text = &self.text[..];
        let one = move |line: &Line| (line.name.of(text), line.value.of(text));
        self.lines.iter().map(one)
    }

    /// All fields: name, value, and where in [`Self::text`] the whole line is, if it came as we would write
    /// it ourselves.
    pub(in crate::proxy) fn lines(
        &self,
    ) -> impl Iterator<Item = (&[u8], &[u8], Option<Range<usize>>)> {
        let text = &self.text[..];
        let one = move |line: &Line| {
            let (start, end) = (line.name.start as usize, line.value.end as usize);
            let colon = line.name.end as usize..line.value.start as usize;
            let same = text.get(colon) == Some(b": ") && text.get(end..end + 2) == Some(b"\r\n");
            let whole = same.then_some(start..end + 2);
            (line.name.of(text), line.value.of(text), whole)
        };
        self.lines.iter().map(one)
    }

    /// A part of what [`Self::lines`] speaks of.
    pub(in crate::proxy) fn text(&self, part: Range<usize>) -> &[u8] {
        self.text.get(part).unwrap_or_default()
    }

    /// The values of a field; the name in lower case.
    pub fn all<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let text = &self.text[..];
        let lines = match self.filter.may_have(name) {
            true => &self.lines[..],
            false => &[],
        };
        let named = move |line: &Line| (line.name.of(text) == name).then(|| line.value.of(text));
        lines.iter().filter_map(named)
    }

    /// Whether there is such a field.
    #[must_use]
    pub fn has(&self, name: &[u8]) -> bool {
        self.all(name).next().is_some()
    }

    /// The field's only value, if there is exactly one.
    #[must_use]
    pub fn only<'a>(&'a self, name: &'a [u8]) -> Option<&'a [u8]> {
        let mut values = self.all(name);
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lines.len()
    }

    /// Bytes of names and values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.iter()
            .map(|(name, value)| name.len() + value.len())
            .sum()
    }
}

#[cfg(test)]
impl Fields {
    /// From names and values.
    pub(in crate::proxy) fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut text = BytesMut::new();
        for (name, value) in pairs {
            text.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        text.extend_from_slice(b"\r\n");
        Self::parse(text, usize::MAX).expect("good fields")
    }
}

/// Whether a value begins or ends with white space.
pub(in crate::proxy) fn is_padded(value: &HeaderValue) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let value = value.as_bytes();
    blank(value.first()) || blank(value.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t9_lines_are_fields_or_nothing() {
        let parse = |text: &str| Fields::parse(BytesMut::from(text), 3);
        let good = parse("Host:a\r\nX-A: \t b c\t \r\nx-a:\r\n\r\n").expect("good");
        let shown: Vec<_> = good.iter().collect();
        let (a, b): (&[u8], &[u8]) = (b"b c", b"");
        assert_eq!(shown, [(&b"host"[..], &b"a"[..]), (b"x-a", a), (b"x-a", b)]);
        assert_eq!(good.only(b"host"), Some(&b"a"[..]));
        assert_eq!(good.only(b"x-a"), None);
        for bad in [
            "",
            "a: b\r\n",
            "a: b\n\r\n",
            "a: b\r\n\n",
            "a: b\rc: d\r\n\r\n",
            "a: b\r\n\r\n\r\n",
            "a : b\r\n\r\n",
            ": b\r\n\r\n",
            "a\r\n\r\n",
            " a: b\r\n\r\n",
            "a: b\r\n c\r\n\r\n",
            "a: \0\r\n\r\n",
            "a: \x0c\r\n\r\n",
            "a: \x7f\r\n\r\n",
            "\u{e9}: b\r\n\r\n",
        ] {
            assert!(matches!(parse(bad), Err(Unfit::Malformed(_))), "{bad:?}");
        }
        let four = "a: b\r\n".repeat(4) + "\r\n";
        assert_eq!(parse(&four).map(|_| ()), Err(Unfit::TooMany));
    }
}
