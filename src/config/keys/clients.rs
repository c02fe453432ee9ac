//! Where clients come in, and how they are met.

use super::{SOME_TIME, Section, key, optional};
use crate::config::value::Kind;

/// `[[listen]]`.
pub(super) const LISTEN: Section = Section {
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
            "A load balancer that is one of `trusted_proxies` says who the client is, by the PROXY protocol (version 1 or 2).\n\
             At a unix socket every peer must say it, also one that is not trusted otherwise. Forwarding headers are\n\
             believed then if the client that is named is one of `trusted_proxies`. A client that came by TLS, which\n\
             version 2 can say, has the scheme `https` and is left alone by `redirect_https`",
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
};

/// `[listen.tls]`.
pub(super) const TLS: Section = Section {
    path: "listen.tls",
    doc: "The certificates of the listener above, read anew on SIGHUP and when the files change",
    keys: &[
        optional(
            "cert",
            Kind::Paths,
            "\"cert.pem\"",
            "PEM file of a certificate and those that link it to a root, or a list of files. Clients get the one that\n\
             has the name they ask for, others the first. What is no name of a host, such as `localhost:8443`, is refused",
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
};

/// `[timeouts]`.
pub(super) const TIMEOUTS: Section = Section {
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
};

/// `[limits]`.
pub(super) const LIMITS: Section = Section {
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
};
