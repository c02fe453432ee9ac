//! Workers that somebody else runs: which address each has, and which addresses a reload has taken away.

use tokio::sync::watch;

use super::{Squatter, Worker, Workers};
use crate::config::{ServiceConfig, Upstream, Workers as Kind};
use crate::link::message::WorkerAddress;
use crate::rollout::{Fact, Generation, ServiceName, Slot, WorkerId};

impl Workers {
    /// Begins to probe one: the first address that nobody has.
    pub(super) fn adopt(
        &mut self,
        worker: WorkerId,
        config: &ServiceConfig,
        upstream: &[Upstream],
        (slot, generation): (Slot, Generation),
    ) -> Result<Vec<Fact>, String> {
        let mut free = upstream.iter().filter(|one| !self.has(&config.name, one));
        let Upstream { address, protocol } = free
            .next()
            .cloned()
            .ok_or_else(|| format!("`upstream` has no address for slot {slot}"))?;
        let (_keep, notified) = watch::channel(true);
        let probing = self.probe(worker, config, (&address, protocol), notified);
        self.live.insert(
            worker,
            Worker {
                service: config.name.clone(),
                slot,
                generation,
                address,
                protocol,
                place: None,
                process: None,
                answered: false,
                last_probe: None,
                usage: None,
                probing: Some(probing),
                unnamed: false,
                squatter: Squatter::Unseen,
            },
        );
        Ok(vec![Fact::Spawned { worker, pid: 0 }])
    }

    fn has(&self, service: &ServiceName, one: &Upstream) -> bool {
        let mut all = self.live.values();
        all.any(|of| of.service == *service && of.is_at(one) && !of.unnamed)
    }

    /// The workers whose address, or what they speak there, a new config names no more. From now on it is
    /// anybody's.
    pub(in crate::supervisor) fn unname(&mut self, config: &ServiceConfig) -> Vec<WorkerId> {
        let Kind::Unmanaged(upstream) = &config.workers else {
            return Vec::new();
        };
        let of_service = |known: &Worker| known.service == config.name && !known.unnamed;
        let mut gone = Vec::new();
        for (worker, known) in &mut self.live {
            if of_service(known) && !upstream.iter().any(|one| known.is_at(one)) {
                known.unnamed = true;
                gone.push(*worker);
            }
        }
        gone
    }

    /// The address of a worker that a reload has taken it away from.
    #[must_use]
    pub(in crate::supervisor) fn unnamed(&self, worker: WorkerId) -> Option<&WorkerAddress> {
        let known = self.live.get(&worker)?;
        known.unnamed.then_some(&known.address)
    }

    /// One that somebody else runs has left the table for good: it is probed no more.
    pub(in crate::supervisor) fn dismissed(&mut self, worker: WorkerId) {
        if self.live.get(&worker).is_some_and(|of| of.unnamed) {
            self.live.remove(&worker);
        }
    }
}

impl Worker {
    fn is_at(&self, one: &Upstream) -> bool {
        self.address == one.address && self.protocol == one.protocol
    }
}
