//! What an order for a rollout meets: nothing, a rollout it joins, or one it waits for (F10, F38, F55).
//!
//! * While the running one has spawned nothing, an order joins it and may rename its release.
//! * Later one order is pending at most. A restart or the same release joins it, another release takes
//!   its place (newest wins). It begins when the running one's batch ends, or after that one has failed and
//!   gone back to full strength, so that a newer order never hides whether the service is whole.
//! * A pause by a person holds the pending one too: somebody is looking.

use super::action::Action;
use super::command::{Accepted, Joined, Refusal, RolloutOrder, Trigger};
use super::id::Generation;
use super::plan::Rollout;
use super::record::Event;
use super::service::{Service, Turn};
use super::turns::state_event;
use super::view::{FailureView, RolloutState};

impl Service {
    pub(super) fn order_rollout(
        &mut self,
        turn: &mut Turn<'_>,
        order: RolloutOrder,
    ) -> Result<Accepted, Refusal> {
        if self.unmanaged() {
            return Err(Refusal::Unmanaged);
        }
        if order
            .expected
            .is_some_and(|expected| expected != self.stable)
        {
            return Err(Refusal::Unexpected {
                stable: self.stable,
            });
        }
        let explicit = order.release.is_some();
        let stable_release = self.release_of(self.stable);
        let release = order
            .release
            .clone()
            .unwrap_or_else(|| stable_release.clone());
        let running = self.active().map(|rollout| {
            (
                rollout.to,
                rollout.spawned,
                rollout.forward(),
                rollout.release == release,
            )
        });
        match running {
            Some((to, true, true, true)) if explicit && !order.force => {
                self.drop_pending(turn, to);
                return Ok(Accepted::Rollout {
                    number: to,
                    how: Joined::Joined,
                });
            }
            Some(_) | None => {}
        }
        if explicit && release == stable_release && !order.force {
            return Ok(Accepted::AlreadyStable {
                generation: self.stable,
            });
        }
        if let Some((to, false, true, same)) = running
            && self.reuses(to).is_none()
        {
            if explicit && !same {
                self.rename(to, &release);
            }
            return Ok(Accepted::Rollout {
                number: to,
                how: Joined::Joined,
            });
        }
        self.add_rollout(turn, order, release, None)
    }

    /// The earlier generation whose spec the rollout to `to` uses.
    fn reuses(&self, to: Generation) -> Option<Generation> {
        let rollouts = self.rollout.iter().chain(self.pending.iter());
        rollouts
            .filter(|rollout| rollout.to == to)
            .find_map(|rollout| rollout.spec_of)
    }

    fn rename(&mut self, to: Generation, release: &str) {
        if let Some(rollout) = &mut self.rollout {
            release.clone_into(&mut rollout.release);
        }
        if let Some(generation) = self.generations.get_mut(&to) {
            release.clone_into(&mut generation.release);
        }
    }

    /// Begins it, or lets it wait for the running one; `spec_of` for a way back to an earlier spec.
    fn add_rollout(
        &mut self,
        turn: &mut Turn<'_>,
        order: RolloutOrder,
        release: String,
        spec_of: Option<Generation>,
    ) -> Result<Accepted, Refusal> {
        if self.active().is_some()
            && let Some(pending) = &self.pending
            && pending.release == release
            && pending.spec_of == spec_of
        {
            return Ok(Accepted::Rollout {
                number: pending.number,
                how: Joined::Pending,
            });
        }
        let to = Generation(self.next_generation);
        self.next_generation += 1;
        self.drop_pending(turn, to);
        self.add_generation(to, release.clone());
        turn.record(
            &self.name,
            Event::RolloutRequested {
                number: to,
                to,
                release: release.clone(),
                trigger: order.trigger,
                reason: order.reason.clone(),
            },
        );
        if let Some(spec_of) = spec_of {
            turn.act(Action::Reuse {
                service: self.name.clone(),
                generation: to,
                spec_of,
            });
        }
        let mut rollout = Rollout::new(
            self.stable,
            to,
            release,
            order.trigger,
            order.reason,
            turn.now,
        );
        rollout.spec_of = spec_of;
        if self.active().is_none() {
            self.begin(turn, rollout);
            return Ok(Accepted::Rollout {
                number: to,
                how: Joined::Began,
            });
        }
        self.pending = Some(rollout);
        Ok(Accepted::Rollout {
            number: to,
            how: Joined::Pending,
        })
    }

    /// A newer order, which led to `by`, replaces the pending one.
    pub(super) fn drop_pending(&mut self, turn: &mut Turn<'_>, by: Generation) {
        let message = format!("rollout {}-{by} took its place", self.name);
        self.end_pending(turn, RolloutState::Superseded, message);
    }

    /// Remuda stops before its turn came.
    pub(super) fn stop_pending(&mut self, turn: &mut Turn<'_>) {
        if let Some(pending) = &mut self.pending {
            pending.failure = Some(FailureView::by_stop(None));
        }
        self.end_pending(turn, RolloutState::Failed, "remuda stops".to_owned());
    }

    fn end_pending(&mut self, turn: &mut Turn<'_>, state: RolloutState, message: String) {
        let Some(mut pending) = self.pending.take() else {
            return;
        };
        pending.state = state;
        pending.ended_at = Some(turn.now);
        pending.full_strength = self.full_strength();
        pending.stage = super::plan::Stage::Ended;
        let event = state_event(&pending, turn.now, message);
        turn.record(&self.name, event);
        self.remember(pending);
    }

    /// `Command::Rollback`: serve what was served before the last rollout that went forward.
    ///
    /// It names a state and no step: who says it twice (a retry, a second person who saw the same page) means
    /// the same state, so what is there or on its way is the answer. An `Idempotency-Key` would know a client
    /// that repeats itself, but not two people with one thought, and each would have to send one.
    pub(super) fn order_rollback(&mut self, turn: &mut Turn<'_>) -> Result<Accepted, Refusal> {
        if self.unmanaged() {
            return Err(Refusal::Unmanaged);
        }
        if let Some(rollout) = self.active() {
            let number = rollout.number;
            let goes_forward = rollout.forward() && rollout.spec_of.is_none();
            self.drop_pending(turn, number);
            if goes_forward {
                return self.abort(turn);
            }
            return Ok(Accepted::Rollout {
                number,
                how: Joined::Joined,
            });
        }
        if let Some(rollout) = self.rollout.as_ref().filter(|rollout| rollout.led_back()) {
            return Ok(Accepted::Rollout {
                number: rollout.number,
                how: Joined::Joined,
            });
        }
        let parked = self
            .generations
            .iter()
            .find(|(number, generation)| generation.parked.is_some() && self.routable(**number) > 0)
            .map(|(number, _)| *number);
        if let Some(parked) = parked {
            return Ok(self.take_back(turn, parked));
        }
        let Some(previous) = self.previous else {
            return Err(Refusal::NothingToRollBackTo);
        };
        let order = RolloutOrder {
            release: None,
            trigger: Trigger::Rollback,
            reason: None,
            force: true,
            expected: None,
        };
        let release = self.release_of(previous);
        self.add_rollout(turn, order, release, Some(previous))
    }

    /// The parked generation is stable again at once: only the weights change. The one that was stable
    /// retires. What the parked one lacks (crashed meanwhile) is refilled from its own spec, and until
    /// then nothing of the other is spared that it needs (I1).
    fn take_back(&mut self, turn: &mut Turn<'_>, parked: Generation) -> Accepted {
        let left = self.stable;
        let release = self.release_of(parked);
        let number = Generation(self.next_generation);
        self.next_generation += 1;
        turn.record(
            &self.name,
            Event::RolloutRequested {
                number,
                to: parked,
                release: release.clone(),
                trigger: Trigger::Rollback,
                reason: None,
            },
        );
        self.stable = parked;
        self.vacancies.retain(|vacancy| vacancy.generation != left);
        self.previous = Some(left);
        if let Some(generation) = self.generations.get_mut(&parked) {
            generation.parked = None;
        }
        let trigger = Trigger::Rollback;
        let mut rollout = Rollout::new(left, parked, release.clone(), trigger, None, turn.now);
        rollout.number = number;
        rollout.spec_of = Some(parked);
        rollout.started_at = Some(turn.now);
        if let Some(before) = self.rollout.replace(rollout) {
            self.remember(before);
        }
        let message = format!("generation {parked}, which was parked, serves again");
        self.end(turn, RolloutState::Completed, message);
        turn.record(
            &self.name,
            Event::Promoted {
                generation: parked,
                release,
                previous: Some(left),
            },
        );
        Accepted::Rollout {
            number,
            how: Joined::Began,
        }
    }
}
