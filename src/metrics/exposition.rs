//! The one collector: turns the state into families at each scrape.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::catalogue::{self as names, Family};
use super::events::Counts;
use super::labels::{self, LogStream, Restored};
use super::page::Page;
use super::sums::{Cut, PlaneSums, RoleSums, ServiceSums};
use super::{Shell, State};
use crate::link::message::{Limit, MethodLabel, ProxyReason};
use crate::rollout::{
    InFlight, Role, RolloutState, ServiceName, ServiceView, WorkerState, WorkerView,
};

/// Label values that are shown as 0 from the start, so that a first failure is an increase.
const FIRST_CODES: [u16; 5] = [200, 500, 502, 503, 504];
const FIRST_METHODS: [MethodLabel; 2] = [MethodLabel::Get, MethodLabel::Post];

/// The collector.
pub(super) struct Families {
    state: Arc<Mutex<State>>,
    descriptions: Vec<Desc>,
}

impl Families {
    pub(super) fn new(state: Arc<Mutex<State>>) -> Self {
        let describe = |family: &Family| {
            let labels = family
                .labels
                .iter()
                .map(|label| (*label).to_owned())
                .collect();
            Desc::new(
                family.name.to_owned(),
                family.help.to_owned(),
                labels,
                HashMap::new(),
            )
            .expect("the catalogue's names and labels are valid, which a test shows")
        };
        Self {
            state,
            descriptions: names::ALL.iter().map(describe).collect(),
        }
    }
}

impl Collector for Families {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = Page::default();
        page.shell(&state);
        page.processes(&state);
        page.planes(&state.planes.total());
        for service in state.planes.services() {
            let now = state.planes.now(service);
            let name: &str = &service.0;
            for role in labels::ROLES {
                let count = now.in_flight.get(&role).copied().unwrap_or(0);
                let labels = [name, labels::role(role)];
                page.set(&names::REQUESTS_IN_FLIGHT, &labels, count);
            }
            page.set(&names::QUEUE_DEPTH, &[name], now.parked);
            page.cut(name, state.planes.cut(service));
        }
        for (service, counts) in &state.events.services {
            page.events(service, counts);
        }
        for service in &state.live.view.services {
            page.service(&state, service);
        }
        page.families()
    }
}

impl Page {
    fn shell(&mut self, state: &State) {
        let build = &state.build;
        let labels = [
            &*build.version,
            &*build.revision,
            &*build.rustc,
            &*build.features,
        ];
        self.set(&names::BUILD, &labels, 1_u32);
        let Shell {
            log_lines_dropped,
            restored,
            reload_successful,
            reload_success_at,
            config_hash,
            own_process: _,
        } = &state.shell;
        self.set(&names::CONFIG_SUCCESSFUL, &[], *reload_successful);
        if let Some(at) = reload_success_at {
            self.set(&names::CONFIG_SUCCESS_AT, &[], timestamp(*at));
        }
        if let Some(hash) = config_hash {
            self.set(&names::CONFIG_HASH, &[hash], 1_u32);
        }
        for (stream, dropped) in LogStream::ALL.iter().zip(log_lines_dropped) {
            self.set(&names::LOG_DROPPED, &[stream.label()], *dropped);
        }
        for (what, times) in Restored::ALL.iter().zip(restored) {
            self.set(&names::RUNTIME_RESTORED, &[what.label()], *times);
        }
    }

    fn processes(&mut self, state: &State) {
        if let Some(own) = state.shell.own_process {
            self.set(&names::PROCESS_CPU, &[], own.cpu_seconds);
            self.set(&names::PROCESS_RSS, &[], own.resident_bytes);
            self.set(&names::PROCESS_VIRTUAL, &[], own.virtual_bytes);
            self.set(&names::PROCESS_FDS, &[], own.open_fds);
            self.set(&names::PROCESS_MAX_FDS, &[], own.max_fds);
            self.set(&names::PROCESS_THREADS, &[], own.threads);
            self.set(&names::PROCESS_START, &[], own.start_seconds);
        }
        let planes = state.planes.usage();
        self.set(&names::PLANES, &[], state.planes.count() as u64);
        self.set(&names::PLANE_STARTS, &[], state.planes.starts);
        self.set(&names::PLANE_REFUSED, &[], state.planes.refused);
        self.set(&names::PLANE_CPU, &[], planes.cpu_seconds);
        self.set(&names::PLANE_RSS, &[], planes.resident_bytes);
        self.set(&names::PLANE_FDS, &[], planes.open_fds);
        self.set(&names::CONNECTIONS, &[], state.planes.connections());
    }

    fn planes(&mut self, total: &PlaneSums) {
        self.set(&names::ACCEPTED, &[], total.accepted);
        self.set(&names::UNROUTED, &[], total.unrouted);
        self.set(&names::ABUSED, &[], total.abused);
        self.set(&names::SHED, &[], total.shed);
        self.set(&names::EXHAUSTED, &[], total.exhausted);
        self.set(&names::ACCESS_LOG_DROPPED, &[], total.log_dropped);
        for limit in Limit::ALL {
            let count = total.limits.get(&limit).copied().unwrap_or(0);
            self.set(&names::LIMITS, &[labels::limit(limit)], count);
        }
        for error in labels::ACCEPT_ERRORS {
            let count = total.accept_errors.get(&error).copied().unwrap_or(0);
            self.set(&names::ACCEPT_ERRORS, &[labels::accept_error(error)], count);
        }
        for (service, sums) in &total.services {
            self.traffic(&service.0, sums);
        }
    }

    fn traffic(&mut self, service: &str, sums: &ServiceSums) {
        for (ended, count) in with_zeros(sums) {
            let code = ended
                .code
                .map_or_else(|| "other".to_owned(), |code| code.to_string());
            let labels = [
                service,
                &code,
                labels::method(ended.method),
                labels::role(ended.role),
            ];
            self.set(&names::REQUESTS, &labels, count);
        }
        let none = RoleSums::default();
        for role in labels::ROLES {
            self.of_role(service, role, sums.roles.get(&role).unwrap_or(&none));
        }
        self.buckets(&names::FIRST_BYTE, &[service], &sums.first_byte);
        self.buckets(&names::QUEUE_WAIT, &[service], &sums.park_wait);
        self.set(&names::QUEUE_DROPPED, &[service], sums.park_dropped);
        self.set(&names::WORKER_EJECTIONS, &[service], sums.ejections);
    }

    fn of_role(&mut self, service: &str, role: Option<Role>, sums: &RoleSums) {
        let word = labels::role(role);
        self.buckets(&names::REQUEST_DURATION, &[service, word], &sums.duration);
        self.set(&names::REQUEST_BYTES, &[service, word], sums.request_bytes);
        self.set(
            &names::RESPONSE_BYTES,
            &[service, word],
            sums.response_bytes,
        );
        // What is shown as 0 from the start.
        let serves = matches!(role, Some(Role::Stable | Role::Candidate));
        for reason in labels::REASONS {
            let labels = [service, labels::reason(reason), word];
            let errors = sums.errors.get(&reason).copied();
            if serves || role.is_none() || errors.is_some() {
                self.set(&names::PROXY_ERRORS, &labels, errors.unwrap_or(0));
            }
            let retries = sums.retries.get(&reason).copied();
            let is_usual = serves && matches!(reason, ProxyReason::Connect | ProxyReason::Reset);
            if is_usual || retries.is_some() {
                self.set(&names::RETRIES, &labels, retries.unwrap_or(0));
            }
        }
    }

    fn cut(&mut self, service: &str, cut: Cut) {
        self.set(&names::DRAIN_CUT, &[service, "plain"], cut.plain);
        self.set(&names::DRAIN_CUT, &[service, "upload"], cut.upload);
        self.set(&names::DRAIN_CUT, &[service, "stream"], cut.stream);
        self.set(&names::DRAIN_CUT, &[service, "tunnel"], cut.tunnel);
    }

    fn events(&mut self, service: &ServiceName, counts: &Counts) {
        let service: &str = &service.0;
        self.set(&names::WORKER_STARTS, &[service], counts.starts);
        self.buckets(&names::WORKER_READY, &[service], &counts.ready);
        for (reason, count) in &counts.exits {
            self.set(&names::WORKER_EXITS, &[service, reason], *count);
        }
        for (reason, count) in &counts.restarts {
            self.set(&names::WORKER_RESTARTS, &[service, reason], *count);
        }
        for (outcome, count) in &counts.drains {
            self.set(&names::DRAINS, &[service, outcome], *count);
        }
        for (outcome, buckets) in &counts.drain_duration {
            self.buckets(&names::DRAIN_DURATION, &[service, outcome], buckets);
        }
        for ((trigger, result), count) in &counts.rollouts {
            self.set(&names::ROLLOUTS, &[service, trigger, result], *count);
        }
        for (result, buckets) in &counts.rollout_duration {
            self.buckets(&names::ROLLOUT_DURATION, &[service, result], buckets);
        }
    }

    fn service(&mut self, state: &State, view: &ServiceView) {
        let service: &str = &view.service.0;
        self.set(&names::WORKERS_WANTED, &[service], view.wanted);
        self.set(&names::WORKERS_SERVING, &[service], view.ready);
        self.rollout(state, view);
        let mut states = labels::WORKER_STATES.map(|state| (state, 0_u32));
        let mut slots = std::collections::BTreeSet::new();
        for generation in &view.generations {
            let number = generation.number.to_string();
            let labels = [service, &number, labels::role(Some(generation.role))];
            self.set(
                &names::GENERATION_WEIGHT,
                &labels,
                generation.weight.ratio(),
            );
            for worker in &generation.workers {
                for (state, count) in &mut states {
                    *count += u32::from(*state == worker.state);
                }
                // A slot belongs to one worker at most (none while it waits for a restart); two rows of one
                // slot would spoil the whole scrape.
                if worker.state != WorkerState::Backoff && slots.insert(worker.slot) {
                    self.worker(state, view, worker, &number);
                }
            }
        }
        for (state, count) in states {
            self.set(&names::WORKERS, &[service, state.word()], count);
        }
    }

    fn worker(&mut self, state: &State, view: &ServiceView, worker: &WorkerView, number: &str) {
        let service: &str = &view.service.0;
        let slot = worker.slot.to_string();
        let labels = [service, &*slot];
        self.set(&names::WORKER_INFO, &[service, &slot, number], 1_u32);
        let load = state.planes.load(worker.worker);
        self.set(&names::UPSTREAM_IN_FLIGHT, &labels, total(load.in_flight));
        self.set(&names::WORKER_EJECTED, &labels, load.ejected);
        self.set(
            &names::UPSTREAM_CONNECTIONS,
            &[service, &slot, "active"],
            load.active_connections,
        );
        self.set(
            &names::UPSTREAM_CONNECTIONS,
            &[service, &slot, "idle"],
            load.idle_connections,
        );
        if let Some(seconds) = state
            .live
            .cpu_seconds(worker.worker, &view.service, worker.slot)
        {
            self.set(&names::WORKER_CPU, &labels, seconds);
        }
        if let Some(bytes) = state.live.resident_bytes(worker.worker) {
            self.set(&names::WORKER_RSS, &labels, bytes);
        }
        if worker.state == WorkerState::Draining {
            self.set(&names::DRAIN_IN_FLIGHT, &labels, total(load.in_flight));
            self.set(&names::DRAIN_TUNNELS, &labels, load.in_flight.tunnel);
            let initial = worker.drain_initial.unwrap_or_default();
            self.set(&names::DRAIN_INITIAL, &labels, total(initial));
            if let Some(deadline) = state.live.drain_deadline(worker.worker) {
                self.set(&names::DRAIN_DEADLINE, &labels, deadline);
            }
        }
    }

    fn rollout(&mut self, state: &State, view: &ServiceView) {
        let service: &str = &view.service.0;
        let rollout = view.rollout.as_ref();
        let is_in = |states: &[RolloutState]| rollout.is_some_and(|r| states.contains(&r.state));
        let running = [
            RolloutState::Running,
            RolloutState::Paused,
            RolloutState::RollingBack,
        ];
        self.set(&names::ROLLOUT_IN_PROGRESS, &[service], is_in(&running));
        self.set(
            &names::ROLLOUT_PAUSED,
            &[service],
            is_in(&[RolloutState::Paused]),
        );
        let progress = rollout.map_or(0.0, |rollout| rollout.progress.ratio());
        self.set(&names::ROLLOUT_PROGRESS, &[service], progress);
        let counts = rollout.map_or([0; 3], |r| [r.candidate_ready, r.stable_ready, r.retiring]);
        let states = ["candidate_ready", "stable_ready", "retiring"];
        for (state, count) in states.into_iter().zip(counts) {
            self.set(&names::ROLLOUT_WORKERS, &[service, state], count);
        }
        if let Some(times) = state.live.rollouts.get(&view.service) {
            self.set(&names::ROLLOUT_START_AT, &[service], times.start.seconds);
            self.set(&names::ROLLOUT_END_AT, &[service], times.end.seconds);
            self.set(
                &names::ROLLOUT_PROGRESS_AT,
                &[service],
                times.progress.seconds,
            );
        }
    }
}

/// Requests that ended, with zeros for the labels that everybody will meet.
fn with_zeros(sums: &ServiceSums) -> std::collections::BTreeMap<super::sums::Ended, u64> {
    let mut shown = sums.ended.clone();
    for method in FIRST_METHODS {
        for role in [Some(Role::Stable), Some(Role::Candidate), None] {
            for code in FIRST_CODES {
                // Without a worker, the proxy itself says that nobody is there.
                if role.is_some() || code == 503 {
                    let code = Some(code);
                    shown
                        .entry(super::sums::Ended { role, code, method })
                        .or_insert(0);
                }
            }
        }
    }
    shown
}

fn timestamp(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// Hostile planes may send what `InFlight::total` cannot add.
fn total(in_flight: InFlight) -> u64 {
    let InFlight {
        plain,
        upload,
        stream,
        tunnel,
    } = in_flight;
    [plain, upload, stream, tunnel].map(u64::from).iter().sum()
}
