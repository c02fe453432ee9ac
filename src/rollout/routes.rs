//! Which generation gets which share, and which gate is open: the table's part of a service.

use std::collections::BTreeMap;

use super::action::{GateState, GenerationRoutes, ServiceRoutes, WorkerRoute};
use super::id::{Generation, Weight};
use super::service::Service;
use super::view::Health;
use super::worker::{Phase, Worker};

impl Service {
    /// Generations that may have a share at all.
    fn serves(&self, number: Generation) -> bool {
        self.generations
            .get(&number)
            .is_some_and(|generation| generation.wanted > 0 && generation.parked.is_none())
    }

    /// Nobody passes its probes, so the failing ones keep their gates open: an answer from a worker
    /// that looks sick is better than none for sure.
    fn fails_open(&self) -> bool {
        !self
            .workers
            .values()
            .any(|worker| worker.routable() && self.serves(worker.generation))
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

    /// The share of each generation. The candidate has what the rollout gives it; the others divide the
    /// rest by their open workers. A generation without an open worker gets nothing, so that the sum
    /// is all or, with nobody open at all, nothing.
    pub(super) fn weights(&self) -> BTreeMap<Generation, Weight> {
        let mut open: BTreeMap<Generation, u32> = BTreeMap::new();
        let fails_open = self.fails_open();
        for worker in self.workers.values() {
            let ready = matches!(worker.phase, Phase::Ready)
                && (worker.health != Health::Failing || fails_open);
            if ready && self.serves(worker.generation) {
                *open.entry(worker.generation).or_default() += 1;
            }
        }
        let mut weights = BTreeMap::new();
        let candidate = self.candidate().filter(|to| open.contains_key(to));
        let share = self
            .rollout
            .as_ref()
            .map_or(Weight::NONE, |rollout| rollout.share);
        let others: u32 = open
            .iter()
            .filter(|(number, _)| Some(**number) != candidate)
            .map(|(_, open)| *open)
            .sum();
        let given = match candidate {
            Some(_) if others == 0 => Weight::FULL,
            Some(_) => share,
            None => Weight::NONE,
        };
        if let Some(to) = candidate {
            weights.insert(to, given);
        }
        let mut left = Weight::FULL.0 - given.0;
        let mut workers_left = others;
        for (number, open) in open {
            if Some(number) == candidate {
                continue;
            }
            let part = u64::from(left) * u64::from(open) / u64::from(workers_left.max(1));
            let part = u16::try_from(part).unwrap_or(left).min(left);
            weights.insert(number, Weight(part));
            left -= part;
            workers_left -= open;
        }
        weights
    }

    /// The service's part of the table.
    pub(super) fn routes(&self) -> ServiceRoutes {
        let weights = self.weights();
        let mut generations = Vec::new();
        for number in self.generations.keys() {
            let workers: Vec<WorkerRoute> = self
                .of(*number)
                .filter(|worker| worker.listed())
                .map(|worker| WorkerRoute {
                    worker: worker.id,
                    slot: worker.slot,
                    gate: if self.open(worker) {
                        GateState::Open
                    } else {
                        GateState::Shut
                    },
                })
                .collect();
            if workers.is_empty() {
                continue;
            }
            generations.push(GenerationRoutes {
                number: *number,
                role: self.role(*number),
                weight: weights.get(number).copied().unwrap_or(Weight::NONE),
                workers,
            });
        }
        ServiceRoutes {
            service: self.name.clone(),
            generations,
        }
    }
}
