//! Counters that come from the core's records: starts, exits, restarts, drains, rollouts.

use std::collections::BTreeMap;

use super::histogram::{Buckets, DRAIN_BOUNDS, LONG_BOUNDS};
use super::labels::{self, RESULTS};
use crate::rollout::{
    Event, Exit, Generation, InFlight, Moment, Record, ServiceName, Slot, Trigger, View,
    WorkerFailure, WorkerId, WorkerState,
};

/// `exits_total{reason}`: it was asked to, it ended by itself (while it served, by its own will after it had
/// served, before it was ready, into the background), or we killed it.
pub(super) const EXITS: [&str; 6] = [
    "asked",
    "crashed",
    "ended",
    "exited_early",
    "daemonised",
    "killed",
];
/// `restarts_total{reason}`: what happened to the worker before.
pub(super) const RESTARTS: [&str; 7] = [
    "crashed",
    "ended",
    "exited_early",
    "daemonised",
    "start_timeout",
    "unhealthy",
    "spawn_failed",
];
/// `drains_total{outcome}`: nothing was left, a limit cut the rest, or the worker ended first.
pub(super) const DRAINS: [&str; 3] = ["clean", "deadline", "killed"];

/// SIGKILL, as exits name it.
const SIGKILL: i32 = 9;

/// All services' counters, and what is needed to tell what a record means.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) services: BTreeMap<ServiceName, Counts>,
    lives: BTreeMap<WorkerId, Life>,
    /// Why the last worker of a slot failed, until the next one starts there.
    failed: BTreeMap<(ServiceName, Generation, Slot), &'static str>,
}

/// One service's counters.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) starts: u64,
    pub(super) exits: BTreeMap<&'static str, u64>,
    pub(super) restarts: BTreeMap<&'static str, u64>,
    pub(super) ready: Buckets,
    pub(super) drains: BTreeMap<&'static str, u64>,
    pub(super) drain_duration: BTreeMap<&'static str, Buckets>,
    pub(super) rollouts: BTreeMap<(&'static str, &'static str), u64>,
    pub(super) rollout_duration: BTreeMap<&'static str, Buckets>,
}

/// What records said of a worker so far.
#[derive(Debug, Default)]
struct Life {
    draining_since: Option<Moment>,
    killing: bool,
    exit_counted: bool,
    shown: bool,
}

impl Counts {
    fn new() -> Self {
        let zeros = |labels: &[&'static str]| labels.iter().map(|label| (*label, 0)).collect();
        let empty = |labels: &[&'static str], bounds| {
            labels
                .iter()
                .map(|label| (*label, Buckets::new(bounds)))
                .collect()
        };
        let pairs = labels::TRIGGERS
            .iter()
            .flat_map(|trigger| RESULTS.iter().map(|result| ((trigger.word(), *result), 0)));
        Self {
            starts: 0,
            exits: zeros(&EXITS),
            restarts: zeros(&RESTARTS),
            ready: Buckets::new(&LONG_BOUNDS),
            drains: zeros(&DRAINS),
            drain_duration: empty(&DRAINS, &DRAIN_BOUNDS),
            rollouts: pairs.collect(),
            rollout_duration: empty(&RESULTS, &LONG_BOUNDS),
        }
    }

    fn drained(&mut self, outcome: &'static str, took: std::time::Duration) {
        *self.drains.entry(outcome).or_default() += 1;
        if let Some(duration) = self.drain_duration.get_mut(outcome) {
            duration.observe(took);
        }
    }

    fn rolled(&mut self, trigger: Trigger, result: &'static str, took: std::time::Duration) {
        *self.rollouts.entry((trigger.word(), result)).or_default() += 1;
        if let Some(duration) = self.rollout_duration.get_mut(result) {
            duration.observe(took);
        }
    }
}

impl Events {
    pub(super) fn new(services: &[ServiceName]) -> Self {
        let counts = services
            .iter()
            .map(|service| (service.clone(), Counts::new()));
        Self {
            services: counts.collect(),
            lives: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// `was_cut`: planes cut requests of the worker whose drain the record ends. They do so themselves,
    /// so nothing may be left of it by the time the drain is over.
    pub(super) fn record(&mut self, record: &Record, was_cut: bool, now: Moment) {
        let service = &record.service;
        let counts = self
            .services
            .entry(service.clone())
            .or_insert_with(Counts::new);
        match &record.event {
            Event::WorkerStarting {
                worker,
                slot,
                generation,
            } => {
                counts.starts += 1;
                self.lives.entry(*worker).or_default();
                let before = self.failed.remove(&(service.clone(), *generation, *slot));
                if let Some(reason) = before {
                    *counts.restarts.entry(reason).or_default() += 1;
                }
            }
            Event::WorkerReady { worker, after, .. } => {
                counts.ready.observe(*after);
                self.lives.entry(*worker).or_default().draining_since = None;
            }
            Event::WorkerFailed {
                worker,
                slot,
                generation,
                failure,
            } => {
                let (exit, restart) = reasons(failure);
                self.failed
                    .insert((service.clone(), *generation, *slot), restart);
                let life = self.lives.entry(*worker).or_default();
                if let Some(exit) = exit {
                    life.ended(counts, exit, now);
                }
            }
            Event::WorkerReplaced { .. } => {
                *counts.restarts.entry("unhealthy").or_default() += 1;
            }
            Event::WorkerDraining { worker, .. } => {
                self.lives.entry(*worker).or_default().draining_since = Some(now);
            }
            Event::WorkerDrained {
                worker, took, left, ..
            } => {
                self.lives.entry(*worker).or_default().draining_since = None;
                let is_clean = *left == InFlight::default() && !was_cut;
                counts.drained(if is_clean { "clean" } else { "deadline" }, *took);
            }
            Event::WorkerKilling { worker, .. } => {
                self.lives.entry(*worker).or_default().killing = true;
            }
            Event::WorkerRetired { worker, exit, .. } => {
                let life = self.lives.entry(*worker).or_default();
                let by_kill = matches!(
                    exit,
                    Some(Exit::Signal {
                        signal: SIGKILL,
                        ..
                    })
                );
                // A worker that somebody else runs has no exit: it only left the table.
                if exit.is_some() {
                    let asked = if life.killing || by_kill {
                        "killed"
                    } else {
                        "asked"
                    };
                    life.ended(counts, asked, now);
                }
            }
            Event::RolloutState {
                state,
                trigger,
                elapsed,
                ..
            } => {
                if let Some(result) = labels::result(*state) {
                    counts.rolled(*trigger, result, *elapsed);
                }
            }
            Event::WorkerUnhealthy { .. }
            | Event::WorkerHealthy { .. }
            | Event::WorkerEjected { .. }
            | Event::WorkerReadmitted { .. }
            | Event::WorkerBackoff { .. }
            | Event::WorkerTerminating { .. }
            | Event::WorkerStuck { .. }
            | Event::RolloutRequested { .. }
            | Event::RolloutBatch { .. }
            | Event::RolloutVerdict { .. }
            | Event::RolloutRamped { .. }
            | Event::Promoted { .. }
            | Event::Scaled { .. }
            | Event::NobodyReady { .. }
            | Event::Stopping { .. } => {}
        }
    }

    /// Forgets workers and failures that no view can bring back.
    pub(super) fn keep_only(&mut self, view: &View) {
        let mut workers = BTreeMap::new();
        let mut generations = std::collections::BTreeSet::new();
        for service in &view.services {
            self.services
                .entry(service.service.clone())
                .or_insert_with(Counts::new);
            for generation in &service.generations {
                generations.insert((&service.service, generation.number));
                let states = generation
                    .workers
                    .iter()
                    .map(|worker| (worker.worker, worker.state));
                workers.extend(states);
            }
        }
        self.lives.retain(|worker, life| {
            let state = workers.get(worker);
            if state == Some(&WorkerState::Ready) {
                // A person drained it and has opened its gate again.
                life.draining_since = None;
            }
            let keep = state.is_some() || !life.shown;
            life.shown |= state.is_some();
            keep
        });
        self.failed
            .retain(|(service, generation, _), _| generations.contains(&(service, *generation)));
    }
}

impl Life {
    /// The process ended; an end is told once, though two records may speak of it.
    fn ended(&mut self, counts: &mut Counts, reason: &'static str, now: Moment) {
        if self.exit_counted {
            return;
        }
        self.exit_counted = true;
        *counts.exits.entry(reason).or_default() += 1;
        if let Some(since) = self.draining_since.take() {
            counts.drained("killed", now.since(since));
        }
    }
}

/// The reasons of the exit (if there was a process and it has ended) and of the restart that follows.
fn reasons(failure: &WorkerFailure) -> (Option<&'static str>, &'static str) {
    match failure {
        WorkerFailure::Spawn { .. } => (None, "spawn_failed"),
        WorkerFailure::ExitedEarly { .. } => (Some("exited_early"), "exited_early"),
        WorkerFailure::Daemonised => (Some("daemonised"), "daemonised"),
        WorkerFailure::StartTimeout { .. } => (None, "start_timeout"),
        WorkerFailure::Crashed { .. } => (Some("crashed"), "crashed"),
        WorkerFailure::Ended => (Some("ended"), "ended"),
        WorkerFailure::Unhealthy { .. } => (None, "unhealthy"),
    }
}
