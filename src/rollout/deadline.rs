//! When something of a service is due next.

use super::id::Moment;
use super::service::Service;
use super::worker::Worker;

impl Service {
    /// When the next of its deadlines is, if there is one.
    pub(super) fn next_deadline(&self, clock: Moment) -> Option<Moment> {
        let mut due = sooner(self.rollout_deadline(clock), self.cure_deadline());
        due = sooner(due, self.busy_deadline());
        for worker in self.workers.values() {
            due = sooner(due, worker.deadline(&self.settings));
        }
        for vacancy in &self.vacancies {
            let held = |worker: &Worker| worker.slot == vacancy.slot && !worker.stuck;
            if !self.workers.values().any(held) {
                due = sooner(due, Some(vacancy.due));
            }
        }
        for generation in self.generations.values() {
            due = sooner(due, generation.parked);
        }
        due
    }
}

/// The earlier of both.
pub(super) fn sooner(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
