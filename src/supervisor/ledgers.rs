//! What a rollout cost: the counts at its begin and at its end, and what was cut on its account.

use super::control::Supervisor;
use super::status;
use crate::metrics::LedgerCounts;
use crate::rollout::{Event, Generation, Outcomes, Record, RolloutState, ServiceName};

/// Rollouts whose request accounting is remembered.
const LEDGERS_KEPT: usize = 256;

/// What is kept of a rollout beside the core's view: its request accounting, that is the totals at its begin, and
/// at its end once it ended (those cut, at the end of the last drain it caused).
#[derive(Debug, Clone)]
pub(super) struct Ledgers {
    pub(super) begin: LedgerCounts,
    /// With what the candidate's workers answered, which is forgotten with its generation.
    pub(super) end: Option<(LedgerCounts, Outcomes)>,
    /// What is to be known of its workers.
    pub(super) remarks: Vec<String>,
}

impl Supervisor {
    pub(super) fn keep_ledger(
        &mut self,
        service: &ServiceName,
        (number, to): (Generation, Generation),
        state: RolloutState,
    ) {
        let totals = self.metrics.ledger(service);
        let ledger = self
            .ledgers
            .entry(status::rollout_id(service, number.0))
            .or_insert(Ledgers {
                begin: totals,
                end: None,
                remarks: Vec::new(),
            });
        if state.is_final() && ledger.end.is_none() {
            ledger.end = Some((totals, self.metrics.outcomes(service, to)));
        }
        while self.ledgers.len() > LEDGERS_KEPT {
            self.ledgers.pop_first();
        }
    }

    /// Workers that a rollout retires may drain beyond its end; what is cut then is still its doing.
    pub(super) fn add_late_cuts(&mut self, service: &ServiceName, drained: Generation) {
        let view = self.view();
        let of_service = view.services.iter().find(|view| view.service == *service);
        let Some(rollout) = of_service.and_then(|view| view.rollout.as_ref()) else {
            return;
        };
        let id = status::rollout_id(service, rollout.number.0);
        let left_by_it = (rollout.state == RolloutState::Completed) != (drained == rollout.to);
        let cut = self.metrics.ledger(service).cut;
        if let Some(ledger) = self.ledgers.get_mut(&id)
            && let Some(end) = &mut ledger.end
            && left_by_it
        {
            end.0.cut = cut;
        }
    }

    /// A plane cuts by itself what is over its limit, so that the core sees nothing left: for people the
    /// record says what was cut.
    pub(super) fn with_cuts(&self, record: &Record) -> Record {
        let mut record = record.clone();
        if let Event::WorkerDrained { worker, left, .. } = &mut record.event {
            let cut = self.planes.cut(*worker);
            left.plain = left.plain.saturating_add(cut.plain);
            left.upload = left.upload.saturating_add(cut.upload);
            left.stream = left.stream.saturating_add(cut.stream);
            left.tunnel = left.tunnel.saturating_add(cut.tunnel);
        }
        record
    }
}
