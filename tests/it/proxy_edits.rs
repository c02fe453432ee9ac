//! What a service changes: fields, upgrades, and what clients read when there is nothing else.

use remuda::link::message::Page;

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
