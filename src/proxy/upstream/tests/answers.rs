//! Answers for the fuzz targets, and our codec put together on bytes alone.

use bytes::BytesMut;
use http::Method;

use super::super::head;
use crate::fuzz::{Choices, Cut};
use crate::proxy::h1::script::{End, Message};
use crate::proxy::h1::tricks::{Kind, MISTAKES, Writer};
use crate::proxy::h1::{Decoder, Piece};
use crate::proxy::head::Fields;

/// A head that was accepted.
#[derive(Debug)]
pub(super) struct Framed {
    pub(super) fields: Fields,
    /// Length of its body, if that was known with the head.
    pub(super) length: Option<u64>,
}

/// What our codec makes of the bytes of one connection, on which one request was sent.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Informational answers, then the final one.
    pub(super) seen: Vec<Message>,
    pub(super) heads: Vec<Framed>,
    pub(super) refused: bool,
    /// The connection may carry another request.
    pub(super) reusable: bool,
    buffer: BytesMut,
    searched: usize,
    body: Option<(Decoder, bool)>,
    at: usize,
}

impl Read {
    /// Of a connection that the worker closes behind them.
    pub(super) fn all<'a>(method: &Method, pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut read = Self::default();
        for piece in pieces {
            read.more(method, piece);
        }
        read.end();
        read
    }

    /// The final answer.
    pub(super) fn last(&self) -> Option<&Message> {
        self.body.as_ref().and_then(|_| self.seen.last())
    }

    /// As `Exchange` and `Download` do it, for a request without an upgrade.
    pub(super) fn more(&mut self, method: &Method, piece: &[u8]) {
        self.at += piece.len();
        self.buffer.extend_from_slice(piece);
        while !self.refused {
            let Some((decoder, keep_alive)) = &mut self.body else {
                match head::parse(&mut self.buffer, &mut self.searched, method) {
                    Ok(None) => return,
                    Err(_why) => self.refused = true,
                    Ok(Some(head)) => self.begin(head),
                }
                continue;
            };
            let last = self.seen.last_mut().expect("its head");
            if last.end != End::Waits {
                return;
            }
            match decoder.next(&mut self.buffer) {
                Ok(None) => return,
                Ok(Some(Piece::Data(data))) => last.data.extend_from_slice(&data),
                Ok(Some(Piece::Trailers(trailers))) => last.trailers(&trailers),
                Ok(Some(Piece::End)) => {
                    last.end = End::Whole(self.at);
                    self.reusable = *keep_alive && self.buffer.is_empty();
                }
                Err(_why) => {
                    last.end = End::Broken;
                    self.refused = true;
                }
            }
        }
    }

    fn begin(&mut self, head: head::Head) {
        let (status, version) = (head.answer.status, head.answer.version);
        let informational = status.is_informational();
        // A switch that nobody asked for, or an informational answer that is more than a head.
        if status == 101 || (informational && !(head.body.is_over() && head.keep_alive)) {
            self.refused = true;
            return;
        }
        let start = format!("{version:?} {}", status.as_u16());
        self.seen
            .push(Message::new(start, head.answer.fields.iter()));
        self.heads.push(Framed {
            length: match head.body {
                Decoder::Empty => Some(0),
                Decoder::Length(length) => Some(length),
                Decoder::Chunked(_) | Decoder::Close => None,
            },
            fields: head.answer.fields,
        });
        match informational {
            true => self.seen.last_mut().expect("pushed").end = End::Whole(self.at),
            false => self.body = Some((head.body, head.keep_alive)),
        }
    }

    /// The worker closed the connection.
    pub(super) fn end(&mut self) {
        let Some((decoder, _)) = &self.body else {
            return;
        };
        let last = self.seen.last_mut().expect("its head");
        if last.end == End::Waits {
            last.end = match decoder {
                Decoder::Close => End::Whole(self.at),
                _ => End::Broken,
            };
        }
    }
}

/// The method of a request, and what a worker sends for it.
pub(super) fn answers(choices: &mut Choices<'_>) -> (Method, Cut) {
    let method = choices.of(&[&Method::GET, &Method::GET, &Method::POST, &Method::HEAD]);
    let mut writer = Writer::new(choices);
    if writer.choices.once_in(6) {
        writer.put(
            &[
                b"HTTP/1.1 100 Continue\r\n",
                b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n",
            ],
            &[
                b"HTTP/1.1 101 Switching Protocols\r\n",
                b"HTTP/1.1 100 Continue\r\nContent-Length: 1\r\n",
                b"HTTP/1.1 100 Continue\r\nConnection: close\r\n",
            ],
        );
        writer.line_end();
    }
    answer(&mut writer);
    if writer.choices.once_in(6) {
        writer.out.extend_from_slice(b"HTTP/1.1 200 OK\r\n\r\n");
    }
    let mut bytes = std::mem::take(&mut writer.out);
    if choices.once_in(4) {
        choices.mutate(&mut bytes, &MISTAKES);
    }
    if choices.once_in(8) {
        bytes.truncate(choices.below(bytes.len()));
    }
    (method.clone(), choices.cut(bytes))
}

fn answer(writer: &mut Writer<'_, '_>) {
    let old = writer.choices.once_in(8);
    let version: &[u8] = if old { b"HTTP/1.0" } else { b"HTTP/1.1" };
    writer.put(
        &[version],
        &[
            b"HTTP/2",
            b"HTTP/1.2",
            b"http/1.1",
            b"HTTP/1.1\t",
            b"\r\nHTTP/1.1",
            b"ICY",
        ],
    );
    writer.put(&[b" "], &[b"  ", b"", b"\t"]);
    let status: [&[u8]; 8] = [
        b"200", b"200", b"200", b"404", b"304", b"204", b"205", b"500",
    ];
    writer.put(
        &status,
        &[
            b"99", b"099", b"600", b"999", b"1000", b"2 0", b"", b"101", b"102", b"+20",
        ],
    );
    writer.put(
        &[b" OK", b" ", b" \xe9t\xe9", b""],
        &[b"OK", b" \0", b" a\rb", b"\x0b", b" \x7f"],
    );
    writer.line_end();
    if writer.choices.once_in(4) {
        writer.out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    let kind = *writer
        .choices
        .of(&[&Kind::None, &Kind::Length, &Kind::Chunked, &Kind::Length]);
    writer.framed(kind);
}
