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
mod frames;
mod head;
mod inflow;
mod meter;
mod resets;
mod stream;
mod streams;
mod wire;

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, Connection};

use super::client::{Client, Phase, Present};
use super::event_loop::Loop;
use super::linger::linger;
use super::socket::Socket;
use crate::link::message::{Front, ProxyReason};
pub(super) use inflow::Inflow;
use streams::Streams;
use wire::Wire;

/// What a client may send ahead of the worker, on one stream and on all of a connection together.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// What waits in us of one stream's answer for a client that does not read.
const SEND_BUFFER: usize = 64 << 10;
/// So many small pieces of bodies may wait in us, which the windows do not count: a client that sends
/// messages of a few bytes while its worker is busy, or is replaced, does nothing wrong. Each costs some
/// 300 bytes.
const SMALL_PIECES: usize = 256 * (16 << 10);
/// So many requests may be given up before we have seen them; what each holds until then counts nowhere else.
const UNSEEN_RESETS: usize = 100;
/// A client that was told to leave is served what comes so long after, in milliseconds.
const HINT: u64 = 2_000;

/// Serves a connection until it is closed. `unread` was read from it already.
pub(super) async fn serve(lp: &Rc<Loop>, present: &Present, socket: Socket, unread: Bytes) {
    let client = present.client();
    let longest = decoded(&lp.table().front);
    let wire = Wire::new(lp, client, socket, unread, longest);
    let end = converse(lp, client, &wire).await;
    client.owes_head(None);
    // What the client still sends would have the last of what we said thrown away by a reset.
    if end == End::Said
        && let Some(mut socket) = wire.into_socket()
    {
        linger(&mut socket).await;
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// All that was to be said was handed to the socket.
    Said,
    /// In the middle of something.
    Cut,
}

/// Serves streams until there is no further one.
async fn converse(lp: &Rc<Loop>, client: &Rc<Client>, wire: &Wire) -> End {
    client.turn(Phase::Head);
    let greeted = greet(&lp.table().front, client, wire).await;
    let Some(mut connection) = greeted else {
        return End::Cut;
    };
    client.is_served_to_its_end();
    client.turn(Phase::Idle);
    let streams = Streams::new(lp, client);
    let _end = streams.until_dropped();
    let (mut told, mut abused, mut gives_up) = (None, false, false);
    loop {
        let next = poll_fn(|cx| {
            client.listen(cx);
            if client.is_killed() {
                return Poll::Ready(None);
            }
            // Who gives up too much begins nothing more here. Others may be behind the same connection, whose streams
            // are served to their end.
            if (client.is_closing() || streams.are_abused()) && told.is_none() {
                told = Some(lp.now());
                // Two steps: the client is told, and what it had sent by then is still served (F45).
                connection.graceful_shutdown();
            }
            let floods = wire.is_abused();
            if (floods || streams.are_abused()) && !std::mem::replace(&mut abused, true) {
                lp.counters.abused();
            }
            if floods && !std::mem::replace(&mut gives_up, true) {
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            }
            let next = connection.poll_accept(cx);
            if next.is_pending() {
                wire.goes_on(cx);
            }
            next.map_ok(Box::new)
        });
        match next.await {
            Some(Ok(mut accepted)) if abused || told.is_some_and(|at| lp.now() > at + HINT) => {
                // It does not take the hint, and would hold a drain for ever.
                accepted.1.send_reset(Reason::REFUSED_STREAM);
            }
            Some(Ok(accepted)) => streams.begin(accepted),
            Some(Err(error)) => {
                tracing::debug!(%error, "a connection of HTTP/2 broke off");
                let calm = error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
                // What we have ended ourselves is counted.
                if calm && error.is_library() && !abused {
                    lp.counters.abused();
                } else if error.is_library() && !calm {
                    // Malformed so that `h2` ends the connection for it, and not the stream alone.
                    lp.count_unreadable(ProxyReason::BadRequest);
                }
                return match error.is_io() {
                    true => End::Cut,
                    false => End::Said,
                };
            }
            None if client.is_killed() => return End::Cut,
            None => return End::Said,
        }
    }
}

/// What `h2` takes of a head. It refuses what is longer without a word to us, or ends the connection, with all the
/// requests of others on it: what is a little too long it lets us refuse.
fn decoded(front: &Front) -> u32 {
    front.max_head.saturating_mul(2)
}

/// Exchanges settings; `None` if the client does not, or not in time.
async fn greet(front: &Front, client: &Client, wire: &Wire) -> Option<Connection<Wire, Bytes>> {
    let handshake = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(front.max_streams)
        .max_header_list_size(decoded(front))
        .max_send_buffer_size(SEND_BUFFER)
        .enable_connect_protocol()
        .data_frame_budget(SMALL_PIECES)
        .max_pending_accept_reset_streams(UNSEEN_RESETS)
        .handshake(wire.clone());
    let mut handshake = pin!(handshake);
    poll_fn(|cx| {
        client.listen(cx);
        if client.is_killed() {
            return Poll::Ready(None);
        }
        let greeted = handshake.as_mut().poll(cx);
        if greeted.is_pending() {
            wire.goes_on(cx);
        }
        greeted.map(Result::ok)
    })
    .await
}
