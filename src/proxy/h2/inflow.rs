//! The body of a request on a stream, as the worker takes it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;

use crate::proxy::client::Client;
use crate::proxy::front::Broken;
use crate::proxy::h1::{MAX_TRAILER_FIELDS, Piece};
use crate::proxy::head::is_padded;
use crate::proxy::linger::waste;

/// A piece smaller than this is put together with its neighbours while it waits.
const SMALL: usize = 256;

/// A request's body. The client's window opens as it is taken, and no sooner.
///
/// What the worker does not take yet waits here rather than in `h2`, which holds each piece as it came: of small
/// ones the windows allow a hundred thousand, whose holding costs far more than they are, and who sends messages of
/// a few bytes while its worker is busy, or is replaced, does nothing wrong.
#[derive(Debug)]
pub(in crate::proxy) struct Inflow {
    stream: RefCell<RecvStream>,
    waiting: RefCell<Waiting>,
    client: Rc<Client>,
    /// The client waits for a 100.
    expects: Cell<bool>,
    /// More may come that is to wait here.
    gathers: Cell<bool>,
    /// All of it came.
    whole: Cell<bool>,
}

/// What came and was not taken.
#[derive(Debug, Default)]
struct Waiting {
    pieces: VecDeque<Bytes>,
    /// Small ones behind those.
    small: BytesMut,
    /// What comes behind all of them.
    broken: Option<h2::Error>,
}

impl Waiting {
    fn add(&mut self, data: Bytes) {
        if data.len() < SMALL {
            return self.small.extend_from_slice(&data);
        }
        if !self.small.is_empty() {
            self.pieces.push_back(self.small.split().freeze());
        }
        self.pieces.push_back(data);
    }

    fn next(&mut self) -> Option<Bytes> {
        let small = || (!self.small.is_empty()).then(|| self.small.split().freeze());
        self.pieces.pop_front().or_else(small)
    }

    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.small.is_empty() && self.broken.is_none()
    }
}

impl Inflow {
    /// Of a stream that is to become a tunnel nothing is gathered.
    pub(super) fn new(stream: RecvStream, client: Rc<Client>, is_tunnel: bool) -> Rc<Self> {
        Rc::new(Self {
            gathers: Cell::new(!is_tunnel && !stream.is_end_stream()),
            whole: Cell::new(stream.is_end_stream()),
            stream: RefCell::new(stream),
            waiting: RefCell::default(),
            client,
            expects: Cell::new(false),
        })
    }

    /// What comes, as it comes.
    pub(super) fn into_stream(self) -> RecvStream {
        self.stream.into_inner()
    }

    /// A request begins.
    pub(in crate::proxy) fn begin(&self, expects_continue: bool) {
        self.expects.set(expects_continue);
    }

    /// Fetches what came, and has it wait. To be called whenever the stream's task is woken, which it then is by
    /// what comes.
    pub(super) fn gather(&self, cx: &mut Context<'_>) {
        if !self.gathers.get() {
            return;
        }
        let waiting = &mut *self.waiting.borrow_mut();
        let stream = &mut *self.stream.borrow_mut();
        while let Poll::Ready(data) = stream.poll_data(cx) {
            match data {
                Some(Ok(data)) => waiting.add(data),
                Some(Err(error)) => {
                    waiting.broken = Some(error);
                    return self.gathers.set(false);
                }
                None => {
                    self.whole.set(true);
                    return self.gathers.set(false);
                }
            }
        }
    }

    /// Whether all of it came, taken or not.
    pub(super) fn is_whole(&self) -> bool {
        self.whole.get()
    }

    /// The next piece of it.
    pub(in crate::proxy) fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        if self.expects.replace(false) {
            self.client.inform_continue();
        }
        let waiting = &mut *self.waiting.borrow_mut();
        let stream = &mut *self.stream.borrow_mut();
        let left = |error: h2::Error| Broken::Left(io::Error::other(error));
        loop {
            let data = match waiting.next() {
                Some(data) => data,
                None => match waiting.broken.take() {
                    Some(error) => return Poll::Ready(Err(left(error))),
                    None => match ready!(stream.poll_data(cx)) {
                        Some(data) => data.map_err(left)?,
                        None => {
                            self.whole.set(true);
                            break;
                        }
                    },
                },
            };
            // It is on its way to the worker, who takes it before we ask again.
            let released = stream.flow_control().release_capacity(data.len());
            released.map_err(left)?;
            if !data.is_empty() {
                return Poll::Ready(Ok(Piece::Data(data)));
            }
        }
        Poll::Ready(Ok(
            match ready!(stream.poll_trailers(cx)).map_err(left)? {
                Some(trailers) if trailers.len() > MAX_TRAILER_FIELDS => {
                    return Poll::Ready(Err(Broken::Malformed("too many trailers")));
                }
                Some(trailers) if trailers.values().any(is_padded) => {
                    return Poll::Ready(Err(Broken::Malformed("malformed trailer")));
                }
                Some(trailers) => Piece::Trailers(trailers),
                None => Piece::End,
            },
        ))
    }

    /// Throws away what is left of it, until its end, but no more than a client is listened to that sends what nobody
    /// wants. Whoever is told to stop together with the answer may lose that: so does curl's `libnghttp2` of 2023.
    pub(super) async fn linger(&self) {
        // Then it is told, by a reset without an error (RFC 9113 §8.1).
        waste(async || poll_fn(|cx| self.poll_waste(cx)).await).await;
    }

    /// Throws away the next piece; says how large it was, if there was one.
    fn poll_waste(&self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.client.listen(cx);
        if self.client.is_killed() {
            return Poll::Ready(None);
        }
        let waits = self.waiting.borrow_mut().next();
        let mut stream = self.stream.borrow_mut();
        let data = match waits {
            Some(data) => data,
            None => match ready!(stream.poll_data(cx)) {
                Some(Ok(data)) => data,
                Some(Err(_)) | None => return Poll::Ready(None),
            },
        };
        let released = stream.flow_control().release_capacity(data.len());
        Poll::Ready(released.ok().map(|()| data.len()))
    }

    /// Whether the last byte was taken, as far as can be told from what is here.
    pub(in crate::proxy) fn is_over(&self) -> bool {
        self.waiting.borrow().is_empty() && self.stream.borrow().is_end_stream()
    }
}
