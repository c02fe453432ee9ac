//! The retire order, one step per acknowledgement, count or deadline, and how each worker is put on it.

use super::action::Action;
use super::command::Stop;
use super::id::WorkerId;
use super::record::Event;
use super::service::{Service, Turn};
use super::worker::{Drain, GROUP_GRACE, Phase};

impl Service {
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

    pub(super) fn terminate(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
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
                next,
            } => {
                let (due, sooner) = (due(), turn.now + GROUP_GRACE);
                if now_or_never && !killed && sooner < next {
                    self.set_phase(
                        id,
                        Phase::Sweeping {
                            exit,
                            asked,
                            killed,
                            next: sooner,
                        },
                    );
                    return true;
                }
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
