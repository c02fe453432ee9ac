//! HTTP/2 towards clients, by the `h2` crate: a connection whose streams are clients of their own.
//!
//! ```text
//!  socket ─▶ h2 ─▶ stream ─▶ head ─▶ (handle) ─▶ answer ─▶ h2 ─▶ socket
//! ```
//!
//! `h2` frames, compresses and keeps the windows, and refuses what RFC 9113 calls malformed; what a field
//! means is [`super::rules`]' affair, as for HTTP/1.1. `hyper`'s server is not used: it can send no
//! informational answer, and does not let go of a single stream.

mod answer;
mod duplex;
mod head;
mod inflow;
mod rewound;
mod stream;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, Connection};

use super::client::{Client, Phase, Present};
use super::event_loop::Loop;
use super::socket::Socket;
use crate::link::message::Front;
pub(super) use inflow::Inflow;
use rewound::Rewound;

/// What a client may send ahead of the worker, on one stream and on all of a connection together.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// What waits in us of one stream's answer for a client that does not read.
const SEND_BUFFER: usize = 64 << 10;
/// So many small pieces of bodies may wait in us, which the windows do not count: a client that sends
/// messages of a few bytes while its worker is busy, or is replaced, does nothing wrong. Each costs some
/// 300 bytes.
const SMALL_PIECES: usize = 256 * (16 << 10);
/// A client that was told to leave is served what comes so long after, in milliseconds.
const HINT: u64 = 2_000;
/// A connection on which so many streams were given up by the client, and more than were not, only costs
/// (rapid reset, CVE-2023-44487).
const RESETS: u32 = 200;

/// Serves a connection until it is closed. `unread` was read from it already.
pub(super) async fn serve(lp: &Rc<Loop>, present: &Present, socket: Socket, unread: Bytes) {
    let client = present.client();
    client.turn(Phase::Head);
    let greeted = greet(&lp.table().front, client, Rewound::new(socket, unread)).await;
    let Some(mut connection) = greeted else {
        return;
    };
    client.turn(Phase::Idle);
    let streams = Rc::new(Streams {
        lp: Rc::clone(lp),
        connection: Rc::clone(client),
        spare: RefCell::default(),
        open: Cell::new(0),
        ended: Cell::new(0),
        reset: Cell::new(0),
    });
    let (mut told, mut gives_up) = (None, false);
    loop {
        let next = poll_fn(|cx| {
            client.listen(cx);
            if client.is_killed() {
                return Poll::Ready(None);
            }
            if client.is_closing() && told.is_none() {
                told = Some(lp.now());
                // Two steps: the client is told, and what it had sent by then is still served (F45).
                connection.graceful_shutdown();
            }
            if streams.are_abused() && !std::mem::replace(&mut gives_up, true) {
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            }
            connection.poll_accept(cx)
        });
        match next.await {
            Some(Ok((_, mut respond))) if told.is_some_and(|at| lp.now() > at + HINT) => {
                // It does not take the hint, and would hold a drain for ever.
                respond.send_reset(Reason::REFUSED_STREAM);
            }
            Some(Ok((request, respond))) => {
                let stream = stream::serve(Rc::clone(&streams), request, respond);
                tokio::task::spawn_local(stream);
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "a connection of HTTP/2 broke off");
                return;
            }
            None => return,
        }
    }
}

/// Exchanges settings; `None` if the client does not, or not in time.
async fn greet(
    front: &Front,
    client: &Client,
    socket: Rewound,
) -> Option<Connection<Rewound, Bytes>> {
    let handshake = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(front.max_streams)
        .max_header_list_size(front.max_head)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_connect_protocol()
        .data_frame_budget(SMALL_PIECES)
        .handshake(socket);
    let mut handshake = pin!(handshake);
    poll_fn(|cx| {
        client.listen(cx);
        if client.is_killed() {
            return Poll::Ready(None);
        }
        handshake.as_mut().poll(cx).map(Result::ok)
    })
    .await
}

/// The streams of a connection.
#[derive(Debug)]
struct Streams {
    lp: Rc<Loop>,
    connection: Rc<Client>,
    /// Places of streams that have ended, for those to come.
    spare: RefCell<Vec<Present>>,
    open: Cell<u32>,
    ended: Cell<u32>,
    /// Of those that have ended, the client gave up so many.
    reset: Cell<u32>,
}

impl Streams {
    fn are_abused(&self) -> bool {
        let reset = self.reset.get();
        reset > RESETS && reset > self.ended.get() / 2
    }

    /// A stream begins.
    fn open(self: &Rc<Self>) -> Open {
        let open = self.open.get();
        self.open.set(open + 1);
        if open == 0 {
            self.connection.turn(Phase::Streams);
        }
        let spare = self.spare.borrow_mut().pop();
        let present = spare.unwrap_or_else(|| Present::new(&self.lp, self.connection.way()));
        present.client().begin_anew();
        Open {
            streams: Rc::clone(self),
            present: Some(present),
            given_up: Cell::new(false),
        }
    }
}

/// An open stream's place.
#[derive(Debug)]
struct Open {
    streams: Rc<Streams>,
    /// Taken when it ends.
    present: Option<Present>,
    given_up: Cell<bool>,
}

impl Open {
    /// The client gave it up.
    fn give_up(&self) {
        self.given_up.set(true);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let streams = &self.streams;
        streams.ended.set(streams.ended.get().saturating_add(1));
        if self.given_up.get() {
            streams.reset.set(streams.reset.get().saturating_add(1));
        }
        if let Some(present) = self.present.take() {
            present.client().turn(Phase::Spare);
            streams.spare.borrow_mut().push(present);
        }
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
