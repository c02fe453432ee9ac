//! Tables, named after the lines of the rules. Requests are written as text.

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue};

use super::*;
use crate::link::message::{Edits, Front};
use crate::proxy::digits::Address;
use crate::proxy::head::{AnswerHead, Fields};

fn id(text: &str) -> RequestId {
    RequestId::from_text(text).expect("an id")
}

fn origin() -> Origin {
    Origin {
        client: Some(Address::of([192, 0, 2, 1].into())),
        trusted: false,
        scheme: "http",
        grpc: false,
        request_id: id("id-1"),
        certificate: None,
    }
}

fn trusted() -> Origin {
    Origin {
        trusted: true,
        ..origin()
    }
}

/// A request from text: request line, then fields, by `\n`.
fn request(text: &str) -> RequestHead {
    let mut lines = text.lines();
    let mut start = lines.next().expect("a request line").split(' ');
    let (method, target) = (start.next().expect("method"), start.next().expect("target"));
    let version = match start.next() {
        Some("HTTP/1.0") => Version::HTTP_10,
        Some("HTTP/2") => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    let fields = lines.map(|line| line.split_once(':').expect("a field"));
    RequestHead {
        method: method.parse().expect("a method"),
        by_connect: false,
        uri: target.parse().expect("a target"),
        version,
        fields: Fields::from_pairs(fields),
    }
}

/// As the server would tell it, if it were as strict.
fn body_of(request: &RequestHead) -> Framing {
    framing(request).unwrap_or(Framing::Empty)
}

fn forward(text: &str, origin: &Origin) -> Result<Outgoing, Rejection> {
    let request = request(text);
    with_body(&request, body_of(&request), origin)
}

fn with_body(request: &RequestHead, body: Framing, origin: &Origin) -> Result<Outgoing, Rejection> {
    let front = Front::default();
    let (front, edits) = (&front, &Edits::default());
    let terms = Terms { front, edits };
    outgoing(
        request,
        target(request, front)?,
        body,
        origin,
        terms,
        &mut BytesMut::new(),
    )
}

/// The status a request is refused with; 0 if it is not.
fn refused(text: &str) -> u16 {
    forward(text, &origin()).map_or_else(|r| r.status.as_u16(), |_| 0)
}

/// The head for the worker, without the fields that say who the client is.
fn head(text: &str) -> String {
    let head = head_from(text, &origin());
    let ours = |line: &&str| !line.starts_with("x-forwarded-") && !line.starts_with("x-request-id");
    let kept: Vec<&str> = head.lines().filter(ours).collect();
    kept.join("\n")
}

fn head_from(text: &str, origin: &Origin) -> String {
    let out = forward(text, origin).expect("accepted");
    let head = String::from_utf8(out.head.to_vec()).expect("text");
    assert!(head.ends_with("\r\n\r\n") && !head[..head.len() - 4].contains("\r\n\r\n"));
    head
}

/// The values of a field in the head for the worker.
fn values(text: &str, origin: &Origin, name: &str) -> Vec<String> {
    let head = head_from(text, origin);
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let ours = lines.filter(|(n, _)| *n == name);
    ours.map(|(_, value)| value.to_owned()).collect()
}

#[test]
fn t9_exactly_one_valid_host() {
    for (host, status) in [
        ("Host: a.example", 0),
        ("Host: a.example:8080", 0),
        ("Host: a.example:", 0),
        ("Host: [::1]:80", 0),
        ("Host: [::1]", 0),
        ("Host: 192.0.2.1", 0),
        ("X: y", 400),
        ("Host: a\nHost: a", 400),
        ("Host: a\nHost: b", 400),
        ("Host: ", 400),
        ("Host: u@a", 400),
        ("Host: a#b", 400),
        ("Host: a?b", 400),
        ("Host: a/b", 400),
        ("Host: a\\b", 400),
        ("Host: a b", 400),
        ("Host: a,b", 400),
        ("Host: a:b", 400),
        ("Host: a:65536", 400),
        ("Host: a:1:2", 400),
        ("Host: :80", 400),
        ("Host: [::1", 400),
        ("Host: [x]", 400),
        ("Host: [::1]x", 400),
        ("Host: \u{e9}", 400),
    ] {
        assert_eq!(
            refused(&format!("GET / HTTP/1.1\n{host}")),
            status,
            "{host}"
        );
    }
    assert_eq!(head("GET / HTTP/1.0"), "GET / HTTP/1.1\nhost: \n");
    assert_eq!(refused("GET / HTTP/1.0\nHost: a\nHost: a"), 400);
}

#[test]
fn the_targets_authority_replaces_host() {
    assert_eq!(
        head("GET http://b.example:81/x?y HTTP/1.1\nHost: a.example"),
        "GET /x?y HTTP/1.1\nhost: b.example:81\n"
    );
    assert_eq!(refused("GET http://b.example/ HTTP/1.1"), 400);
    assert_eq!(refused("GET http://u:p@b.example/ HTTP/1.1\nHost: a"), 400);
    assert_eq!(refused("GET ftp://b.example/ HTTP/1.1\nHost: a"), 400);
    assert_eq!(refused("GET http://b.example/ HTTP/1.0"), 0);
    assert_eq!(refused("GET https://a/ HTTP/2\nHost: b"), 400);
    assert_eq!(refused("GET https://a/ HTTP/2"), 0);
}

#[test]
fn only_three_forms_of_target() {
    assert_eq!(refused("OPTIONS * HTTP/1.1\nHost: a"), 0);
    assert_eq!(refused("GET * HTTP/1.1\nHost: a"), 400);
    assert_eq!(refused("GET a.example:80 HTTP/1.1\nHost: a"), 400);
    assert_eq!(refused("CONNECT a.example:80 HTTP/1.1\nHost: a"), 405);
    assert_eq!(refused("CONNECT / HTTP/1.1\nHost: a"), 405);
}

#[test]
fn t10_limits_of_method_target_and_head() {
    let long = |n| "x".repeat(n);
    assert_eq!(refused(&format!("{} / HTTP/1.1\nHost: a", long(33))), 501);
    assert_eq!(
        refused(&format!("GET /{} HTTP/1.1\nHost: a", long(16 << 10))),
        414
    );
    // By the byte, and `:authority` is no part of it.
    let longest = long((16 << 10) - 1);
    for (target, version, wanted) in [
        (format!("/{longest}"), "HTTP/1.1\nHost: a", 0),
        (format!("https://a.example/{longest}"), "HTTP/2", 0),
        (format!("https://a.example/{longest}x"), "HTTP/2", 414),
    ] {
        assert_eq!(refused(&format!("GET {target} {version}")), wanted);
    }
    assert_eq!(
        refused(&format!("GET / HTTP/1.1\nHost: a\nX: {}", long(64 << 10))),
        431
    );
    let many = "X: y\n".repeat(100);
    assert_eq!(refused(&format!("GET / HTTP/1.1\nHost: a\n{many}")), 431);
}

#[test]
fn t9_transfer_encoding_is_one_chunked() {
    for (fields, status) in [
        ("Transfer-Encoding: chunked", 0),
        ("Transfer-Encoding: Chunked", 0),
        ("Transfer-Encoding: chunked, chunked", 400),
        (
            "Transfer-Encoding: chunked\nTransfer-Encoding: chunked",
            400,
        ),
        ("Transfer-Encoding: ,chunked", 400),
        ("Transfer-Encoding: chunked,", 400),
        ("Transfer-Encoding: ", 400),
        ("Transfer-Encoding: cow", 501),
        ("Transfer-Encoding: cow\nTransfer-Encoding: chunked", 501),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: identity", 501),
        ("Transfer-Encoding: xchunked", 501),
        ("Transfer-Encoding: \"chunked\"", 501),
        ("Transfer-Encoding: chunked\nContent-Length: 5", 400),
        ("Content-Length: 5\nTransfer-Encoding: chunked", 400),
        ("Content-Length: 5", 0),
        ("Content-Length: 5\nContent-Length: 5", 0),
        ("Content-Length: 5\nContent-Length: 6", 400),
        ("Content-Length: 5, 5", 400),
        ("Content-Length: +5", 400),
        ("Content-Length: -5", 400),
        ("Content-Length: 0x5", 400),
        ("Content-Length: 5_0", 400),
        ("Content-Length: ", 400),
        ("Content-Length: 18446744073709551616", 400),
    ] {
        let text = format!("POST / HTTP/1.1\nHost: a\n{fields}");
        assert_eq!(refused(&text), status, "{fields}");
    }
    assert_eq!(refused("POST / HTTP/1.0\nTransfer-Encoding: chunked"), 400);
}

#[test]
fn t9_one_framing_field_leaves() {
    assert_eq!(
        head("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: CHUNKED\nConnection: transfer-encoding"),
        "POST / HTTP/1.1\nhost: a\ntransfer-encoding: chunked\n"
    );
    assert_eq!(
        head("PUT / HTTP/1.1\nHost: a\nContent-Length: 007\nConnection: content-length, host"),
        "PUT / HTTP/1.1\nhost: a\ncontent-length: 7\n"
    );
    assert_eq!(
        head("POST / HTTP/1.1\nHost: a"),
        "POST / HTTP/1.1\nhost: a\ncontent-length: 0\n"
    );
    assert_eq!(head("GET / HTTP/1.1\nHost: a"), "GET / HTTP/1.1\nhost: a\n");
}

#[test]
fn a_body_that_contradicts_its_fields_is_refused() {
    let request = request("POST / HTTP/1.1\nHost: a\nContent-Length: 5");
    for body in [Framing::Empty, Framing::Length(6), Framing::Chunked] {
        let refused = with_body(&request, body, &origin());
        assert_eq!(refused.map(|_| ()).map_err(|r| r.status.as_u16()), Err(400));
    }
}

#[test]
fn t8_hop_by_hop_fields_stay_here() {
    let text = "GET / HTTP/1.1\nHost: a\nConnection: close, X-One\nConnection: x-two,Keep-Alive,\u{7f}\n\
        X-One: 1\nX-Two: 2\nX-Three: 3\nKeep-Alive: timeout=5\nProxy-Connection: x\n\
        Proxy-Authorization: secret\nTE: gzip\nTrailer: X\nUpgrade: h2c\nHTTP2-Settings: AAA";
    let text = text.replace('\u{7f}', "\u{e9}");
    assert_eq!(head(&text), "GET / HTTP/1.1\nhost: a\nx-three: 3\n");
}

#[test]
fn t8_a_client_cannot_name_our_fields_away() {
    let text = "GET / HTTP/1.1\nHost: a\n\
        Connection: X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, X-Request-Id, Host";
    for origin in [origin(), trusted()] {
        assert_eq!(values(text, &origin, "x-forwarded-for"), ["192.0.2.1"]);
        assert_eq!(values(text, &origin, "x-forwarded-proto"), ["http"]);
        assert_eq!(values(text, &origin, "x-forwarded-host"), ["a"]);
        assert_eq!(values(text, &origin, "x-request-id"), ["id-1"]);
        assert_eq!(values(text, &origin, "host"), ["a"]);
    }
}

const SPOOFED: &str = "GET / HTTP/1.1\nHost: a\nX-Forwarded-For: 10.0.0.1\nX-Forwarded-For: 10.0.0.2\n\
    X-Forwarded-Proto: https\nX-Forwarded-Host: bank.example\nX-Forwarded-Port: 443\n\
    X-Real-IP: 10.0.0.3\nForwarded: for=10.0.0.1\nX-Request-Id: theirs\n\
    X_Forwarded_For: 10.0.0.4\nX-Forwarded_Proto: https\nX_Request_Id: z\nContent_Length: 5\n\
    Transfer_Encoding: chunked\nA_B: kept";

#[test]
fn t7_forwarding_fields_of_strangers_are_dropped() {
    let lines: Vec<String> = head_from(SPOOFED, &origin())
        .lines()
        .map(Into::into)
        .collect();
    assert_eq!(
        lines,
        [
            "GET / HTTP/1.1",
            "host: a",
            "a_b: kept",
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-proto: http",
            "x-forwarded-host: a",
            "x-request-id: id-1",
            "",
        ]
    );
}

#[test]
fn t7_what_frameworks_believe_of_proxies_is_dropped_from_strangers_under_any_name() {
    let passes = |name: &str, origin: &Origin| {
        let text = format!("GET / HTTP/1.1\nHost: a\n{name}: 6.6.6.6");
        head_from(&text, origin).contains("6.6.6.6")
    };
    for name in [
        "CF-Connecting-IP",
        "CF-Connecting-IPv6",
        "CF-Pseudo-IPv4",
        "Client-IP",
        "DO-Connecting-IP",
        "Fastly-Client-IP",
        "Fly-Client-IP",
        "Forwarded-For",
        "Front-End-Https",
        "Proxy-Client-IP",
        "SSL-Client-Verify",
        "True-Client-IP",
        "WL-Proxy-Client-IP",
        "X-Amzn-Mtls-Clientcert-Subject",
        "X-Appengine-User-IP",
        "X-ARR-ClientCert",
        "X-Azure-ClientIP",
        "X-Client-Cert",
        "X-Client-IP",
        "X-Client-Verify",
        "X-Cluster-Client-IP",
        "X-Envoy-External-Address",
        "X-Forwarded",
        "X-Forwarded-Client-Cert",
        "X-Original-For",
        "X-Original-URL",
        "X-Real-IP",
        "X-Remote-Addr",
        "X-Rewrite-URL",
        "X-SSL-Client-S-DN",
        "X-SSL-Client-Verify",
        "X-URL-Scheme",
    ] {
        assert!(!passes(name, &origin()), "{name}");
        assert!(passes(name, &trusted()), "{name}");
        assert!(!trailer_allowed(name.to_lowercase().as_bytes()), "{name}");
        // A worker with CGI-like variables knows them as one.
        let disguised = name.replace('-', "_");
        assert!(!passes(&disguised, &origin()), "{disguised}");
    }
    // Those that gunicorn takes by these very names.
    for name in ["SCRIPT_NAME", "PATH_INFO", "script_name"] {
        assert!(
            !passes(name, &origin()) && passes(name, &trusted()),
            "{name}"
        );
    }
    for name in [
        "X-HTTP-Method-Override",
        "X-Requested-With",
        "X-Original-Filename",
        "X-Client-Version",
        "Remote-User",
        "CF-Ray",
        "Client-Hint",
        "Script-Name",
        "X_Custom",
        "SSL",
    ] {
        assert!(passes(name, &origin()), "{name}");
    }
}

#[test]
fn t7_a_trusted_peers_word_is_kept_and_added_to() {
    let lines: Vec<String> = head_from(SPOOFED, &trusted())
        .lines()
        .map(Into::into)
        .collect();
    assert_eq!(
        lines,
        [
            "GET / HTTP/1.1",
            "host: a",
            "x-forwarded-port: 443",
            "x-real-ip: 10.0.0.3",
            "a_b: kept",
            "x-forwarded-for: 10.0.0.1, 10.0.0.2, 192.0.2.1",
            "x-forwarded-proto: https",
            "x-forwarded-host: bank.example",
            "forwarded: for=10.0.0.1, for=192.0.2.1;proto=http;host=\"a\"",
            "x-request-id: id-1",
            "",
        ]
    );
}

#[test]
fn only_a_certificate_that_we_have_seen_is_passed_on() {
    let shown = Origin {
        certificate: Some("client-cert: :AAAA:\r\n".into()),
        ..trusted()
    };
    let text = "GET / HTTP/1.1\nHost: a\nClient-Cert: :BBBB:\nClient-Cert-Chain: :CCCC:\n\
                Client_Cert: :DDDD:";
    assert_eq!(values(text, &shown, "client-cert"), [":AAAA:"]);
    for origin in [origin(), trusted(), shown] {
        let none = values(text, &origin, "client-cert-chain");
        assert!(none.is_empty(), "{none:?}");
        let none = values(text, &origin, "client_cert");
        assert!(none.is_empty(), "{none:?}");
        if origin.certificate.is_none() {
            assert!(values(text, &origin, "client-cert").is_empty());
        }
    }
    assert!(is_ours(b"client-cert"), "no config may write it");
    assert!(!trailer_allowed(b"client-cert"));
}

#[test]
fn a_unix_peer_has_no_address() {
    let unix = Origin {
        client: None,
        ..origin()
    };
    let text = "GET / HTTP/1.1\nHost: a";
    assert!(values(text, &unix, "x-forwarded-for").is_empty());
    let unix = Origin {
        client: None,
        ..trusted()
    };
    let text = "GET / HTTP/1.1\nHost: a\nX-Forwarded-For: 10.0.0.1";
    assert_eq!(values(text, &unix, "x-forwarded-for"), ["10.0.0.1"]);
}

#[test]
fn t11_only_a_websocket_upgrade_goes_on() {
    let websocket = "Host: a\nUpgrade: WebSocket\nConnection: keep-alive, Upgrade";
    let asked = |text: &str| forward(text, &origin()).expect("accepted").upgrade;
    let good = format!("GET / HTTP/1.1\n{websocket}");
    assert_eq!(asked(&good).as_deref(), Some("websocket"));
    assert_eq!(
        head(&good),
        "GET / HTTP/1.1\nhost: a\nupgrade: websocket\nconnection: upgrade\n"
    );
    for text in [
        format!("GET / HTTP/1.0\n{websocket}"),
        format!("POST / HTTP/1.1\n{websocket}"),
        format!("GET / HTTP/1.1\n{websocket}\nContent-Length: 5"),
        "GET / HTTP/1.1\nHost: a\nUpgrade: websocket".into(),
        "GET / HTTP/1.1\nHost: a\nUpgrade: websocket\nConnection: close".into(),
        "GET / HTTP/1.1\nHost: a\nUpgrade: websockets, h2c\nConnection: upgrade".into(),
        "GET / HTTP/1.1\nHost: a\nUpgrade: h2c\nConnection: upgrade, http2-settings".into(),
        "GET / HTTP/1.1\nHost: a\nUpgrade: TLS/1.0\nConnection: upgrade".into(),
    ] {
        assert_eq!(asked(&text), None, "{text}");
        assert!(!head(&text).contains("upgrade"), "{text}");
    }
}

#[test]
fn t11_of_many_protocols_the_first_that_may_be_goes_on_alone() {
    for offered in [
        "websocket, foo",
        "h2c , WebSocket",
        ", foo,,websocket,",
        "foo\nUpgrade: websocket",
        "websocket\nUpgrade: websocket",
    ] {
        let text = format!("GET / HTTP/1.1\nHost: a\nUpgrade: {offered}\nConnection: upgrade");
        let asked = forward(&text, &origin()).expect("accepted").upgrade;
        assert_eq!(asked.as_deref(), Some("websocket"), "{offered}");
        assert_eq!(
            head(&text),
            "GET / HTTP/1.1\nhost: a\nupgrade: websocket\nconnection: upgrade\n"
        );
    }
}

#[test]
fn te_and_trailer_are_written_anew() {
    assert_eq!(
        head(
            "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nTE: deflate, Trailers\nConnection: TE\n\
             Trailer: X-Sum, Content-Length, Host, connection, a b\nTrailer: authorization, Y"
        ),
        "POST / HTTP/1.1\nhost: a\ntransfer-encoding: chunked\ntrailer: x-sum, y\n\
         te: trailers\nconnection: te\n"
    );
}

#[test]
fn forbidden_trailers_are_dropped() {
    let mut trailers = HeaderMap::new();
    for (name, value) in [
        ("content-length", "5"),
        ("x-sum", "1"),
        ("host", "b"),
        ("authorization", "c"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("x-forwarded-for", "d"),
        ("set-cookie", "e"),
    ] {
        trailers.append(name, HeaderValue::from_static(value));
    }
    assert_eq!(last_chunk(&trailers), "0\r\nx-sum: 1\r\n\r\n");
}

#[test]
fn only_exactly_100_continue_is_an_expectation() {
    for (expect, status, waits) in [
        ("Expect: 100-continue", 0, true),
        ("Expect: 100-Continue", 0, true),
        ("Expect: 100-continue, 100-continue", 417, false),
        ("Expect: 100-continue\nExpect: 100-continue", 417, false),
        ("Expect: 100", 417, false),
        ("Expect: x=100-continue", 417, false),
        ("Expect: ", 417, false),
    ] {
        let text = format!("POST / HTTP/1.1\nHost: a\nContent-Length: 5\n{expect}");
        assert_eq!(refused(&text), status, "{expect}");
        if status == 0 {
            let out = forward(&text, &origin()).expect("accepted");
            assert_eq!(out.expects_continue, waits);
            assert!(head(&text).contains("\nexpect: 100-continue\n"));
        }
    }
    for text in [
        "POST / HTTP/1.0\nContent-Length: 5\nExpect: 100-continue",
        "GET / HTTP/1.1\nHost: a\nExpect: 100-continue",
    ] {
        assert!(!head(text).contains("expect"), "{text}");
    }
}

#[test]
fn request_ids_are_checked() {
    let id = |fields: &str| {
        let request = request(&format!("GET / HTTP/1.1\n{fields}"));
        RequestId::given(&request).map(|id| id.as_str().to_owned())
    };
    assert_eq!(id("X-Request-Id: abc-1").as_deref(), Some("abc-1"));
    assert_eq!(id("X-Request-Id: a\nX-Request-Id: a"), None);
    assert_eq!(id("X-Request-Id: a b"), None);
    assert_eq!(id("X-Request-Id: "), None);
    assert_eq!(id("A: b"), None);
    assert_eq!(id(&format!("X-Request-Id: {}", "x".repeat(129))), None);
    assert!(id(&format!("X-Request-Id: {}", "x".repeat(128))).is_some());
}

fn reply(status: u16, fields: &[(&str, &str)], to: &Outgoing) -> Result<Returning, &'static str> {
    let head = AnswerHead {
        status: StatusCode::from_u16(status).expect("a status"),
        version: Version::HTTP_11,
        fields: Fields::from_pairs(fields.iter().copied()),
    };
    let edits = FieldEdits::default();
    answer(&head, to, &id("id-1"), &edits, BytesMut::new())
}

/// The lines behind the status line.
fn shown(returning: &Returning) -> Vec<&str> {
    let head = str::from_utf8(&returning.head).expect("text");
    assert!(head.ends_with("\r\n"));
    head.lines().skip(1).collect()
}

#[test]
fn t9_lines_that_came_as_we_write_them_go_on_like_all_others() {
    let text = "A: 1\r\nB: 2\r\nc:3\r\nD: 4\r\nHop: x\r\nE: 5\r\nF:\r\nG:  6\r\nH: 7 \r\nI:\t8\r\nJ: 9\r\n\r\n";
    let all = Fields::parse(text.into(), 100).expect("fields");
    let mut out = BytesMut::from("first\r\n");
    fields::write_all(&mut out, &all, |name| name != b"hop");
    let expected =
        "first\r\na: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\ne: 5\r\nf: \r\ng: 6\r\nh: 7\r\ni: 8\r\nj: 9\r\n";
    assert_eq!(str::from_utf8(&out), Ok(expected));
}

#[test]
fn an_answers_hop_by_hop_fields_stay_here() {
    let to = forward("GET / HTTP/1.1\nHost: a", &origin()).expect("accepted");
    let fields = [
        (
            "connection",
            "keep-alive, X-Hop, content-length, x-request-id",
        ),
        ("keep-alive", "timeout=5"),
        ("x-hop", "1"),
        ("upgrade", "h2c"),
        ("proxy-authenticate", "Basic"),
        ("content-length", "5"),
        ("trailer", "X-Sum, Content-Length"),
        ("server", "w"),
        ("date", "d"),
        ("x-request-id", "theirs"),
        ("set-cookie", "a"),
        ("set-cookie", "b"),
    ];
    let returning = reply(200, &fields, &to).expect("passed on");
    assert_eq!(
        shown(&returning),
        [
            "server: w",
            "date: d",
            "set-cookie: a",
            "set-cookie: b",
            "x-request-id: id-1",
        ]
    );
    assert_eq!(returning.length, Some(5));
    assert_eq!(returning.trailer.as_deref(), Some(&b"x-sum"[..]));
    assert!(returning.dated);
}

#[test]
fn t9_an_answer_with_both_framings_is_refused() {
    let to = forward("GET / HTTP/1.1\nHost: a", &origin()).expect("accepted");
    let both = [("content-length", "3"), ("transfer-encoding", "chunked")];
    assert!(reply(200, &both, &to).is_err());
    let chunked = reply(200, &both[1..], &to).expect("passed on");
    assert_eq!(shown(&chunked), ["x-request-id: id-1"]);
}

#[test]
fn t11_a_101_only_as_asked() {
    let plain = forward("GET / HTTP/1.1\nHost: a", &origin()).expect("accepted");
    let asked = "GET / HTTP/1.1\nHost: a\nUpgrade: websocket\nConnection: upgrade";
    let asked = forward(asked, &origin()).expect("accepted");
    let good = [("upgrade", "WebSocket"), ("connection", "Upgrade")];
    assert!(reply(101, &good, &plain).is_err());
    let passed = reply(101, &good, &asked).expect("passed on");
    assert_eq!(
        shown(&passed),
        [
            "connection: upgrade",
            "upgrade: WebSocket",
            "x-request-id: id-1"
        ]
    );
    for bad in [
        &[("upgrade", "h2c"), ("connection", "upgrade")][..],
        &[("upgrade", "websocket")],
        &[("connection", "upgrade")],
        &[],
    ] {
        assert!(reply(101, bad, &asked).is_err(), "{bad:?}");
    }
}

#[test]
fn methods_that_may_be_repeated() {
    for (method, may) in [
        ("GET", true),
        ("HEAD", true),
        ("OPTIONS", true),
        ("TRACE", true),
        ("PUT", true),
        ("DELETE", true),
        ("POST", false),
        ("PATCH", false),
        ("get", false),
        ("PROPFIND", false),
    ] {
        let out = forward(&format!("{method} / HTTP/1.1\nHost: a"), &origin());
        assert_eq!(out.expect("accepted").idempotent, may, "{method}");
    }
}
