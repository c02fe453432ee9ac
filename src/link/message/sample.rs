//! The counters of a plane.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::labels::{AcceptError, Limit, MethodLabel, ProxyReason};
use crate::rollout::{InFlight, Role, ServiceName, WorkerId};

/// Counters of a plane, absolute since it began, summed over its loops.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// By service.
    pub services: Vec<ServiceSample>,
    /// By worker that is in the table.
    pub workers: Vec<WorkerSample>,
    /// Client connections accepted.
    pub accepted: u64,
    /// Requests for a host or path that no service has.
    pub unrouted: u64,
    /// Client connections that were ended because they only cost.
    pub abused: u64,
    /// Client connections that were closed at rest, as others wanted their place.
    pub shed: u64,
    /// Connections to workers that could not be opened for want of what is ours.
    pub exhausted: u64,
    /// Client connections open now.
    pub connections: u32,
    /// Accepts that failed, by reason.
    pub accept_errors: Vec<(AcceptError, u64)>,
    /// How often clients reached a limit; those that nobody reached are left out.
    pub limits: Vec<(Limit, u64)>,
    /// Lines of the access log that were lost, because its file took none or was too slow.
    pub log_dropped: u64,
}

/// One service's counters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceSample {
    /// The service.
    pub name: ServiceName,
    /// Requests that ended, by the role of the generation that had them; `None` if none had.
    pub ended: Vec<EndedSample>,
    /// What is counted by the role of the generation that has or had a request; a role of which there
    /// is nothing to say is left out.
    pub roles: Vec<RoleSample>,
    /// Time to the worker's first answer byte.
    pub first_byte: Histogram,
    /// Parked now.
    pub parked: u32,
    /// How long parked ones waited.
    pub park_wait: Histogram,
    /// Parked ones turned away.
    pub park_dropped: u64,
    /// How often a worker was ejected.
    pub ejections: u64,
}

/// One service's counters, for requests that a generation of one role has or had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoleSample {
    /// The role that the worker's generation had when it took the request; `None` if no worker did.
    pub role: Option<Role>,
    /// Request time: from the head's last byte to the end of the answer.
    pub duration: Histogram,
    /// In flight now; those that wait for a worker have no role.
    pub in_flight: u32,
    /// Body bytes from clients.
    pub request_bytes: u64,
    /// Body bytes to clients.
    pub response_bytes: u64,
    /// Further tries, by what ended the one at a worker of this role.
    pub retries: Vec<(ProxyReason, u64)>,
    /// Answers that are ours and not a worker's, or cut ones, by reason.
    pub errors: Vec<(ProxyReason, u64)>,
}

impl ServiceSample {
    /// In flight now, those that wait for a worker included.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        let each = self.roles.iter().map(|of| of.in_flight);
        each.fold(0, u32::saturating_add)
    }

    /// Bytes of bodies from clients and to them, of all roles.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        let each = self.roles.iter();
        each.fold((0, 0), |(request, response): (u64, u64), of| {
            (
                request.saturating_add(of.request_bytes),
                response.saturating_add(of.response_bytes),
            )
        })
    }

    /// Answers that are ours and not a worker's, or cut ones, of all roles.
    #[must_use]
    pub fn errors(&self) -> Vec<(ProxyReason, u64)> {
        Self::summed(self.roles.iter().flat_map(|of| &of.errors))
    }

    /// Further tries of all roles.
    #[must_use]
    pub fn retries(&self) -> Vec<(ProxyReason, u64)> {
        Self::summed(self.roles.iter().flat_map(|of| &of.retries))
    }

    fn summed<'a>(counts: impl Iterator<Item = &'a (ProxyReason, u64)>) -> Vec<(ProxyReason, u64)> {
        let mut sums = BTreeMap::<_, u64>::new();
        for (reason, count) in counts {
            let sum = sums.entry(*reason).or_default();
            *sum = sum.saturating_add(*count);
        }
        sums.into_iter().collect()
    }
}

/// Requests that ended, for one set of labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedSample {
    /// The role of the generation that answered.
    pub role: Option<Role>,
    /// The status the client saw; 499 if the client left before.
    pub code: u16,
    /// The method.
    pub method: MethodLabel,
    /// How many.
    pub count: u64,
}

/// A histogram in microseconds; `counts[i]` are the observations at most `DURATION_BOUNDS[i]`, and the
/// last those above all bounds. Not cumulative.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// One more than there are bounds.
    pub counts: Vec<u64>,
    /// Sum of all observations in microseconds.
    pub sum: u64,
}

/// Upper bounds of the duration histograms, in microseconds: 0.5 ms to 60 s in 1-2.5-5 steps.
pub const DURATION_BOUNDS: [u64; 16] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 25_000_000, 60_000_000,
];

/// One worker's counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSample {
    /// The worker.
    pub worker: WorkerId,
    /// In flight now.
    pub in_flight: InFlight,
    /// Requests it was given that ended.
    pub requests: u64,
    /// Of these, 5xx, resets, and failures as we saw them; not client aborts.
    pub failures: u64,
    /// Of the others, those whose clients left after a second without an answer: of a worker that hangs
    /// nothing else is ever seen.
    pub given_up: u64,
    /// Connections open and unused.
    pub idle_connections: u32,
    /// Connections in use.
    pub active_connections: u32,
    /// Requests cut by a drain's limit, by class.
    pub cut: InFlight,
    /// If its gate is shut and something is in flight: time until the last of it is cut.
    pub drain_left: Option<Duration>,
    /// Gets no requests for a while, because it failed.
    pub ejected: bool,
}
