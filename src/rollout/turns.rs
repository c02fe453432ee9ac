//! How a rollout gets its turn, and how it ends: taken over by a newer one, completed, or otherwise.

use super::id::{Generation, Moment, Weight};
use super::plan::{Rollout, Stage};
use super::record::Event;
use super::service::{Service, Turn};
use super::view::RolloutState;

impl Service {
    pub(super) fn begin_pending(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(pending) = self.pending.take() else {
            return false;
        };
        self.begin(turn, pending);
        true
    }

    /// Makes it the running rollout.
    pub(super) fn begin(&mut self, turn: &mut Turn<'_>, mut rollout: Rollout) {
        // What the one before left serving (superseded, or failed without a way back) keeps its number.
        if let Some(before) = self.rollout.take() {
            self.remember(before);
        }
        let numbers: Vec<Generation> = self.generations.keys().copied().collect();
        for number in numbers {
            self.unpark(turn, number);
        }
        for worker in self.workers.values_mut() {
            worker.outgoing = false;
            worker.sick = false;
        }
        rollout.from = self.stable;
        rollout.state = RolloutState::Running;
        rollout.started_at = Some(turn.now);
        rollout.progressed(turn.now);
        let message = format!("generation {} replaces {}", rollout.to, rollout.from);
        self.rollout = Some(rollout);
        self.note_state(turn, message);
    }

    /// The pending rollout takes over: what the running one has made so far serves on beside the stable
    /// generation and is replaced like it, first of all.
    pub(super) fn supersede(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(pending) = &self.pending else {
            return false;
        };
        let message = format!("rollout {}-{} took over", self.name, pending.to);
        self.end(turn, RolloutState::Superseded, message);
        self.begin_pending(turn)
    }

    pub(super) fn complete(&mut self, turn: &mut Turn<'_>) {
        let Some(rollout) = &self.rollout else { return };
        let to = rollout.to;
        let before = self.stable;
        self.previous = Some(before);
        self.stable = to;
        // Only stable workers are restarted.
        self.vacancies
            .retain(|vacancy| vacancy.generation != before);
        if !self.settings.park.is_zero()
            && let Some(generation) = self.generations.get_mut(&before)
        {
            generation.parked = Some(turn.now + self.settings.park);
        }
        let release = self.release_of(to);
        self.end(
            turn,
            RolloutState::Completed,
            format!("the rollout to generation {to} completed"),
        );
        turn.record(
            &self.name,
            Event::Promoted {
                generation: to,
                release,
                previous: Some(before),
            },
        );
    }

    /// Brings the rollout into a final state.
    pub(super) fn end(&mut self, turn: &mut Turn<'_>, state: RolloutState, message: String) {
        let full = self.full_strength();
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        rollout.hold = None;
        rollout.state = state;
        rollout.ended_at = Some(turn.now);
        rollout.full_strength = full;
        match state {
            RolloutState::Completed => rollout.progress = Weight::FULL,
            RolloutState::Pending
            | RolloutState::Running
            | RolloutState::Paused
            | RolloutState::RollingBack
            | RolloutState::RolledBack
            | RolloutState::Failed
            | RolloutState::Superseded => {}
        }
        rollout.stage = Stage::Ended;
        self.note_state(turn, message);
    }

    /// The stable generation has the wanted count of workers that serve.
    pub(super) fn full_strength(&self) -> bool {
        self.staffed(self.stable) >= self.settings.wanted
    }

    pub(super) fn release_of(&self, number: Generation) -> String {
        self.generations
            .get(&number)
            .map(|generation| generation.release.clone())
            .unwrap_or_default()
    }

    pub(super) fn note_state(&mut self, turn: &mut Turn<'_>, message: String) {
        let Some(rollout) = &self.rollout else { return };
        let event = state_event(rollout, turn.now, message);
        turn.record(&self.name, event);
    }
}

pub(super) fn state_event(rollout: &Rollout, now: Moment, message: String) -> Event {
    Event::RolloutState {
        number: rollout.number,
        to: rollout.to,
        from: rollout.from,
        state: rollout.state,
        trigger: rollout.trigger,
        elapsed: now.since(rollout.started_at.unwrap_or(rollout.requested_at)),
        message,
    }
}
