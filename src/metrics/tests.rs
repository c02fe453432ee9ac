use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::link::message::{
    DURATION_BOUNDS, EndedSample, Histogram, MethodLabel, ProxyReason, RoleSample, ServiceSample,
    WorkerSample,
};
use crate::rollout::{
    Event, Exit, GenerationView, Health, InFlight, Role, ServiceView, Weight, WorkerFailure,
    WorkerState, WorkerView,
};

fn shop() -> ServiceName {
    ServiceName::new("shop")
}

fn metrics() -> Metrics {
    let metrics = Metrics::new(Build::current(), &[shop()], UNIX_EPOCH);
    metrics.worker_is(WorkerId(1), &shop(), Slot(0), Generation(1));
    metrics
}

fn at(seconds: u64) -> Moment {
    Moment(Duration::from_secs(seconds))
}

fn plain(plain: u32) -> InFlight {
    InFlight {
        plain,
        ..InFlight::default()
    }
}

/// `ended` requests answered by the stable generation's worker 1, `in_flight` more on it.
fn sample(ended: u64, in_flight: u32) -> Sample {
    let mut counts = vec![0; DURATION_BOUNDS.len() + 1];
    counts[0] = ended;
    let duration = Histogram {
        counts,
        sum: ended * 100,
    };
    Sample {
        services: vec![ServiceSample {
            name: shop(),
            ended: vec![EndedSample {
                role: Some(Role::Stable),
                code: 200,
                method: MethodLabel::Get,
                count: ended,
            }],
            roles: vec![RoleSample {
                role: Some(Role::Stable),
                duration,
                in_flight,
                request_bytes: ended,
                response_bytes: ended * 10,
                retries: Vec::new(),
                errors: vec![(ProxyReason::ClientGone, 0), (ProxyReason::Connect, 0)],
            }],
            first_byte: Histogram::default(),
            parked: 0,
            park_wait: Histogram::default(),
            park_dropped: 0,
            ejections: ended,
        }],
        workers: vec![WorkerSample {
            worker: WorkerId(1),
            in_flight: plain(in_flight),
            requests: ended,
            failures: 0,
            given_up: 0,
            idle_connections: 1,
            active_connections: in_flight,
            cut: InFlight::default(),
            drain_left: (in_flight > 0).then_some(Duration::from_secs(5)),
            ejected: in_flight > 0,
        }],
        accepted: ended,
        unrouted: ended,
        abused: ended,
        shed: ended,
        exhausted: ended,
        connections: in_flight,
        accept_errors: Vec::new(),
        limits: Vec::new(),
        log_dropped: ended,
    }
}

fn worker(number: u64, slot: u32, state: WorkerState) -> WorkerView {
    let drains = state == WorkerState::Draining;
    WorkerView {
        worker: WorkerId(number),
        slot: Slot(slot),
        pid: Some(100),
        state,
        health: Health::Passing,
        in_flight: InFlight::default(),
        started_at: at(0),
        drain_deadline: drains.then_some(at(40)),
        drain_initial: drains.then_some(plain(7)),
        failures: 0,
    }
}

fn view(workers: Vec<WorkerView>) -> View {
    let generations = if workers.is_empty() {
        Vec::new()
    } else {
        vec![GenerationView {
            number: Generation(1),
            role: Role::Stable,
            release: String::new(),
            weight: Weight::FULL,
            workers,
        }]
    };
    View {
        services: vec![ServiceView {
            service: shop(),
            stable: Generation(1),
            release: String::new(),
            wanted: 2,
            ready: 1,
            generations,
            rollout: None,
            pending: None,
            waiting_on: None,
        }],
        stopping: false,
    }
}

/// The value of the line that begins with `series`.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.render();
    let line = text.lines().find(|line| {
        line.strip_prefix(series)
            .is_some_and(|rest| rest.starts_with(' '))
    });
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
}

const OK: &str =
    r#"remuda_http_requests_total{service="shop",code="200",method="GET",role="stable"}"#;

const IN_FLIGHT: &str = r#"remuda_http_requests_in_flight{service="shop",role="stable"}"#;

fn total(metrics: &Metrics) -> u64 {
    metrics.outcomes(&shop(), Generation(1)).requests
}

#[test]
fn counters_go_on_when_a_plane_dies_and_another_begins() {
    let metrics = metrics();
    metrics
        .plane_sample(1, &sample(10, 3), at(1))
        .expect("sane");
    metrics.plane_sample(2, &sample(4, 1), at(1)).expect("sane");
    assert_eq!(value(&metrics, OK), Some(14.0));
    assert_eq!(
        (total(&metrics), value(&metrics, IN_FLIGHT)),
        (14, Some(4.0))
    );
    metrics.plane_gone(1);
    assert_eq!(value(&metrics, OK), Some(14.0));
    assert_eq!(
        (total(&metrics), value(&metrics, IN_FLIGHT)),
        (14, Some(1.0))
    );
    metrics.plane_sample(3, &sample(1, 0), at(2)).expect("sane");
    assert_eq!(value(&metrics, OK), Some(15.0));
    assert_eq!(
        value(
            &metrics,
            r#"remuda_http_request_duration_seconds_count{service="shop",role="stable"}"#
        ),
        Some(15.0)
    );
    assert_eq!(
        value(&metrics, "remuda_client_connections_accepted_total"),
        Some(15.0)
    );
    assert_eq!(
        value(&metrics, "remuda_http_unrouted_requests_total"),
        Some(15.0)
    );
    assert_eq!(
        value(&metrics, "remuda_client_connections_abused_total"),
        Some(15.0)
    );
    assert_eq!(
        value(&metrics, "remuda_client_connections_shed_total"),
        Some(15.0)
    );
    assert_eq!(
        value(&metrics, "remuda_access_log_dropped_lines_total"),
        Some(15.0)
    );
    assert_eq!(total(&metrics), 15);
    assert_eq!(metrics.ledger(&shop()).requests, 15);
}

#[test]
fn a_sample_that_goes_backwards_is_refused_whole() {
    let metrics = metrics();
    metrics
        .plane_sample(1, &sample(10, 0), at(1))
        .expect("sane");
    assert_eq!(
        metrics.plane_sample(1, &sample(9, 5), at(2)),
        Err(Refused::Backwards)
    );
    let mut only_worker = sample(11, 0);
    only_worker.workers[0].requests = 9;
    assert_eq!(
        metrics.plane_sample(1, &only_worker, at(2)),
        Err(Refused::Backwards)
    );
    let mut forgets = sample(11, 0);
    forgets.services.clear();
    assert_eq!(
        metrics.plane_sample(1, &forgets, at(2)),
        Err(Refused::Backwards)
    );
    assert_eq!(value(&metrics, OK), Some(10.0));
    assert_eq!(value(&metrics, IN_FLIGHT), Some(0.0));
    assert_eq!(
        value(&metrics, "remuda_plane_samples_refused_total"),
        Some(3.0)
    );
    metrics
        .plane_sample(1, &sample(10, 0), at(2))
        .expect("the same again is no step back");
}

#[test]
fn t17_strange_samples_are_refused_and_make_no_series() {
    let metrics = metrics();
    let mut stranger = sample(1, 0);
    stranger.services[0].name = ServiceName::new("other");
    assert_eq!(
        metrics.plane_sample(1, &stranger, at(1)),
        Err(Refused::UnknownService)
    );
    let mut wide = sample(1, 0);
    wide.services[0].first_byte.counts = vec![0; 3];
    assert_eq!(
        metrics.plane_sample(1, &wide, at(1)),
        Err(Refused::Malformed)
    );

    let mut sent = sample(1, u32::MAX);
    sent.workers.push(WorkerSample {
        worker: WorkerId(999),
        ..sent.workers[0].clone()
    });
    sent.workers[0].in_flight = InFlight {
        plain: u32::MAX,
        upload: u32::MAX,
        stream: u32::MAX,
        tunnel: u32::MAX,
    };
    sent.services[0].ended.push(EndedSample {
        role: None,
        code: 999,
        method: MethodLabel::Other,
        count: u64::MAX,
    });
    metrics
        .plane_sample(1, &sent, at(1))
        .expect("strange, but within the rules");
    metrics
        .plane_sample(2, &sent, at(1))
        .expect("strange, but within the rules");
    metrics.view(
        &view(vec![worker(1, 0, WorkerState::Ready)]),
        at(1),
        UNIX_EPOCH,
    );
    let text = metrics.render();
    // The revision of this build may have such digits.
    let mut series = text.lines().filter(|line| !line.contains("build_info"));
    assert!(!series.any(|line| line.contains("999")), "{text}");
    assert!(text.contains(r#"code="other",method="other",role="none""#));
    assert_eq!(metrics.state().planes.load(WorkerId(999)), Load::default());
}

#[test]
fn a_plane_that_is_gone_is_not_heard_again() {
    let metrics = metrics();
    metrics
        .plane_sample(1, &sample(10, 3), at(1))
        .expect("sane");
    metrics.plane_gone(1);
    metrics.plane_gone(1);
    assert_eq!(
        metrics.plane_sample(1, &sample(12, 3), at(2)),
        Err(Refused::Gone)
    );
    assert_eq!(total(&metrics), 10);
    assert_eq!(value(&metrics, "remuda_planes"), Some(0.0));
}

#[test]
fn a_worker_that_left_keeps_its_generations_totals_and_loses_its_gauges() {
    let metrics = metrics();
    let mut cut = sample(10, 3);
    cut.workers[0].cut.tunnel = 2;
    metrics.plane_sample(1, &cut, at(1)).expect("sane");
    metrics.view(
        &view(vec![worker(1, 0, WorkerState::Draining)]),
        at(10),
        UNIX_EPOCH,
    );
    let slot = r#"{service="shop",slot="0"}"#;
    let series = |name: &str| value(&metrics, &format!("{name}{slot}"));
    assert_eq!(series("remuda_drain_in_flight_requests"), Some(3.0));
    assert_eq!(series("remuda_drain_initial_in_flight_requests"), Some(7.0));
    assert_eq!(
        series("remuda_drain_deadline_timestamp_seconds"),
        Some(30.0)
    );
    assert_eq!(
        metrics.state().planes.load(WorkerId(1)).deadline,
        Some(at(6))
    );

    // It left the table, then the view: two steps, the total stays.
    cut.workers.clear();
    cut.services[0].roles[0].in_flight = 0;
    metrics.plane_sample(1, &cut, at(11)).expect("sane");
    assert_eq!(series("remuda_drain_in_flight_requests"), Some(0.0));
    metrics.view(&view(Vec::new()), at(12), UNIX_EPOCH);
    assert_eq!(series("remuda_drain_in_flight_requests"), None);
    assert_eq!(series("remuda_upstream_requests_in_flight"), None);
    assert!(!metrics.render().contains("generation="));
    assert_eq!(total(&metrics), 10);
    assert_eq!(metrics.ledger(&shop()).cut, [0, 0, 0, 2]);
    // Late words about it change nothing.
    metrics
        .plane_sample(1, &sample(20, 0), at(13))
        .expect("sane");
    assert_eq!(total(&metrics), 10);
    metrics.plane_gone(1);
    assert_eq!(total(&metrics), 10);
}

#[test]
fn a_slots_processor_time_goes_on_with_its_next_worker() {
    let metrics = metrics();
    let cpu = r#"remuda_worker_cpu_seconds_total{service="shop",slot="0"}"#;
    metrics.view(
        &view(vec![worker(1, 0, WorkerState::Ready)]),
        at(1),
        UNIX_EPOCH,
    );
    metrics.worker_process(WorkerId(1), 4096, 2.5);
    metrics.worker_process(WorkerId(77), 4096, 2.5);
    assert_eq!(value(&metrics, cpu), Some(2.5));
    metrics.worker_is(WorkerId(2), &shop(), Slot(0), Generation(1));
    metrics.view(
        &view(vec![worker(2, 0, WorkerState::Ready)]),
        at(2),
        UNIX_EPOCH,
    );
    assert_eq!(value(&metrics, cpu), Some(2.5));
    metrics.worker_process(WorkerId(2), 4096, 1.0);
    assert_eq!(value(&metrics, cpu), Some(3.5));
}

#[test]
fn records_count_starts_exits_restarts_and_drains() {
    let metrics = metrics();
    let (slot, generation) = (Slot(0), Generation(1));
    let tell = |event, now| {
        metrics.record(
            &Record {
                service: shop(),
                event,
            },
            at(now),
        );
    };
    let starting = |worker| Event::WorkerStarting {
        worker: WorkerId(worker),
        slot,
        generation,
    };
    let exit = Exit::Code(1);
    tell(starting(1), 0);
    metrics.view(
        &view(vec![worker(1, 0, WorkerState::Starting)]),
        at(0),
        UNIX_EPOCH,
    );
    tell(
        Event::WorkerFailed {
            worker: WorkerId(1),
            slot,
            generation,
            failure: WorkerFailure::Crashed { exit },
        },
        1,
    );
    // The clean-up of a crashed worker is not a second exit.
    let retired = |worker, exit| Event::WorkerRetired {
        worker: WorkerId(worker),
        slot,
        generation,
        exit: Some(exit),
    };
    tell(retired(1, exit), 2);
    tell(starting(2), 3);
    tell(
        Event::WorkerDraining {
            worker: WorkerId(2),
            slot,
            generation,
            in_flight: plain(1),
        },
        4,
    );
    tell(
        retired(
            2,
            Exit::Signal {
                signal: 9,
                core: false,
            },
        ),
        6,
    );
    let series =
        |name: &str, labels: &str| value(&metrics, &format!("{name}{{service=\"shop\"{labels}}}"));
    assert_eq!(series("remuda_worker_starts_total", ""), Some(2.0));
    assert_eq!(
        series("remuda_worker_exits_total", ",reason=\"crashed\""),
        Some(1.0)
    );
    assert_eq!(
        series("remuda_worker_exits_total", ",reason=\"asked\""),
        Some(0.0)
    );
    assert_eq!(
        series("remuda_worker_exits_total", ",reason=\"killed\""),
        Some(1.0)
    );
    assert_eq!(
        series("remuda_worker_restarts_total", ",reason=\"crashed\""),
        Some(1.0)
    );
    assert_eq!(
        series("remuda_drains_total", ",outcome=\"killed\""),
        Some(1.0)
    );
    assert_eq!(
        series("remuda_drain_duration_seconds_sum", ",outcome=\"killed\""),
        Some(2.0)
    );
}

#[test]
fn a_drain_that_planes_cut_is_not_clean_though_nothing_is_left() {
    let metrics = metrics();
    let mut cut = sample(10, 0);
    cut.workers[0].cut.plain = 1;
    metrics.plane_sample(1, &cut, at(1)).expect("sane");
    let event = Event::WorkerDrained {
        worker: WorkerId(1),
        slot: Slot(0),
        generation: Generation(1),
        took: Duration::from_secs(30),
        left: InFlight::default(),
    };
    let service = shop();
    metrics.record(&Record { service, event }, at(2));
    let drains = |outcome: &str| {
        let series = format!(r#"remuda_drains_total{{service="shop",outcome="{outcome}"}}"#);
        value(&metrics, &series)
    };
    assert_eq!(
        (drains("clean"), drains("deadline")),
        (Some(0.0), Some(1.0))
    );
}

#[test]
fn the_ledger_accounts_for_a_span() {
    let metrics = metrics();
    metrics
        .plane_sample(1, &sample(10, 0), at(1))
        .expect("sane");
    let begin = metrics.ledger(&shop());
    let mut later = sample(16, 0);
    later.services[0].roles[0].errors =
        vec![(ProxyReason::ClientGone, 2), (ProxyReason::Connect, 1)];
    later.services[0].roles[0].retries = vec![(ProxyReason::Reset, 3)];
    metrics.plane_sample(1, &later, at(2)).expect("sane");
    metrics.plane_gone(1);
    let span = metrics.ledger(&shop()).since(begin);
    assert_eq!((span.requests, span.by_role), (6, [6, 0, 0, 0]));
    assert_eq!(
        (span.retried, span.proxy_errors, span.client_gone),
        (3, 1, 2)
    );
    let candidate = Outcomes {
        requests: 2,
        failures: 0,
    };
    let shown = span.wire(candidate);
    assert_eq!((shown.candidate, shown.stable), (2, 4));
}

#[test]
fn what_is_said_of_requests_says_at_which_role() {
    for family in catalogue::ALL {
        let of_requests = family.name.starts_with("remuda_http_");
        // What is for no service has no generation either.
        if of_requests && *family != catalogue::UNROUTED {
            assert!(family.labels.contains(&"role"), "{}", family.name);
        }
    }
    let metrics = metrics();
    let series =
        |name: &str, labels: &str| value(&metrics, &format!("{name}{{service=\"shop\",{labels}}}"));
    let errors = "remuda_http_proxy_errors_total";
    let (reset, full) = (
        r#"reason="reset",role="candidate""#,
        r#"reason="queue_full",role="none""#,
    );
    assert_eq!(
        (series(errors, reset), series(errors, full)),
        (Some(0.0), Some(0.0)),
        "so that the first one is an increase"
    );
    let mut sent = sample(10, 3);
    let stable = sent.services[0].roles[0].clone();
    sent.services[0].roles.push(RoleSample {
        role: Some(Role::Candidate),
        in_flight: 2,
        request_bytes: 7,
        response_bytes: 8,
        retries: vec![(ProxyReason::Reset, 4)],
        errors: vec![(ProxyReason::Reset, 5)],
        ..stable.clone()
    });
    sent.services[0].roles.push(RoleSample {
        role: None,
        in_flight: 1,
        errors: vec![(ProxyReason::QueueFull, 6)],
        ..stable
    });
    metrics.plane_sample(1, &sent, at(1)).expect("sane");
    let of = |name: &str, role: &str| series(name, &format!("role=\"{role}\""));
    let in_flight = |role| of("remuda_http_requests_in_flight", role);
    assert_eq!(
        ["stable", "candidate", "none", "parked"].map(in_flight),
        [3.0, 2.0, 1.0, 0.0].map(Some)
    );
    assert_eq!(
        (
            of("remuda_http_request_bytes_total", "candidate"),
            of("remuda_http_response_bytes_total", "candidate"),
            of("remuda_http_response_bytes_total", "stable"),
        ),
        (Some(7.0), Some(8.0), Some(100.0))
    );
    assert_eq!(series("remuda_http_retries_total", reset), Some(4.0));
    assert_eq!(
        (series(errors, reset), series(errors, full)),
        (Some(5.0), Some(6.0))
    );
    metrics.plane_gone(1);
    assert_eq!(
        (in_flight("stable"), in_flight("none")),
        (Some(0.0), Some(0.0))
    );
    assert_eq!(series(errors, full), Some(6.0));
}

#[test]
fn the_catalogue_has_no_name_twice_and_names_units() {
    let mut names = std::collections::BTreeSet::new();
    for family in catalogue::ALL {
        assert!(names.insert(family.name), "{} twice", family.name);
        assert!(family.help.ends_with('.'), "{}", family.name);
        let is_total = family.name.ends_with("_total");
        assert_eq!(
            is_total,
            family.kind == catalogue::Kind::Counter,
            "{}",
            family.name
        );
        assert!(!family.labels.contains(&"pid"), "{}", family.name);
        if family.labels.contains(&"generation") {
            assert_eq!(family.kind, catalogue::Kind::Gauge, "{}", family.name);
        }
    }
}
