//! What is said once, and who watches: the process, the admin side, the metrics, the access log.

use super::{SOME_TIME, Section, TIME, key, optional};
use crate::config::value::Kind;

/// The keys above the first table.
pub(super) const WHOLE: Section = Section {
    path: "",
    doc: "",
    keys: &[
        optional(
            "state_dir",
            Kind::Path,
            "\"/var/lib/remuda\"",
            "Where generation numbers are kept across restarts; without it they begin at 1 each time",
        ),
        optional(
            "runtime_dir",
            Kind::Path,
            "\"/run/remuda\"",
            "Sockets of workers and the token, gone when remuda ends. Default: $RUNTIME_DIRECTORY, else\n\
             $XDG_RUNTIME_DIR/remuda, else the path of a named admin socket with `.d`, else /tmp/remuda-UID",
        ),
        optional(
            "pid_file",
            Kind::Path,
            "\"/run/remuda.pid\"",
            "Written at start, removed at exit",
        ),
        optional(
            "threads",
            Kind::Count(1, 1024),
            "2",
            "Event loops of the data plane. Default: one per core",
        ),
        key(
            "sandbox",
            Kind::Bool,
            "true",
            "The data plane, which reads what strangers send, cannot open a file, start a program or signal a process\n\
             (seccomp, Landlock, no capabilities). Off for a debugger, a profiler, or where a worker cannot be reached",
        ),
        key(
            "ports",
            Kind::Ports,
            "\"20000-29999\"",
            "Ports given to workers; keep it outside the kernel's ephemeral range",
        ),
        key(
            "shutdown_delay",
            TIME,
            "\"0s\"",
            "From a stop to the listeners' closing, with /readyz already failing, so that a load balancer can look away; clients that were there before are let go meanwhile, each with an answer",
        ),
        key(
            "stop_timeout",
            SOME_TIME,
            "\"60s\"",
            "From the end of `shutdown_delay` to the hard end of everything",
        ),
        key(
            "exit_on_failed_start",
            Kind::Bool,
            "false",
            "End with status 1 if the first generation cannot become ready, instead of trying again",
        ),
        optional(
            "trusted_proxies",
            Kind::Peers,
            "[\"10.0.0.0/8\"]",
            "Peers whose forwarding headers, request ids and PROXY protocol are believed: networks, or \"unix\" for those\n\
             of unix listeners. Default: nobody. The access log's client is then the last address of X-Forwarded-For\n\
             (or Forwarded) that is none of them.\n\
             A CDN in front belongs here: what others say of clients (`CF-Connecting-IP`) does not reach workers",
        ),
    ],
};

/// `[admin]`.
pub(super) const ADMIN: Section = Section {
    path: "admin",
    doc: "The admin side: page, API, metrics. This machine only",
    keys: &[
        key(
            "address",
            Kind::Loopback,
            "\"127.0.0.1:9900\"",
            "Loopback only; \"off\" leaves just the socket",
        ),
        optional(
            "socket",
            Kind::Path,
            "\"/run/remuda/admin.sock\"",
            "The unix socket that the command line uses. Default: admin.sock in the runtime directory",
        ),
        optional(
            "token_file",
            Kind::Path,
            "\"/etc/remuda/token\"",
            "The token for changes over TCP. Default: `token` in the runtime directory, made at start",
        ),
    ],
};

/// `[metrics]`.
pub(super) const METRICS: Section = Section {
    path: "metrics",
    doc: "/metrics, /healthz and /readyz for others, without a token",
    keys: &[optional(
        "address",
        Kind::Address,
        "\"0.0.0.0:9901\"",
        "Any address; \"off\", which is the default, is no such listener",
    )],
};

/// `[access_log]`.
pub(super) const ACCESS_LOG: Section = Section {
    path: "access_log",
    doc: "One line for each request, made when it ends",
    keys: &[
        key(
            "to",
            Kind::LogTarget,
            "\"off\"",
            "\"off\", \"stdout\", \"stderr\", or a file, which is appended to (made with mode 640) and opened anew at SIGUSR1.\n\
             Nobody waits for it: lines it cannot take are dropped and counted",
        ),
        key(
            "format",
            Kind::LogFormat,
            "\"json\"",
            "\"json\", \"common\", \"combined\", or a template such as \"{ts} {method} {path} {status} {term}\"; {{ is a brace.\n\
             Fields: ts (when the head was complete, UTC) request_id trace_id (of a W3C traceparent) client method host\n\
             path query proto status (499: the client left before an answer) bytes_in bytes_out (of bodies) duration\n\
             upstream_connect upstream_ttfb (of the last try, its connecting included; seconds) grpc_status (of a call of gRPC)\n\
             service slot generation attempt (0: no worker had it) tls_version user_agent referer term, and as Common has them time request bytes.\n\
             term says who ended it, and when:\n\
             complete: the answer went on to its end, or both ends closed a tunnel\n\
             client_head, client_upload: the head or the body did not come, or not in time\n\
             client_parked, client_waiting: the client left while no worker was ready, or while one was at work\n\
             client_answer: the client left, or read nothing more, before it had the whole answer, or broke its tunnel off\n\
             worker_connect, worker_reset, worker_timeout, worker_bad_answer, worker_upgrade: no answer, or none that will do\n\
             worker_answer: the worker's answer broke off, or its side of a tunnel (a websocket: without a close frame)\n\
             drain_parked, drain_waiting, drain_answer, drain_tunnel: cut by a drain's limit\n\
             refused_request, refused_route, refused_maintenance, refused_parking, refused_queue: a rule broken, no service\n\
             for it, one under maintenance, no worker, none with a place left\n\
             redirected: sent to https; internal: our own fault",
        ),
        key(
            "query",
            Kind::Bool,
            "false",
            "Keep query strings, which may hold secrets",
        ),
    ],
};
