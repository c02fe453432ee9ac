//! The core's routes plus what the shell knows of workers and config: the table that planes get.

use crate::config::Config;
use crate::link::message::{GenerationEntry, Service, Table, WorkerEntry};
use crate::rollout::{GateState, Routes, WorkerRoute};

use super::workers::Workers;

/// Builds the table. A worker whose address is not known cannot be in it; the core only routes to
/// workers that have answered at their address.
#[must_use]
pub(super) fn build(routes: &Routes, config: &Config, workers: &Workers) -> Table {
    let services = routes
        .services
        .iter()
        .filter_map(|of| {
            let rules = config
                .services
                .iter()
                .find(|service| service.name == of.service)?;
            let generations = of
                .generations
                .iter()
                .map(|generation| GenerationEntry {
                    number: generation.number,
                    role: generation.role,
                    weight: generation.weight,
                    workers: generation
                        .workers
                        .iter()
                        .filter_map(|route| {
                            Some(WorkerEntry {
                                worker: route.worker,
                                slot: route.slot,
                                address: workers.address(route.worker)?.clone(),
                                protocol: workers.protocol(route.worker)?,
                                gate: route.gate,
                            })
                        })
                        .collect(),
                })
                .collect();
            Some(Service {
                name: of.service.clone(),
                rules: std::sync::Arc::new(rules.rules.clone()),
                generations,
            })
        })
        .collect();
    Table {
        epoch: routes.epoch,
        services,
        front: config.front.clone(),
    }
}

/// Every worker in the routes, and whether it takes no new requests.
pub(super) fn workers(routes: &Routes) -> impl Iterator<Item = (&WorkerRoute, bool)> {
    routes
        .services
        .iter()
        .flat_map(|service| &service.generations)
        .flat_map(|generation| &generation.workers)
        .map(|route| (route, route.gate != GateState::Open))
}
