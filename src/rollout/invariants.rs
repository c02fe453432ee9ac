//! What must hold after every call. Runs in debug builds; the simulator checks more from outside.

use std::collections::BTreeSet;

use super::core::Core;
use super::id::Weight;
use super::service::Service;
use super::view::RolloutState;

impl Core {
    pub(super) fn check_invariants(&self) {
        for service in self.services.values() {
            debug_assert!(
                self.knows_when(service),
                "what was not looked at has the deadline that it had"
            );
            check_service(service);
        }
    }
}

fn check_service(service: &Service) {
    debug_assert!(
        service.generations.contains_key(&service.stable),
        "the stable generation is known"
    );
    let sum: u32 = service
        .weights()
        .map(|(_, weight)| u32::from(weight.0))
        .sum();
    debug_assert!(
        sum == 0 || sum == u32::from(Weight::FULL.0),
        "I4: weights sum to all or nothing, not {sum}"
    );
    let mut slots = BTreeSet::new();
    for worker in service.workers.values() {
        debug_assert!(
            slots.insert(worker.slot),
            "slot {} is used twice",
            worker.slot
        );
        debug_assert!(
            service.generations.contains_key(&worker.generation),
            "worker in slot {} has a generation that is forgotten",
            worker.slot
        );
    }
    for vacancy in &service.vacancies {
        debug_assert!(
            vacancy.generation == service.stable || service.active().is_some(),
            "only stable workers are restarted"
        );
    }
    if let Some(rollout) = &service.rollout {
        debug_assert!(
            rollout.hold.is_some() == (rollout.state == RolloutState::Paused),
            "paused exactly while held"
        );
        debug_assert!(
            rollout.state != RolloutState::Pending,
            "a running rollout has begun"
        );
        debug_assert!(rollout.passed <= rollout.goal, "batches pass in order");
    }
    debug_assert!(
        service.pending.is_none() || service.active().is_some(),
        "nothing waits for nothing"
    );
}
