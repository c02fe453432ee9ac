//! A service: its workers and what it gets.

use super::{SERVICE, SOME_TIME, Section, TIME, key, optional};
use crate::config::value::{Kind, MAX_WORKERS};

/// `[services.NAME]`.
pub(super) const OWN: Section = Section {
    path: SERVICE,
    doc: "A service and its workers. `[services.NAME]`, NAME of a-z 0-9 _ -",
    keys: &[
        optional(
            "command",
            Kind::Texts,
            "[\"./server\", \"--port\", \"{port}\"]",
            "The worker's program and its arguments, no shell. {port} {socket} {slot} {generation} {release} are filled in.\n\
             A name with a slash is looked for from `cwd`; symlinks to its directory are followed anew for each generation",
        ),
        optional(
            "upstream",
            Kind::Upstreams,
            "[\"127.0.0.1:9000\", \"unix:/run/x.sock\"]",
            "In place of `command`: workers that somebody else runs. A reload takes others, the new ones first",
        ),
        optional(
            "hosts",
            Kind::Hosts,
            "[\"shop.example\", \"*.shop.example\"]",
            "Hosts whose requests it gets. Default: those of every host that no other service names",
        ),
        optional(
            "path_prefix",
            Kind::UrlPath,
            "\"/api\"",
            "Get only requests to this path and below; the longest one that fits wins. Default: all",
        ),
        key(
            "protocol",
            Kind::Word(&["http1", "h2c"]),
            "\"http1\"",
            "What its workers speak: HTTP/1.1, or \"h2c\", HTTP/2 without TLS and by prior knowledge (gRPC); each generation keeps its own",
        ),
        optional(
            "upgrades",
            Kind::Texts,
            "[\"websocket\"]",
            "Protocols that a request may be upgraded to. Default: [\"websocket\"]",
        ),
        optional(
            "error_pages",
            Kind::Files,
            "{ 502 = \"502.html\", 503 = \"503.html\" }",
            "Files that clients read instead of remuda's own words, by status; {request_id} in one is filled in. Read anew\n\
             at each reload",
        ),
        key(
            "maintenance",
            Kind::Bool,
            "false",
            "Answer every request 503, with its error page",
        ),
        key(
            "workers",
            Kind::Count(1, MAX_WORKERS),
            "2",
            "How many serve; all are started at once at first",
        ),
        optional(
            "max_in_flight",
            Kind::Count(1, 1_000_000),
            "100",
            "Most requests that one worker has at once, websockets included; more wait in `queue`. While a data plane is\n\
             replaced, the old and the new one count each for itself. Default: no limit",
        ),
        key(
            "slow_start",
            TIME,
            "\"5s\"",
            "How long a worker that joins others (restarted, scaled up) climbs from a tenth to its full share; longer than it\n\
             is slow at first. New generations have `rollout.ramp`",
        ),
        optional(
            "connect",
            Kind::Word(&["port", "socket", "fd"]),
            "\"port\"",
            "How a worker is reached: \"port\" ({port} or $PORT), \"socket\" ({socket}) or \"fd\" (inherited listener, LISTEN_FDS).\n\
             Default: follows from the placeholder used, else \"port\"",
        ),
        optional(
            "cwd",
            Kind::Path,
            "\"current\"",
            "Working directory; symlinks are followed anew for each generation. Default: ours",
        ),
        optional(
            "env",
            Kind::Pairs,
            "{ MODE = \"production\" }",
            "Added to the environment; placeholders are filled in. Each worker has REMUDA_SERVICE, REMUDA_SLOT, REMUDA_GENERATION,\n\
             REMUDA_RELEASE, its own NOTIFY_SOCKET, and REMUDA_WORKER, by which what is left of it is found after a crash.\n\
             Of ours it inherits no PORT, LISTEN_*, WATCHDOG_*, JOURNAL_STREAM and other REMUDA_*",
        ),
        optional(
            "env_file",
            Kind::Path,
            "\".env\"",
            "More of the environment, KEY=value lines, read anew for each generation",
        ),
        key(
            "env_clear",
            Kind::Bool,
            "false",
            "Begin with an empty environment instead of ours",
        ),
        optional(
            "user",
            Kind::Text,
            "\"www-data\"",
            "Run workers as this user. Default: ours",
        ),
        optional(
            "group",
            Kind::Text,
            "\"www-data\"",
            "Run workers with this group. Default: the user's",
        ),
        optional(
            "umask",
            Kind::Umask,
            "\"022\"",
            "File mode mask of workers. Default: ours",
        ),
        optional(
            "release",
            Kind::Text,
            "\"2026-11-23\"",
            "Your name for what runs at first start",
        ),
    ],
};

/// `[services.NAME.health]`.
pub(super) const HEALTH: Section = Section {
    path: "services.*.health",
    doc: "How workers are asked whether they can answer",
    keys: &[
        optional(
            "path",
            Kind::UrlPath,
            "\"/healthz\"",
            "GET this and want 200 to 399. Default: GET / and any HTTP answer",
        ),
        key(
            "interval",
            SOME_TIME,
            "\"1s\"",
            "Between two probes; every 100ms until first ready",
        ),
        key(
            "timeout",
            SOME_TIME,
            "\"1s\"",
            "How long one probe may take",
        ),
        key(
            "rise",
            Kind::Count(1, 1000),
            "1",
            "Good answers in a row that make a worker ready",
        ),
        key(
            "fall",
            Kind::Count(1, 1000),
            "3",
            "Bad ones in a row that make it unready",
        ),
        key("start_timeout", SOME_TIME, "\"60s\"", "From spawn to ready"),
        key(
            "notify",
            Kind::Bool,
            "false",
            "Wait for READY=1 on the worker's NOTIFY_SOCKET before the first probe",
        ),
    ],
};
