//! An exchange's place inside a worker's gate, and what it tells of the worker when it leaves.

use std::cell::Cell;
use std::rc::Rc;

use http::StatusCode;

use super::Exchange;
use crate::link::message::{Class, ProxyReason};
use crate::proxy::event_loop::Loop;
use crate::proxy::table::Worker;
use crate::rollout::Role;

/// A client that leaves before an answer has begun says nothing of the worker, unless it had waited so
/// long, in milliseconds.
const IN_VAIN: u64 = 1_000;

/// Failures that say nothing of the worker: what the client asks for is not there. Else a client could have
/// any worker ejected.
const ABOUT_THE_REQUEST: [StatusCode; 2] = [
    StatusCode::NOT_IMPLEMENTED,
    StatusCode::HTTP_VERSION_NOT_SUPPORTED,
];

/// A place inside a worker's gate.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) worker: Rc<Worker>,
    lp: Rc<Loop>,
    pub(super) class: Cell<Class>,
    pub(super) failed: Cell<bool>,
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

impl Exchange {
    /// It has passed this worker's gate.
    pub(in crate::proxy) fn lease(&self, worker: &Rc<Worker>, attempt: u32) {
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
    pub(super) fn goes(&self, to: Option<Role>) {
        let from = self.at.replace(to);
        if from != to {
            self.service.counters.enters(to);
            self.service.counters.leaves(from);
        }
    }

    /// A try failed before anything was sent, and it waits again.
    pub(in crate::proxy) fn waits_again(&self) {
        self.release();
        self.tried_anew();
        self.goes(None);
    }

    /// A further try will come, after one that failed for this reason.
    pub(in crate::proxy) fn retried(&self, reason: ProxyReason) {
        self.waits_again();
        let mut tally = self.service.counters.tally();
        tally.retried(self.role.get(), reason);
    }

    /// The worker that has it failed, as far as we can see.
    pub(in crate::proxy) fn blame_worker(&self) {
        if let Some(lease) = &*self.lease.borrow() {
            lease.failed.set(true);
            lease.well.set(Some(false));
        }
    }

    /// It leaves its worker's gate, before its own end if it will be tried elsewhere.
    pub(in crate::proxy) fn release(&self) {
        self.live().set_worker(None);
        self.live().set_cut_at(None);
        drop(self.lease.borrow_mut().take());
    }

    /// The worker that has it.
    pub(in crate::proxy) fn worker(&self) -> Option<Rc<Worker>> {
        let lease = self.lease.borrow();
        Some(Rc::clone(&lease.as_ref()?.worker))
    }

    /// Notes whether its worker does well. A request that broke off, or that we answered, does not tell.
    pub(super) fn judge_worker(&self) {
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

    /// Its client left without a byte of an answer.
    pub(super) fn is_given_up(&self) {
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
}
