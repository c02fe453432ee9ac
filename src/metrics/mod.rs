//! Metrics: names, help texts, sums over planes, and the Prometheus text that shows them.
//!
//! It owns every number that is exported and the two kinds of sum that outlive what they count: what
//! planes reported (`ledger`, so that counters go on when a plane dies) and what the core's records
//! told (`events`). The supervisor's loop is its only caller: it hands in samples, records and views,
//! and asks for the text. It must never be a global, read a clock, or let a plane's words through
//! unchecked.
//!
//! There is one registry with one collector; [`catalogue`] lists its families, and
//! `tests/dashboards.rs` holds the dashboards to that list.

mod accounts;
pub mod catalogue;
mod events;
mod exposition;
mod histogram;
mod labels;
mod ledger;
mod live;
mod page;
pub mod process;
mod sums;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use prometheus::{Registry, TextEncoder};

pub use self::accounts::LedgerCounts;
pub use self::labels::{LogStream, Restored};
pub use self::ledger::Load;
pub use self::sums::Refused;
use crate::link::message::Sample;
use crate::rollout::{
    Event, Generation, Moment, Outcomes, Record, ServiceName, Slot, View, WorkerId,
};

/// What was built, for `remuda_build_info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The package's version.
    pub version: String,
    /// The source's revision.
    pub revision: String,
    /// The compiler.
    pub rustc: String,
    /// Cargo features, joined by commas.
    pub features: String,
}

impl Build {
    /// This build, as `build.rs` saw it.
    #[must_use]
    pub fn current() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: env!("REMUDA_REVISION").to_owned(),
            rustc: env!("REMUDA_RUSTC").to_owned(),
            features: String::new(),
        }
    }
}

/// The handle of the supervisor's loop. Clones share everything.
#[derive(Debug, Clone)]
pub struct Metrics {
    state: Arc<Mutex<State>>,
    registry: Registry,
}

/// All numbers. The collector reads it, `Metrics` writes it.
#[derive(Debug)]
struct State {
    build: Build,
    planes: ledger::Planes,
    events: events::Events,
    live: live::Live,
    shell: Shell,
}

/// Numbers that the loop itself reports.
#[derive(Debug, Default)]
struct Shell {
    log_lines_dropped: [u64; LogStream::ALL.len()],
    restored: [u64; Restored::ALL.len()],
    reload_successful: bool,
    reload_success_at: Option<SystemTime>,
    config_hash: Option<String>,
    own_process: Option<process::Usage>,
}

impl Metrics {
    /// An empty registry that knows `services`: their counters are shown as 0 from the start.
    ///
    /// The config that was read at start counts as a successful load at `started`.
    #[must_use]
    pub fn new(build: Build, services: &[ServiceName], started: SystemTime) -> Self {
        let state = State {
            build,
            planes: ledger::Planes::new(services),
            events: events::Events::new(services),
            live: live::Live::default(),
            shell: Shell {
                reload_successful: true,
                reload_success_at: Some(started),
                ..Shell::default()
            },
        };
        let state = Arc::new(Mutex::new(state));
        let registry = Registry::new();
        registry
            .register(Box::new(exposition::Families::new(Arc::clone(&state))))
            .expect("the catalogue has no name twice, which a test shows");
        Self { state, registry }
    }

    /// A worker is about to be spawned; to be called before a table that names it is published.
    pub fn worker_is(
        &self,
        worker: WorkerId,
        service: &ServiceName,
        slot: Slot,
        generation: Generation,
    ) {
        self.state()
            .planes
            .worker_is(worker, service, slot, generation);
    }

    /// A live plane's sums, absolute since it began. `now` turns the time left of its drains into
    /// deadlines.
    ///
    /// # Errors
    /// A sample that goes backwards, is malformed, names an unknown service or comes from a plane that
    /// is gone is refused whole: nothing of it is counted but the refusal.
    pub fn plane_sample(
        &self,
        incarnation: u64,
        sample: &Sample,
        now: Moment,
    ) -> Result<(), Refused> {
        self.state().planes.sample(incarnation, sample, now)
    }

    /// A plane's process was reaped: its last sums stay, what it had in flight is gone.
    pub fn plane_gone(&self, incarnation: u64) {
        self.state().planes.gone(incarnation);
    }

    /// What a plane's process uses.
    pub fn plane_process(&self, incarnation: u64, usage: process::Usage) {
        self.state().planes.process(incarnation, usage);
    }

    /// A transition of the core.
    pub fn record(&self, record: &Record, now: Moment) {
        let state = &mut *self.state();
        let was_cut = match &record.event {
            Event::WorkerDrained { worker, .. } => state.planes.was_cut(*worker),
            _ => false,
        };
        state.events.record(record, was_cut, now);
    }

    /// What the core looks like: the source of every live gauge. To be called after each step, at least
    /// before each [`render`](Self::render); what is not in it any more loses its gauges.
    pub fn view(&self, view: &View, now: Moment, wall: SystemTime) {
        let state = &mut *self.state();
        state.live.view(view, now, wall);
        state.planes.keep_only(view);
        state.events.keep_only(view);
    }

    /// What a worker's process uses: resident bytes and processor seconds since it began.
    pub fn worker_process(&self, worker: WorkerId, resident_bytes: u64, cpu_seconds: f64) {
        let state = &mut *self.state();
        if let Some(place) = state.planes.place(worker).cloned() {
            state
                .live
                .worker_process(worker, place, resident_bytes, cpu_seconds);
        }
    }

    /// What our own process uses.
    pub fn own_process(&self, usage: process::Usage) {
        self.state().shell.own_process = Some(usage);
    }

    /// Lines of `stream` that were dropped since the start.
    pub fn log_lines_dropped(&self, stream: LogStream, total: u64) {
        let dropped = &mut self.state().shell.log_lines_dropped[stream as usize];
        *dropped = total.max(*dropped);
    }

    /// Something of ours was gone and was made again.
    pub fn restored(&self, what: Restored) {
        self.state().shell.restored[what as usize] += 1;
    }

    /// A reload of the config ended.
    pub fn config_reload(&self, success: bool, at: SystemTime) {
        let shell = &mut self.state().shell;
        shell.reload_successful = success;
        if success {
            shell.reload_success_at = Some(at);
        }
    }

    /// Whether all that was last read of the config and its certificates is in use.
    pub fn config_is_read(&self, is_read: bool) {
        self.state().shell.reload_successful = is_read;
    }

    /// A digest of the config in use, so that hosts can be compared.
    pub fn config_hash(&self, hash: &str) {
        self.state().shell.config_hash = Some(hash.to_owned());
    }

    /// The exposition in Prometheus text format 0.0.4
    /// (`Content-Type: text/plain; version=0.0.4; charset=utf-8`).
    #[must_use]
    pub fn render(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_else(|problem| format!("# the exposition failed: {problem}\n"))
    }

    /// Requests and failures of a generation's workers over all planes, dead ones included
    /// (`Fact::Traffic`). Never decreasing.
    #[must_use]
    pub fn outcomes(&self, service: &ServiceName, generation: Generation) -> Outcomes {
        self.state().planes.outcomes(service, generation)
    }

    /// A service's requests that wait for a worker, over all live planes.
    #[must_use]
    pub fn parked(&self, service: &ServiceName) -> u32 {
        self.state().planes.now(service).parked
    }

    /// Whether a live plane gives this worker no requests for a while, because it failed.
    #[must_use]
    pub fn is_ejected(&self, worker: WorkerId) -> bool {
        self.state().planes.load(worker).ejected
    }

    /// A service's accounts so far; see [`LedgerCounts::since`].
    #[must_use]
    pub fn ledger(&self, service: &ServiceName) -> LedgerCounts {
        self.state().planes.ledger(service)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each method leaves whole numbers behind, so a panic elsewhere poisons nothing of meaning.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
