//! An answer's body on a stream, frame by frame.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};

use super::exchange::Exchange;

/// An answer's body. The worker's window opens when the client has taken what came before.
pub struct Download {
    /// Gone once the body ended.
    exchange: Option<Box<Exchange>>,
    stream: RecvStream,
    /// Of what was handed out last, not given back to the window.
    owed: usize,
    /// What is to come, if the worker has said it.
    left: Option<u64>,
}

impl Download {
    pub(super) fn new(exchange: Box<Exchange>, stream: RecvStream, length: Option<u64>) -> Self {
        let mut body = Self {
            exchange: Some(exchange),
            stream,
            owed: 0,
            left: length,
        };
        if body.stream.is_end_stream() {
            body.finish();
        }
        body
    }

    fn finish(&mut self) {
        if let Some(mut exchange) = self.exchange.take() {
            exchange.finish();
        }
    }

    fn cut<T>(&mut self, error: io::Error) -> Poll<Option<io::Result<T>>> {
        self.exchange = None;
        Poll::Ready(Some(Err(error)))
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
        let Some(exchange) = &mut this.exchange else {
            return Poll::Ready(None);
        };
        // What was owed counts as taken: the client asks for more.
        let owed = std::mem::take(&mut this.owed);
        if owed > 0 && this.stream.flow_control().release_capacity(owed).is_err() {
            return this.cut(io::ErrorKind::ConnectionReset.into());
        }
        if let Err(error) = exchange.poll_upload(cx) {
            return this.cut(error);
        }
        loop {
            match this.stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                Poll::Ready(Some(Ok(data))) => {
                    exchange.downloaded(data.len());
                    this.owed = data.len();
                    this.left = this.left.map(|left| left.saturating_sub(data.len() as u64));
                    if this.stream.is_end_stream() {
                        let _ = this.stream.flow_control().release_capacity(data.len());
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
        match this.stream.poll_trailers(cx) {
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
        self.exchange.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.exchange {
            None => SizeHint::with_exact(0),
            Some(_) => self
                .left
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download")
            .field("ended", &self.exchange.is_none())
            .finish_non_exhaustive()
    }
}
