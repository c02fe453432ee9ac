//! Reading what comes into a buffer, and the buffers for it.

use std::cell::{RefCell, RefMut};
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

/// What one read may bring: a buffer of this size holds a head and most small bodies.
pub(in crate::proxy) const READ: usize = 16 << 10;
/// The same once a body is known to be large.
const READ_LARGE: usize = 64 << 10;
/// From this length on a body is large.
pub(in crate::proxy) const LARGE: u64 = 64 << 10;

/// Room for the head of an answer: most need no more.
const HEAD: usize = 1 << 10;
/// Room for some heads of requests: the one that is alive longest holds all of it.
const HEADS: usize = 4 << 10;

/// Buffers kept of each kind: some 1 MiB per loop.
const MAX_KEPT: usize = 64;

/// One event loop's buffers. What was used last is used next: it is still in the processor's cache.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Buffers {
    /// For what comes. Connections hold one only while there is something in it.
    kept: RefCell<Vec<BytesMut>>,
    /// For heads on their way to workers, which are small, and each alive for one request: see
    /// [`rules::outgoing`](crate::proxy::rules::outgoing).
    heads: RefCell<BytesMut>,
    /// For heads on their way to clients, one each: a client may be slow to take it.
    answers: RefCell<Vec<BytesMut>>,
    /// What is written next, in one piece.
    joined: RefCell<Vec<u8>>,
}

impl Buffers {
    /// An empty buffer to read into, perhaps one that was used before.
    fn take(&self) -> BytesMut {
        self.kept.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a buffer back, unless it has something in it or is too large to be for heads. What still
    /// holds a part of it should not do so for long: until then there is less room in it.
    pub(in crate::proxy) fn put(&self, buffer: BytesMut) {
        let mut kept = self.kept.borrow_mut();
        let fits = (1..=READ).contains(&buffer.capacity());
        if buffer.is_empty() && fits && kept.len() < MAX_KEPT {
            kept.push(buffer);
        }
    }

    /// An empty buffer for the head of an answer.
    pub(in crate::proxy) fn take_answer(&self) -> BytesMut {
        let used = self.answers.borrow_mut().pop();
        used.unwrap_or_else(|| BytesMut::with_capacity(HEAD))
    }

    /// Takes it back, unless it has grown far, or something else holds a part of it.
    pub(in crate::proxy) fn put_answer(&self, mut buffer: BytesMut) {
        buffer.clear();
        let mut answers = self.answers.borrow_mut();
        // What was written of it is room again.
        if answers.len() < MAX_KEPT && buffer.try_reclaim(HEAD) && buffer.capacity() <= READ {
            answers.push(buffer);
        }
    }

    /// Where heads are written before they are split off; empty.
    pub(in crate::proxy) fn heads(&self) -> RefMut<'_, BytesMut> {
        let mut heads = self.heads.borrow_mut();
        if heads.capacity() == 0 {
            // It remembers what it was made with, and has as much again when it is used up.
            *heads = BytesMut::with_capacity(HEADS);
        }
        heads
    }

    /// Joins parts for one write.
    pub(in crate::proxy) fn join<T>(
        &self,
        parts: &[IoSlice<'_>],
        write: impl FnOnce(&[u8]) -> T,
    ) -> T {
        let mut joined = self.joined.borrow_mut();
        joined.clear();
        for part in parts {
            joined.extend_from_slice(part);
        }
        write(&joined)
    }

    /// Reads once into `buffer`, which is given room first; more of it while a large body comes. It is
    /// lent for this, and taken back if nothing came and nothing else holds a part of it.
    pub(in crate::proxy) fn poll_fill<S: AsyncRead + Unpin>(
        &self,
        socket: &mut S,
        buffer: &mut BytesMut,
        large: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if buffer.capacity() == 0 {
            *buffer = self.take();
        }
        let size = if large { READ_LARGE } else { READ };
        // What was taken out of it and is not needed any more is room again, for nothing.
        if !buffer.try_reclaim(size) && buffer.capacity() - buffer.len() < size / 4 {
            buffer.reserve(size);
        }
        let read = pin!(socket.read_buf(buffer)).poll(cx);
        if read.is_pending() && buffer.is_empty() && buffer.try_reclaim(READ) {
            self.put(std::mem::take(buffer));
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use bytes::{Buf, Bytes};
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn fill(buffers: &Buffers, socket: &mut DuplexStream, buffer: &mut BytesMut) -> Poll<usize> {
        let mut cx = Context::from_waker(Waker::noop());
        let read = buffers.poll_fill(socket, buffer, false, &mut cx);
        read.map(|read| read.expect("an open socket"))
    }

    #[tokio::test]
    async fn a_connection_to_which_nothing_comes_holds_no_buffer() {
        let (mut near, mut far) = duplex(READ);
        let (buffers, mut buffer) = (Buffers::default(), BytesMut::new());
        assert_eq!(fill(&buffers, &mut near, &mut buffer), Poll::Pending);
        assert_eq!(buffer.capacity(), 0);
        far.write_all(b"a head").await.expect("room");
        assert_eq!(fill(&buffers, &mut near, &mut buffer), Poll::Ready(6));
        drop(buffer.split());
        assert_eq!(fill(&buffers, &mut near, &mut buffer), Poll::Pending);
        assert_eq!(buffer.capacity(), 0);
        assert_eq!(buffers.take().capacity(), READ, "it is lent again, whole");
    }

    #[test]
    fn the_room_of_an_answers_head_is_whole_again_once_it_is_written() {
        let buffers = Buffers::default();
        let mut head = buffers.take_answer();
        let room = head.as_ptr();
        head.extend_from_slice(&[b'x'; HEAD - 1]);
        head.advance(HEAD - 1);
        buffers.put_answer(head);
        let again = buffers.take_answer();
        assert_eq!(
            (again.as_ptr(), again.capacity(), again.len()),
            (room, HEAD, 0)
        );
        let mut long = buffers.take_answer();
        long.resize(READ + 1, 0);
        buffers.put_answer(long);
        assert_eq!(buffers.answers.borrow().len(), 0, "it is not kept");
    }

    #[test]
    fn heads_that_are_alive_together_share_allocations() {
        let buffers = Buffers::default();
        let alive: Vec<_> = (0..64)
            .map(|_| {
                let mut heads = buffers.heads();
                heads.reserve(400);
                heads.extend_from_slice(&[b'x'; 256]);
                heads.split().freeze()
            })
            .collect();
        let follows = |two: &&[Bytes]| two[0].as_ptr_range().end == two[1].as_ptr();
        let follow = alive.windows(2).filter(follows).count();
        assert!(follow > 55, "{follow} of 63 lie behind one another");
    }

    #[tokio::test]
    async fn a_buffer_of_which_a_part_is_in_use_is_lent_to_nobody_else() {
        let (mut near, mut far) = duplex(READ);
        let (buffers, mut buffer) = (Buffers::default(), BytesMut::new());
        far.write_all(&[0; 10 << 10]).await.expect("room");
        assert_eq!(
            fill(&buffers, &mut near, &mut buffer),
            Poll::Ready(10 << 10)
        );
        let body = buffer.split().freeze();
        assert_eq!(fill(&buffers, &mut near, &mut buffer), Poll::Pending);
        assert_eq!(buffers.take().capacity(), 0);
        drop(body);
        far.write_all(&[0; READ]).await.expect("room");
        let read = fill(&buffers, &mut near, &mut buffer);
        assert_eq!(read, Poll::Ready(READ), "one read brings all of the next");
    }
}
