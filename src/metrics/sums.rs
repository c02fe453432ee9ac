//! What one plane counted, checked, and how such sums are added. Pure: no clock, no registry.

use std::collections::BTreeMap;

use super::histogram::Buckets;
use crate::link::message::{
    AcceptError, Limit, MethodLabel, ProxyReason, RoleSample, Sample, ServiceSample, WorkerSample,
};
use crate::rollout::{InFlight, Outcomes, Role, ServiceName};

/// Why a plane's sample was not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A sum is lower than in the sample before.
    Backwards,
    /// It names a service that we do not have.
    UnknownService,
    /// A histogram has another number of buckets than ours.
    Malformed,
    /// The plane was reaped before.
    Gone,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Backwards => "a sum of the data plane went backwards",
            Self::UnknownService => "the data plane reports a service that does not exist",
            Self::Malformed => "a histogram of the data plane has a wrong number of buckets",
            Self::Gone => "the data plane that reports is gone",
        })
    }
}

impl std::error::Error for Refused {}

/// Everything a plane counted but its workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PlaneSums {
    pub(super) services: BTreeMap<ServiceName, ServiceSums>,
    pub(super) accepted: u64,
    pub(super) unrouted: u64,
    pub(super) abused: u64,
    pub(super) shed: u64,
    pub(super) exhausted: u64,
    pub(super) accept_errors: BTreeMap<AcceptError, u64>,
    pub(super) limits: BTreeMap<Limit, u64>,
    pub(super) log_dropped: u64,
}

/// One service's counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ServiceSums {
    pub(super) ended: BTreeMap<Ended, u64>,
    pub(super) roles: BTreeMap<Option<Role>, RoleSums>,
    pub(super) first_byte: Buckets,
    pub(super) park_wait: Buckets,
    pub(super) park_dropped: u64,
    pub(super) ejections: u64,
}

/// Those of one role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RoleSums {
    pub(super) duration: Buckets,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
    pub(super) retries: BTreeMap<ProxyReason, u64>,
    pub(super) errors: BTreeMap<ProxyReason, u64>,
}

/// The labels of a request that ended. `code` is `None` outside 100 to 599, so that a worker's fancy
/// cannot make labels without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ended {
    pub(super) role: Option<Role>,
    pub(super) code: Option<u16>,
    pub(super) method: MethodLabel,
}

/// One worker's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct WorkerSums {
    pub(super) outcomes: Outcomes,
    pub(super) cut: Cut,
}

/// Requests cut by a drain's limit, by class. Wider than `InFlight`, because it is a sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) plain: u64,
    pub(super) upload: u64,
    pub(super) stream: u64,
    pub(super) tunnel: u64,
}

impl PlaneSums {
    /// Reads a sample's sums.
    pub(super) fn read(sample: &Sample) -> Result<Self, Refused> {
        let mut read = Self {
            accepted: sample.accepted,
            unrouted: sample.unrouted,
            abused: sample.abused,
            shed: sample.shed,
            exhausted: sample.exhausted,
            log_dropped: sample.log_dropped,
            ..Self::default()
        };
        for (error, count) in &sample.accept_errors {
            add(&mut read.accept_errors, *error, *count);
        }
        for (limit, count) in &sample.limits {
            add(&mut read.limits, *limit, *count);
        }
        for service in &sample.services {
            let sums = ServiceSums::read(service)?;
            read.services
                .entry(service.name.clone())
                .or_default()
                .add(&sums);
        }
        Ok(read)
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.accepted = self.accepted.saturating_add(other.accepted);
        self.unrouted = self.unrouted.saturating_add(other.unrouted);
        self.abused = self.abused.saturating_add(other.abused);
        self.shed = self.shed.saturating_add(other.shed);
        self.exhausted = self.exhausted.saturating_add(other.exhausted);
        self.log_dropped = self.log_dropped.saturating_add(other.log_dropped);
        add_all(&mut self.accept_errors, &other.accept_errors);
        add_all(&mut self.limits, &other.limits);
        for (name, sums) in &other.services {
            self.services.entry(name.clone()).or_default().add(sums);
        }
    }

    /// Whether some number here is larger than in `newer`.
    pub(super) fn is_ahead_of(&self, newer: &Self) -> bool {
        self.accepted > newer.accepted
            || self.unrouted > newer.unrouted
            || self.abused > newer.abused
            || self.shed > newer.shed
            || self.exhausted > newer.exhausted
            || self.log_dropped > newer.log_dropped
            || any_ahead(&self.accept_errors, &newer.accept_errors)
            || any_ahead(&self.limits, &newer.limits)
            || self
                .services
                .iter()
                .any(|(name, sums)| match newer.services.get(name) {
                    Some(later) => sums.is_ahead_of(later),
                    None => *sums != ServiceSums::default(),
                })
    }
}

impl ServiceSums {
    fn read(sample: &ServiceSample) -> Result<Self, Refused> {
        let buckets = |sent| Buckets::read(sent).ok_or(Refused::Malformed);
        let mut read = Self {
            first_byte: buckets(&sample.first_byte)?,
            park_wait: buckets(&sample.park_wait)?,
            park_dropped: sample.park_dropped,
            ejections: sample.ejections,
            ..Self::default()
        };
        for ended in &sample.ended {
            let key = Ended {
                role: ended.role,
                code: (100..600).contains(&ended.code).then_some(ended.code),
                method: ended.method,
            };
            add(&mut read.ended, key, ended.count);
        }
        for sent in &sample.roles {
            let sums = RoleSums::read(sent)?;
            read.roles.entry(sent.role).or_default().add(&sums);
        }
        Ok(read)
    }

    pub(super) fn add(&mut self, other: &Self) {
        add_all(&mut self.ended, &other.ended);
        for (role, sums) in &other.roles {
            self.roles.entry(*role).or_default().add(sums);
        }
        self.first_byte.add(&other.first_byte);
        self.park_wait.add(&other.park_wait);
        self.park_dropped = self.park_dropped.saturating_add(other.park_dropped);
        self.ejections = self.ejections.saturating_add(other.ejections);
    }

    fn is_ahead_of(&self, newer: &Self) -> bool {
        any_ahead(&self.ended, &newer.ended)
            || self.roles.iter().any(|(role, sums)| {
                let none = RoleSums::default();
                sums.is_ahead_of(newer.roles.get(role).unwrap_or(&none))
            })
            || self.first_byte.is_ahead_of(&newer.first_byte)
            || self.park_wait.is_ahead_of(&newer.park_wait)
            || self.park_dropped > newer.park_dropped
            || self.ejections > newer.ejections
    }
}

impl RoleSums {
    fn read(sample: &RoleSample) -> Result<Self, Refused> {
        let mut read = Self {
            duration: Buckets::read(&sample.duration).ok_or(Refused::Malformed)?,
            request_bytes: sample.request_bytes,
            response_bytes: sample.response_bytes,
            ..Self::default()
        };
        for (reason, count) in &sample.retries {
            add(&mut read.retries, *reason, *count);
        }
        for (reason, count) in &sample.errors {
            add(&mut read.errors, *reason, *count);
        }
        Ok(read)
    }

    fn add(&mut self, other: &Self) {
        self.duration.add(&other.duration);
        self.request_bytes = self.request_bytes.saturating_add(other.request_bytes);
        self.response_bytes = self.response_bytes.saturating_add(other.response_bytes);
        add_all(&mut self.retries, &other.retries);
        add_all(&mut self.errors, &other.errors);
    }

    fn is_ahead_of(&self, newer: &Self) -> bool {
        self.duration.is_ahead_of(&newer.duration)
            || self.request_bytes > newer.request_bytes
            || self.response_bytes > newer.response_bytes
            || any_ahead(&self.retries, &newer.retries)
            || any_ahead(&self.errors, &newer.errors)
    }
}

impl WorkerSums {
    pub(super) fn read(sample: &WorkerSample) -> Self {
        Self {
            outcomes: Outcomes {
                requests: sample.requests,
                failures: sample.failures.saturating_add(sample.given_up),
            },
            cut: Cut::from(sample.cut),
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        let (mine, theirs) = (&mut self.outcomes, other.outcomes);
        mine.requests = mine.requests.saturating_add(theirs.requests);
        mine.failures = mine.failures.saturating_add(theirs.failures);
        self.cut.add(other.cut);
    }

    pub(super) fn is_ahead_of(self, newer: Self) -> bool {
        self.outcomes.requests > newer.outcomes.requests
            || self.outcomes.failures > newer.outcomes.failures
            || self.cut.plain > newer.cut.plain
            || self.cut.upload > newer.cut.upload
            || self.cut.stream > newer.cut.stream
            || self.cut.tunnel > newer.cut.tunnel
    }
}

impl Cut {
    pub(super) fn add(&mut self, other: Self) {
        self.plain = self.plain.saturating_add(other.plain);
        self.upload = self.upload.saturating_add(other.upload);
        self.stream = self.stream.saturating_add(other.stream);
        self.tunnel = self.tunnel.saturating_add(other.tunnel);
    }
}

impl From<InFlight> for Cut {
    fn from(cut: InFlight) -> Self {
        Self {
            plain: cut.plain.into(),
            upload: cut.upload.into(),
            stream: cut.stream.into(),
            tunnel: cut.tunnel.into(),
        }
    }
}

fn add<K: Ord>(sums: &mut BTreeMap<K, u64>, key: K, count: u64) {
    let sum = sums.entry(key).or_default();
    *sum = sum.saturating_add(count);
}

fn add_all<K: Ord + Copy>(sums: &mut BTreeMap<K, u64>, others: &BTreeMap<K, u64>) {
    for (key, count) in others {
        add(sums, *key, *count);
    }
}

fn any_ahead<K: Ord>(older: &BTreeMap<K, u64>, newer: &BTreeMap<K, u64>) -> bool {
    older
        .iter()
        .any(|(key, count)| *count > newer.get(key).copied().unwrap_or(0))
}
