//! Second tries: never lost without need, never executed twice.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use remuda::link::message::ProxyReason;
use remuda::rollout::Role;
use socket2::{Domain, Socket, Type};

use crate::plane::{PATIENCE, Plane, open, shut, worker};
use crate::worker::{Worker, reply, write};

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("address")
}

#[test]
fn f40_nothing_sent_any_method_goes_elsewhere() {
    let good = Worker::named("good");
    let dead = nobody();
    let mut plane = Plane::serving(&[open(1, dead), open(2, good.address)]);
    for _ in 0..30 {
        let mut client = plane.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!(client.answer().text(), "good");
    }
    assert_eq!(good.requests().len(), 30);
    let sample = plane.sample();
    let dead = worker(&sample, 1);
    assert!(
        dead.failures > 0 && dead.failures == dead.requests,
        "{dead:?}"
    );
    let retries = sample.services[0].retries();
    assert_eq!(retries, [(ProxyReason::Connect, dead.failures)]);
    // By the role of the worker that failed.
    let tried = sample.services[0]
        .roles
        .iter()
        .filter(|of| !of.retries.is_empty());
    let tried: Vec<_> = tried.map(|of| of.role).collect();
    assert_eq!(tried, [Some(Role::Stable)]);
    assert!(sample.services[0].errors().is_empty());
}

#[test]
fn f40_a_request_waits_when_the_only_worker_is_gone() {
    let mut plane = Plane::serving(&[open(1, nobody())]);
    let mut client = plane.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    plane.until(|sample| sample.services[0].parked == 1);
    let good = Worker::named("good");
    plane.publish(&[(10_000, &[open(2, good.address)])]);
    assert_eq!(client.answer().text(), "good");
}

#[test]
fn f41_f42_i13_a_post_is_executed_once_and_a_get_is_saved() {
    let bad = Worker::scripted(|_, _| false);
    let good = Worker::named("good");
    let mut plane = Plane::serving(&[open(1, bad.address), open(2, good.address)]);
    let (mut answered, mut failed) = (0, 0);
    for number in 0..40 {
        let mut client = plane.client();
        client.send(&format!(
            "POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        ));
        match client.answer().status {
            200 => answered += 1,
            502 => failed += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!(bad.requests().len(), failed);
    assert_eq!(good.requests().len(), answered);
    assert!(failed > 0, "the bad worker was never picked");
    for number in 0..40 {
        assert_eq!(plane.get(&format!("/{number}")).text(), "good");
    }
    let sample = plane.sample();
    assert_eq!(worker(&sample, 1).failures, bad.requests().len() as u64);
}

#[test]
fn f49_of_many_that_wait_one_looks_whether_a_worker_that_refuses_is_back() {
    const MANY: usize = 40;
    // Bound, so that the port is ours, and not listening yet.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("bind");
    let address = socket.local_addr().expect("an address").as_socket();
    let mut plane = Plane::serving(&[open(1, address.expect("of IPv4"))]);
    let mut clients: Vec<_> = (0..MANY).map(|_| plane.client()).collect();
    let began = Instant::now();
    for client in &mut clients {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    }
    let (each, scouts) = (MANY as u64, 20);
    let sample = plane.until(|sample| worker(sample, 1).requests >= each + scouts);
    // Two loops, each with one in 100 ms.
    let most = 2.0 * (began.elapsed().as_secs_f64() / 0.1 + 1.0);
    let tried = worker(&sample, 1).requests - each;
    assert!(
        f64::from(u32::try_from(tried).expect("few")) <= most,
        "{tried} > {most}"
    );
    let retries: u64 = sample.services[0].retries().iter().map(|(_, n)| n).sum();
    assert!(retries <= 2 * each, "{retries} of two for each");
    socket.listen(128).expect("listens");
    let good = Worker::named_on("good", socket.into());
    for client in &mut clients {
        assert_eq!(client.answer().text(), "good");
    }
    assert_eq!(good.requests().len(), MANY);
}

#[test]
fn f49_where_all_workers_fail_nothing_is_tried_again() {
    let mortal = || Worker::scripted(|_, _| false);
    let workers = [mortal(), mortal(), mortal(), mortal()];
    let routes: Vec<_> = (1..)
        .zip(&workers)
        .map(|(id, w)| open(id, w.address))
        .collect();
    let mut plane = Plane::serving(&routes);
    let retries = |plane: &mut Plane| {
        let sample = plane.sample();
        let retries = sample.services[0].retries();
        retries.iter().map(|(_, n)| n).sum::<u64>()
    };
    for _ in 0..150 {
        assert_eq!(plane.get("/").status, 502);
    }
    let before = retries(&mut plane);
    // Ten and a fifth of the requests in each of two loops.
    assert!(before <= 50, "{before}");
    for _ in 0..150 {
        assert_eq!(plane.get("/").status, 502);
    }
    assert_eq!(retries(&mut plane), before);
}

#[test]
fn i13_all_that_the_only_worker_has_when_it_dies_waits_for_its_successor() {
    const MANY: usize = 16;
    let (dies, dead) = std::sync::mpsc::channel::<()>();
    let dead = std::sync::Mutex::new(dead);
    let dying = Worker::scripted(move |_, _| {
        // All of them at once, when nobody can say any more that it goes on.
        let _ = dead.lock().expect("sound").recv();
        false
    });
    let mut plane = Plane::serving(&[open(1, dying.address)]);
    let mut clients: Vec<_> = (0..MANY).map(|_| plane.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    plane.until(|sample| worker(sample, 1).in_flight.plain == 16);
    let next = Worker::named("next");
    plane.publish(&[(10_000, &[shut(1, dying.address), open(2, next.address)])]);
    drop(dies);
    for client in &mut clients {
        assert_eq!(client.answer().text(), "next");
    }
}

#[test]
fn f49_a_request_that_kills_its_worker_takes_two_at_most() {
    let mortal = || Worker::scripted(|_, _| false);
    let workers = [mortal(), mortal(), mortal(), mortal()];
    let routes: Vec<_> = (1..)
        .zip(&workers)
        .map(|(id, w)| open(id, w.address))
        .collect();
    let plane = Plane::serving(&routes);
    assert_eq!(plane.get("/poison").status, 502);
    let met: usize = workers.iter().map(|worker| worker.requests().len()).sum();
    assert_eq!(met, 2);
}

#[test]
fn f41_an_idle_connection_that_the_worker_closed_costs_no_get() {
    // Closes after each answer, without saying so before.
    let hasty = Worker::scripted(|_, stream| {
        reply(stream, "x");
        false
    });
    let plane = Plane::serving(&[open(1, hasty.address)]);
    let mut client = plane.client();
    for _ in 0..50 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer().text(), "x");
    }
}

#[test]
fn f41_a_request_outlives_the_only_worker_though_that_accepts_it_twice_while_it_dies() {
    // Whether the plane hears of the next one before it asks again is a matter of time; that it did not is
    // seen.
    let heard_in_time = (0..10).any(|_| {
        let dying = Arc::new(AtomicBool::new(false));
        let dies = {
            let dying = Arc::clone(&dying);
            Worker::scripted(move |_, stream| {
                !dying.load(Ordering::SeqCst) && reply(stream, "dies")
            })
        };
        let next = Worker::named("next");
        let mut plane = Plane::serving(&[open(1, dies.address)]);
        let mut client = plane.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer().text(), "dies");
        dying.store(true, Ordering::SeqCst);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        // On the connection that waited, and on one that the kernel still accepts.
        let begun = Instant::now();
        while dies.requests().len() < 3 {
            assert!(begun.elapsed() < PATIENCE, "it is not asked again");
            std::thread::yield_now();
        }
        plane.publish(&[(10_000, &[open(2, next.address)])]);
        let answer = client.answer();
        let in_time = dies.requests().len() == 3;
        if in_time {
            assert_eq!((answer.status, answer.text()), (200, "next"));
        }
        in_time
    });
    assert!(heard_in_time, "the machine is too slow to show it");
}

#[test]
fn f41_a_worker_that_dies_is_not_asked_again_while_its_listener_still_stands() {
    // The kernel closes a killed process's connections one by one, and its listener when it comes to that.
    let dying = Arc::new(AtomicBool::new(false));
    let dies = {
        let dying = Arc::clone(&dying);
        Worker::scripted(move |_, stream| !dying.load(Ordering::SeqCst) && reply(stream, "dies"))
    };
    let well = Worker::named("well");
    let routes = [open(1, dies.address), open(2, well.address)];
    let plane = Plane::serving_by(&routes, |plane| {
        // It fails so often that it would be left out for a while, as it should.
        plane.rules.ejection.consecutive = 0;
    });
    let mut client = plane.client();
    let mut ask = || {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.answer()
    };
    for round in 0..20 {
        dying.store(false, Ordering::SeqCst);
        // Until a connection to it waits for its next request.
        while ask().text() != "dies" {}
        dying.store(true, Ordering::SeqCst);
        let before = dies.requests().len();
        let mut asked = 0;
        while dies.requests().len() == before {
            let answer = ask();
            assert_eq!(
                (answer.status, answer.text()),
                (200, "well"),
                "round {round}"
            );
            asked += 1;
            assert!(asked < 1_000, "chance never picked it");
        }
        assert_eq!(dies.requests().len(), before + 1, "round {round}");
    }
}

#[test]
fn f42_an_answer_that_breaks_off_is_never_ended_as_if_whole() {
    for (name, head) in [
        (
            "length",
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        ),
        (
            "chunked",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        ),
    ] {
        let dying = Worker::scripted(move |_, stream| {
            write(stream, head);
            false
        });
        let good = Worker::named("good");
        let mut plane = Plane::serving(&[open(1, dying.address)]);
        let answer = plane.get("/");
        assert_eq!(answer.status, 200, "{name}");
        assert!(!answer.whole, "{name}");
        assert!(
            answer.text() == "half" || answer.text().is_empty(),
            "{name}"
        );
        assert!(good.requests().is_empty());
        let sample = plane.until(|sample| worker(sample, 1).requests == 1);
        assert_eq!(worker(&sample, 1).failures, 1, "{name}");
        assert_eq!(
            sample.services[0].errors(),
            [(ProxyReason::BadResponse, 1)],
            "{name}"
        );
    }
}

#[test]
fn f42_to_an_http10_client_a_cut_answer_ends_in_a_reset() {
    let dying = Worker::scripted(|_, stream| {
        write(
            stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        );
        false
    });
    let plane = Plane::serving(&[open(1, dying.address)]);
    let mut client = plane.client();
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let mut sink = Vec::new();
    let read = std::io::Read::read_to_end(&mut client.stream, &mut sink);
    assert_eq!(
        read.expect_err("no orderly end").kind(),
        std::io::ErrorKind::ConnectionReset
    );
}

#[test]
fn f43_an_upload_is_sent_again_only_if_it_is_kept_and_idempotent() {
    let count = AtomicUsize::new(0);
    let flaky = Worker::early(move |_, stream| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            // Dies while the body comes, after some of it.
            let mut some = [0; 16];
            let _ = std::io::Read::read(stream, &mut some);
            return false;
        }
        let mut body = [0; 1_000];
        let read = std::io::Read::read_exact(stream, &mut body);
        read.is_ok() && body.iter().all(|b| *b == b'x') && reply(stream, "again")
    });
    let plane = Plane::serving(&[open(1, flaky.address)]);
    let body = "x".repeat(1_000);
    let mut client = plane.client();
    client.send(&format!(
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{body}"
    ));
    assert_eq!(client.answer().text(), "again");

    let dying = Worker::early(|_, stream| {
        let mut some = [0; 16];
        let _ = std::io::Read::read(stream, &mut some);
        false
    });
    let plane = Plane::serving(&[open(1, dying.address)]);
    let mut client = plane.client();
    client.send(&format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{body}"
    ));
    assert_eq!(client.answer().status, 502);
    assert_eq!(dying.requests().len(), 1);
}
