//! From the core's view to the JSON that people read. Nothing is decided here.

use std::collections::BTreeMap;

use super::clock::Clock;
use crate::rollout::{
    FailureReason, FailureView, GenerationView, Health, InFlight, Outcomes, RolloutView,
    ServiceName, ServiceView, Verdict, VerdictView, WaitingKind, WaitingOn, WorkerId, WorkerState,
    WorkerView,
};
use crate::wire;

/// What the shell knows of a worker beyond the core's view.
#[derive(Debug, Clone, Default)]
pub(super) struct WorkerFacts {
    /// Resident memory in bytes.
    pub(super) rss: Option<u64>,
    /// Where it listens.
    pub(super) address: Option<String>,
    /// A plane gives it no requests for a while.
    pub(super) ejected: bool,
}

/// What the shell knows of a failed worker.
#[derive(Debug, Clone, Default)]
pub(super) struct Evidence {
    /// Its last lines, oldest first.
    pub(super) output: Vec<String>,
    /// The last probe's answer or error.
    pub(super) probe: Option<String>,
}

/// Looks up what the shell knows.
pub(super) trait Shell {
    /// Of a worker.
    fn worker(&self, worker: WorkerId) -> WorkerFacts;
    /// Of a failed worker.
    fn evidence(&self, worker: WorkerId) -> Evidence;
    /// Every request of a service between a rollout's begin and end (or now).
    fn ledger(&self, service: &ServiceName, rollout: &RolloutView) -> wire::Ledger;
    /// What is to be known of a rollout's workers.
    fn remarks(&self, service: &ServiceName, rollout: &RolloutView) -> Vec<String>;
    /// Requests that wait for a worker.
    fn parked(&self, service: &ServiceName) -> u32;
    /// Why they wait, if every worker that takes requests has so many.
    fn parked_as(&self, service: &ServiceName, in_flight: &[u32]) -> Option<String>;
}

/// One service.
#[must_use]
pub(super) fn service(view: &ServiceView, clock: &Clock, shell: &impl Shell) -> wire::Service {
    let parked = shell.parked(&view.service);
    let in_flight: u32 = view
        .generations
        .iter()
        .flat_map(|generation| &generation.workers)
        .map(|worker| worker.in_flight.total())
        .sum();
    wire::Service {
        generation: view.stable.0,
        release: named(&view.release),
        wanted: view.wanted,
        ready: view.ready,
        waiting_on: view
            .waiting_on
            .as_ref()
            .map(|waiting| waiting_on(waiting, clock)),
        rollout: view
            .rollout
            .as_ref()
            .map(|view_of| rollout(&view.service, view.wanted, view_of, clock, shell)),
        generations: view
            .generations
            .iter()
            .map(|of| generation(of, clock, shell))
            .collect(),
        in_flight: in_flight + parked,
        parked,
        parked_as: (parked > 0)
            .then(|| shell.parked_as(&view.service, &takers(view, shell)))
            .flatten(),
    }
}

/// What each worker has in flight that is given requests.
fn takers(view: &ServiceView, shell: &impl Shell) -> Vec<u32> {
    view.generations
        .iter()
        .filter(|generation| generation.weight.ratio() > 0.0)
        .flat_map(|generation| &generation.workers)
        .filter(|of| of.state == WorkerState::Ready && of.health != Health::Failing)
        .filter(|of| !shell.worker(of.worker).ejected)
        .map(|of| of.in_flight.total())
        .collect()
}

fn generation(view: &GenerationView, clock: &Clock, shell: &impl Shell) -> wire::Generation {
    wire::Generation {
        number: view.number.0,
        role: view.role.word().to_owned(),
        release: named(&view.release),
        weight: view.weight.ratio(),
        workers: view
            .workers
            .iter()
            .map(|of| worker(of, view.number.0, clock, shell))
            .collect(),
    }
}

fn worker(view: &WorkerView, generation: u64, clock: &Clock, shell: &impl Shell) -> wire::Worker {
    let facts = shell.worker(view.worker);
    wire::Worker {
        slot: view.slot.0,
        pid: view.pid,
        generation,
        state: view.state.word().to_owned(),
        health: view.health.word().to_owned(),
        in_flight: view.in_flight.total(),
        in_flight_by_class: view.in_flight.into(),
        rss: facts.rss,
        started_at: Some(clock.print(view.started_at)),
        address: facts.address,
        drain_deadline: view.drain_deadline.map(|at| clock.print(at)),
        drain_initial: view.drain_initial.map(InFlight::total),
        failures: view.failures,
        ejected: facts.ejected,
    }
}

/// One rollout.
#[must_use]
pub(super) fn rollout(
    service: &ServiceName,
    wanted: u32,
    view: &RolloutView,
    clock: &Clock,
    shell: &impl Shell,
) -> wire::Rollout {
    wire::Rollout {
        id: rollout_id(service, view.number.0),
        service: service.to_string(),
        from: view.from.0,
        to: view.to.0,
        release: named(&view.release),
        trigger: view.trigger.word().to_owned(),
        reason: view.reason.clone(),
        state: view.state.word().to_owned(),
        step: wire::RolloutStep {
            name: view.step.word().to_owned(),
            batch: view.batch,
            of: view.batches,
        },
        progress: view.progress.ratio(),
        waiting_on: view
            .waiting_on
            .as_ref()
            .map(|waiting| waiting_on(waiting, clock)),
        counts: wire::RolloutCounts {
            wanted,
            candidate_ready: view.candidate_ready,
            stable_ready: view.stable_ready,
            retiring: view.retiring,
            retiring_requests: view.retiring_plain,
        },
        verdicts: view.verdicts.iter().map(verdict).collect(),
        ledger: shell.ledger(service, view),
        remarks: shell.remarks(service, view),
        failure: view
            .failure
            .as_ref()
            .map(|of| failure(of, view.to.0, shell)),
        requested_at: clock.print(view.requested_at),
        started_at: view.started_at.map(|at| clock.print(at)),
        ended_at: view.ended_at.map(|at| clock.print(at)),
        full_strength: view.full_strength,
    }
}

/// `SERVICE-NUMBER`.
#[must_use]
pub(super) fn rollout_id(service: &ServiceName, number: u64) -> String {
    format!("{service}-{number}")
}

fn verdict(view: &VerdictView) -> wire::Verdict {
    wire::Verdict {
        batch: view.batch,
        verdict: match view.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::NotEnough => "not_enough",
        }
        .to_owned(),
        message: view.message.clone(),
        candidate: outcomes(view.candidate),
        stable: outcomes(view.stable),
    }
}

fn failure(view: &FailureView, generation: u64, shell: &impl Shell) -> wire::Failure {
    wire::Failure {
        reason: match view.reason {
            FailureReason::Worker => "worker",
            FailureReason::Judgement => "judgement",
            FailureReason::ProgressDeadline => "progress_deadline",
            FailureReason::Aborted => "aborted",
            FailureReason::Stopped => "stopped",
        }
        .to_owned(),
        message: view.message.clone(),
        worker: view.worker.as_ref().map(|of| {
            let evidence = shell.evidence(of.worker);
            wire::FailedWorker {
                slot: of.slot.0,
                generation,
                pid: of.pid,
                exit: exit_of(&of.failure),
                output: evidence.output,
                probe: evidence.probe,
            }
        }),
    }
}

fn exit_of(failure: &crate::rollout::WorkerFailure) -> Option<String> {
    use crate::rollout::WorkerFailure;
    match failure {
        WorkerFailure::ExitedEarly { exit } | WorkerFailure::Crashed { exit } => {
            Some(exit.to_string())
        }
        WorkerFailure::Daemonised | WorkerFailure::Ended => Some("exit status 0".to_owned()),
        WorkerFailure::Spawn { .. }
        | WorkerFailure::StartTimeout { .. }
        | WorkerFailure::Unhealthy { .. } => None,
    }
}

/// What is awaited.
#[must_use]
pub(super) fn waiting_on(view: &WaitingOn, clock: &Clock) -> wire::WaitingOn {
    wire::WaitingOn {
        kind: match view.kind {
            WaitingKind::Ready => "ready",
            WaitingKind::Ramp => "ramp",
            WaitingKind::Soak => "soak",
            WaitingKind::Drain => "drain",
            WaitingKind::Exit => "exit",
            WaitingKind::Acknowledge => "acknowledge",
            WaitingKind::Backoff => "backoff",
            WaitingKind::Health => "health",
            WaitingKind::Person => "person",
            WaitingKind::Rollout => "rollout",
            WaitingKind::Park => "park",
        }
        .to_owned(),
        message: view.message.clone(),
        since: clock.print(view.since),
        deadline: view.deadline.map(|at| clock.print(at)),
    }
}

fn outcomes(of: Outcomes) -> wire::Outcomes {
    wire::Outcomes {
        requests: of.requests,
        failures: of.failures,
    }
}

fn named(release: &str) -> Option<String> {
    (!release.is_empty()).then(|| release.to_owned())
}

/// Names → services, for the whole status.
pub(super) type Services = BTreeMap<String, wire::Service>;
