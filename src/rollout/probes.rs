//! What the answers to probes make of a worker: ready, failing, healthy again.

use std::time::Duration;

use super::id::{Generation, Moment, WorkerId};
use super::record::{Event, WorkerFailure};
use super::service::{News, Service, Turn};
use super::view::{Health, RolloutState};
use super::worker::{Phase, Worker};

/// How long a rollout bears with a worker of its candidate that is busy. A worker of a single thread answers no
/// probe while it answers a request, and one that takes seconds is no fault of the release. It gets no other
/// requests meanwhile, and what hangs for good is still undone soon.
const BUSY: Duration = Duration::from_secs(15);

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
        worker.busy = false;
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
                } else if generation == stable {
                    self.share_out();
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
        late: bool,
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
                let (failed, was_busy) = (was == Health::Failing, worker.busy);
                if worker.misses < fall || failed && !was_busy {
                    return News::Shown;
                }
                worker.busy = late && worker.load.total() > 0;
                if failed && worker.busy {
                    return News::Shown;
                }
                if !failed {
                    worker.health = Health::Failing;
                    worker.failing_since = Some(turn.now);
                    let event = Event::WorkerUnhealthy {
                        worker: id,
                        slot: worker.slot,
                        generation: worker.generation,
                        problem: problem.clone(),
                    };
                    turn.record(&self.name, event);
                }
                let worker = worker.clone();
                if !worker.busy {
                    self.blame(turn, &worker, WorkerFailure::Unhealthy { problem });
                } else if self.tries(worker.generation) {
                    self.lower_share();
                }
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

    /// The candidate's worker that a rollout has borne with for the longest time, and until when.
    pub(super) fn busiest(&self) -> Option<(Moment, &Worker)> {
        let rollout = self.active()?;
        if !rollout.forward() || rollout.held_by_failure() {
            return None;
        }
        // Whoever replaces what stands still sooner than that bears with it no longer here.
        let limit = match self.settings.unhealthy_after {
            Duration::ZERO => BUSY,
            limit => limit.min(BUSY),
        };
        self.of(rollout.to)
            .filter(|worker| worker.busy && worker.in_place())
            .filter_map(|worker| Some((worker.failing_since? + limit, worker)))
            .min_by_key(|(due, worker)| (*due, worker.slot))
    }

    pub(super) fn busy_deadline(&self) -> Option<Moment> {
        self.busiest().map(|(due, _)| due)
    }

    /// A rollout bears no longer with a worker that is busy.
    pub(super) fn blame_busy(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some((due, worker)) = self.busiest() else {
            return false;
        };
        if !turn.passed(due) {
            return false;
        }
        let worker = worker.clone();
        if let Some(busy) = self.workers.get_mut(&worker.id) {
            busy.busy = false;
        }
        let problem = worker.problem.clone().unwrap_or_default();
        self.blame(turn, &worker, WorkerFailure::Unhealthy { problem });
        true
    }
}
