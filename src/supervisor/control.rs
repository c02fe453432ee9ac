//! The control loop: facts and commands into the core, actions out of it, and nothing in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::Level;

use super::asks::Question;
use super::clock::Clock;
use super::console::Console;
use super::handle::Ask;
use super::input::Input;
use super::journal::Journal;
use super::manager::Manager;
use super::planes::{News, PlaneState, Planes};
use super::signals::{Signal, Signals};
use super::state::State;
use super::status;
use super::stopping::Stopping;
use super::table;
use super::workers::Workers;
use crate::config::Config;
use crate::metrics::{LedgerCounts, LogStream, Metrics, process};
use crate::rollout::{
    Action, Command, Core, Epoch, Event, Exit, Fact, Generation, InFlight, Moment, Outcomes,
    Record, RolloutOrder, RolloutState, Routes, ServiceName, Slot, Steer, Trigger, View,
    WorkerFailure, WorkerId,
};
use crate::wire;

/// How often resident memory and processor time of the workers are read.
const PROCESS_EVERY: Duration = Duration::from_secs(1);
/// How often a worker's leftovers are looked for while there may be some.
const SWEEP_EVERY: Duration = Duration::from_millis(50);
/// News taken in one turn before the views are published and deadlines are looked at.
const TURN: usize = 256;
/// From the first SIGUSR2 to the rollout it asks for, so that a storm of them is one order (F38).
const STORM: Duration = Duration::from_millis(50);
/// Rollouts whose request accounting is remembered.
const LEDGERS_KEPT: usize = 256;

/// Re-reads the config as the command line told it.
pub type Reread = Box<dyn Fn() -> Result<Config, String>>;

/// Everything the loop owns.
pub(super) struct Supervisor {
    pub(super) clock: Clock,
    pub(super) config: Config,
    pub(super) reread: Reread,
    pub(super) core: Core,
    pub(super) planes: Planes,
    pub(super) workers: Workers,
    pub(super) journal: Journal,
    pub(super) metrics: Metrics,
    pub(super) state: State,
    pub(super) inputs: mpsc::Receiver<Input>,
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) signals: Signals,
    pub(super) outlets: Outlets,
    pub(super) identity: Identity,
    pub(super) questions: Vec<Question>,
    pub(super) stopping: Option<Stopping>,
    pub(super) routes: Routes,
    pub(super) told: Told,
    pub(super) ledgers: BTreeMap<String, Ledgers>,
    pub(super) ever_ready: bool,
    pub(super) finished: bool,
    pub(super) failed_start: Option<String>,
    pub(super) rollout_due: Option<Moment>,
    pub(super) process_due: Moment,
    pub(super) sweep_due: Moment,
    pub(super) console: Console,
    pub(super) manager: Manager,
    pub(super) releases: BTreeMap<(ServiceName, Generation), String>,
}

/// Where the views go.
pub(super) struct Outlets {
    pub(super) status: watch::Sender<Arc<wire::Status>>,
    pub(super) rollouts: watch::Sender<Arc<Vec<wire::Rollout>>>,
    pub(super) ready: watch::Sender<bool>,
}

/// What never changes.
pub(super) struct Identity {
    pub(super) listeners: Vec<String>,
    pub(super) admin: Option<String>,
}

/// What the core was told last, so that it is told only news.
#[derive(Default)]
pub(super) struct Told {
    acknowledged: Epoch,
    loads: BTreeMap<WorkerId, (InFlight, Option<Moment>)>,
    traffic: BTreeMap<(ServiceName, u64), Outcomes>,
}

/// A rollout's request accounting: the totals at its begin, and at its end once it ended (those cut, at
/// the end of the last drain it caused).
#[derive(Debug, Clone, Copy)]
pub(super) struct Ledgers {
    pub(super) begin: LedgerCounts,
    /// With what the candidate's workers answered, which is forgotten with its generation.
    pub(super) end: Option<(LedgerCounts, Outcomes)>,
}

impl Supervisor {
    /// Runs until everything is gone. Returns an error if the first start failed for good.
    pub(super) async fn run(mut self) -> Result<(), String> {
        loop {
            self.act();
            self.publish_views();
            if self.over() {
                return self.end();
            }
            let deadline = self.clock.instant(self.next_deadline());
            tokio::select! {
                biased;
                signal = self.signals.next() => self.on_signal(signal),
                Some(input) = self.inputs.recv() => self.on_inputs(input),
                Some(ask) = self.asks.recv() => self.on_ask(ask),
                () = tokio::time::sleep_until(deadline) => {}
            }
            // Whatever has happened is heard before a deadline may pass (F35).
            while let Ok(input) = self.inputs.try_recv() {
                self.on_inputs(input);
            }
            let gone = self.workers.reap_all();
            if !gone.is_empty() {
                hear_last_words().await;
            }
            self.bury(gone);
            self.tick();
        }
    }

    fn on_inputs(&mut self, first: Input) {
        self.on_input(first);
        for _ in 1..TURN {
            let Ok(input) = self.inputs.try_recv() else {
                return;
            };
            self.on_input(input);
        }
    }

    fn on_input(&mut self, input: Input) {
        match input {
            Input::Plane {
                incarnation,
                message,
            } => {
                let news = self.planes.hear(incarnation, message);
                self.on_plane_news(incarnation, news);
            }
            Input::PlaneClosed { incarnation, why } => {
                if self.stopping.is_none() && !self.planes.is_draining(incarnation) {
                    // The exit itself follows; a plane that only closed its channel is of no use.
                    self.kill_plane(incarnation, &why);
                }
            }
            Input::Launched { worker, outcome } => {
                let facts = self.workers.launched(worker, outcome);
                self.feed(facts);
            }
            Input::Probed { worker, outcome } => {
                let facts = self.workers.probed(worker, outcome);
                self.feed(facts);
            }
        }
    }

    fn on_plane_news(&mut self, incarnation: u64, news: News) {
        match news {
            News::Acknowledged => self.tell_acknowledged(),
            News::Accepting => {
                let now = self.clock.now();
                self.journal.note(
                    now,
                    Level::INFO,
                    "plane_accepting",
                    "the data plane accepts",
                    json!({"incarnation": incarnation}),
                );
                self.tell_acknowledged();
            }
            News::Sampled(answers) => {
                if let Some((_, plane)) = self
                    .planes
                    .iter()
                    .find(|(number, _)| *number == incarnation)
                {
                    let now = self.clock.now();
                    if let Err(refused) = self.metrics.plane_sample(incarnation, &plane.sample, now)
                    {
                        tracing::debug!("a sample of plane {incarnation} was refused: {refused:?}");
                    }
                }
                self.tell_loads();
                self.tell_traffic();
                if let Some(question) = answers {
                    self.answered_sample(incarnation, question);
                }
            }
            News::Exchanges(question, exchanges) => {
                self.answered_exchanges(incarnation, question, exchanges);
            }
            News::Leaving if self.stopping.is_none() => {
                let now = self.clock.now();
                self.journal.note(
                    now,
                    Level::WARN,
                    "plane_leaving",
                    "the data plane was sent SIGTERM by somebody else; a successor takes over while it finishes",
                    json!({ "incarnation": incarnation }),
                );
                self.start_plane(now);
            }
            News::Leaving => {}
            News::Broken(why) => self.kill_plane(incarnation, &why),
            News::Nothing => {}
        }
    }

    fn kill_plane(&mut self, incarnation: u64, why: &str) {
        if let Some(pid) = self.planes.kill(incarnation) {
            let now = self.clock.now();
            self.journal.note(
                now,
                Level::WARN,
                "plane_killed",
                &format!("the data plane (pid {pid}) is replaced: {why}"),
                json!({"incarnation": incarnation, "pid": pid, "why": why}),
            );
            self.workers.reaper().kill(pid);
        }
    }

    fn bury(&mut self, gone: Vec<(u32, Exit)>) {
        for (pid, exit) in gone {
            let now = self.clock.now();
            if let Some((incarnation, plane)) = self.planes.exited(now, pid) {
                self.metrics.plane_gone(incarnation);
                self.lost_plane(incarnation);
                if self.stopping.is_none() && plane.state != PlaneState::Draining {
                    self.journal.note(
                        now,
                        Level::WARN,
                        "plane_exited",
                        &format!("the data plane (pid {pid}) ended: {exit}; connections wait for its successor"),
                        json!({"incarnation": incarnation, "pid": pid, "exit": exit.to_string()}),
                    );
                    self.tick_planes();
                }
                // It has thereby acknowledged everything, and its counts are zero.
                self.tell_acknowledged();
                self.tell_loads();
                continue;
            }
            let facts = self.workers.exited(pid, exit);
            self.sweep_due = now;
            self.feed(facts);
        }
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        if now >= self.sweep_due {
            let facts = self.workers.sweep();
            self.sweep_due = if self.workers.may_leave_remains() {
                now + SWEEP_EVERY
            } else {
                now + Duration::from_secs(3600)
            };
            self.feed(facts);
        }
        if now >= self.process_due {
            self.process_due = now + PROCESS_EVERY;
            self.read_processes();
        }
        self.core.tick(now);
        self.tick_planes();
        self.tick_rollout(now);
        self.tick_questions(now);
        self.tick_stopping(now);
    }

    fn read_processes(&mut self) {
        self.workers.read_processes(&self.metrics);
        if let Some(usage) = process::with_descriptors(std::process::id()) {
            self.metrics.own_process(usage);
        }
        for (incarnation, plane) in self.planes.iter() {
            if let Some(usage) = process::with_descriptors(plane.pid) {
                self.metrics.plane_process(incarnation, usage);
            }
        }
        self.metrics
            .log_lines_dropped(LogStream::Own, self.console.dropped());
    }

    /// Starts a plane; if that fails another try is due soon, and it is said.
    pub(super) fn start_plane(&mut self, now: Moment) {
        let started = self.planes.start(now);
        self.watch_planes(now, started);
    }

    fn tick_planes(&mut self) {
        let now = self.clock.now();
        for (incarnation, why) in self.planes.tick(now) {
            self.kill_plane(incarnation, &why);
        }
        if self.planes.start_is_due(now) {
            self.start_plane(now);
        }
    }

    fn watch_planes(&mut self, now: Moment, started: std::io::Result<u32>) {
        match started {
            Ok(pid) => self.workers.reaper().watch(pid),
            Err(error) => self.journal.note(
                now,
                Level::ERROR,
                "plane_failed",
                &format!("the data plane cannot be started: {error}; trying again"),
                json!({"error": error.to_string()}),
            ),
        }
    }

    fn next_deadline(&self) -> Moment {
        let now = self.clock.now();
        let mut next = self
            .planes
            .next_deadline(now)
            .min(self.process_due)
            .min(self.sweep_due);
        for other in [
            self.core.next_deadline(),
            self.rollout_due,
            self.questions
                .iter()
                .map(|question| question.deadline)
                .min(),
            self.stopping.as_ref().map(Stopping::next_deadline),
        ] {
            next = next.min(other.unwrap_or(next));
        }
        next
    }

    fn feed(&mut self, facts: Vec<Fact>) {
        let now = self.clock.now();
        for fact in facts {
            self.core.fact(now, fact);
        }
    }

    /// Tells the core how far every plane is.
    fn tell_acknowledged(&mut self) {
        let epoch = self.planes.acknowledged();
        if epoch > self.told.acknowledged {
            self.told.acknowledged = epoch;
            self.feed(vec![Fact::Acknowledged { epoch }]);
        }
    }

    /// Tells the core what is in flight: at open gates where that has changed; at shut ones each time, but
    /// only once every plane has counted since it shut them. A count from before the acknowledgement may
    /// miss a request that slipped through, and the worker would be ended under it (I6).
    fn tell_loads(&mut self) {
        let counted = self.planes.counted_since(self.told.acknowledged);
        let facts = table::workers(&self.routes)
            .filter_map(|(route, shut)| match shut {
                true if counted => Some(self.load(route.worker)),
                true => None,
                false => self.load_if_changed(route.worker),
            })
            .collect::<Vec<_>>();
        for fact in &facts {
            if let Fact::Load {
                worker,
                in_flight,
                deadline,
            } = fact
            {
                self.told.loads.insert(*worker, (*in_flight, *deadline));
            }
        }
        self.feed(facts);
    }

    fn load(&self, worker: WorkerId) -> Fact {
        let now = self.clock.now();
        Fact::Load {
            worker,
            in_flight: self.planes.in_flight(worker),
            deadline: self.planes.drain_left(worker).map(|left| now + left),
        }
    }

    fn load_if_changed(&self, worker: WorkerId) -> Option<Fact> {
        let in_flight = self.planes.in_flight(worker);
        let deadline = self
            .planes
            .drain_left(worker)
            .map(|left| self.clock.now() + left);
        let told = self.told.loads.get(&worker);
        let same = match told {
            Some((before, at)) => {
                *before == in_flight
                    && match (at, deadline) {
                        (None, None) => true,
                        // Recomputed from a rounded rest each time: small steps are no news.
                        (Some(a), Some(b)) => {
                            a.since(b).max(b.since(*a)) < Duration::from_millis(50)
                        }
                        (None, Some(_)) | (Some(_), None) => false,
                    }
            }
            None => in_flight == InFlight::default() && deadline.is_none(),
        };
        (!same).then_some(Fact::Load {
            worker,
            in_flight,
            deadline,
        })
    }

    /// Tells the core what became of the requests of each generation.
    fn tell_traffic(&mut self) {
        let mut facts = Vec::new();
        for service in &self.routes.services {
            for generation in &service.generations {
                let total = self.metrics.outcomes(&service.service, generation.number);
                let key = (service.service.clone(), generation.number.0);
                if self.told.traffic.get(&key) != Some(&total) {
                    self.told.traffic.insert(key, total);
                    facts.push(Fact::Traffic {
                        service: service.service.clone(),
                        generation: generation.number,
                        total,
                    });
                }
            }
        }
        self.feed(facts);
    }

    /// Carries out everything the core wants.
    pub(super) fn act(&mut self) {
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Publish(routes) => self.publish(routes),
                Action::Spawn {
                    worker,
                    service,
                    slot,
                    generation,
                } => {
                    self.spawn(worker, &service, slot, generation);
                }
                Action::Reuse {
                    service,
                    generation,
                    spec_of,
                } => {
                    self.workers.reuse_spec(&service, generation, spec_of);
                }
                Action::Terminate { worker } => self.workers.terminate(worker),
                Action::TerminateGroup { worker } => self.workers.terminate_group(worker),
                Action::KillGroup { worker } => self.workers.kill_group(worker),
                Action::Forget {
                    service,
                    generation,
                } => {
                    self.workers.forget(&service, generation);
                    self.releases.remove(&(service.clone(), generation));
                    self.told.traffic.remove(&(service, generation.0));
                }
                Action::Record(record) => self.on_record(&record),
                Action::Finished => self.finished = true,
            }
        }
    }

    fn spawn(
        &mut self,
        worker: WorkerId,
        service: &ServiceName,
        slot: Slot,
        generation: Generation,
    ) {
        self.metrics.worker_is(worker, service, slot, generation);
        let release = self
            .releases
            .get(&(service.clone(), generation))
            .cloned()
            .unwrap_or_default();
        let facts = self
            .workers
            .launch(worker, service, (slot, generation), &release);
        self.sweep_due = self.clock.now();
        self.feed(facts);
    }

    fn publish(&mut self, routes: Routes) {
        let now = self.clock.now();
        let table = table::build(&routes, &self.config, &self.workers);
        self.told
            .loads
            .retain(|worker, _| table::workers(&routes).any(|(route, _)| route.worker == *worker));
        self.routes = routes;
        self.planes.publish(now, table);
        // With no plane there is nobody who could still use the old one, or have anything in flight.
        self.tell_acknowledged();
        if self.planes.is_empty() {
            self.tell_loads();
        }
    }

    fn on_record(&mut self, record: &Record) {
        let now = self.clock.now();
        self.journal.record(now, &self.with_cuts(record));
        self.metrics.record(record, now);
        match &record.event {
            Event::WorkerReady { .. } => self.ever_ready = true,
            Event::WorkerFailed {
                failure, worker, ..
            } => {
                self.workers.keep_evidence(*worker);
                if !self.ever_ready {
                    self.first_start_failed(failure);
                }
            }
            Event::RolloutRequested { to, release, .. } => {
                self.releases
                    .insert((record.service.clone(), *to), release.clone());
                if let Err(error) = self.state.record(&record.service, *to) {
                    self.journal
                        .note(now, Level::ERROR, "state_failed", &error, json!({}));
                }
            }
            Event::RolloutState { to, state, .. } => {
                self.keep_ledger(&record.service, to.0, *state);
            }
            Event::WorkerDrained { generation, .. } => {
                self.add_late_cuts(&record.service, *generation);
            }
            _ => {}
        }
    }

    /// A plane cuts by itself what is over its limit, so that the core sees nothing left: for people the
    /// record says what was cut.
    fn with_cuts(&self, record: &Record) -> Record {
        let mut record = record.clone();
        if let Event::WorkerDrained { worker, left, .. } = &mut record.event {
            let cut = self.planes.cut(*worker);
            left.plain = left.plain.saturating_add(cut.plain);
            left.upload = left.upload.saturating_add(cut.upload);
            left.stream = left.stream.saturating_add(cut.stream);
            left.tunnel = left.tunnel.saturating_add(cut.tunnel);
        }
        record
    }

    /// A command that cannot be executed will not be executable the next time either; anything else
    /// may pass, so the listener stays and the start is repeated.
    fn first_start_failed(&mut self, failure: &WorkerFailure) {
        let hopeless = match failure {
            WorkerFailure::Spawn { .. } => true,
            WorkerFailure::ExitedEarly { .. }
            | WorkerFailure::Daemonised
            | WorkerFailure::StartTimeout { .. }
            | WorkerFailure::Crashed { .. }
            | WorkerFailure::Unhealthy { .. } => self.config.exit_on_failed_start,
        };
        if hopeless && self.failed_start.is_none() {
            self.failed_start = Some(format!("the worker {failure}"));
            self.stop(true);
        }
    }

    fn keep_ledger(&mut self, service: &ServiceName, to: u64, state: RolloutState) {
        let totals = self.metrics.ledger(service);
        let ledger = self
            .ledgers
            .entry(status::rollout_id(service, to))
            .or_insert(Ledgers {
                begin: totals,
                end: None,
            });
        if state.is_final() && ledger.end.is_none() {
            ledger.end = Some((totals, self.metrics.outcomes(service, Generation(to))));
        }
        while self.ledgers.len() > LEDGERS_KEPT {
            self.ledgers.pop_first();
        }
    }

    /// Workers that a rollout retires may drain beyond its end; what is cut then is still its doing.
    fn add_late_cuts(&mut self, service: &ServiceName, drained: Generation) {
        let view = self.view();
        let of_service = view.services.iter().find(|view| view.service == *service);
        let Some(rollout) = of_service.and_then(|view| view.rollout.as_ref()) else {
            return;
        };
        let id = status::rollout_id(service, rollout.to.0);
        let left_by_it = (rollout.state == RolloutState::Completed) != (drained == rollout.to);
        let cut = self.metrics.ledger(service).cut;
        if let Some(ledger) = self.ledgers.get_mut(&id)
            && let Some(end) = &mut ledger.end
            && left_by_it
        {
            end.0.cut = cut;
        }
    }

    fn on_signal(&mut self, signal: Signal) {
        match signal {
            Signal::Child => {}
            Signal::Stop => self.stop(self.stopping.is_some()),
            Signal::StopNow => self.stop(true),
            Signal::Rollout => {
                let due = self.clock.now() + STORM;
                self.rollout_due.get_or_insert(due);
            }
            Signal::Reload => {
                let (reply, _) = oneshot::channel();
                self.on_ask(Ask::Reload {
                    by: "SIGHUP".to_owned(),
                    reply,
                });
            }
            Signal::ReopenLogs => tracing::info!("SIGUSR1: logs go to stderr, nothing to reopen"),
            Signal::OneMore => self.scale_by(1),
            Signal::OneFewer => self.scale_by(-1),
        }
    }

    /// What SIGUSR2 asked for, once the storm it may have been part of is over.
    fn tick_rollout(&mut self, now: Moment) {
        if self.rollout_due.is_none_or(|due| now < due) {
            return;
        }
        self.rollout_due = None;
        for service in self.service_names() {
            let order = RolloutOrder {
                release: None,
                trigger: Trigger::Signal,
                reason: None,
                force: false,
                expected: None,
            };
            let ordered = self.command(Command::Rollout {
                service: service.clone(),
                order,
            });
            if let Err(refusal) = ordered {
                tracing::warn!(%service, "SIGUSR2 changed nothing: {refusal}");
            }
        }
    }

    fn scale_by(&mut self, step: i32) {
        for service in self.view().services {
            let wanted = service.wanted.saturating_add_signed(step).max(1);
            let scaled = self.command(Command::Scale {
                service: service.service.clone(),
                wanted,
            });
            if let Err(refusal) = scaled {
                tracing::warn!(
                    "the signal changed nothing for `{}`: {refusal}",
                    service.service
                );
            }
        }
    }

    pub(super) fn command(
        &mut self,
        command: Command,
    ) -> Result<crate::rollout::Accepted, crate::rollout::Refusal> {
        self.core.command(self.clock.now(), command)
    }

    pub(super) fn view(&self) -> View {
        self.core.view(self.clock.now())
    }

    pub(super) fn service_names(&self) -> Vec<ServiceName> {
        self.config
            .services
            .iter()
            .map(|service| service.name.clone())
            .collect()
    }

    /// Freezes a running rollout, so that a stop does not race with it.
    pub(super) fn halt_rollouts(&mut self) {
        for service in self.service_names() {
            // Refused where no rollout runs, which is what we want.
            let _ = self.command(Command::Steer {
                service,
                steer: Steer::Halt,
                rollout: None,
            });
        }
    }

    pub(super) fn publish_views(&mut self) {
        let now = self.clock.now();
        let view = self.core.view(now);
        self.metrics.view(&view, now, self.clock.wall(now));
        let shell = self.shell();
        let services: status::Services = view
            .services
            .iter()
            .map(|of| {
                (
                    of.service.to_string(),
                    status::service(of, &self.clock, &shell),
                )
            })
            .collect();
        let mut rollouts: Vec<wire::Rollout> = Vec::new();
        for of in &view.services {
            for rollout in self.core.rollouts(&of.service, now) {
                rollouts.push(status::rollout(
                    &of.service,
                    of.wanted,
                    &rollout,
                    &self.clock,
                    &shell,
                ));
            }
        }
        rollouts.sort_by(|a, b| b.requested_at.cmp(&a.requested_at).then(b.to.cmp(&a.to)));
        let status = wire::Status {
            version: crate::BUILD.to_owned(),
            pid: std::process::id(),
            data_planes: self
                .planes
                .iter()
                .map(|(_, plane)| wire::DataPlane {
                    pid: plane.pid,
                    state: plane.state.word().to_owned(),
                    started_at: self.clock.print(plane.started_at),
                })
                .collect(),
            services,
            state: if self.stopping.is_some() {
                "stopping"
            } else {
                "running"
            }
            .to_owned(),
            started_at: self.clock.print(Moment::default()),
            listeners: self.identity.listeners.clone(),
            admin: self.identity.admin.clone(),
        };
        let ready = self.stopping.is_none()
            && self.planes.accepting()
            && view.services.iter().all(|service| service.ready > 0);
        self.tell_manager(&view, ready);
        replace_if_changed(&self.outlets.status, Arc::new(status));
        replace_if_changed(&self.outlets.rollouts, Arc::new(rollouts));
        replace_if_changed(&self.outlets.ready, ready);
    }

    fn tell_manager(&mut self, view: &View, ready: bool) {
        if !self.manager.listens() {
            return;
        }
        let services: Vec<String> = view
            .services
            .iter()
            .map(|of| {
                let waiting = of
                    .waiting_on
                    .as_ref()
                    .map_or(String::new(), |on| format!(", waiting for {}", on.message));
                format!(
                    "{}: {} of {} workers serve generation {}{waiting}",
                    of.service, of.ready, of.wanted, of.stable
                )
            })
            .collect();
        self.manager.stands(ready, services.join("; "));
    }

    pub(super) fn shell(&self) -> super::shell::ShellView<'_> {
        super::shell::ShellView {
            workers: &self.workers,
            planes: &self.planes,
            metrics: &self.metrics,
            ledgers: &self.ledgers,
        }
    }
}

/// Lets the readers of output take what a process wrote before it ended, so that the failure that is told
/// next shows its last lines. A first turn asks the system what is readable, a second one reads, and one
/// more is for who shared it; nobody is waited for.
async fn hear_last_words() {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
}

fn replace_if_changed<T: PartialEq>(outlet: &watch::Sender<T>, value: T) {
    outlet.send_if_modified(|old| {
        let changed = *old != value;
        if changed {
            *old = value;
        }
        changed
    });
}
