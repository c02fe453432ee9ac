//! The messages of the seam. Each is one frame (postcard); descriptors travel beside the frame that
//! names their count.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rollout::{
    Epoch, GateState, Generation, InFlight, Role, ServiceName, Slot, Weight, WorkerId,
};

/// First field of the hello: "RMDA".
pub const MAGIC: u32 = 0x524d_4441;
/// Version of these messages; both ends must agree.
pub const PROTOCOL: u32 = 1;
/// Longest frame, so that a confused peer cannot make us allocate without bound.
pub const MAX_FRAME: usize = 1 << 20;

/// Supervisor to plane.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToPlane {
    /// First message.
    Hello {
        /// [`MAGIC`].
        magic: u32,
        /// [`PROTOCOL`].
        protocol: u32,
        /// Version and revision of the sender.
        build: String,
        /// Number of this plane's life, never reused.
        incarnation: u64,
        /// Event loops to run, at least 1.
        loops: u32,
    },
    /// The public listeners: this many descriptors follow with the frame, in this order, already
    /// listening and non-blocking (which nobody toggles, F05).
    Listeners(Vec<PublicListener>),
    /// A listener in place of the one at this place among them, whose path somebody removed: one descriptor
    /// follows. What waits at the old one is still served.
    Listener {
        /// Its place, from 0.
        place: u32,
        /// What it is.
        listener: PublicListener,
    },
    /// What listeners show to clients by TLS; the parts of one offer come in a row, and each offer replaces
    /// the one before in every listener. Comes before the first table.
    Tls {
        /// Certificates by listener; those of one may be spread over parts.
        offers: Vec<TlsOffer>,
        /// The last part.
        last: bool,
    },
    /// How requests are logged from now on, and to the one descriptor that follows with the frame; `None`,
    /// and no descriptor, is not at all. What was logged before goes where it went.
    AccessLog(Option<AccessLog>),
    /// A routing table; replaces the one before. Answered by `Ack` of its epoch.
    Table(Arc<Table>),
    /// Begin to accept. Sent after the first table was acknowledged.
    Accept,
    /// Are all your loops alive? Answered by `Pong` with the same number after every loop turned.
    Ping(u64),
    /// Send a `Sample` now. Answered with the same number.
    Sample(u64),
    /// Send what is in flight. Answered by `Exchanges` with the same number.
    Exchanges(u64),
    /// You will be told to drain in so long. Serve as before, but let those clients go, each with an answer, that
    /// are here already.
    Announce(Duration),
    /// Stop: accept until the queue is empty, stop accepting, finish what is in flight within the
    /// limits of the table, answer `Drained`, exit.
    Drain,
}

/// Plane to supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum FromPlane {
    /// First message.
    Hello {
        /// [`MAGIC`].
        magic: u32,
        /// [`PROTOCOL`].
        protocol: u32,
        /// Version and revision of the sender.
        build: String,
        /// What it gave up before; `None` if it was told not to.
        confinement: Option<Confinement>,
    },
    /// This epoch is in use in every loop, and every gate it shuts is shut.
    Ack(Epoch),
    /// It accepts.
    Accepting,
    /// Answer to `Ping`.
    Pong(u64),
    /// Counters, absolute since the plane began. Sent at least every 100 ms while anything changes, at
    /// once when the last request leaves a shut gate, and in answer to `Sample` (`Some(number)`).
    Sample {
        /// The number of the question, if it was one.
        answers: Option<u64>,
        /// The counters.
        sample: Box<Sample>,
    },
    /// Answer to `Exchanges`; at most [`MAX_EXCHANGES`], oldest first.
    Exchanges {
        /// The number of the question.
        answers: u64,
        /// What is in flight.
        exchanges: Vec<Exchange>,
    },
    /// Nothing is in flight any more and no connection is open; it exits now.
    Drained,
    /// Somebody sent it SIGTERM: it stops accepting and finishes what it has, so that a successor is
    /// needed now.
    Leaving,
}

/// What keeps a plane from everything that is no business of its own (T16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// No new privileges, and no capability that it does not need.
    pub privileges: InForce,
    /// Landlock.
    pub landlock: InForce,
    /// The filter of system calls.
    pub seccomp: InForce,
}

/// How much of a restriction the kernel keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum InForce {
    /// All that was asked for.
    Whole,
    /// What a kernel of its age knows.
    Part,
    /// Nothing.
    Not,
}

/// Most exchanges one answer lists.
pub const MAX_EXCHANGES: usize = 500;

/// A public socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PublicListener {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket path.
    Unix(PathBuf),
}

/// What one public listener shows to clients by TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsOffer {
    /// Its place among the public listeners.
    pub place: u32,
    /// Its certificates; the first is for clients that name no host, or one that no other has.
    pub identities: Vec<Identity>,
    /// Whose certificates clients may show, or must.
    pub clients: Option<ClientAuthorities>,
    /// HTTP/2 is offered, too.
    pub http2: bool,
}

/// A certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The certificate and those between it and a root, DER.
    pub chain: Vec<Vec<u8>>,
    /// Its private key.
    pub key: Secret,
}

/// A private key, DER: PKCS #8, SEC 1 or PKCS #1. Never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Who vouches for clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientAuthorities {
    /// Root certificates, DER.
    pub roots: Vec<Vec<u8>>,
    /// A client without a certificate is refused.
    pub required: bool,
}

/// How requests are logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    /// How a line looks.
    pub format: LogFormat,
    /// Query strings are kept.
    pub query: bool,
}

/// How a line of the access log looks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    /// An object.
    Json,
    /// The Common Log Format.
    Common,
    /// The same with referer and user agent.
    Combined,
    /// Text with `{field}` in it.
    Template(String),
}

/// Everything a plane knows of services: immutable, replaced whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Its number.
    pub epoch: Epoch,
    /// The services.
    pub services: Vec<Service>,
    /// Limits towards clients.
    pub front: Front,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// How it is to be treated.
    pub rules: Arc<ServiceRules>,
    /// Its generations with a worker in the table.
    pub generations: Vec<GenerationEntry>,
}

/// One generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationEntry {
    /// Its number.
    pub number: Generation,
    /// Its role, for counters.
    pub role: Role,
    /// Its share.
    pub weight: Weight,
    /// Its workers.
    pub workers: Vec<WorkerEntry>,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerEntry {
    /// The worker.
    pub worker: WorkerId,
    /// Its slot.
    pub slot: Slot,
    /// Where it listens.
    pub address: WorkerAddress,
    /// What it speaks: its generation's, which may be another than that of the one before.
    pub protocol: Protocol,
    /// Whether it takes new requests.
    pub gate: GateState,
}

/// Where a worker listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WorkerAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix socket path.
    Unix(PathBuf),
}

impl std::fmt::Display for WorkerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

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

/// What is changed about heads on their way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edits {
    /// Protocols that a request may be upgraded to, in lower case (T11).
    pub upgrades: Vec<String>,
    /// Of requests.
    pub request: FieldEdits,
    /// Of workers' answers.
    pub response: FieldEdits,
}

/// Fields that are written, or left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldEdits {
    /// Written in place of what was there: name in lower case, and value.
    pub set: Vec<(String, String)>,
    /// Left out: names in lower case.
    pub remove: Vec<String>,
}

impl FieldEdits {
    /// A field of this name, in lower case, does not go on as it came.
    #[must_use]
    pub fn touches(&self, name: &[u8]) -> bool {
        let set = self.set.iter().any(|(one, _)| one.as_bytes() == name);
        set || self.remove.iter().any(|one| one.as_bytes() == name)
    }
}

impl Default for Edits {
    fn default() -> Self {
        Self {
            upgrades: vec!["websocket".to_owned()],
            request: FieldEdits::default(),
            response: FieldEdits::default(),
        }
    }
}

/// What clients read instead of our own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// With this status.
    pub status: u16,
    /// Its media type.
    pub kind: String,
    /// Its text; `{request_id}` stands for the request's id.
    pub text: String,
}

/// What a worker speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, by prior knowledge: gRPC.
    H2c,
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

/// A network, `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its address.
    pub address: std::net::IpAddr,
    /// Leading bits that count.
    pub prefix: u8,
}

impl Network {
    /// Whether `peer` is in it. An IPv4-mapped IPv6 peer counts as IPv4.
    #[must_use]
    pub fn contains(&self, peer: std::net::IpAddr) -> bool {
        use std::net::IpAddr;
        match (self.address, peer.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(peer)) => {
                let shift = 32 - u32::from(self.prefix.min(32));
                u32::from(net).checked_shr(shift).unwrap_or(0)
                    == u32::from(peer).checked_shr(shift).unwrap_or(0)
            }
            (IpAddr::V6(net), IpAddr::V6(peer)) => {
                let shift = 128 - u32::from(self.prefix.min(128));
                u128::from(net).checked_shr(shift).unwrap_or(0)
                    == u128::from(peer).checked_shr(shift).unwrap_or(0)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
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

/// Limits towards clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Front {
    /// First byte of a head to its end.
    pub header_timeout: Duration,
    /// Nothing in flight.
    pub idle_timeout: Duration,
    /// Longest head, in bytes.
    pub max_head: u32,
    /// Most header fields.
    pub max_headers: u32,
    /// Longest request target, in bytes.
    pub max_target: u32,
    /// Most connections of all loops together.
    pub max_connections: u32,
    /// Most open streams of one connection of HTTP/2.
    pub max_streams: u32,
    /// What is peculiar to each public listener, in their order.
    pub entrances: Vec<Entrance>,
    /// Peers whose word about who the client is is believed: forwarding headers, request ids, the PROXY
    /// protocol.
    pub trusted: Vec<Network>,
}

/// How clients of one listener are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entrance {
    /// A trusted peer begins with a header of the PROXY protocol, version 1 or 2, and must.
    pub proxy_protocol: bool,
    /// Clients speak TLS.
    pub tls: bool,
    /// Clients may speak HTTP/2.
    pub http2: bool,
    /// Every request is sent to this port by `https`.
    pub redirect: Option<u16>,
}

impl Default for Entrance {
    fn default() -> Self {
        Self {
            proxy_protocol: false,
            tls: false,
            http2: true,
            redirect: None,
        }
    }
}

impl Front {
    /// Whether this peer's word about who the client is is believed.
    #[must_use]
    pub fn trusts(&self, peer: std::net::IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(peer))
    }
}

impl Default for Front {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            max_head: 64 << 10,
            max_headers: 100,
            max_target: 16 << 10,
            max_connections: 16_384,
            max_streams: 100,
            entrances: Vec::new(),
            trusted: Vec::new(),
        }
    }
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

/// A method from a closed set.
#[expect(missing_docs, reason = "the variants are the methods")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MethodLabel {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Trace,
    Connect,
    #[serde(rename = "other")]
    Other,
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

/// Why accept failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AcceptError {
    /// EMFILE or ENFILE (F16).
    Descriptors,
    /// Over `max_connections`.
    Limit,
    /// No good header of the PROXY protocol came from a peer that must send one.
    ProxyProtocol,
    /// No TLS was agreed on with the client.
    Tls,
    /// Anything else.
    Other,
}

/// What a client may not have more of, or not take longer for (T10). Each is a key of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The bytes of a head: `limits.head` (431).
    Head,
    /// The fields of a head: `limits.headers` (431).
    Headers,
    /// The bytes of a target: `limits.target` (414).
    Target,
    /// The bytes of a body: `limits.body` of a service (413).
    Body,
    /// Connections: `limits.connections`; a client waits, or one at rest has to go.
    Connections,
    /// Requests at once on a connection of HTTP/2: `limits.streams`; further ones wait, or are refused.
    Streams,
    /// The time for a head, a handshake or an introduction: `timeouts.header` (408).
    HeaderTime,
    /// The time between two parts of a body, or for what an answer's client does not take: `timeouts.body_idle`
    /// of a service (408).
    BodyTime,
    /// The time between two requests: `timeouts.client_idle`.
    IdleTime,
}

impl Limit {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::Head,
        Self::Headers,
        Self::Target,
        Self::Body,
        Self::Connections,
        Self::Streams,
        Self::HeaderTime,
        Self::BodyTime,
        Self::IdleTime,
    ];
}

/// Why we answered ourselves, cut, or tried again. A closed set, the `reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyReason {
    /// The request breaks a rule (400, 405, 413, 414, 431, 501).
    BadRequest,
    /// The request's body did not come in time (408).
    RequestTimeout,
    /// No connection to the worker.
    Connect,
    /// The worker closed or reset before the first byte of an answer.
    Reset,
    /// The worker's answer is not HTTP, or is cut short.
    BadResponse,
    /// No head of an answer in time (504).
    ResponseTimeout,
    /// Nobody ready, and parking full or over (503).
    Unavailable,
    /// Every worker at its limit, and too many wait already (503).
    QueueFull,
    /// Every worker at its limit for as long as a request may wait (503).
    QueueTimeout,
    /// Cut by a drain's limit (504, or the connection closed).
    DrainLimit,
    /// The client left (499).
    ClientGone,
    /// An upgrade the worker did not agree to, or not as asked (502).
    Upgrade,
    /// Our own fault (500).
    Internal,
}

/// A request in flight, for `remuda requests`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// The service.
    pub service: ServiceName,
    /// The worker that has it, if any has.
    pub worker: Option<WorkerId>,
    /// Its id.
    pub request_id: String,
    /// What it is.
    pub class: Class,
    /// The method.
    pub method: String,
    /// The path without its query, at most 256 bytes.
    pub path: String,
    /// The client's address.
    pub client: String,
    /// Since the head was complete.
    pub age: Duration,
    /// Since the last byte in either direction.
    pub idle: Duration,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// Time until it is cut, if its gate is shut.
    pub cut_in: Option<Duration>,
    /// Tries so far, from 1.
    pub attempt: u32,
}

/// What a request is, for drain limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// None of the others.
    Plain,
    /// Its body still comes in.
    Upload,
    /// The answer streams.
    Stream,
    /// An upgraded connection.
    Tunnel,
    /// Waits for a worker.
    Parked,
}
