//! Lines of a head or a trailer section: where a section ends, that its lines end in CRLF, its fields.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::proxy::rules;

/// Most trailers of one message; as many as the front's limit for a head.
pub(in crate::proxy) const MAX_TRAILER_FIELDS: usize = 128;

/// The fields of a trailer section, without those that must not be there.
pub(super) fn trailers(section: &Bytes) -> Result<HeaderMap, &'static str> {
    check_lines(section)?;
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    let raw = match httparse::parse_headers(section, &mut fields) {
        Ok(httparse::Status::Complete((n, raw))) if n == section.len() => raw,
        _ => return Err("malformed trailers"),
    };
    let mut map = HeaderMap::new();
    for field in raw {
        let (name, value) = convert(section, field)?;
        if rules::trailer_allowed(name.as_str().as_bytes()) && map.try_append(name, value).is_err()
        {
            return Err("too many trailers");
        }
    }
    Ok(map)
}

/// Where the section of lines at the front ends, behind its empty line.
pub(in crate::proxy) fn section_end(buffer: &[u8], searched: &mut usize) -> Option<usize> {
    // Found by its LF, so that a bare LF ends a section too and is then refused, not waited for.
    let mut from = *searched;
    while let Some(at) = memchr::memchr(b'\n', &buffer[from..]) {
        let lf = from + at;
        from = lf + 1;
        let line = &buffer[..lf];
        if matches!(line, [] | [.., b'\n'] | [b'\r'] | [.., b'\n', b'\r']) {
            *searched = 0;
            return Some(from);
        }
    }
    *searched = from;
    None
}

/// Every line ends in CRLF, and no CR or LF is anywhere else.
fn check_lines(section: &[u8]) -> Result<(), &'static str> {
    let after = section.iter().skip(1);
    let bad = section
        .iter()
        .zip(after)
        .fold(false, |bad, (a, b)| bad | ((*a == b'\r') != (*b == b'\n')));
    match bad || section.first() == Some(&b'\n') {
        true => Err("bare CR or LF in a head"),
        false => Ok(()),
    }
}

fn convert(
    section: &Bytes,
    field: &httparse::Header<'_>,
) -> Result<(HeaderName, HeaderValue), &'static str> {
    let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| "malformed field name")?;
    let value = HeaderValue::from_maybe_shared(section.slice_ref(field.value))
        .map_err(|_| "malformed field value")?;
    Ok((name, value))
}
