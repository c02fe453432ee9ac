//! The closed sets behind labels, as text.

use crate::link::message::{AcceptError, Limit, MethodLabel, ProxyReason};
use crate::rollout::{Role, RolloutState, Trigger, WorkerState};

/// Whose lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// Workers' standard output.
    Stdout,
    /// Workers' standard error.
    Stderr,
    /// Our own log.
    Own,
}

impl LogStream {
    pub(super) const ALL: [Self; 3] = [Self::Stdout, Self::Stderr, Self::Own];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Own => "own",
        }
    }
}

/// What of ours somebody removed, so that it was made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// The runtime directory, or its lock.
    RuntimeDir,
    /// The token that we made.
    Token,
    /// The admin socket.
    AdminSocket,
    /// A public unix socket.
    Socket,
    /// The pid file.
    PidFile,
}

impl Restored {
    pub(super) const ALL: [Self; 5] = [
        Self::RuntimeDir,
        Self::Token,
        Self::AdminSocket,
        Self::Socket,
        Self::PidFile,
    ];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::RuntimeDir => "runtime_dir",
            Self::Token => "token",
            Self::AdminSocket => "admin_socket",
            Self::Socket => "socket",
            Self::PidFile => "pid_file",
        }
    }
}

/// What never reached a worker has no role.
pub(super) const ROLES: [Option<Role>; 5] = [
    Some(Role::Stable),
    Some(Role::Candidate),
    Some(Role::Parked),
    Some(Role::Retiring),
    None,
];

pub(super) fn role(role: Option<Role>) -> &'static str {
    role.map_or("none", Role::word)
}

pub(super) fn method(method: MethodLabel) -> &'static str {
    match method {
        MethodLabel::Get => "GET",
        MethodLabel::Head => "HEAD",
        MethodLabel::Post => "POST",
        MethodLabel::Put => "PUT",
        MethodLabel::Delete => "DELETE",
        MethodLabel::Options => "OPTIONS",
        MethodLabel::Patch => "PATCH",
        MethodLabel::Trace => "TRACE",
        MethodLabel::Connect => "CONNECT",
        MethodLabel::Other => "other",
    }
}

pub(super) const REASONS: [ProxyReason; 13] = [
    ProxyReason::BadRequest,
    ProxyReason::RequestTimeout,
    ProxyReason::Connect,
    ProxyReason::Reset,
    ProxyReason::BadResponse,
    ProxyReason::ResponseTimeout,
    ProxyReason::Unavailable,
    ProxyReason::QueueFull,
    ProxyReason::QueueTimeout,
    ProxyReason::DrainLimit,
    ProxyReason::ClientGone,
    ProxyReason::Upgrade,
    ProxyReason::Internal,
];

pub(super) fn reason(reason: ProxyReason) -> &'static str {
    match reason {
        ProxyReason::BadRequest => "bad_request",
        ProxyReason::RequestTimeout => "request_timeout",
        ProxyReason::Connect => "connect",
        ProxyReason::Reset => "reset",
        ProxyReason::BadResponse => "bad_response",
        ProxyReason::ResponseTimeout => "response_timeout",
        ProxyReason::Unavailable => "unavailable",
        ProxyReason::QueueFull => "queue_full",
        ProxyReason::QueueTimeout => "queue_timeout",
        ProxyReason::DrainLimit => "drain_limit",
        ProxyReason::ClientGone => "client_gone",
        ProxyReason::Upgrade => "upgrade",
        ProxyReason::Internal => "internal",
    }
}

pub(super) const ACCEPT_ERRORS: [AcceptError; 5] = [
    AcceptError::Descriptors,
    AcceptError::Limit,
    AcceptError::ProxyProtocol,
    AcceptError::Tls,
    AcceptError::Other,
];

pub(super) fn accept_error(error: AcceptError) -> &'static str {
    match error {
        AcceptError::Descriptors => "descriptors",
        AcceptError::Limit => "limit",
        AcceptError::ProxyProtocol => "proxy_protocol",
        AcceptError::Tls => "tls",
        AcceptError::Other => "other",
    }
}

pub(super) fn limit(limit: Limit) -> &'static str {
    match limit {
        Limit::Head => "head",
        Limit::Headers => "headers",
        Limit::Target => "target",
        Limit::Body => "body",
        Limit::Connections => "connections",
        Limit::Streams => "streams",
        Limit::HeaderTime => "header_time",
        Limit::BodyTime => "body_time",
        Limit::IdleTime => "idle_time",
    }
}

pub(super) const WORKER_STATES: [WorkerState; 6] = [
    WorkerState::Starting,
    WorkerState::Ready,
    WorkerState::Draining,
    WorkerState::Terminating,
    WorkerState::Killing,
    WorkerState::Backoff,
];

pub(super) const TRIGGERS: [Trigger; 5] = [
    Trigger::Signal,
    Trigger::Api,
    Trigger::Cli,
    Trigger::Reload,
    Trigger::Rollback,
];

pub(super) const RESULTS: [&str; 4] = ["completed", "rolled_back", "failed", "superseded"];

/// How a rollout ended, if it has.
pub(super) fn result(state: RolloutState) -> Option<&'static str> {
    match state {
        RolloutState::Completed
        | RolloutState::RolledBack
        | RolloutState::Failed
        | RolloutState::Superseded => Some(state.word()),
        RolloutState::Pending
        | RolloutState::Running
        | RolloutState::Paused
        | RolloutState::RollingBack => None,
    }
}
