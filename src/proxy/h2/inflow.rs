//! The body of a request on a stream, as the worker takes it.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use h2::RecvStream;

use crate::proxy::client::Client;
use crate::proxy::front::Broken;
use crate::proxy::h1::{MAX_TRAILER_FIELDS, Piece};

/// A request's body. The client's window opens as it is taken, and no sooner.
#[derive(Debug)]
pub(in crate::proxy) struct Inflow {
    stream: RefCell<RecvStream>,
    client: Rc<Client>,
    /// The client waits for a 100.
    expects: Cell<bool>,
}

impl Inflow {
    pub(super) fn new(stream: RecvStream, client: Rc<Client>) -> Rc<Self> {
        Rc::new(Self {
            stream: RefCell::new(stream),
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

    /// The next piece of it.
    pub(in crate::proxy) fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        if self.expects.replace(false) {
            self.client.inform_continue();
        }
        let stream = &mut *self.stream.borrow_mut();
        let left = |error: h2::Error| Broken::Left(io::Error::other(error));
        while let Some(data) = ready!(stream.poll_data(cx)) {
            let data = data.map_err(left)?;
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
                Some(trailers) => Piece::Trailers(trailers),
                None => Piece::End,
            },
        ))
    }

    /// Whether the last byte was taken, as far as can be told from what is here.
    pub(in crate::proxy) fn is_over(&self) -> bool {
        self.stream.borrow().is_end_stream()
    }
}
