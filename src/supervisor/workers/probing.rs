//! The probes of a worker, one task each, and what their outcomes mean: whether it was the worker that answered
//! (F18), and whether we could ask at all. Counts nothing: rise and fall are the core's.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{Worker, Workers};
use crate::config::{FIRST_PROBES, ServiceConfig};
use crate::link::message::{Protocol, WorkerAddress};
use crate::rollout::{Fact, WorkerId};
use crate::shim::Bytes;
use crate::supervisor::input::Input;
use crate::supervisor::probe::{self, Missed};
use crate::supervisor::remains::Remains;
use crate::supervisor::squatter;

/// How often it is said that probes cannot be made.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

impl Workers {
    /// Probes until it is aborted: every 100 ms until it is first ready, then as the config says.
    pub(super) fn probe(
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
    pub(in crate::supervisor) fn probed(
        &mut self,
        worker: WorkerId,
        outcome: Result<(), Missed>,
    ) -> Vec<Fact> {
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
}

/// A worker that is told its port may find a stranger there, which answers in its place (F18).
fn is_a_stranger_that_answers(worker: WorkerId, known: &Worker) -> bool {
    let (Some(process), WorkerAddress::Tcp(address)) = (&known.process, &known.address) else {
        return false;
    };
    let pids = Remains::new(worker, process.pid).find();
    squatter::is_held_by(address.port(), &pids) == Some(false)
}
