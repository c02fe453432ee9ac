//! A service's requests: those that wait, are tried again, are changed on their way.

use super::{SOME_TIME, Section, TIME, key, optional};
use crate::config::value::Kind;

/// `[services.NAME.parking]`.
pub(super) const PARKING: Section = Section {
    path: "services.*.parking",
    doc: "Requests that wait while no worker is ready; more get 503",
    keys: &[
        key(
            "requests",
            Kind::Count(0, 1_000_000),
            "1000",
            "Most of them",
        ),
        key("bytes", Kind::Size, "\"16MiB\"", "Most bytes they hold"),
        key("wait", TIME, "\"10s\"", "Longest wait"),
    ],
};

/// `[services.NAME.queue]`.
pub(super) const QUEUE: Section = Section {
    path: "services.*.queue",
    doc: "Requests that wait because every worker is at `max_in_flight`; more get 503",
    keys: &[
        key(
            "requests",
            Kind::Count(0, 1_000_000),
            "1000",
            "Most of them",
        ),
        key("bytes", Kind::Size, "\"16MiB\"", "Most bytes they hold"),
        key("wait", TIME, "\"5s\"", "Longest wait"),
    ],
};

/// `[services.NAME.retry]`.
pub(super) const RETRY: Section = Section {
    path: "services.*.retry",
    doc: "Second tries on another worker, only where nothing can be done twice",
    keys: &[
        key(
            "tries",
            Kind::Count(0, 10),
            "2",
            "Most further tries of one request in a row; only one where something was sent. One that no worker could be \
             reached for waits then, as `parking` says, and is tried again as others come",
        ),
        key(
            "budget",
            Kind::Percent,
            "\"20%\"",
            "Most further tries as a part of all requests. Up to 10 in each event loop are saved up, or as many as wait for an answer there at a time. Not counted: what was certainly not sent, met a connection that its worker had just closed, or was refused as a stream for the first time. None while further tries fail as well and nobody answers, and none at 0%",
        ),
        key(
            "buffer",
            Kind::Size,
            "\"64KiB\"",
            "Most bytes of a body kept for replay",
        ),
    ],
};

/// `[services.NAME.ejection]`.
pub(super) const EJECTION: Section = Section {
    path: "services.*.ejection",
    doc: "Workers that fail and others do not get no requests for a while. Never those that a rollout judges",
    keys: &[
        key(
            "consecutive",
            Kind::Count(0, 1_000_000),
            "5",
            "Failures in a row (5xx but 501 and 505, or no answer) that suffice; 0 switches ejection off",
        ),
        key(
            "base_time",
            SOME_TIME,
            "\"10s\"",
            "How long at first; it doubles each time, up to 32 times as long",
        ),
        key(
            "max_percent",
            Kind::Percent,
            "\"34%\"",
            "Most workers that are out at once; one of two or more always may be, the last one never",
        ),
    ],
};

/// `[services.NAME.timeouts]`.
pub(super) const TIMEOUTS: Section = Section {
    path: "services.*.timeouts",
    doc: "Times towards workers",
    keys: &[
        key("connect", SOME_TIME, "\"1s\"", "Connecting"),
        key(
            "response_head",
            SOME_TIME,
            "\"60s\"",
            "From the request's end to the head of the answer",
        ),
        key(
            "body_idle",
            SOME_TIME,
            "\"30s\"",
            "Between two reads or writes of a body, not of tunnels and event streams",
        ),
        key(
            "worker_idle",
            SOME_TIME,
            "\"1500ms\"",
            "How long an unused connection is kept; below the worker's own",
        ),
    ],
};

/// `[services.NAME.headers]`.
pub(super) const HEADERS: Section = Section {
    path: "services.*.headers",
    doc: "Header fields that are changed on their way. Framing, Host, Date, X-Forwarded-* and X-Request-Id are remuda's own",
    keys: &[
        optional(
            "request_set",
            Kind::Pairs,
            "{ X-Stage = \"production\" }",
            "Sent to workers in place of what the client said",
        ),
        optional(
            "request_remove",
            Kind::Texts,
            "[\"X-Debug\"]",
            "Not sent to workers",
        ),
        optional(
            "response_set",
            Kind::Pairs,
            "{ Strict-Transport-Security = \"max-age=31536000\" }",
            "Sent to clients in place of what the worker said",
        ),
        optional(
            "response_remove",
            Kind::Texts,
            "[\"Server\"]",
            "Not sent to clients",
        ),
    ],
};

/// `[services.NAME.limits]`.
pub(super) const LIMITS: Section = Section {
    path: "services.*.limits",
    doc: "Limits of requests to this service",
    keys: &[optional(
        "body",
        Kind::Size,
        "\"10MB\"",
        "Largest body of a request. Default: no limit",
    )],
};
