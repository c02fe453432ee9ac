//! One request, from the end of its head to the last byte of its answer: what is known of it, its place
//! at a gate, and the one place where its end is counted.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, StatusCode};

use super::access_log::{About, CLIENT_GONE, End, Facts, Notes, Term};
use super::client::{Client, remember};
use super::counters::method_label;
use super::drain::scattered;
use super::event_loop::Loop;
use super::grpc;
use super::head::{AnswerHead, RequestHead};
use super::live::{Begun, Entry, millis};
use super::rules::RequestId;
use super::table::{Service, Worker};
use super::tunnel::Party;
use super::upload::{Fault, Upload};
use super::upstream::Watch;
use crate::link::message::{Class, Front, Limit, MethodLabel, Protocol, ProxyReason};
use crate::rollout::{Generation, Role, Slot};

/// An upload is one when its body still comes in after so long, or so much of it came.
const UPLOAD_AFTER: u64 = 1_000;
const UPLOAD_BYTES: u64 = 64 << 10;
/// An answer that takes longer is a stream, whatever its length: it is cut for standing still only.
const STREAM_AFTER: u64 = 5_000;
/// A client that leaves before an answer has begun says nothing of the worker, unless it had waited so
/// long, in milliseconds.
const IN_VAIN: u64 = 1_000;

/// Failures that say nothing of the worker: what the client asks for is not there. Else a client could have
/// any worker ejected.
const ABOUT_THE_REQUEST: [StatusCode; 2] = [
    StatusCode::NOT_IMPLEMENTED,
    StatusCode::HTTP_VERSION_NOT_SUPPORTED,
];

/// A tunnel's own part of the limit, from half of it on: whoever is cut comes back, and they are many (F47).
fn spread(client: u64, limit: u64) -> u64 {
    limit - (limit / 2).saturating_mul(scattered(client, 1_000)) / 1_000
}

/// What is known of a request in flight. Everything that must happen at its end, happens when its
/// [`Held`] is dropped.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) lp: Rc<Loop>,
    pub(super) service: Rc<Service>,
    pub(super) upload: Rc<Upload>,
    client: Rc<Client>,
    request_id: RequestId,
    method: MethodLabel,
    /// The client sent CONNECT with a protocol, and sees 200 where a worker says 101 (RFC 8441 §5).
    by_connect: bool,
    /// May be sent twice (RFC 9110 §9.2.2).
    idempotent: bool,
    began: Instant,
    /// The same, on the plane's clock.
    began_at: u64,
    /// Bytes of bodies that came from the client and went to it.
    moved: Cell<(u64, u64)>,
    lease: RefCell<Option<Lease>>,
    /// The role of the generation that had it last.
    role: Cell<Option<Role>>,
    /// The role of the generation that has it, as those in flight are counted.
    at: Cell<Option<Role>>,
    /// The worker that had it last, by slot and generation, for the access log.
    had: Cell<Option<(Slot, Generation)>>,
    /// What the access log needs of its head, if there is one.
    notes: RefCell<Option<Box<Notes>>>,
    /// When the last try began, if that was later than the request.
    tried: Cell<Option<Instant>>,
    connect: Cell<Option<Duration>>,
    first_byte: Cell<Option<Duration>>,
    /// The head of an answer is on its way to the client: its status and since when.
    answered: Cell<Option<(StatusCode, u64)>>,
    /// The answer says that it is a stream of events.
    events: Cell<bool>,
    /// The answer is one of gRPC.
    grpc: Cell<bool>,
    /// What it says of the call.
    grpc_status: Cell<Option<grpc::Status>>,
    tunnel: Cell<bool>,
    /// It is a tunnel whose worker says no more, which the client was told behind all that it said.
    worker_ended: Cell<bool>,
    /// And its worker is gone.
    lost: Cell<bool>,
    /// It is a tunnel whose worker left without a goodbye.
    deserted: Cell<bool>,
    /// Since when it is an upload no more, if it was one: its answer has a plain request's time from then.
    uploaded: Cell<Option<u64>>,
    whole: Cell<bool>,
    /// The answer is one of ours.
    refused: Cell<bool>,
    reason: Cell<Option<ProxyReason>>,
    cut: Cell<bool>,
    /// It has ended, and its client may have another in flight.
    over: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// The one owner of an exchange; dropping it is the exchange's end.
#[derive(Debug)]
pub(super) struct Held(pub(super) Rc<Exchange>);

/// A place inside a worker's gate.
#[derive(Debug)]
struct Lease {
    worker: Rc<Worker>,
    lp: Rc<Loop>,
    class: Cell<Class>,
    failed: Cell<bool>,
    /// Whether the worker does well, if this request tells.
    well: Cell<Option<bool>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (gate, index) = (&self.worker.gate, self.lp.index);
        gate.reclass(index, self.class.get(), Class::Plain);
        gate.ended(index, self.failed.get());
        let well = self.well.get();
        let is_worth_a_look = well.is_some_and(|well| self.worker.judged(index, well));
        if self.worker.leave(index) || is_worth_a_look {
            self.lp.shared.wake.notify_one();
        }
    }
}

/// What a new exchange is about.
pub(super) struct Begin<'a> {
    pub(super) client: &'a Rc<Client>,
    /// When it came.
    pub(super) began: Instant,
    pub(super) service: Rc<Service>,
    pub(super) request_id: RequestId,
    pub(super) method: &'a Method,
    /// The method that the client sent.
    pub(super) asked: &'a Method,
    pub(super) path: &'a str,
    pub(super) upload: Rc<Upload>,
}

impl Exchange {
    /// A request's head is complete.
    pub(super) fn begin(lp: &Rc<Loop>, begin: Begin<'_>) -> Held {
        let client = begin.client;
        let began_at = lp.now();
        client.entry.begin(&Begun {
            service: &begin.service.name,
            request_id: &begin.request_id,
            method: begin.asked,
            path: begin.path,
            at: began_at,
        });
        begin.service.counters.enters(None);
        let exchange = Rc::new(Self {
            lp: Rc::clone(lp),
            client: Rc::clone(client),
            request_id: begin.request_id,
            method: method_label(begin.asked),
            by_connect: *begin.asked == Method::CONNECT && *begin.method != Method::CONNECT,
            idempotent: begin.method.is_idempotent(),
            began: begin.began,
            began_at,
            moved: Cell::new((0, 0)),
            service: begin.service,
            upload: begin.upload,
            lease: RefCell::new(None),
            role: Cell::new(None),
            at: Cell::new(None),
            had: Cell::new(None),
            notes: RefCell::new(None),
            tried: Cell::new(None),
            connect: Cell::new(None),
            first_byte: Cell::new(None),
            answered: Cell::new(None),
            events: Cell::new(false),
            grpc: Cell::new(false),
            grpc_status: Cell::new(None),
            tunnel: Cell::new(false),
            worker_ended: Cell::new(false),
            lost: Cell::new(false),
            deserted: Cell::new(false),
            uploaded: Cell::new(None),
            whole: Cell::new(false),
            refused: Cell::new(false),
            reason: Cell::new(None),
            cut: Cell::new(false),
            over: Cell::new(false),
            waker: RefCell::new(None),
        });
        client.begin(&exchange);
        Held(exchange)
    }

    /// What people see of it.
    pub(super) fn live(&self) -> &Entry {
        &self.client.entry
    }

    /// It has passed this worker's gate.
    pub(super) fn lease(&self, worker: &Rc<Worker>, attempt: u32) {
        self.role.set(Some(worker.role));
        self.goes(Some(worker.role));
        self.had.set(Some((worker.slot, worker.generation)));
        self.live().set_worker(Some(worker.id));
        self.live().set_attempt(attempt);
        self.live().set_class(Class::Plain);
        *self.lease.borrow_mut() = Some(Lease {
            worker: Rc::clone(worker),
            lp: Rc::clone(&self.lp),
            class: Cell::new(Class::Plain),
            failed: Cell::new(false),
            well: Cell::new(None),
        });
    }

    /// It is counted among those in flight at workers of this role from now on, or that wait for one.
    fn goes(&self, to: Option<Role>) {
        let from = self.at.replace(to);
        if from != to {
            self.service.counters.enters(to);
            self.service.counters.leaves(from);
        }
    }

    /// A try failed before anything was sent, and it waits again.
    pub(super) fn waits_again(&self) {
        self.release();
        self.tried_anew();
        self.goes(None);
    }

    /// A further try will come, after one that failed for this reason.
    pub(super) fn retried(&self, reason: ProxyReason) {
        self.waits_again();
        let mut tally = self.service.counters.tally();
        tally.retried(self.role.get(), reason);
    }

    /// The worker that has it failed, as far as we can see.
    pub(super) fn blame_worker(&self) {
        if let Some(lease) = &*self.lease.borrow() {
            lease.failed.set(true);
            lease.well.set(Some(false));
        }
    }

    /// It leaves its worker's gate, before its own end if it will be tried elsewhere.
    pub(super) fn release(&self) {
        self.live().set_worker(None);
        self.live().set_cut_at(None);
        drop(self.lease.borrow_mut().take());
    }

    /// The head of an answer goes to the client.
    pub(super) fn answer_begins(&self, head: &AnswerHead) {
        self.answered.set(Some((head.status, self.lp.now())));
        self.progress(0, 0);
        self.events.set(head.is_event_stream());
        if self.events.get() && head.is_grpc() {
            self.grpc.set(true);
            self.grpc_status.set(grpc::Status::of_head(head));
        }
        let now = Instant::now();
        self.first_byte.set(Some(now - self.tried_at()));
        let mut tally = self.service.counters.tally();
        tally.first_byte.observe(now - self.began);
    }

    /// Keeps what the access log will say of the head, which is soon gone.
    pub(super) fn note(&self, request: &RequestHead, host: &str, believed: Option<&Front>) {
        let about = About {
            request_id: self.request_id.as_bytes(),
            service: &self.service.name.0,
            host,
            believed,
        };
        let log = &self.lp.log;
        *self.notes.borrow_mut() = log.note(&self.client, about, request, self.began);
    }

    /// It has waited, or failed at a worker, and is tried anew.
    pub(super) fn tried_anew(&self) {
        self.tried.set(Some(Instant::now()));
    }

    /// When its present try began.
    pub(super) fn tried_at(&self) -> Instant {
        self.tried.get().unwrap_or(self.began)
    }

    /// A connection was made for it, which took so long.
    pub(super) fn connected(&self, took: Duration) {
        self.connect.set(Some(took));
    }

    /// The answer has these behind its body.
    pub(super) fn trailers_come(&self, trailers: &HeaderMap) {
        if self.grpc.get() {
            let status = grpc::Status::of_trailers(trailers);
            self.grpc_status.set(status.or(self.grpc_status.get()));
        }
    }

    /// An answer of ours goes to the client.
    pub(super) fn refuse(&self, status: StatusCode, reason: ProxyReason) {
        self.reason.set(Some(reason));
        self.refused.set(true);
        self.answered.set(Some((status, self.lp.now())));
    }

    /// So much of an answer of ours goes to the client, if it is there.
    pub(super) fn hands_on(&self, bytes: u64) {
        if self.code() != CLIENT_GONE {
            self.progress(0, bytes);
        }
    }

    /// It has become a tunnel.
    pub(super) fn becomes_tunnel(&self) {
        self.tunnel.set(true);
        self.classify();
    }

    /// The worker's side of a tunnel has ended, and all of it was handed on.
    pub(super) fn worker_ends(&self) {
        self.worker_ended.set(true);
    }

    /// It is a tunnel whose worker's side has ended, and not because the worker was done with it: the worker is gone,
    /// for which it would have had to wait otherwise.
    pub(super) fn has_lost_worker(&self) -> bool {
        let is_gone = |worker: Rc<Worker>| !self.lp.table().has(worker.id);
        self.worker_ended.get() && self.worker().is_some_and(is_gone)
    }

    /// Ends a tunnel whose client waits for a worker that is gone.
    pub(super) fn lose(&self) {
        self.lost.set(true);
        self.stir();
    }

    /// A tunnel broke off by this end's doing. It is no failure of the worker's that anything is decided by: one that
    /// closes with something unread resets, however well it does.
    pub(super) fn breaks_off(&self, by: Party) {
        self.reason.set(Some(match by {
            Party::Client => ProxyReason::ClientGone,
            Party::Worker => ProxyReason::BadResponse,
        }));
    }

    /// A WebSocket whose worker left without a goodbye, all of which was passed on. We can only guess why, so that it
    /// is told, and counts as no error.
    pub(super) fn is_deserted(&self) {
        self.deserted.set(true);
        self.ends_whole();
    }

    /// The answer's last byte was handed on.
    pub(super) fn ends_whole(&self) {
        self.whole.set(true);
    }

    /// The answer broke off, by an error of this kind: by the client's doing if its body broke off, or did
    /// not go on, and else by the worker's. Any stranger could have any worker ejected otherwise (F52).
    pub(super) fn breaks(&self, how: io::ErrorKind) {
        let silent = how == io::ErrorKind::TimedOut && self.upload.waits_for_client();
        let reason = match self.upload.fault() {
            Some(Fault::Left) => ProxyReason::ClientGone,
            Some(Fault::Malformed) => ProxyReason::BadRequest,
            Some(Fault::TooLarge) => {
                self.lp.counters.reached(Limit::Body);
                ProxyReason::BadRequest
            }
            None if silent => {
                self.lp.counters.reached(Limit::BodyTime);
                ProxyReason::RequestTimeout
            }
            None => {
                self.blame_worker();
                ProxyReason::BadResponse
            }
        };
        self.reason.set(Some(reason));
    }

    /// Bytes moved.
    pub(super) fn progress(&self, bytes_in: u64, bytes_out: u64) {
        if self.over.get() {
            return;
        }
        let (before_in, before_out) = self.moved.get();
        let moved = (before_in + bytes_in, before_out + bytes_out);
        self.moved.set(moved);
        self.live().set_moved(moved, self.lp.now());
    }

    /// Whether a drain's limit has cut it.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// Resolves when a drain's limit cuts it.
    pub(super) async fn until_cut(&self) {
        self.until(|| self.cut.get()).await;
    }

    /// Resolves when a tunnel is cut, or its worker lost.
    pub(super) async fn until_parted(&self) {
        self.until(|| self.cut.get() || self.lost.get()).await;
    }

    async fn until(&self, come: impl Fn() -> bool) {
        poll_fn(|cx| {
            if come() {
                return Poll::Ready(());
            }
            remember(&self.waker, cx);
            Poll::Pending
        })
        .await;
    }

    /// Has whoever waits for one of those look.
    fn stir(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Counts what it is now; called at each turn of the loop's clock.
    pub(super) fn classify(&self) -> Class {
        let now = self.lp.now();
        let streams = |(_, since): (StatusCode, u64)| {
            self.events.get() || now.saturating_sub(since) >= STREAM_AFTER
        };
        let uploads = !self.upload.is_complete()
            && (self.upload.received() >= UPLOAD_BYTES
                || now.saturating_sub(self.began_at) >= UPLOAD_AFTER);
        let lease = self.lease.borrow();
        let class = if self.tunnel.get() {
            Class::Tunnel
        } else if self.answered.get().is_some_and(streams) {
            Class::Stream
        } else if lease.is_none() {
            return self.live().class();
        } else if uploads {
            Class::Upload
        } else {
            Class::Plain
        };
        if let Some(lease) = &*lease {
            let before = lease.class.replace(class);
            if before != class {
                if before == Class::Upload {
                    self.uploaded.set(Some(now));
                }
                lease.worker.gate.reclass(self.lp.index, before, class);
                self.live().set_class(class);
            }
        }
        class
    }

    /// The worker that has it.
    pub(super) fn worker(&self) -> Option<Rc<Worker>> {
        let lease = self.lease.borrow();
        Some(Rc::clone(&lease.as_ref()?.worker))
    }

    /// When it is to be cut, if its gate is shut or the plane drains.
    pub(super) fn cut_at(&self) -> Option<u64> {
        let shut = self.worker().and_then(|worker| worker.gate.shut_at());
        let drain = self.lp.draining.get();
        let since = match (shut, drain) {
            (Some(shut), Some(drain)) => shut.min(drain.since),
            (shut, drain) => shut.or(drain.map(|drain| drain.since))?,
        };
        // Those of now: to lower them is how somebody ends what holds up a drain.
        let view = self.lp.table();
        let mut services = view.services.iter();
        let current = services.find(|service| service.name == self.service.name);
        let limits = &current.unwrap_or(&self.service).rules.drain;
        if let Some(drain) = drain.filter(|drain| drain.orphaned) {
            return Some(drain.since.saturating_add(millis(limits.request)));
        }
        let last = self.live().last().max(since);
        let (from, limit) = match self.classify() {
            Class::Plain | Class::Parked => {
                let since = self.uploaded.get().map_or(since, |at| at.max(since));
                return Some(since.saturating_add(millis(limits.request)));
            }
            Class::Upload => (last, limits.upload),
            Class::Stream => (last, limits.stream),
            Class::Tunnel => (last, limits.tunnel),
        };
        // Many tunnels are open at a time, and their clients are not to come back all at once (F47).
        let time = |limit| match self.tunnel.get() {
            true => spread(self.client.entry.number(), millis(limit)),
            false => millis(limit),
        };
        let at = from.saturating_add(time(limit));
        Some(at.min(since.saturating_add(time(limits.at_most))))
    }

    /// The drain's limit is over.
    pub(super) fn cut(&self) {
        if self.cut.replace(true) {
            return;
        }
        self.reason.set(Some(ProxyReason::DrainLimit));
        if let Some(lease) = &*self.lease.borrow() {
            let class = lease.class.get();
            lease.worker.gate.count_cut(self.lp.index, class);
        }
        if self.answered.get().is_some() && !self.tunnel.get() {
            // A client that does not read would keep the answer's body from being asked again.
            self.client.kill();
        }
        self.stir();
    }

    /// Whether the client has stopped to take its answer: no byte went either way for longer than a
    /// body may stand still.
    pub(super) fn is_stuck(&self) -> bool {
        let last = self.live().last().max(self.client.last_write());
        let idle = self.lp.now().saturating_sub(last);
        // The worker's side has the same limit and must win, so that it gets the blame.
        let limit = millis(self.service.rules.body_idle_timeout).saturating_add(1_000);
        self.answered.get().is_some() && !self.events.get() && !self.tunnel.get() && idle > limit
    }

    /// Notes whether its worker does well. A request that broke off, or that we answered, does not tell.
    fn judge_worker(&self) {
        let lease = self.lease.borrow();
        let (Some(lease), Some((status, _))) = (&*lease, self.answered.get()) else {
            return;
        };
        if ABOUT_THE_REQUEST.contains(&status) {
            lease.well.set(None);
        } else if self.whole.get() && self.reason.get().is_none() && !lease.failed.get() {
            lease.well.set(Some(true));
        }
    }

    fn end(&self) {
        let (bytes_in, bytes_out) = self.moved.get();
        let answered = self.answered.get();
        let bad = answered.is_some_and(|(status, _)| status.is_server_error())
            || self.grpc_status.get().is_some_and(grpc::Status::is_failure);
        if bad && self.reason.get().is_none() {
            self.blame_worker();
        }
        self.judge_worker();
        if !self.whole.get() && self.reason.get().is_none() {
            self.reason.set(Some(ProxyReason::ClientGone));
        }
        let code = self.code();
        let role = self.role.get();
        let mut tally = self.service.counters.tally();
        tally.moved(role, bytes_in, bytes_out);
        if let Some(reason) = self.reason.get() {
            tally.failed(role, reason);
        }
        let took = self.began.elapsed();
        if answered.is_none() && self.reason.get() == Some(ProxyReason::ClientGone) {
            self.is_given_up();
        }
        tally.ended(role, code, self.method, took);
        drop(tally);
        self.service.counters.leaves(self.at.get());
        self.log(took);
        // Last, so that who sees the gate left also sees what is counted above.
        self.release();
        self.over.set(true);
        self.client.end(!self.upload.is_complete());
    }

    /// Its client left without a byte of an answer.
    fn is_given_up(&self) {
        let left = self.client.ended_at().unwrap_or(self.lp.now());
        let waited = left.saturating_sub(self.began_at);
        if let Some(lease) = &*self.lease.borrow()
            && waited >= IN_VAIN
            && self.upload.is_complete()
            && !lease.failed.get()
        {
            lease.worker.gate.count_given_up(self.lp.index);
        }
    }

    /// The status that the client saw.
    fn code(&self) -> u16 {
        match self.answered.get() {
            None => CLIENT_GONE,
            // What is said to one that broke its body off is for one that has only closed its way to us.
            Some(_) if self.refused.get() && self.reason.get() == Some(ProxyReason::ClientGone) => {
                CLIENT_GONE
            }
            Some((StatusCode::SWITCHING_PROTOCOLS, _)) if self.by_connect => {
                StatusCode::OK.as_u16()
            }
            Some((status, _)) => status.as_u16(),
        }
    }

    /// The line of the access log.
    fn log(&self, took: Duration) {
        let Some(notes) = self.notes.borrow_mut().take() else {
            return;
        };
        let (bytes_in, bytes_out) = self.moved.get();
        let answered = self.answered.get();
        let had = self.had.get();
        let end = End {
            reason: self.reason.get(),
            refused: self.refused.get(),
            answered: answered.is_some() && !self.refused.get(),
            unfinished: self.upload.fault().is_some(),
            tunnel: self.tunnel.get(),
            deserted: self.deserted.get(),
            parked: self.live().class() == Class::Parked,
            maintenance: self.service.rules.maintenance,
        };
        let facts = Facts {
            status: self.code(),
            bytes_in,
            bytes_out,
            took,
            connect: self.connect.get(),
            first_byte: self.first_byte.get(),
            grpc_status: self.grpc_status.get().map(|status| status.0),
            worker: had.map(|(slot, generation)| (slot.0, generation.0)),
            attempt: had.map_or(0, |_| self.live().attempt()),
            term: Term::of(end),
        };
        self.lp.log.line(&facts, notes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Watch for Exchange {
    fn uploaded(&self, bytes: u64) {
        // A worker of HTTP/2 may say that it has looked at nothing of it (F44).
        let lease = self.lease.borrow();
        let of = lease.as_ref().map(|lease| lease.worker.protocol);
        let may_say = of == Some(Protocol::H2c);
        drop(lease);
        if !self.idempotent && !may_say {
            self.upload.forget();
        }
        self.progress(bytes, 0);
    }

    fn upload_ended(&self) {}

    fn downloaded(&self, bytes: u64) {
        self.progress(0, bytes);
    }

    fn informational(&self, head: &AnswerHead) {
        self.progress(0, 0);
        // A 100 is for us; the client gets its own when its body is asked for.
        if head.status != StatusCode::CONTINUE {
            self.client.inform(head);
        }
    }

    fn ended(&self, _whole: bool) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f47_tunnels_are_cut_spread_over_the_second_half_of_their_limit() {
        let times: Vec<_> = (0..1_000).map(|client| spread(client, 10_000)).collect();
        assert!(times.iter().all(|at| (5_000..=10_000).contains(at)));
        for tenth in 0..10 {
            let (from, to) = (5_000 + tenth * 500, 5_500 + tenth * 500);
            let count = times.iter().filter(|at| (from..to).contains(*at)).count();
            assert!((80..=120).contains(&count), "{count} from {from} on");
        }
        assert_eq!(spread(7, 0), 0);
        let longest = spread(7, u64::MAX);
        assert!(longest >= u64::MAX / 2, "no overflow");
    }
}
