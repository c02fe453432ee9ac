//! Waiting for a worker: in a generation's line while all of it have enough, parked while nobody is there.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::{Errand, drain_limit};
use crate::link::message::{Class, ProxyReason};
use crate::proxy::exchange::Exchange;
use crate::proxy::park::OFFER_AGAIN;
use crate::proxy::pick::Picked;
use crate::proxy::queue::Queue;
use crate::proxy::respond::ProxyError;
use crate::proxy::table::Worker;
use crate::rollout::Generation;

impl Errand<'_> {
    /// Waits in a generation's line until there is a place, or nothing to wait for any more.
    pub(super) async fn queue(
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
    pub(super) async fn park(&mut self) -> Result<(), ProxyError> {
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
