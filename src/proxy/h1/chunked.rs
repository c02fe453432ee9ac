//! Decoding `Transfer-Encoding: chunked`, incrementally and strictly: CRLF only, digits checked for
//! overflow, extensions bounded and dropped. Only a worker may leave blanks behind a size.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::lines::{section_end, trailers};

/// Longest chunk-size line, extensions included. Real ones are below twenty bytes.
const MAX_LINE: usize = 256;
/// Most bytes of extensions in one message; without a bound each data byte could carry a line of them.
const MAX_EXTENSIONS: usize = 16 << 10;
/// Longest trailer section.
const MAX_TRAILERS: usize = 16 << 10;

/// What came out of a body.
#[derive(Debug)]
pub(in crate::proxy) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

/// Where in the encoding we are.
#[derive(Debug)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Ended,
}

/// A decoder for one body.
#[derive(Debug)]
pub(in crate::proxy) struct Chunked {
    state: State,
    /// Blanks may stand behind a size, though nothing else does.
    padded: bool,
    extensions: usize,
    /// Bytes of an unfinished line or section that were searched already.
    searched: usize,
}

impl Chunked {
    /// Of a request: blanks behind a size are no part of the grammar (RFC 9112 §7.1), and not everybody who
    /// reads them has the line end at the same place (T9).
    pub(in crate::proxy) fn new() -> Self {
        Self {
            state: State::Size,
            padded: false,
            extensions: 0,
            searched: 0,
        }
    }

    /// Of a worker's answer. Servers that leave room for a size before they know it fill it up with blanks;
    /// what the client gets is framed anew.
    pub(in crate::proxy) fn of_answer() -> Self {
        Self {
            padded: true,
            ..Self::new()
        }
    }

    /// The next piece; `None` if more bytes are needed. After the end it takes nothing.
    pub(in crate::proxy) fn next(
        &mut self,
        buffer: &mut BytesMut,
    ) -> Result<Option<Piece>, &'static str> {
        loop {
            match self.state {
                State::Size => {
                    let Some(line) = self.line(buffer)? else {
                        return Ok(None);
                    };
                    let (size, extensions) = chunk_size(&buffer[..line], self.padded)?;
                    self.extensions += extensions;
                    if self.extensions > MAX_EXTENSIONS {
                        return Err("too many chunk extensions");
                    }
                    buffer.advance(line + 2);
                    self.state = match size {
                        0 => State::Trailers,
                        size => State::Data(size),
                    };
                }
                State::Data(left) => {
                    if buffer.is_empty() {
                        return Ok(None);
                    }
                    let take = usize::try_from(left).map_or(buffer.len(), |l| l.min(buffer.len()));
                    self.state = match left - take as u64 {
                        0 => State::DataEnd,
                        left => State::Data(left),
                    };
                    return Ok(Some(Piece::Data(buffer.split_to(take).freeze())));
                }
                State::DataEnd => match buffer.get(..2) {
                    Some(b"\r\n") => {
                        buffer.advance(2);
                        self.state = State::Size;
                    }
                    None if matches!(&buffer[..], b"" | b"\r") => return Ok(None),
                    _ => return Err("chunk longer than its size"),
                },
                State::Trailers => {
                    if buffer.starts_with(b"\r\n") {
                        buffer.advance(2);
                        self.state = State::Ended;
                        continue;
                    }
                    let Some(end) = section_end(buffer, &mut self.searched) else {
                        if buffer.len() > MAX_TRAILERS {
                            return Err("too long a trailer section");
                        }
                        return Ok(None);
                    };
                    if end > MAX_TRAILERS {
                        return Err("too long a trailer section");
                    }
                    let section = buffer.split_to(end).freeze();
                    self.state = State::Ended;
                    return trailers(&section).map(|t| Some(Piece::Trailers(t)));
                }
                State::Ended => return Ok(Some(Piece::End)),
            }
        }
    }

    /// Whether its end was taken.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Takes an end without trailers that is wholly there behind the last data.
    pub(super) fn end(&mut self, buffer: &mut BytesMut) {
        const END: &[u8] = b"\r\n0\r\n\r\n";
        if matches!(self.state, State::DataEnd) && buffer.starts_with(END) {
            buffer.advance(END.len());
            self.state = State::Ended;
        }
    }

    /// Length of the line at the front, without its CRLF.
    fn line(&mut self, buffer: &BytesMut) -> Result<Option<usize>, &'static str> {
        let window = &buffer[..buffer.len().min(MAX_LINE)];
        match memchr::memchr(b'\n', &window[self.searched..]) {
            Some(at) => {
                let lf = self.searched + at;
                self.searched = 0;
                match lf.checked_sub(1) {
                    Some(cr) if window[cr] == b'\r' => Ok(Some(cr)),
                    _ => Err("bare LF after a chunk size"),
                }
            }
            None if window.len() == MAX_LINE => Err("too long a chunk-size line"),
            None => {
                self.searched = window.len();
                Ok(None)
            }
        }
    }
}

/// A chunk's size and how many bytes of extensions came with it.
fn chunk_size(line: &[u8], padded: bool) -> Result<(u64, usize), &'static str> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    if digits == 0 {
        return Err("no chunk size");
    }
    let mut size: u64 = 0;
    for digit in &line[..digits] {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            _ => (digit | 0x20) - b'a' + 10,
        };
        size = size
            .checked_mul(16)
            .and_then(|s| s.checked_add(u64::from(value)))
            .ok_or("chunk size overflows")?;
    }
    let extensions = &line[digits..];
    match extensions.iter().find(|b| !matches!(b, b' ' | b'\t')) {
        None if extensions.is_empty() || padded => {}
        Some(b';')
            if extensions
                .iter()
                .all(|b| *b == b'\t' || !b.is_ascii_control()) => {}
        _ => return Err("garbage after a chunk size"),
    }
    Ok((size, extensions.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes what comes in parts; true if the end was reached. What lies behind the end stays.
    fn decode(text: &[u8], part: usize) -> Result<(Vec<u8>, bool, usize), &'static str> {
        decode_by(Chunked::new(), text, part)
    }

    fn decode_by(
        mut chunked: Chunked,
        text: &[u8],
        part: usize,
    ) -> Result<(Vec<u8>, bool, usize), &'static str> {
        let (mut buffer, mut data) = (BytesMut::new(), Vec::new());
        for bytes in text.chunks(part) {
            buffer.extend_from_slice(bytes);
            while let Some(piece) = chunked.next(&mut buffer)? {
                match piece {
                    Piece::Data(bytes) => data.extend_from_slice(&bytes),
                    Piece::Trailers(_) => {}
                    Piece::End => break,
                }
            }
        }
        Ok((data, chunked.is_over(), buffer.len()))
    }

    #[test]
    fn t9_a_body_ends_where_it_ends_however_it_comes() {
        let body = b"5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n";
        let next = b"GET / HTTP/1.1";
        let all = [&body[..], next].concat();
        for part in 1..=all.len() {
            let decoded = decode(&all, part).expect("well-formed");
            assert_eq!(
                decoded,
                (b"hello0123456789".to_vec(), true, next.len()),
                "{part}"
            );
        }
    }

    #[test]
    fn blanks_behind_a_size_are_a_workers_privilege() {
        let body = b"5  \r\nhello\r\n0\t \r\n\r\n";
        for part in 1..=body.len() {
            let decoded = decode_by(Chunked::of_answer(), body, part);
            assert_eq!(decoded, Ok((b"hello".to_vec(), true, 0)), "{part}");
            assert!(decode(body, part).is_err(), "{part}");
        }
        for body in ["5 x\r\n", "5 5\r\n", " 5\r\n", "5 \nhello", "5\x0b\r\n"] {
            let decoded = decode_by(Chunked::of_answer(), body.as_bytes(), body.len());
            assert!(decoded.is_err(), "{body:?}");
        }
    }

    #[test]
    fn t9_malformed_chunks_are_noticed() {
        for body in [
            "\r\n",
            "+5\r\n",
            "0x5\r\n",
            "5\nhello",
            "5;\nhello",
            "5\r\nhello!\r\n",
            "5\r\nhello\n",
            "10000000000000000\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\n\n",
        ] {
            for part in [1, body.len()] {
                assert!(decode(body.as_bytes(), part).is_err(), "{body:?} by {part}");
            }
        }
        let line = format!("1;{}\r\nx\r\n", "x".repeat(200));
        let flood = line.repeat(MAX_EXTENSIONS / 200 + 1);
        assert!(decode(flood.as_bytes(), flood.len()).is_err());
    }
}
