//! What the shell adds to the core's view when it is shown.

use std::collections::BTreeMap;

use super::ledgers::Ledgers;
use super::parked;
use super::status::{Evidence, Shell, WorkerFacts, rollout_id};
use super::workers::Workers;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::rollout::{RolloutView, ServiceName, WorkerId};
use crate::wire;

/// A look at the parts that know.
pub(super) struct ShellView<'a> {
    pub(super) workers: &'a Workers,
    pub(super) metrics: &'a Metrics,
    pub(super) ledgers: &'a BTreeMap<String, Ledgers>,
    pub(super) config: &'a Config,
}

impl Shell for ShellView<'_> {
    fn worker(&self, worker: WorkerId) -> WorkerFacts {
        WorkerFacts {
            rss: self.workers.rss(worker),
            address: self.workers.address(worker).map(ToString::to_string),
            ejected: self.metrics.is_ejected(worker),
        }
    }

    fn evidence(&self, worker: WorkerId) -> Evidence {
        self.workers.evidence(worker)
    }

    fn ledger(&self, service: &ServiceName, rollout: &RolloutView) -> wire::Ledger {
        let Some(ledger) = self.ledgers.get(&rollout_id(service, rollout.number.0)) else {
            return wire::Ledger::default();
        };
        let (end, candidate) = ledger.end.unwrap_or_else(|| {
            (
                self.metrics.ledger(service),
                self.metrics.outcomes(service, rollout.to),
            )
        });
        end.since(ledger.begin).wire(candidate)
    }

    fn remarks(&self, service: &ServiceName, rollout: &RolloutView) -> Vec<String> {
        let kept = self.ledgers.get(&rollout_id(service, rollout.number.0));
        kept.map(|kept| kept.remarks.clone()).unwrap_or_default()
    }

    fn parked(&self, service: &ServiceName) -> u32 {
        self.metrics.parked(service)
    }

    fn parked_as(&self, service: &ServiceName, in_flight: &[u32]) -> Option<String> {
        let mut services = self.config.services.iter();
        let of = services.find(|of| of.name == *service)?;
        Some(parked::cause(in_flight, &of.rules))
    }
}
