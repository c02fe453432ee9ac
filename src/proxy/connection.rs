//! A client's connection, from accept to close: hyper serves it, we keep its time limits, end it when a
//! drain says so, and take it over when it becomes a tunnel.

use std::cell::{Cell, RefCell};
use std::future::{poll_fn, ready};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::event_loop::Loop;
use super::exchange::{Exchange, Held};
use super::handle::handle;
use super::inlet::Inlet;
use super::live::Entry;
use super::reply::Reply;
use super::respond;
use super::rules::Rejection;
use super::socket::Socket;
use super::table::View;
use super::tunnel;
use super::upstream::Tunnel;

/// A client that still sends what nobody wants is listened to for so long, and so much of it, so that
/// our answer is not lost by a reset (HTTP.md §3, early answers).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 << 20;
/// What a client reads whose head did not come to its end in time.
const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing is in flight.
    Idle,
    /// A head has begun.
    Head,
    /// A request is in flight.
    Busy,
}

/// A client's connection, as its loop and its exchanges see it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) entry: Arc<Entry>,
    address: Option<IpAddr>,
    fd: RawFd,
    lp: Rc<Loop>,
    phase: Cell<Phase>,
    /// Since when, on the plane's clock.
    since: Cell<u64>,
    last_write: Cell<u64>,
    exchange: RefCell<Option<Rc<Exchange>>>,
    upgrade: RefCell<Option<Upgrade>>,
    killed: Cell<bool>,
    closing: Cell<bool>,
    /// The last request's body was not read to its end.
    unread: Cell<bool>,
    /// A head that was refused before the server saw it: the next request it gives us stands for it.
    refused: RefCell<Option<Rejection>>,
    /// Bytes wait for the request in flight to be over.
    held_back: Cell<bool>,
    /// An answer is under way whose end is the connection's.
    ends_by_closing: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A connection that is to become a tunnel.
#[derive(Debug)]
pub(super) struct Upgrade {
    pub(super) worker: Tunnel,
    pub(super) held: Held,
}

impl Client {
    /// The peer's address; none on a unix socket.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// A request's head is complete.
    pub(super) fn begin(&self, exchange: &Rc<Exchange>) {
        self.turn(Phase::Busy);
        self.ends_by_closing.set(false);
        self.entry.set(Some(Arc::clone(&exchange.live)));
        *self.exchange.borrow_mut() = Some(Rc::clone(exchange));
    }

    /// A request that is answered at once.
    pub(super) fn begin_bare(&self) {
        self.turn(Phase::Idle);
    }

    /// A request is over.
    pub(super) fn end(&self, unread: bool) {
        self.turn(Phase::Idle);
        self.unread.set(unread);
        self.entry.set(None);
        drop(self.exchange.borrow_mut().take());
        if self.held_back.replace(false) {
            self.wake();
        }
    }

    /// Whether the next byte may be a head's; one has begun if so. If not, the connection is woken when it
    /// may be.
    pub(super) fn awaits_head(&self) -> bool {
        match self.phase.get() {
            Phase::Idle => self.turn(Phase::Head),
            Phase::Head => {}
            Phase::Busy => self.held_back.set(true),
        }
        self.phase.get() == Phase::Head
    }

    /// A whole head goes to the server.
    pub(super) fn head_came(&self) {
        self.turn(Phase::Busy);
    }

    /// The server gets something that stands for a refused head.
    pub(super) fn refuse(&self, rejection: Rejection) {
        self.head_came();
        // What comes after it is read by nobody.
        self.unread.set(true);
        *self.refused.borrow_mut() = Some(rejection);
    }

    /// The limits in force.
    pub(super) fn view(&self) -> Rc<View> {
        self.lp.table()
    }

    /// Something was written.
    pub(super) fn wrote(&self) {
        self.last_write.set(self.lp.now());
    }

    /// When the last byte went to the client.
    pub(super) fn last_write(&self) -> u64 {
        self.last_write.get()
    }

    /// It becomes a tunnel when the answer's head has been sent.
    pub(super) fn upgrade(&self, upgrade: Upgrade) {
        *self.upgrade.borrow_mut() = Some(upgrade);
    }

    /// Only the connection's end will end the answer, so a cut one must not look like a whole one.
    pub(super) fn ends_by_closing(&self) {
        self.ends_by_closing.set(true);
    }

    /// Ends it without another byte.
    pub(super) fn kill(&self) {
        self.killed.set(true);
        self.wake();
    }

    /// Ends it if nothing is in flight and nothing has come that we have not read (F46).
    pub(super) fn close_if_idle(&self) {
        if self.phase.get() == Phase::Idle && !self.has_unread() {
            self.closing.set(true);
            self.wake();
        }
    }

    /// Something has come that we have not read. Asked only while the socket is open.
    fn has_unread(&self) -> bool {
        let mut byte = [0];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        matches!(recv(self.fd, &mut byte, flags), Ok(1..))
    }

    /// What it is doing, and since when.
    pub(super) fn phase(&self) -> (Phase, u64) {
        (self.phase.get(), self.since.get())
    }

    /// What is in flight.
    pub(super) fn exchange(&self) -> Option<Rc<Exchange>> {
        self.exchange.borrow().clone()
    }

    fn turn(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.lp.now());
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn listen(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
    }
}

/// Serves one client until its connection is closed.
pub(super) async fn serve(lp: Rc<Loop>, socket: Socket) {
    let (address, label) = socket.peer();
    let client = Rc::new(Client {
        entry: lp.shared.live.enter(label),
        address,
        fd: socket.as_raw_fd(),
        phase: Cell::new(Phase::Idle),
        since: Cell::new(lp.now()),
        last_write: Cell::new(0),
        exchange: RefCell::new(None),
        upgrade: RefCell::new(None),
        killed: Cell::new(false),
        closing: Cell::new(false),
        unread: Cell::new(false),
        refused: RefCell::new(None),
        held_back: Cell::new(false),
        ends_by_closing: Cell::new(false),
        waker: RefCell::new(None),
        lp: Rc::clone(&lp),
    });
    let present = Present::new(&lp, &client);
    let io = TokioIo::new(Inlet::new(socket, Rc::clone(&client)));
    let door = Door {
        lp: Rc::clone(&lp),
        client: Rc::clone(&client),
    };
    let builder = lp.builder();
    let mut connection = builder.serve_connection(io, door);
    let ended = poll_fn(|cx| {
        if client.killed.get() {
            return Poll::Ready(Err(None));
        }
        client.listen(cx);
        if client.closing.get() {
            Pin::new(&mut connection).graceful_shutdown();
        }
        connection.poll_without_shutdown(cx).map_err(Some)
    })
    .await;
    let parts = connection.into_parts();
    let (mut socket, held) = parts.io.into_inner().into_parts();
    let upgrade = client.upgrade.borrow_mut().take();
    match (ended, upgrade) {
        (Ok(()), Some(upgrade)) => {
            debug_assert!(
                parts.read_buf.is_empty(),
                "the inlet holds what comes early"
            );
            tunnel::run(socket, held, upgrade).await;
        }
        (Ok(()), None) => {
            if client.unread.get() || !held.is_empty() || client.has_unread() {
                linger(&mut socket).await;
            }
        }
        (Err(error), _) => {
            let parsed = error.as_ref().is_some_and(hyper::Error::is_parse);
            if parsed {
                lp.count_unreadable();
                linger(&mut socket).await;
            } else if client.phase.get() == Phase::Head && client.killed.get() {
                let _ = tokio::time::timeout(LINGER, socket.write_all(TOO_SLOW)).await;
            } else if client.ends_by_closing.get() {
                socket.reset_on_close();
            }
        }
    }
    drop(present);
}

/// Says that nothing more comes, and throws away what the client still sends.
async fn linger(socket: &mut Socket) {
    let drain = async {
        socket.shutdown().await?;
        let mut scratch = vec![0; 16 << 10];
        let mut left = LINGER_BYTES;
        loop {
            let read = socket.read(&mut scratch).await?;
            if read == 0 || left < read {
                return io::Result::Ok(());
            }
            left -= read;
        }
    };
    // Whatever goes wrong, the connection is closed next.
    let _ = tokio::time::timeout(LINGER, drain).await;
}

/// A connection's place in its loop's books, given up when it ends in whatever way.
struct Present<'a> {
    lp: &'a Rc<Loop>,
    client: &'a Rc<Client>,
}

impl<'a> Present<'a> {
    fn new(lp: &'a Rc<Loop>, client: &'a Rc<Client>) -> Self {
        let number = client.entry.number();
        lp.clients.borrow_mut().insert(number, Rc::clone(client));
        Self { lp, client }
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        let entry = &self.client.entry;
        self.lp.shared.live.leave(entry);
        self.lp.clients.borrow_mut().remove(&entry.number());
        drop(self.client.upgrade.borrow_mut().take());
        self.lp.shared.connections.fetch_sub(1, Ordering::AcqRel);
        let open = &self.lp.counters.connections;
        if open.fetch_sub(1, Ordering::AcqRel) == 1 && self.lp.draining.get().is_some() {
            self.lp.shared.wake.notify_one();
        }
    }
}

/// hyper's way to us.
struct Door {
    lp: Rc<Loop>,
    client: Rc<Client>,
}

impl Service<Request<Incoming>> for Door {
    type Response = Response<Reply>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (lp, client) = (Rc::clone(&self.lp), Rc::clone(&self.client));
        if let Some(rejection) = client.refused.borrow_mut().take() {
            lp.count_unreadable();
            client.begin_bare();
            let answer = respond::answer(rejection.into(), &lp.request_id(), true);
            return Box::pin(ready(Ok(answer.map(Reply::bare))));
        }
        Box::pin(handle(lp, client, request))
    }
}
