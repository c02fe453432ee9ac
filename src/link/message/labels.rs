//! What is counted apart: closed sets, each a label of a metric.

use serde::{Deserialize, Serialize};

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
