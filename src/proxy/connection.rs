//! A client's connection, from accept to close: one request after another, its time limits kept by the
//! loop's clock, ended when a drain says so, carried on as a tunnel when it becomes one.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::event_loop::Loop;
use super::exchange::{Exchange, Held};
use super::front::{Answering, Head, Inlet, Wants};
use super::handle::{answer_bare, handle};
use super::head::AnswerHead;
use super::live::{Entry, millis};
use super::reply::Reply;
use super::rules::{self, Rejection, Returning};
use super::socket::{Peer, Socket};
use super::tunnel;
use super::upstream::Tunnel;
use crate::link::message::AcceptError;

/// A client that still sends what nobody wants is listened to for so long, and so much of it, so that
/// our answer is not lost by a reset (HTTP.md §3, early answers).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 << 20;
/// A client that closed its way to us and takes nothing for so long is taken for one that left.
const HALF_CLOSED: Duration = Duration::from_secs(2);
/// A balancer that has not said who its client is by then, after the last accept, is not waited for.
const LATE: Duration = Duration::from_secs(1);
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
    /// Since when it sends no more, on the same clock.
    ended: Cell<Option<u64>>,
    last_write: Cell<u64>,
    exchange: RefCell<Option<Rc<Exchange>>>,
    upgrade: RefCell<Option<Upgrade>>,
    killed: Cell<bool>,
    closing: Cell<bool>,
    /// The last request's body was not read to its end.
    unread: Cell<bool>,
    /// Informational answers to the request in flight, until they are written.
    informed: RefCell<BytesMut>,
    /// The request in flight is of HTTP/1.0, which knows none.
    old: Cell<bool>,
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
        self.entry.set(Some(Arc::clone(&exchange.live)));
        *self.exchange.borrow_mut() = Some(Rc::clone(exchange));
    }

    /// A request that is answered at once.
    pub(super) fn begin_bare(&self) {
        self.turn(Phase::Idle);
    }

    /// The body of the last request is left where it is.
    pub(super) fn leave_unread(&self) {
        self.unread.set(true);
    }

    /// A request is over.
    pub(super) fn end(&self, unread: bool) {
        self.turn(Phase::Idle);
        self.unread.set(unread);
        self.entry.set(None);
        drop(self.exchange.borrow_mut().take());
    }

    /// A first byte of a head is there.
    fn head_begins(&self) {
        if self.phase.get() == Phase::Idle {
            self.turn(Phase::Head);
        }
    }

    /// The worker has something to say before its answer.
    pub(super) fn inform(&self, head: &AnswerHead) {
        if self.old.get() {
            return;
        }
        let text = rules::informational(head);
        self.informed.borrow_mut().extend_from_slice(&text);
    }

    /// When the last byte went to the client.
    pub(super) fn last_write(&self) -> u64 {
        self.last_write.get()
    }

    /// It becomes a tunnel when the answer's head has been sent.
    pub(super) fn upgrade(&self, upgrade: Upgrade) {
        *self.upgrade.borrow_mut() = Some(upgrade);
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

    /// It has closed its way to us and not taken a byte for a while: it has left. A client that only
    /// closes one way, as a script that pipes a request into a socket does, takes its answer before that.
    pub(super) fn has_left(&self, now: u64) -> bool {
        let last = self
            .ended
            .get()
            .map(|ended| ended.max(self.last_write.get()));
        last.is_some_and(|last| now >= last.saturating_add(millis(HALF_CLOSED)))
    }

    fn notice_end(&self, has_ended: bool) {
        if has_ended && self.ended.get().is_none() {
            self.ended.set(Some(self.lp.now()));
        }
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
pub(super) async fn serve(lp: Rc<Loop>, place: usize, socket: Socket) {
    let open = Open(&lp);
    let (peer, fd) = (socket.peer(), socket.as_raw_fd());
    let inlet = Inlet::new(socket, Rc::clone(&lp.pool));
    let Some(peer) = introduced(&lp, place, peer, &inlet).await else {
        return;
    };
    let client = Rc::new(Client {
        entry: lp.shared.live.enter(peer.to_string()),
        address: peer.ip(),
        fd,
        phase: Cell::new(Phase::Idle),
        since: Cell::new(lp.now()),
        ended: Cell::new(None),
        last_write: Cell::new(0),
        exchange: RefCell::new(None),
        upgrade: RefCell::new(None),
        killed: Cell::new(false),
        closing: Cell::new(false),
        unread: Cell::new(false),
        informed: RefCell::default(),
        old: Cell::new(false),
        waker: RefCell::new(None),
        lp: Rc::clone(&lp),
    });
    let present = Present::new(&lp, &client);
    let mut after = After::Next;
    while matches!(after, After::Next) {
        after = turn(&lp, &client, &inlet).await;
    }
    let upgrade = client.upgrade.borrow_mut().take();
    // Whoever still holds it would be a request in flight, and there is none.
    if let Some((socket, unread)) = inlet.take_socket() {
        finish(&client, socket, unread, after, upgrade).await;
    }
    drop(present);
    drop(open);
}

/// Who the client is: the peer, or whom it names if it is a balancer that must say so. `None` ends the
/// connection: what came instead may be anything.
async fn introduced(lp: &Loop, place: usize, peer: Peer, inlet: &Inlet) -> Option<Peer> {
    let table = lp.table();
    let front = &table.front;
    let entrance = front.entrances.get(place).copied().unwrap_or_default();
    // Who reaches a unix socket was let in by its directory.
    let is_believed = peer.ip().is_none_or(|ip| front.trusts(ip));
    if !entrance.proxy_protocol || !is_believed {
        return Some(peer);
    }
    let leaving = async {
        lp.until_accepting_stops().await;
        sleep(LATE).await;
    };
    let introduction = timeout(
        front.header_timeout,
        poll_fn(|cx| inlet.poll_introduction(cx)),
    );
    let introduction = tokio::select! {
        biased;
        introduction = introduction => introduction.unwrap_or(Err("no PROXY protocol header in time")),
        () = leaving => return None,
    };
    match introduction {
        Ok(header) => Some(header?.client.map_or(peer, Peer::Tcp)),
        Err(why) => {
            tracing::debug!(%peer, why, "closed before a request");
            lp.counters.accept_failed(AcceptError::ProxyProtocol);
            None
        }
    }
}

/// What comes after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// The next one.
    Next,
    /// The connection's orderly end.
    Close,
    /// Its end in the middle of something.
    Abort,
    /// The same, where an orderly end would look like the end of an answer.
    Reset,
}

/// One request: its head, then its answer.
async fn turn(lp: &Rc<Loop>, client: &Rc<Client>, inlet: &Rc<Inlet>) -> After {
    let Some(head) = next_head(lp, client, inlet).await else {
        return After::Close;
    };
    let ((returning, reply), wants) = match head {
        Ok(head) => {
            let wants = Wants::of(&head.request, head.keep_alive);
            client.turn(Phase::Busy);
            client.old.set(wants.old);
            match until_gone(client, inlet, handle(lp, client, inlet, head)).await {
                Some(answer) => (answer, wants),
                None => return After::Abort,
            }
        }
        Err(rejection) => (refuse(lp, client, rejection), Wants::default()),
    };
    // An answer that nobody may read to its end is not begun as if another could follow it.
    let wants = match client.closing.get() {
        true => wants.last(),
        false => wants,
    };
    let switches = client.upgrade.borrow().is_some();
    let mut early = inlet.take_early();
    early.extend_from_slice(&client.informed.take());
    let mut answering = Answering::new(returning, reply, wants, &lp.date(), &early);
    let wrote = || client.last_write.set(lp.now());
    let written = poll_fn(|cx| {
        client.listen(cx);
        if client.killed.get() {
            return Poll::Ready(false);
        }
        match answering.poll(cx, inlet, wrote) {
            Poll::Ready(written) => Poll::Ready(written.is_ok()),
            Poll::Pending if switches => Poll::Pending,
            Poll::Pending => {
                let gone = inlet.poll_gone(cx).map(|()| false);
                client.notice_end(inlet.has_ended());
                gone
            }
        }
    });
    let (written, keeps_alive) = (written.await, answering.keeps_alive());
    let aborted = match answering.ends_by_closing() {
        true => After::Reset,
        false => After::Abort,
    };
    lp.pool.buffers.put(answering.into_buffer());
    match written {
        false => aborted,
        true if keeps_alive && !switches && !client.closing.get() => After::Next,
        true => After::Close,
    }
}

/// The next head, or why it is refused; `None` at the connection's end.
async fn next_head(
    lp: &Rc<Loop>,
    client: &Rc<Client>,
    inlet: &Rc<Inlet>,
) -> Option<Result<Head, Rejection>> {
    poll_fn(|cx| {
        client.listen(cx);
        if client.killed.get() || (client.closing.get() && client.phase.get() == Phase::Idle) {
            return Poll::Ready(None);
        }
        let view = lp.table();
        let head = inlet.poll_head(cx, &view.front, || client.head_begins());
        head.map(Result::transpose)
    })
    .await
}

/// A request's answer; `None` if the client leaves before it begins, or is given up.
async fn until_gone(
    client: &Rc<Client>,
    inlet: &Rc<Inlet>,
    answer: impl Future<Output = (Returning, Reply)>,
) -> Option<(Returning, Reply)> {
    let mut answer = pin!(answer);
    poll_fn(|cx| {
        client.listen(cx);
        if client.killed.get() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        inlet.inform(client.informed.take());
        let gone = inlet.poll_gone(cx).map(|()| None);
        client.notice_end(inlet.has_ended());
        gone
    })
    .await
}

/// The answer to a head that nobody else gets to see.
fn refuse(lp: &Rc<Loop>, client: &Rc<Client>, rejection: Rejection) -> (Returning, Reply) {
    lp.count_unreadable();
    answer_bare(lp, client, rejection.into(), true)
}

/// What is left to do when there is no further request.
async fn finish(
    client: &Client,
    mut socket: Socket,
    unread: Bytes,
    after: After,
    upgrade: Option<Upgrade>,
) {
    match (after, upgrade) {
        (After::Close, Some(upgrade)) => tunnel::run(socket, unread, upgrade).await,
        (After::Close, None) if client.killed.get() => {
            if client.phase.get() == Phase::Head {
                let _ = timeout(LINGER, socket.write_all(TOO_SLOW)).await;
            }
        }
        (After::Close, None) => {
            if client.unread.get() || !unread.is_empty() || client.has_unread() {
                linger(&mut socket).await;
            }
        }
        (After::Reset, _) => socket.reset_on_close(),
        (After::Next | After::Abort, _) => {}
    }
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
    let _ = timeout(LINGER, drain).await;
}

/// Counts a connection until it is closed.
struct Open<'a>(&'a Loop);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.shared.connections.fetch_sub(1, Ordering::AcqRel);
        let open = &self.0.counters.connections;
        if open.fetch_sub(1, Ordering::AcqRel) == 1 && self.0.draining.get().is_some() {
            self.0.shared.wake.notify_one();
        }
    }
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
    }
}
