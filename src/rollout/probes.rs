//! What the answers to probes make of a worker: ready, failing, healthy again.

use super::id::{Generation, WorkerId};
use super::record::{Event, WorkerFailure};
use super::service::{News, Service, Turn};
use super::view::{Health, RolloutState};
use super::worker::Phase;

impl Service {
    pub(super) fn on_answered(&mut self, turn: &mut Turn<'_>, id: WorkerId) -> News {
        let rise = self.settings.rise.max(1);
        let Some(worker) = self.workers.get_mut(&id) else {
            return News::Shown;
        };
        worker.misses = 0;
        worker.passes = worker.passes.saturating_add(1);
        let (slot, generation) = (worker.slot, worker.generation);
        if worker.passes < rise || !worker.in_place() {
            return News::Shown;
        }
        let was = worker.health;
        worker.health = Health::Passing;
        worker.failing_since = None;
        worker.sick = false;
        if was == Health::Passing {
            return News::Shown;
        }
        if matches!(worker.phase, Phase::Starting { .. }) {
            let drained = worker.drained;
            worker.phase = if drained { Phase::Held } else { Phase::Ready };
            worker.ready_at = Some(turn.now);
            let after = turn.now.since(worker.started_at);
            turn.record(
                &self.name,
                Event::WorkerReady {
                    worker: id,
                    slot,
                    generation,
                    after,
                },
            );
            if drained {
                self.begin_drain(turn, id);
            }
            self.progressed_by(turn, generation);
        } else if was == Health::Failing {
            turn.record(
                &self.name,
                Event::WorkerHealthy {
                    worker: id,
                    slot,
                    generation,
                },
            );
        }
        News::Decides
    }

    /// A worker of `generation` became ready.
    fn progressed_by(&mut self, turn: &Turn<'_>, generation: Generation) {
        let stable = self.stable;
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        match rollout.state {
            RolloutState::Running | RolloutState::Paused => {
                if rollout.to == generation {
                    rollout.progressed(turn.now);
                }
            }
            RolloutState::RollingBack => {
                if generation == stable {
                    rollout.refill_failures = 0;
                }
            }
            RolloutState::Pending
            | RolloutState::Completed
            | RolloutState::RolledBack
            | RolloutState::Failed
            | RolloutState::Superseded => {}
        }
    }

    pub(super) fn on_unanswered(
        &mut self,
        turn: &mut Turn<'_>,
        id: WorkerId,
        problem: String,
    ) -> News {
        let fall = self.settings.fall.max(1);
        let Some(worker) = self.workers.get_mut(&id) else {
            return News::Shown;
        };
        worker.passes = 0;
        worker.misses = worker.misses.saturating_add(1);
        worker.problem = Some(problem.clone());
        let was = worker.health;
        match worker.phase {
            Phase::Starting { .. } => {
                worker.health = Health::Failing;
                News::Shown
            }
            Phase::Ready | Phase::Held => {
                if worker.misses < fall || was == Health::Failing {
                    return News::Shown;
                }
                worker.health = Health::Failing;
                worker.failing_since = Some(turn.now);
                turn.record(
                    &self.name,
                    Event::WorkerUnhealthy {
                        worker: id,
                        slot: worker.slot,
                        generation: worker.generation,
                        problem: problem.clone(),
                    },
                );
                let worker = worker.clone();
                self.blame(turn, &worker, WorkerFailure::Unhealthy { problem });
                News::Decides
            }
            Phase::Shutting { .. }
            | Phase::Emptying { .. }
            | Phase::Unlisting { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. }
            | Phase::Sweeping { .. } => News::Shown,
        }
    }
}
