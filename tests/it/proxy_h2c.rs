//! Workers that speak HTTP/2 (`protocol = "h2c"`), and tunnels by streams of it.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::ext::Protocol as Asked;
use h2::server::Builder;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use remuda::link::message::{Page, Protocol, Sample, WorkerSample};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::h2::{
    END_HEADERS, END_STREAM, Frame, HEADERS, PING, ROOT, RST_STREAM, Raw, Session, fields, get,
    piece, request, send,
};
use crate::h2_worker::{H2Worker, reply};
use crate::plane::{PATIENCE, Plane, Route, open, shut};
use crate::worker::{Worker, write};

fn serving(workers: &[Route]) -> Plane {
    Plane::serving_by(workers, |plane| plane.protocol = Protocol::H2c)
}

#[test]
fn i10_two_generations_are_spoken_to_each_in_its_own_protocol() {
    let (old, new) = (Worker::named("http1"), H2Worker::named("h2c"));
    let newer = Route {
        protocol: Some(Protocol::H2c),
        ..open(2, new.address)
    };
    let older = open(1, old.address);
    let mut plane = Plane::serving(&[older]);
    let mut client = plane.client();
    let mut seen = |plane: &mut Plane, shares: [u16; 2]| {
        plane.publish(&[(shares[0], &[older]), (shares[1], &[newer])]);
        let mut seen = BTreeSet::new();
        for _ in 0..60 {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let answer = client.answer();
            assert_eq!(answer.status, 200);
            seen.insert(answer.text().to_owned());
        }
        seen.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(seen(&mut plane, [10_000, 0]), ["http1"]);
    assert_eq!(seen(&mut plane, [5_000, 5_000]), ["h2c", "http1"]);
    assert_eq!(seen(&mut plane, [0, 10_000]), ["h2c"]);
    // Back again, as after a rollback.
    assert_eq!(seen(&mut plane, [10_000, 0]), ["http1"]);
}

#[test]
fn a_client_of_http1_reaches_a_worker_of_http2() {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let worker = H2Worker::start(Builder::new(), move |_, stream| {
        let head = (
            stream.request.uri().clone(),
            stream.request.headers().clone(),
        );
        tell.lock().expect("no panic").send(head).expect("heard");
        Box::pin(reply(stream, "from h2"))
    });
    let plane = serving(&[open(1, worker.address)]);
    let mut client = plane.client();
    for number in 0..3 {
        client.send(&format!(
            "POST /a?{number} HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\
             Connection: te, x-mine\r\nX-Mine: 1\r\nX-Yours: 2\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ));
        let answer = client.answer();
        assert_eq!((answer.status, answer.text()), (200, "from h2"));
        assert_eq!(answer.field("content-length"), Some("7"));
        assert_eq!(answer.field("connection"), None);
        let (uri, fields) = told.recv_timeout(PATIENCE).expect("a request");
        assert_eq!(uri.to_string(), format!("http://shop.test/a?{number}"));
        assert_eq!(
            fields.get("te"),
            Some(&HeaderValue::from_static("trailers"))
        );
        assert_eq!(fields.get("x-yours"), Some(&HeaderValue::from_static("2")));
        assert_eq!(fields["x-forwarded-for"], "127.0.0.1");
        for gone in [
            "connection",
            "transfer-encoding",
            "x-mine",
            "host",
            "upgrade",
        ] {
            assert!(!fields.contains_key(gone), "{gone}: {fields:?}");
        }
    }
    assert_eq!(worker.connections.load(Ordering::SeqCst), 1, "it is shared");
}

#[test]
fn messages_go_both_ways_at_once_and_trailers_come_last() {
    let worker = H2Worker::start(Builder::new(), |_, mut stream| {
        Box::pin(async move {
            let head = Response::builder().header("content-type", "application/grpc");
            let mut out = stream
                .respond
                .send_response(head.body(()).expect("a head"), false)
                .expect("the client is there");
            let mut body = stream.request.into_body();
            while let Some(data) = piece(&mut body).await {
                send(&mut out, data.expect("it goes on"), false).await;
            }
            let trailers = body.trailers().await.expect("they come");
            let mut last = trailers.unwrap_or_default();
            last.insert("grpc-status", HeaderValue::from_static("0"));
            let _ = out.send_trailers(last);
        })
    });
    let plane = serving(&[open(1, worker.address)]);
    let mut session = Session::connect(plane.address);
    let mut ask = request("POST", "/x.Y/Chat");
    ask.headers_mut()
        .insert("te", HeaderValue::from_static("trailers"));
    let (response, mut up) = session.begin(ask, false);
    session.block(async {
        let mut down = response.await.expect("an answer").into_body();
        for number in 0..50 {
            let message = Bytes::from(format!("message {number}"));
            send(&mut up, message.clone(), false).await;
            // Each is back before the next is sent: nothing is held up.
            let back = piece(&mut down).await.expect("it goes on").expect("whole");
            assert_eq!(back, message);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("50"));
        up.send_trailers(trailers).expect("open");
        assert!(piece(&mut down).await.is_none());
        let trailers = down.trailers().await.expect("they come").expect("some");
        assert_eq!(trailers["grpc-status"], "0");
        assert_eq!(trailers["x-sum"], "50");
    });
}

#[test]
fn trailers_behind_a_body_of_known_length_reach_a_client_of_http1_that_takes_them() {
    let worker = H2Worker::start(Builder::new(), |_, mut stream| {
        Box::pin(async move {
            let head = Response::builder().header("content-length", "4");
            let head = match stream.request.uri().path() {
                "/named" => head.header("trailer", "x-sum"),
                _ => head,
            };
            let sent = stream
                .respond
                .send_response(head.body(()).expect("a head"), false);
            let mut out = sent.expect("the client is there");
            send(&mut out, Bytes::from_static(b"body"), false).await;
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("1"));
            let _ = out.send_trailers(trailers);
        })
    });
    let plane = serving(&[open(1, worker.address)]);
    let mut client = plane.client();
    for (path, takes, length) in [
        ("/named", true, None),
        ("/named", false, Some("4")),
        ("/", true, Some("4")),
    ] {
        let te = if takes { "TE: trailers\r\n" } else { "" };
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n{te}\r\n"));
        let mut answer = client.head().expect("a head");
        assert_eq!(answer.field("content-length"), length, "{path}");
        if length.is_none() {
            assert_eq!(answer.field("trailer"), Some("x-sum"));
            assert_eq!(client.chunk().as_deref(), Some(&b"body"[..]));
            let end = b"0\r\nx-sum: 1\r\n\r\n";
            assert_eq!(client.take(end.len()).as_deref(), Some(&end[..]));
            continue;
        }
        answer.body = client.take(4).expect("a body");
        assert_eq!(answer.text(), "body");
    }
}

/// A worker of gRPC whose calls end all alike, or as their path says: by trailers alone, or behind a message.
fn ending(always: Option<&'static str>) -> H2Worker {
    H2Worker::start(Builder::new(), move |_, mut stream| {
        Box::pin(async move {
            let path = stream.request.uri().path().to_owned();
            let (alone, status) = match path.strip_prefix("/alone/") {
                Some(status) => (true, status),
                None => (false, path.trim_start_matches('/')),
            };
            let status = HeaderValue::from_str(always.unwrap_or(status)).expect("a value");
            let head = Response::builder().header("content-type", "application/grpc+proto");
            if alone {
                let head = head.header("grpc-status", status).body(());
                let _ = stream.respond.send_response(head.expect("a head"), true);
                return;
            }
            let head = head.body(()).expect("a head");
            let sent = stream.respond.send_response(head, false);
            let mut out = sent.expect("the client is there");
            send(&mut out, Bytes::from_static(b"message"), false).await;
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", status);
            let _ = out.send_trailers(trailers);
        })
    })
}

#[test]
fn f53_calls_of_grpc_that_fail_are_failures_though_the_status_is_200() {
    let worker = ending(None);
    let mut plane = serving(&[open(1, worker.address)]);
    let mut session = Session::connect(plane.address);
    let mut failures = 0;
    for (status, fails) in [
        ("0", false),
        // Cancelled, invalid, late, not found, denied, exhausted, not implemented, not authenticated.
        ("1", false),
        ("3", false),
        ("4", false),
        ("5", false),
        ("7", false),
        ("8", false),
        ("12", false),
        ("16", false),
        ("nonsense", false),
        // Unknown, internal, unavailable, data lost.
        ("2", true),
        ("13", true),
        ("14", true),
        ("15", true),
    ] {
        for path in [format!("/{status}"), format!("/alone/{status}")] {
            let answer = session.ask(get(&path));
            assert_eq!(answer.status, 200);
            let trailers = answer.trailers.as_ref();
            let said = trailers.unwrap_or(&answer.fields).get("grpc-status");
            assert_eq!(said.expect("it is passed on"), status);
            failures += u64::from(fails);
            let sample = plane.until(|sample| worker_of(sample).in_flight.total() == 0);
            assert_eq!(worker_of(&sample).failures, failures, "{path}");
        }
    }
}

fn worker_of(sample: &Sample) -> WorkerSample {
    crate::plane::worker(sample, 1)
}

#[test]
fn f53_a_worker_whose_calls_fail_is_ejected() {
    let (a, b) = (ending(Some("14")), ending(None));
    let mut plane = Plane::serving_by(&[open(1, a.address), open(2, b.address)], |plane| {
        plane.protocol = Protocol::H2c;
        plane.rules.ejection.base_time = Duration::from_secs(60);
        plane.rules.slow_start = Duration::ZERO;
    });
    let mut session = Session::connect(plane.address);
    let begun = Instant::now();
    loop {
        let answer = session.ask(get("/alone/0"));
        assert_eq!(answer.status, 200);
        let sample = plane.sample();
        assert!(!crate::plane::worker(&sample, 2).ejected);
        if crate::plane::worker(&sample, 1).ejected {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "it is never ejected");
    }
}

/// Not all clients of gRPC would try again behind an answer with a body (gRFC A6).
#[test]
fn answers_of_ours_to_calls_of_grpc_are_a_head_that_says_how_it_went() {
    let refusing = H2Worker::start(Builder::new(), |_, mut stream| {
        stream.respond.send_reset(Reason::REFUSED_STREAM);
        Box::pin(async {})
    });
    let mut plane = Plane::serving_by(&[open(1, refusing.address)], |plane| {
        plane.protocol = Protocol::H2c;
        plane.rules.max_body = Some(4);
        plane.rules.pages = vec![Page {
            status: 502,
            kind: "text/html".to_owned(),
            text: "sorry".to_owned(),
        }];
    });
    let mut session = Session::connect(plane.address);
    let mut call = |kind: &str, path: &str, body: &'static [u8]| {
        let mut request = request("POST", path);
        let kind = HeaderValue::from_str(kind).expect("a value");
        request.headers_mut().insert("content-type", kind);
        let answer = session.post(request, Bytes::from_static(body), None);
        answer.expect("an answer")
    };
    // Nobody takes it; it is too large; it is no target.
    let long = format!("/{}", "x".repeat(20_000));
    for (path, body, status, words) in [
        ("/a", &b"once"[..], "14", "502 Bad Gateway"),
        ("/a", b"large", "8", "413 Payload Too Large"),
        (&long, b"once", "8", "414 URI Too Long"),
    ] {
        for kind in ["application/grpc", "application/grpc+proto"] {
            let answer = call(kind, path, body);
            assert_eq!(answer.status, 200, "{words}");
            assert_eq!(answer.field("grpc-status"), Some(status), "{words}");
            let message = answer.field("grpc-message").expect("a message");
            let id = answer.field("x-request-id").expect("an id");
            assert_eq!(message, format!("{words}, request {id}"));
            assert_eq!(answer.field("content-type"), Some("application/grpc"));
            assert_eq!((answer.text(), answer.trailers.is_none()), ("", true));
            assert!(
                answer
                    .field("proxy-status")
                    .is_some_and(|why| why.starts_with("remuda; error="))
            );
        }
    }
    let answer = call("application/grpc-web", "/a", b"once");
    assert_eq!((answer.status, answer.text()), (502, "sorry"));
    assert_eq!(answer.field("grpc-status"), None);
    let sample = plane.until(|sample| worker_of(sample).in_flight.total() == 0);
    let service = &sample.services[0];
    let ended = |code| {
        let of = service.ended.iter().filter(|ended| ended.code == code);
        of.map(|ended| ended.count).sum::<u64>()
    };
    assert_eq!((ended(200), ended(502)), (6, 1), "as the clients saw it");
}

/// By itself its client would be told of a reset, by a number that means something else to it.
#[test]
fn f42_a_call_of_grpc_that_breaks_off_or_is_cut_is_told_that_it_may_come_again() {
    let worker = H2Worker::start(Builder::new(), |_, mut stream| {
        Box::pin(async move {
            let head = Response::builder().header("content-type", "application/grpc");
            let head = head.body(()).expect("a head");
            let sent = stream.respond.send_response(head, false);
            let mut out = sent.expect("the client is there");
            send(&mut out, Bytes::from_static(b"message"), false).await;
            // Its client ends its side once it has the message.
            while stream.request.body_mut().data().await.is_some() {}
            match stream.request.uri().path() {
                "/breaks" => out.send_reset(Reason::INTERNAL_ERROR),
                _ => std::future::pending().await,
            }
        })
    });
    let mut plane = Plane::serving_by(&[open(1, worker.address)], |plane| {
        plane.protocol = Protocol::H2c;
        plane.rules.drain.stream = Duration::from_millis(300);
    });
    let mut session = Session::connect(plane.address);
    let call = |session: &mut Session, kind: &str, path: &str| {
        let mut ask = request("POST", path);
        let kind = HeaderValue::from_str(kind).expect("a value");
        ask.headers_mut().insert("content-type", kind);
        let (response, mut up) = session.begin(ask, false);
        let mut down = session.block(response).expect("an answer").into_body();
        let message = session
            .block(piece(&mut down))
            .expect("one")
            .expect("whole");
        assert_eq!(message, "message");
        up.send_data(Bytes::new(), true).expect("open");
        down
    };
    let told = |session: &Session, mut down: RecvStream| {
        assert!(session.block(piece(&mut down)).is_none(), "no reset");
        let trailers = session
            .block(down.trailers())
            .expect("they come")
            .expect("some");
        trailers["grpc-status"].to_str().expect("text").to_owned()
    };
    let down = call(&mut session, "application/grpc", "/breaks");
    assert_eq!(told(&session, down), "14");
    // Of what is no call only a reset says that it is not whole.
    let mut down = call(&mut session, "text/plain", "/breaks");
    assert!(
        session
            .block(piece(&mut down))
            .is_some_and(|piece| piece.is_err())
    );
    let sample = plane.until(|sample| worker_of(sample).in_flight.total() == 0);
    assert_eq!(worker_of(&sample).failures, 2);

    let down = call(&mut session, "application/grpc", "/stays");
    plane.until(|sample| worker_of(sample).in_flight.stream == 1);
    plane.publish(&[(0, &[shut(1, worker.address)])]);
    assert_eq!(told(&session, down), "14");
    let sample = plane.until(|sample| worker_of(sample).in_flight.total() == 0);
    let of = worker_of(&sample);
    assert_eq!((of.failures, of.cut.stream), (2, 1));
}

#[test]
fn f44_a_refused_stream_goes_elsewhere_whatever_its_method() {
    let refusing = H2Worker::start(Builder::new(), |_, mut stream| {
        stream.respond.send_reset(Reason::REFUSED_STREAM);
        Box::pin(async {})
    });
    let good = H2Worker::named("good");
    let plane = serving(&[open(1, refusing.address), open(2, good.address)]);
    let mut session = Session::connect(plane.address);
    // More than the budget of further tries bears: what cost nobody anything is free (RFC 9113 §8.7).
    for number in 0..100 {
        let body = Bytes::from_static(b"once");
        let answer = session.post(request("POST", &format!("/{number}")), body, None);
        assert_eq!(answer.expect("an answer").text(), "good", "{number}");
    }
    assert_eq!(good.seen().len(), 100, "each exactly once");
    assert!(refusing.seen().len() > 20, "it was asked");
}

#[test]
fn f49_where_every_worker_refuses_streams_they_are_not_tried_again() {
    let refusing = || {
        H2Worker::start(Builder::new(), |_, mut stream| {
            stream.respond.send_reset(Reason::REFUSED_STREAM);
            Box::pin(async {})
        })
    };
    let (a, b) = (refusing(), refusing());
    let plane = serving(&[open(1, a.address), open(2, b.address)]);
    let mut session = Session::connect(plane.address);
    for number in 0..100 {
        let body = Bytes::from_static(b"once");
        let answer = session.post(request("POST", &format!("/{number}")), body, None);
        assert_eq!(answer.expect("an answer").status, 502, "{number}");
    }
    let tries = a.seen().len() + b.seen().len();
    assert!(tries < 120, "{tries} tries for 100 requests");
}

#[test]
fn f44_what_a_goodbye_leaves_behind_goes_elsewhere_whatever_its_method() {
    // Each connection serves one stream, and tells those behind it to go.
    let leaving = H2Worker::start(Builder::new(), |connection, stream| {
        connection.graceful_shutdown();
        Box::pin(reply(stream, "leaving"))
    });
    let plane = serving(&[open(1, leaving.address)]);
    let mut session = Session::connect(plane.address);
    let mut begun = Vec::new();
    for number in 0..30 {
        let (response, mut up) = session.begin(request("POST", &format!("/{number}")), false);
        up.send_data(Bytes::from_static(b"once"), true)
            .expect("open");
        begun.push(response);
    }
    for response in begun {
        let answer = session.answer(response).expect("an answer");
        assert_eq!((answer.status, answer.text()), (200, "leaving"));
    }
    let mut seen = leaving.seen();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), leaving.seen().len(), "none twice");
    assert_eq!(seen.len(), 30);
}

#[test]
fn f42_a_worker_that_gives_up_in_a_body_never_looks_whole() {
    let (give_up, _) = tokio::sync::watch::channel(0);
    let give_up = Arc::new(give_up);
    let all = Arc::clone(&give_up);
    let worker = H2Worker::start(Builder::new(), move |_, mut stream| {
        let mut told = all.subscribe();
        let number = stream.number;
        Box::pin(async move {
            let mut out = stream
                .respond
                .send_response(Response::new(()), false)
                .expect("the client is there");
            send(&mut out, Bytes::from_static(b"half"), false).await;
            let _ = told.wait_for(|of| *of == number).await;
            out.send_reset(Reason::INTERNAL_ERROR);
        })
    });
    let mut plane = Plane::start_with(1);
    plane.protocol = Protocol::H2c;
    plane.publish(&[(10_000, &[open(1, worker.address)])]);
    plane.accept();
    let mut session = Session::connect(plane.address);
    let (response, _) = session.begin(get("/"), true);
    session.block(async {
        let mut down = response.await.expect("an answer").into_body();
        assert_eq!(piece(&mut down).await.expect("half").expect("half"), "half");
        give_up.send_replace(1);
        assert!(matches!(piece(&mut down).await, Some(Err(_))));
    });
    let mut client = plane.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head().expect("a head");
    assert_eq!(client.chunk().as_deref(), Some(&b"half"[..]));
    give_up.send_replace(2);
    assert_eq!(client.chunk(), None, "no last chunk");
    assert!(client.closed());
}

#[test]
fn f52_a_call_that_its_client_cancels_is_cancelled_at_the_worker() {
    let (tell, told) = mpsc::channel();
    let tell = Arc::new(Mutex::new(tell));
    let worker = H2Worker::start(Builder::new(), move |_, mut stream| {
        let tell = Arc::clone(&tell);
        Box::pin(async move {
            let reset = std::future::poll_fn(|cx| stream.respond.poll_reset(cx)).await;
            let reason = reset.expect("a reset");
            tell.lock().expect("no panic").send(reason).expect("heard");
        })
    });
    let mut plane = serving(&[open(1, worker.address)]);
    let mut session = Session::connect(plane.address);
    let (response, mut up) = session.begin(request("POST", "/slow"), false);
    plane.until(|sample| sample.services[0].in_flight() == 1);
    while worker.seen().is_empty() {
        std::thread::yield_now();
    }
    up.send_reset(Reason::CANCEL);
    drop(response);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Reason::CANCEL));
    let sample = plane.until(|sample| sample.services[0].in_flight() == 0);
    assert_eq!(crate::plane::worker(&sample, 1).failures, 0);
    // The connection goes on for others.
    assert_eq!(worker.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn more_requests_than_a_worker_takes_on_one_connection_get_more_connections() {
    let mut settings = Builder::new();
    settings.max_concurrent_streams(4);
    let (release, _) = tokio::sync::watch::channel(false);
    let release = Arc::new(release);
    let all = Arc::clone(&release);
    let worker = H2Worker::start(settings, move |_, stream| {
        let mut released = all.subscribe();
        Box::pin(async move {
            let _ = released.wait_for(|released| *released).await;
            reply(stream, "at last").await;
        })
    });
    let mut plane = Plane::start_with(1);
    plane.protocol = Protocol::H2c;
    plane.publish(&[(10_000, &[open(1, worker.address)])]);
    plane.accept();
    let mut session = Session::connect(plane.address);
    // The first one learns how many it takes.
    let first = session.begin(get("/first"), true).0;
    while worker.seen().is_empty() {
        std::thread::yield_now();
    }
    let begun: Vec<_> = (0..20)
        .map(|number| session.begin(get(&format!("/{number}")), true).0)
        .collect();
    // All of them are at work at the same time.
    let started = Instant::now();
    while worker.seen().len() < 21 {
        assert!(started.elapsed() < PATIENCE, "{:?}", worker.seen().len());
        std::thread::yield_now();
    }
    assert!(worker.connections.load(Ordering::SeqCst) >= 6);
    release.send_replace(true);
    for response in begun.into_iter().chain([first]) {
        assert_eq!(
            session.answer(response).expect("an answer").text(),
            "at last"
        );
    }
}

#[test]
fn an_answer_before_the_end_of_its_request_is_whole() {
    let worker = H2Worker::start(Builder::new(), |_, mut stream| {
        Box::pin(async move {
            let head = Response::builder().status(403).body(()).expect("a head");
            let mut out = stream
                .respond
                .send_response(head, false)
                .expect("the client is there");
            send(&mut out, Bytes::from_static(b"no"), true).await;
            // The request's body is dropped, which resets the stream without an error.
        })
    });
    let plane = serving(&[open(1, worker.address)]);
    let mut session = Session::connect(plane.address);
    let body = Bytes::from(vec![b'x'; 4 << 20]);
    let answer = session.post(request("POST", "/"), body, None);
    let answer = answer.expect("an answer");
    assert_eq!((answer.status, answer.text()), (403, "no"));
}

#[test]
fn f42_an_answer_is_whole_though_its_stream_ends_later() {
    let ends = Arc::new(tokio::sync::Semaphore::new(0));
    let (tell, told) = mpsc::channel();
    let (may_end, tell) = (Arc::clone(&ends), Arc::new(Mutex::new(tell)));
    let worker = H2Worker::start(Builder::new(), move |_, mut stream| {
        let (may_end, tell) = (Arc::clone(&may_end), Arc::clone(&tell));
        Box::pin(async move {
            let head = match stream.request.uri().path() {
                "/none" => Response::builder().status(204),
                "/same" => Response::builder().status(304),
                _ => Response::builder().header("content-length", 4),
            };
            let head = head.body(()).expect("a head");
            let sent = stream.respond.send_response(head, false);
            let mut out = sent.expect("the client is there");
            let is_get = stream.request.method() == "GET";
            if is_get && stream.request.uri().path() == "/" {
                send(&mut out, Bytes::from_static(b"body"), false).await;
            }
            let end = tokio::select! {
                _ = may_end.acquire() => out.send_data(Bytes::new(), true).map_err(|_| None),
                reset = std::future::poll_fn(|cx| out.poll_reset(cx)) => Err(reset.ok()),
            };
            tell.lock().expect("no panic").send(end).expect("heard");
        })
    });
    let mut plane = serving(&[open(1, worker.address)]);
    let mut client = plane.client();
    let asked = [
        ("GET", "/"),
        ("HEAD", "/"),
        ("GET", "/none"),
        ("GET", "/same"),
    ];
    for (method, path) in asked.repeat(10) {
        client.send(&format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let answer = client.answer_to(method).expect("a whole one");
        let is_get_of_body = method == "GET" && path == "/";
        let body = if is_get_of_body { "body" } else { "" };
        assert_eq!(answer.text(), body, "{method} {path}");
    }
    let mut session = Session::connect(plane.address);
    assert_eq!(session.ask(request("HEAD", "/")).status, 200);
    // Nobody waits for them, and none was given up.
    let sample = plane.until(|sample| sample.services[0].in_flight() == 0);
    assert_eq!(sample.services[0].errors(), []);
    ends.add_permits(tokio::sync::Semaphore::MAX_PERMITS);
    for _ in 0..41 {
        assert_eq!(told.recv_timeout(PATIENCE), Ok(Ok(())));
    }
    // One of each loop that had a client.
    assert!(worker.connections.load(Ordering::SeqCst) <= 2);
}

#[test]
fn f22_a_connection_on_which_nothing_is_answered_is_left() {
    let worker = H2Worker::start(Builder::new(), |_, stream| {
        Box::pin(async move {
            match stream.connection {
                // The stream is kept, and nothing is said on it.
                1 => std::future::pending().await,
                _ => reply(stream, "well").await,
            }
        })
    });
    let plane = Plane::serving_by(&[open(1, worker.address)], |plane| {
        plane.protocol = Protocol::H2c;
        plane.rules.response_head_timeout = Duration::from_millis(200);
    });
    // One connection of the client, and so one loop.
    let mut client = plane.client();
    let mut ask = || {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.answer().status
    };
    assert_eq!([ask(), ask(), ask()], [504, 200, 200]);
    assert_eq!(worker.connections.load(Ordering::SeqCst), 2);
}

#[test]
fn an_informational_answer_that_switches_protocols_is_502_and_is_not_tried_again() {
    let worker = H2Worker::start(Builder::new(), |_, mut stream| {
        Box::pin(async move {
            let path = stream.request.uri().path();
            // There is none of 101 in HTTP/2 (RFC 9113 §8.6). Others are few.
            let (status, times) = match path {
                "/switch" => (101, 1),
                "/many" => (103, 100),
                _ => (103, 2),
            };
            for _ in 0..times {
                let early = Response::builder().status(status).body(());
                let _ = stream.respond.send_informational(early.expect("a head"));
            }
            reply(stream, "at last").await;
        })
    });
    let mut plane = serving(&[open(1, worker.address), open(2, worker.address)]);
    for (path, wanted) in [("/switch", 502), ("/many", 502), ("/", 200)] {
        let mut session = Session::connect(plane.address);
        let (mut response, _) = session.begin(get(path), true);
        let head = session.block(std::future::poll_fn(|cx| {
            while let Poll::Ready(Some(early)) = response.poll_informational(cx) {
                assert_eq!(early.expect("a head").status(), 103);
            }
            Pin::new(&mut response).poll(cx)
        }));
        assert_eq!(head.expect("an answer").status(), wanted, "{path}");
        for asked in [
            "",
            "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        ] {
            let mut client = plane.client();
            client.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n{asked}\r\n"));
            let status = loop {
                match client.head().expect("a head").status {
                    103 => {}
                    status => break status,
                }
            };
            assert_eq!(status, wanted, "{path} {asked}");
        }
    }
    assert_eq!(worker.seen().len(), 9, "each once");
    let sample = plane.sample();
    let failures = [1, 2].map(|id| crate::plane::worker(&sample, id).failures);
    assert_eq!(failures.iter().sum::<u64>(), 6);
}

#[test]
fn f52_calls_that_some_cancel_cost_those_nothing_who_share_a_connection_with_them() {
    // As strict as any server is known to be.
    const MOST: usize = 128;
    let resets = Arc::<Mutex<HashMap<usize, usize>>>::default();
    let (release, _) = tokio::sync::watch::channel(false);
    let (release, counted) = (Arc::new(release), Arc::clone(&resets));
    let all = Arc::clone(&release);
    let worker = H2Worker::start(Builder::new(), move |connection, mut stream| {
        let (counted, mut released) = (Arc::clone(&counted), all.subscribe());
        let of = |all: &HashMap<usize, usize>| all.get(&stream.connection).copied();
        if of(&counted.lock().expect("no panic")).is_some_and(|resets| resets > MOST) {
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
        Box::pin(async move {
            if stream.request.method() == "POST" {
                let _ = released.wait_for(|released| *released).await;
                return reply(stream, "at last").await;
            }
            let _ = std::future::poll_fn(|cx| stream.respond.poll_reset(cx)).await;
            let mut counted = counted.lock().expect("no panic");
            *counted.entry(stream.connection).or_default() += 1;
        })
    });
    let mut plane = Plane::start_with(1);
    plane.protocol = Protocol::H2c;
    plane.publish(&[(10_000, &[open(1, worker.address)])]);
    plane.accept();
    let mut neighbour = Session::connect(plane.address);
    let (mut held, mut seen) = (Vec::new(), 0);
    let until = |wanted: usize| {
        let begun = Instant::now();
        while worker.seen().len() < wanted {
            assert!(begun.elapsed() < PATIENCE, "{wanted}");
            std::thread::yield_now();
        }
    };
    // Each of them does little.
    for _ in 0..8 {
        held.push(neighbour.begin(request("POST", "/"), true).0);
        seen += 1;
        until(seen);
        let mut session = Session::connect(plane.address);
        // Half of them one by one, the others all at once.
        let mut begun = Vec::new();
        for number in 0..60 {
            begun.push(session.begin(get("/"), true));
            seen += 1;
            until(seen);
            if number < 30 {
                begun.clear();
            }
        }
    }
    let begun = Instant::now();
    while resets.lock().expect("no panic").values().sum::<usize>() < 8 * 60 {
        assert!(begun.elapsed() < PATIENCE, "{resets:?}");
        std::thread::yield_now();
    }
    release.send_replace(true);
    for response in held {
        let answer = neighbour.answer(response).expect("an answer");
        assert_eq!((answer.status, answer.text()), (200, "at last"));
    }
    let resets = resets.lock().expect("no panic").clone();
    assert!(resets.values().all(|resets| *resets < MOST), "{resets:?}");
    // Neither is there one for each.
    assert!(worker.connections.load(Ordering::SeqCst) < 60, "{resets:?}");
    let sample = plane.until(|sample| worker_of(sample).in_flight.total() == 0);
    assert_eq!(worker_of(&sample).failures, 0);
}

#[test]
fn f52_what_one_client_gives_up_at_once_costs_those_nothing_who_share_a_connection_with_it() {
    // A worker of `h2` takes 20 resets of streams that it has not seen, and then leaves with all it has.
    let (release, _) = tokio::sync::watch::channel(false);
    let release = Arc::new(release);
    let all = Arc::clone(&release);
    let worker = H2Worker::start(Builder::new(), move |_, mut stream| {
        let mut released = all.subscribe();
        Box::pin(async move {
            if stream.request.method() == "POST" {
                let _ = released.wait_for(|released| *released).await;
                return reply(stream, "at last").await;
            }
            let _ = std::future::poll_fn(|cx| stream.respond.poll_reset(cx)).await;
        })
    });
    let mut plane = Plane::start_with(1);
    plane.protocol = Protocol::H2c;
    plane.publish(&[(10_000, &[open(1, worker.address)])]);
    plane.accept();
    let mut neighbour = Session::connect(plane.address);
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(neighbour.begin(request("POST", "/"), true).0);
        let in_flight = u32::try_from(held.len()).expect("few");
        plane.until(|sample| sample.services[0].in_flight() == in_flight);
        let mut raw = Raw::connect(plane.address);
        let (mut begin, mut leave) = (Vec::new(), Vec::new());
        for stream in (1..200).step_by(2) {
            let head = Frame::new(HEADERS, END_HEADERS | END_STREAM, stream, &fields(&ROOT));
            begin.extend(head.bytes());
            let reset = Frame::new(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
            leave.extend(reset.bytes());
        }
        raw.stream.write_all(&begin).expect("sent");
        raw.send(PING, 0, 0, &[7; 8]);
        raw.until(PING);
        raw.stream.write_all(&leave).expect("sent");
        plane.until(|sample| sample.services[0].in_flight() == in_flight);
    }
    release.send_replace(true);
    for response in held {
        let answer = neighbour.answer(response).expect("an answer");
        assert_eq!((answer.status, answer.text()), (200, "at last"));
    }
}

#[test]
fn a_worker_that_does_not_speak_it_is_502() {
    let worker = Worker::named("plain");
    let plane = serving(&[open(1, worker.address)]);
    let mut session = Session::connect(plane.address);
    assert_eq!(session.ask(get("/")).status, 502);
}

/// The answer to a key that is a proof of having read it (RFC 6455 §4.2.2).
fn accept(key: &str) -> String {
    let guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let text = format!("{key}{guid}");
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let digits: Vec<char> = ('A'..='Z')
        .chain('a'..='z')
        .chain('0'..='9')
        .chain(['+', '/'])
        .collect();
    // Twenty bytes are 27 digits of six bits, the last of four.
    let bits = |n: usize| {
        hash.as_ref()
            .get(n / 8)
            .map_or(0, |byte| byte >> (7 - n % 8) & 1)
    };
    let digit = |at: usize| (0..6).fold(0, |sum, n| sum << 1 | usize::from(bits(at * 6 + n)));
    (0..27).map(|at| digits[digit(at)]).chain(['=']).collect()
}

#[test]
fn t11_a_worker_that_has_not_read_our_key_is_502() {
    assert_eq!(
        accept("dGhlIHNhbXBsZSBub25jZQ=="),
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    type Field = fn(&str) -> String;
    let cases: [(Field, u16); 5] = [
        (
            |key| format!("Sec-WebSocket-Accept: {}\r\n", accept(key)),
            200,
        ),
        (|_| format!("Sec-WebSocket-Accept: {}\r\n", accept("")), 502),
        (
            |key| format!("Sec-WebSocket-Accept: {}\r\n", accept(key).to_lowercase()),
            502,
        ),
        (|_| String::new(), 502),
        (
            |key| format!("Sec-WebSocket-Accept: {}\r\n", accept(key)).repeat(2),
            502,
        ),
    ];
    for (number, (field, status)) in cases.into_iter().enumerate() {
        let worker = Worker::early(move |request, stream| {
            if request.field("upgrade").is_none() {
                return crate::worker::reply(stream, "plain");
            }
            let field = field(request.field("sec-websocket-key").expect("a key"));
            let head =
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
            write(stream, &format!("{head}{field}\r\n"));
            let mut copy = stream.try_clone().expect("a copy");
            let _ = std::io::copy(stream, &mut copy);
            false
        });
        let mut plane = Plane::serving(&[open(1, worker.address)]);
        let mut session = Session::connect(plane.address);
        assert_eq!(session.ask(get("/")).text(), "plain");
        let (response, up) = session.begin(connect("websocket"), false);
        let head = session.block(response).expect("an answer");
        assert_eq!(head.status(), status, "{number}");
        drop((head, up));
        plane.until(|sample| sample.services[0].in_flight() == 0);
    }
}

/// Sends back what comes, once it has agreed to a WebSocket.
pub(crate) fn echo() -> Worker {
    Worker::early(|request, stream| {
        assert_eq!(request.field("upgrade"), Some("websocket"));
        assert_eq!(request.field("connection"), Some("upgrade"));
        let key = request.field("sec-websocket-key").expect("a key");
        assert!(key.len() == 24 && key.ends_with("A=="), "{key}");
        let accept = accept(key);
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
        );
        write(stream, &head);
        let mut copy = stream.try_clone().expect("a copy");
        let _ = std::io::copy(stream, &mut copy);
        let _ = copy.shutdown(std::net::Shutdown::Both);
        false
    })
}

pub(crate) fn connect(protocol: &'static str) -> Request<()> {
    let mut ask = request("CONNECT", "/chat");
    ask.extensions_mut().insert(Asked::from_static(protocol));
    ask.headers_mut()
        .insert("sec-websocket-version", HeaderValue::from_static("13"));
    ask
}

#[test]
fn t11_connect_with_a_protocol_is_a_tunnel() {
    let worker = echo();
    let mut plane = Plane::serving(&[open(1, worker.address)]);
    let mut session = Session::connect(plane.address);
    // The settings that allow it have come with the first answer.
    assert_eq!(session.ask(request("OPTIONS", "/nobody")).status, 502);
    let (response, mut up) = session.begin(connect("websocket"), false);
    session.block(async {
        let response = response.await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
        for gone in ["upgrade", "connection", "sec-websocket-accept"] {
            assert!(!response.headers().contains_key(gone), "{gone}");
        }
        let mut down = response.into_body();
        let mut sum = 0;
        for number in 0..20_usize {
            let message = Bytes::from(vec![b'm'; 1 + number * 5_000]);
            let size = message.len();
            send(&mut up, message, false).await;
            let mut came = 0;
            while came < size {
                came += piece(&mut down).await.expect("open").expect("whole").len();
            }
            sum += came;
        }
        assert_eq!(sum, 20 + 5_000 * 190);
    });
    let inside = plane.exchanges();
    assert_eq!(inside.len(), 1, "{inside:?}");
    session.block(async {
        up.send_data(Bytes::new(), true).expect("open");
    });
    plane.until(|sample| sample.services[0].in_flight() == 0);
}

#[test]
fn t11_connect_with_another_protocol_or_none_is_refused() {
    let worker = Worker::named("plain");
    let plane = Plane::serving(&[open(1, worker.address)]);
    let mut session = Session::connect(plane.address);
    assert_eq!(session.ask(get("/")).text(), "plain");
    let (response, _up) = session.begin(connect("connect-udp"), false);
    assert_eq!(session.answer(response).expect("an answer").status, 501);
    // One who answers 200 has not agreed to anything.
    let (response, _up) = session.begin(connect("websocket"), false);
    assert_eq!(session.answer(response).expect("an answer").status, 502);
    assert_eq!(worker.requests().len(), 2);
}

#[test]
fn f47_a_tunnel_by_a_stream_is_cut_by_the_drains_limit() {
    let worker = echo();
    let mut plane = Plane::serving_by(&[open(1, worker.address)], |plane| {
        plane.rules.drain.tunnel = Duration::from_millis(300);
    });
    let mut session = Session::connect(plane.address);
    assert_eq!(session.ask(request("OPTIONS", "/nobody")).status, 502);
    let (response, up) = session.begin(connect("websocket"), false);
    let mut down = session.block(async { response.await.expect("an answer").into_body() });
    plane.send(&remuda::link::message::ToPlane::Drain);
    let end = session.block(async { piece(&mut down).await });
    let end = end.expect("more").expect("no error");
    assert_eq!(&*end, b"\x88\x02\x03\xf4", "a close frame, status 1012");
    drop(up);
    plane.drained();
}
