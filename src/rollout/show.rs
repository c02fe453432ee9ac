//! The view: one value that shows everything.

use super::command::{LAST_GRACE, Stop};
use super::core::Core;
use super::fact::InFlight;
use super::id::{Generation, Moment, ServiceName, Weight};
use super::plan::{Rollout, Stage, share};
use super::service::{Service, count};
use super::view::{
    GenerationView, Health, RolloutState, RolloutView, ServiceView, Step, View, WorkerState,
    WorkerView,
};

impl Core {
    /// What it looks like at `now`.
    #[must_use]
    pub fn view(&self, now: Moment) -> View {
        View {
            services: self
                .services
                .values()
                .map(|service| {
                    let mut view = service.view(now);
                    if let Some(end) = self.end() {
                        let since = self.stop_since;
                        view.waiting_on = Some(service.ending_on(now, since, end));
                    } else if let (Some(halt), None) = (&self.halt, self.stop) {
                        view.waiting_on = Some(service.halted_on(halt, now));
                    }
                    view
                })
                .collect(),
            stopping: self.halt.is_some() || self.stop.is_some(),
        }
    }

    /// When remuda ends, whatever still lives then; known once workers are ended.
    fn end(&self) -> Option<Moment> {
        match self.stop? {
            Stop::Now => Some(self.stop_since + LAST_GRACE),
            Stop::Graceful => Some(self.halt?.deadline + LAST_GRACE),
        }
    }

    /// Every rollout of the service that is remembered, newest first: the pending one, the running or last
    /// one, and about twenty before. Empty for an unknown service.
    #[must_use]
    pub fn rollouts(&self, service: &ServiceName, now: Moment) -> Vec<RolloutView> {
        let Some(service) = self.services.get(service) else {
            return Vec::new();
        };
        let mut all: Vec<RolloutView> = service
            .pending
            .iter()
            .chain(service.rollout.iter())
            .chain(service.history.iter())
            .map(|rollout| service.rollout_view(rollout, now))
            .collect();
        all.sort_by_key(|rollout| std::cmp::Reverse(rollout.number));
        all
    }
}

impl Service {
    fn view(&self, now: Moment) -> ServiceView {
        let ready = self
            .weights()
            .filter(|(_, weight)| *weight > Weight::NONE)
            .map(|(number, _)| count(self.of(number).filter(|worker| self.open(worker))))
            .sum();
        ServiceView {
            service: self.name.clone(),
            stable: self.stable,
            release: self.release_of(self.stable),
            wanted: self.settings.wanted,
            ready,
            generations: self
                .weights()
                .map(|(number, weight)| self.generation_view(number, weight))
                .filter(|generation| !generation.workers.is_empty())
                .collect(),
            rollout: self
                .rollout
                .as_ref()
                .map(|rollout| self.rollout_view(rollout, now)),
            pending: self
                .pending
                .as_ref()
                .map(|rollout| self.rollout_view(rollout, now)),
            waiting_on: self.waiting_on(now),
        }
    }

    fn generation_view(&self, number: Generation, weight: Weight) -> GenerationView {
        let mut workers: Vec<WorkerView> = self
            .of(number)
            .map(|worker| WorkerView {
                worker: worker.id,
                slot: worker.slot,
                pid: worker.pid,
                state: worker.state(),
                health: worker.health,
                in_flight: worker.load,
                started_at: worker.started_at,
                drain_deadline: worker.drain_deadline(&self.settings),
                drain_initial: worker.drain.map(|drain| drain.initial),
                failures: worker.failures,
            })
            .collect();
        workers.extend(
            self.vacancies
                .iter()
                .filter(|vacancy| vacancy.generation == number)
                // While something of the last worker is left, that is what is shown.
                .filter(|vacancy| {
                    !self
                        .workers
                        .values()
                        .any(|worker| worker.slot == vacancy.slot)
                })
                .map(|vacancy| WorkerView {
                    worker: vacancy.last,
                    slot: vacancy.slot,
                    pid: None,
                    state: WorkerState::Backoff,
                    health: Health::Failing,
                    in_flight: InFlight::default(),
                    started_at: vacancy.since,
                    drain_deadline: None,
                    drain_initial: None,
                    failures: vacancy.failures,
                }),
        );
        workers.sort_by_key(|worker| worker.slot);
        GenerationView {
            number,
            role: self.role(number),
            release: self.release_of(number),
            weight,
            workers,
        }
    }

    pub(super) fn rollout_view(&self, rollout: &Rollout, now: Moment) -> RolloutView {
        let current = self
            .rollout
            .as_ref()
            .is_some_and(|running| running.number == rollout.number);
        let mut view = RolloutView {
            number: rollout.number,
            from: rollout.from,
            to: rollout.to,
            release: rollout.release.clone(),
            trigger: rollout.trigger,
            reason: rollout.reason.clone(),
            state: rollout.state,
            batch: rollout.batch,
            batches: rollout.batch,
            step: Step::Ended,
            progress: rollout.progress,
            candidate_ready: self.routable(rollout.to),
            stable_ready: 0,
            retiring: 0,
            retiring_plain: 0,
            waiting_on: self.rollout_waiting_on(rollout, now),
            verdicts: rollout.verdicts.clone(),
            failure: rollout.failure.clone(),
            requested_at: rollout.requested_at,
            started_at: rollout.started_at,
            ended_at: rollout.ended_at,
            progressed_at: rollout.progressed_at,
            full_strength: rollout.full_strength,
        };
        if rollout.state == RolloutState::Pending {
            view.step = Step::Waiting;
        }
        if !current {
            return view;
        }
        let leaving = |number: Generation| match rollout.state {
            RolloutState::RollingBack | RolloutState::RolledBack | RolloutState::Failed => {
                number == rollout.to
            }
            RolloutState::Pending
            | RolloutState::Running
            | RolloutState::Paused
            | RolloutState::Completed
            | RolloutState::Superseded => number != rollout.to,
        };
        for worker in self.workers.values() {
            if worker.generation != rollout.to && worker.routable() {
                view.stable_ready += 1;
            }
            if leaving(worker.generation) && !worker.in_place() && !worker.stuck {
                view.retiring += 1;
                view.retiring_plain = view.retiring_plain.saturating_add(worker.load.plain);
            }
        }
        view.step = self.step_of(rollout, view.retiring);
        if rollout.forward() {
            view.batches = self.batches();
        }
        view.progress = rollout.progress.max(self.progress(rollout, now));
        // What becomes of the service later is no part of a rollout that is over.
        if !rollout.state.is_final() {
            view.full_strength = self.full_strength();
        }
        view
    }

    fn step_of(&self, rollout: &Rollout, retiring: u32) -> Step {
        match rollout.stage {
            Stage::Waiting => Step::Waiting,
            Stage::Starting { .. } => Step::Starting,
            Stage::Watching(watch) => {
                if watch.arrived.is_some() {
                    Step::Soaking
                } else {
                    Step::Ramping
                }
            }
            Stage::Retiring { .. } => Step::Retiring,
            Stage::Refilling { .. } => Step::Refilling,
            Stage::Ended => {
                if retiring > 0 {
                    Step::Finishing
                } else {
                    Step::Ended
                }
            }
        }
    }

    /// Keeps the progress, so that it never falls.
    pub(super) fn note_progress(&mut self, now: Moment) {
        let Some(rollout) = &self.rollout else { return };
        if !rollout.forward() {
            return;
        }
        let progress = self.progress(rollout, now);
        if let Some(rollout) = &mut self.rollout {
            rollout.progress = rollout.progress.max(progress);
        }
    }

    /// How much is done: the passed workers, and of the present batch a quarter for the start, the rest
    /// by time.
    fn progress(&self, rollout: &Rollout, now: Moment) -> Weight {
        if !rollout.forward() {
            return rollout.progress;
        }
        let wanted = self.settings.wanted;
        let passed = u32::from(share(rollout.passed, wanted).0);
        let goal = u32::from(share(rollout.goal.min(wanted), wanted).0);
        let batch = goal.saturating_sub(passed);
        let part = match rollout.stage {
            Stage::Waiting => 0,
            Stage::Starting { .. } => {
                let ready = self.staffed(rollout.to).saturating_sub(rollout.passed);
                let of = rollout.goal.saturating_sub(rollout.passed);
                u32::from(share(ready, of).0) / 4
            }
            Stage::Watching(watch) => {
                let whole = self
                    .settings
                    .ramp
                    .max(self.settings.soak)
                    .as_millis()
                    .max(1);
                let stands = rollout.hold.map(|hold| hold.since()).or(self.blind);
                let at = stands.unwrap_or(now);
                let gone = at.since(watch.since).as_millis().min(whole);
                2500 + u32::try_from(gone * 7000 / whole).unwrap_or(7000)
            }
            Stage::Retiring { .. } => 9500,
            Stage::Refilling { .. } | Stage::Ended => 0,
        };
        let done = (passed + batch * part / 10_000).min(u32::from(Weight::FULL.0) - 1);
        Weight(u16::try_from(done).unwrap_or(0))
    }
}
