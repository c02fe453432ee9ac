//! The live table: a routing table with its gates.
//!
//! The plane's main task keeps the gates across tables ([`Gates`]) and hands every loop the same
//! [`Published`] value; each loop makes a view of its own from it ([`View`]), so that a request touches no
//! count that another loop writes, not even a reference count. That is why nothing is swapped atomically
//! here: a loop's view is replaced by that loop, between two polls.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;

use super::counters::{LoopCounters, ServiceCounters};
use super::gate::{FULL_SHARE, Gate};
use super::live::{Clock, millis};
use super::park::{Lot, Scouts};
use super::queue::Queue;
use super::retry::Budget;
use super::route::Routes;
use crate::link::message::{Front, Protocol, ServiceRules, Table, WorkerAddress, WorkerEntry};
use crate::rollout::{GateState, Generation as Number, Role, ServiceName, Slot, WorkerId};

/// Every gate the plane knows, and the lines before them.
#[derive(Debug, Default)]
pub(super) struct Gates {
    known: HashMap<WorkerId, Arc<Gate>>,
    lots: HashMap<ServiceName, Arc<Lot>>,
    queues: Queues,
}

/// The line of each generation.
type Queues = HashMap<(ServiceName, Number), Arc<Queue>>;

impl Gates {
    /// Shuts and opens gates as a table says; those of workers it does not name are shut and forgotten.
    /// Shut is shut in every loop when this returns.
    pub(super) fn apply(&mut self, table: Arc<Table>, loops: usize, clock: &Clock) -> Published {
        let mut gates = HashMap::new();
        let now = clock.now();
        let all = table.services.iter().flat_map(|service| {
            let climb = millis(service.rules.slow_start);
            service.generations.iter().map(move |of| (climb, of))
        });
        for (climb, generation) in all {
            // Who joins others climbs to its share, if they are warm: where all begin together somebody is
            // the first, and is not to do everything because of that.
            let mut siblings = generation.workers.iter();
            let warm =
                siblings.any(|of| self.serves_for(of, now).is_some_and(|time| time >= climb));
            for worker in &generation.workers {
                let shut = worker.gate != GateState::Open;
                let joins = warm && !shut && self.serves_for(worker, now).is_none();
                let gate = self
                    .known
                    .remove(&worker.worker)
                    .unwrap_or_else(|| Gate::new(loops, shut, clock));
                match worker.gate {
                    GateState::Shut => gate.shut(clock),
                    GateState::Aside => gate.set_aside(),
                    GateState::Open if gate.turns_away() => gate.open(clock),
                    GateState::Open => {}
                }
                if joins {
                    gate.join(now);
                }
                gates.insert(worker.worker, gate);
            }
        }
        for gone in self.known.values() {
            gone.shut(clock);
        }
        self.known = gates;
        self.line_up(&table);
        Published {
            table,
            gates: self.known.clone(),
            queues: self.queues.clone(),
        }
    }

    /// How long it has taken requests by the tables before, if it still does.
    fn serves_for(&self, entry: &WorkerEntry, now: u64) -> Option<u64> {
        let goes_on = entry.gate == GateState::Open;
        let before = self.known.get(&entry.worker).filter(|_| goes_on)?;
        before.open_for(now)
    }

    /// Keeps the lines of generations that are still there. Those who wait in another one find that out
    /// when they next look, and keep it alive until then.
    fn line_up(&mut self, table: &Table) {
        let mut lots = HashMap::new();
        let mut queues = HashMap::new();
        for service in &table.services {
            let lot = self.lots.remove(&service.name).unwrap_or_default();
            for generation in &service.generations {
                let key = (service.name.clone(), generation.number);
                let queue = self.queues.remove(&key);
                let queue = queue.unwrap_or_else(|| Queue::within(Arc::clone(&lot)));
                queues.insert(key, queue);
            }
            lots.insert(service.name.clone(), lot);
        }
        self.lots = lots;
        self.queues = queues;
    }

    /// Time has passed, and with it something may have changed that nobody calls for.
    pub(super) fn look_again(&self) {
        for queue in self.queues.values() {
            queue.place_is_free();
        }
    }
}

/// A table with its gates, the same for all loops.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) table: Arc<Table>,
    pub(super) gates: HashMap<WorkerId, Arc<Gate>>,
    queues: Queues,
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
    pub(super) scouts: Rc<Scouts>,
}

/// One generation.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) number: Number,
    pub(super) role: Role,
    pub(super) weight: u32,
    pub(super) queue: Arc<Queue>,
    pub(super) workers: Vec<Rc<Worker>>,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) slot: Slot,
    pub(super) generation: Number,
    pub(super) role: Role,
    pub(super) address: WorkerAddress,
    pub(super) protocol: Protocol,
    pub(super) gate: Arc<Gate>,
    limit: Option<Limit>,
    /// Milliseconds it climbs to its full share when it joins.
    climb: u64,
    /// Failures in a row that the main task is to hear of; 0 is none.
    tripwire: u32,
}

/// What a worker may have at once, and who waits for it.
#[derive(Debug)]
struct Limit {
    most: NonZeroU32,
    queue: Arc<Queue>,
}

/// What became of a try to enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Entered,
    Shut,
    Full,
}

impl Generation {
    /// Whether its workers have a limit: it is their service's, so all or none.
    pub(super) fn is_limited(&self) -> bool {
        let first = self.workers.first();
        first.is_some_and(|worker| worker.limit.is_some())
    }
}

impl Worker {
    /// Counts a request in, unless the gate is shut or the worker at its limit.
    pub(super) fn enter(&self, index: usize, now: u64) -> Entry {
        let Some(limit) = &self.limit else {
            return if self.gate.enter(index) {
                Entry::Entered
            } else {
                Entry::Shut
            };
        };
        if !self.gate.take_place(self.most(limit, now)) {
            return Entry::Full;
        }
        if self.gate.enter(index) {
            return Entry::Entered;
        }
        self.gate.give_place();
        limit.queue.place_is_free();
        Entry::Shut
    }

    /// Counts a request out that this very value let in; true if it was the loop's last one at a shut gate.
    pub(super) fn leave(&self, index: usize) -> bool {
        let is_last = self.gate.leave(index);
        if let Some(limit) = &self.limit {
            self.gate.give_place();
            limit.queue.place_is_free();
        }
        is_last
    }

    /// Whether it may have another one.
    pub(super) fn has_place(&self, now: u64) -> bool {
        let limit = self.limit.as_ref();
        limit.is_none_or(|limit| self.gate.has_place(self.most(limit, now)))
    }

    /// What it may have at once: less while it climbs, but something.
    fn most(&self, limit: &Limit, now: u64) -> u32 {
        let most = u64::from(limit.most.get());
        let part = (most * u64::from(self.share(now))).div_ceil(u64::from(FULL_SHARE));
        u32::try_from(part).unwrap_or(u32::MAX)
    }

    /// Its share in percent of a full one.
    pub(super) fn share(&self, now: u64) -> u32 {
        self.gate.share(now, self.climb)
    }

    /// A request said how it does; whether that is worth a look of the main task.
    pub(super) fn judged(&self, index: usize, well: bool) -> bool {
        let row = self.gate.judged(index, well);
        row > 0 && row == self.tripwire
    }
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

    /// This loop's view; budgets and scouts go on from the view before.
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
                    scouts: known.map_or_else(Rc::default, |s| Rc::clone(&s.scouts)),
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

    /// All generations.
    pub(super) fn generations(&self) -> impl Iterator<Item = &Generation> {
        self.services
            .iter()
            .flat_map(|service| &service.generations)
    }

    /// All workers.
    pub(super) fn workers(&self) -> impl Iterator<Item = &Rc<Worker>> {
        self.generations()
            .flat_map(|generation| &generation.workers)
    }

    /// Whether this worker is here.
    pub(super) fn has(&self, id: WorkerId) -> bool {
        self.workers().any(|worker| worker.id == id)
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
    let most = service.rules.max_in_flight;
    service
        .generations
        .iter()
        .filter_map(|generation| {
            let key = (service.name.clone(), generation.number);
            let queue = published.queues.get(&key)?;
            let workers = generation.workers.iter().filter_map(|entry| {
                Some(Rc::new(Worker {
                    id: entry.worker,
                    slot: entry.slot,
                    generation: generation.number,
                    role: generation.role,
                    address: entry.address.clone(),
                    protocol: entry.protocol,
                    gate: Arc::clone(published.gates.get(&entry.worker)?),
                    climb: millis(service.rules.slow_start),
                    tripwire: service.rules.ejection.consecutive,
                    limit: most.map(|most| Limit {
                        most,
                        queue: Arc::clone(queue),
                    }),
                }))
            });
            Some(Generation {
                number: generation.number,
                role: generation.role,
                weight: u32::from(generation.weight.0),
                queue: Arc::clone(queue),
                workers: workers.collect(),
            })
        })
        .collect()
}
