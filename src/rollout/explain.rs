//! What is being waited for, as one sentence that is the same everywhere.

use super::command::Halt;
use super::fact::InFlight;
use super::id::{Generation, Moment};
use super::plan::{Hold, Rollout, Stage, Watch};
use super::record::WorkerFailure;
use super::service::{Service, count};
use super::view::{RolloutState, WaitingKind, WaitingOn};
use super::worker::{Phase, Worker};

impl Service {
    /// What the service waits for.
    pub(super) fn waiting_on(&self, now: Moment) -> Option<WaitingOn> {
        let rollout = self.rollout.as_ref();
        rollout
            .filter(|rollout| !rollout.state.is_final())
            .and_then(|rollout| self.rollout_waiting_on(rollout, now))
            .or_else(|| self.start_of(self.stable))
            .or_else(|| self.drained_by_hand())
            .or_else(|| self.sick())
            .or_else(|| self.any_leaving(|_| true))
            .or_else(|| self.ejected())
            .or_else(|| self.parked())
    }

    /// What a stop waits for, while requests are still served and until the workers are ended.
    pub(super) fn halted_on(&self, halt: &Halt, now: Moment) -> WaitingOn {
        let mut in_flight = InFlight::default();
        for worker in self.workers.values().filter(|worker| worker.listed()) {
            in_flight = in_flight.plus(worker.load);
        }
        let (kind, message, deadline) = if now < halt.serves_until {
            let message = format!(
                "`shutdown_delay` to pass, as remuda is stopping; until then it serves as before ({in_flight} in flight)"
            );
            (WaitingKind::Exit, message, halt.serves_until)
        } else if in_flight.total() > 0 {
            let message = format!("{in_flight} in flight to finish, as remuda is stopping");
            (WaitingKind::Drain, message, halt.deadline)
        } else {
            let message =
                "the data plane to close its connections, as remuda is stopping".to_owned();
            (WaitingKind::Exit, message, halt.deadline)
        };
        waiting(kind, message, halt.since, Some(deadline))
    }

    /// What a stop waits for while workers end. Remuda waits for none of them beyond `end`.
    pub(super) fn ending_on(&self, now: Moment, since: Moment, end: Moment) -> WaitingOn {
        let mut what = self
            .waiting_on(now)
            .or_else(|| self.stuck_one())
            .unwrap_or_else(|| {
                let message = "the rest of remuda to end, as it is stopping".to_owned();
                waiting(WaitingKind::Exit, message, since, None)
            });
        what.deadline = Some(what.deadline.map_or(end, |deadline| deadline.min(end)));
        what
    }

    /// One that SIGKILL did not end.
    fn stuck_one(&self) -> Option<WaitingOn> {
        let mut workers = self.workers.values();
        let worker = workers.find(|worker| worker.stuck)?;
        let pid = worker.pid.map(|pid| format!(" (pid {pid})"));
        let message = format!(
            "worker {} of generation {}{} to end, which SIGKILL has not ended; then remuda ends without it",
            worker.slot,
            worker.generation,
            pid.unwrap_or_default()
        );
        let since = worker.drain.map_or(worker.started_at, |drain| drain.since);
        Some(waiting(WaitingKind::Exit, message, since, None))
    }

    /// What a rollout waits for; nothing once it is over and the last old worker is gone.
    pub(super) fn rollout_waiting_on(&self, rollout: &Rollout, now: Moment) -> Option<WaitingOn> {
        let current = self
            .rollout
            .as_ref()
            .is_some_and(|running| running.number == rollout.number);
        match rollout.state {
            RolloutState::Pending => Some(self.pending_on(rollout)),
            RolloutState::Running => Some(self.forward_on(rollout, now)),
            RolloutState::Paused => Some(self.person_on(rollout)),
            RolloutState::RollingBack => self
                .start_of(self.stable)
                .or_else(|| self.any_leaving(|worker| worker.generation == rollout.to)),
            RolloutState::Completed if current => self
                .any_leaving(|worker| worker.generation != rollout.to)
                .or_else(|| self.parked()),
            RolloutState::RolledBack | RolloutState::Failed if current => {
                self.any_leaving(|worker| worker.generation == rollout.to)
            }
            RolloutState::Completed
            | RolloutState::RolledBack
            | RolloutState::Failed
            | RolloutState::Superseded => None,
        }
    }

    /// The sentence for a rollout that made no progress.
    pub(super) fn rollout_waits_for(&self, now: Moment) -> String {
        self.active()
            .and_then(|rollout| self.rollout_waiting_on(rollout, now))
            .map_or_else(|| "nothing".to_owned(), |waiting| waiting.message)
    }

    fn pending_on(&self, pending: &Rollout) -> WaitingOn {
        let message = match self.active() {
            Some(running) if running.hold.is_some() => format!(
                "somebody to resume or abort the paused rollout {}-{}",
                self.name, running.to
            ),
            Some(running) => format!("rollout {}-{} to end its batch", self.name, running.to),
            None => "its turn".to_owned(),
        };
        waiting(WaitingKind::Rollout, message, pending.requested_at, None)
    }

    fn person_on(&self, rollout: &Rollout) -> WaitingOn {
        let since = rollout.hold.map_or(rollout.progressed_at, Hold::since);
        let failure = rollout
            .failure
            .as_ref()
            .map(|failure| failure.message.as_str());
        let message = match rollout.hold {
            Some(Hold::Failure { .. }) => format!(
                "somebody to resume or abort: {}",
                failure.unwrap_or("the rollout failed")
            ),
            Some(Hold::NotEnough { .. }) => {
                let verdict = rollout
                    .verdicts
                    .last()
                    .map(|verdict| verdict.message.as_str());
                format!(
                    "somebody to resume or abort: {}",
                    verdict.unwrap_or("too little traffic to judge")
                )
            }
            Some(Hold::Stop { .. }) => {
                let message = "remuda to stop; the rollout goes no further".to_owned();
                return waiting(WaitingKind::Exit, message, since, None);
            }
            Some(Hold::Person { .. }) | None => "somebody to resume, promote or abort".to_owned(),
        };
        waiting(WaitingKind::Person, message, since, None)
    }

    fn forward_on(&self, rollout: &Rollout, now: Moment) -> WaitingOn {
        let patience = rollout.patience + self.settings.progress_deadline;
        match rollout.stage {
            Stage::Waiting => self
                .any_leaving(|worker| worker.generation != rollout.to)
                .unwrap_or_else(|| {
                    let message = format!("generation {} to begin", rollout.to);
                    waiting(WaitingKind::Exit, message, rollout.requested_at, None)
                }),
            Stage::Starting { since } => self
                .start_of(rollout.to)
                .or_else(|| {
                    self.no_room()
                        .then(|| self.any_leaving(|worker| worker.generation != rollout.to))?
                })
                .unwrap_or_else(|| {
                    let message = format!("workers of generation {} to start", rollout.to);
                    waiting(WaitingKind::Ready, message, since, Some(patience))
                }),
            Stage::Watching(_) | Stage::Retiring { .. } if self.blind.is_some() => {
                let message = "a data plane to accept connections".to_owned();
                let since = self.blind.unwrap_or(now);
                waiting(WaitingKind::Acknowledge, message, since, Some(patience))
            }
            Stage::Watching(watch) => self.watch_on(rollout, &watch, now),
            Stage::Retiring { since } => self.lacking_on(rollout).unwrap_or_else(|| {
                let message = format!(
                    "{} workers to serve, so that an old one can be spared",
                    self.settings.wanted
                );
                waiting(WaitingKind::Ready, message, since, Some(patience))
            }),
            Stage::Refilling { since } => waiting(
                WaitingKind::Ready,
                format!("generation {} to be refilled", self.stable),
                since,
                Some(patience),
            ),
            Stage::Ended => waiting(
                WaitingKind::Exit,
                "its end".to_owned(),
                rollout.progressed_at,
                None,
            ),
        }
    }

    fn watch_on(&self, rollout: &Rollout, watch: &Watch, now: Moment) -> WaitingOn {
        if let Some(lacking) = self.lacking_on(rollout) {
            return lacking;
        }
        let to = rollout.to;
        let Some(arrived) = watch.arrived else {
            let message = format!(
                "the share of generation {to} to climb to {} % (now {} %)",
                self.batch_share().0 / 100,
                rollout.share.0 / 100
            );
            let deadline = watch.since + self.settings.ramp;
            return waiting(WaitingKind::Ramp, message, watch.since, Some(deadline));
        };
        let deadline = self.soak_end(watch);
        let awaited = self.awaited(watch, now);
        if awaited > 0
            && let Some(end) = deadline.filter(|end| *end <= now)
        {
            let message = format!(
                "answers of generation {to} to {awaited} requests; too few have ended to judge it"
            );
            return waiting(WaitingKind::Soak, message, end, self.answers_end(watch));
        }
        match watch.first {
            Some(first) => {
                let verdict = super::judge::judge(self, rollout);
                let message = format!(
                    "the soak of batch {} to end (requests to generation {to} so far: {}, failed: {})",
                    rollout.batch, verdict.candidate.requests, verdict.candidate.failures
                );
                waiting(WaitingKind::Soak, message, first.min(now), deadline)
            }
            None => waiting(
                WaitingKind::Soak,
                format!(
                    "a first request to batch {} of generation {to}",
                    rollout.batch
                ),
                arrived,
                deadline,
            ),
        }
    }

    /// A worker without which the batch does not pass.
    fn lacking_on(&self, rollout: &Rollout) -> Option<WaitingOn> {
        if self.batch_serves() {
            return None;
        }
        self.start_of(rollout.to).or_else(|| {
            let (due, worker) = self.busiest()?;
            let message = format!(
                "worker {} of generation {}, which is busy ({} in flight), to pass its health check again",
                worker.slot, worker.generation, worker.load
            );
            let since = worker.failing_since.unwrap_or_default();
            Some(waiting(WaitingKind::Health, message, since, Some(due)))
        })
    }

    /// A worker that starts, or a slot that waits for its restart: the one that has waited longest.
    fn start_of(&self, generation: Generation) -> Option<WaitingOn> {
        let starting = self
            .of(generation)
            .filter(|worker| matches!(worker.phase, Phase::Starting { .. }))
            .min_by_key(|worker| (worker.started_at, worker.slot));
        if let Some(worker) = starting {
            let mut message = format!(
                "worker {} of generation {generation} to become ready",
                worker.slot
            );
            if let Some(problem) = &worker.problem {
                message.push_str(&format!(" (last probe: {problem})"));
            }
            if let Some(failure) = worker.after.as_ref().filter(|_| worker.failures > 1) {
                message.push_str(&format!("; before, {}", in_a_row(worker.failures, failure)));
            }
            let deadline = worker.deadline(&self.settings);
            return Some(waiting(
                WaitingKind::Ready,
                message,
                worker.started_at,
                deadline,
            ));
        }
        let vacancy = self
            .vacancies
            .iter()
            .filter(|vacancy| vacancy.generation == generation)
            .min_by_key(|vacancy| (vacancy.since, vacancy.slot))?;
        let message = format!(
            "the restart of worker {} of generation {generation}: {}",
            vacancy.slot,
            in_a_row(vacancy.failures, &vacancy.failure)
        );
        Some(waiting(
            WaitingKind::Backoff,
            message,
            vacancy.since,
            Some(vacancy.due),
        ))
    }

    /// Nobody serves, because a person has drained whoever could.
    fn drained_by_hand(&self) -> Option<WaitingOn> {
        if self.answers() {
            return None;
        }
        let held = || {
            self.of(self.stable)
                .filter(|worker| matches!(worker.phase, Phase::Held))
        };
        let slot = held().map(|worker| worker.slot).min()?;
        let many = count(held());
        let since = held().filter_map(|worker| worker.drain).map(|it| it.since);
        let message = match many {
            1 => format!(
                "somebody to undrain worker {slot} of generation {generation}, which was drained by hand: nobody serves (`remuda undrain {slot}`)",
                generation = self.stable
            ),
            many => format!(
                "somebody to undrain a worker: all {many} workers of generation {generation} were drained by hand, and nobody serves (`remuda undrain {slot}`)",
                generation = self.stable
            ),
        };
        let since = since.max().unwrap_or_default();
        Some(waiting(WaitingKind::Person, message, since, None))
    }

    /// A worker of the stable generation that fails its probes: the one that has longest.
    fn sick(&self) -> Option<WaitingOn> {
        let worker = self
            .of(self.stable)
            .filter(|worker| matches!(worker.phase, Phase::Ready))
            .filter(|worker| worker.failing_since.is_some())
            .min_by_key(|worker| (worker.failing_since, worker.slot))?;
        let since = worker.failing_since.unwrap_or_default();
        if worker.sick {
            let who = format!(
                "worker {} of generation {}, which fails its health check,",
                worker.slot, worker.generation
            );
            let message = match worker.load.total() {
                0 => format!("{who} to be replaced"),
                _ => format!("{} on {who} to finish; then it is replaced", worker.load),
            };
            return Some(waiting(WaitingKind::Health, message, since, None));
        }
        let due = self.cure_due(worker);
        let or = match due {
            Some(_) => ", or to be replaced",
            None => "",
        };
        let mut message = format!(
            "worker {} of generation {} to pass its health check again{or}",
            worker.slot, worker.generation
        );
        if let Some(problem) = &worker.problem {
            message.push_str(&format!(" (last probe: {problem})"));
        }
        Some(waiting(WaitingKind::Health, message, since, due))
    }

    /// A worker that planes give no requests: the one that has been out longest.
    fn ejected(&self) -> Option<WaitingOn> {
        let out = self
            .of(self.stable)
            .filter(|worker| matches!(worker.phase, Phase::Ready))
            .filter_map(|worker| Some((worker.ejected_since?, worker.slot)));
        let (since, slot) = out.min()?;
        let message = format!(
            "the time to be over for which worker {slot} of generation {} gets no requests: it fails far more than the others",
            self.stable
        );
        Some(waiting(WaitingKind::Health, message, since, None))
    }

    /// What holds the worker that leaves and has most in flight.
    fn any_leaving(&self, of: impl Fn(&Worker) -> bool) -> Option<WaitingOn> {
        let worker = self
            .workers
            .values()
            .filter(|worker| !worker.in_place() && !worker.stuck && of(worker))
            .max_by_key(|worker| (worker.load.total(), std::cmp::Reverse(worker.slot)))?;
        Some(self.leaving_on(worker))
    }

    fn leaving_on(&self, worker: &Worker) -> WaitingOn {
        let who = format!("worker {} of generation {}", worker.slot, worker.generation);
        let since = worker.drain.map_or(worker.started_at, |drain| drain.since);
        let (kind, message, deadline) = match worker.phase {
            Phase::Shutting { .. } => (
                WaitingKind::Acknowledge,
                format!("the data plane to shut the gate of {who}"),
                None,
            ),
            Phase::Emptying { .. } if worker.load.total() == 0 => (
                WaitingKind::Acknowledge,
                format!("the data plane to say that nothing is in flight on {who}"),
                None,
            ),
            Phase::Emptying { .. } => {
                let left = worker.load.total();
                let requests = if left == 1 { "request" } else { "requests" };
                let message = format!("{left} {requests} on {who} to finish");
                match self.silence_rule(worker) {
                    // Each byte moves the end, so the rule is said and no time.
                    Some(rule) => (WaitingKind::Drain, format!("{message}; {rule}"), None),
                    None => (
                        WaitingKind::Drain,
                        message,
                        worker.drain_deadline(&self.settings),
                    ),
                }
            }
            Phase::Unlisting { .. } => (
                WaitingKind::Acknowledge,
                format!("the data plane to close its connections to {who}"),
                None,
            ),
            Phase::Terminating { deadline } => (
                WaitingKind::Exit,
                format!("{who} to end after SIGTERM, then SIGKILL"),
                Some(deadline),
            ),
            Phase::Killing { deadline } => (
                WaitingKind::Exit,
                format!("{who} to end after SIGKILL"),
                Some(deadline),
            ),
            Phase::Sweeping { next, .. } => (
                WaitingKind::Exit,
                format!("the rest of the process group of {who} to end"),
                Some(next),
            ),
            Phase::Starting { .. } | Phase::Ready | Phase::Held => {
                (WaitingKind::Exit, format!("{who} to end"), None)
            }
        };
        waiting(kind, message, since, deadline)
    }

    /// When what is in flight is cut, if that follows its progress and not the drain's begin.
    fn silence_rule(&self, worker: &Worker) -> Option<String> {
        let settings = &self.settings;
        let rules: Vec<String> = [
            (worker.load.upload, "uploads", settings.drain_upload),
            (worker.load.stream, "streams", settings.drain_stream),
            (worker.load.tunnel, "tunnels", settings.drain_tunnel),
        ]
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(_, class, limit)| format!("{class} after {}", humantime::format_duration(limit)))
        .collect();
        (!rules.is_empty()).then(|| {
            let all = humantime::format_duration(settings.drain_at_most);
            let rules = rules.join(", ");
            format!("cut without progress are {rules}, and all {all} after it began to drain")
        })
    }

    fn parked(&self) -> Option<WaitingOn> {
        let (number, until) = self
            .generations
            .iter()
            .find_map(|(number, generation)| Some((*number, generation.parked?)))?;
        let message = format!("generation {number}, parked for a rollback, to be let go");
        let since = self
            .rollout
            .as_ref()
            .and_then(|rollout| rollout.ended_at)
            .unwrap_or_default();
        Some(waiting(WaitingKind::Park, message, since, Some(until)))
    }
}

/// What came of the slot's last starts.
fn in_a_row(failures: u32, last: &WorkerFailure) -> String {
    if failures > 1 {
        format!("it failed {failures} times in a row, and the last one {last}")
    } else {
        format!("it {last}")
    }
}

fn waiting(
    kind: WaitingKind,
    message: String,
    since: Moment,
    deadline: Option<Moment>,
) -> WaitingOn {
    WaitingOn {
        kind,
        message,
        since,
        deadline,
    }
}
