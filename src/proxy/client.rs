//! A client as its loop and its exchanges see it: a connection of HTTP/1.1, which has one exchange after
//! another, or a stream of HTTP/2, which has one. What it may still do and what must end it is told here;
//! whoever reads and writes for it asks.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nix::sys::socket::{MsgFlags, recv};

use super::digits::Address;
use super::drain::{Habit, PARTING};
use super::event_loop::Loop;
use super::exchange::{Exchange, Held};
use super::head::AnswerHead;
use super::live::{Entry, millis};
use super::rules;
use super::socket::Peer;
use super::table::View;
use super::tls::Known;
use super::upstream::Tunnel;
use crate::link::message::Front;

/// What a client gets that waits to be asked for its body.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// A client that closed its way to us and takes nothing for so long is taken for one that left.
const HALF_CLOSED: Duration = Duration::from_secs(2);

/// Nobody goes for another who has not rested for so long, in milliseconds.
const RESTED: u64 = 1_000;

/// What a client is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing is in flight.
    Idle,
    /// A head has begun.
    Head,
    /// A request is in flight.
    Busy,
    /// It is a connection of HTTP/2 with open streams, each of which has limits of its own.
    Streams,
    /// It was a stream of HTTP/2, and may become another.
    Spare,
}

/// How a client reached us.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) peer: Peer,
    pub(super) fd: RawFd,
    /// What is known by TLS, if it is spoken.
    pub(super) tls: Option<Rc<Known>>,
    /// It came by TLS to a balancer in front of us, which says so.
    pub(super) tls_before: bool,
    /// Its requests are sent to this port by `https`.
    pub(super) redirect: Option<u16>,
}

/// A client, as its loop and its exchanges see it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) entry: Arc<Entry>,
    address: Option<Address>,
    way: Way,
    lp: Rc<Loop>,
    phase: Cell<Phase>,
    /// Since when, on the plane's clock.
    since: Cell<u64>,
    /// Since when it sends no more, on the same clock.
    ended: Cell<Option<u64>>,
    last_write: Cell<u64>,
    /// Of its pauses between an answer and the next request.
    habit: Cell<Habit>,
    /// When the socket under a connection of many streams last took a byte.
    last_taken: Cell<u64>,
    /// Since when half a head is here though other requests are in flight, on the same clock.
    half_head: Cell<Option<u64>>,
    /// The loop looks at it at each turn of its clock.
    watched: Cell<bool>,
    /// That it may leave while it waits for its answer is worth being told by the kernel.
    may_leave: Cell<bool>,
    exchange: RefCell<Option<Rc<Exchange>>>,
    upgrade: RefCell<Option<Upgrade>>,
    killed: Cell<bool>,
    /// Since when it is to end as soon as nothing is in flight, on the same clock.
    closing: Cell<Option<u64>>,
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
    /// It is one of WebSocket.
    pub(super) websocket: bool,
    pub(super) held: Held,
}

impl Client {
    fn new(lp: &Rc<Loop>, way: Way) -> Rc<Self> {
        Rc::new(Self {
            entry: lp.shared.live.enter(way.peer),
            address: way.peer.ip().map(Address::of),
            way,
            phase: Cell::new(Phase::Idle),
            since: Cell::new(lp.now()),
            ended: Cell::new(None),
            last_write: Cell::new(0),
            habit: Cell::default(),
            last_taken: Cell::new(0),
            half_head: Cell::new(None),
            watched: Cell::new(false),
            may_leave: Cell::new(false),
            exchange: RefCell::new(None),
            upgrade: RefCell::new(None),
            killed: Cell::new(false),
            closing: Cell::new(None),
            unread: Cell::new(false),
            informed: RefCell::default(),
            old: Cell::new(false),
            waker: RefCell::new(None),
            lp: Rc::clone(lp),
        })
    }

    /// How it reached us.
    pub(super) fn way(&self) -> &Way {
        &self.way
    }

    /// The peer's address; none on a unix socket.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.way.peer.ip()
    }

    /// The same as text.
    pub(super) fn address(&self) -> Option<&Address> {
        self.address.as_ref()
    }

    /// Whether what it says of others is believed.
    pub(super) fn is_trusted(&self, front: &Front) -> bool {
        front.trusts_peer(self.ip())
    }

    /// The table in use.
    pub(super) fn table(&self) -> Rc<View> {
        self.lp.table()
    }

    /// How it reached us, or the balancer that introduced it, as `X-Forwarded-Proto` has it.
    pub(super) fn scheme(&self) -> &'static str {
        if self.way.tls.is_some() || self.way.tls_before {
            "https"
        } else {
            "http"
        }
    }

    /// The version of TLS; empty without.
    pub(super) fn tls_version(&self) -> &'static str {
        let version = self.way.tls.as_ref().and_then(|tls| tls.version);
        version.unwrap_or_default()
    }

    /// Whether a request for this host should have come by another certificate (RFC 9110 §15.5.20).
    #[inline]
    pub(super) fn is_misdirected(&self, host: &str) -> bool {
        let tls = self.way.tls.as_ref();
        tls.is_some_and(|tls| tls.misdirects(host))
    }

    /// The certificate that it showed, as lines of a head.
    pub(super) fn certificate(&self) -> Option<Bytes> {
        self.way.tls.as_ref()?.certificate.clone()
    }

    /// A stream begins where another has ended.
    pub(super) fn begin_anew(&self) {
        self.turn(Phase::Busy);
        self.killed.set(false);
        self.closing.set(None);
        self.informed.borrow_mut().clear();
        drop(self.upgrade.borrow_mut().take());
    }

    /// Its request takes long enough that it may leave meanwhile. Whoever serves it is to notice from now on.
    pub(super) fn may_leave_now(&self) {
        if !self.may_leave.replace(true) {
            self.wake();
        }
    }

    /// Whether it is to be noticed at once that it leaves.
    pub(super) fn may_leave(&self) -> bool {
        self.may_leave.get()
    }

    /// A request's head is complete.
    pub(super) fn begin(&self, exchange: &Rc<Exchange>) {
        self.turn(Phase::Busy);
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
        self.entry.end();
        drop(self.exchange.borrow_mut().take());
    }

    /// A first byte of a head is there.
    pub(super) fn head_begins(&self) {
        if self.phase.get() == Phase::Idle {
            // Before its first answer it did not pause: it connected.
            if self.last_write.get() > 0 {
                let pause = self.lp.now().saturating_sub(self.idle_since());
                self.habit.set(self.habit.get().after(pause));
            }
            self.turn(Phase::Head);
        }
    }

    /// Since when it waits for nothing, if it is idle.
    pub(super) fn idle_since(&self) -> u64 {
        self.since.get().max(self.last_write.get())
    }

    /// What is known of when it sends its next request.
    pub(super) fn habit(&self) -> Habit {
        self.habit.get()
    }

    /// It is a connection of HTTP/2: what crosses our goodbye is served.
    pub(super) fn is_served_to_its_end(&self) {
        self.habit.set(Habit::Served);
    }

    /// On a connection of many streams: since when half a head is here, if it is.
    pub(super) fn owes_head(&self, since: Option<u64>) {
        self.half_head.set(since);
        self.is_to_be_watched();
    }

    /// It has limits that a turn of the clock may bring, which one that rests has not. Says whether the loop
    /// watches it; where it was not watched, it is from now on.
    pub(super) fn is_to_be_watched(&self) -> bool {
        let active = matches!(self.phase.get(), Phase::Head | Phase::Busy);
        let has_limits = active || self.half_head.get().is_some();
        if has_limits && !self.watched.replace(true) {
            self.lp.watch(self.entry.number());
        }
        has_limits
    }

    /// The loop watches it.
    pub(super) fn is_watched(&self) -> bool {
        self.watched.get()
    }

    /// It rests, and is not watched any more.
    pub(super) fn rests(&self) {
        self.watched.set(false);
    }

    /// Half a head was here before `limit`, and we have read all that came. What we have not read is no fault
    /// of the client's.
    pub(super) fn owes_head_since(&self, limit: u64) -> bool {
        let since = self.half_head.get();
        since.is_some_and(|since| since <= limit) && !self.has_unread()
    }

    /// The worker has something to say before its answer.
    pub(super) fn inform(&self, head: &AnswerHead) {
        if self.old.get() {
            return;
        }
        let text = rules::informational(head);
        self.informed.borrow_mut().extend_from_slice(&text);
    }

    /// Its body is wanted now.
    pub(super) fn inform_continue(&self) {
        self.informed.borrow_mut().extend_from_slice(CONTINUE);
    }

    /// Since when it sends no more, on the plane's clock.
    pub(super) fn ended_at(&self) -> Option<u64> {
        self.ended.get()
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

    /// Ends it as soon as nothing is in flight.
    pub(super) fn close(&self) {
        if self.closing.get().is_none() {
            self.closing.set(Some(self.lp.now()));
        }
        self.wake();
    }

    /// Ends it if nothing is in flight and nothing has come that we have not read (F46). Says whether this was
    /// the first time.
    pub(super) fn close_if_idle(&self) -> bool {
        let anew = !self.is_closing();
        let ends = self.phase.get() == Phase::Idle && !self.has_unread();
        if ends {
            self.close();
        }
        ends && anew
    }

    /// From when on it may be made to go for another, if it rests: nothing is in flight, nor half a head. One that
    /// has just come, or was just served, may have begun to send. One that was told already is let go when it does
    /// not hear, or does not take what is left of its last answer.
    pub(super) fn room_from(&self) -> Option<u64> {
        let rests = self.phase.get() == Phase::Idle && self.half_head.get().is_none();
        rests.then(|| match self.closing.get() {
            None => self.idle_since().saturating_add(RESTED),
            Some(told) => told.max(self.last_taken.get()).saturating_add(PARTING),
        })
    }

    /// Makes room for another: it is told to go, and if it has been already, it goes. Says whether it does.
    pub(super) fn makes_room(&self) -> bool {
        if self.has_unread() {
            return false;
        }
        match self.is_closing() {
            true => self.kill(),
            false => self.close(),
        }
        true
    }

    /// Something has come that we have not read. Asked only while the socket is open.
    pub(super) fn has_unread(&self) -> bool {
        let mut byte = [0];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        matches!(recv(self.way.fd, &mut byte, flags), Ok(1..))
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

    pub(super) fn notice_end(&self, has_ended: bool) {
        if has_ended && self.ended.get().is_none() {
            self.ended.set(Some(self.lp.now()));
        }
    }

    /// It is to end without another byte.
    pub(super) fn is_killed(&self) -> bool {
        self.killed.get()
    }

    /// It is to end as soon as nothing is in flight.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.get().is_some()
    }

    /// The body of its last request was not read to its end.
    pub(super) fn has_left_unread(&self) -> bool {
        self.unread.get()
    }

    /// Its request is of HTTP/1.0, or not.
    pub(super) fn set_old(&self, old: bool) {
        self.old.set(old);
    }

    /// A byte went to it.
    pub(super) fn wrote(&self) {
        self.last_write.set(self.lp.now());
    }

    /// When the socket under a connection of many streams last took a byte of what was handed to it.
    pub(super) fn last_taken(&self) -> u64 {
        self.last_taken.get()
    }

    /// That socket took a byte.
    pub(super) fn took(&self) {
        self.last_taken.set(self.lp.now());
    }

    /// Informational answers that are to be written.
    pub(super) fn take_informed(&self) -> BytesMut {
        self.informed.take()
    }

    /// It is to become a tunnel.
    pub(super) fn will_upgrade(&self) -> bool {
        self.upgrade.borrow().is_some()
    }

    /// The tunnel that it becomes.
    pub(super) fn take_upgrade(&self) -> Option<Upgrade> {
        self.upgrade.borrow_mut().take()
    }

    /// What is in flight.
    pub(super) fn exchange(&self) -> Option<Rc<Exchange>> {
        self.exchange.borrow().clone()
    }

    pub(super) fn turn(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.lp.now());
        self.is_to_be_watched();
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    pub(super) fn listen(&self, cx: &Context<'_>) {
        remember(&self.waker, cx);
    }
}

/// Keeps whom to wake; mostly it is the one who is kept already.
pub(super) fn remember(place: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    match &mut *place.borrow_mut() {
        Some(known) => known.clone_from(cx.waker()),
        none => *none = Some(cx.waker().clone()),
    }
}

/// A client's place in its loop's books, given up when it is dropped.
#[derive(Debug)]
pub(super) struct Present {
    lp: Rc<Loop>,
    client: Rc<Client>,
}

impl Present {
    /// Enters a new client.
    pub(super) fn new(lp: &Rc<Loop>, way: Way) -> Self {
        let client = Client::new(lp, way);
        let number = client.entry.number();
        lp.clients.borrow_mut().insert(number, Rc::clone(&client));
        Self {
            lp: Rc::clone(lp),
            client,
        }
    }

    /// The client.
    pub(super) fn client(&self) -> &Rc<Client> {
        &self.client
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let entry = &self.client.entry;
        self.lp.shared.live.leave(entry);
        self.lp.clients.borrow_mut().remove(&entry.number());
        drop(self.client.upgrade.borrow_mut().take());
    }
}
