//! Sums over planes: the live ones' latest, and a base of everything that is gone.
//!
//! A counter shown is always base + live. A plane that is gone moves its last sums to the base, so the
//! total does not change at that moment, and what it had in flight is gone with it.

use std::collections::{BTreeMap, VecDeque};

use super::accounts::LedgerCounts;
use super::process::Usage;
use super::sums::{Cut, PlaneSums, Refused, ServiceSums, WorkerSums};
use crate::link::message::{Sample, ServiceSample};
use crate::rollout::{
    Generation, InFlight, Moment, Outcomes, Role, ServiceName, Slot, View, WorkerId,
};

/// Generations of a service whose totals are remembered: far more than can be alive at once.
const GENERATIONS_KEPT: usize = 64;
/// Reaped planes that are remembered, so that what they sent last is known to be late.
const GONE_KEPT: usize = 64;

/// All planes' sums.
#[derive(Debug)]
pub(super) struct Planes {
    base: PlaneSums,
    live: BTreeMap<u64, Plane>,
    gone: VecDeque<u64>,
    workers: BTreeMap<WorkerId, Known>,
    /// What workers that are gone, or planes that are gone, had of each generation.
    past: BTreeMap<(ServiceName, Generation), Outcomes>,
    past_cut: BTreeMap<ServiceName, Cut>,
    past_cpu_seconds: f64,
    pub(super) starts: u64,
    pub(super) refused: u64,
}

/// Where a worker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) service: ServiceName,
    pub(super) slot: Slot,
    pub(super) generation: Generation,
}

/// A worker that we named, and whether a view has shown it yet.
#[derive(Debug)]
struct Known {
    place: Place,
    shown: bool,
}

/// One live plane.
#[derive(Debug, Default)]
struct Plane {
    sums: PlaneSums,
    workers: BTreeMap<WorkerId, Worker>,
    services: BTreeMap<ServiceName, Now>,
    connections: u32,
    usage: Option<Usage>,
}

/// What a plane has of a service's requests now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Now {
    /// Those that have no worker are in it without a role.
    pub(super) in_flight: BTreeMap<Option<Role>, u32>,
    pub(super) parked: u32,
}

impl Now {
    fn read(sample: &ServiceSample) -> Self {
        let mut now = Self {
            parked: sample.parked,
            ..Self::default()
        };
        for of_role in &sample.roles {
            now.enter(of_role.role, of_role.in_flight);
        }
        now
    }

    fn add(&mut self, other: &Self) {
        self.parked = self.parked.saturating_add(other.parked);
        for (role, count) in &other.in_flight {
            self.enter(*role, *count);
        }
    }

    fn enter(&mut self, role: Option<Role>, count: u32) {
        let sum = self.in_flight.entry(role).or_default();
        *sum = sum.saturating_add(count);
    }
}

/// A worker as one plane sees it.
#[derive(Debug, Clone, Copy, Default)]
struct Worker {
    sums: WorkerSums,
    load: Load,
}

/// A worker's load now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests in flight by class.
    pub in_flight: InFlight,
    /// If its gate is shut: when the last of them will have been cut.
    pub deadline: Option<Moment>,
    /// Connections to it in use.
    pub active_connections: u32,
    /// Connections to it open and unused.
    pub idle_connections: u32,
    /// A plane gives it no requests for a while, because it failed.
    pub ejected: bool,
}

impl Planes {
    pub(super) fn new(services: &[ServiceName]) -> Self {
        let mut base = PlaneSums::default();
        for service in services {
            base.services
                .insert(service.clone(), ServiceSums::default());
        }
        Self {
            base,
            live: BTreeMap::new(),
            gone: VecDeque::new(),
            workers: BTreeMap::new(),
            past: BTreeMap::new(),
            past_cut: BTreeMap::new(),
            past_cpu_seconds: 0.0,
            starts: 0,
            refused: 0,
        }
    }

    pub(super) fn worker_is(
        &mut self,
        worker: WorkerId,
        service: &ServiceName,
        slot: Slot,
        generation: Generation,
    ) {
        self.knows(service);
        let place = Place {
            service: service.clone(),
            slot,
            generation,
        };
        self.workers.entry(worker).or_insert(Known {
            place,
            shown: false,
        });
    }

    pub(super) fn place(&self, worker: WorkerId) -> Option<&Place> {
        self.workers.get(&worker).map(|known| &known.place)
    }

    fn started(&mut self, incarnation: u64) {
        if !self.gone.contains(&incarnation) && !self.live.contains_key(&incarnation) {
            self.live.insert(incarnation, Plane::default());
            self.starts += 1;
        }
    }

    pub(super) fn sample(
        &mut self,
        incarnation: u64,
        sample: &Sample,
        now: Moment,
    ) -> Result<(), Refused> {
        let taken = self.take(incarnation, sample, now);
        if taken.is_err() {
            self.refused += 1;
        }
        taken
    }

    fn take(&mut self, incarnation: u64, sample: &Sample, now: Moment) -> Result<(), Refused> {
        if self.gone.contains(&incarnation) {
            return Err(Refused::Gone);
        }
        let mut sums = PlaneSums::read(sample)?;
        if sums
            .services
            .keys()
            .any(|name| !self.base.services.contains_key(name))
        {
            return Err(Refused::UnknownService);
        }
        self.started(incarnation);
        let Some(plane) = self.live.get_mut(&incarnation) else {
            return Err(Refused::Gone);
        };
        if plane.sums.is_ahead_of(&sums) {
            return Err(Refused::Backwards);
        }
        // Workers that left the table keep their last sums; ones we never named are not counted.
        let mut workers = plane.workers.clone();
        for worker in workers.values_mut() {
            worker.load = Load::default();
        }
        for sent in &sample.workers {
            if !self.workers.contains_key(&sent.worker) {
                continue;
            }
            let worker = workers.entry(sent.worker).or_default();
            let newer = WorkerSums::read(sent);
            if worker.sums.is_ahead_of(newer) {
                return Err(Refused::Backwards);
            }
            worker.sums = newer;
            worker.load = Load {
                in_flight: sent.in_flight,
                deadline: sent.drain_left.map(|left| now + left),
                active_connections: sent.active_connections,
                idle_connections: sent.idle_connections,
                ejected: sent.ejected,
            };
        }
        std::mem::swap(&mut plane.sums, &mut sums);
        plane.workers = workers;
        plane.connections = sample.connections;
        plane.services.clear();
        for service in &sample.services {
            let now = plane.services.entry(service.name.clone()).or_default();
            now.add(&Now::read(service));
        }
        Ok(())
    }

    pub(super) fn gone(&mut self, incarnation: u64) {
        let Some(plane) = self.live.remove(&incarnation) else {
            return;
        };
        self.base.add(&plane.sums);
        for (worker, seen) in plane.workers {
            self.keep(worker, seen.sums);
        }
        self.past_cpu_seconds += plane.usage.map_or(0.0, |usage| usage.cpu_seconds);
        if self.gone.len() == GONE_KEPT {
            self.gone.pop_front();
        }
        self.gone.push_back(incarnation);
    }

    pub(super) fn process(&mut self, incarnation: u64, usage: Usage) {
        if let Some(plane) = self.live.get_mut(&incarnation) {
            plane.usage = Some(usage);
        }
    }

    /// Learns what the view shows, and moves the sums of workers it shows no longer to the past.
    pub(super) fn keep_only(&mut self, view: &View) {
        for service in &view.services {
            self.knows(&service.service);
            for generation in &service.generations {
                for worker in &generation.workers {
                    self.worker_is(
                        worker.worker,
                        &service.service,
                        worker.slot,
                        generation.number,
                    );
                }
            }
        }
        let here: std::collections::BTreeSet<WorkerId> =
            view.workers().map(|worker| worker.worker).collect();
        let mut left = Vec::new();
        for (worker, known) in &mut self.workers {
            if here.contains(worker) {
                known.shown = true;
            } else if known.shown {
                left.push(*worker);
            }
        }
        for worker in left {
            let seen: Vec<WorkerSums> = self
                .live
                .values_mut()
                .filter_map(|plane| plane.workers.remove(&worker))
                .map(|seen| seen.sums)
                .collect();
            for sums in seen {
                self.keep(worker, sums);
            }
            self.workers.remove(&worker);
        }
    }

    pub(super) fn services(&self) -> impl Iterator<Item = &ServiceName> {
        self.base.services.keys()
    }

    /// Base and live together.
    pub(super) fn total(&self) -> PlaneSums {
        let mut total = self.base.clone();
        for plane in self.live.values() {
            total.add(&plane.sums);
        }
        total
    }

    pub(super) fn outcomes(&self, service: &ServiceName, generation: Generation) -> Outcomes {
        let mut total = WorkerSums {
            outcomes: self
                .past
                .get(&(service.clone(), generation))
                .copied()
                .unwrap_or_default(),
            ..WorkerSums::default()
        };
        for plane in self.live.values() {
            for (worker, seen) in &plane.workers {
                let is_ours = self.place(*worker).is_some_and(|place| {
                    place.generation == generation && place.service == *service
                });
                if is_ours {
                    total.add(seen.sums);
                }
            }
        }
        total.outcomes
    }

    pub(super) fn cut(&self, service: &ServiceName) -> Cut {
        let mut total = self.past_cut.get(service).copied().unwrap_or_default();
        for plane in self.live.values() {
            for (worker, seen) in &plane.workers {
                if self
                    .place(*worker)
                    .is_some_and(|place| place.service == *service)
                {
                    total.add(seen.sums.cut);
                }
            }
        }
        total
    }

    /// Whether a drain's limit cut a request of this worker in a live plane.
    pub(super) fn was_cut(&self, worker: WorkerId) -> bool {
        let mut seen = self
            .live
            .values()
            .filter_map(|plane| plane.workers.get(&worker));
        seen.any(|seen| seen.sums.cut != Cut::default())
    }

    pub(super) fn load(&self, worker: WorkerId) -> Load {
        let mut total = Load::default();
        for plane in self.live.values() {
            let Some(Worker { load, .. }) = plane.workers.get(&worker) else {
                continue;
            };
            let sum = &mut total.in_flight;
            sum.plain = sum.plain.saturating_add(load.in_flight.plain);
            sum.upload = sum.upload.saturating_add(load.in_flight.upload);
            sum.stream = sum.stream.saturating_add(load.in_flight.stream);
            sum.tunnel = sum.tunnel.saturating_add(load.in_flight.tunnel);
            total.deadline = total.deadline.max(load.deadline);
            total.ejected |= load.ejected;
            total.active_connections = total
                .active_connections
                .saturating_add(load.active_connections);
            total.idle_connections = total.idle_connections.saturating_add(load.idle_connections);
        }
        total
    }

    pub(super) fn now(&self, service: &ServiceName) -> Now {
        let mut sum = Now::default();
        for plane in self.live.values() {
            if let Some(now) = plane.services.get(service) {
                sum.add(now);
            }
        }
        sum
    }

    pub(super) fn ledger(&self, service: &ServiceName) -> LedgerCounts {
        let mut counts = LedgerCounts::default();
        let parts = std::iter::once(&self.base).chain(self.live.values().map(|plane| &plane.sums));
        for sums in parts.filter_map(|sums| sums.services.get(service)) {
            counts.add(sums);
        }
        let cut = self.cut(service);
        counts.cut = [cut.plain, cut.upload, cut.stream, cut.tunnel];
        counts
    }

    pub(super) fn connections(&self) -> u64 {
        self.live
            .values()
            .map(|plane| u64::from(plane.connections))
            .sum()
    }

    pub(super) fn count(&self) -> usize {
        self.live.len()
    }

    /// What live planes use, with the processor time of those that are gone.
    pub(super) fn usage(&self) -> Usage {
        let start = Usage {
            cpu_seconds: self.past_cpu_seconds,
            ..Usage::default()
        };
        let live = self.live.values().filter_map(|plane| plane.usage);
        live.fold(start, |sum, one| Usage {
            cpu_seconds: sum.cpu_seconds + one.cpu_seconds,
            resident_bytes: sum.resident_bytes + one.resident_bytes,
            virtual_bytes: sum.virtual_bytes + one.virtual_bytes,
            open_fds: sum.open_fds + one.open_fds,
            threads: sum.threads + one.threads,
            ..sum
        })
    }

    fn knows(&mut self, service: &ServiceName) {
        if !self.base.services.contains_key(service) {
            self.base
                .services
                .insert(service.clone(), ServiceSums::default());
        }
    }

    /// Adds what a plane said of a worker to the past.
    fn keep(&mut self, worker: WorkerId, sums: WorkerSums) {
        let Some(place) = self.place(worker).cloned() else {
            return;
        };
        self.past_cut
            .entry(place.service.clone())
            .or_default()
            .add(sums.cut);
        let past = self
            .past
            .entry((place.service.clone(), place.generation))
            .or_default();
        past.requests = past.requests.saturating_add(sums.outcomes.requests);
        past.failures = past.failures.saturating_add(sums.outcomes.failures);
        let of_service =
            (place.service.clone(), Generation(0))..=(place.service, Generation(u64::MAX));
        if self.past.range(of_service.clone()).count() > GENERATIONS_KEPT {
            let oldest = self
                .past
                .range(of_service)
                .next()
                .map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.past.remove(&oldest);
            }
        }
    }
}
