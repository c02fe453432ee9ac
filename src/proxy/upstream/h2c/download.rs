//! An answer's body on a stream, frame by frame.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};

use super::exchange::Exchange;
use super::sessions::Place;

/// An answer's body. The worker's window opens when the client has taken what came before.
pub struct Download {
    /// Gone once the body ended.
    open: Option<Open>,
    /// Of what was handed out last, not given back to the window.
    owed: usize,
    /// What is to come, if the worker has said it.
    left: Option<u64>,
}

/// A stream of which more is to come, if only its end.
pub(super) struct Open {
    pub(super) exchange: Box<Exchange>,
    stream: RecvStream,
}

impl Open {
    /// Whether nothing more comes, of one whose answer is whole already: what does is thrown away.
    pub(super) fn has_ended(&mut self) -> bool {
        let cx = &mut Context::from_waker(Waker::noop());
        loop {
            match self.stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    // If it fails the stream is gone, which is seen next.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                }
                Poll::Ready(Some(Err(error))) => {
                    self.exchange.broke(&error);
                    return true;
                }
                Poll::Ready(None) => {
                    self.exchange.finish();
                    return true;
                }
                Poll::Pending => return false,
            }
        }
    }
}

impl Download {
    pub(super) fn new(exchange: Box<Exchange>, stream: RecvStream, length: Option<u64>) -> Self {
        let ends = stream.is_end_stream();
        let mut body = Self {
            open: Some(Open { exchange, stream }),
            owed: 0,
            left: length,
        };
        if ends {
            body.finish();
        }
        body
    }

    /// All of it was handed out, though its stream may not have ended: some workers say the end in a frame of
    /// its own.
    pub(in crate::proxy::upstream) fn is_whole(&self) -> bool {
        self.open.is_none() || self.left == Some(0)
    }

    fn finish(&mut self) {
        if let Some(mut open) = self.open.take() {
            open.exchange.finish();
        }
    }

    fn cut<T>(&mut self, error: io::Error) -> Poll<Option<io::Result<T>>> {
        self.open = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl Drop for Download {
    /// Who had all of it does not wait for the stream's end; reset, it would look to the worker like one that
    /// nobody wanted.
    fn drop(&mut self) {
        if self.is_whole()
            && let Some(open) = self.open.take()
        {
            Place::see_off(open);
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let Some(Open { exchange, stream }) = &mut this.open else {
            return Poll::Ready(None);
        };
        // What was owed counts as taken: the client asks for more.
        let owed = std::mem::take(&mut this.owed);
        if owed > 0 && stream.flow_control().release_capacity(owed).is_err() {
            return this.cut(io::ErrorKind::ConnectionReset.into());
        }
        if let Err(error) = exchange.poll_upload(cx) {
            return this.cut(error);
        }
        loop {
            match stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                Poll::Ready(Some(Ok(data))) => {
                    exchange.downloaded(data.len());
                    this.owed = data.len();
                    this.left = this.left.map(|left| left.saturating_sub(data.len() as u64));
                    if stream.is_end_stream() {
                        let _ = stream.flow_control().release_capacity(data.len());
                        this.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Err(error))) => {
                    exchange.broke(&error);
                    return this.cut(io::Error::other(error));
                }
                Poll::Ready(None) => break,
                Poll::Pending => {
                    let limit = exchange.limits.body_idle;
                    return match exchange.poll_limit(cx, limit) {
                        Poll::Ready(()) => this.cut(io::ErrorKind::TimedOut.into()),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
        match stream.poll_trailers(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => {
                exchange.broke(&error);
                this.cut(io::Error::other(error))
            }
            Poll::Ready(Ok(trailers)) => {
                this.finish();
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.open.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.open {
            None => SizeHint::with_exact(0),
            Some(_) => self
                .left
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").finish_non_exhaustive()
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download")
            .field("ended", &self.open.is_none())
            .finish_non_exhaustive()
    }
}
