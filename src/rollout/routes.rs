//! Which generation gets which share, and which gate is open: the table's part of a service.

use std::sync::Arc;

use super::action::{GateState, GenerationRoutes, Role, ServiceRoutes, WorkerRoute};
use super::id::{Generation, Weight};
use super::service::{Service, count};
use super::view::Health;
use super::worker::{Phase, Worker};

impl Service {
    /// Generations that may have a share at all: also those of which no worker is wanted any more, as
    /// long as one cannot be spared (I1). A candidate that goes back in its first batch has none, even
    /// if nobody else answers (I4).
    pub(super) fn serves(&self, number: Generation) -> bool {
        let refused = self
            .rollout
            .as_ref()
            .is_some_and(|rollout| rollout.to == number && rollout.back() && rollout.first());
        let known = self.generations.get(&number);
        !refused && known.is_some_and(|generation| generation.parked.is_none())
    }

    /// Nobody passes its probes, so the failing ones keep their gates open: an answer from a worker
    /// that looks sick is better than none for sure.
    fn fails_open(&self) -> bool {
        !self
            .workers
            .values()
            .any(|worker| worker.routable() && self.serves(worker.generation))
    }

    /// Somebody's gate is open: one that passes its probes, or without such a one any that was ready.
    pub(super) fn answers(&self) -> bool {
        self.workers
            .values()
            .any(|worker| matches!(worker.phase, Phase::Ready) && self.serves(worker.generation))
    }

    /// Whether new requests may go to it.
    pub(super) fn open(&self, worker: &Worker) -> bool {
        match worker.phase {
            Phase::Ready => worker.health != Health::Failing || self.fails_open(),
            Phase::Starting { .. }
            | Phase::Held
            | Phase::Shutting { .. }
            | Phase::Emptying { .. }
            | Phase::Unlisting { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. }
            | Phase::Sweeping { .. } => false,
        }
    }

    /// Where a gate opens, nobody cuts requests any more: a deadline that planes told while it was shut
    /// is an older one's.
    pub(super) fn forget_cuts(&mut self) {
        let fails_open = self.fails_open();
        for worker in self.workers.values_mut() {
            let healthy = worker.health != Health::Failing || fails_open;
            if matches!(worker.phase, Phase::Ready) && healthy {
                worker.load_deadline = None;
            }
        }
    }

    /// The share of each generation, in number order. The candidate has what the rollout gives it; the
    /// others divide the rest by their open workers. A generation without an open worker gets nothing, so
    /// that the sum is all or, with nobody open at all, nothing. Asked after every fact, so it makes nothing.
    pub(super) fn weights(&self) -> impl Iterator<Item = (Generation, Weight)> {
        let fails_open = self.fails_open();
        let open = move |number: Generation| {
            if !self.serves(number) {
                return 0;
            }
            count(self.of(number).filter(|worker| {
                let healthy = worker.health != Health::Failing || fails_open;
                matches!(worker.phase, Phase::Ready) && healthy
            }))
        };
        let candidate = self.candidate();
        let (mut tried, mut others) = (0, 0);
        for number in self.generations.keys() {
            if Some(*number) == candidate {
                tried = open(*number);
            } else {
                others += open(*number);
            }
        }
        let given = match (tried, &self.rollout) {
            (0, _) => Weight::NONE,
            (_, _) if others == 0 => Weight::FULL,
            (_, Some(rollout)) => rollout.share,
            (_, None) => Weight::NONE,
        };
        let mut left = Weight::FULL.0 - given.0;
        self.generations.keys().map(move |number| {
            if Some(*number) == candidate {
                return (*number, given);
            }
            let open = open(*number);
            let part = u64::from(left) * u64::from(open) / u64::from(others.max(1));
            let part = u16::try_from(part).unwrap_or(left).min(left);
            left -= part;
            others -= open;
            (*number, Weight(part))
        })
    }

    /// One generation's workers that planes may know.
    fn worker_routes(&self, number: Generation) -> impl Iterator<Item = WorkerRoute> {
        self.of(number)
            .filter(|worker| worker.listed())
            .map(|worker| WorkerRoute {
                worker: worker.id,
                slot: worker.slot,
                gate: if self.open(worker) {
                    GateState::Open
                } else if matches!(worker.phase, Phase::Ready) {
                    GateState::Aside
                } else {
                    GateState::Shut
                },
            })
    }

    /// What there is to say of each generation in the table beside its workers.
    fn generation_routes(&self) -> impl Iterator<Item = (Generation, Role, Weight)> {
        self.weights()
            .filter(|(number, _)| self.of(*number).any(Worker::listed))
            .map(|(number, weight)| (number, self.role(number), weight))
    }

    /// The service's part of the table.
    pub(super) fn routes(&self) -> Arc<ServiceRoutes> {
        let generations = self
            .generation_routes()
            .map(|(number, role, weight)| GenerationRoutes {
                number,
                role,
                weight,
                workers: self.worker_routes(number).collect(),
            })
            .collect();
        Arc::new(ServiceRoutes {
            service: self.name.clone(),
            generations,
        })
    }

    /// Whether `known` is what `routes` would make. Asked after every fact, so it makes nothing.
    pub(super) fn routes_are(&self, known: &ServiceRoutes) -> bool {
        let head = |of: &GenerationRoutes| (of.number, of.role, of.weight);
        known.service == self.name
            && self
                .generation_routes()
                .eq(known.generations.iter().map(head))
            && known
                .generations
                .iter()
                .all(|of| self.worker_routes(of.number).eq(of.workers.iter().copied()))
    }
}
