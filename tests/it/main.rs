//! Integration tests: real sockets, and for `process_*` the real binary.

#![expect(clippy::panic, reason = "a test that cannot go on fails")]

mod h2;
mod h2_worker;
mod http_answers;
mod http_hops;
mod http_random;
mod http_requests;
mod http_streams;
mod plane;
mod process_plane;
mod proxy_access_log;
mod proxy_certificates;
mod proxy_drain;
mod proxy_edits;
mod proxy_ejection;
mod proxy_h2;
mod proxy_h2_attacks;
mod proxy_h2_drain;
mod proxy_h2c;
mod proxy_h2c_broken;
mod proxy_http;
mod proxy_introduced;
mod proxy_leaving;
mod proxy_limits;
mod proxy_once;
mod proxy_queue;
mod proxy_retry;
mod proxy_routing;
mod proxy_streams;
mod proxy_tls;
mod proxy_trusted_unix;
mod proxy_tunnels;
mod tls;
mod worker;
