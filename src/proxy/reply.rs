//! The body of an answer on its way to the client: the worker's, watched for its end, or one of ours.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::exchange::Held;
use super::upstream::AnswerBody;
use crate::link::message::ProxyReason;

/// An answer's body. It owns its exchange: when it has ended or is dropped, so has the exchange.
#[derive(Debug)]
pub(super) struct Reply {
    content: Content,
    held: Option<Held>,
    /// The worker's answer broke off; the client is told after what came before.
    broken: Option<io::Error>,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a worker's is the usual one, and a box would be an allocation for each request"
)]
enum Content {
    Ours(Option<Bytes>),
    Worker {
        body: AnswerBody,
        /// Bytes still to come, if the answer says how many.
        left: Option<u64>,
    },
}

impl Reply {
    /// An answer of ours.
    pub(super) fn ours(text: Bytes, held: Held) -> Self {
        held.0.ends_whole();
        Self {
            content: Content::Ours((!text.is_empty()).then_some(text)),
            held: Some(held),
            broken: None,
        }
    }

    /// An answer of ours to what never became an exchange.
    pub(super) fn bare(text: Bytes) -> Self {
        Self {
            content: Content::Ours(Some(text)),
            held: None,
            broken: None,
        }
    }

    /// A worker's answer of so many bytes, if it says so. One without a body has had its end already.
    pub(super) fn worker(body: AnswerBody, length: Option<u64>, held: Held) -> Self {
        if length == Some(0) {
            held.0.ends_whole();
        }
        Self {
            content: Content::Worker { body, left: length },
            held: Some(held),
            broken: None,
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let (body, left) = match &mut this.content {
            Content::Ours(text) => {
                return Poll::Ready(text.take().map(|text| Ok(Frame::data(text))));
            }
            Content::Worker { body, left } => (body, left),
        };
        let Some(held) = &this.held else {
            return Poll::Ready(None);
        };
        if held.0.is_cut() {
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
        }
        match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let (Some(left), Some(data)) = (left.as_mut(), frame.data_ref()) {
                    *left = left.saturating_sub(data.len() as u64);
                }
                if *left == Some(0) || frame.is_trailers() {
                    // The server asks no more once it has every byte or trailers, so the end is seen here.
                    let _ = Pin::new(body).poll_frame(cx);
                    held.0.ends_whole();
                    this.held = None;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                held.0.breaks(ProxyReason::BadResponse);
                this.held = None;
                this.broken = Some(error);
                // An error makes the server forget what it has not written yet: let it write first.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                held.0.ends_whole();
                this.held = None;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(
            &self.content,
            Content::Ours(None) | Content::Worker { left: Some(0), .. }
        )
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Ours(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |t| t.len() as u64))
            }
            Content::Worker {
                left: Some(left), ..
            } => SizeHint::with_exact(*left),
            Content::Worker { left: None, .. } => SizeHint::default(),
        }
    }
}
