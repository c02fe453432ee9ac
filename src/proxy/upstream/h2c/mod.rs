//! Workers that speak HTTP/2 without TLS, by prior knowledge (RFC 9113 §3.3): gRPC servers above all.
//!
//! A worker's requests share few connections, as many as its limit of streams asks for. What HTTP/1.1
//! cannot say is used: a stream that the worker has refused, or not looked at before it went away, was not
//! begun, so that any request may go elsewhere (F44).

mod download;
mod exchange;
mod sessions;
mod upload;
mod wire;

pub(super) use download::Download;
pub(in crate::proxy) use exchange::{To, send};
pub(super) use sessions::Sessions;
