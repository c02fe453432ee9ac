//! The worker processes as the shell knows them: where each lives, what it printed, what its probes
//! said. Carries out the core's actions on them and turns what happens to them into facts.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

use super::console::Console;
use super::image::Image;
use super::input::{Input, Inputs};
use super::notify::{Notice, Notify};
use super::output::{Output, Source};
use super::place::Place;
use super::ports::Ports;
use super::probe::{self, Missed};
use super::reaper::Reaper;
use super::remains::Remains;
use super::spawn;
use super::spec::{Individual, Spec};
use super::squatter;
use super::status::Evidence;
use crate::config::{Config, FIRST_PROBES, Recipe, ServiceConfig, Workers as Kind};
use crate::feed::Feed;
use crate::link::message::{Protocol, WorkerAddress};
use crate::metrics::{Metrics, process};
use crate::rollout::{Exit, Fact, Generation, ServiceName, Slot, WorkerId};
use crate::shim::{Bytes, Change};
use crate::wire;

mod upstream;

/// How often it is said that probes cannot be made.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// Lines of a failed worker that are shown with its failure.
const EVIDENCE_LINES: usize = 20;
/// Failed workers whose evidence is kept.
const EVIDENCE_KEPT: usize = 64;

/// All of them.
#[derive(Debug)]
pub(super) struct Workers {
    image: Rc<Image>,
    reaper: Reaper,
    ports: Ports,
    directory: PathBuf,
    console: Console,
    logs: Feed<(String, wire::LogLine)>,
    inputs: Inputs,
    services: BTreeMap<ServiceName, ServiceConfig>,
    specs: HashMap<(ServiceName, Generation), Rc<Spec>>,
    live: BTreeMap<WorkerId, Worker>,
    evidence: BTreeMap<WorkerId, Kept>,
    /// When it was last said that probes cannot be made.
    complained: Option<Instant>,
}

/// One that is not cleared.
#[derive(Debug)]
struct Worker {
    service: ServiceName,
    slot: Slot,
    generation: Generation,
    address: WorkerAddress,
    /// What it speaks, from its first probe to its last request.
    protocol: Protocol,
    place: Option<Place>,
    process: Option<Process>,
    answered: bool,
    last_probe: Option<String>,
    usage: Option<process::Usage>,
    /// Of a worker that somebody else runs.
    probing: Option<AbortHandle>,
    /// Its address is none of its service's any more.
    unnamed: bool,
    squatter: Squatter,
}

/// A stranger on the port that a worker was given (F18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Squatter {
    /// None was seen.
    Unseen,
    /// The start failed because of one; it is repeated on another port as soon as nothing is left of it.
    Seen,
    /// The start was repeated; another failure counts.
    Dodged,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(probing) = &self.probing {
            probing.abort();
        }
    }
}

/// The process of a worker that we run.
#[derive(Debug)]
struct Process {
    pid: u32,
    launched: bool,
    /// If not simply what is under its program's name, as its generation began with it.
    runs: Option<Bytes>,
    /// Signalled by us, so that its end says nothing of it.
    asked: bool,
    exited: Option<Exit>,
    output: Rc<Output>,
    tasks: Vec<AbortHandle>,
    notified: watch::Receiver<bool>,
}

/// What stays known of a worker that failed.
#[derive(Debug)]
struct Kept {
    output: Option<Rc<Output>>,
    probe: Option<String>,
}

impl Drop for Process {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// A worker whose program's file has changed since its generation began.
#[derive(Debug)]
pub(super) struct Runs {
    pub(super) service: ServiceName,
    pub(super) slot: Slot,
    pub(super) generation: Generation,
    /// As the operator wrote it.
    pub(super) program: String,
    pub(super) bytes: Bytes,
}

/// What it takes to begin.
#[derive(Debug)]
pub(super) struct Parts {
    /// Our own program file.
    pub(super) image: Rc<Image>,
    /// Owner of all children.
    pub(super) reaper: Reaper,
    /// `RUNTIME/w`, which exists.
    pub(super) directory: PathBuf,
    /// Where workers' lines are printed.
    pub(super) console: Console,
    /// Where workers' lines are fed.
    pub(super) logs: Feed<(String, wire::LogLine)>,
    /// The loop's queue.
    pub(super) inputs: Inputs,
}

impl Workers {
    /// No worker yet.
    #[must_use]
    pub(super) fn new(parts: Parts, config: &Config) -> Self {
        let Parts {
            image,
            reaper,
            directory,
            console,
            logs,
            inputs,
        } = parts;
        Self {
            image,
            reaper,
            ports: Ports::new(config.ports),
            directory,
            console,
            logs,
            inputs,
            services: config
                .services
                .iter()
                .map(|service| (service.name.clone(), service.clone()))
                .collect(),
            specs: HashMap::new(),
            live: BTreeMap::new(),
            evidence: BTreeMap::new(),
            complained: None,
        }
    }

    /// New recipes and health settings, for generations and probes that begin from now on.
    pub(super) fn configure(&mut self, service: &ServiceConfig) {
        self.services.insert(service.name.clone(), service.clone());
    }

    /// The one who may signal.
    #[must_use]
    pub(super) fn reaper(&mut self) -> &mut Reaper {
        &mut self.reaper
    }

    /// Every child that has ended, planes and strangers too.
    pub(super) fn reap_all(&mut self) -> Vec<(u32, Exit)> {
        self.reaper.reap_all()
    }

    /// A generation that runs an older one's spec.
    pub(super) fn reuse_spec(
        &mut self,
        service: &ServiceName,
        generation: Generation,
        of: Generation,
    ) {
        if let Some(spec) = self.specs.get(&(service.clone(), of)).cloned() {
            self.specs.insert((service.clone(), generation), spec);
        }
    }

    /// What a generation's workers are started from; `None` if none was started yet.
    pub(super) fn recipe(&self, service: &ServiceName, generation: Generation) -> Option<&Recipe> {
        let spec = self.specs.get(&(service.clone(), generation))?;
        Some(spec.recipe())
    }

    /// Whether the generation has a process.
    fn is_inhabited(&self, service: &ServiceName, generation: Generation) -> bool {
        let mut all = self.live.values();
        all.any(|of| of.service == *service && of.generation == generation)
    }

    /// A worker runs something else than what is under its program's name, as its generation began with it.
    pub(super) fn executed(&mut self, worker: WorkerId, bytes: Bytes) {
        if let Some(process) = self.process_mut(worker) {
            process.runs = Some(bytes);
        }
    }

    /// What a worker runs, if its program's file has changed since its generation began.
    pub(super) fn runs(&self, worker: WorkerId) -> Option<Runs> {
        let known = self.live.get(&worker)?;
        let bytes = known.process.as_ref()?.runs?;
        let spec = self.specs.get(&(known.service.clone(), known.generation))?;
        Some(Runs {
            service: known.service.clone(),
            slot: known.slot,
            generation: known.generation,
            program: spec.recipe().command.first().cloned().unwrap_or_default(),
            bytes,
        })
    }

    /// All that run other bytes than their generations began with.
    pub(super) fn strayed(&self) -> Vec<(Runs, Change)> {
        let all = self.live.keys().filter_map(|worker| self.runs(*worker));
        all.filter_map(|runs| match runs.bytes {
            Bytes::Changed(change) => Some((runs, change)),
            Bytes::Kept => None,
        })
        .collect()
    }

    /// The generation will start nothing any more.
    pub(super) fn forget(&mut self, service: &ServiceName, generation: Generation) {
        self.specs.remove(&(service.clone(), generation));
    }

    /// Starts a worker, or begins to probe one that somebody else runs.
    pub(super) fn launch(
        &mut self,
        worker: WorkerId,
        service: &ServiceName,
        (slot, generation): (Slot, Generation),
        release: &str,
    ) -> Vec<Fact> {
        let Some(config) = self.services.get(service).cloned() else {
            return vec![Fact::SpawnFailed {
                worker,
                error: format!("service `{service}` is not configured"),
            }];
        };
        let launched = match &config.workers {
            Kind::Unmanaged(upstream) => self.adopt(worker, &config, upstream, (slot, generation)),
            Kind::Managed(recipe) => {
                let key = (service.clone(), generation);
                let spec = match self.specs.get(&key) {
                    Some(spec) => Ok(Rc::clone(spec)),
                    None => Spec::resolve(service, release, recipe).map(Rc::new),
                };
                spec.and_then(|spec| {
                    self.specs.insert(key, Rc::clone(&spec));
                    self.start(worker, &config, &spec, (slot, generation))
                })
            }
        };
        match launched {
            Ok(facts) => facts,
            Err(error) => {
                self.live.remove(&worker);
                vec![
                    Fact::SpawnFailed { worker, error },
                    Fact::Cleared { worker },
                ]
            }
        }
    }

    fn start(
        &mut self,
        worker: WorkerId,
        config: &ServiceConfig,
        spec: &Spec,
        (slot, generation): (Slot, Generation),
    ) -> Result<Vec<Fact>, String> {
        let mut place = Place::make(
            &self.directory,
            (self.services.len() > 1).then_some(&config.name),
            (slot, generation),
            spec.connect(),
            &self.ports,
            spec.identity(),
        )?;
        let notify_path = place.notify_path();
        let (ready, notified) = watch::channel(false);
        let mut notify = Notify::bind(&notify_path, spec.identity())
            .map_err(|error| format!("cannot bind {}: {error}", notify_path.display()))?;
        let job = spec.job(Individual {
            worker,
            slot,
            generation,
            address: place.address(),
            notify: &notify_path,
        });
        let listeners = place.take_listener().into_iter().collect();
        if !self.is_inhabited(&config.name, generation) {
            spec.begin_anew();
        }
        let program = spec.program();
        let spawned = spawn::spawn(&self.image, &mut self.reaper, job, listeners, program)?;
        let inputs = self.inputs.clone();
        let outcome = spawned.outcome;
        tokio::task::spawn_local(async move {
            let outcome = outcome.await;
            // The loop is gone only at the very end.
            let _ = inputs.send(Input::Launched { worker, outcome }).await;
        });
        let source = Source {
            service: config.name.to_string(),
            slot: slot.0,
            generation: generation.0,
            pid: spawned.pid,
        };
        let output = Output::follow(
            &source,
            spawned.stdout,
            spawned.stderr,
            &self.logs,
            &self.console,
        );
        notify.expect_session(spawned.pid);
        let hearing: JoinHandle<()> = tokio::task::spawn_local(async move {
            while let Ok(notices) = notify.recv().await {
                if notices.contains(&Notice::Ready) {
                    ready.send_replace(true);
                }
            }
        });
        self.live.insert(
            worker,
            Worker {
                service: config.name.clone(),
                slot,
                generation,
                address: place.address().clone(),
                protocol: spec.protocol(),
                place: Some(place),
                process: Some(Process {
                    pid: spawned.pid,
                    launched: false,
                    runs: None,
                    asked: false,
                    exited: None,
                    output: Rc::new(output),
                    tasks: vec![hearing.abort_handle()],
                    notified,
                }),
                answered: false,
                last_probe: None,
                usage: None,
                probing: None,
                unnamed: false,
                squatter: Squatter::Unseen,
            },
        );
        Ok(Vec::new())
    }

    /// The shim became the worker, or could not.
    pub(super) fn launched(&mut self, worker: WorkerId, outcome: Result<(), String>) -> Vec<Fact> {
        let Some(known) = self.live.get_mut(&worker) else {
            return Vec::new();
        };
        let Some(process) = &mut known.process else {
            return Vec::new();
        };
        match outcome {
            Err(error) => {
                // The shim ends by itself and is reaped as a stranger.
                let known = self.live.remove(&worker);
                drop(known);
                vec![
                    Fact::SpawnFailed { worker, error },
                    Fact::Cleared { worker },
                ]
            }
            Ok(()) => {
                process.launched = true;
                let pid = process.pid;
                let notified = process.notified.clone();
                let mut facts = vec![Fact::Spawned { worker, pid }];
                if let Some(exit) = process.exited {
                    facts.push(Fact::Exited { worker, exit });
                    self.learn_from_failure(worker);
                    facts.extend(self.sweep());
                    return facts;
                }
                let (address, protocol) = (known.address.clone(), known.protocol);
                if let Some(config) = self.services.get(&known.service).cloned() {
                    let probing = self.probe(worker, &config, (&address, protocol), notified);
                    if let Some(process) = self.process_mut(worker) {
                        process.tasks.push(probing);
                    }
                }
                facts
            }
        }
    }

    /// Probes until it is aborted: every 100 ms until it is first ready, then as the config says.
    fn probe(
        &self,
        worker: WorkerId,
        config: &ServiceConfig,
        (address, protocol): (&WorkerAddress, Protocol),
        mut notified: watch::Receiver<bool>,
    ) -> AbortHandle {
        let (health, address, inputs) =
            (config.health.clone(), address.clone(), self.inputs.clone());
        let rise = config.settings.rise;
        let task = tokio::task::spawn_local(async move {
            if health.notify && notified.wait_for(|ready| *ready).await.is_err() {
                return;
            }
            let (mut in_a_row, mut ready) = (0, false);
            loop {
                let path = health.path.as_deref();
                let outcome = probe::probe(&address, protocol, path, health.timeout).await;
                in_a_row = if outcome.is_ok() { in_a_row + 1 } else { 0 };
                ready |= in_a_row >= rise;
                if inputs
                    .send(Input::Probed { worker, outcome })
                    .await
                    .is_err()
                {
                    return;
                }
                tokio::time::sleep(if ready { health.interval } else { FIRST_PROBES }).await;
            }
        });
        task.abort_handle()
    }

    /// A probe ended.
    pub(super) fn probed(&mut self, worker: WorkerId, outcome: Result<(), Missed>) -> Vec<Fact> {
        let Some(known) = self.live.get_mut(&worker) else {
            return Vec::new();
        };
        let stranger =
            outcome.is_ok() && !known.answered && is_a_stranger_that_answers(worker, known);
        match outcome {
            Ok(()) if stranger => {
                let problem = format!("another program answers at {}", known.address);
                known.last_probe = Some(problem.clone());
                vec![Fact::Unanswered {
                    worker,
                    problem,
                    late: false,
                }]
            }
            Ok(()) => {
                known.answered = true;
                let of = (known.service.clone(), known.generation);
                if let Some(spec) = self.specs.get(&of) {
                    spec.prove();
                    let runs = known.process.as_ref().and_then(|process| process.runs);
                    if let (Some(Bytes::Kept), Some(held)) = (runs, spec.program()) {
                        held.ran();
                    }
                }
                known.last_probe = Some("answered".to_owned());
                vec![Fact::Answered { worker }]
            }
            Err(missed @ (Missed::Worker(_) | Missed::Late(_))) => {
                let late = matches!(missed, Missed::Late(_));
                let (Missed::Worker(problem) | Missed::Late(problem) | Missed::Unasked(problem)) =
                    missed;
                known.last_probe = Some(problem.clone());
                vec![Fact::Unanswered {
                    worker,
                    problem,
                    late,
                }]
            }
            Err(Missed::Unasked(why)) => {
                known.last_probe = Some(format!("it could not be asked: {why}"));
                self.complain(&why);
                Vec::new()
            }
        }
    }

    /// Says that probes cannot be made, once for all workers, and again if it goes on.
    fn complain(&mut self, why: &str) {
        let now = Instant::now();
        let said = self.complained.is_some_and(|at| now - at < COMPLAIN_EVERY);
        if !said {
            self.complained = Some(now);
            tracing::error!(
                "workers cannot be asked for their health: {why}; each counts as what it was before"
            );
        }
    }

    /// A child was reaped. If it was a worker's main process, so the core is told, once the exec is known
    /// to have succeeded.
    pub(super) fn exited(&mut self, pid: u32, exit: Exit) -> Vec<Fact> {
        let found = self.live.iter_mut().find(|(_, known)| {
            known
                .process
                .as_ref()
                .is_some_and(|process| process.pid == pid)
        });
        let Some((&worker, known)) = found else {
            return Vec::new();
        };
        let Some(process) = &mut known.process else {
            return Vec::new();
        };
        process.exited = Some(exit);
        for task in process.tasks.drain(..) {
            task.abort();
        }
        if !process.launched {
            return Vec::new();
        }
        // A worker that went to the background may hold the port itself (F27), so status 0 is no sign.
        let squatted = known.squatter == Squatter::Unseen
            && !known.answered
            && exit != Exit::Code(0)
            && known
                .place
                .as_ref()
                .is_some_and(Place::is_port_held_by_stranger);
        if squatted {
            known.squatter = Squatter::Seen;
            self.kill_group(worker);
            return Vec::new();
        }
        self.learn_from_failure(worker);
        vec![Fact::Exited { worker, exit }]
    }

    /// A worker that runs a file without a name may fail for just that.
    fn learn_from_failure(&self, worker: WorkerId) {
        let Some(known) = self.live.get(&worker) else {
            return;
        };
        let process = known.process.as_ref();
        let by_itself = process.is_some_and(|of| of.runs == Some(Bytes::Kept) && !of.asked);
        if known.answered || !by_itself {
            return;
        }
        let spec = self.specs.get(&(known.service.clone(), known.generation));
        let held = spec.and_then(|spec| spec.program());
        if held.is_some_and(|held| held.failed()) {
            tracing::warn!(
                "the program of generation {} of `{}` was replaced on disk, and its former file does not run without \
                 its name; what starts from now on runs the new one",
                known.generation,
                known.service
            );
        }
    }

    /// Workers whose process ended: those of which nothing is left are cleared.
    pub(super) fn sweep(&mut self) -> Vec<Fact> {
        let ended: Vec<WorkerId> = self.ended().map(|(worker, _)| worker).collect();
        if ended.is_empty() {
            return Vec::new();
        }
        let mut facts = Vec::new();
        for worker in ended {
            let Some(known) = self.live.get(&worker) else {
                continue;
            };
            let Some(process) = &known.process else {
                continue;
            };
            if Remains::new(worker, process.pid).find().is_empty() {
                if known.squatter == Squatter::Seen {
                    facts.extend(self.dodge(worker));
                    continue;
                }
                if let Some(known) = self.live.remove(&worker) {
                    self.keep(worker, &known);
                }
                facts.push(Fact::Cleared { worker });
            }
        }
        facts
    }

    /// Repeats a start that a stranger on the port made fail, on another port, uncharged (F18).
    fn dodge(&mut self, worker: WorkerId) -> Vec<Fact> {
        let Some(known) = self.live.remove(&worker) else {
            return Vec::new();
        };
        let place = (known.slot, known.generation);
        let spec = self
            .specs
            .get(&(known.service.clone(), known.generation))
            .cloned();
        let config = self.services.get(&known.service).cloned();
        tracing::info!(
            "the port of worker {} of `{}` is held by a stranger; starting it on another",
            known.slot,
            known.service
        );
        drop(known);
        let started = match (config, spec) {
            (Some(config), Some(spec)) => self.start(worker, &config, &spec, place),
            (None, _) | (_, None) => Err("its service is no longer configured".to_owned()),
        };
        match started {
            Ok(facts) => {
                if let Some(known) = self.live.get_mut(&worker) {
                    known.squatter = Squatter::Dodged;
                }
                facts
            }
            Err(error) => vec![
                Fact::SpawnFailed { worker, error },
                Fact::Cleared { worker },
            ],
        }
    }

    fn ended(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.live
            .iter()
            .filter(|(_, known)| {
                known
                    .process
                    .as_ref()
                    .is_some_and(|of| of.launched && of.exited.is_some())
            })
            .map(|(worker, known)| (*worker, known))
    }

    /// Whether [`Self::sweep`] has something to look for.
    #[must_use]
    pub(super) fn may_leave_remains(&self) -> bool {
        self.ended().next().is_some()
    }

    /// The processes of workers that have not ended, in words.
    pub(super) fn left(&self) -> impl Iterator<Item = String> {
        self.live.iter().filter_map(|(worker, known)| {
            let process = known.process.as_ref()?;
            let (service, slot, generation) = (&known.service, known.slot, known.generation);
            let of = format!("worker {slot} of generation {generation} of `{service}`");
            if process.exited.is_none() {
                return Some(format!("{of} (pid {})", process.pid));
            }
            let pids = Remains::new(*worker, process.pid).find();
            let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
            (!pids.is_empty()).then(|| format!("children of {of} (pid {})", pids.join(", ")))
        })
    }

    /// SIGTERM to the main process.
    pub(super) fn terminate(&mut self, worker: WorkerId) {
        if let Some(process) = self.process_mut(worker) {
            process.asked = true;
            let pid = process.pid;
            self.reaper.terminate(pid);
        }
    }

    /// SIGTERM to what is left of its group.
    pub(super) fn terminate_group(&mut self, worker: WorkerId) {
        self.signal_group(worker, nix::sys::signal::Signal::SIGTERM);
    }

    /// SIGKILL to everything of it.
    pub(super) fn kill_group(&mut self, worker: WorkerId) {
        self.signal_group(worker, nix::sys::signal::Signal::SIGKILL);
    }

    fn signal_group(&mut self, worker: WorkerId, signal: nix::sys::signal::Signal) {
        let Some(process) = self.process_mut(worker) else {
            return;
        };
        process.asked = true;
        let pid = process.pid;
        if self.reaper.is_live(pid) {
            match signal {
                nix::sys::signal::Signal::SIGKILL => self.reaper.kill_group(pid),
                _ => self.reaper.terminate_group(pid),
            };
        }
        let remains = Remains::new(worker, pid);
        match signal {
            nix::sys::signal::Signal::SIGKILL => remains.kill(),
            _ => remains.terminate(),
        };
    }

    fn process_mut(&mut self, worker: WorkerId) -> Option<&mut Process> {
        self.live.get_mut(&worker)?.process.as_mut()
    }

    /// Reads memory and processor time of every worker.
    pub(super) fn read_processes(&mut self, metrics: &Metrics) {
        for (worker, known) in &mut self.live {
            let Some(process) = known
                .process
                .as_ref()
                .filter(|process| process.exited.is_none())
            else {
                continue;
            };
            known.usage = process::usage(process.pid);
            if let Some(usage) = &known.usage {
                metrics.worker_process(*worker, usage.resident_bytes, usage.cpu_seconds);
            }
        }
    }

    /// Where a worker listens.
    #[must_use]
    pub(super) fn address(&self, worker: WorkerId) -> Option<&WorkerAddress> {
        Some(&self.live.get(&worker)?.address)
    }

    /// What a worker speaks.
    #[must_use]
    pub(super) fn protocol(&self, worker: WorkerId) -> Option<Protocol> {
        Some(self.live.get(&worker)?.protocol)
    }

    /// Its resident memory in bytes.
    #[must_use]
    pub(super) fn rss(&self, worker: WorkerId) -> Option<u64> {
        Some(self.live.get(&worker)?.usage.as_ref()?.resident_bytes)
    }

    /// Keeps what is known of a worker that failed.
    pub(super) fn keep_evidence(&mut self, worker: WorkerId) {
        if let Some(known) = self.live.remove(&worker) {
            self.keep(worker, &known);
            self.live.insert(worker, known);
        }
    }

    fn keep(&mut self, worker: WorkerId, known: &Worker) {
        self.evidence.entry(worker).or_insert_with(|| Kept {
            output: known
                .process
                .as_ref()
                .map(|process| Rc::clone(&process.output)),
            probe: known.last_probe.clone(),
        });
        while self.evidence.len() > EVIDENCE_KEPT {
            self.evidence.pop_first();
        }
    }

    /// What is known of a worker that failed.
    #[must_use]
    pub(super) fn evidence(&self, worker: WorkerId) -> Evidence {
        let Some(kept) = self.evidence.get(&worker) else {
            return Evidence::default();
        };
        Evidence {
            output: kept
                .output
                .as_ref()
                .map(|output| last_lines(output))
                .unwrap_or_default(),
            probe: kept.probe.clone(),
        }
    }
}

/// A worker that is told its port may find a stranger there, which answers in its place (F18).
fn is_a_stranger_that_answers(worker: WorkerId, known: &Worker) -> bool {
    let (Some(process), WorkerAddress::Tcp(address)) = (&known.process, &known.address) else {
        return false;
    };
    let pids = Remains::new(worker, process.pid).find();
    squatter::is_held_by(address.port(), &pids) == Some(false)
}

fn last_lines(output: &Output) -> Vec<String> {
    let mut lines = output.tail();
    let surplus = lines.len().saturating_sub(EVIDENCE_LINES);
    lines.drain(..surplus);
    lines
}
