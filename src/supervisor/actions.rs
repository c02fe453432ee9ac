//! What the core wants, carried out: tables published, workers started and signalled, records passed on. Nothing is
//! awaited and nothing decided here; what comes of an action comes back as a fact.

use super::control::Supervisor;
use super::table;
use crate::rollout::{
    Action, Event, Generation, Record, Routes, ServiceName, Slot, WorkerFailure, WorkerId,
};

impl Supervisor {
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
}
