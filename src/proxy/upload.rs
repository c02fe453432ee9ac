//! The client's body on its way to a worker: counted, limited, and its beginning kept for a second try.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};

use super::front::{self, Inlet};
use super::h1::{self, Decoder};
use super::h2;
use super::rules::Framing;

/// A request's body, read once from the client and given to one try after another.
#[derive(Debug)]
pub(super) struct Upload {
    /// Where it comes from; a request without a body has none.
    source: Option<Source>,
    /// What was read so far; `None` once it was too much to keep.
    kept: RefCell<Option<Vec<Piece>>>,
    kept_bytes: Cell<u64>,
    keep: u64,
    received: Cell<u64>,
    limit: Option<u64>,
    ended: Cell<bool>,
    /// Why it will not come to its end.
    fault: Cell<Option<Fault>>,
    /// The worker has asked for more than the client has sent.
    waits: Cell<bool>,
}

/// What a client does wrong with its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It left.
    Left,
    /// It breaks HTTP.
    Malformed,
    /// It is over `max_body`.
    TooLarge,
}

/// Where a body comes from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A connection of HTTP/1.1.
    Inlet(Rc<Inlet>),
    /// A stream of HTTP/2.
    Stream(Rc<h2::Inflow>),
}

impl Source {
    /// A request begins whose body is framed like this.
    pub(super) fn begin(&self, framing: Framing, expects_continue: bool) {
        match self {
            Self::Inlet(inlet) => inlet.begin(Decoder::from(framing), expects_continue),
            Self::Stream(inflow) => inflow.begin(expects_continue),
        }
    }

    /// Whether a part of it is here already, as far as can be told without reading.
    pub(super) fn has_come(&self) -> bool {
        match self {
            Self::Inlet(inlet) => inlet.has_more(),
            Self::Stream(_) => false,
        }
    }

    fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Result<h1::Piece, front::Broken>> {
        match self {
            Self::Inlet(inlet) => inlet.poll_piece(cx),
            Self::Stream(inflow) => inflow.poll_piece(cx),
        }
    }

    /// Whether the last byte was taken, as far as can be told from what is here.
    fn is_over(&self) -> bool {
        match self {
            Self::Inlet(inlet) => inlet.body_is_over(),
            Self::Stream(inflow) => inflow.is_over(),
        }
    }
}

#[derive(Debug, Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// Why the client's body broke off.
#[derive(Debug)]
pub(super) enum Broken {
    /// The client left, or broke HTTP.
    Client(front::Broken),
    /// It is over `max_body`.
    TooLarge,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => error.fmt(f),
            Self::TooLarge => f.write_str("the body is over `max_body`"),
        }
    }
}

impl std::error::Error for Broken {}

impl Upload {
    /// A body of which up to `keep` bytes are kept and at most `limit` are taken.
    pub(super) fn new(source: Option<Source>, keep: u64, limit: Option<u64>) -> Rc<Self> {
        let ended = source.is_none();
        Rc::new(Self {
            source,
            kept: RefCell::new(Some(Vec::new())),
            kept_bytes: Cell::new(0),
            keep,
            received: Cell::new(0),
            limit,
            ended: Cell::new(ended),
            fault: Cell::new(None),
            waits: Cell::new(false),
        })
    }

    /// That of a request without a body. All of a loop may share one: nothing about it ever changes.
    pub(super) fn none() -> Rc<Self> {
        Self::new(None, 0, None)
    }

    /// The body from its first byte, for one try.
    pub(super) fn replay(self: &Rc<Self>) -> Replay {
        Replay {
            upload: Rc::clone(self),
            next: 0,
        }
    }

    /// Whether another try can have it from its first byte.
    pub(super) fn is_replayable(&self) -> bool {
        self.kept.borrow().is_some()
    }

    /// Whether its last byte has come.
    pub(super) fn is_complete(&self) -> bool {
        self.ended.get()
    }

    /// Bytes that came.
    pub(super) fn received(&self) -> u64 {
        self.received.get()
    }

    /// Bytes kept.
    pub(super) fn kept_bytes(&self) -> u64 {
        self.kept_bytes.get()
    }

    /// Why it broke off, if it did. Whatever else goes wrong then is the client's doing.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.get()
    }

    /// Whether the client's next byte is awaited.
    pub(super) fn waits_for_client(&self) -> bool {
        self.waits.get() && !self.ended.get()
    }

    /// The client left.
    pub(super) fn breaks_off(&self) {
        if !self.ended.get() {
            self.fault.set(Some(Fault::Left));
        }
    }

    /// There will be no other try: what was kept for one is let go.
    pub(super) fn forget(&self) {
        if self.source.is_none() {
            return;
        }
        *self.kept.borrow_mut() = None;
        self.kept_bytes.set(0);
    }

    fn keep(&self, piece: &Piece, bytes: u64) {
        let mut kept = self.kept.borrow_mut();
        // The smallest piece costs this much, however few bytes it brings.
        let sum = self.kept_bytes.get() + bytes + size_of::<Piece>() as u64;
        if sum > self.keep {
            drop(kept);
            self.forget();
        } else if let Some(kept) = kept.as_mut() {
            kept.push(piece.clone());
            self.kept_bytes.set(sum);
        }
    }

    fn poll_source(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Broken>>> {
        if self.ended.get() {
            return Poll::Ready(None);
        }
        let Some(source) = &self.source else {
            return Poll::Ready(None);
        };
        let polled = source.poll_piece(cx);
        self.waits.set(polled.is_pending());
        let piece = match ready!(polled) {
            Ok(h1::Piece::Data(data)) => Piece::Data(data),
            Ok(h1::Piece::Trailers(trailers)) => Piece::Trailers(trailers),
            Ok(h1::Piece::End) => {
                self.ended.set(true);
                return Poll::Ready(None);
            }
            Err(broken) => {
                self.fault.set(Some(match broken {
                    front::Broken::Left(_) => Fault::Left,
                    front::Broken::Malformed(_) => Fault::Malformed,
                }));
                return Poll::Ready(Some(Err(Broken::Client(broken))));
            }
        };
        let bytes = match &piece {
            Piece::Data(data) => data.len() as u64,
            Piece::Trailers(_) => 0,
        };
        self.received.set(self.received.get() + bytes);
        if self.limit.is_some_and(|limit| self.received.get() > limit) {
            self.fault.set(Some(Fault::TooLarge));
            return Poll::Ready(Some(Err(Broken::TooLarge)));
        }
        // Nothing comes behind trailers, and nobody asks for it.
        if matches!(piece, Piece::Trailers(_)) || source.is_over() {
            self.ended.set(true);
        }
        self.keep(&piece, bytes);
        Poll::Ready(Some(Ok(piece)))
    }
}

/// An [`Upload`] as one try sees it.
#[derive(Debug)]
pub(super) struct Replay {
    upload: Rc<Upload>,
    /// Of what is kept, the first piece that this try has not had.
    next: usize,
}

impl Replay {
    fn kept(&self) -> Option<Piece> {
        let kept = self.upload.kept.borrow();
        kept.as_ref()?.get(self.next).cloned()
    }
}

impl Body for Replay {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let piece = match self.kept() {
            Some(piece) => piece,
            None => match ready!(self.upload.poll_source(cx)) {
                Some(Ok(piece)) => piece,
                Some(Err(broken)) => return Poll::Ready(Some(Err(broken))),
                None => return Poll::Ready(None),
            },
        };
        self.next += 1;
        Poll::Ready(Some(Ok(match piece {
            Piece::Data(data) => Frame::data(data),
            Piece::Trailers(trailers) => Frame::trailers(trailers),
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.upload.is_complete() && self.kept().is_none()
    }
}
