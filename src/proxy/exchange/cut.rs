//! What an exchange is to a drain, and when a drain's limit cuts it.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use http::StatusCode;

use super::Exchange;
use crate::link::message::{Class, ProxyReason};
use crate::proxy::client::remember;
use crate::proxy::drain::scattered;
use crate::proxy::live::millis;
use crate::proxy::table::Worker;

/// An upload is one when its body still comes in after so long, or so much of it came.
const UPLOAD_AFTER: u64 = 1_000;
const UPLOAD_BYTES: u64 = 64 << 10;
/// An answer that takes longer is a stream, whatever its length: it is cut for standing still only.
const STREAM_AFTER: u64 = 5_000;

/// A tunnel's own part of the limit, from half of it on: whoever is cut comes back, and they are many (F47).
fn spread(client: u64, limit: u64) -> u64 {
    limit - (limit / 2).saturating_mul(scattered(client, 1_000)) / 1_000
}

impl Exchange {
    /// Whether a drain's limit has cut it.
    pub(in crate::proxy) fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// Resolves when a drain's limit cuts it.
    pub(in crate::proxy) async fn until_cut(&self) {
        self.until(|| self.cut.get()).await;
    }

    /// Resolves when a tunnel is cut, or its worker lost.
    pub(in crate::proxy) async fn until_parted(&self) {
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

    /// It is a tunnel whose worker's side has ended, and not because the worker was done with it: the worker is gone,
    /// for which it would have had to wait otherwise.
    pub(in crate::proxy) fn has_lost_worker(&self) -> bool {
        let is_gone = |worker: Rc<Worker>| !self.lp.table().has(worker.id);
        self.worker_ended.get() && self.worker().is_some_and(is_gone)
    }

    /// Ends a tunnel whose client waits for a worker that is gone.
    pub(in crate::proxy) fn lose(&self) {
        self.lost.set(true);
        self.stir();
    }

    /// Counts what it is now; called at each turn of the loop's clock.
    pub(in crate::proxy) fn classify(&self) -> Class {
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

    /// When it is to be cut, if its gate is shut or the plane drains.
    pub(in crate::proxy) fn cut_at(&self) -> Option<u64> {
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
    pub(in crate::proxy) fn cut(&self) {
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
    pub(in crate::proxy) fn is_stuck(&self) -> bool {
        let last = self.live().last().max(self.client.last_write());
        let idle = self.lp.now().saturating_sub(last);
        // The worker's side has the same limit and must win, so that it gets the blame.
        let limit = millis(self.service.rules.body_idle_timeout).saturating_add(1_000);
        self.answered.get().is_some() && !self.events.get() && !self.tunnel.get() && idle > limit
    }
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
