//! Connections of HTTP/2 when the plane drains (F45), and limits that end streams.

use std::time::{Duration, Instant};

use h2::Reason;
use remuda::link::message::ToPlane;

use crate::h2::{ACK, GOAWAY, HEADERS, PING, Raw, Session, get, piece, request};
use crate::plane::{PATIENCE, Plane, open, shut, worker};
use crate::worker::{Door, ONE_EVENT, Worker, reply, write};

/// The highest number a stream can have.
const ALL: u32 = (1 << 31) - 1;

#[test]
fn f45_a_drain_has_two_steps_and_serves_a_stream_opened_between_them() {
    let (slow, door) = Worker::waiting("late");
    let mut plane = Plane::serving(&[open(1, slow.address)]);
    let mut raw = Raw::connect(plane.address);
    raw.get(1);
    plane.until(|sample| worker(sample, 1).in_flight.total() == 1);
    plane.send(&ToPlane::Drain);
    let first = raw.until(GOAWAY);
    assert_eq!((first.number(0), first.number(4)), (ALL, 0));
    let ping = raw.until(PING);
    raw.get(3);
    raw.send(PING, ACK, 0, &ping.payload);
    let last = raw.until(GOAWAY);
    assert_eq!((last.number(0), last.number(4)), (3, 0));
    door.open();
    let mut answered = Vec::new();
    while let Some(frame) = raw.next() {
        if frame.kind == HEADERS {
            assert_eq!(frame.status(), Some(200));
            answered.push(frame.stream);
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 3], "and then it is closed");
    plane.drained();
}

#[test]
fn f51_an_idle_client_that_does_not_say_that_it_has_heard_holds_no_drain() {
    let a = Worker::named("a");
    let mut plane = Plane::serving(&[open(1, a.address)]);
    // Asleep behind a gateway, say: its kernel is there, and nobody answers.
    let mut silent = Raw::connect(plane.address);
    let begun = Instant::now();
    plane.send(&ToPlane::Drain);
    silent.until(GOAWAY);
    silent.until(PING);
    plane.drained();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn f45_requests_without_pause_are_all_answered_until_the_client_is_told() {
    let a = Worker::named("a");
    let mut plane = Plane::serving(&[open(1, a.address)]);
    let address = plane.address;
    let clients: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut session = Session::connect(address);
                let mut served = 0;
                loop {
                    let mut begun = Vec::new();
                    let mut told = None;
                    for _ in 0..4 {
                        match session.try_begin(get("/"), true) {
                            Ok((response, _)) => begun.push(response),
                            Err(error) => {
                                told = Some(error);
                                break;
                            }
                        }
                    }
                    for response in begun {
                        match session.answer(response) {
                            Ok(answer) => {
                                assert_eq!(answer.text(), "a");
                                served += 1;
                            }
                            // It was on its way when the last word came, and may be sent again.
                            Err(error) => told = Some(error),
                        }
                    }
                    if let Some(error) = told {
                        assert!(error.is_go_away() && error.is_remote(), "{error:?}");
                        assert_eq!(error.reason(), Some(Reason::NO_ERROR));
                        session.ended().expect("an orderly end");
                        return served;
                    }
                }
            })
        })
        .collect();
    plane.until(|sample| worker(sample, 1).requests > 200);
    plane.send(&ToPlane::Drain);
    plane.drained();
    let served = clients
        .into_iter()
        .map(|client| client.join().expect("no panic"));
    assert_eq!(
        served.sum::<usize>(),
        a.requests().len(),
        "no worker saw what was refused"
    );
}

#[test]
fn f45_idle_connections_are_told_and_close_spread() {
    let a = Worker::named("a");
    let mut plane = Plane::serving(&[open(1, a.address)]);
    let sessions: Vec<_> = (0..24)
        .map(|_| {
            let mut session = Session::connect(plane.address);
            assert_eq!(session.ask(get("/")).text(), "a");
            session
        })
        .collect();
    let begun = Instant::now();
    plane.send(&ToPlane::Drain);
    let waiting: Vec<_> = sessions
        .into_iter()
        .map(|session| {
            std::thread::spawn(move || {
                session.ended().expect("an orderly end");
                begun.elapsed()
            })
        })
        .collect();
    let mut times: Vec<_> = waiting
        .into_iter()
        .map(|one| one.join().expect("no panic"))
        .collect();
    times.sort_unstable();
    let spread = *times.last().expect("some") - times[0];
    assert!(spread > Duration::from_millis(300), "{times:?}");
    plane.drained();
}

#[test]
fn f51_a_stream_that_stands_still_is_reset_at_the_drains_limit() {
    let door = Door::new();
    let inside = door.clone();
    let events = Worker::scripted(move |request, stream| {
        if request.path() == "/plain" {
            inside.wait();
            return reply(stream, "late");
        }
        write(stream, ONE_EVENT);
        inside.wait();
        false
    });
    let mut plane = Plane::serving_by(&[open(1, events.address)], |plane| {
        plane.rules.drain.request = Duration::from_millis(300);
        plane.rules.drain.stream = Duration::from_millis(600);
    });
    let mut session = Session::connect(plane.address);
    let (response, _) = session.begin(get("/"), true);
    let mut body = session.block(response).expect("a head").into_body();
    assert_eq!(
        session.block(piece(&mut body)).expect("one").expect("good"),
        "a\n\n"
    );
    let (plain, _) = session.begin(get("/plain"), true);
    plane.until(|sample| worker(sample, 1).in_flight.stream == 1);
    plane.until(|sample| worker(sample, 1).in_flight.plain == 1);
    plane.send(&ToPlane::Drain);
    assert_eq!(session.answer(plain).expect("an answer").status, 504);
    let cut = session.block(piece(&mut body)).expect("no end");
    assert!(cut.expect_err("a reset").is_reset());
    plane.drained();
    door.open();
}

#[test]
fn a_stream_of_a_worker_that_retires_is_reset_and_the_connection_stays() {
    let (events, door) = Worker::silent_after_an_event();
    let b = Worker::named("b");
    let mut plane = Plane::serving_by(&[open(1, events.address)], |plane| {
        plane.rules.drain.stream = Duration::from_millis(300);
    });
    let mut session = Session::connect(plane.address);
    let (response, _) = session.begin(get("/"), true);
    let mut body = session.block(response).expect("a head").into_body();
    session.block(piece(&mut body)).expect("one").expect("good");
    plane.until(|sample| worker(sample, 1).in_flight.stream == 1);
    plane.publish(&[
        (0, &[shut(1, events.address)]),
        (10_000, &[open(2, b.address)]),
    ]);
    assert_eq!(session.ask(get("/")).text(), "b");
    let cut = session.block(piece(&mut body)).expect("no end");
    assert!(cut.expect_err("a reset").is_reset());
    assert_eq!(session.ask(get("/")).text(), "b");
    let sample = plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    assert_eq!(worker(&sample, 1).cut.stream, 1);
    door.open();
}

#[test]
fn an_idle_connection_is_closed_with_a_goodbye() {
    let a = Worker::named("a");
    let plane = Plane::serving_by(&[open(1, a.address)], |plane| {
        plane.front.idle_timeout = Duration::from_millis(300);
    });
    let mut session = Session::connect(plane.address);
    assert_eq!(session.ask(get("/")).text(), "a");
    session.ended().expect("an orderly end");
}

#[test]
fn a_client_that_never_takes_the_hint_does_not_hold_a_drain() {
    let a = Worker::named("a");
    let mut plane = Plane::serving_by(&[open(1, a.address)], |plane| {
        plane.rules.drain.request = Duration::from_millis(500);
        plane.rules.body_idle_timeout = Duration::from_millis(200);
    });
    let address = plane.address;
    let mut raw = Raw::connect(address);
    raw.get(1);
    raw.until(HEADERS);
    // It never answers the PING between the two steps, and asks on.
    let asking = std::thread::spawn(move || {
        let begun = Instant::now();
        let mut number = 3;
        let mut answered = true;
        while begun.elapsed() < PATIENCE {
            if std::mem::replace(&mut answered, false) {
                let frame = crate::h2::Frame::new(
                    HEADERS,
                    crate::h2::END_HEADERS | crate::h2::END_STREAM,
                    number,
                    &crate::h2::fields(&crate::h2::ROOT),
                );
                if std::io::Write::write_all(&mut raw.stream, &frame.bytes()).is_err() {
                    return true;
                }
                number += 2;
            }
            match raw.next() {
                None => return true,
                Some(frame) => answered = frame.kind == HEADERS,
            }
        }
        false
    });
    plane.send(&ToPlane::Drain);
    assert!(asking.join().expect("no panic"), "it is served for ever");
    plane.drained();
}

#[test]
fn a_silent_client_that_was_told_is_closed_in_the_end() {
    let a = Worker::named("a");
    let mut plane = Plane::serving_by(&[open(1, a.address)], |plane| {
        plane.rules.body_idle_timeout = Duration::from_millis(200);
    });
    let mut raw = Raw::connect(plane.address);
    raw.get(1);
    raw.until(HEADERS);
    plane.send(&ToPlane::Drain);
    raw.until(GOAWAY);
    // It answers no PING, and does not leave.
    assert_eq!(raw.end(), None);
    plane.drained();
}

#[test]
fn a_post_in_flight_ends_well_in_a_drain() {
    let a = Worker::named("a");
    let mut plane = Plane::serving(&[open(1, a.address)]);
    let mut session = Session::connect(plane.address);
    let (response, mut stream) = session.begin(request("POST", "/"), false);
    plane.until(|sample| worker(sample, 1).in_flight.total() == 1);
    plane.send(&ToPlane::Drain);
    let error = loop {
        match session.try_begin(get("/"), true) {
            Ok((response, _)) => match session.answer(response) {
                Ok(answer) => assert_eq!(answer.text(), "a"),
                Err(error) => break error,
            },
            Err(error) => break error,
        }
    };
    assert!(error.is_go_away(), "{error}");
    let body = bytes::Bytes::from_static(b"late");
    stream.send_data(body.clone(), true).expect("sent");
    assert_eq!(session.answer(response).expect("served").text(), "a");
    let posts = a.requests();
    let post = posts.iter().find(|seen| seen.method() == "POST");
    assert_eq!(post.expect("it came").body, body);
    session.ended().expect("an orderly end");
    plane.drained();
}
