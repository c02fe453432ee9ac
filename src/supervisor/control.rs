//! The control loop: facts and commands into the core, actions out of it, and nothing in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{mpsc, watch};
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
use super::planes::{PlaneState, Planes};
use super::premises::Premises;
use super::signals::Signals;
use super::state::State;
use super::stopping::Stopping;
use super::told::Told;
use super::workers::Workers;
use crate::config::{Config, Loaded};
use crate::metrics::{LogStream, Metrics, process};
use crate::rollout::{Command, Core, Exit, Fact, Generation, Moment, Routes, ServiceName, View};
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
