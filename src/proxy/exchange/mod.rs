//! One request, from the end of its head to the last byte of its answer: what is known of it (here), its place
//! at a gate (`lease`), how a drain cuts it (`cut`), and the one place where its end is counted (`end`).

mod cut;
mod end;
mod lease;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, StatusCode};

use super::access_log::{About, CLIENT_GONE, Notes};
use super::client::Client;
use super::counters::method_label;
use super::event_loop::Loop;
use super::grpc;
use super::head::{AnswerHead, RequestHead};
use super::live::{Begun, Entry};
use super::rules::RequestId;
use super::table::Service;
use super::tunnel::Party;
use super::upload::{Fault, Upload};
use super::upstream::Watch;
use crate::link::message::{Front, Limit, MethodLabel, Protocol, ProxyReason};
use crate::rollout::{Generation, Role, Slot};
use lease::Lease;

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
    /// It is a call of gRPC.
    call: bool,
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
    /// It is a call of gRPC.
    pub(super) call: bool,
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
            call: begin.call,
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

    /// Its worker's answer breaks the rules, for this reason.
    pub(super) fn answer_is_broken(&self, why: &str) {
        let slot = self.had.get().map(|(slot, _)| slot);
        self.lp.answer_is_broken(&self.service.name, slot, why);
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

    /// That answer says this of the call of gRPC that it is for.
    pub(super) fn call_ended(&self, status: grpc::Status) {
        self.grpc_status.set(Some(status));
    }

    /// The answer has broken off: what is to be said of it instead of its end, if it is one to a call of gRPC.
    pub(super) fn breaks_call(&self) -> Option<grpc::Status> {
        let status = match self.upload.fault() {
            Some(Fault::TooLarge) => grpc::Status::TOO_MUCH,
            Some(Fault::Left | Fault::Malformed) | None => grpc::Status::BROKEN,
        };
        let is_call = self.call && self.grpc.get();
        is_call.then(|| {
            self.call_ended(status);
            status
        })
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
