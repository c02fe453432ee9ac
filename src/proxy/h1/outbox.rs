//! What is to be written next.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use super::read::{Buffers, READ};

/// What is to be written next, in this order, with one system call.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Outbox<Head> {
    pub(in crate::proxy) head: Head,
    pub(in crate::proxy) size: SizeLine,
    pub(in crate::proxy) data: Bytes,
    pub(in crate::proxy) tail: Bytes,
}

impl<Head: Buf> Outbox<Head> {
    pub(in crate::proxy) fn is_empty(&self) -> bool {
        !self.head.has_remaining() && self.has_room()
    }

    /// Another frame fits.
    pub(in crate::proxy) fn has_room(&self) -> bool {
        self.size.rest().is_empty() && self.data.is_empty() && self.tail.is_empty()
    }

    /// Writes once, as much of it as is taken. Several parts are joined first, if they are not large:
    /// a kernel copies one piece faster than it gathers several.
    pub(in crate::proxy) fn poll_write<S: AsyncWrite + Unpin>(
        &self,
        cx: &mut Context<'_>,
        socket: &mut S,
        buffers: &Buffers,
    ) -> Poll<io::Result<usize>> {
        let parts = [
            self.head.chunk(),
            self.size.rest(),
            &*self.data,
            &*self.tail,
        ];
        let mut slices = [IoSlice::new(&[]); 4];
        let mut count = 0;
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            slices[count] = IoSlice::new(part);
            count += 1;
        }
        let socket = Pin::new(socket);
        let slices = &slices[..count];
        if let [only] = slices {
            return socket.poll_write(cx, only);
        }
        let length: usize = slices.iter().map(|part| part.len()).sum();
        if length > READ {
            return socket.poll_write_vectored(cx, slices);
        }
        buffers.join(slices, |joined| socket.poll_write(cx, joined))
    }

    /// Forgets what was written; says how much of it was body.
    pub(in crate::proxy) fn advance(&mut self, mut written: usize) -> u64 {
        let mut step = |left: usize| {
            let taken = written.min(left);
            written -= taken;
            taken
        };
        self.head.advance(step(self.head.remaining()));
        self.size.start += step(self.size.rest().len());
        let data = step(self.data.len());
        self.data.advance(data);
        self.tail.advance(step(self.tail.len()));
        // A buffer of the client's side is not held while we wait for its next.
        if self.data.is_empty() {
            self.data = Bytes::new();
        }
        data as u64
    }
}

/// A chunk-size line, without an allocation.
#[derive(Debug, Default)]
pub(in crate::proxy) struct SizeLine {
    bytes: [u8; 18],
    start: usize,
    end: usize,
}

impl SizeLine {
    pub(in crate::proxy) fn new(size: usize) -> Self {
        let mut line = Self::default();
        let room = line.bytes.len();
        let mut rest = &mut line.bytes[..];
        // Sixteen digits and CRLF fit.
        let written = write!(rest, "{size:x}\r\n").map(|()| rest.len());
        line.end = written.map_or(0, |left| room - left);
        line
    }

    pub(in crate::proxy) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
}
