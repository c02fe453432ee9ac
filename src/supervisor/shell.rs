//! What the shell adds to the core's view when it is shown.

use std::collections::BTreeMap;

use super::control::Ledgers;
use super::planes::Planes;
use super::status::{Evidence, Shell, WorkerFacts, rollout_id};
use super::workers::Workers;
use crate::metrics::{LedgerCounts, Metrics};
use crate::rollout::{RolloutView, ServiceName, WorkerId};
use crate::wire;

/// A look at the parts that know.
pub(super) struct ShellView<'a> {
    pub(super) workers: &'a Workers,
    pub(super) planes: &'a Planes,
    pub(super) metrics: &'a Metrics,
    pub(super) ledgers: &'a BTreeMap<String, Ledgers>,
}

impl Shell for ShellView<'_> {
    fn worker(&self, worker: WorkerId) -> WorkerFacts {
        WorkerFacts {
            rss: self.workers.rss(worker),
            address: self.workers.address(worker).map(ToString::to_string),
        }
    }

    fn evidence(&self, worker: WorkerId) -> Evidence {
        self.workers.evidence(worker)
    }

    fn ledger(&self, service: &ServiceName, rollout: &RolloutView) -> wire::Ledger {
        let Some(ledger) = self.ledgers.get(&rollout_id(service, rollout.to.0)) else {
            return wire::Ledger::default();
        };
        let end = ledger.end.unwrap_or_else(|| self.metrics.ledger(service));
        account(end.since(ledger.begin))
    }

    fn parked(&self, service: &ServiceName) -> u32 {
        self.planes
            .iter()
            .flat_map(|(_, plane)| &plane.sample.services)
            .filter(|sample| sample.name == *service)
            .map(|sample| sample.parked)
            .sum()
    }
}

fn account(counts: LedgerCounts) -> wire::Ledger {
    let [stable, candidate, parked, retiring] = counts.by_role;
    let [plain, upload, stream, tunnel] = counts
        .cut
        .map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    wire::Ledger {
        requests: counts.requests,
        candidate,
        stable: stable + parked + retiring,
        retried: counts.retried,
        proxy_errors: counts.proxy_errors,
        cut: wire::InFlight {
            plain,
            upload,
            stream,
            tunnel,
        },
        client_gone: counts.client_gone,
    }
}
