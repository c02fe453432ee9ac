//! The body of an answer on its way to the client: the worker's, watched for its end, or one of ours.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::exchange::Held;
use super::grpc;
use super::upstream::AnswerBody;

/// An answer's body. It owns its exchange: when it has ended or is dropped, so has the exchange.
#[derive(Debug)]
pub(super) struct Reply {
    content: Content,
    held: Option<Held>,
    /// It broke off, and is a call of gRPC that is told so.
    broken: Option<grpc::Status>,
}

#[derive(Debug)]
enum Content {
    Ours(Option<Bytes>),
    Worker(AnswerBody),
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
    pub(super) fn worker(body: AnswerBody, held: Held) -> Self {
        if body.size_hint().exact() == Some(0) {
            held.0.ends_whole();
        }
        Self {
            content: Content::Worker(body),
            held: Some(held),
            broken: None,
        }
    }

    /// What its client is told instead of its end, once it has broken off or a drain has cut it: if it is an answer to
    /// a call of gRPC.
    pub(super) fn broken_call(&mut self) -> Option<grpc::Status> {
        let cut = self.held.as_ref().filter(|held| held.0.is_cut());
        self.broken.take().or_else(|| cut?.0.breaks_call())
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
        let body = match &mut this.content {
            Content::Ours(text) => {
                let text = text.take();
                if let (Some(held), Some(text)) = (&this.held, &text) {
                    held.0.hands_on(text.len() as u64);
                }
                return Poll::Ready(text.map(|text| Ok(Frame::data(text))));
            }
            Content::Worker(body) => body,
        };
        let Some(held) = &this.held else {
            return Poll::Ready(None);
        };
        if held.0.is_cut() {
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
        }
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            held.0.trailers_come(trailers);
        }
        if let Some(Err(error)) = &frame {
            held.0.breaks(error.kind());
            this.broken = held.0.breaks_call();
            this.held = None;
        } else if body.is_end_stream() {
            // The worker is done with it, whenever the client will have taken it.
            held.0.ends_whole();
            this.held = None;
        } else if body.is_whole() {
            // Its trailers may come, for those who wait for them.
            held.0.ends_whole();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Ours(text) => text.is_none(),
            Content::Worker(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Ours(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |t| t.len() as u64))
            }
            Content::Worker(body) => body.size_hint(),
        }
    }
}
