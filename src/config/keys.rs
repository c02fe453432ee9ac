//! The keys: one table from which reading, did-you-mean, the reference file, the schema and
//! `check --resolved` all come, so that they cannot differ.

use super::value::{Kind, MAX_WORKERS};

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Its default as it would stand in the file.
    pub(crate) default: Option<&'static str>,
    /// What to show in the reference where there is no default.
    pub(crate) example: &'static str,
    /// What it means, in one or two lines.
    pub(crate) doc: &'static str,
}

/// A table of keys. In the path, `*` stands for a service's name.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) path: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) keys: &'static [Key],
}

/// The section of the services' own keys.
pub(crate) const SERVICE: &str = "services.*";

const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default: Some(default),
        example: default,
        doc,
    }
}

const fn optional(name: &'static str, kind: Kind, example: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default: None,
        example,
        doc,
    }
}

const TIME: Kind = Kind::Time(0);
const SOME_TIME: Kind = Kind::Time(1);

/// Every section, in the order of the reference.
pub(crate) const SECTIONS: &[Section] = &[
    Section {
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
                Kind::Networks,
                "[\"10.0.0.0/8\"]",
                "Peers whose forwarding headers, request ids and PROXY protocol are believed. Default: nobody. The\n\
                 access log's client is then the last address of X-Forwarded-For (or Forwarded) that is none of them.\n\
                 A CDN in front belongs here: what others say of clients (`CF-Connecting-IP`) does not reach workers",
            ),
        ],
    },
    Section {
        path: "listen",
        doc: "Where clients come in. Repeat the table for more addresses",
        keys: &[
            key(
                "address",
                Kind::Listener,
                "\"127.0.0.1:8080\"",
                "IP:PORT, or unix:PATH",
            ),
            key(
                "proxy_protocol",
                Kind::Bool,
                "false",
                "A load balancer that is one of `trusted_proxies` says who the client is, by the PROXY protocol (version 1 or 2)",
            ),
            key(
                "http2",
                Kind::Bool,
                "true",
                "Clients may speak HTTP/2: by TLS where they ask for it, else with prior knowledge",
            ),
            optional(
                "redirect_https",
                Kind::Count(1, 65_535),
                "443",
                "Every request is sent to this port by https (308). Default: none is",
            ),
        ],
    },
    Section {
        path: "listen.tls",
        doc: "The certificates of the listener above, read anew on SIGHUP and when the files change",
        keys: &[
            optional(
                "cert",
                Kind::Paths,
                "\"cert.pem\"",
                "PEM file of a certificate and those that link it to a root, or a list of files. Clients get the one that\n\
                 has the name they ask for, others the first",
            ),
            optional(
                "key",
                Kind::Paths,
                "\"key.pem\"",
                "PEM file of its private key, or a list in the same order. Default: the key is in the file of the certificate",
            ),
            optional(
                "client_ca",
                Kind::Path,
                "\"clients.pem\"",
                "PEM file of the roots that vouch for clients. Default: clients are not asked for a certificate",
            ),
            optional(
                "client_cert",
                Kind::Word(&["required", "optional"]),
                "\"required\"",
                "With `client_ca`: whether a client without a certificate is refused. Default: it is",
            ),
        ],
    },
    Section {
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
    },
    Section {
        path: "metrics",
        doc: "/metrics, /healthz and /readyz for others, without a token",
        keys: &[optional(
            "address",
            Kind::Address,
            "\"0.0.0.0:9901\"",
            "Any address; \"off\", which is the default, is no such listener",
        )],
    },
    Section {
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
    },
    Section {
        path: "timeouts",
        doc: "Times towards clients. One of HTTP/1 that closes its sending half waits for its answer for 2s and is then\n\
              taken for one that left (499): nginx does so at once, haproxy without `abortonclose` never",
        keys: &[
            key(
                "header",
                SOME_TIME,
                "\"10s\"",
                "From the first byte of a request's head to its end",
            ),
            key(
                "client_idle",
                SOME_TIME,
                "\"75s\"",
                "How long an unused connection is kept",
            ),
        ],
    },
    Section {
        path: "limits",
        doc: "Limits towards clients; `remuda_client_limits_reached_total` counts, by limit, who reaches them or a time above",
        keys: &[
            key("head", Kind::Size, "\"64KiB\"", "Longest head of a request"),
            key(
                "headers",
                Kind::Count(1, 10_000),
                "100",
                "Most header fields of a request",
            ),
            key("target", Kind::Size, "\"16KiB\"", "Longest request target"),
            key(
                "connections",
                Kind::Count(1, 10_000_000),
                "16384",
                "Most connections at once. Those that rest longest make room for new ones",
            ),
            key(
                "streams",
                Kind::Count(1, 10_000),
                "100",
                "Most requests at once on one connection of HTTP/2",
            ),
        ],
    },
    Section {
        path: SERVICE,
        doc: "A service and its workers. `[services.NAME]`, NAME of a-z 0-9 _ -",
        keys: &[
            optional(
                "command",
                Kind::Texts,
                "[\"./server\", \"--port\", \"{port}\"]",
                "The worker's program and its arguments, no shell. {port} {socket} {slot} {generation} {release} are filled in",
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
                "Added to the environment; placeholders are filled in",
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
    },
    Section {
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
    },
    Section {
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
    },
    Section {
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
    },
    Section {
        path: "services.*.drain",
        doc: "How long what is in flight may take when its worker retires",
        keys: &[
            key(
                "request",
                TIME,
                "\"30s\"",
                "Plain requests, from the drain's begin",
            ),
            key("upload", TIME, "\"120s\"", "Uploads, since the last byte"),
            key(
                "stream",
                TIME,
                "\"300s\"",
                "Streamed answers, since the last byte",
            ),
            key(
                "tunnel",
                TIME,
                "\"900s\"",
                "Upgraded connections, since the last byte: each at its own time from half of this on, so that their \
                 clients do not all come back at once",
            ),
            optional(
                "at_most",
                SOME_TIME,
                "\"10m\"",
                "The last three from the drain's begin, however much still moves: two ends that talk on and on would hold\n\
                 up every rollout that follows. Default: 1h, or the longest of the three if that is more",
            ),
            key("kill_grace", TIME, "\"10s\"", "From SIGTERM to SIGKILL"),
        ],
    },
    Section {
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
    },
    Section {
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
    },
    Section {
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
    },
    Section {
        path: "services.*.retry",
        doc: "Second tries on another worker, only where nothing can be done twice",
        keys: &[
            key(
                "tries",
                Kind::Count(0, 10),
                "2",
                "Most further tries of one request; only one where something was sent",
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
    },
    Section {
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
    },
    Section {
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
    },
    Section {
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
    },
    Section {
        path: "services.*.limits",
        doc: "Limits of requests to this service",
        keys: &[optional(
            "body",
            Kind::Size,
            "\"10MB\"",
            "Largest body of a request. Default: no limit",
        )],
    },
];

/// Strategies that a later version brings.
pub(crate) const LATER_STRATEGIES: &[&str] = &["canary", "blue-green", "recreate"];

/// The section at a path with `*`.
pub(crate) fn section(path: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.path == path)
}

/// The key at a real path such as `services.app.drain.request`.
pub(crate) fn at(path: &str) -> Option<&'static Key> {
    let (table, name) = path.rsplit_once('.').unwrap_or(("", path));
    let mut parts: Vec<&str> = table.split('.').collect();
    if parts.len() > 1 && parts[0] == "services" {
        parts[1] = "*";
    }
    section(&parts.join("."))?.key(name)
}

impl Section {
    /// The key of this name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The section of this name directly below.
    pub(crate) fn below(&self, name: &str) -> Option<&'static Self> {
        section(&self.join(name))
    }

    /// Names that may stand here: keys, then tables.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        let tables = SECTIONS.iter().filter_map(|section| {
            let rest = match self.path {
                "" => section.path,
                path => section.path.strip_prefix(path)?.strip_prefix('.')?,
            };
            (!rest.is_empty() && !rest.contains('.')).then_some(rest)
        });
        let services = self.path.is_empty().then_some("services");
        self.keys
            .iter()
            .map(|key| key.name)
            .chain(tables)
            .chain(services)
    }

    fn join(&self, name: &str) -> String {
        match self.path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }
}

/// Where else a key of this name may stand.
pub(crate) fn elsewhere(name: &str) -> impl Iterator<Item = &'static Section> {
    SECTIONS
        .iter()
        .filter(move |section| section.key(name).is_some())
}
