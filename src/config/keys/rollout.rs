//! How workers are replaced, judged, drained and started again.

use super::{SOME_TIME, Section, TIME, key, optional};
use crate::config::value::Kind;

/// `[services.NAME.rollout]`.
pub(super) const ROLLOUT: Section = Section {
    path: "services.*.rollout",
    doc: "How workers are replaced",
    keys: &[
        key(
            "strategy",
            Kind::Word(&["rolling"]),
            "\"rolling\"",
            "Batches of max_surge, the first one a single worker",
        ),
        key(
            "max_surge",
            Kind::Amount,
            "\"25%\"",
            "Workers above the count that may be started; a percentage rounds up",
        ),
        key(
            "max_unavailable",
            Kind::Amount,
            "0",
            "Workers below the count that may serve; a percentage rounds down",
        ),
        key(
            "ramp",
            TIME,
            "\"3s\"",
            "How long new workers climb to their share of the requests",
        ),
        key(
            "soak",
            TIME,
            "\"5s\"",
            "How long a batch is watched, from its first request, ramp included",
        ),
        key(
            "progress_deadline",
            SOME_TIME,
            "\"120s\"",
            "How long a rollout may go without progress before it fails: workers that do not start, or old ones\n\
             that cannot be spared. Ramps, soaks, drains and pauses do not count",
        ),
        key(
            "on_failure",
            Kind::Word(&["rollback", "pause"]),
            "\"rollback\"",
            "Go back by itself, or wait for a person",
        ),
        key(
            "park",
            TIME,
            "\"0s\"",
            "How long the old generation stays alive without requests, for an instant way back",
        ),
        key(
            "max_generations",
            Kind::Count(2, 100),
            "3",
            "A draining worker does not hold up the next batch up to this many generations",
        ),
    ],
};

/// `[services.NAME.judge]`.
pub(super) const JUDGE: Section = Section {
    path: "services.*.judge",
    doc: "How new workers are judged by their answers",
    keys: &[
        key(
            "min_requests",
            Kind::Count(1, 1_000_000),
            "20",
            "Requests below which there is no judgement",
        ),
        key(
            "not_enough",
            Kind::Word(&["continue", "hold"]),
            "\"continue\"",
            "What too few of them mean at the soak's end",
        ),
    ],
};

/// `[services.NAME.drain]`.
pub(super) const DRAIN: Section = Section {
    path: "services.*.drain",
    doc: "How long what is in flight may take when its worker retires",
    keys: &[
        key(
            "request",
            TIME,
            "\"30s\"",
            "Plain requests, from the drain's begin",
        ),
        key(
            "upload",
            TIME,
            "\"120s\"",
            "Uploads, from the drain's begin and anew from each byte",
        ),
        key(
            "stream",
            TIME,
            "\"300s\"",
            "Streamed answers, from the drain's begin and anew from each byte",
        ),
        key(
            "tunnel",
            TIME,
            "\"900s\"",
            "Upgraded connections, from the drain's begin and anew from each byte: each at its own time from half of \
             this on, so that their clients do not all come back at once",
        ),
        optional(
            "at_most",
            SOME_TIME,
            "\"10m\"",
            "The last three from the drain's begin, however much still moves: two ends that talk on and on would hold\n\
             up every rollout that follows. Default: 1h, or the longest of the three if that is more",
        ),
        key(
            "kill_grace",
            TIME,
            "\"10s\"",
            "From SIGTERM to SIGKILL. What of a worker outlives its main process is sent SIGTERM then, and has what is left of\n\
             this, but a second at least; a second if the main process ended unasked",
        ),
    ],
};

/// `[services.NAME.restart]`.
pub(super) const RESTART: Section = Section {
    path: "services.*.restart",
    doc: "How fast a worker that fails is started again",
    keys: &[
        key(
            "first",
            SOME_TIME,
            "\"100ms\"",
            "The first wait; it doubles with each failure in a row",
        ),
        key("most", SOME_TIME, "\"30s\"", "The longest wait"),
        key(
            "reset",
            TIME,
            "\"60s\"",
            "Healthy time after which the first wait is used again",
        ),
        key(
            "unhealthy",
            TIME,
            "\"30s\"",
            "How long a ready worker may fail its health check before it is replaced, one at a time and the new\n\
             one first; 0s: for ever",
        ),
    ],
};
