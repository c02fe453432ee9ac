//! An answer on its way to a stream, as the client's window lets it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::StatusCode;
use http_body::{Body, Frame};

use super::head::{self, Sent};
use super::streams::Ending;
use crate::proxy::client::Client;
use crate::proxy::event_loop::Loop;
use crate::proxy::reply::Reply;
use crate::proxy::rules::{self, Returning};

/// A piece of a body smaller than this is sent together with those that are there behind it, up to so much:
/// clients count small frames, and close on those that send many (as this crate does, too).
const SMALL: usize = 1 << 10;
const TOGETHER: usize = 16 << 10;

/// Hands over informational answers that wait.
pub(super) fn inform(client: &Client, respond: &mut SendResponse<Bytes>) {
    let heads = client.take_informed();
    if heads.is_empty() {
        return;
    }
    for response in head::informational(&heads) {
        // If the stream is gone the answer will meet the same.
        let _ = respond.send_informational(response);
    }
    client.wrote();
}

/// Agrees to another protocol; the stream is none of HTTP from then on.
pub(super) fn switch(
    lp: &Loop,
    client: &Client,
    respond: &mut SendResponse<Bytes>,
    returning: Returning<Sent>,
) -> Option<SendStream<Bytes>> {
    let response = head::response(returning, None, lp.date());
    client.wrote();
    respond.send_response(response, false).ok()
}

/// Hands an answer over to its end.
pub(super) async fn send(
    lp: &Loop,
    client: &Client,
    respond: &mut SendResponse<Bytes>,
    returning: Returning<Sent>,
    reply: Reply,
    of_head: bool,
) -> Ending {
    inform(client, respond);
    let status = returning.status;
    let bodiless = status == StatusCode::NO_CONTENT;
    let of_none = of_head || status == StatusCode::NOT_MODIFIED;
    let exact = reply.size_hint().exact();
    let length = match (bodiless, of_none) {
        (true, _) => None,
        // Of a body that is not there, it is what the worker says (RFC 9110 §8.6).
        (false, true) => returning.length,
        (false, false) if returning.length.is_none() && exact == Some(0) => None,
        (false, false) => exact,
    };
    let response = head::response(returning, length, lp.date());
    let ends = bodiless || of_none || exact == Some(0);
    let sent = respond.send_response(response, ends);
    client.wrote();
    match sent {
        Err(_) => Ending::Unanswered,
        Ok(_) if ends => {
            drop(reply);
            Ending::Whole
        }
        Ok(stream) => {
            let mut answering = Answering {
                reply,
                stream,
                has_length: length.is_some(),
                data: Bytes::new(),
                ahead: None,
            };
            poll_fn(|cx| answering.poll(cx, client)).await
        }
    }
}

/// A body on its way.
struct Answering {
    reply: Reply,
    stream: SendStream<Bytes>,
    /// The head says how long it is.
    has_length: bool,
    /// Waits for the window.
    data: Bytes,
    /// Comes behind it.
    ahead: Option<Piece>,
}

/// What a body brings next.
type Piece = Option<Result<Frame<Bytes>, io::Error>>;

impl Answering {
    fn poll(&mut self, cx: &mut Context<'_>, client: &Client) -> Poll<Ending> {
        client.listen(cx);
        if client.is_killed() {
            return Poll::Ready(self.breaks_off(Reason::CANCEL));
        }
        loop {
            if !self.data.is_empty() {
                match self.stream.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(0))) => continue,
                    Poll::Ready(Some(Ok(room))) => {
                        let part = self.data.split_to(room.min(self.data.len()));
                        let last = self.data.is_empty()
                            && self.ahead.is_none()
                            && self.reply.is_end_stream();
                        client.wrote();
                        if self.stream.send_data(part, last).is_err() {
                            return Poll::Ready(Ending::Other);
                        }
                        if last {
                            return Poll::Ready(Ending::Whole);
                        }
                    }
                    Poll::Ready(_) => return Poll::Ready(Ending::Other),
                    Poll::Pending => return self.poll_gone(cx),
                }
                continue;
            }
            let sent = match self.poll_piece(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        let data = self.gather(data, cx);
                        self.stream.reserve_capacity(data.len());
                        self.data = data;
                        continue;
                    }
                    Err(frame) => self.end(frame),
                },
                Poll::Ready(Some(Err(_))) => {
                    return Poll::Ready(self.breaks_off(Reason::INTERNAL_ERROR));
                }
                Poll::Ready(None) => self.stream.send_data(Bytes::new(), true),
                Poll::Pending => return self.poll_gone(cx),
            };
            return Poll::Ready(match sent {
                Ok(()) => Ending::Whole,
                Err(_) => Ending::Other,
            });
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        match self.ahead.take() {
            Some(piece) => Poll::Ready(piece),
            None => Pin::new(&mut self.reply).poll_frame(cx),
        }
    }

    /// A small piece with what is there behind it.
    fn gather(&mut self, first: Bytes, cx: &mut Context<'_>) -> Bytes {
        if first.len() >= SMALL || self.reply.is_end_stream() {
            return first;
        }
        let mut all = BytesMut::from(first);
        while all.len() < TOGETHER
            && let Poll::Ready(piece) = self.poll_piece(cx)
        {
            match piece {
                Some(Ok(frame)) if frame.is_data() => {
                    all.extend_from_slice(&frame.into_data().unwrap_or_default());
                }
                piece => {
                    self.ahead = Some(piece);
                    break;
                }
            }
        }
        all.freeze()
    }

    fn end(&mut self, frame: Frame<Bytes>) -> Result<(), h2::Error> {
        match frame.into_trailers() {
            Ok(trailers) => self.stream.send_trailers(rules::allowed_trailers(trailers)),
            Err(_) => self.stream.send_data(Bytes::new(), true),
        }
    }

    /// It must not look whole (F42).
    fn breaks_off(&mut self, reason: Reason) -> Ending {
        // What is left of a message goes nowhere, and a length that was said would be missed.
        let told = self
            .reply
            .broken_call()
            .filter(|_| self.data.is_empty() && !self.has_length);
        let sent = told.map(|status| self.stream.send_trailers(status.trailers()));
        if !matches!(sent, Some(Ok(()))) {
            self.stream.send_reset(reason);
        }
        Ending::Other
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        let _ = ready!(self.stream.poll_reset(cx));
        Poll::Ready(Ending::Other)
    }
}
