//! A registry in which everything has happened once: a rollout in its middle, with a draining worker.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use remuda::link::message::{
    AcceptError, DURATION_BOUNDS, EndedSample, Histogram, Limit, MethodLabel, ProxyReason,
    RoleSample, Sample, ServiceSample, WorkerSample,
};
use remuda::metrics::{Build, Metrics, catalogue, process};
use remuda::rollout::{
    Event, Generation, GenerationView, Health, InFlight, Moment, Record, Role, RolloutState,
    RolloutView, ServiceName, ServiceView, Slot, Step, Trigger, View, Weight, WorkerId,
    WorkerState, WorkerView,
};

use crate::Outcome;

/// The exposition of the fake.
pub(crate) fn exposition() -> String {
    let service = ServiceName::new("shop");
    let wall = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let metrics = Metrics::new(Build::current(), std::slice::from_ref(&service), wall);
    metrics.config_hash("0123456789abcdef");
    let now = Moment(Duration::from_secs(100));
    metrics.view(&view(&service), now, wall);
    fill(&metrics, &service, now, wall);
    metrics.render()
}

pub(crate) fn fills_every_family() -> Outcome {
    let text = exposition();
    for family in catalogue::ALL {
        let line = format!("# HELP {} {}\n", family.name, family.help);
        crate::ensure(text.contains(&line), || {
            format!("{} is not shown", family.name)
        })?;
    }
    Ok(())
}

fn fill(metrics: &Metrics, service: &ServiceName, now: Moment, wall: SystemTime) {
    metrics
        .plane_sample(1, &sample(service), now)
        .expect("a sane sample");
    let usage = process::with_descriptors(std::process::id()).expect("we run");
    metrics.plane_process(1, usage);
    metrics.own_process(usage);
    for worker in [1, 2] {
        metrics.worker_process(WorkerId(worker), 1 << 20, 0.5);
    }
    metrics.config_reload(true, wall);
    let ended = Event::RolloutState {
        number: Generation(1),
        to: Generation(1),
        from: Generation(0),
        state: RolloutState::Completed,
        trigger: Trigger::Cli,
        elapsed: Duration::from_secs(9),
        message: String::new(),
    };
    let record = Record {
        service: service.clone(),
        event: ended,
    };
    metrics.record(&record, now);
}

fn view(service: &ServiceName) -> View {
    let now = Moment(Duration::from_secs(90));
    let generation = |number, role, weight, worker| GenerationView {
        number: Generation(number),
        role,
        release: String::new(),
        weight: Weight(weight),
        workers: vec![worker],
    };
    let rollout = RolloutView {
        number: Generation(2),
        from: Generation(1),
        to: Generation(2),
        release: String::new(),
        trigger: Trigger::Cli,
        reason: None,
        state: RolloutState::Running,
        batch: 1,
        batches: 2,
        step: Step::Retiring,
        progress: Weight(5_000),
        candidate_ready: 1,
        stable_ready: 0,
        retiring: 1,
        retiring_plain: 1,
        waiting_on: None,
        verdicts: Vec::new(),
        failure: None,
        requested_at: now,
        started_at: Some(now),
        ended_at: None,
        progressed_at: now,
        full_strength: false,
    };
    View {
        services: vec![ServiceView {
            service: service.clone(),
            stable: Generation(1),
            release: String::new(),
            wanted: 1,
            ready: 1,
            generations: vec![
                generation(1, Role::Stable, 0, worker(1, WorkerState::Draining)),
                generation(2, Role::Candidate, 10_000, worker(2, WorkerState::Ready)),
            ],
            rollout: Some(rollout),
            pending: None,
            waiting_on: None,
        }],
        stopping: false,
    }
}

fn worker(number: u32, state: WorkerState) -> WorkerView {
    let drains = state == WorkerState::Draining;
    let initial = InFlight {
        plain: 2,
        ..InFlight::default()
    };
    WorkerView {
        worker: WorkerId(number.into()),
        slot: Slot(number - 1),
        pid: Some(4000 + number),
        state,
        health: Health::Passing,
        in_flight: InFlight::default(),
        started_at: Moment::default(),
        drain_deadline: drains.then_some(Moment(Duration::from_secs(130))),
        drain_initial: drains.then_some(initial),
        failures: 0,
    }
}

fn sample(service: &ServiceName) -> Sample {
    let histogram = || Histogram {
        counts: vec![1; DURATION_BOUNDS.len() + 1],
        sum: 1_000_000,
    };
    let roles = [Some(Role::Stable), Some(Role::Candidate), None];
    let ended = roles.map(|role| EndedSample {
        role,
        code: if role.is_some() { 200 } else { 503 },
        method: MethodLabel::Get,
        count: 5,
    });
    let workers = [1, 2].map(|worker| WorkerSample {
        worker: WorkerId(worker),
        in_flight: InFlight {
            plain: 1,
            tunnel: 1,
            ..InFlight::default()
        },
        requests: 5,
        failures: 0,
        given_up: 0,
        idle_connections: 1,
        active_connections: 1,
        cut: InFlight::default(),
        drain_left: None,
        ejected: false,
    });
    let of_roles = roles.map(|role| RoleSample {
        role,
        duration: histogram(),
        in_flight: 2,
        request_bytes: 10,
        response_bytes: 10,
        retries: vec![(ProxyReason::Reset, 1)],
        errors: vec![(ProxyReason::Unavailable, 5)],
    });
    Sample {
        services: vec![ServiceSample {
            name: service.clone(),
            ended: ended.to_vec(),
            roles: of_roles.to_vec(),
            first_byte: histogram(),
            parked: 1,
            park_wait: histogram(),
            park_dropped: 1,
            ejections: 1,
        }],
        workers: workers.to_vec(),
        accepted: 3,
        unrouted: 1,
        abused: 1,
        shed: 1,
        exhausted: 1,
        connections: 2,
        accept_errors: vec![(AcceptError::Descriptors, 1)],
        limits: vec![(Limit::Head, 1)],
        log_dropped: 1,
    }
}
