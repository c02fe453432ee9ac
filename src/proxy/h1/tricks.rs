//! For the fuzz targets: messages of HTTP/1.1, most of them good, with every known trick to make two readers
//! see two things (RFC 9112 §11; HTTP.md lists where they come from).

use crate::fuzz::Choices;

/// What is put into a finished text.
pub(in crate::proxy) const MISTAKES: [&[u8]; 20] = [
    b"\n",
    b"\r",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"\0",
    b"\x0b",
    b"\x0c",
    b"\x7f",
    b"\x80",
    b"0",
    b"1",
    b"f",
    b"+",
    b"-",
    b"a",
];

/// Bodies, some of which look like something else.
const BODIES: [&[u8]; 6] = [
    b"hello",
    b"0\r\n\r\n",
    b"GET /smuggled HTTP/1.1\r\nHost: b\r\n\r\n",
    b"\r\n\r\n",
    b"x",
    b"5\r\nhello\r\n0\r\n\r\n",
];

const USUAL: [&[u8]; 15] = [
    b"X-A: b",
    b"x-a:c",
    b"Accept: */*",
    b"Cookie: a=b; c=\"d\"",
    b"X-Empty:",
    b"X-T:\t z \t",
    b"X-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    b"Connection: keep-alive",
    b"Connection: X-A, te",
    b"Keep-Alive: timeout=5",
    b"Upgrade: websocket",
    b"TE: trailers",
    b"Trailer: x-sum",
    b"Expect: 100-continue",
    b"X-Obs: \xe9\x80",
];

const TRICKY: [&[u8]; 27] = [
    b"X-A : b",
    b" X-A: b",
    b"\tX-A: b",
    b"X-A: b\r\n folded",
    b"X-A: b\r\n\tfolded: c",
    b"X-A:\r\n b",
    b": b",
    b"X-A",
    b"X\0: b",
    b"X\x80: b",
    b"X(: b",
    b"X-A: a\0b",
    b"X-A: a\rb",
    b"X-A: a\nb",
    b"X-A: \x7f",
    b"X-A: \x0b",
    b"Host: b",
    b"Host:",
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"Content_Length: 5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding\r\n: chunked",
    b"Transfer_Encoding: chunked",
    b"Connection: close, keep-alive",
    b"Connection: Close",
    b"Connection: content-length, transfer-encoding, host",
];

/// Writes messages, with a trick here and there.
pub(in crate::proxy) struct Writer<'c, 'd> {
    pub(in crate::proxy) choices: &'c mut Choices<'d>,
    pub(in crate::proxy) out: Vec<u8>,
    tricks: usize,
}

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Kind {
    None,
    Length,
    Chunked,
}

impl<'c, 'd> Writer<'c, 'd> {
    pub(in crate::proxy) fn new(choices: &'c mut Choices<'d>) -> Self {
        // None in a third of all streams, so that the depth of the others is reached too.
        let tricks = choices.below(3);
        Self {
            choices,
            out: Vec::new(),
            tricks,
        }
    }

    /// Whether there is one here.
    pub(in crate::proxy) fn trick(&mut self) -> bool {
        let here = self.tricks > 0 && self.choices.once_in(25);
        self.tricks -= usize::from(here);
        here
    }

    /// What is usual, or one of the tricks.
    pub(in crate::proxy) fn put(&mut self, usual: &[&[u8]], tricks: &[&[u8]]) {
        let from = match self.trick() {
            true => tricks,
            false => usual,
        };
        self.out.extend_from_slice(self.choices.of(from));
    }

    pub(in crate::proxy) fn line_end(&mut self) {
        self.put(
            &[b"\r\n"],
            &[b"\n", b"\r", b"\r\r\n", b" \r\n", b"\n\r\n", b""],
        );
    }

    /// Some fields that say nothing of framing, unless they are tricks.
    pub(in crate::proxy) fn fields(&mut self) {
        for _ in 0..self.choices.below(4) {
            self.put(&USUAL, &TRICKY);
            self.line_end();
        }
    }

    /// The fields that frame a body, the head's end, and the body.
    pub(in crate::proxy) fn framed(&mut self, kind: Kind) {
        let body = match self.choices.below(4) {
            0 => self.choices.bytes(30),
            _ => self.choices.of(&BODIES).to_vec(),
        };
        match kind {
            Kind::None => {}
            Kind::Length => self.length(body.len()),
            Kind::Chunked => self.coding(body.len()),
        }
        self.fields();
        self.line_end();
        match kind {
            Kind::None if !self.trick() => {}
            Kind::None | Kind::Length => {
                self.out.extend_from_slice(&body);
                self.put(&[b""], &[b"x", b"\r\n", b"\n"]);
            }
            Kind::Chunked => self.chunks(&body),
        }
    }

    fn length(&mut self, n: usize) {
        self.put(
            &[
                b"Content-Length: ",
                b"content-length:",
                b"Content-Length:\t",
            ],
            &[
                b"Content-Length : ",
                b"Content_Length: ",
                b"Content-Length\0: ",
                b" Content-Length: ",
            ],
        );
        let more = n + 1;
        let written = match self.trick() {
            false => n.to_string(),
            true => match self.choices.below(20) {
                0 => format!("+{n}"),
                1 => format!("-{n}"),
                2 => format!("0{n}"),
                3 => format!("{n}, {n}"),
                4 => format!("{n}, {more}"),
                5 => format!("0x{n:x}"),
                6 => format!("{n}_"),
                7 => String::new(),
                8 => format!("{n}\r\nContent-Length: {n}"),
                9 => format!("{n}\r\nContent-Length: {more}"),
                10 => format!("{more}\r\nContent-Length: {n}"),
                11 => format!("{n}\r\nTransfer-Encoding: chunked"),
                12 => format!("1844674407370955161{n}"),
                13 => "9223372036854775808".to_owned(),
                14 => format!("{n};"),
                15 => format!("\"{n}\""),
                16 => format!("{n}.0"),
                17 => format!("{n} 1"),
                18 => format!("\r\n {n}"),
                _ => format!("{n}\r\nContent-Length: 0{n}"),
            },
        };
        self.out.extend_from_slice(written.as_bytes());
        self.line_end();
    }

    fn coding(&mut self, n: usize) {
        self.put(
            &[
                b"Transfer-Encoding: ",
                b"transfer-encoding:",
                b"TRANSFER-ENCODING:\t",
            ],
            &[
                b"Transfer-Encoding : ",
                b"Transfer_Encoding: ",
                b"\tTransfer-Encoding: ",
            ],
        );
        let length = format!("chunked\r\nContent-Length: {n}");
        self.put(
            &[b"chunked", b"Chunked", b"chunked \t"],
            &[
                b"xchunked",
                b"chunked, chunked",
                b"gzip, chunked",
                b"chunked, gzip",
                b"identity",
                b", chunked",
                b"chunked,",
                b"",
                b"\"chunked\"",
                b"chunked;q=1",
                b"chunked\r\nTransfer-Encoding: identity",
                b"identity\r\nTransfer-Encoding: chunked",
                b"chunked\r\nTransfer-Encoding: chunked",
                b"\x0bchunked",
                b"chunked\0",
                b"\r\n chunked",
                b"chun\rked",
                b"c\x68unked\x80",
                length.as_bytes(),
            ],
        );
        self.line_end();
    }

    fn chunks(&mut self, body: &[u8]) {
        let size = 1 + self.choices.below(body.len().max(1));
        for chunk in body.chunks(size) {
            self.chunk_size(chunk.len());
            self.out.extend_from_slice(chunk);
            self.put(
                &[b"\r\n"],
                &[b"\n", b"\r", b"", b"x\r\n", b" \r\n", b"\r\n\r\n"],
            );
        }
        if self.trick() {
            // It breaks off, or something else is the last chunk.
            self.put(
                &[b"", b"-0\r\n\r\n", b"0x0\r\n\r\n", b"\r\n", b"0;\r\n\r\n"],
                &[b"0"],
            );
            return;
        }
        self.chunk_size(0);
        for _ in 0..self.choices.below(3) {
            self.put(
                &[
                    b"X-Sum: 1",
                    b"x-sum:2 ",
                    b"X-Empty:",
                    b"Host: b",
                    b"Content-Length: 5",
                    b"Expires: 0",
                ],
                &TRICKY,
            );
            self.line_end();
        }
        self.line_end();
    }

    /// A chunk-size line.
    fn chunk_size(&mut self, n: usize) {
        let written = match (self.trick(), self.choices.below(13)) {
            (false, 0) => format!("0{n:X}"),
            (false, _) => format!("{n:x}"),
            (true, 0) => format!("{:x}", n + 1),
            (true, 1) => format!("{:x}", n.saturating_sub(1)),
            (true, 2) => format!("0x{n:x}"),
            (true, 3) => format!("+{n:x}"),
            (true, 4) => format!("-{n:x}"),
            (true, 5) => format!(" {n:x}"),
            (true, 6) => format!("{n:x} "),
            (true, 7) => format!("{n:x}\t"),
            (true, 8) => String::new(),
            (true, 9) => format!("1{n:016x}"),
            (true, 10) => format!("{n:040x}"),
            (true, 11) => "ffffffffffffffff".to_owned(),
            (true, _) => format!("{n:x}_"),
        };
        self.out.extend_from_slice(written.as_bytes());
        if self.choices.once_in(4) {
            self.put(
                &[b";x=y", b";x", b";x=\"y z\"", b";"],
                &[
                    b";a\rb",
                    b";a\nb",
                    b";\0",
                    b" ;x",
                    b"\t;x",
                    b"; \x80",
                    b";\x7f",
                    b",x",
                    b"x",
                    b";\"\r\n\"",
                    b" x",
                    b";\r",
                ],
            );
        }
        self.line_end();
    }
}
