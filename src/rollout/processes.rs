//! What becomes of processes: they are started, do not start, end unasked, leave something behind; and
//! what follows from that, a restart or the end of the rollout that tried them.

use std::time::Duration;

use super::action::Action;
use super::backoff;
use super::fact::{Exit, InFlight};
use super::id::{Generation, Moment, Slot, WorkerId};
use super::record::{Event, WorkerFailure};
use super::service::{Service, Turn};
use super::view::{FailedWorker, FailureReason, RolloutState};
use super::worker::{Phase, Vacancy, Worker};

/// How long a worker must have been ready for its end with exit status 0 to be no failure. What ends itself
/// after a number of requests serves longer, what only ran through does not get so far, and one start a second
/// is no hot loop.
const SERVED: Duration = Duration::from_secs(1);

impl Service {
    pub(super) fn spawn(
        &mut self,
        turn: &mut Turn<'_>,
        slot: Slot,
        generation: Generation,
        after: Option<&Vacancy>,
    ) {
        let id = WorkerId(*turn.ids);
        *turn.ids += 1;
        let mut worker = Worker::new(id, slot, generation, turn.now);
        worker.failures = after.map_or(0, |vacancy| vacancy.failures);
        worker.after = after.map(|vacancy| vacancy.failure.clone());
        worker.drained = after.is_some_and(|vacancy| vacancy.drained);
        worker.phase = Phase::Starting {
            deadline: (!self.unmanaged()).then_some(turn.now + self.settings.start_timeout),
        };
        self.workers.insert(id, worker);
        if let Some(rollout) = &mut self.rollout
            && rollout.to == generation
        {
            rollout.spawned = true;
        }
        turn.act(Action::Spawn {
            worker: id,
            service: self.name.clone(),
            slot,
            generation,
        });
        turn.record(
            &self.name,
            Event::WorkerStarting {
                worker: id,
                slot,
                generation,
            },
        );
    }

    pub(super) fn on_spawned(&mut self, id: WorkerId, pid: u32) {
        let unmanaged = self.unmanaged();
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.pid = (pid != 0 && !unmanaged).then_some(pid);
        }
    }

    pub(super) fn on_spawn_failed(&mut self, turn: &mut Turn<'_>, id: WorkerId, error: String) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        // A process that was seen exists; this fact is late or wrong.
        if worker.pid.is_some() {
            return;
        }
        let starting = matches!(worker.phase, Phase::Starting { .. });
        let worker = worker.clone();
        self.workers.remove(&id);
        if starting {
            self.lost(turn, &worker, WorkerFailure::Spawn { error });
        } else {
            self.retired(turn, &worker, None);
        }
    }

    pub(super) fn on_exited(&mut self, turn: &mut Turn<'_>, id: WorkerId, exit: Exit) {
        if self.unmanaged() {
            return;
        }
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let before = worker.clone();
        let served = before.ready_at.map(|at| turn.now.since(at));
        let unasked = match served {
            Some(served) if served >= SERVED && exit == Exit::Code(0) => WorkerFailure::Ended,
            Some(_) | None => WorkerFailure::Crashed { exit },
        };
        let (asked, killed, failure) = match before.phase {
            Phase::Sweeping { .. } => return,
            Phase::Starting { .. } if exit == Exit::Code(0) => {
                (false, false, Some(WorkerFailure::Daemonised))
            }
            Phase::Starting { .. } => (false, false, Some(WorkerFailure::ExitedEarly { exit })),
            Phase::Ready
            | Phase::Held
            | Phase::Shutting { .. }
            | Phase::Emptying { .. }
            | Phase::Unlisting { .. } => (false, false, Some(unasked)),
            Phase::Terminating { .. } => (true, false, None),
            Phase::Killing { .. } => (true, true, None),
        };
        let next = if killed {
            turn.now + self.settings.kill_grace
        } else {
            before.phase.group_deadline(turn.now)
        };
        worker.stuck = false;
        worker.load = InFlight::default();
        worker.phase = Phase::Sweeping {
            exit,
            asked,
            killed,
            next,
        };
        let cleared = worker.cleared;
        if !killed && !cleared {
            turn.act(Action::TerminateGroup { worker: id });
        }
        if let Some(failure) = failure {
            self.lost(turn, &before, failure);
        }
        if cleared {
            self.on_cleared(turn, id);
        }
    }

    pub(super) fn on_cleared(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let Phase::Sweeping { exit, asked, .. } = worker.phase else {
            worker.cleared = true;
            return;
        };
        let worker = worker.clone();
        self.workers.remove(&id);
        if asked || worker.drain.is_some() {
            self.retired(turn, &worker, Some(exit));
        }
    }

    pub(super) fn retired(&mut self, turn: &mut Turn<'_>, worker: &Worker, exit: Option<Exit>) {
        turn.record(
            &self.name,
            Event::WorkerRetired {
                worker: worker.id,
                slot: worker.slot,
                generation: worker.generation,
                exit,
            },
        );
    }

    pub(super) fn start_timed_out(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        let before = worker.clone();
        let failure = WorkerFailure::StartTimeout {
            after: self.settings.start_timeout,
            last_probe: before.problem.clone(),
        };
        self.terminate(turn, id);
        self.lost(turn, &before, failure);
    }

    /// Deadlines that run out because nobody looked are moved on.
    pub(super) fn on_stalled(&mut self, now: Moment, by: Duration) {
        for worker in self.workers.values_mut() {
            if let Phase::Starting {
                deadline: Some(deadline),
            } = &mut worker.phase
            {
                *deadline = *deadline + by;
            }
        }
        if let Some(rollout) = &mut self.rollout {
            rollout.patience = (rollout.patience + by).min(now);
        }
    }

    /// A worker failed, or ended, though nobody asked it to: records it, plans the restart, or ends the
    /// rollout. `worker` is as it was before.
    fn lost(&mut self, turn: &mut Turn<'_>, worker: &Worker, failure: WorkerFailure) {
        turn.record(
            &self.name,
            Event::WorkerFailed {
                worker: worker.id,
                slot: worker.slot,
                generation: worker.generation,
                failure: failure.clone(),
            },
        );
        if !worker.in_place() || turn.stop.is_some() {
            return;
        }
        if matches!(failure, WorkerFailure::Ended) {
            let tried = self.tries(worker.generation);
            if worker.generation == self.stable || tried {
                self.vacate(turn, worker, &failure);
            }
            if tried {
                self.lower_share();
            }
            return;
        }
        if worker.generation == self.stable {
            if let Some(rollout) = &mut self.rollout
                && rollout.state == RolloutState::RollingBack
                && matches!(worker.phase, Phase::Starting { .. })
            {
                rollout.refill_failures += 1;
            }
            self.vacate(turn, worker, &failure);
        }
        self.blame(turn, worker, failure);
    }

    /// The slot waits for its restart. After a worker that ended by itself that is due at once, and tells
    /// neither for nor against the slot.
    fn vacate(&mut self, turn: &mut Turn<'_>, worker: &Worker, failure: &WorkerFailure) {
        // One that served for some while did not fail to start, whatever ended it.
        let healthy = worker
            .ready_at
            .is_some_and(|at| turn.now.since(at) >= self.settings.backoff_reset);
        let ended = matches!(failure, WorkerFailure::Ended);
        let failures = match (healthy, ended) {
            (true, _) => 0,
            (false, true) => worker.failures,
            (false, false) => worker.failures.saturating_add(1),
        };
        let delay = match ended {
            true => Duration::ZERO,
            false => backoff::delay(&self.settings, failures, turn.jitter),
        };
        self.vacancies.push(Vacancy {
            last: worker.id,
            slot: worker.slot,
            generation: worker.generation,
            since: turn.now,
            due: turn.now + delay,
            failures,
            failure: failure.clone(),
            drained: worker.drained,
        });
        if ended {
            return;
        }
        turn.record(
            &self.name,
            Event::WorkerBackoff {
                slot: worker.slot,
                generation: worker.generation,
                failures,
                delay,
            },
        );
    }

    /// A rollout goes forward with this generation.
    pub(super) fn tries(&self, generation: Generation) -> bool {
        self.rollout
            .as_ref()
            .is_some_and(|rollout| rollout.forward() && rollout.to == generation)
    }

    /// Ends the rollout if the worker was its candidate's.
    pub(super) fn blame(&mut self, turn: &mut Turn<'_>, worker: &Worker, failure: WorkerFailure) {
        if !self.tries(worker.generation) {
            return;
        }
        let message = format!(
            "worker {} of generation {} {failure}",
            worker.slot, worker.generation
        );
        let failed = FailedWorker {
            worker: worker.id,
            slot: worker.slot,
            pid: worker.pid,
            failure,
        };
        self.fail_rollout(turn, FailureReason::Worker, message, Some(failed));
    }
}
