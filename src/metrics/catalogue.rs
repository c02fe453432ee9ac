//! Every family that is exported: name, help, kind and labels. The names are a contract.

/// What a family's values mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations by upper bound.
    Histogram,
}

/// One family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// What its values mean.
    pub kind: Kind,
    /// Its labels, in the order of the values.
    pub labels: &'static [&'static str],
}

/// Makes one public constant for each family, and `ALL` of them.
macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Family = Family {
                name: $name,
                help: $help,
                kind: Kind::$kind,
                labels: &[$($label),*],
            };
        )*

        /// Every family.
        pub const ALL: &[Family] = &[$($constant),*];
    };
}

families! {
    BUILD: Gauge "remuda_build_info" ["version", "revision", "rustc", "features"]
        "What was built; always 1.";
    CONFIG_SUCCESSFUL: Gauge "remuda_config_last_reload_successful" []
        "Whether the config and the certificates that were last read are in use (1) or those of before (0).";
    CONFIG_SUCCESS_AT: Gauge "remuda_config_last_reload_success_timestamp_seconds" []
        "When a config was last taken into use.";
    CONFIG_HASH: Gauge "remuda_config_hash_info" ["hash"]
        "A digest of the config in use, to compare hosts; always 1.";

    REQUESTS: Counter "remuda_http_requests_total" ["service", "code", "method", "role"]
        "Requests that ended, by the status the client saw (499: it left) and the answering generation's role.";
    REQUEST_DURATION: Histogram "remuda_http_request_duration_seconds" ["service", "role"]
        "Time from the end of a request's head to the end of its answer.";
    REQUESTS_IN_FLIGHT: Gauge "remuda_http_requests_in_flight" ["service", "role"]
        "Requests in flight now, by their worker's generation's role when it took them (none: they wait for one).";
    REQUEST_BYTES: Counter "remuda_http_request_bytes_total" ["service", "role"]
        "Body bytes received from clients.";
    RESPONSE_BYTES: Counter "remuda_http_response_bytes_total" ["service", "role"]
        "Body bytes sent to clients.";
    RETRIES: Counter "remuda_http_retries_total" ["service", "reason", "role"]
        "Further tries of a request on another worker, by what ended the try before and the role it failed at.";
    PROXY_ERRORS: Counter "remuda_http_proxy_errors_total" ["service", "reason", "role"]
        "Answers made by the proxy in a worker's place, and answers cut short (role none: no worker had it).";

    UNROUTED: Counter "remuda_http_unrouted_requests_total" []
        "Requests of no service: for a host or path that none has (404), or, where there are several, refused before it could be told.";
    ACCESS_LOG_DROPPED: Counter "remuda_access_log_dropped_lines_total" []
        "Lines of the access log that were lost, because its file took none or was too slow.";

    CONNECTIONS: Gauge "remuda_client_connections" []
        "Client connections open now.";
    ACCEPTED: Counter "remuda_client_connections_accepted_total" []
        "Client connections accepted.";
    ABUSED: Counter "remuda_client_connections_abused_total" []
        "Client connections of HTTP/2 that were ended because most of what they sent moved no request.";
    SHED: Counter "remuda_client_connections_shed_total" []
        "Client connections at rest that were closed to let others in, as `limits.connections` were open.";
    ACCEPT_ERRORS: Counter "remuda_accept_errors_total" ["reason"]
        "Client connections that could not be accepted, or (limit) had to wait as nobody made room.";
    LIMITS: Counter "remuda_client_limits_reached_total" ["limit"]
        "Times that a client reached one of the limits that the configuration sets: head, headers, target, body, connections, streams, header_time, body_time or idle_time.";

    UPSTREAM_IN_FLIGHT: Gauge "remuda_upstream_requests_in_flight" ["service", "slot"]
        "Requests in flight on a worker now.";
    UPSTREAM_CONNECTIONS: Gauge "remuda_upstream_connections" ["service", "slot", "state"]
        "Connections to a worker now, in use (active) or not (idle).";
    EXHAUSTED: Counter "remuda_upstream_exhausted_total" []
        "Connections to workers that could not be opened for want of descriptors, ports or memory of remuda or its host.";
    FIRST_BYTE: Histogram "remuda_upstream_time_to_first_byte_seconds" ["service"]
        "Time until the first byte of a worker's answer.";

    QUEUE_DEPTH: Gauge "remuda_queue_depth" ["service"]
        "Requests that wait now because no worker is ready, or all have as many as they may.";
    QUEUE_WAIT: Histogram "remuda_queue_wait_seconds" ["service"]
        "How long requests waited for a worker to take them.";
    QUEUE_DROPPED: Counter "remuda_queue_dropped_total" ["service"]
        "Requests turned away because the queue was full or the wait too long.";

    WORKERS: Gauge "remuda_workers" ["service", "state"]
        "Workers by state.";
    WORKERS_WANTED: Gauge "remuda_workers_wanted" ["service"]
        "Workers the service should have.";
    WORKERS_SERVING: Gauge "remuda_workers_serving" ["service"]
        "Workers that take new requests.";
    WORKER_INFO: Gauge "remuda_worker_info" ["service", "slot", "generation"]
        "Which generation a slot's worker belongs to; always 1.";
    WORKER_STARTS: Counter "remuda_worker_starts_total" ["service"]
        "Workers started.";
    WORKER_EXITS: Counter "remuda_worker_exits_total" ["service", "reason"]
        "Workers that ended, by reason.";
    WORKER_RESTARTS: Counter "remuda_worker_restarts_total" ["service", "reason"]
        "Workers started in place of one that failed, by what had happened to it.";
    WORKER_EJECTIONS: Counter "remuda_worker_ejections_total" ["service"]
        "Times that a data plane gave a worker no more requests for a while, because it failed and others did not.";
    WORKER_EJECTED: Gauge "remuda_worker_ejected" ["service", "slot"]
        "Whether a data plane gives a slot's worker no requests for a while (1).";
    WORKER_READY: Histogram "remuda_worker_ready_seconds" ["service"]
        "Time from a worker's start until it could answer.";
    WORKER_CPU: Counter "remuda_worker_cpu_seconds_total" ["service", "slot"]
        "Processor time of a slot's workers' main processes.";
    WORKER_RSS: Gauge "remuda_worker_resident_memory_bytes" ["service", "slot"]
        "Resident memory of a slot's worker's main process.";

    GENERATION_WEIGHT: Gauge "remuda_generation_weight_ratio" ["service", "generation", "role"]
        "Share of the service's requests that a generation gets, 0 to 1.";

    ROLLOUT_IN_PROGRESS: Gauge "remuda_rollout_in_progress" ["service"]
        "Whether a rollout runs, is paused, or goes back.";
    ROLLOUT_PROGRESS: Gauge "remuda_rollout_progress_ratio" ["service"]
        "How much of the last rollout is done, 0 to 1.";
    ROLLOUT_WORKERS: Gauge "remuda_rollout_workers" ["service", "state"]
        "Workers of the last rollout: new ones ready, old ones that still take requests, old ones that leave.";
    ROLLOUT_PAUSED: Gauge "remuda_rollout_paused" ["service"]
        "Whether a rollout is held, by a person or by its policy.";
    ROLLOUT_START_AT: Gauge "remuda_rollout_last_start_timestamp_seconds" ["service"]
        "When the last rollout began; 0 before the first.";
    ROLLOUT_END_AT: Gauge "remuda_rollout_last_end_timestamp_seconds" ["service"]
        "When the last rollout ended; 0 while it runs and before the first.";
    ROLLOUT_PROGRESS_AT: Gauge "remuda_rollout_last_progress_timestamp_seconds" ["service"]
        "When the last rollout last made progress; 0 before the first.";
    ROLLOUTS: Counter "remuda_rollouts_total" ["service", "trigger", "result"]
        "Rollouts that ended, by who asked for them and how they ended.";
    ROLLOUT_DURATION: Histogram "remuda_rollout_duration_seconds" ["service", "result"]
        "Time from a rollout's begin to its end.";

    DRAIN_IN_FLIGHT: Gauge "remuda_drain_in_flight_requests" ["service", "slot"]
        "Requests that a draining worker still has.";
    DRAIN_INITIAL: Gauge "remuda_drain_initial_in_flight_requests" ["service", "slot"]
        "Requests that a draining worker had when its drain began.";
    DRAIN_TUNNELS: Gauge "remuda_drain_upgraded_connections" ["service", "slot"]
        "Upgraded connections that a draining worker still has.";
    DRAIN_DEADLINE: Gauge "remuda_drain_deadline_timestamp_seconds" ["service", "slot"]
        "When the last request of a draining worker is cut.";
    DRAIN_DURATION: Histogram "remuda_drain_duration_seconds" ["service", "outcome"]
        "Time from the shutting of a worker's gate to its last request's end.";
    DRAINS: Counter "remuda_drains_total" ["service", "outcome"]
        "Drains that ended: clean, by their deadline, or because the worker ended first (killed).";
    DRAIN_CUT: Counter "remuda_drain_cut_requests_total" ["service", "class"]
        "Requests that a drain's limit cut, by class.";

    LOG_DROPPED: Counter "remuda_log_lines_dropped_total" ["stream"]
        "Lines of output that were dropped so that nobody had to wait.";

    RUNTIME_RESTORED: Counter "remuda_runtime_restored_total" ["what"]
        "Files and sockets of ours that somebody removed while we ran, and that were made again.";

    PLANES: Gauge "remuda_planes" []
        "Data plane processes that run.";
    PLANE_STARTS: Counter "remuda_plane_starts_total" []
        "Data plane processes started.";
    PLANE_REFUSED: Counter "remuda_plane_samples_refused_total" []
        "Samples of data planes that were not believed.";
    PLANE_CPU: Counter "remuda_plane_cpu_seconds_total" []
        "Processor time of all data planes, those that are gone included.";
    PLANE_RSS: Gauge "remuda_plane_resident_memory_bytes" []
        "Resident memory of the data planes.";
    PLANE_FDS: Gauge "remuda_plane_open_fds" []
        "Open descriptors of the data planes.";

    PROCESS_CPU: Counter "process_cpu_seconds_total" []
        "Processor time of the supervisor.";
    PROCESS_RSS: Gauge "process_resident_memory_bytes" []
        "Resident memory of the supervisor.";
    PROCESS_VIRTUAL: Gauge "process_virtual_memory_bytes" []
        "Virtual memory of the supervisor.";
    PROCESS_FDS: Gauge "process_open_fds" []
        "Open descriptors of the supervisor.";
    PROCESS_MAX_FDS: Gauge "process_max_fds" []
        "Limit of open descriptors of the supervisor.";
    PROCESS_THREADS: Gauge "process_threads" []
        "Threads of the supervisor.";
    PROCESS_START: Gauge "process_start_time_seconds" []
        "When the supervisor began.";
}
