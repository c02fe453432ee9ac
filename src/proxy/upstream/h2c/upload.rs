//! A request's body on its way to a worker's stream.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;

use super::super::Watch;
use super::super::upload::Source;
use crate::proxy::rules;

/// A body on its way, as the worker's window lets it.
pub(super) struct Upload {
    /// None once it was left.
    stream: Option<SendStream<Bytes>>,
    source: Option<Box<dyn Source>>,
    /// Waits for the window.
    data: Bytes,
    /// Something moved since the caller last cleared this.
    pub(super) moved: bool,
}

impl Upload {
    /// `source` is none if the request has ended with its head.
    pub(super) fn new(stream: SendStream<Bytes>, source: Option<Box<dyn Source>>) -> Self {
        Self {
            stream: Some(stream),
            source,
            data: Bytes::new(),
            moved: false,
        }
    }

    /// Nothing more will be sent.
    pub(super) fn is_over(&self) -> bool {
        self.source.is_none() && self.data.is_empty()
    }

    /// The worker has taken all we have; the client's turn.
    pub(super) fn waits_for_client(&self) -> bool {
        self.source.is_some() && self.data.is_empty()
    }

    /// Gives up the rest, and what keeps the stream from being reset.
    pub(super) fn leave(&mut self) -> Option<SendStream<Bytes>> {
        let _ = self.give_up();
        self.stream.take()
    }

    /// Sends what can be sent. Ready when everything was, or the worker wants no more of it.
    ///
    /// # Errors
    /// The client's: its body broke off.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, watch: &dyn Watch) -> Poll<io::Result<()>> {
        loop {
            let Some(stream) = &mut self.stream else {
                return self.give_up();
            };
            if !self.data.is_empty() {
                let Some(Ok(room)) = ready!(stream.poll_capacity(cx)) else {
                    // It may have answered already: that is what counts.
                    return self.give_up();
                };
                if room == 0 {
                    continue;
                }
                let part = self.data.split_to(room.min(self.data.len()));
                let last = self.data.is_empty() && self.source.as_ref().is_none_or(|s| s.is_over());
                let size = part.len();
                if stream.send_data(part, last).is_err() {
                    return self.give_up();
                }
                self.moved = true;
                watch.uploaded(size as u64);
                if last {
                    self.source = None;
                    watch.upload_ended();
                }
                continue;
            }
            let Some(source) = &mut self.source else {
                return Poll::Ready(Ok(()));
            };
            let Poll::Ready(frame) = source.poll_source(cx) else {
                // The worker may want no more of it.
                return match stream.poll_reset(cx) {
                    Poll::Ready(_) => self.give_up(),
                    Poll::Pending => Poll::Pending,
                };
            };
            self.moved = true;
            let sent = match frame.transpose()?.map(http_body::Frame::into_data) {
                Some(Ok(data)) => {
                    stream.reserve_capacity(data.len());
                    self.data = data;
                    continue;
                }
                Some(Err(frame)) => match frame.into_trailers() {
                    Ok(trailers) => stream.send_trailers(rules::allowed_trailers(trailers)),
                    Err(_) => continue,
                },
                None => stream.send_data(Bytes::new(), true),
            };
            self.source = None;
            if sent.is_ok() {
                watch.upload_ended();
            }
        }
    }

    fn give_up(&mut self) -> Poll<io::Result<()>> {
        self.source = None;
        self.data = Bytes::new();
        Poll::Ready(Ok(()))
    }
}
