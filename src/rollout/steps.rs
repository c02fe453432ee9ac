//! The rolling strategy: which step comes after which, batch by batch, and what a rollout that stands waits
//! for. It only sets the two numbers (through the rollout's goal and share); the reconciler does the rest.

use super::id::{Generation, Moment};
use super::plan::{Hold, Stage, Watch};
use super::record::Event;
use super::service::{Service, Turn};
use super::view::{FailureReason, RolloutState};

impl Service {
    /// One step of the rollout, if one is due. Says whether anything changed.
    pub(super) fn drive_rollout(&mut self, turn: &mut Turn<'_>) -> bool {
        if turn.stop.is_some() {
            return false;
        }
        let Some(rollout) = &self.rollout else {
            return self.begin_pending(turn);
        };
        match rollout.state {
            RolloutState::Running | RolloutState::Paused => self.drive_forward(turn),
            RolloutState::RollingBack => self.drive_back(turn),
            RolloutState::Pending
            | RolloutState::Completed
            | RolloutState::RolledBack
            | RolloutState::Failed
            | RolloutState::Superseded => self.begin_pending(turn),
        }
    }

    fn drive_forward(&mut self, turn: &mut Turn<'_>) -> bool {
        self.note_first_request();
        if self.judge_now(turn) || self.blame_busy(turn) {
            return true;
        }
        let blocked = self.waits_for_a_time(turn.clock);
        let Some(rollout) = &mut self.rollout else {
            return false;
        };
        if let Some(hold) = rollout.hold {
            let waited_for = self.pending.is_some();
            return match hold {
                Hold::Person { .. } | Hold::Stop { .. } => false,
                Hold::NotEnough { .. } => waited_for && self.supersede(turn),
                Hold::Failure { .. } => {
                    if waited_for {
                        self.go_back(turn, "another rollout waits".to_owned());
                    }
                    waited_for
                }
            };
        }
        if blocked || rollout.blocked {
            rollout.patience = rollout.patience.max(turn.now);
        }
        rollout.blocked = blocked;
        let (stage, patience) = (rollout.stage, rollout.patience);
        let went_on = match stage {
            Stage::Waiting => !blocked && self.begin_batch(turn),
            Stage::Starting { .. } => self.step_starting(turn),
            // Nothing would be learnt of what it does.
            Stage::Watching(_) | Stage::Retiring { .. } if self.blind.is_some() => false,
            Stage::Watching(watch) => self.step_watching(turn, watch),
            Stage::Retiring { .. } => self.step_retiring(turn),
            Stage::Refilling { .. } | Stage::Ended => false,
        };
        // Whatever is due at the same time goes on first: after a leap of the clock nothing hangs that only
        // was not looked at (F35).
        let limit = self.settings.progress_deadline;
        if went_on || blocked || !turn.passed(patience + limit) {
            return went_on;
        }
        let message = format!(
            "no progress in {}: it waited for {}",
            humantime::format_duration(limit),
            self.rollout_waits_for(turn.now)
        );
        self.fail_rollout(turn, FailureReason::ProgressDeadline, message, None);
        true
    }

    /// It waits for what has a time of its own, which the progress deadline does not count. That is there
    /// for what may hang for ever: workers that do not start, old ones that nobody can spare, and answers
    /// that a soak still waits for when it is over. Old workers that drain have their limits, and a batch
    /// that is watched goes on when its ramp and its soak are over, or when no request comes for as long as
    /// makes a service idle: watching is the progress.
    fn waits_for_a_time(&self, clock: Moment) -> bool {
        let Some(rollout) = &self.rollout else {
            return false;
        };
        match rollout.stage {
            Stage::Waiting => self.too_many_generations(rollout.to),
            Stage::Starting { .. } => {
                // Room comes by itself only if somebody is leaving.
                self.places(rollout.to) < rollout.goal.min(self.settings.wanted)
                    && self.no_room()
                    && self
                        .workers
                        .values()
                        .any(|worker| !worker.in_place() && !worker.stuck)
            }
            Stage::Watching(watch) => self.blind.is_none() && !self.soak_is_over(&watch, clock),
            Stage::Retiring { .. } | Stage::Refilling { .. } | Stage::Ended => false,
        }
    }

    /// One more generation would be one too many, and waiting helps because one is leaving.
    fn too_many_generations(&self, to: Generation) -> bool {
        let mut alive = 1;
        let mut leaving = false;
        for number in self.generations.keys().filter(|number| **number != to) {
            if self.of(*number).any(|worker| !worker.stuck) {
                alive += 1;
                leaving |= self.places(*number) == 0;
            }
        }
        leaving && alive > self.settings.max_generations.max(2)
    }

    fn begin_batch(&mut self, turn: &mut Turn<'_>) -> bool {
        let (wanted, size) = (self.settings.wanted, self.batch_size());
        let (unavailable, batches) = (self.unavailable(), self.batches());
        let Some(rollout) = &mut self.rollout else {
            return false;
        };
        rollout.batch += 1;
        rollout.aim(size, wanted, unavailable);
        rollout.stage = Stage::Starting { since: turn.now };
        rollout.approved = false;
        let event = Event::RolloutBatch {
            to: rollout.to,
            batch: rollout.batch,
            of: batches.max(rollout.batch),
            size: rollout.goal.saturating_sub(rollout.passed),
        };
        turn.record(&self.name, event);
        true
    }

    /// Batches in all, as planned now.
    pub(super) fn batches(&self) -> u32 {
        let wanted = self.settings.wanted;
        let Some(rollout) = &self.rollout else {
            return 0;
        };
        let (done, goal) = match rollout.batch {
            0 => (1, 1),
            batch => (batch, rollout.goal),
        };
        done + wanted.saturating_sub(goal).div_ceil(self.batch_size())
    }

    fn step_starting(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(rollout) = &self.rollout else {
            return false;
        };
        let share = rollout.share;
        if !self.batch_serves() {
            return false;
        }
        let idle = self.idle(turn.now);
        let Some(rollout) = &mut self.rollout else {
            return false;
        };
        rollout.stage = Stage::Watching(Watch {
            since: turn.now,
            from: share,
            arrived: None,
            first: None,
            idle,
        });
        true
    }

    fn step_retiring(&mut self, turn: &mut Turn<'_>) -> bool {
        let wanted = self.settings.wanted;
        let Some(rollout) = &self.rollout else {
            return false;
        };
        let to = rollout.to;
        let goal = rollout.goal.min(wanted);
        let (whole, share) = (self.batch_serves(), self.batch_share());
        if whole && rollout.share < share {
            // A worker was away for a while, and is back.
            if let Some(rollout) = &mut self.rollout {
                rollout.share = share;
            }
            return true;
        }
        let old: u32 = self
            .generations
            .iter()
            .filter(|(number, generation)| **number != to && generation.parked.is_none())
            .map(|(number, _)| self.places(*number))
            .sum();
        if !self.keeps_old() && old > wanted - goal || !whole {
            return false;
        }
        let Some(rollout) = &mut self.rollout else {
            return false;
        };
        rollout.passed = goal;
        rollout.early = 0;
        rollout.progressed(turn.now);
        if goal >= wanted {
            self.complete(turn);
        } else if self.pending.is_some() {
            self.supersede(turn);
        } else {
            self.begin_batch(turn);
        }
        true
    }

    /// When the rollout must be looked at again. Never before or at `clock` once that has passed.
    pub(super) fn rollout_deadline(&self, clock: Moment) -> Option<Moment> {
        let rollout = self.active()?;
        if rollout.hold.is_some() {
            return None;
        }
        let patience =
            (!rollout.blocked).then_some(rollout.patience + self.settings.progress_deadline);
        let watch = match rollout.stage {
            Stage::Watching(watch) if self.blind.is_none() => self.watch_deadline(&watch, clock),
            Stage::Watching(_)
            | Stage::Waiting
            | Stage::Starting { .. }
            | Stage::Retiring { .. }
            | Stage::Refilling { .. }
            | Stage::Ended => None,
        };
        [patience, watch].into_iter().flatten().min()
    }
}
