//! The watching of a batch: its share climbs, its soak runs, and what its requests tell is judged.

use std::time::Duration;

use super::id::{Moment, Weight};
use super::judge::{awaited, fails, judge, silent};
use super::plan::{Hold, IDLE, RAMP_STEP, Stage, Watch, share};
use super::record::Event;
use super::service::{Service, Turn};
use super::settings::NotEnough;
use super::view::{FailureReason, Verdict, VerdictView};

/// A soak that is over waits so long for answers that it takes to judge by.
const ANSWERS: Duration = Duration::from_secs(60);

impl Service {
    pub(super) fn step_watching(&mut self, turn: &mut Turn<'_>, watch: Watch) -> bool {
        let mut changed = false;
        if watch.first.is_none() && !watch.idle && self.idle(turn.clock) {
            self.set_watch(Watch {
                idle: true,
                ..watch
            });
            return true;
        }
        let (target, whole) = (self.batch_share(), self.batch_serves());
        let hurry = self.rollout.as_ref().is_some_and(|rollout| rollout.hurry);
        let skip = watch.idle || hurry;
        let ramp = self.settings.ramp;
        let climbed = turn.clock.since(watch.since);
        let there = skip || climbed >= ramp;
        let Some(rollout) = &mut self.rollout else {
            return false;
        };
        let share = if there {
            target
        } else {
            climb(watch.from, target, climbed, ramp)
        };
        if whole && share > rollout.share {
            rollout.share = share;
            changed = true;
        }
        if whole && there && watch.arrived.is_none() {
            let event = Event::RolloutRamped {
                to: rollout.to,
                weight: rollout.share,
            };
            turn.record(&self.name, event);
            self.set_watch(Watch {
                arrived: Some(turn.now),
                ..watch
            });
            return true;
        }
        let soaked = self.soak_is_over(&watch, turn.clock);
        if watch.arrived.is_none() || !(skip || soaked) {
            return changed;
        }
        if !skip && let Some(verdict) = self.silent(&watch, turn.now) {
            self.fail_by(turn, verdict);
            return true;
        }
        if whole && (skip || self.awaited(&watch, turn.clock) == 0) {
            return self.end_watch(turn);
        }
        changed
    }

    /// A plane accepts again, or none does any more. What was not watched does not count: ramp and soak go on where
    /// they stood. In a pause they stand anyway.
    pub(super) fn on_planes(&mut self, now: Moment, accept: bool) {
        self.stirred = true;
        if !accept {
            self.blind.get_or_insert(now);
            return;
        }
        let Some(since) = self.blind.take() else {
            return;
        };
        if let Some(rollout) = &mut self.rollout
            && rollout.hold.is_none()
            && let Stage::Watching(watch) = &mut rollout.stage
        {
            watch.stood(now.since(since.max(watch.since)));
        }
    }

    /// The candidate has lost a worker for a while: those that it has left get no more than their part.
    pub(super) fn lower_share(&mut self) {
        let wanted = self.settings.wanted;
        let Some(rollout) = &self.rollout else { return };
        let part = share(self.staffed(rollout.to), wanted);
        if let Some(rollout) = &mut self.rollout {
            rollout.share = rollout.share.min(part);
        }
    }

    /// The stable generation has a worker more, perhaps as more are wanted than before: the candidate's workers get
    /// no more than their part of all that serve. Where a rollout goes on its share climbs again with each batch.
    pub(super) fn share_out(&mut self) {
        let Some(rollout) = &self.rollout else { return };
        let theirs = self.staffed(rollout.to);
        let all = theirs + self.staffed(self.stable);
        let part = share(theirs.max(1), all.min(self.settings.wanted));
        if let Some(rollout) = &mut self.rollout {
            rollout.share = rollout.share.min(part);
            if let Stage::Watching(watch) = &mut rollout.stage {
                watch.from = watch.from.min(part);
            }
        }
    }

    /// All workers that the batch should have serve. One of them may just have ended by itself, or be busy:
    /// until it or its successor serves, the share does not climb and the batch does not pass.
    pub(super) fn batch_serves(&self) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| {
            self.staffed(rollout.to) >= rollout.goal.min(self.settings.wanted)
        })
    }

    fn set_watch(&mut self, watch: Watch) {
        if let Some(rollout) = &mut self.rollout {
            rollout.stage = Stage::Watching(watch);
        }
    }

    /// Notes the begin of the soak; also while paused.
    pub(super) fn note_first_request(&mut self) {
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        let last = self
            .generations
            .get(&rollout.to)
            .and_then(|generation| generation.last_request);
        if let (Stage::Watching(watch), Some(last)) = (&mut rollout.stage, last)
            && watch.first.is_none()
            && last >= watch.since
        {
            watch.first = Some(last);
        }
    }

    /// Nobody has asked anything for a while.
    pub(super) fn idle(&self, at: Moment) -> bool {
        !self.busy() && self.last_request().is_none_or(|last| last + IDLE <= at)
    }

    /// The share the batch's workers should have.
    pub(super) fn batch_share(&self) -> Weight {
        self.rollout.as_ref().map_or(Weight::NONE, |rollout| {
            share(rollout.goal, self.settings.wanted)
        })
    }

    /// When the watching ends if nothing happens: the soak after the first request, or if none comes
    /// though the service is not idle (the share is small), as long as an idle service would take.
    pub(super) fn soak_end(&self, watch: &Watch) -> Option<Moment> {
        match (watch.first, watch.arrived) {
            (Some(first), _) => Some(first + self.settings.soak),
            // Who wants no soak does not wait for its first request either.
            (None, Some(arrived)) if self.settings.soak.is_zero() => Some(arrived),
            (None, Some(arrived)) => Some(arrived + IDLE.max(self.settings.soak)),
            (None, None) => None,
        }
    }

    /// The soak has lasted as long as it should.
    pub(super) fn soak_is_over(&self, watch: &Watch, clock: Moment) -> bool {
        self.soak_end(watch).is_some_and(|end| end <= clock)
    }

    /// Requests whose answers a soak that is over still waits for.
    pub(super) fn awaited(&self, watch: &Watch, clock: Moment) -> u64 {
        let judged = self.rollout.as_ref().filter(|rollout| !rollout.approved);
        let waits = self.answers_end(watch).is_some_and(|end| clock < end);
        judged
            .filter(|_| waits && self.watches())
            .map_or(0, |rollout| awaited(self, rollout))
    }

    /// Until when answers are waited for: where requests take longer, no soak could judge them.
    pub(super) fn answers_end(&self, watch: &Watch) -> Option<Moment> {
        let wait = ANSWERS.min(self.settings.progress_deadline / 2);
        self.soak_end(watch).map(|end| end + wait)
    }

    /// The verdict, if it is that the candidate does not answer.
    fn silent(&self, watch: &Watch, now: Moment) -> Option<VerdictView> {
        let judged = self.rollout.as_ref().filter(|rollout| !rollout.approved);
        let judged = judged.filter(|_| self.watches());
        judged.and_then(|rollout| silent(self, rollout, watch.since, now))
    }

    /// Who wants neither ramp nor soak wants nothing but what starts and stops: it is not watched for answers.
    fn watches(&self) -> bool {
        !(self.settings.ramp.is_zero() && self.settings.soak.is_zero())
    }

    /// A soak is over but for answers: with each of them it may end.
    pub(super) fn awaits_answers(&self, clock: Moment) -> bool {
        let stage = self.rollout.as_ref().map(|rollout| rollout.stage);
        matches!(stage, Some(Stage::Watching(watch)) if self.soak_is_over(&watch, clock))
    }

    fn end_watch(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(rollout) = &self.rollout else {
            return false;
        };
        let mut verdict = judge(self, rollout);
        let hold = verdict.verdict == Verdict::NotEnough
            && self.settings.not_enough == NotEnough::Hold
            && !rollout.approved
            && !rollout.hurry;
        if verdict.verdict == Verdict::NotEnough && !hold {
            verdict
                .message
                .push_str("; went on because the workers stayed healthy");
        }
        if hold {
            let message = verdict.message.clone();
            self.note_verdict(turn, verdict);
            self.hold(turn, Hold::NotEnough { since: turn.now }, &message);
            return true;
        }
        self.note_verdict(turn, verdict);
        let Some(rollout) = &mut self.rollout else {
            return false;
        };
        rollout.stage = Stage::Retiring { since: turn.now };
        true
    }

    fn note_verdict(&mut self, turn: &mut Turn<'_>, verdict: VerdictView) {
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        let event = Event::RolloutVerdict {
            to: rollout.to,
            batch: verdict.batch,
            verdict: verdict.verdict,
            message: verdict.message.clone(),
        };
        // A batch that was held and then approved is judged again: the later word counts.
        rollout
            .verdicts
            .retain(|known| known.batch != verdict.batch);
        rollout.verdicts.push(verdict);
        turn.record(&self.name, event);
    }

    /// The candidate is judged, and found worse.
    pub(super) fn fails_now(&self) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| {
            rollout.forward()
                && !rollout.held_by_failure()
                && rollout.baseline.is_some()
                && fails(self, rollout)
        })
    }

    /// The continuous judgement. A pause does not stop it.
    pub(super) fn judge_now(&mut self, turn: &mut Turn<'_>) -> bool {
        if !self.fails_now() {
            return false;
        }
        let Some(rollout) = &self.rollout else {
            return false;
        };
        let verdict = judge(self, rollout);
        self.fail_by(turn, verdict);
        true
    }

    fn fail_by(&mut self, turn: &mut Turn<'_>, verdict: VerdictView) {
        let message = verdict.message.clone();
        self.note_verdict(turn, verdict);
        self.fail_rollout(turn, FailureReason::Judgement, message, None);
    }

    pub(super) fn watch_deadline(&self, watch: &Watch, clock: Moment) -> Option<Moment> {
        let whole = self.batch_serves();
        let ramp = match watch.arrived {
            None if whole => Some(next_climb(watch.since, self.settings.ramp, clock)),
            Some(_) | None => None,
        };
        let soak = watch
            .arrived
            .and_then(|arrived| self.soak_end(watch).map(|end| end.max(arrived)))
            // What it waits for after that are workers, or for a while answers.
            .filter(|end| *end > clock || whole)
            .and_then(|end| match end > clock || self.awaited(watch, clock) == 0 {
                true => Some(end),
                false => self.answers_end(watch),
            });
        let idle = match (watch.first, self.last_request()) {
            (None, Some(last)) if !watch.idle && !self.busy() => Some(last + IDLE),
            (None | Some(_), _) => None,
        };
        [ramp, soak, idle].into_iter().flatten().min()
    }
}

/// The share `climbed` after the begin, in steps.
fn climb(from: Weight, target: Weight, climbed: Duration, ramp: Duration) -> Weight {
    let steps = climbed.as_nanos() / RAMP_STEP.as_nanos() * RAMP_STEP.as_nanos();
    let way = u128::from(target.0.saturating_sub(from.0));
    let gone = way * steps / ramp.as_nanos().max(1);
    Weight(from.0 + u16::try_from(gone.min(way)).unwrap_or(0))
}

/// When the share climbs next.
fn next_climb(since: Moment, ramp: Duration, clock: Moment) -> Moment {
    let climbed = clock.since(since).as_nanos() / RAMP_STEP.as_nanos() + 1;
    let steps = u32::try_from(climbed).unwrap_or(u32::MAX);
    if clock < since {
        return (since + RAMP_STEP).min(since + ramp);
    }
    (since + RAMP_STEP.saturating_mul(steps)).min(since + ramp)
}
