//! Gets an answer for a request: pick, pass the gate, connect, send (here); again elsewhere if the rules of
//! [`super::retry`] allow it (`failure`); park while nobody can answer, and queue while everybody has enough
//! (`waiting`).

mod failure;
mod waiting;

use std::rc::Rc;

use tokio::time::Instant;

use super::exchange::Exchange;
use super::pick::{Picked, Seeker};
use super::respond::ProxyError;
use super::retry::Failed;
use super::rules::Outgoing;
use super::table::{Service, View, Worker};
use super::upstream::{self, Answer, Limits, SendError, SendErrorKind, Watch};
use crate::link::message::{Protocol, ProxyReason};
use crate::rollout::{Generation, WorkerId};
use failure::Failure;

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
}

fn drain_limit() -> ProxyError {
    ProxyError::new(ProxyReason::DrainLimit, "cut by the drain's limit")
}
