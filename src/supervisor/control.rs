//! The control loop: facts and commands into the core, actions out of it, and nothing in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::Level;

use super::asks::Question;
use super::certificates::Certificates;
use super::clock::Clock;
use super::console::Console;
use super::handle::Ask;
use super::input::Input;
use super::journal::Journal;
use super::ledgers::Ledgers;
use super::manager::Manager;
use super::notices::Notices;
use super::planes::{News, PlaneState, Planes};
use super::premises::Premises;
use super::signals::{Signal, Signals};
use super::state::State;
use super::stopping::Stopping;
use super::table;
use super::told::Told;
use super::workers::Workers;
use crate::config::{Config, Loaded};
use crate::link::message::TlsOffer;
use crate::metrics::{LogStream, Metrics, process};
use crate::rollout::{
    Action, Command, Core, Event, Exit, Fact, Generation, Moment, Record, RolloutOrder, Routes,
    ServiceName, Slot, Trigger, View, WorkerFailure, WorkerId,
};
use crate::wire;

/// How often resident memory and processor time of the workers are read.
const PROCESS_EVERY: Duration = Duration::from_secs(1);
/// How often a worker's leftovers are looked for while there may be some.
const SWEEP_EVERY: Duration = Duration::from_millis(50);
/// News taken in one turn before the views are published and deadlines are looked at.
const TURN: usize = 256;
/// A sleep that ends later than this after its time was none of ours: somebody stopped us, or the machine
/// had no time for us. Far above what a loaded machine takes, and below every deadline anybody sets.
const STALL: Duration = Duration::from_millis(500);
/// From the first SIGUSR2 to the rollout it asks for, so that a storm of them is one order (F38).
const STORM: Duration = Duration::from_millis(50);

/// Re-reads the config as the command line told it.
pub type Reread = Box<dyn Fn() -> Result<Loaded, String>>;

/// Everything the loop owns.
pub(super) struct Supervisor {
    pub(super) clock: Clock,
    pub(super) config: Config,
    pub(super) reread: Reread,
    /// The config that was last read and applied, as far as it can be without a restart.
    pub(super) last_read: Loaded,
    pub(super) core: Core,
    pub(super) certificates: Certificates,
    pub(super) notices: Notices,
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
    /// Children that we were given by whoever became us: not ours to end.
    pub(super) strangers: Vec<u32>,
    pub(super) finished: bool,
    pub(super) failed_start: Option<String>,
    pub(super) rollout_due: Option<Moment>,
    pub(super) process_due: Moment,
    pub(super) sweep_due: Moment,
    pub(super) state_due: Moment,
    pub(super) refused_due: Moment,
    pub(super) premises: Premises,
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

impl Supervisor {
    /// Runs until everything is gone but what goes last. An error if the first start failed for good.
    pub(super) async fn run(mut self) -> (Result<(), String>, Premises) {
        let mut last = self.clock.now();
        loop {
            self.act();
            self.publish_views();
            if self.over() {
                return (self.end(), self.premises);
            }
            let due = self.next_deadline();
            let deadline = self.clock.instant(due);
            tokio::select! {
                biased;
                signal = self.signals.next() => self.on_signal(signal),
                Some(input) = self.inputs.recv() => self.on_inputs(input),
                Some(ask) = self.asks.recv() => self.on_ask(ask),
                () = tokio::time::sleep_until(deadline) => {}
            }
            // Deadlines pass up to here in this turn: a stall that comes later is seen in the next one.
            let now = self.clock.now();
            if now.since(due.max(last)) > STALL {
                self.stalled(now, now.since(last)).await;
            }
            last = now;
            // Whatever has happened is heard before a deadline may pass (F35).
            while let Ok(input) = self.inputs.try_recv() {
                self.on_inputs(input);
            }
            let gone = self.workers.reap_all();
            if !gone.is_empty() {
                // The readers of output take what a process wrote before it ended, so that the failure
                // that is told next shows its last lines.
                take_a_turn().await;
            }
            self.bury(gone);
            self.tick(now);
        }
    }

    /// It slept, or worked, longer than it wanted to. What came meanwhile is still with the system, so the tasks that
    /// read it get a turn before anything is decided.
    async fn stalled(&mut self, now: Moment, by: Duration) {
        let seconds = by.as_secs_f64();
        self.journal.note(
            now,
            Level::WARN,
            "stalled",
            &format!("remuda was stopped or starved for {seconds:.1} s; no deadline of a start or a rollout counts it"),
            json!({ "seconds": seconds }),
        );
        take_a_turn().await;
        self.feed(vec![Fact::Stalled { by }]);
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
                if let Ok(Some(bytes)) = outcome {
                    self.workers.executed(worker, bytes);
                    self.tell_program(worker);
                }
                let facts = self.workers.launched(worker, outcome.map(|_runs| ()));
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
            News::Introduced(confinement) => self.tell_confinement(confinement),
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
                self.tell_planes();
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
                self.tell_ejected();
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
                self.tell_planes();
                // It has thereby acknowledged everything, and its counts are zero.
                self.tell_acknowledged();
                self.tell_loads();
                self.tell_ejected();
                continue;
            }
            let facts = self.workers.exited(pid, exit);
            self.sweep_due = now;
            self.feed(facts);
        }
    }

    fn tick(&mut self, now: Moment) {
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
            self.keep_state(now);
            self.tick_premises(now);
            if self.notices.config.is_some() && now >= self.refused_due {
                self.look_at_refused(now);
            }
        }
        self.manager.lives(now);
        self.tell_planes();
        self.core.tick(now);
        self.tick_planes();
        self.tick_certificates(now);
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
        for whose in [LogStream::Stdout, LogStream::Stderr, LogStream::Own] {
            self.metrics
                .log_lines_dropped(whose, self.console.dropped(whose));
        }
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

    fn tick_premises(&mut self, now: Moment) {
        if self.stopping.is_some() {
            return;
        }
        // The directory first: a public socket may be in it.
        let mut found = self.premises.look_after();
        self.planes.look_after(&mut found);
        for (what, _) in &found.made {
            self.metrics.restored(*what);
        }
        let news = self.premises.tell(found, self.planes.paths());
        for (level, kind, text) in [
            (Level::WARN, "premises_restored", news.made),
            (Level::ERROR, "premises_lost", news.missing),
        ] {
            if let Some(text) = text {
                self.journal.note(now, level, kind, &text, json!({}));
            }
        }
    }

    /// Says which of the certificates that were just read clients refuse, or soon will.
    pub(super) fn say_certificate_faults(&mut self, offers: &[TlsOffer]) {
        let now = self.clock.now();
        for fault in self.certificates.faults(offers, SystemTime::now()) {
            let kind = "certificate_expires";
            self.journal.note(now, Level::WARN, kind, &fault, json!({}));
        }
    }

    fn tick_certificates(&mut self, now: Moment) {
        match self.certificates.look(now) {
            None => return,
            Some(Ok(offers)) => {
                self.notices.certificates = None;
                self.journal.note(
                    now,
                    Level::INFO,
                    "certificates_changed",
                    "certificates were read anew; new connections get them",
                    json!({}),
                );
                self.say_certificate_faults(&offers);
                self.planes.offer(offers);
                self.look_at_refused(now);
            }
            Some(Err(why)) => {
                let message =
                    format!("{why}; new connections go on to get the certificates of before");
                self.journal.note(
                    now,
                    Level::ERROR,
                    "certificates_refused",
                    &message,
                    json!({ "error": why }),
                );
                self.notices.certificates = Some(message);
            }
        }
        self.metrics.config_is_read(self.notices.all_read());
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
            self.manager.next_deadline(),
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

    pub(super) fn feed(&mut self, facts: Vec<Fact>) {
        let now = self.clock.now();
        for fact in facts {
            self.core.fact(now, fact);
        }
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
                // One that ended as it was meant to must not push out what others said of their failures.
                if *failure != WorkerFailure::Ended {
                    self.workers.keep_evidence(*worker);
                }
                if !self.ever_ready {
                    self.first_start_failed(failure);
                }
            }
            Event::RolloutRequested {
                number,
                to,
                release,
                ..
            } => {
                self.releases
                    .insert((record.service.clone(), *to), release.clone());
                let kept = self.state.record(&record.service, *number);
                self.tell_state(now, kept);
            }
            Event::RolloutState {
                number, to, state, ..
            } => {
                self.keep_ledger(&record.service, (*number, *to), *state);
            }
            Event::WorkerRetired { worker, .. } => self.workers.dismissed(*worker),
            Event::WorkerDrained { generation, .. } => {
                self.add_late_cuts(&record.service, *generation);
            }
            _ => {}
        }
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
            | WorkerFailure::Ended
            | WorkerFailure::Unhealthy { .. } => self.config.exit_on_failed_start,
        };
        if hopeless && self.failed_start.is_none() {
            self.failed_start = Some(format!("the worker {failure}"));
            self.stop(true);
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
            Signal::ReopenLogs => self.reopen_logs(),
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
}

/// Lets the tasks that read take what has come. A first turn asks the system what is readable, a second one
/// reads, and one more is for who shared it; nobody is waited for.
async fn take_a_turn() {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
}
