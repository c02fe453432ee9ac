//! The streams of a connection: who serves them, and how many the client gave up.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;

use super::resets::Resets;
use super::stream;
use crate::link::message::Limit;
use crate::proxy::client::{Client, Phase, Present};
use crate::proxy::event_loop::Loop;

/// Tasks that wait for another stream: to make one costs more than what it then does for a small request.
const SPARE: usize = 8;

/// A stream that was accepted. Boxed, as it is large and goes through many hands.
pub(super) type Accepted = Box<(Request<RecvStream>, SendResponse<Bytes>)>;

/// The streams of a connection.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) lp: Rc<Loop>,
    connection: Rc<Client>,
    /// Seats without a stream.
    spare: RefCell<Vec<Rc<Seat>>>,
    /// The connection is gone.
    closed: Cell<bool>,
    open: Cell<u32>,
    /// Most of them at once, as the client was told.
    most: u32,
    resets: RefCell<Resets>,
}

/// A place for one stream after another, each served by the same task.
struct Seat {
    present: Present,
    next: RefCell<Option<Accepted>>,
    waker: RefCell<Option<Waker>>,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat").finish_non_exhaustive()
    }
}

impl Seat {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// Ends the tasks that wait, when it is dropped.
pub(super) struct End(Rc<Streams>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.closed.set(true);
        for seat in self.0.spare.take() {
            seat.wake();
        }
    }
}

impl Streams {
    pub(super) fn new(lp: &Rc<Loop>, connection: &Rc<Client>) -> Rc<Self> {
        Rc::new(Self {
            lp: Rc::clone(lp),
            connection: Rc::clone(connection),
            spare: RefCell::default(),
            closed: Cell::new(false),
            open: Cell::new(0),
            most: lp.table().front.max_streams,
            resets: RefCell::new(Resets::new(lp.now())),
        })
    }

    /// The connection lasts as long as this.
    pub(super) fn until_dropped(self: &Rc<Self>) -> End {
        End(Rc::clone(self))
    }

    pub(super) fn are_abused(&self) -> bool {
        self.resets.borrow().are_too_many()
    }

    /// Has a stream served.
    pub(super) fn begin(self: &Rc<Self>, accepted: Accepted) {
        let spare = self.spare.borrow_mut().pop();
        if let Some(seat) = spare {
            *seat.next.borrow_mut() = Some(accepted);
            seat.wake();
            return;
        }
        let seat = Rc::new(Seat {
            present: Present::new(&self.lp, self.connection.way().clone()),
            next: RefCell::new(Some(accepted)),
            waker: RefCell::new(None),
        });
        tokio::task::spawn_local(work(Rc::clone(self), seat));
    }

    /// The next stream at this seat; none if the connection is gone.
    async fn next(&self, seat: &Seat) -> Option<Accepted> {
        poll_fn(|cx| {
            let next = seat.next.borrow_mut().take();
            if next.is_some() || self.closed.get() {
                return Poll::Ready(next);
            }
            *seat.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// Serves one stream after another.
async fn work(streams: Rc<Streams>, seat: Rc<Seat>) {
    while let Some(accepted) = streams.next(&seat).await {
        let open = Open::new(&streams, seat.present.client());
        stream::serve(&open, accepted).await;
        drop(open);
        let mut spare = streams.spare.borrow_mut();
        if streams.closed.get() || spare.len() >= SPARE {
            return;
        }
        spare.push(Rc::clone(&seat));
    }
}

/// A stream that is open.
#[derive(Debug)]
pub(super) struct Open<'a> {
    pub(super) streams: &'a Streams,
    pub(super) client: &'a Rc<Client>,
    /// Since when, on the plane's clock.
    since: u64,
    end: Cell<Ending>,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// By itself, or the client took a part of the answer.
    Other,
    /// The client gave it up before its answer began.
    Unanswered,
    /// Its answer was handed over to its end.
    Whole,
}

impl<'a> Open<'a> {
    fn new(streams: &'a Streams, client: &'a Rc<Client>) -> Self {
        let open = streams.open.get();
        streams.open.set(open + 1);
        if open == 0 {
            streams.connection.turn(Phase::Streams);
        }
        if open + 1 == streams.most {
            streams.lp.counters.reached(Limit::Streams);
        }
        client.begin_anew();
        Self {
            streams,
            client,
            since: streams.lp.now(),
            end: Cell::new(Ending::Other),
        }
    }

    /// It has ended like this.
    pub(super) fn ended(&self, end: Ending) {
        self.end.set(end);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let streams = self.streams;
        match self.end.get() {
            Ending::Other => {}
            Ending::Unanswered => {
                let now = streams.lp.now();
                streams.resets.borrow_mut().given_up(self.since, now);
            }
            Ending::Whole => streams.resets.borrow_mut().answered(),
        }
        self.client.turn(Phase::Spare);
        let open = streams.open.get() - 1;
        streams.open.set(open);
        if open == 0 {
            streams.connection.turn(Phase::Idle);
        }
        if streams.are_abused() {
            streams.connection.wake();
        }
    }
}
