//! How a service's requests are to be treated.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::edits::{Edits, Page};

/// How a service's requests are to be treated. Times are from the event named to the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceRules {
    /// Hosts whose requests it gets; none means those of every host that no other service names.
    pub hosts: Vec<HostPattern>,
    /// Beginning of the paths it gets, whole segments; empty for all.
    pub path_prefix: String,
    /// Connect to a worker.
    pub connect_timeout: Duration,
    /// From the request's end to the head of the answer.
    pub response_head_timeout: Duration,
    /// Between two reads or writes of a body, either way (not of tunnels and event streams).
    pub body_idle_timeout: Duration,
    /// How long an unused connection to a worker is kept, unless the worker says less.
    pub worker_idle_timeout: Duration,
    /// Largest request body, in bytes; `None` is no limit.
    pub max_body: Option<u64>,
    /// Limits of a drain, by class.
    pub drain: DrainLimits,
    /// Requests that wait while nobody can answer.
    pub parking: Parking,
    /// Most requests in flight on one worker, counted by each plane for itself; `None` is no limit.
    pub max_in_flight: Option<NonZeroU32>,
    /// Requests that wait because every worker has as many as it may.
    pub queue: Parking,
    /// Second tries.
    pub retry: Retry,
    /// When a worker that fails gets no requests for a while.
    pub ejection: Ejection,
    /// How long a worker that joins others climbs to its full share; zero gives it at once.
    pub slow_start: Duration,
    /// What is changed about heads on their way.
    pub edits: Edits,
    /// What clients read instead of our own words, by status.
    pub pages: Vec<Page>,
    /// Every request is answered 503.
    pub maintenance: bool,
}

impl Default for ServiceRules {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            path_prefix: String::new(),
            connect_timeout: Duration::from_secs(1),
            response_head_timeout: Duration::from_secs(60),
            body_idle_timeout: Duration::from_secs(30),
            worker_idle_timeout: Duration::from_millis(1500),
            max_body: None,
            drain: DrainLimits {
                request: Duration::from_secs(30),
                upload: Duration::from_secs(120),
                stream: Duration::from_secs(300),
                tunnel: Duration::from_secs(900),
                at_most: Duration::from_secs(3600),
            },
            parking: Parking {
                max_requests: 1000,
                max_bytes: 16 << 20,
                max_wait: Duration::from_secs(10),
            },
            max_in_flight: None,
            queue: Parking {
                max_requests: 1000,
                max_bytes: 16 << 20,
                max_wait: Duration::from_secs(5),
            },
            retry: Retry {
                tries: 2,
                budget_percent: 20,
                buffer: 64 << 10,
            },
            ejection: Ejection {
                consecutive: 5,
                base_time: Duration::from_secs(10),
                max_percent: 34,
            },
            slow_start: Duration::from_secs(5),
            edits: Edits::default(),
            pages: Vec::new(),
            maintenance: false,
        }
    }
}

/// Hosts by name, in lower case, without a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HostPattern {
    /// This one.
    Exact(String),
    /// All below this one, at any depth: `*.example.org` without its first two characters.
    Below(String),
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

/// When a shut gate's requests are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainLimits {
    /// Plain requests: from the gate's shutting.
    pub request: Duration,
    /// Uploads: since the last byte.
    pub upload: Duration,
    /// Streams: since the last byte.
    pub stream: Duration,
    /// Tunnels: since the last byte.
    pub tunnel: Duration,
    /// The last three, however much still moves: from the gate's shutting.
    pub at_most: Duration,
}

/// Limits of a line of requests that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parking {
    /// Most requests.
    pub max_requests: u32,
    /// Most bytes of their heads and bodies held.
    pub max_bytes: u64,
    /// Longest wait.
    pub max_wait: Duration,
}

/// Second tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Most further tries of one request.
    pub tries: u32,
    /// Further tries as hundredths of the requests (over ten seconds, with a floor).
    pub budget_percent: u32,
    /// Most bytes of a body kept for replay.
    pub buffer: u64,
}

/// When a worker that fails gets no requests for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ejection {
    /// Failures in a row that suffice; 0 switches ejection off.
    pub consecutive: u32,
    /// How long at first.
    pub base_time: Duration,
    /// Most of a generation's workers that are out at once, in percent; one always may be, but at 0.
    pub max_percent: u32,
}
