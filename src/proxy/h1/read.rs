//! Reading what comes into a buffer.

use std::future::Future as _;
use std::io;
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

/// Reads once into the buffer, which is given room first; more of it while a large body comes.
pub(in crate::proxy) fn poll_fill<S: AsyncRead + Unpin>(
    socket: &mut S,
    buffer: &mut BytesMut,
    large: bool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let size = if large { READ_LARGE } else { READ };
    if buffer.capacity() - buffer.len() < size / 4 {
        buffer.reserve(size);
    }
    pin!(socket.read_buf(buffer)).poll(cx)
}
