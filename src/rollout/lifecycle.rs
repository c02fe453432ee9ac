//! What facts do to workers, and the steps of the retire order.

use super::action::Action;
use super::backoff;
use super::command::Stop;
use super::fact::{Exit, InFlight, Outcomes};
use super::id::{Generation, Moment, Slot, WorkerId};
use super::plan::Baseline;
use super::record::{Event, WorkerFailure};
use super::service::{News, Service, Turn};
use super::view::{FailedWorker, FailureReason, Health, RolloutState};
use super::worker::{Drain, GROUP_GRACE, Phase, Vacancy, Worker};

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
            worker.phase = Phase::Ready;
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

    pub(super) fn on_exited(&mut self, turn: &mut Turn<'_>, id: WorkerId, exit: Exit) {
        if self.unmanaged() {
            return;
        }
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let before = worker.clone();
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
            | Phase::Unlisting { .. } => (false, false, Some(WorkerFailure::Crashed { exit })),
            Phase::Terminating { .. } => (true, false, None),
            Phase::Killing { .. } => (true, true, None),
        };
        let grace = self.settings.kill_grace;
        worker.stuck = false;
        worker.load = InFlight::default();
        worker.phase = Phase::Sweeping {
            exit,
            asked,
            killed,
            next: turn.now + if killed { grace } else { GROUP_GRACE },
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

    pub(super) fn on_load(
        &mut self,
        turn: &Turn<'_>,
        id: WorkerId,
        in_flight: InFlight,
        deadline: Option<Moment>,
    ) -> News {
        let Some(worker) = self.workers.get_mut(&id) else {
            return News::Shown;
        };
        if !worker.listed() {
            return News::Shown;
        }
        let more = in_flight.total() > worker.load.total();
        worker.load = in_flight;
        worker.load_deadline = deadline;
        let mut news = News::Shown;
        if let Phase::Emptying { counted } = &mut worker.phase {
            *counted = true;
            news = News::Decides;
        }
        // It may be awaited that one which is to be replaced has nothing in flight any more.
        if worker.failing_since.is_some() && in_flight.plain == 0 {
            news = News::Decides;
        }
        let generation = worker.generation;
        if more {
            self.requested(turn, generation);
        } else if self.awaits_answers(turn.clock) {
            news = News::Decides;
        }
        news
    }

    pub(super) fn on_traffic(
        &mut self,
        turn: &Turn<'_>,
        number: Generation,
        total: Outcomes,
    ) -> News {
        let Some(generation) = self.generations.get(&number) else {
            return News::Shown;
        };
        let more = total.requests > generation.total.requests;
        if more {
            // Before the count is taken over: the baseline is what was there before the first request.
            self.requested(turn, number);
        }
        if let Some(generation) = self.generations.get_mut(&number) {
            let known = &mut generation.total;
            known.requests = known.requests.max(total.requests);
            known.failures = known.failures.max(total.failures).min(known.requests);
        }
        if self.fails_now() || self.awaits_answers(turn.clock) {
            News::Decides
        } else {
            News::Shown
        }
    }

    /// Deadlines that run out because nobody looked are moved on.
    pub(super) fn on_stalled(&mut self, now: Moment, by: std::time::Duration) {
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

    /// A request came to `number`. How long the service is idle and the soak goes on are deadlines.
    fn requested(&mut self, turn: &Turn<'_>, number: Generation) {
        if let Some(generation) = self.generations.get_mut(&number) {
            generation.last_request = Some(turn.now);
        }
        let (candidate, stable) = (self.total(number), self.total(self.stable));
        if let Some(rollout) = &mut self.rollout
            && rollout.to == number
            && rollout.forward()
            && rollout.baseline.is_none()
        {
            rollout.baseline = Some(Baseline { candidate, stable });
        }
        self.note_first_request();
    }

    /// A worker failed though nobody asked it to end: records it, plans the restart, or ends the
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

    /// The slot waits for its restart.
    fn vacate(&mut self, turn: &mut Turn<'_>, worker: &Worker, failure: &WorkerFailure) {
        // One that served for some while did not fail to start, whatever ended it.
        let healthy = worker
            .ready_at
            .is_some_and(|at| turn.now.since(at) >= self.settings.backoff_reset);
        let failures = if healthy {
            0
        } else {
            worker.failures.saturating_add(1)
        };
        let delay = backoff::delay(&self.settings, failures, turn.jitter);
        self.vacancies.push(Vacancy {
            last: worker.id,
            slot: worker.slot,
            generation: worker.generation,
            since: turn.now,
            due: turn.now + delay,
            failures,
            failure: failure.clone(),
        });
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

    /// Ends the rollout if the worker was its candidate's.
    fn blame(&mut self, turn: &mut Turn<'_>, worker: &Worker, failure: WorkerFailure) {
        let tried = self
            .rollout
            .as_ref()
            .is_some_and(|rollout| rollout.forward() && rollout.to == worker.generation);
        if !tried {
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

    /// Puts a worker on the retire order, wherever it is in its life.
    pub(super) fn retire(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let unmanaged = self.unmanaged();
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        match worker.phase {
            // No plane knows it: nothing to drain.
            Phase::Starting { .. } if unmanaged => {
                let worker = worker.clone();
                self.workers.remove(&id);
                self.retired(turn, &worker, None);
            }
            Phase::Starting { .. } => self.terminate(turn, id),
            Phase::Ready | Phase::Held => {
                let held = matches!(worker.phase, Phase::Held);
                worker.phase = Phase::Shutting { epoch: None };
                if !held {
                    self.begin_drain(turn, id);
                }
            }
            Phase::Shutting { .. }
            | Phase::Emptying { .. }
            | Phase::Unlisting { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. }
            | Phase::Sweeping { .. } => {}
        }
    }

    pub(super) fn begin_drain(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.drain = Some(Drain {
            since: turn.now,
            initial: worker.load,
        });
        // Its gate may have been shut before, for its health: then the planes count since then.
        worker.load_deadline = worker.load_deadline.filter(|deadline| *deadline > turn.now);
        let event = Event::WorkerDraining {
            worker: id,
            slot: worker.slot,
            generation: worker.generation,
            in_flight: worker.load,
        };
        turn.record(&self.name, event);
    }

    fn terminate(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let deadline = turn.now + self.grace(turn);
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.phase = Phase::Terminating { deadline };
        turn.act(Action::Terminate { worker: id });
        let event = Event::WorkerTerminating {
            worker: id,
            slot: worker.slot,
            generation: worker.generation,
        };
        turn.record(&self.name, event);
    }

    /// SIGTERM to SIGKILL.
    fn grace(&self, turn: &Turn<'_>) -> std::time::Duration {
        match turn.stop {
            Some(Stop::Now) => self.settings.kill_grace.min(GROUP_GRACE),
            Some(Stop::Graceful) | None => self.settings.kill_grace,
        }
    }

    /// Moves every worker on as far as acknowledgements, counts and deadlines allow. Says whether
    /// anything moved.
    pub(super) fn step_workers(&mut self, turn: &mut Turn<'_>) -> bool {
        let mut moved = false;
        let mut index = 0;
        while let Some(id) = self.workers.key_at(index) {
            moved |= self.step_worker(turn, id);
            // A step may take the worker out.
            if self.workers.key_at(index) == Some(id) {
                index += 1;
            }
        }
        moved
    }

    fn step_worker(&mut self, turn: &mut Turn<'_>, id: WorkerId) -> bool {
        let now_or_never = turn.stop == Some(Stop::Now);
        let unmanaged = self.unmanaged();
        let Some(worker) = self.workers.get(&id) else {
            return false;
        };
        let due = || {
            let deadline = worker.deadline(&self.settings);
            deadline.is_some_and(|deadline| turn.passed(deadline))
        };
        match worker.phase {
            Phase::Starting { .. }
            | Phase::Ready
            | Phase::Held
            | Phase::Shutting { .. }
            | Phase::Emptying { .. }
            | Phase::Unlisting { .. }
                if now_or_never =>
            {
                if unmanaged {
                    self.dismiss(turn, id);
                } else {
                    self.terminate(turn, id);
                }
                true
            }
            Phase::Starting { .. } => {
                let due = due();
                if due {
                    self.start_timed_out(turn, id);
                }
                due
            }
            Phase::Ready | Phase::Held => false,
            Phase::Shutting { epoch } => {
                let acknowledged = epoch.is_some_and(|epoch| epoch <= turn.acknowledged);
                if acknowledged {
                    self.set_phase(id, Phase::Emptying { counted: false });
                }
                acknowledged
            }
            Phase::Emptying { counted } => {
                let over = counted && worker.load.total() == 0 || due();
                if over {
                    self.drained(turn, id);
                }
                over
            }
            Phase::Unlisting { epoch } => {
                let acknowledged = epoch.is_some_and(|epoch| epoch <= turn.acknowledged);
                if acknowledged && unmanaged {
                    self.dismiss(turn, id);
                } else if acknowledged {
                    self.terminate(turn, id);
                }
                acknowledged
            }
            Phase::Terminating { deadline } => {
                let (due, sooner) = (due(), turn.now + self.grace(turn));
                if now_or_never && sooner < deadline {
                    self.set_phase(id, Phase::Terminating { deadline: sooner });
                    return true;
                }
                if due {
                    self.kill(turn, id);
                }
                due
            }
            Phase::Killing { .. } => {
                let due = due();
                if due {
                    self.stuck(turn, id);
                }
                due
            }
            Phase::Sweeping {
                exit,
                asked,
                killed,
                ..
            } => {
                let due = due();
                if due && killed {
                    self.stuck(turn, id);
                } else if due {
                    let next = turn.now + self.settings.kill_grace;
                    turn.act(Action::KillGroup { worker: id });
                    self.set_phase(
                        id,
                        Phase::Sweeping {
                            exit,
                            asked,
                            killed: true,
                            next,
                        },
                    );
                }
                due
            }
        }
    }

    fn set_phase(&mut self, id: WorkerId, phase: Phase) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.phase = phase;
        }
    }

    fn start_timed_out(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
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

    fn drained(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.phase = Phase::Unlisting { epoch: None };
        let since = worker.drain.map_or(turn.now, |drain| drain.since);
        let event = Event::WorkerDrained {
            worker: id,
            slot: worker.slot,
            generation: worker.generation,
            took: turn.now.since(since),
            left: worker.load,
        };
        turn.record(&self.name, event);
    }

    fn kill(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.phase = Phase::Killing {
            deadline: turn.now + self.settings.kill_grace,
        };
        turn.act(Action::KillGroup { worker: id });
        let event = Event::WorkerKilling {
            worker: id,
            slot: worker.slot,
            generation: worker.generation,
        };
        turn.record(&self.name, event);
    }

    fn stuck(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.stuck = true;
        let event = Event::WorkerStuck {
            worker: id,
            slot: worker.slot,
            generation: worker.generation,
        };
        turn.record(&self.name, event);
    }

    /// A worker that somebody else runs is simply not ours any more.
    fn dismiss(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        if let Some(worker) = self.workers.remove(&id) {
            self.retired(turn, &worker, None);
        }
    }
}
