//! A rollout that fails: it stops where it is, or goes back until the stable generation is whole.

use super::plan::{Hold, REFILL_TRIES, Stage};
use super::service::{Service, Turn};
use super::settings::OnFailure;
use super::view::{FailedWorker, FailureReason, FailureView, RolloutState};

impl Service {
    /// The rollout has failed: back, or stop where it is, as the settings say. A person's abort always
    /// goes back.
    pub(super) fn fail_rollout(
        &mut self,
        turn: &mut Turn<'_>,
        reason: FailureReason,
        message: String,
        worker: Option<FailedWorker>,
    ) {
        let on_failure = self.settings.on_failure;
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        if !rollout.forward() {
            return;
        }
        let again = rollout.held_by_failure();
        if again && reason != FailureReason::Aborted {
            return;
        }
        if !again {
            rollout.failure = Some(FailureView {
                reason,
                message: message.clone(),
                worker,
            });
        }
        if on_failure == OnFailure::Pause && reason != FailureReason::Aborted {
            rollout.release_hold(turn.now);
            self.hold(turn, Hold::Failure { since: turn.now }, &message);
            return;
        }
        self.go_back(turn, message);
    }

    pub(super) fn go_back(&mut self, turn: &mut Turn<'_>, message: String) {
        let ready = self.staffed(self.stable);
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        rollout.hold = None;
        rollout.blocked = false;
        rollout.state = RolloutState::RollingBack;
        rollout.stage = Stage::Refilling { since: turn.now };
        rollout.refill_failures = 0;
        rollout.refill_best = ready;
        rollout.progressed(turn.now);
        self.note_state(turn, message);
    }

    pub(super) fn hold(&mut self, turn: &mut Turn<'_>, hold: Hold, message: &str) {
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        rollout.hold = Some(hold);
        rollout.state = RolloutState::Paused;
        self.note_state(turn, message.to_owned());
    }

    pub(super) fn drive_back(&mut self, turn: &mut Turn<'_>) -> bool {
        let ready = self.staffed(self.stable);
        let wanted = self.settings.wanted;
        let others = self.others_in_place();
        let Some(rollout) = &mut self.rollout else {
            return false;
        };
        if ready > rollout.refill_best {
            rollout.refill_best = ready;
            rollout.progressed(turn.now);
        }
        let left = rollout.to;
        let patience = rollout.patience + self.settings.progress_deadline;
        let tried = rollout.refill_failures >= REFILL_TRIES;
        if ready >= wanted && !others {
            let why = self.failure_message();
            self.end(turn, RolloutState::RolledBack, why);
            return true;
        }
        if tried || turn.passed(patience) {
            let why = self.failure_message();
            let message = format!(
                "{why}; and generation {} could not be refilled: {ready} of {wanted} workers are ready, what is left of generation {left} serves on",
                self.stable
            );
            self.end(turn, RolloutState::Failed, message);
            return true;
        }
        false
    }

    /// Something beside the stable generation still fills a place.
    fn others_in_place(&self) -> bool {
        self.generations
            .keys()
            .any(|number| *number != self.stable && self.places(*number) > 0)
    }

    fn failure_message(&self) -> String {
        let failure = self
            .rollout
            .as_ref()
            .and_then(|rollout| rollout.failure.as_ref());
        failure
            .map(|failure| failure.message.clone())
            .unwrap_or_default()
    }
}
