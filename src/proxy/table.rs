//! The live table: a routing table with its gates.
//!
//! The plane's main task keeps the gates across tables ([`Gates`]) and hands every loop the same
//! [`Published`] value; each loop makes a view of its own from it ([`View`]), so that a request touches no
//! count that another loop writes, not even a reference count. That is why nothing is swapped atomically
//! here: a loop's view is replaced by that loop, between two polls.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::counters::{LoopCounters, ServiceCounters};
use super::gate::Gate;
use super::live::{Clock, millis};
use super::retry::Budget;
use super::route::Routes;
use crate::link::message::{Front, ServiceRules, Table, WorkerAddress};
use crate::rollout::{self, GateState, Role, ServiceName, Slot, WorkerId};

/// Every gate the plane knows.
#[derive(Debug, Default)]
pub(super) struct Gates {
    known: HashMap<WorkerId, Arc<Gate>>,
}

impl Gates {
    /// Shuts and opens gates as a table says; those of workers it does not name are shut and forgotten.
    /// Shut is shut in every loop when this returns.
    pub(super) fn apply(&mut self, table: Arc<Table>, loops: usize, clock: &Clock) -> Published {
        let mut gates = HashMap::new();
        for worker in workers(&table) {
            let shut = worker.gate == GateState::Shut;
            let gate = self
                .known
                .remove(&worker.worker)
                .unwrap_or_else(|| Gate::new(loops, shut, clock));
            if shut {
                gate.shut(clock);
            } else if gate.shut_at().is_some() {
                gate.open();
            }
            gates.insert(worker.worker, gate);
        }
        for gone in self.known.values() {
            gone.shut(clock);
        }
        self.known = gates;
        Published {
            table,
            gates: self.known.clone(),
        }
    }
}

fn workers(table: &Table) -> impl Iterator<Item = &crate::link::message::WorkerEntry> {
    table
        .services
        .iter()
        .flat_map(|service| &service.generations)
        .flat_map(|generation| &generation.workers)
}

/// A table with its gates, the same for all loops.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) table: Arc<Table>,
    pub(super) gates: HashMap<WorkerId, Arc<Gate>>,
}

/// One loop's view of a table.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) front: Front,
    pub(super) services: Vec<Rc<Service>>,
    routes: Routes,
}

/// One service.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: ServiceName,
    pub(super) rules: Arc<ServiceRules>,
    pub(super) generations: Vec<Generation>,
    pub(super) counters: Arc<ServiceCounters>,
    pub(super) budget: Rc<Budget>,
}

/// One generation.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) weight: u32,
    pub(super) workers: Vec<Rc<Worker>>,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) slot: Slot,
    pub(super) generation: rollout::Generation,
    pub(super) role: Role,
    pub(super) address: WorkerAddress,
    pub(super) gate: Arc<Gate>,
}

impl View {
    /// Milliseconds after which a client that takes nothing of what it was sent is given up: the limit of
    /// a body that stands still and a second, so that a worker's own standing still is seen first.
    pub(super) fn stuck_after(&self) -> u64 {
        let limits = self.services.iter().map(|s| s.rules.body_idle_timeout);
        millis(limits.max().unwrap_or_default()).saturating_add(1_000)
    }

    /// The service that a request to this host and path is for.
    pub(super) fn service_for(&self, host: &str, path: &str) -> Option<&Rc<Service>> {
        self.services.get(self.routes.find(host, path)?)
    }

    /// This loop's view; budgets go on from the view before.
    pub(super) fn new(published: &Published, before: &Self, counters: &LoopCounters) -> Self {
        let services = published
            .table
            .services
            .iter()
            .map(|service| {
                let known = before.services.iter().find(|s| s.name == service.name);
                Rc::new(Service {
                    name: service.name.clone(),
                    rules: Arc::clone(&service.rules),
                    generations: generations(service, published),
                    counters: counters.service(&service.name),
                    budget: known.map_or_else(|| Rc::new(Budget::new()), |s| Rc::clone(&s.budget)),
                })
            })
            .collect();
        let rules = published.table.services.iter();
        Self {
            front: published.table.front.clone(),
            routes: Routes::new(rules.map(|service| &*service.rules)),
            services,
        }
    }

    /// All workers.
    pub(super) fn workers(&self) -> impl Iterator<Item = &Rc<Worker>> {
        self.services
            .iter()
            .flat_map(|service| &service.generations)
            .flat_map(|generation| &generation.workers)
    }

    /// Workers that are here and not in `later`.
    pub(super) fn gone(&self, later: &Self) -> Vec<WorkerId> {
        let kept: HashSet<_> = later.workers().map(|worker| worker.id).collect();
        self.workers()
            .map(|worker| worker.id)
            .filter(|id| !kept.contains(id))
            .collect()
    }
}

fn generations(service: &crate::link::message::Service, published: &Published) -> Vec<Generation> {
    service
        .generations
        .iter()
        .map(|generation| Generation {
            weight: u32::from(generation.weight.0),
            workers: generation
                .workers
                .iter()
                .filter_map(|entry| {
                    Some(Rc::new(Worker {
                        id: entry.worker,
                        slot: entry.slot,
                        generation: generation.number,
                        role: generation.role,
                        address: entry.address.clone(),
                        gate: Arc::clone(published.gates.get(&entry.worker)?),
                    }))
                })
                .collect(),
        })
        .collect()
}
