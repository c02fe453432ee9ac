//! The admin side from outside: every call, and who may make it.

#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "a test program, whose failures are panics"
)]

#[path = "admin/rig.rs"]
mod rig;

use http::StatusCode;
use rig::{Call, Rig, Way, get, post, read_until, sample_event, sample_line};
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Every change, with a body that makes sense.
const CHANGES: [(&str, &str); 12] = [
    ("/v1/rollouts", "{}"),
    ("/v1/rollouts/app-4/pause", ""),
    ("/v1/rollouts/app-4/resume", ""),
    ("/v1/rollouts/app-4/promote", ""),
    ("/v1/rollouts/app-4/abort", ""),
    ("/v1/services/app/rollback", ""),
    ("/v1/services/app/scale", r#"{"workers":3}"#),
    ("/v1/services/app/workers/1/drain", ""),
    ("/v1/services/app/workers/1/undrain", ""),
    ("/v1/services/app/workers/1/restart", ""),
    ("/v1/reload", ""),
    ("/v1/upgrade", ""),
];
const OPEN: [&str; 10] = [
    "/",
    "/page.js",
    "/page.css",
    "/healthz",
    "/readyz",
    "/metrics",
    "/v1/status",
    "/v1/rollouts",
    "/v1/rollouts/app-4",
    "/v1/openapi.json",
];
const PRIVATE: [&str; 2] = ["/v1/services/app/requests", "/v1/services/app/logs"];

#[tokio::test]
async fn t3_over_tcp_looking_is_open_and_all_else_needs_the_token() {
    let rig = Rig::new().await;
    for path in OPEN {
        let got = rig.call(Way::Tcp, &get(path)).await;
        assert_eq!(got.status, StatusCode::OK, "{path}");
    }
    for path in PRIVATE {
        let refused = rig.call(Way::Tcp, &get(path)).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{path}");
        let got = rig.call(Way::Tcp, &get(path).bearer(&rig.token)).await;
        assert_eq!(got.status, StatusCode::OK, "{path}");
    }
    for (path, body) in CHANGES {
        let refused = rig.call(Way::Tcp, &post(path, body)).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(refused.header("www-authenticate").starts_with("Bearer"));
        assert_eq!(refused.header("content-type"), "application/problem+json");
    }
    assert_eq!(rig.asked(), ["requests app"], "nothing was changed");
}

#[tokio::test]
async fn t3_a_wrong_token_is_refused_without_detail_and_soon_slowed_while_the_right_one_passes() {
    let rig = Rig::new().await;
    let none = rig.call(Way::Tcp, &post("/v1/reload", "")).await;
    let wrong = ["x", "", &rig.token[1..], &format!("{}0", rig.token)];
    for token in wrong {
        let got = rig
            .call(Way::Tcp, &post("/v1/reload", "").bearer(token))
            .await;
        assert_eq!(got.status, StatusCode::UNAUTHORIZED);
        assert_eq!(got.body, none.body, "no word about what was wrong");
    }
    let basic = post("/v1/reload", "").with("authorization", &format!("Basic {}", rig.token));
    assert_eq!(
        rig.call(Way::Tcp, &basic).await.status,
        StatusCode::UNAUTHORIZED
    );
    let twice = post("/v1/reload", "").bearer("x").bearer(&rig.token);
    assert_eq!(
        rig.call(Way::Tcp, &twice).await.status,
        StatusCode::UNAUTHORIZED
    );
    let mut last = StatusCode::UNAUTHORIZED;
    for _ in 0..10 {
        let got = rig
            .call(Way::Tcp, &post("/v1/reload", "").bearer("x"))
            .await;
        last = got.status;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    let right = post("/v1/reload", "").bearer(&rig.token);
    assert_eq!(rig.call(Way::Tcp, &right).await.status, StatusCode::OK);
}

#[tokio::test]
async fn t4_a_change_needs_a_json_content_type_over_tcp() {
    let rig = Rig::new().await;
    let simple = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
        "application/jsonx",
    ];
    for (path, body) in CHANGES {
        for kind in simple {
            let call = post(path, body)
                .without("content-type")
                .with("content-type", kind);
            let open = rig.call(Way::Tcp, &call).await;
            assert_eq!(open.status, StatusCode::UNAUTHORIZED, "{path} {kind}");
            let got = rig.call(Way::Tcp, &call.bearer(&rig.token)).await;
            assert_eq!(
                got.status,
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "{path} {kind}"
            );
        }
        let missing = post(path, body).without("content-type").bearer(&rig.token);
        let got = rig.call(Way::Tcp, &missing).await;
        assert_eq!(got.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path}");
    }
    assert!(rig.asked().is_empty());
    let plain = post("/v1/reload", "").without("content-type");
    assert_eq!(rig.call(Way::Unix, &plain).await.status, StatusCode::OK);
    let charset = post("/v1/reload", "")
        .without("content-type")
        .with("content-type", "Application/JSON; charset=utf-8");
    let got = rig.call(Way::Tcp, &charset.bearer(&rig.token)).await;
    assert_eq!(got.status, StatusCode::OK);
}

#[tokio::test]
async fn a_body_of_another_type_is_read_before_it_is_refused() {
    let rig = Rig::new().await;
    let mut stream = UnixStream::connect(&rig.socket).await.expect("connected");
    let head = "POST /v1/rollouts HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = [0; 4096];
    let early = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut answer)).await;
    assert!(early.is_err(), "answered while its client may still send");
    stream.write_all(b"release=2").await.expect("sent");
    let length = stream.read(&mut answer).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 415 "), "{answer}");
    assert!(
        !answer.to_lowercase().contains("connection: close"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_body_of_a_stranger_is_read_before_it_is_refused() {
    let rig = Rig::new().await;
    for (host, more, status) in [
        ("localhost", "", 401),
        ("localhost", "Authorization: Bearer x\r\n", 401),
        ("localhost", "Origin: http://evil.example\r\n", 403),
        ("evil.example", "", 421),
    ] {
        let mut stream = tokio::net::TcpStream::connect(rig.tcp)
            .await
            .expect("connected");
        let head = format!(
            "POST /v1/rollouts HTTP/1.1\r\nHost: {host}\r\n{more}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = [0; 4096];
        let early = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut answer));
        assert!(
            early.await.is_err(),
            "{status} while its client may still send"
        );
        stream.write_all(b"{}").await.expect("sent");
        let length = stream.read(&mut answer).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..length]);
        let wanted = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&wanted), "{answer}");
        assert!(
            !answer.to_lowercase().contains("connection: close"),
            "{answer}"
        );
    }
    assert!(rig.asked().is_empty());
}

#[tokio::test]
async fn t4_requests_from_other_pages_are_refused_and_no_cors_header_is_sent() {
    let rig = Rig::new().await;
    let change = post("/v1/rollouts", "{}").bearer(&rig.token);
    let foreign = [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", "https://localhost"),
        ("origin", "http://localhost:3000"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ];
    for (name, value) in foreign {
        for call in [change.clone(), get("/v1/status"), get("/v1/events")] {
            let got = rig.call(Way::Tcp, &call.with(name, value)).await;
            assert_eq!(got.status, StatusCode::FORBIDDEN, "{name}: {value}");
            assert!(
                !got.headers
                    .keys()
                    .any(|name| name.as_str().starts_with("access-control"))
            );
        }
    }
    assert!(rig.asked().is_empty());
    let own = change
        .with("origin", "http://localhost")
        .with("sec-fetch-site", "same-origin");
    assert_eq!(rig.call(Way::Tcp, &own).await.status, StatusCode::ACCEPTED);
    let link = get("/")
        .with("sec-fetch-site", "cross-site")
        .with("sec-fetch-mode", "navigate");
    assert_eq!(rig.call(Way::Tcp, &link).await.status, StatusCode::OK);
    let preflight = Call {
        method: "OPTIONS",
        ..get("/v1/rollouts")
    };
    let got = rig.call(Way::Tcp, &preflight).await;
    assert_eq!(got.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn t4_get_changes_nothing_and_405_names_what_is_allowed() {
    let rig = Rig::new().await;
    for (path, _) in CHANGES {
        let got = rig.call(Way::Unix, &get(path)).await;
        if path == "/v1/rollouts" {
            assert_eq!(got.status, StatusCode::OK);
            continue;
        }
        assert_eq!(got.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(got.header("allow"), "POST", "{path}");
        assert_eq!(got.header("content-type"), "application/problem+json");
        assert_eq!(got.json()["status"], 405);
    }
    let got = rig.call(Way::Unix, &post("/v1/status", "")).await;
    assert_eq!(got.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(got.header("allow").contains("GET"));
    assert!(rig.asked().is_empty());
}

#[tokio::test]
async fn t5_only_a_loopback_host_is_answered_over_tcp() {
    let rig = Rig::new().await;
    let port = rig.tcp.port();
    for host in [
        "localhost",
        "127.0.0.1",
        "[::1]",
        &format!("localhost:{port}"),
    ] {
        let got = rig
            .call(Way::Tcp, &get("/v1/status").with("host", host))
            .await;
        assert_eq!(got.status, StatusCode::OK, "{host}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "10.0.0.1:9900",
        "0.0.0.0",
    ] {
        for path in ["/", "/healthz", "/metrics", "/v1/status", "/nowhere"] {
            let got = rig.call(Way::Tcp, &get(path).with("host", host)).await;
            assert_eq!(got.status, StatusCode::MISDIRECTED_REQUEST, "{host} {path}");
            assert_eq!(got.header("content-type"), "application/problem+json");
        }
        let got = rig
            .call(Way::Unix, &get("/v1/status").with("host", host))
            .await;
        assert_eq!(got.status, StatusCode::OK, "no browser reaches the socket");
        let got = rig
            .call(Way::Metrics, &get("/metrics").with("host", host))
            .await;
        assert_eq!(got.status, StatusCode::OK);
    }
    let missing = get("/v1/status").with("host", "-");
    assert_eq!(
        rig.call(Way::Tcp, &missing).await.status,
        StatusCode::BAD_REQUEST
    );
    let twice = get("/v1/status")
        .with("host", "localhost")
        .with("host", "evil.example");
    assert_eq!(
        rig.call(Way::Tcp, &twice).await.status,
        StatusCode::BAD_REQUEST
    );
    let absolute = get("http://evil.example/v1/status");
    let got = rig.call(Way::Tcp, &absolute).await;
    assert_eq!(got.status, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn t6_the_metrics_listener_has_metrics_and_health_and_nothing_else() {
    let rig = Rig::new().await;
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(
            rig.call(Way::Metrics, &get(path)).await.status,
            StatusCode::OK,
            "{path}"
        );
    }
    let others = OPEN
        .iter()
        .chain(&PRIVATE)
        .filter(|path| !path.contains("metrics") && !path.ends_with('z'));
    for path in others {
        let got = rig.call(Way::Metrics, &get(path)).await;
        assert_eq!(got.status, StatusCode::NOT_FOUND, "{path}");
    }
    for (path, body) in CHANGES {
        let got = rig
            .call(Way::Metrics, &post(path, body).bearer(&rig.token))
            .await;
        assert_eq!(got.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert!(rig.asked().is_empty());
}

#[tokio::test]
async fn t20_every_answer_forbids_framing_sniffing_and_foreign_script() {
    let rig = Rig::new().await;
    for path in OPEN.iter().chain(&["/nowhere"]) {
        let got = rig.call(Way::Tcp, &get(path)).await;
        let policy = got.header("content-security-policy");
        for rule in [
            "default-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"));
        assert_eq!(got.header("x-content-type-options"), "nosniff");
        assert_eq!(got.header("cache-control"), "no-store");
    }
    let page = rig.call(Way::Tcp, &get("/")).await;
    assert!(!page.text().contains("style=") && !page.text().contains("<style"));
    assert!(!page.text().contains("<script>") && !page.text().contains("onclick"));
    let script = rig.call(Way::Tcp, &get("/page.js")).await;
    for sink in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
    ] {
        assert!(!script.text().contains(sink), "{sink}");
    }
    assert!(script.header("content-type").starts_with("text/javascript"));
}

#[tokio::test]
async fn t25_an_order_sent_again_with_its_key_is_carried_out_once() {
    let rig = Rig::new().await;
    let order = post("/v1/rollouts", r#"{"service":"app"}"#).with("idempotency-key", "k1");
    let first = rig.call(Way::Unix, &order).await;
    assert_eq!(first.status, StatusCode::ACCEPTED);
    let again = post("/v1/rollouts", r#"{ "service": "app" }"#).with("idempotency-key", "k1");
    let second = rig.call(Way::Unix, &again).await;
    assert_eq!((second.status, &second.body), (first.status, &first.body));
    let other = post("/v1/rollouts", r#"{"force":true}"#).with("idempotency-key", "k1");
    let got = rig.call(Way::Unix, &other).await;
    assert_eq!(got.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(rig.asked().len(), 1);
}

#[tokio::test]
async fn t25_concurrent_duplicates_share_one_order_even_if_the_first_client_leaves() {
    let rig = Rig::new().await;
    let order = post("/v1/rollouts", r#"{"reason":"held"}"#).with("idempotency-key", "k1");
    let gone = tokio::time::timeout(Duration::from_millis(50), rig.call(Way::Unix, &order)).await;
    assert!(gone.is_err(), "the order is held");
    let release = async {
        while rig.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        rig.release.notify_one();
    };
    let with_token = order.clone().bearer(&rig.token);
    let (a, b, ()) = tokio::join!(
        rig.call(Way::Unix, &order),
        rig.call(Way::Tcp, &with_token),
        release
    );
    assert_eq!(a.status, StatusCode::ACCEPTED);
    assert_eq!(a.body, b.body);
    assert_eq!(rig.asked().len(), 1);
}

#[tokio::test]
async fn t25_a_stale_order_is_a_conflict() {
    let rig = Rig::new().await;
    let got = rig
        .call(
            Way::Unix,
            &post("/v1/rollouts", r#"{"expected_generation":9}"#),
        )
        .await;
    assert_eq!(got.status, StatusCode::CONFLICT);
    assert!(
        got.json()["detail"]
            .as_str()
            .expect("text")
            .contains("stable generation is 3")
    );
}

#[tokio::test]
async fn half_sent_heads_in_every_place_on_tcp_keep_others_out_for_a_moment_only() {
    use tokio::io::AsyncWriteExt;
    let rig = Rig::new().await;
    let mut held = Vec::new();
    for _ in 0..96 {
        let mut stream = tokio::net::TcpStream::connect(rig.tcp)
            .await
            .expect("connected");
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHo")
            .await
            .expect("taken");
        held.push(stream);
    }
    let began = std::time::Instant::now();
    let unix = rig.call(Way::Unix, &get("/healthz")).await;
    assert_eq!(unix.status, StatusCode::OK);
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "the unix socket is apart"
    );
    let tcp = rig.call(Way::Tcp, &get("/healthz")).await;
    assert_eq!(tcp.status, StatusCode::OK);
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn t26_a_storm_of_orders_over_tcp_is_slowed() {
    let rig = Rig::new().await;
    let order = post("/v1/rollouts", "{}").bearer(&rig.token);
    let mut refused = 0;
    for _ in 0..150 {
        if rig.call(Way::Tcp, &order).await.status == StatusCode::TOO_MANY_REQUESTS {
            refused += 1;
        }
    }
    assert!(refused > 0);
    let got = rig.call(Way::Unix, &post("/v1/rollouts", "{}")).await;
    assert_eq!(got.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_rollout_is_ordered_with_its_trigger_and_who_asked() {
    let rig = Rig::new().await;
    let cli =
        post("/v1/rollouts", r#"{"release":"v2","reason":"new"}"#).with("remuda-client", "cli");
    let got = rig.call(Way::Unix, &cli).await;
    assert_eq!(got.status, StatusCode::ACCEPTED);
    assert_eq!(got.json()["rollouts"][0]["id"], "app-4");
    let empty = rig.call(Way::Unix, &post("/v1/rollouts", "")).await;
    assert_eq!(empty.status, StatusCode::ACCEPTED, "all services restart");
    rig.call(Way::Tcp, &cli.bearer(&rig.token)).await;
    let asked = rig.asked();
    let me = format!(
        "by uid {} pid {}",
        nix::unistd::geteuid(),
        std::process::id()
    );
    assert!(
        asked[0].contains("Cli") && asked[0].ends_with(&me),
        "{}",
        asked[0]
    );
    assert!(asked[1].contains("Api"), "{}", asked[1]);
    assert!(asked[2].contains("Api by 127.0.0.1:"), "{}", asked[2]);
}

#[tokio::test]
async fn an_order_that_makes_no_sense_is_refused_with_a_sentence() {
    let rig = Rig::new().await;
    let long = format!(r#"{{"release":"{}"}}"#, "é".repeat(129)).leak();
    let wordy = format!(r#"{{"reason":"{}"}}"#, "é".repeat(501)).leak();
    let cases = [
        (r#"{"strategy":"canary"}"#, 422, "not in this version"),
        (r#"{"servce":"app"}"#, 422, "unknown field"),
        (r#"{"force":"yes"}"#, 422, "invalid type"),
        (r#"{"release":""}"#, 422, "empty"),
        (&*long, 422, "at most 128 characters, not 129"),
        (
            &*wordy,
            422,
            "the reason has at most 500 characters, not 501",
        ),
        (r#"{"reason":"a\nb"}"#, 422, "control characters"),
        (r#"{"reason":"a\u001b[2Jb"}"#, 422, "control characters"),
        // What ends a line or turns its direction is no text of one line either.
        (r#"{"reason":"a\u2028b"}"#, 422, "control characters"),
        (r#"{"release":"a\u202eb"}"#, 422, "control characters"),
        ("[]", 422, "JSON object"),
        (r#" ["app"]"#, 422, "JSON object"),
        ("null", 422, "JSON object"),
        ("[]x", 400, "not JSON"),
        ("{", 400, "not JSON"),
        (
            r#"{"service":"nope"}"#,
            404,
            "there is no service `nope`; there is `app`",
        ),
    ];
    for (body, status, detail) in cases {
        let got = rig.call(Way::Unix, &post("/v1/rollouts", body)).await;
        assert_eq!(got.status.as_u16(), status, "{body}");
        assert_eq!(got.header("content-type"), "application/problem+json");
        let problem = got.json();
        assert_eq!(problem["status"], status);
        assert!(
            problem["detail"].as_str().expect("text").contains(detail),
            "{problem}"
        );
        assert!(problem["type"].is_string() && problem["title"].is_string());
    }
    let fine = rig
        .call(
            Way::Unix,
            &post("/v1/rollouts", r#"{"strategy":"rolling"}"#),
        )
        .await;
    assert_eq!(fine.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_list_is_no_order_of_any_kind() {
    let rig = Rig::new().await;
    for (path, _) in CHANGES {
        for body in ["[]", "[3]", "1"] {
            let got = rig.call(Way::Unix, &post(path, body)).await;
            assert_eq!(got.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        }
    }
    assert_eq!(rig.asked(), [""; 0], "nothing was changed");
}

#[tokio::test]
async fn a_rollout_is_steered_and_orders_are_idempotent() {
    let rig = Rig::new().await;
    let steer = async |order: &str| {
        rig.call(
            Way::Unix,
            &post(&format!("/v1/rollouts/app-4/{order}"), "{}"),
        )
        .await
    };
    for (order, state) in [
        ("pause", "paused"),
        ("pause", "paused"),
        ("resume", "running"),
        ("abort", "rolled_back"),
        ("abort", "rolled_back"),
    ] {
        let got = steer(order).await;
        assert_eq!(got.status, StatusCode::OK, "{order}");
        assert_eq!(got.json()["state"], state);
    }
    assert_eq!(rig.asked().len(), 4, "the second abort found it so");
    for order in ["pause", "resume", "promote"] {
        assert_eq!(steer(order).await.status, StatusCode::CONFLICT, "{order}");
    }
    let completed = rig
        .call(Way::Unix, &post("/v1/rollouts/app-2/promote", ""))
        .await;
    assert_eq!(completed.status, StatusCode::OK);
    let too_late = rig
        .call(Way::Unix, &post("/v1/rollouts/app-2/abort", ""))
        .await;
    assert_eq!(too_late.status, StatusCode::CONFLICT);
    for path in [
        "/v1/rollouts/app-99/pause",
        "/v1/rollouts/app-4/dance",
        "/v1/rollouts/%00/abort",
    ] {
        let got = rig.call(Way::Unix, &post(path, "")).await;
        assert_eq!(got.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn services_and_workers_take_orders() {
    let rig = Rig::new().await;
    let call = async |path: &str, body| rig.call(Way::Unix, &post(path, body)).await;
    let scaled = call("/v1/services/app/scale", r#"{"workers":6}"#).await;
    assert_eq!(
        (scaled.status, &scaled.json()["wanted"]),
        (StatusCode::OK, &json!(4))
    );
    let drained = call("/v1/services/app/workers/1/drain", "").await;
    assert_eq!(drained.status, StatusCode::OK);
    let back = call("/v1/services/app/rollback", "").await;
    assert_eq!(back.status, StatusCode::ACCEPTED);
    assert_eq!(back.json()["rollouts"][0]["id"], "app-4");
    let reloaded = call("/v1/reload", "").await;
    assert_eq!(
        reloaded.json(),
        json!({"changes": ["service app: workers 4 → 6"], "warnings": [], "rollouts": []})
    );
    let planned = call("/v1/reload", r#"{"dry_run":true}"#).await;
    assert_eq!(planned.json(), reloaded.json());
    let wrong = call("/v1/reload", r#"{"dryrun":true}"#).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        call("/v1/upgrade", "").await.status,
        StatusCode::NOT_IMPLEMENTED
    );
    let asked = rig.asked().join("\n");
    for words in [
        "Scale",
        "wanted: 6",
        "Drain",
        "Slot(1)",
        "Rollback",
        "reload by uid",
        "\nplan",
    ] {
        assert!(asked.contains(words), "{words}: {asked}");
    }
    let refused = [
        ("/v1/services/nope/scale", r#"{"workers":6}"#, 404),
        ("/v1/services/app/scale", r#"{"workers":0}"#, 422),
        ("/v1/services/app/scale", r#"{"workers":-1}"#, 422),
        ("/v1/services/app/scale", r#"{"workers":77}"#, 422),
        ("/v1/services/app/scale", "", 422),
        ("/v1/services/app/workers/99/drain", "", 404),
        ("/v1/services/app/workers/x/drain", "", 400),
        ("/v1/services/app/workers/1/dance", "", 404),
        ("/v1/reload", r#"{"x":1}"#, 422),
    ];
    for (path, body, status) in refused {
        let got = call(path, body).await;
        assert_eq!(got.status.as_u16(), status, "{path} {body}");
        assert_eq!(got.header("content-type"), "application/problem+json");
    }
}

#[tokio::test]
async fn what_is_missing_is_null_and_never_absent() {
    let rig = Rig::new().await;
    rig.status.send_modify(|status| {
        let status = std::sync::Arc::make_mut(status);
        let app = status.services.get_mut("app").expect("there");
        (app.rollout, app.waiting_on, app.release) = (None, None, None);
    });
    let status = rig.call(Way::Tcp, &get("/v1/status")).await.json();
    let app = status["services"]["app"].as_object().expect("an object");
    for key in ["rollout", "waiting_on", "release"] {
        assert!(app[key].is_null(), "{key}");
    }
    assert!(status.as_object().expect("an object")["admin"].is_null());
    let worker = &app["generations"][1]["workers"][1];
    assert!(worker.as_object().expect("an object")["rss"].is_null());
    let requests = rig
        .call(Way::Unix, &get("/v1/services/app/requests"))
        .await
        .json();
    assert!(requests["requests"][0].as_object().expect("an object")["eta"].is_null());
}

#[tokio::test]
async fn readiness_says_why_it_is_not() {
    let rig = Rig::new().await;
    rig.ready.send_replace(false);
    let got = rig.call(Way::Metrics, &get("/readyz")).await;
    assert_eq!(got.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(got.header("content-type"), "application/problem+json");
    rig.status
        .send_modify(|status| std::sync::Arc::make_mut(status).state = "stopping".to_owned());
    let got = rig.call(Way::Tcp, &get("/readyz")).await;
    assert_eq!(got.json()["detail"], "remuda is stopping");
    assert_eq!(
        rig.call(Way::Tcp, &get("/healthz")).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_scrape_is_answered_from_the_last_text_while_the_loop_is_busy() {
    let rig = Rig::new().await;
    let got = rig.call(Way::Metrics, &get("/metrics")).await;
    assert_eq!(
        got.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert_eq!(got.text(), "remuda_build_info 1\n");
    rig.mute.store(true, Ordering::SeqCst);
    let got = rig.call(Way::Metrics, &get("/metrics")).await;
    assert_eq!(
        (got.status, got.text()),
        (StatusCode::OK, "remuda_build_info 1\n")
    );
    let status = rig.call(Way::Tcp, &get("/v1/status")).await;
    assert_eq!(
        status.status,
        StatusCode::OK,
        "status needs no answer of the loop"
    );
}

#[tokio::test]
async fn events_are_resumed_by_number_and_a_gap_is_told() {
    let rig = Rig::new().await;
    for number in 1..=3 {
        rig.events
            .push(sample_event("worker_ready", &format!("event {number}")));
    }
    let mut live = rig.open(Way::Tcp, &get("/v1/events")).await;
    assert_eq!(live.headers()["content-type"], "text/event-stream");
    rig.events.push(sample_event("promoted", "event 4"));
    let mut text = String::new();
    read_until(live.body_mut(), &mut text, "event 4").await;
    assert!(text.contains("id: 4\nevent: promoted\ndata: {"), "{text}");
    assert!(!text.contains("event 3"), "only what comes from now on");
    drop(live);

    let mut resumed = rig
        .open(Way::Tcp, &get("/v1/events").with("last-event-id", "2"))
        .await;
    let mut text = String::new();
    read_until(resumed.body_mut(), &mut text, "event 4").await;
    assert!(
        text.contains("id: 3\n") && !text.contains("id: 2\n") && !text.contains("gap"),
        "{text}"
    );

    for number in 5..=9 {
        rig.events
            .push(sample_event("worker_ready", &format!("event {number}")));
    }
    let mut late = rig.open(Way::Unix, &get("/v1/events?since=1")).await;
    let mut text = String::new();
    read_until(late.body_mut(), &mut text, "event 9").await;
    assert!(
        text.contains("event: gap\n") && text.contains("3 earlier events"),
        "{text}"
    );
    let data = text
        .lines()
        .find(|line| line.starts_with("data: ") && line.contains("event 9"));
    let event: remuda::wire::Event =
        serde_json::from_str(&data.expect("there")[6..]).expect("an event");
    assert_eq!(event.kind, "worker_ready");

    // Numbers of a supervisor before this one.
    let mut other = rig
        .open(Way::Unix, &get("/v1/events").with("last-event-id", "5000"))
        .await;
    read_until(other.body_mut(), &mut String::new(), "id: 5\n").await;
    for bad in ["/v1/events?since=x", "/v1/events?sinse=1"] {
        assert_eq!(
            rig.call(Way::Unix, &get(bad)).await.status,
            StatusCode::BAD_REQUEST,
            "{bad}"
        );
    }
}

#[tokio::test]
async fn streams_have_a_limit_and_give_their_place_back() {
    let rig = Rig::new().await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(rig.open(Way::Tcp, &get("/v1/events")).await);
    }
    let got = rig.call(Way::Unix, &get("/v1/events")).await;
    assert_eq!(got.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        rig.call(Way::Tcp, &get("/v1/status")).await.status,
        StatusCode::OK
    );
    streams.clear();
    // The server notices that a client is gone when its connection says so.
    let freed = async {
        while rig.open(Way::Unix, &get("/v1/events")).await.status() != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), freed)
        .await
        .expect("a place");
}

#[tokio::test]
async fn logs_are_listed_and_followed_by_slot() {
    let rig = Rig::new().await;
    rig.logs.push(sample_line(1, "one"));
    rig.logs.push(sample_line(2, "two"));
    let all = rig
        .call(Way::Unix, &get("/v1/services/app/logs"))
        .await
        .json();
    assert_eq!(all["lines"].as_array().map(Vec::len), Some(2));
    let some = rig
        .call(Way::Unix, &get("/v1/services/app/logs?slot=2"))
        .await
        .json();
    assert_eq!(some["lines"][0]["line"], "two");
    let mut live = rig
        .open(Way::Unix, &get("/v1/services/app/logs?slot=2&follow=true"))
        .await;
    assert_eq!(live.headers()["content-type"], "application/x-ndjson");
    let mut text = String::new();
    read_until(live.body_mut(), &mut text, "two").await;
    rig.logs.push(sample_line(1, "three"));
    rig.logs.push(sample_line(2, "four"));
    read_until(live.body_mut(), &mut text, "four").await;
    let lines: Vec<remuda::wire::LogLine> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line"))
        .collect();
    let words: Vec<&str> = lines.iter().map(|line| line.line.as_str()).collect();
    assert_eq!(words, ["two", "four"]);
    for (path, status) in [
        ("/v1/services/nope/logs", 404),
        ("/v1/services/app/logs?slot=99", 404),
        ("/v1/services/app/logs?slot=99&follow=true", 404),
        ("/v1/services/app/logs?slots=1", 400),
        ("/v1/services/app/logs?follow=maybe", 400),
    ] {
        assert_eq!(
            rig.call(Way::Unix, &get(path)).await.status.as_u16(),
            status,
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_openapi_document_has_every_call() {
    let rig = Rig::new().await;
    let document = rig.call(Way::Tcp, &get("/v1/openapi.json")).await.json();
    let paths = document["paths"].as_object().expect("paths");
    let has = |method: &str, path: &str| {
        paths.iter().any(|(template, item)| {
            let parts = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
            let (template, path) = (parts(template), parts(path));
            template.len() == path.len()
                && template
                    .iter()
                    .zip(&path)
                    .all(|(a, b)| a == b || a.starts_with('{'))
                && item.get(method).is_some()
        })
    };
    for path in OPEN.iter().chain(&PRIVATE).chain(&["/v1/events"]) {
        let is_page = *path == "/" || path.starts_with("/page.");
        assert!(is_page || has("get", path), "GET {path}");
    }
    for (path, _) in CHANGES {
        assert!(has("post", path), "POST {path}");
    }
    for (path, item) in paths {
        let Some(call) = item.get("post") else {
            continue;
        };
        assert!(call["security"].is_array(), "{path} needs the token");
    }
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().expect("a name");
        assert!(
            document["components"]["schemas"][name].is_object(),
            "{name}"
        );
    }
}

#[tokio::test]
async fn bodies_and_heads_have_limits() {
    let rig = Rig::new().await;
    let large: &'static str = Box::leak(format!("\"{}\"", "x".repeat(70_000)).into_boxed_str());
    let got = rig.call(Way::Unix, &post("/v1/rollouts", large)).await;
    assert_eq!(got.status, StatusCode::PAYLOAD_TOO_LARGE);
    let head = get("/v1/status").with("x-long", &"x".repeat(40_000));
    let got = rig.call(Way::Unix, &head).await;
    assert_eq!(got.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert!(rig.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_no_head_is_dropped() {
    let rig = Rig::new().await;
    let mut stream = UnixStream::connect(&rig.socket).await.expect("connected");
    stream
        .write_all(b"GET /v1/status HTTP/1.1\r\nHos")
        .await
        .expect("sent");
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "closed by the server");
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn stopping_ends_streams_and_lets_answers_finish() {
    let rig = Rig::new().await;
    let mut events = rig.open(Way::Tcp, &get("/v1/events?since=0")).await;
    let mut text = String::new();
    read_until(events.body_mut(), &mut text, "hello").await;
    let begun = std::time::Instant::now();
    rig.running.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    let end = http_body_util::BodyExt::collect(events.into_body()).await;
    assert!(end.is_ok(), "ended in order");
    assert!(tokio::net::TcpStream::connect(rig.tcp).await.is_err());
}
