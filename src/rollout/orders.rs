//! What people order beside a new rollout: steering, the count, one worker.

use super::command::{Accepted, Refusal, Steer, WorkerOrder};
use super::id::{Generation, Slot, WorkerId};
use super::plan::{Hold, Stage};
use super::record::Event;
use super::service::{Service, Turn};
use super::settings::{MAX_WORKERS, Settings};
use super::view::{FailureReason, RolloutState};
use super::worker::Phase;

impl Service {
    pub(super) fn steer(
        &mut self,
        turn: &mut Turn<'_>,
        steer: Steer,
        meant: Option<Generation>,
    ) -> Result<Accepted, Refusal> {
        if let (Some(meant), Some(current)) = (meant, self.rollout.as_ref().map(|it| it.to))
            && meant != current
        {
            return Err(Refusal::Conflict(format!(
                "rollout {name}-{meant} is not the current one; that is {name}-{current}",
                name = self.name
            )));
        }
        match steer {
            Steer::Pause => self.pause(turn),
            Steer::Resume => self.resume(turn),
            Steer::Promote => self.promote(turn),
            Steer::Abort => self.abort(turn),
        }
    }

    fn steered_state(&self) -> Result<RolloutState, Refusal> {
        self.rollout
            .as_ref()
            .map(|rollout| rollout.state)
            .ok_or(Refusal::NoRollout)
    }

    /// What is held already stays held for its own reason, which may weigh on shares and counts.
    fn pause(&mut self, turn: &mut Turn<'_>) -> Result<Accepted, Refusal> {
        match self.steered_state()? {
            RolloutState::Running => {
                let hold = Hold::Person { since: turn.now };
                self.hold(turn, hold, "paused by a person");
                Ok(Accepted::Done)
            }
            RolloutState::Paused => Ok(Accepted::Done),
            RolloutState::RollingBack => Err(going_back("paused")),
            RolloutState::Pending
            | RolloutState::Completed
            | RolloutState::RolledBack
            | RolloutState::Failed
            | RolloutState::Superseded => Err(Refusal::NoRollout),
        }
    }

    fn resume(&mut self, turn: &mut Turn<'_>) -> Result<Accepted, Refusal> {
        match self.steered_state()? {
            RolloutState::Running => Ok(Accepted::Done),
            RolloutState::Paused => {
                self.unhold(turn, "resumed by a person");
                Ok(Accepted::Done)
            }
            RolloutState::RollingBack => Err(going_back("resumed")),
            RolloutState::Pending
            | RolloutState::Completed
            | RolloutState::RolledBack
            | RolloutState::Failed
            | RolloutState::Superseded => Err(Refusal::NoRollout),
        }
    }

    fn unhold(&mut self, turn: &mut Turn<'_>, message: &str) {
        let (size, wanted) = (self.batch_size(), self.settings.wanted);
        let unavailable = self.unavailable();
        let Some(to) = self.rollout.as_ref().map(|rollout| rollout.to) else {
            return;
        };
        let staffed = self.staffed(to);
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        match rollout.hold {
            Some(Hold::Failure { .. }) => {
                // A second try of the same batch, judged afresh from what is counted until now. What
                // was lost of earlier batches is made again first: the old ones left its places.
                rollout.passed = rollout.passed.min(staffed);
                if rollout.batch > 0 {
                    rollout.aim(size, wanted, unavailable);
                }
                rollout.failure = None;
                rollout.baseline = None;
                rollout.stage = match rollout.batch {
                    0 => Stage::Waiting,
                    _ => Stage::Starting { since: turn.now },
                };
                rollout.hold = None;
                rollout.progressed(turn.now);
            }
            Some(Hold::NotEnough { .. }) => {
                rollout.approved = true;
                rollout.release_hold(turn.now);
            }
            Some(Hold::Person { .. }) => rollout.release_hold(turn.now),
            Some(Hold::Stop { .. }) | None => return,
        }
        rollout.state = RolloutState::Running;
        // So far it is the pause that is not counted.
        self.blind = self.blind.map(|_| turn.now);
        self.note_state(turn, message.to_owned());
    }

    fn promote(&mut self, turn: &mut Turn<'_>) -> Result<Accepted, Refusal> {
        match self.steered_state()? {
            RolloutState::Running | RolloutState::Paused => {
                if let Some(rollout) = &mut self.rollout {
                    rollout.hurry = true;
                }
                self.unhold(turn, "promoted by a person");
                Ok(Accepted::Done)
            }
            RolloutState::Completed => Ok(Accepted::Done),
            RolloutState::RollingBack => Err(going_back("promoted")),
            RolloutState::Pending
            | RolloutState::RolledBack
            | RolloutState::Failed
            | RolloutState::Superseded => Err(Refusal::NoRollout),
        }
    }

    pub(super) fn abort(&mut self, turn: &mut Turn<'_>) -> Result<Accepted, Refusal> {
        match self.steered_state()? {
            RolloutState::Running | RolloutState::Paused => {
                self.fail_rollout(
                    turn,
                    FailureReason::Aborted,
                    "aborted by a person".to_owned(),
                    None,
                );
                Ok(Accepted::Done)
            }
            RolloutState::RollingBack | RolloutState::RolledBack | RolloutState::Failed => {
                Ok(Accepted::Done)
            }
            RolloutState::Completed => Err(Refusal::Conflict(
                "the rollout is completed; `remuda rollback` goes back to the release before"
                    .to_owned(),
            )),
            RolloutState::Pending | RolloutState::Superseded => Err(Refusal::NoRollout),
        }
    }

    pub(super) fn scale(&mut self, turn: &mut Turn<'_>, wanted: u32) -> Result<Accepted, Refusal> {
        if self.unmanaged() {
            return Err(Refusal::Unmanaged);
        }
        if wanted == 0 {
            return Err(Refusal::Invalid(
                "a service has at least 1 worker".to_owned(),
            ));
        }
        if wanted > MAX_WORKERS {
            return Err(Refusal::Invalid(format!(
                "a service has at most {MAX_WORKERS} workers"
            )));
        }
        self.set_count(turn, wanted);
        Ok(Accepted::Done)
    }

    fn set_count(&mut self, turn: &mut Turn<'_>, wanted: u32) {
        let from = self.settings.wanted;
        if from == wanted {
            return;
        }
        self.settings.wanted = wanted;
        turn.record(&self.name, Event::Scaled { from, to: wanted });
    }

    pub(super) fn configure(
        &mut self,
        turn: &mut Turn<'_>,
        settings: Settings,
    ) -> Result<Accepted, Refusal> {
        if settings.ownership != self.settings.ownership {
            return Err(Refusal::Invalid(
                "`command` and `upstream` cannot be exchanged while remuda runs; restart it"
                    .to_owned(),
            ));
        }
        if settings.wanted == 0 {
            return Err(Refusal::Invalid(
                "a service has at least 1 worker".to_owned(),
            ));
        }
        self.set_count(turn, settings.wanted);
        self.settings = settings;
        // A batch under way makes its room by the new terms: without a surge it would wait for some for ever.
        let unavailable = self.unavailable();
        if let Some(rollout) = self.rollout.as_mut().filter(|rollout| rollout.forward()) {
            let more = unavailable.min(rollout.goal.saturating_sub(rollout.passed));
            rollout.early = rollout.early.max(more);
        }
        Ok(Accepted::Done)
    }

    /// Addresses that went are left, the new ones first.
    pub(super) fn readdress(
        &mut self,
        turn: &mut Turn<'_>,
        settings: Settings,
        gone: &[WorkerId],
    ) -> Result<Accepted, Refusal> {
        if !self.unmanaged() {
            return Err(Refusal::Invalid(
                "a service with a `command` has no addresses of its own".to_owned(),
            ));
        }
        self.configure(turn, settings)?;
        for id in gone {
            if let Some(worker) = self.workers.get_mut(id) {
                worker.outgoing = true;
            }
        }
        Ok(Accepted::Done)
    }

    pub(super) fn order_worker(
        &mut self,
        turn: &mut Turn<'_>,
        slot: Slot,
        order: WorkerOrder,
    ) -> Result<Accepted, Refusal> {
        let managed = !self.unmanaged();
        if order == WorkerOrder::Restart && !managed {
            return Err(Refusal::Unmanaged);
        }
        let occupant = self
            .workers
            .values()
            .find(|worker| worker.slot == slot)
            .map(|worker| worker.id);
        if let Some(vacancy) = self
            .vacancies
            .iter_mut()
            .find(|vacancy| vacancy.slot == slot)
        {
            return match order {
                // It waits for a restart: now, then.
                WorkerOrder::Restart => {
                    vacancy.due = vacancy.due.min(turn.now);
                    Ok(Accepted::Done)
                }
                // What is started there is held until then.
                WorkerOrder::Undrain if vacancy.drained => {
                    vacancy.drained = false;
                    Ok(Accepted::Done)
                }
                WorkerOrder::Drain if vacancy.drained => Ok(Accepted::Done),
                WorkerOrder::Drain | WorkerOrder::Undrain => Err(Refusal::Conflict(format!(
                    "the worker in slot {slot} is not running; it is about to be restarted"
                ))),
            };
        }
        let id = occupant.ok_or(Refusal::NoSlot(slot))?;
        match order {
            WorkerOrder::Drain => self.hold_worker(turn, id),
            WorkerOrder::Undrain => self.release_worker(id),
            WorkerOrder::Restart => self.replace_worker(id),
        }
    }

    fn hold_worker(&mut self, turn: &mut Turn<'_>, id: WorkerId) -> Result<Accepted, Refusal> {
        let Some(worker) = self.workers.get_mut(&id) else {
            return Ok(Accepted::Done);
        };
        match worker.phase {
            Phase::Ready => {
                worker.phase = Phase::Held;
                worker.drained = true;
                // Somebody looks after it.
                worker.sick = false;
                self.begin_drain(turn, id);
                Ok(Accepted::Done)
            }
            Phase::Starting { .. } if worker.drained => Ok(Accepted::Done),
            Phase::Starting { .. } => Err(Refusal::Conflict(format!(
                "the worker in slot {} is not ready yet",
                worker.slot
            ))),
            Phase::Held
            | Phase::Shutting { .. }
            | Phase::Emptying { .. }
            | Phase::Unlisting { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. }
            | Phase::Sweeping { .. } => Ok(Accepted::Done),
        }
    }

    fn release_worker(&mut self, id: WorkerId) -> Result<Accepted, Refusal> {
        let Some(worker) = self.workers.get_mut(&id) else {
            return Ok(Accepted::Done);
        };
        match worker.phase {
            Phase::Held => {
                worker.phase = Phase::Ready;
                worker.drain = None;
                worker.drained = false;
                Ok(Accepted::Done)
            }
            Phase::Starting { .. } | Phase::Ready => {
                worker.drained = false;
                Ok(Accepted::Done)
            }
            Phase::Shutting { .. }
            | Phase::Emptying { .. }
            | Phase::Unlisting { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. }
            | Phase::Sweeping { .. } => Err(leaving(worker.slot)),
        }
    }

    fn replace_worker(&mut self, id: WorkerId) -> Result<Accepted, Refusal> {
        if self.active().is_some() {
            return Err(Refusal::Conflict(
                "a rollout is running and replaces every worker; abort it first".to_owned(),
            ));
        }
        let stable = self.stable;
        let Some(worker) = self.workers.get_mut(&id) else {
            return Ok(Accepted::Done);
        };
        if !worker.in_place() || worker.generation != stable {
            return Err(leaving(worker.slot));
        }
        worker.outgoing = true;
        Ok(Accepted::Done)
    }
}

fn going_back(what: &str) -> Refusal {
    Refusal::Conflict(format!(
        "the rollout goes back already and cannot be {what}"
    ))
}

fn leaving(slot: Slot) -> Refusal {
    Refusal::Conflict(format!("the worker in slot {slot} is on its way out"))
}
