//! The rolling strategy: which step comes after which, when a rollout ends, and how. It only sets the
//! two numbers (through the rollout's goal and share); the reconciler does the rest.

use std::time::Duration;

use super::id::{Generation, Moment, Weight};
use super::judge::{awaited, fails, judge, silent};
use super::plan::{Hold, IDLE, RAMP_STEP, REFILL_TRIES, Rollout, Stage, Watch, share};
use super::record::Event;
use super::service::{Service, Turn};
use super::settings::{NotEnough, OnFailure};
use super::view::{FailedWorker, FailureReason, FailureView, RolloutState, Verdict, VerdictView};

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
        if self.judge_now(turn) {
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
            Stage::Watching(watch) => !self.soak_is_over(&watch, clock),
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
        let ready = self.staffed(rollout.to);
        if ready < rollout.goal.min(self.settings.wanted) {
            return false;
        }
        let idle = self.idle(turn.now);
        let Some(rollout) = &mut self.rollout else {
            return false;
        };
        rollout.stage = Stage::Watching(Watch {
            since: turn.now,
            from: rollout.share,
            arrived: None,
            first: None,
            idle,
        });
        true
    }

    /// Nobody has asked anything for a while.
    fn idle(&self, at: Moment) -> bool {
        !self.busy() && self.last_request().is_none_or(|last| last + IDLE <= at)
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

    fn step_watching(&mut self, turn: &mut Turn<'_>, watch: Watch) -> bool {
        let mut changed = false;
        if watch.first.is_none() && !watch.idle && self.idle(turn.clock) {
            self.set_watch(Watch {
                idle: true,
                ..watch
            });
            return true;
        }
        let target = self.batch_share();
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
        if share > rollout.share {
            rollout.share = share;
            changed = true;
        }
        if there && watch.arrived.is_none() {
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
        if !skip && let Some(verdict) = self.silent() {
            self.fail_by(turn, verdict);
            return true;
        }
        if skip || self.awaited() == 0 {
            return self.end_watch(turn);
        }
        changed
    }

    fn set_watch(&mut self, watch: Watch) {
        if let Some(rollout) = &mut self.rollout {
            rollout.stage = Stage::Watching(watch);
        }
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
    fn soak_is_over(&self, watch: &Watch, clock: Moment) -> bool {
        self.soak_end(watch).is_some_and(|end| end <= clock)
    }

    /// Requests whose answers a soak that is over still waits for.
    pub(super) fn awaited(&self) -> u64 {
        let judged = self.rollout.as_ref().filter(|rollout| !rollout.approved);
        judged.map_or(0, |rollout| awaited(self, rollout))
    }

    /// The verdict, if it is that the candidate does not answer.
    fn silent(&self) -> Option<VerdictView> {
        let judged = self.rollout.as_ref().filter(|rollout| !rollout.approved);
        judged.and_then(|rollout| silent(self, rollout))
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

    fn step_retiring(&mut self, turn: &mut Turn<'_>) -> bool {
        let wanted = self.settings.wanted;
        let Some(rollout) = &self.rollout else {
            return false;
        };
        let to = rollout.to;
        let goal = rollout.goal.min(wanted);
        let old: u32 = self
            .generations
            .iter()
            .filter(|(number, generation)| **number != to && generation.parked.is_none())
            .map(|(number, _)| self.places(*number))
            .sum();
        if !self.keeps_old() && old > wanted - goal {
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

    fn complete(&mut self, turn: &mut Turn<'_>) {
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

    pub(super) fn release_of(&self, number: Generation) -> String {
        self.generations
            .get(&number)
            .map(|generation| generation.release.clone())
            .unwrap_or_default()
    }

    /// The pending rollout takes over: what the running one has made so far serves on beside the stable
    /// generation and is replaced like it, first of all.
    fn supersede(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(pending) = &self.pending else {
            return false;
        };
        let message = format!("rollout {}-{} took over", self.name, pending.to);
        self.end(turn, RolloutState::Superseded, message);
        self.begin_pending(turn)
    }

    fn begin_pending(&mut self, turn: &mut Turn<'_>) -> bool {
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
    fn judge_now(&mut self, turn: &mut Turn<'_>) -> bool {
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

    fn go_back(&mut self, turn: &mut Turn<'_>, message: String) {
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

    fn drive_back(&mut self, turn: &mut Turn<'_>) -> bool {
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

    pub(super) fn note_state(&mut self, turn: &mut Turn<'_>, message: String) {
        let Some(rollout) = &self.rollout else { return };
        let event = state_event(rollout, turn.now, message);
        turn.record(&self.name, event);
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
            Stage::Watching(watch) => self.watch_deadline(&watch, clock),
            Stage::Waiting
            | Stage::Starting { .. }
            | Stage::Retiring { .. }
            | Stage::Refilling { .. }
            | Stage::Ended => None,
        };
        [patience, watch].into_iter().flatten().min()
    }

    fn watch_deadline(&self, watch: &Watch, clock: Moment) -> Option<Moment> {
        let ramp = match watch.arrived {
            Some(_) => None,
            None => Some(next_climb(watch.since, self.settings.ramp, clock)),
        };
        let soak = watch
            .arrived
            .and_then(|arrived| self.soak_end(watch).map(|end| end.max(arrived)))
            // What it waits for after that are answers.
            .filter(|end| *end > clock || self.awaited() == 0);
        let idle = match (watch.first, self.last_request()) {
            (None, Some(last)) if !watch.idle && !self.busy() => Some(last + IDLE),
            (None | Some(_), _) => None,
        };
        [ramp, soak, idle].into_iter().flatten().min()
    }
}

pub(super) fn state_event(rollout: &Rollout, now: Moment, message: String) -> Event {
    Event::RolloutState {
        to: rollout.to,
        from: rollout.from,
        state: rollout.state,
        trigger: rollout.trigger,
        elapsed: now.since(rollout.started_at.unwrap_or(rollout.requested_at)),
        message,
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
