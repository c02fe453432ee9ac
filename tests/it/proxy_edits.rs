//! What a service changes: fields, upgrades, and what clients read when there is nothing else.

use std::sync::Arc;

use remuda::link::message::{HostPattern, Network, Page, ProxyReason, Service, ServiceRules};
use remuda::rollout::ServiceName;

use crate::plane::{Plane, open};
use crate::worker::{Worker, reply, write};

#[test]
fn fields_are_set_and_left_out_in_both_directions() {
    let worker = Worker::scripted(|_, stream| {
        write(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: secret/1.0\r\nX-Frame-Options: ALLOW\r\n\r\nok",
        )
    });
    let plane = Plane::serving_by(&[open(1, worker.address)], |plane| {
        let edits = &mut plane.rules.edits;
        edits.request.set = vec![("x-stage".into(), "production".into())];
        edits.request.remove = vec!["x-debug".into()];
        edits.response.set = vec![("x-frame-options".into(), "DENY".into())];
        edits.response.remove = vec!["server".into()];
    });
    let mut client = plane.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Stage: mine\r\nx-stage: too\r\nX-Debug: 1\r\nX-Kept: 1\r\n\r\n",
    );
    let answer = client.answer();
    assert_eq!(answer.field("server"), None);
    assert_eq!(answer.field("x-frame-options"), Some("DENY"));
    assert_eq!(
        answer.head.matches("x-frame-options").count(),
        1,
        "{}",
        answer.head
    );
    let seen = worker.requests().pop().expect("a request");
    assert_eq!(seen.field("x-stage"), Some("production"));
    assert_eq!(seen.head.matches("x-stage").count(), 1, "{}", seen.head);
    assert_eq!(seen.field("x-debug"), None);
    assert_eq!(seen.field("x-kept"), Some("1"));
}

#[test]
fn t11_only_listed_protocols_are_upgraded_to() {
    let worker = Worker::scripted(|_, stream| reply(stream, "plain"));
    let plane = Plane::serving_by(&[open(1, worker.address)], |plane| {
        plane.rules.edits.upgrades = vec!["chat/2".into()];
    });
    let ask = |protocol: &str| {
        let mut client = plane.client();
        client.send(&format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        ));
        assert_eq!(client.answer().text(), "plain");
        let seen = worker.requests().pop().expect("a request");
        seen.field("upgrade").map(str::to_owned)
    };
    assert_eq!(ask("Chat/2").as_deref(), Some("chat/2"));
    assert_eq!(ask("websocket"), None);
    assert_eq!(ask("h2c"), None);
}

#[test]
fn answers_of_ours_say_why_and_show_the_services_page() {
    let page = |status, text: &str| Page {
        status,
        kind: "text/html; charset=utf-8".into(),
        text: text.into(),
    };
    let broken = Worker::scripted(|_, stream| write(stream, "SSH-2.0-x\r\n\r\n"));
    let mut plane = Plane::serving_by(&[open(1, broken.address)], |plane| {
        plane.rules.pages = vec![
            page(502, "<p>sorry, {request_id}</p>"),
            page(503, "<p>back soon</p>"),
        ];
    });
    let answer = plane.get("/");
    let id = answer.field("x-request-id").expect("an id").to_owned();
    assert_eq!(answer.status, 502);
    assert_eq!(answer.text(), format!("<p>sorry, {id}</p>"));
    assert_eq!(
        answer.field("content-type"),
        Some("text/html; charset=utf-8")
    );
    let why = answer.field("proxy-status");
    assert_eq!(why, Some("remuda; error=http_protocol_error"));

    plane.rules.maintenance = true;
    plane.publish(&[(10_000, &[open(1, broken.address)])]);
    let before = broken.requests().len();
    let answer = plane.get("/");
    assert_eq!((answer.status, answer.text()), (503, "<p>back soon</p>"));
    assert!(answer.field("retry-after").is_some());
    assert_eq!(broken.requests().len(), before, "nobody is asked");
}

/// The page is HTML, and a balancer that is believed passes its client's id on.
#[test]
fn t22_the_id_in_a_page_is_no_markup() {
    let given = r#"<script>a("b")&'\</script>"#;
    for (kind, shown) in [
        (
            "text/html; charset=utf-8",
            r"&lt;script&gt;a(&quot;b&quot;)&amp;&#39;\&lt;/script&gt;",
        ),
        (
            "application/problem+json",
            r#"<script>a(\"b\")&'\\</script>"#,
        ),
        ("text/plain", given),
    ] {
        let mut plane = Plane::serving_by(&[], |plane| {
            plane.front.trusted = vec![Network {
                address: [127, 0, 0, 1].into(),
                prefix: 32,
            }];
            plane.rules.maintenance = true;
            plane.rules.pages = vec![Page {
                status: 503,
                kind: kind.into(),
                text: "id={request_id}".into(),
            }];
        });
        let mut client = plane.client();
        client.send(&format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: {given}\r\n\r\n"
        ));
        assert_eq!(client.answer().text(), format!("id={shown}"), "{kind}");
        plane.sample();
    }
}

#[test]
fn what_is_refused_is_the_affair_of_the_service_it_was_meant_for_if_that_can_be_told() {
    let page = |text: &str| {
        [400, 404, 405].map(|status| Page {
            status,
            kind: "text/plain".into(),
            text: text.into(),
        })
    };
    let mut plane = Plane::serving_by(&[], |plane| {
        plane.rules.hosts = vec![HostPattern::Exact("app.test".into())];
        plane.rules.pages = page("of app").into();
        let rules = ServiceRules {
            hosts: vec![HostPattern::Exact("shop.test".into())],
            pages: page("of shop").into(),
            ..ServiceRules::default()
        };
        plane.others = vec![Service {
            name: ServiceName::new("shop"),
            rules: Arc::new(rules),
            generations: Vec::new(),
        }];
    });
    for (head, status, text) in [
        (
            "CONNECT shop.test:443 HTTP/1.1\r\nHost: shop.test:443\r\n",
            405,
            Some("of shop"),
        ),
        (
            "GET * HTTP/1.1\r\nHost: shop.test\r\n",
            400,
            Some("of shop"),
        ),
        ("GET * HTTP/1.1\r\nHost: app.test\r\n", 400, Some("of app")),
        // Of these it cannot be told, or nobody has it.
        (
            "GET / HTTP/1.1\r\nHost: app.test\r\nHost: shop.test\r\n",
            400,
            None,
        ),
        ("GET / HTTP/1.1\r\n", 400, None),
        (
            "GET / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: gzip\r\n",
            501,
            None,
        ),
        ("GET / HTTP/1.1\r\nHost: nobody.test\r\n", 404, None),
    ] {
        let mut client = plane.client();
        client.send(&format!("{head}\r\n"));
        let answer = client.answer();
        assert_eq!(answer.status, status, "{head}");
        match text {
            Some(text) => assert_eq!(answer.text(), text, "{head}"),
            None => assert!(!answer.text().contains("of "), "{head}"),
        }
    }
    let sample = plane.sample();
    let of = |name: &str| {
        let service = sample.services.iter().find(|it| &*it.name.0 == name);
        service.expect("known").errors()
    };
    assert_eq!(of("app"), [(ProxyReason::BadRequest, 1)]);
    assert_eq!(of("shop"), [(ProxyReason::BadRequest, 2)]);
    assert_eq!(sample.unrouted, 4);
}
