//! Gets an answer for a request: pick, pass the gate, connect, send; again elsewhere if the rules of
//! [`super::retry`] allow it; park while nobody can answer, and queue while everybody has enough.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::exchange::Exchange;
use super::park::OFFER_AGAIN;
use super::pick::{Picked, Seeker};
use super::queue::Queue;
use super::respond::ProxyError;
use super::retry::{Failed, Tried, is_charged, may_repeat};
use super::rules::Outgoing;
use super::table::{Service, View, Worker};
use super::upload::Fault;
use super::upstream::{self, Answer, Limits, SendError, SendErrorKind, Watch};
use crate::link::message::{Class, Protocol, ProxyReason};
use crate::rollout::{Generation, WorkerId};
use crate::sys::is_exhausted;

/// The head of a worker's answer, and its body to come.
///
/// # Errors
/// What to answer instead.
pub(super) async fn forward(
    exchange: &Rc<Exchange>,
    outgoing: &Outgoing,
) -> Result<Answer, ProxyError> {
    let mut errand = Errand {
        exchange,
        outgoing,
        tries: 0,
        unanswered: 0,
        unanswered_by: None,
        failed: Vec::new(),
        fresh: false,
        further: false,
        doubtful: None,
        scout: false,
        patience: None,
        queue_patience: None,
    };
    let service = &exchange.service;
    let _live = service.budget.enters(service.rules.retry);
    exchange.lp.step_aside().await;
    loop {
        let worker = errand.worker().await?;
        match errand.attempt(&worker).await {
            Ok(answer) => {
                service.budget.answered();
                return Ok(answer);
            }
            Err(failure) => errand.after(&worker, &failure)?,
        }
    }
}

/// One request's tries.
struct Errand<'a> {
    exchange: &'a Rc<Exchange>,
    outgoing: &'a Outgoing,
    tries: u32,
    /// Workers at which a try ended without an answer after something was sent, one after another, and the
    /// last of them.
    unanswered: u32,
    unanswered_by: Option<WorkerId>,
    /// Workers that failed it since somebody else was last there to take it.
    failed: Vec<WorkerId>,
    /// Only a new connection will do: the last try met a dead one.
    fresh: bool,
    /// Whether the present try is a further one of which the budget wants to know that it failed.
    further: bool,
    /// It failed on a connection that had waited: perhaps it only closed that, perhaps it dies, and its
    /// listener goes last. Asked again only if nobody else can be.
    doubtful: Option<WorkerId>,
    /// It looks for all that wait whether a worker takes requests again, and asks each.
    scout: bool,
    /// When waiting for a worker ends, once it has begun.
    patience: Option<Instant>,
    /// When waiting for a place at a worker ends, once it has begun.
    queue_patience: Option<Instant>,
}

/// How a try failed.
struct Failure {
    how: Failed,
    error: ProxyError,
    /// The worker is to blame, and not a connection that had waited too long.
    blame: bool,
    /// It was sent on a connection that had waited: a new one to the same worker may well do.
    reused: bool,
}

/// What few requests do is boxed: the future of each would be as large as all of it.
impl Errand<'_> {
    /// A worker whose gate was passed.
    async fn worker(&mut self) -> Result<Rc<Worker>, ProxyError> {
        loop {
            match self.look(None) {
                Picked::Worker(worker) => return Ok(worker),
                Picked::Full(generation, queue) => {
                    if let Some(worker) = Box::pin(self.queue(generation, &queue)).await? {
                        return Ok(worker);
                    }
                }
                Picked::Nobody => {
                    self.scout = false;
                    Box::pin(self.park()).await?;
                    self.exchange.tried_anew();
                    self.failed.clear();
                }
            }
        }
    }

    /// Its service as it is now: the table may be another than at the request's begin.
    fn service<'t>(&'t self, table: &'t View) -> &'t Service {
        let mut services = table.services.iter();
        let known = services.find(|of| of.name == self.exchange.service.name);
        known.unwrap_or(&self.exchange.service)
    }

    /// Looks for a worker once, as the first one of a generation's line if it is that. The exchange is at
    /// the worker that was found when this returns.
    fn look(&self, first_of: Option<Generation>) -> Picked {
        let exchange = self.exchange;
        let lp = &exchange.lp;
        let table = lp.table();
        let service = self.service(&table);
        let seek = |avoid: &[WorkerId]| {
            let seeker = Seeker {
                index: lp.index,
                random: &lp.random,
                avoid,
                now: lp.now(),
            };
            match first_of {
                None => seeker.pick(service),
                Some(generation) => seeker.pick_first(service, generation),
            }
        };
        let others = self.doubtful.map(|doubtful| {
            let mut avoid = self.failed.clone();
            avoid.push(doubtful);
            seek(&avoid)
        });
        let picked = match others {
            Some(picked @ Picked::Worker(_)) => picked,
            Some(Picked::Full(..) | Picked::Nobody) | None => seek(&self.failed),
        };
        if let Picked::Worker(worker) = &picked {
            exchange.lease(worker, self.tries + 1);
        }
        picked
    }

    /// Waits in a generation's line until there is a place, or nothing to wait for any more.
    async fn queue(
        &mut self,
        generation: Generation,
        queue: &Arc<Queue>,
    ) -> Result<Option<Rc<Worker>>, ProxyError> {
        let exchange = self.exchange;
        let rules = &exchange.service.rules.queue;
        let Some(_place) = queue.lot().enter(self.held_bytes(), rules) else {
            return Err(self.turned_away(ProxyReason::QueueFull, "too many wait for a place"));
        };
        let now = Instant::now();
        let patience = *self.queue_patience.get_or_insert(now + rules.max_wait);
        exchange.live().set_class(Class::Parked);
        let _parked = Parked::new(exchange, now);
        let turn = queue.join();
        loop {
            if turn.has_come() {
                match self.look(Some(generation)) {
                    Picked::Worker(worker) => return Ok(Some(worker)),
                    Picked::Full(..) => {}
                    Picked::Nobody => return Ok(None),
                }
            }
            let until = self.offered_again(patience);
            tokio::select! {
                biased;
                () = exchange.until_cut() => return Err(drain_limit()),
                called = timeout_at(until, turn.called()) => match called {
                    Ok(()) => {}
                    Err(_) if until < patience => {
                        if exchange.service.scouts.goes(until) {
                            self.failed.clear();
                        }
                    }
                    Err(_) => {
                        let why = "no place at a worker in time";
                        return Err(self.turned_away(ProxyReason::QueueTimeout, why));
                    }
                },
            }
        }
    }

    /// Waits until there may be somebody.
    async fn park(&mut self) -> Result<(), ProxyError> {
        let exchange = self.exchange;
        let rules = &exchange.service.rules.parking;
        if exchange.lp.draining.get().is_some_and(|it| it.orphaned) {
            return self.unavailable("nobody is ready, and the supervisor is gone");
        }
        let lot = &exchange.lp.shared.parked;
        let Some(_place) = lot.enter(self.held_bytes(), rules) else {
            return self.unavailable("nobody is ready, and parking is full");
        };
        let now = Instant::now();
        let patience = *self.patience.get_or_insert(now + rules.max_wait);
        if now >= patience {
            return self.unavailable("nobody was ready in time");
        }
        exchange.live().set_class(Class::Parked);
        let _parked = Parked::new(exchange, now);
        let mut called = pin!(exchange.lp.line.wait());
        loop {
            let until = self.offered_again(patience);
            let called = tokio::select! {
                biased;
                () = exchange.until_cut() => return Err(drain_limit()),
                called = timeout_at(until, called.as_mut()) => called.is_ok(),
            };
            if called {
                return Ok(());
            }
            if until == patience {
                return self.unavailable("nobody was ready in time");
            }
            if exchange.service.scouts.goes(until) {
                self.scout = true;
                return Ok(());
            }
        }
    }

    /// When one that waits until `patience` looks again unasked. Those that somebody failed are offered
    /// again by time too: the table may not change.
    fn offered_again(&self, patience: Instant) -> Instant {
        if self.failed.is_empty() {
            return patience;
        }
        patience.min(Instant::now() + OFFER_AGAIN)
    }

    /// What it holds while it waits.
    fn held_bytes(&self) -> u64 {
        self.outgoing.head.len() as u64 + self.exchange.upload.kept_bytes()
    }

    fn unavailable(&self, why: &'static str) -> Result<(), ProxyError> {
        Err(self.turned_away(ProxyReason::Unavailable, why))
    }

    /// It has waited in vain, or may not wait.
    fn turned_away(&self, reason: ProxyReason, why: &'static str) -> ProxyError {
        self.exchange.service.counters.tally().park_dropped += 1;
        ProxyError::new(reason, why)
    }

    async fn attempt(&mut self, worker: &Rc<Worker>) -> Result<Answer, Failure> {
        let exchange = self.exchange;
        self.tries += 1;
        tokio::select! {
            biased;
            () = exchange.until_cut() => Err(Failure {
                how: Failed::Final,
                error: drain_limit(),
                blame: false,
                reused: false,
            }),
            answer = self.send(worker) => answer,
        }
    }

    async fn send(&self, worker: &Rc<Worker>) -> Result<Answer, Failure> {
        let exchange = self.exchange;
        let rules = &exchange.service.rules;
        match worker.protocol {
            Protocol::H2c => return Box::pin(self.send_h2c(worker)).await,
            Protocol::Http1 => {}
        }
        let pool = &exchange.lp.pool;
        let waiting = if self.fresh {
            None
        } else {
            pool.take(worker.id, exchange.tried_at().into())
        };
        let reused = waiting.is_some();
        let connection = match waiting {
            Some(connection) => connection,
            None => {
                let since = Instant::now();
                let connecting = upstream::connect(&worker.address, rules.connect_timeout);
                let connected = Box::pin(connecting).await;
                exchange.connected(since.elapsed());
                let connected = connected.map_err(|error| {
                    tracing::debug!(worker = worker.id.0, %error, "cannot connect");
                    self.failure(&SendError::unconnected(error), false)
                })?;
                if self.scout {
                    exchange.lp.line.wake();
                }
                connected
            }
        };
        let mut limits = self.limits();
        if reused && !self.outgoing.framing.has_body() {
            limits.since = Some(exchange.tried_at());
        }
        let watch: Rc<dyn Watch> = Rc::<Exchange>::clone(exchange);
        let body = exchange.upload.replay();
        upstream::send(
            connection,
            pool,
            worker.id,
            self.outgoing,
            body,
            limits,
            watch,
        )
        .await
        .map_err(|error| {
            tracing::debug!(worker = worker.id.0, ?error, reused, "no answer");
            self.failure(&error, reused)
        })
    }

    /// The same, to a worker whose connections carry many requests.
    async fn send_h2c(&self, worker: &Rc<Worker>) -> Result<Answer, Failure> {
        let exchange = self.exchange;
        let to = upstream::To {
            worker: worker.id,
            address: &worker.address,
            connect: exchange.service.rules.connect_timeout,
            limits: self.limits(),
            fresh: self.fresh,
        };
        let watch: Rc<dyn Watch> = Rc::<Exchange>::clone(exchange);
        let body = exchange.upload.replay();
        let sending = upstream::send_h2c(&exchange.lp.pool, to, self.outgoing, body, watch);
        sending.await.map_err(|error| {
            tracing::debug!(worker = worker.id.0, ?error, "no answer");
            // A connection may be told to go by a healthy worker at any time.
            let gone = error.kind == SendErrorKind::Reset && !error.sent;
            self.failure(&error, gone && !self.fresh)
        })
    }

    fn limits(&self) -> Limits {
        let rules = &self.exchange.service.rules;
        Limits {
            since: None,
            response_head: rules.response_head_timeout,
            body_idle: rules.body_idle_timeout,
            pool_idle: rules.worker_idle_timeout,
        }
    }

    fn failure(&self, error: &SendError, reused: bool) -> Failure {
        // Want of ours is nobody else's fault (F16, F17).
        let exhausted = error.source.as_ref().filter(|error| is_exhausted(error));
        if let Some(error) = exhausted {
            self.exchange.lp.is_exhausted(error);
        }
        let (reason, why) = match error.kind {
            SendErrorKind::Unconnected => (ProxyReason::Connect, "cannot connect"),
            SendErrorKind::Reset => (ProxyReason::Reset, "the worker closed the connection"),
            SendErrorKind::Refused => (ProxyReason::Reset, "the worker refused the stream"),
            SendErrorKind::BadAnswer => (ProxyReason::BadResponse, "the answer is not HTTP"),
            SendErrorKind::Timeout => (ProxyReason::ResponseTimeout, "no answer in time"),
            SendErrorKind::BodyTimeout => (ProxyReason::RequestTimeout, "the body did not come"),
            SendErrorKind::ClientBody => match self.exchange.upload.fault() {
                Some(Fault::TooLarge) => {
                    return Failure {
                        how: Failed::Final,
                        error: ProxyError::too_large(),
                        blame: false,
                        reused: false,
                    };
                }
                Some(Fault::Malformed) => (ProxyReason::BadRequest, "the body is malformed"),
                Some(Fault::Left) | None => (ProxyReason::ClientGone, "the body broke off"),
            },
        };
        let how = match error.kind {
            SendErrorKind::Reset if error.answered => Failed::Final,
            SendErrorKind::Reset if error.sent => Failed::Unanswered,
            SendErrorKind::Unconnected | SendErrorKind::Reset => Failed::Unsent,
            SendErrorKind::Refused => Failed::Refused,
            SendErrorKind::BadAnswer
            | SendErrorKind::Timeout
            | SendErrorKind::BodyTimeout
            | SendErrorKind::ClientBody => Failed::Final,
        };
        let blame = match error.kind {
            SendErrorKind::Unconnected => exhausted.is_none(),
            // A connection that had waited may be closed by a healthy worker at any time.
            SendErrorKind::Reset => !reused || how != Failed::Unsent,
            SendErrorKind::BadAnswer | SendErrorKind::Timeout => true,
            SendErrorKind::Refused | SendErrorKind::BodyTimeout | SendErrorKind::ClientBody => {
                false
            }
        };
        Failure {
            how,
            error: ProxyError::new(reason, why),
            blame,
            reused,
        }
    }

    /// Whether it goes on after a failed try, and where it will not go.
    fn after(&mut self, worker: &Rc<Worker>, failure: &Failure) -> Result<(), ProxyError> {
        let exchange = self.exchange;
        if failure.blame {
            exchange.blame_worker();
        }
        if std::mem::take(&mut self.further) {
            exchange.service.budget.failed_again();
        }
        let rules = exchange.service.rules.retry;
        if failure.how == Failed::Unanswered
            && self.unanswered_by.replace(worker.id) != Some(worker.id)
        {
            self.unanswered += 1;
        }
        let tried = Tried {
            idempotent: self.outgoing.idempotent,
            replayable: exchange.upload.is_replayable(),
            tries: self.tries,
            unanswered: self.unanswered,
        };
        let again = may_repeat(failure.how, tried, rules) && self.may_spend(failure);
        if !again && !may_wait(failure, tried) {
            return Err(failure.error);
        }
        match again {
            true => exchange.retried(failure.error.reason),
            false => exchange.waits_again(),
        }
        self.fresh = true;
        match failure.reused {
            true => self.doubtful = Some(worker.id),
            false => self.failed.push(worker.id),
        }
        if !again && !self.scout {
            // Its tries are used up: nobody is asked before somebody may have come.
            let table = exchange.lp.table();
            self.failed.extend(table.workers().map(|worker| worker.id));
        }
        Ok(())
    }

    /// Whether the budget has a further try, if it costs one.
    fn may_spend(&mut self, failure: &Failure) -> bool {
        let exchange = self.exchange;
        let took = exchange.tried_at().elapsed();
        let service = &exchange.service;
        if is_charged(failure.how, failure.reused, took, self.tries) {
            self.further = service.budget.withdraw(service.rules.retry);
            return self.further;
        }
        // It costs nothing, but where everybody refuses there is no use in it.
        self.further = failure.how == Failed::Refused;
        !self.further || service.budget.is_of_use()
    }
}

/// A request of which nothing was sent is not lost because workers are being replaced: it waits as long
/// as a parked one may.
fn may_wait(failure: &Failure, tried: Tried) -> bool {
    let unsent = failure.how == Failed::Unsent && tried.replayable;
    unsent && failure.error.reason == ProxyReason::Connect
}

fn drain_limit() -> ProxyError {
    ProxyError::new(ProxyReason::DrainLimit, "cut by the drain's limit")
}

/// Counts a parked request.
struct Parked<'a> {
    exchange: &'a Exchange,
    since: Instant,
}

impl<'a> Parked<'a> {
    fn new(exchange: &'a Exchange, since: Instant) -> Self {
        exchange.service.counters.tally().parked += 1;
        Self { exchange, since }
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        let mut tally = self.exchange.service.counters.tally();
        tally.parked = tally.parked.saturating_sub(1);
        tally.park_wait.observe(self.since.elapsed());
    }
}
