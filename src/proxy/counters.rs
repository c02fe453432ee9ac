//! A loop's counters: written by that loop alone, read when a sample is asked for.
//!
//! A request takes its loop's lock twice, uncontended but for the moment of a sample; nothing that
//! another loop writes is touched. What is in flight is in words of its own, so that its way from one
//! worker to another takes no lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;

use crate::link::message::{
    AcceptError, DURATION_BOUNDS, EndedSample, Histogram, Limit, MethodLabel, ProxyReason,
    RoleSample, ServiceSample,
};
use crate::rollout::{Role, ServiceName};

/// One loop's counters.
#[derive(Debug, Default)]
pub(super) struct LoopCounters {
    pub(super) accepted: AtomicU64,
    /// Requests that are for no service.
    pub(super) unrouted: AtomicU64,
    abused: AtomicU64,
    shed: AtomicU64,
    exhausted: AtomicU64,
    pub(super) connections: AtomicU32,
    /// Accept tasks that still run.
    pub(super) accepting: AtomicU32,
    accept_errors: Mutex<BTreeMap<AcceptError, u64>>,
    /// As in [`Limit::ALL`].
    limits: [AtomicU64; Limit::ALL.len()],
    services: Mutex<Vec<(ServiceName, Arc<ServiceCounters>)>>,
}

impl LoopCounters {
    /// A service's counters, which outlive every table.
    pub(super) fn service(&self, name: &ServiceName) -> Arc<ServiceCounters> {
        let mut services = lock(&self.services);
        if let Some((_, counters)) = services.iter().find(|(known, _)| known == name) {
            return Arc::clone(counters);
        }
        let counters = Arc::<ServiceCounters>::default();
        services.push((name.clone(), Arc::clone(&counters)));
        counters
    }

    /// An accept failed.
    pub(super) fn accept_failed(&self, error: AcceptError) {
        *lock(&self.accept_errors).entry(error).or_default() += 1;
    }

    /// A client has reached a limit.
    pub(super) fn reached(&self, limit: Limit) {
        self.limits[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A connection was ended because it only costs.
    pub(super) fn abused(&self) {
        self.abused.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection at rest made room for another.
    pub(super) fn shed(&self) {
        self.shed.fetch_add(1, Ordering::Relaxed);
    }

    /// A worker could not be reached for want of what is ours.
    pub(super) fn exhausted(&self) {
        self.exhausted.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds this loop's part.
    pub(super) fn add_to(&self, sums: &mut Sums) {
        sums.accepted += self.accepted.load(Ordering::Relaxed);
        sums.unrouted += self.unrouted.load(Ordering::Relaxed);
        sums.abused += self.abused.load(Ordering::Relaxed);
        sums.shed += self.shed.load(Ordering::Relaxed);
        sums.exhausted += self.exhausted.load(Ordering::Relaxed);
        sums.connections += self.connections.load(Ordering::Relaxed);
        for (error, count) in lock(&self.accept_errors).iter() {
            *sums.accept_errors.entry(*error).or_default() += count;
        }
        for limit in Limit::ALL {
            let count = self.limits[limit as usize].load(Ordering::Relaxed);
            if count > 0 {
                *sums.limits.entry(limit).or_default() += count;
            }
        }
        for (name, counters) in lock(&self.services).iter() {
            let known = sums.services.iter().position(|(known, _)| known == name);
            let at = known.unwrap_or_else(|| {
                sums.services.push((name.clone(), ServiceSums::default()));
                sums.services.len() - 1
            });
            counters.add_to(&mut sums.services[at].1);
        }
    }
}

/// Sums over loops.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) accepted: u64,
    pub(super) unrouted: u64,
    pub(super) abused: u64,
    pub(super) shed: u64,
    pub(super) exhausted: u64,
    pub(super) connections: u32,
    pub(super) accept_errors: BTreeMap<AcceptError, u64>,
    pub(super) limits: BTreeMap<Limit, u64>,
    pub(super) services: Vec<(ServiceName, ServiceSums)>,
}

/// One service's counters in one loop.
#[derive(Debug, Default)]
pub(super) struct ServiceCounters {
    tally: Mutex<Tally>,
    /// By [`at`]. Only its loop writes, so that a load and a store are enough.
    in_flight: [AtomicU32; ROLES.len()],
}

impl ServiceCounters {
    /// The counters, to be let go at once.
    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(&self.tally)
    }

    /// A request is now at a worker of this role, or waits for one.
    pub(super) fn enters(&self, role: Option<Role>) {
        let count = &self.in_flight[at(role)];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// It is so no more. If it ended, that is to be counted before: who sees it gone sees that too.
    pub(super) fn leaves(&self, role: Option<Role>) {
        let count = &self.in_flight[at(role)];
        let rest = count.load(Ordering::Relaxed).saturating_sub(1);
        count.store(rest, Ordering::Release);
    }

    fn add_to(&self, sums: &mut ServiceSums) {
        // The words are read one after another, so that a request on its way may be seen twice or not at
        // all for a moment.
        for (sum, count) in sums.in_flight.iter_mut().zip(&self.in_flight) {
            *sum += count.load(Ordering::Acquire);
        }
        sums.tally.add(&self.tally());
    }
}

/// One service's counters, of all loops.
#[derive(Debug, Default)]
pub(super) struct ServiceSums {
    tally: Tally,
    in_flight: [u32; ROLES.len()],
}

/// Every label of a role: none has what never reached a worker.
const ROLES: [Option<Role>; 5] = [
    None,
    Some(Role::Stable),
    Some(Role::Candidate),
    Some(Role::Parked),
    Some(Role::Retiring),
];

/// A role's place in [`ROLES`].
fn at(role: Option<Role>) -> usize {
    match role {
        None => 0,
        Some(Role::Stable) => 1,
        Some(Role::Candidate) => 2,
        Some(Role::Parked) => 3,
        Some(Role::Retiring) => 4,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counters are whole after each single step, so a panic elsewhere does not spoil them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The numbers themselves.
#[derive(Debug, Default)]
pub(super) struct Tally {
    ended: HashMap<(Option<Role>, u16, MethodLabel), u64, foldhash::fast::RandomState>,
    /// By [`at`].
    roles: [RoleTally; ROLES.len()],
    pub(super) first_byte: Times,
    pub(super) parked: u32,
    pub(super) park_wait: Times,
    pub(super) park_dropped: u64,
}

/// Those of one role.
#[derive(Debug, Default, PartialEq)]
struct RoleTally {
    duration: Times,
    request_bytes: u64,
    response_bytes: u64,
    retries: BTreeMap<ProxyReason, u64>,
    errors: BTreeMap<ProxyReason, u64>,
}

impl Tally {
    /// A request ended.
    pub(super) fn ended(
        &mut self,
        role: Option<Role>,
        code: u16,
        method: MethodLabel,
        took: Duration,
    ) {
        *self.ended.entry((role, code, method)).or_default() += 1;
        self.roles[at(role)].duration.observe(took);
    }

    /// Bytes of bodies, from the client and to it.
    pub(super) fn moved(&mut self, role: Option<Role>, bytes_in: u64, bytes_out: u64) {
        let of_role = &mut self.roles[at(role)];
        of_role.request_bytes += bytes_in;
        of_role.response_bytes += bytes_out;
    }

    /// A further try, after one at a worker of this role.
    pub(super) fn retried(&mut self, role: Option<Role>, reason: ProxyReason) {
        let retries = &mut self.roles[at(role)].retries;
        *retries.entry(reason).or_default() += 1;
    }

    /// An answer of ours, or a cut one.
    pub(super) fn failed(&mut self, role: Option<Role>, reason: ProxyReason) {
        let errors = &mut self.roles[at(role)].errors;
        *errors.entry(reason).or_default() += 1;
    }

    fn add(&mut self, other: &Self) {
        for (key, count) in &other.ended {
            *self.ended.entry(*key).or_default() += count;
        }
        for (mine, theirs) in self.roles.iter_mut().zip(&other.roles) {
            mine.add(theirs);
        }
        self.first_byte.add(&other.first_byte);
        self.park_wait.add(&other.park_wait);
        self.parked += other.parked;
        self.park_dropped += other.park_dropped;
    }
}

impl RoleTally {
    fn add(&mut self, other: &Self) {
        self.duration.add(&other.duration);
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
        for (reason, count) in &other.retries {
            *self.retries.entry(*reason).or_default() += count;
        }
        for (reason, count) in &other.errors {
            *self.errors.entry(*reason).or_default() += count;
        }
    }

    fn into_sample(self, role: Option<Role>, in_flight: u32) -> RoleSample {
        RoleSample {
            role,
            duration: self.duration.into_histogram(),
            in_flight,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            retries: self.retries.into_iter().collect(),
            errors: self.errors.into_iter().collect(),
        }
    }
}

impl ServiceSums {
    /// As it is sent, in an order that does not depend on chance.
    pub(super) fn into_sample(self, name: ServiceName) -> ServiceSample {
        let Self { tally, in_flight } = self;
        let roles = ROLES.into_iter().zip(tally.roles).zip(in_flight);
        let roles = roles
            .filter(|((_, of_role), in_flight)| *in_flight > 0 || *of_role != RoleTally::default())
            .map(|((role, of_role), in_flight)| of_role.into_sample(role, in_flight));
        let mut ended: Vec<_> = tally
            .ended
            .into_iter()
            .map(|((role, code, method), count)| EndedSample {
                role,
                code,
                method,
                count,
            })
            .collect();
        ended.sort_by_key(|sample| (sample.role, sample.code, sample.method));
        ServiceSample {
            name,
            ended,
            roles: roles.collect(),
            first_byte: tally.first_byte.into_histogram(),
            parked: tally.parked,
            park_wait: tally.park_wait.into_histogram(),
            park_dropped: tally.park_dropped,
            // Known to the main task alone.
            ejections: 0,
        }
    }
}

/// A histogram of [`DURATION_BOUNDS`].
#[derive(Debug, Default, PartialEq)]
pub(super) struct Times {
    counts: [u64; DURATION_BOUNDS.len() + 1],
    sum: u64,
}

impl Times {
    /// One observation.
    pub(super) fn observe(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let at = DURATION_BOUNDS.partition_point(|bound| *bound < micros);
        self.counts[at] += 1;
        self.sum = self.sum.saturating_add(micros);
    }

    fn add(&mut self, other: &Self) {
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    fn into_histogram(self) -> Histogram {
        Histogram {
            counts: self.counts.to_vec(),
            sum: self.sum,
        }
    }
}

/// The label of a method.
pub(super) fn method_label(method: &Method) -> MethodLabel {
    match *method {
        Method::GET => MethodLabel::Get,
        Method::HEAD => MethodLabel::Head,
        Method::POST => MethodLabel::Post,
        Method::PUT => MethodLabel::Put,
        Method::DELETE => MethodLabel::Delete,
        Method::OPTIONS => MethodLabel::Options,
        Method::PATCH => MethodLabel::Patch,
        Method::TRACE => MethodLabel::Trace,
        Method::CONNECT => MethodLabel::Connect,
        _ => MethodLabel::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_at_a_bound_belongs_to_it() {
        let mut times = Times::default();
        times.observe(Duration::from_micros(500));
        times.observe(Duration::from_micros(501));
        times.observe(Duration::from_secs(100));
        assert_eq!((times.counts[0], times.counts[1]), (1, 1));
        assert_eq!(times.counts[DURATION_BOUNDS.len()], 1);
    }
}
