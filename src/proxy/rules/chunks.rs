//! Where a chunked body ends, found by watching it pass.

/// Most bytes of chunk extensions in one body; without a bound each data byte could carry a line of them.
const MAX_EXTENSIONS: usize = 16 << 10;
/// Longest trailer section.
const MAX_TRAILERS: usize = 16 << 10;

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The first digit of a size, or a further one.
    FirstDigit,
    Digit,
    Extension,
    SizeLf,
    Data(u64),
    DataCr,
    DataLf,
    /// A trailer line's first byte, a further one, its LF.
    Trailer,
    TrailerRest,
    TrailerLf,
    LastLf,
    Ended,
}

/// A chunked body that passes.
#[derive(Debug)]
pub(crate) struct Chunks {
    next: Next,
    size: u64,
    extensions: usize,
    trailers: usize,
}

impl Chunks {
    /// At its first byte.
    pub(crate) fn new() -> Self {
        Self {
            next: Next::FirstDigit,
            size: 0,
            extensions: 0,
            trailers: 0,
        }
    }

    /// Whether its last byte has passed.
    pub(crate) fn is_over(&self) -> bool {
        self.next == Next::Ended
    }

    /// How many of these bytes belong to it.
    ///
    /// # Errors
    /// What is wrong: lines end in CRLF alone, sizes are digits that do not overflow.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let mut at = 0;
        while at < bytes.len() && !self.is_over() {
            if let Next::Data(left) = self.next {
                let rest = bytes.len() - at;
                let take = usize::try_from(left).map_or(rest, |left| left.min(rest));
                at += take;
                self.next = match left - take as u64 {
                    0 => Next::DataCr,
                    left => Next::Data(left),
                };
                continue;
            }
            self.next = self.step(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<Next, &'static str> {
        let control = (byte < 0x20 && byte != b'\t') || byte == 0x7f;
        Ok(match (self.next, byte) {
            (Next::FirstDigit | Next::Digit, byte) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                let size = self.size.checked_mul(16).ok_or("chunk size overflows")?;
                self.size = size + u64::from(digit);
                Next::Digit
            }
            (Next::Digit | Next::Extension, b'\r') => Next::SizeLf,
            (Next::Digit, b';' | b' ' | b'\t') => Next::Extension,
            (Next::Extension, _) if !control => {
                self.extensions += 1;
                if self.extensions > MAX_EXTENSIONS {
                    return Err("too many chunk extensions");
                }
                Next::Extension
            }
            (Next::SizeLf, b'\n') => match std::mem::take(&mut self.size) {
                0 => Next::Trailer,
                size => Next::Data(size),
            },
            (Next::DataCr, b'\r') => Next::DataLf,
            (Next::DataLf, b'\n') => Next::FirstDigit,
            (Next::Trailer, b'\r') => Next::LastLf,
            (Next::TrailerRest, b'\r') => Next::TrailerLf,
            (Next::Trailer | Next::TrailerRest, _) if !control => {
                self.trailers += 1;
                if self.trailers > MAX_TRAILERS {
                    return Err("too long a trailer section");
                }
                Next::TrailerRest
            }
            (Next::TrailerLf, b'\n') => Next::Trailer,
            (Next::LastLf, b'\n') => Next::Ended,
            _ => return Err("malformed chunk"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t9_a_body_ends_where_it_ends_however_it_comes() {
        let body = b"5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n";
        let all = [&body[..], b"GET / HTTP/1.1"].concat();
        for part in 1..=all.len() {
            let (mut chunks, mut passed) = (Chunks::new(), 0);
            for bytes in all.chunks(part) {
                passed += chunks.pass(bytes).expect("well-formed");
            }
            assert!(chunks.is_over());
            assert_eq!(passed, body.len(), "in parts of {part}");
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
            let passed = Chunks::new().pass(body.as_bytes());
            assert!(passed.is_err(), "{body:?}");
        }
        let flood = format!("1;{}\r\n", "x".repeat(MAX_EXTENSIONS + 1));
        assert!(Chunks::new().pass(flood.as_bytes()).is_err());
    }
}
