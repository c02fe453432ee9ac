//! Shows the workers of stable generations to the rules of [`super::ejection`] and does what they say.
//!
//! It runs on the plane's main task, at each turn of its clock and when a loop has seen a row of failures.
//! A verdict holds for all loops, and no loop writes anything for it that another one writes.

use std::collections::HashMap;

use super::ejection::{Group, Seen, Verdict, Watch};
use super::live::Clock;
use super::table::Published;
use crate::link::message::{Service, Table};
use crate::rollout::{GateState, Role, ServiceName, Slot, WorkerId};

/// What was done so far.
#[derive(Debug, Default)]
pub(super) struct Tripwire {
    watch: Watch,
    ejections: HashMap<ServiceName, u64>,
}

impl Tripwire {
    /// Looks at everybody.
    pub(super) fn look(&mut self, published: &Published, clock: &Clock) {
        let services = published.table.services.iter();
        let groups: Vec<_> = services.filter_map(|of| group(of, published)).collect();
        let now = clock.now();
        for verdict in self.watch.review(&groups, now) {
            match verdict {
                Verdict::Eject(worker, time) => {
                    let Some((service, slot)) = place(&published.table, worker) else {
                        continue;
                    };
                    *self.ejections.entry(service.clone()).or_default() += 1;
                    if let Some(gate) = published.gates.get(&worker) {
                        gate.eject();
                    }
                    let seconds = time.as_secs();
                    // The supervisor says so to people.
                    tracing::debug!(
                        "worker {slot} of {service} gets no requests for {seconds} s: it fails far more than the others"
                    );
                }
                Verdict::Readmit(worker) => {
                    if let Some(gate) = published.gates.get(&worker) {
                        gate.readmit(now);
                    }
                    if let Some((service, slot)) = place(&published.table, worker) {
                        tracing::debug!("worker {slot} of {service} gets requests again");
                    }
                }
            }
        }
    }

    /// How often a worker of this service was ejected.
    pub(super) fn ejections(&self, service: &ServiceName) -> u64 {
        self.ejections.get(service).copied().unwrap_or(0)
    }
}

/// The workers that are compared: those of the stable generation that take requests.
fn group(service: &Service, published: &Published) -> Option<Group> {
    let mut generations = service.generations.iter();
    let stable = generations.find(|of| of.role == Role::Stable && of.weight.0 > 0)?;
    let open = stable.workers.iter();
    let open = open.filter(|entry| entry.gate == GateState::Open);
    let workers = open.filter_map(|entry| {
        let gate = published.gates.get(&entry.worker)?;
        let sums = gate.sums();
        Some(Seen {
            worker: entry.worker,
            requests: sums.requests,
            failures: sums.failures,
            row: gate.row(),
        })
    });
    Some(Group {
        rules: service.rules.ejection,
        workers: workers.collect(),
    })
}

fn place(table: &Table, worker: WorkerId) -> Option<(&ServiceName, Slot)> {
    table.services.iter().find_map(|service| {
        let generations = service.generations.iter();
        let mut workers = generations.flat_map(|generation| &generation.workers);
        let found = workers.find(|entry| entry.worker == worker)?;
        Some((&service.name, found.slot))
    })
}
