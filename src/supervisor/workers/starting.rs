//! The start of a worker's process: its place, its notify socket, its output, and the shim's word that it runs.
//! Called for each `Spawn` of the core; whatever goes wrong is a fact, and nothing is tried twice here.

use std::rc::Rc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Process, Squatter, Worker, Workers};
use crate::config::{ServiceConfig, Workers as Kind};
use crate::rollout::{Fact, Generation, ServiceName, Slot, WorkerId};
use crate::supervisor::input::Input;
use crate::supervisor::notify::{Notice, Notify};
use crate::supervisor::output::{Output, Source};
use crate::supervisor::place::Place;
use crate::supervisor::spawn;
use crate::supervisor::spec::{Individual, Spec};

impl Workers {
    /// Starts a worker, or begins to probe one that somebody else runs.
    pub(in crate::supervisor) fn launch(
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

    /// Starts the process of one that we run.
    pub(super) fn start(
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
    pub(in crate::supervisor) fn launched(
        &mut self,
        worker: WorkerId,
        outcome: Result<(), String>,
    ) -> Vec<Fact> {
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

    /// Whether the generation has a process.
    fn is_inhabited(&self, service: &ServiceName, generation: Generation) -> bool {
        let mut all = self.live.values();
        all.any(|of| of.service == *service && of.generation == generation)
    }
}
