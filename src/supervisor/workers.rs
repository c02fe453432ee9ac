//! The worker processes as the shell knows them: where each lives, what it printed, what its probes
//! said. Carries out the core's actions on them and turns what happens to them into facts.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::rc::Rc;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::console::Console;
use super::image::Image;
use super::input::Inputs;
use super::output::Output;
use super::place::Place;
use super::ports::Ports;
use super::reaper::Reaper;
use super::spec::Spec;
use crate::config::{Config, Recipe, ServiceConfig};
use crate::feed::Feed;
use crate::link::message::{Protocol, WorkerAddress};
use crate::metrics::{Metrics, process};
use crate::rollout::{Exit, Generation, ServiceName, Slot, WorkerId};
use crate::shim::Bytes;
use crate::wire;

mod ending;
mod evidence;
mod probing;
mod programs;
mod starting;
mod upstream;

use self::evidence::Kept;
pub(super) use self::programs::Runs;

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

impl Drop for Process {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
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

    /// The generation will start nothing any more.
    pub(super) fn forget(&mut self, service: &ServiceName, generation: Generation) {
        self.specs.remove(&(service.clone(), generation));
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
}
