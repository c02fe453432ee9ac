//! TLS towards clients: who gets to see which certificate, what is agreed on, and how a connection ends.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use remuda::link::message::{AcceptError, Network, Sample, TlsOffer, ToPlane};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, HandshakeKind, ProtocolVersion, SupportedProtocolVersion,
};

use crate::h2::{Session, get, request};
use crate::plane::{Plane, open, worker};
use crate::tls::{Authority, Secure, greet, offer, over, serving, serving_by};
use crate::worker::{Door, Worker, reply, write};

static ONLY_12: &[&SupportedProtocolVersion] = &[&TLS12];
static ONLY_13: &[&SupportedProtocolVersion] = &[&TLS13];
const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn ask(client: &mut Secure) -> String {
    client.send(ASK);
    client.answer().text().to_owned()
}

/// Connections on which no TLS was agreed on.
/// So many handshakes were refused, and no more: a client may see the end before it is counted.
#[track_caller]
fn assert_refused(plane: &mut Plane, count: u64) {
    let refused = |sample: &Sample| -> u64 {
        let errors = sample.accept_errors.iter();
        let refused = errors.filter(|(error, _)| *error == AcceptError::Tls);
        refused.map(|(_, count)| count).sum()
    };
    let sample = plane.until(|sample| refused(sample) >= count);
    assert_eq!(refused(&sample), count);
}

fn plain(authority: &Authority) -> Arc<ClientConfig> {
    authority.client().config()
}

#[test]
fn http_1_is_spoken_by_tls_and_the_worker_is_told() {
    let a = Worker::named("a");
    let authority = Authority::new();
    let plane = serving(&[open(1, a.address)], offer(&[&authority.identity(&["a"])]));
    for protocols in [&[][..], &["http/1.1"], &["http/1.0"], &["http/1.1", "h2"]] {
        let mut trust = authority.client();
        trust.protocols = protocols;
        if protocols.len() == 2 {
            // What the server prefers holds.
            let mut session = Session::secure(plane.address, trust.config(), "a");
            assert_eq!(session.ask(get("/")).text(), "a");
            continue;
        }
        let mut client = greet(plane.address, &trust.config(), "a");
        for _ in 0..3 {
            assert_eq!(ask(&mut client), "a", "kept alive");
        }
        let agreed = client.stream.conn.alpn_protocol();
        assert_eq!(agreed, protocols.first().map(|name| name.as_bytes()));
    }
    for request in a.requests() {
        assert_eq!(request.field("x-forwarded-proto"), Some("https"));
        assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
    }
    assert_eq!(a.requests().len(), 10);
}

#[test]
fn http_2_is_agreed_on_and_never_begun_without() {
    let a = Worker::named("a");
    let authority = Authority::new();
    let identity = authority.identity(&["a"]);
    let plane = serving(&[open(1, a.address)], offer(&[&identity]));
    let mut trust = authority.client();
    trust.protocols = &["h2", "http/1.1"];
    let mut session = Session::secure(plane.address, trust.config(), "a");
    assert_eq!(session.ask(get("/")).text(), "a");
    // A preface that was not agreed on is a request of a version that is not spoken here.
    let mut client = greet(plane.address, &plain(&authority), "a");
    client.send(std::str::from_utf8(crate::h2::PREFACE).expect("letters"));
    assert_eq!(client.answer().status, 505);

    let mut without = offer(&[&identity]);
    without.http2 = false;
    let plane = serving(&[open(1, a.address)], without);
    let mut client = greet(plane.address, &trust.config(), "a");
    assert_eq!(ask(&mut client), "a");
    assert_eq!(client.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[test]
fn nothing_in_common_by_alpn_is_refused() {
    let a = Worker::named("a");
    let authority = Authority::new();
    let mut plane = serving(&[open(1, a.address)], offer(&[&authority.identity(&["a"])]));
    let mut trust = authority.client();
    trust.protocols = &["spdy/3"];
    let mut client = greet(plane.address, &trust.config(), "a");
    let error = client.shake().expect_err("nothing in common");
    assert!(
        error.to_string().contains("NoApplicationProtocol"),
        "{error}"
    );
    plane.until(|sample| sample.connections == 0);
    assert_refused(&mut plane, 1);
}

#[test]
fn a_client_gets_the_certificate_of_the_name_it_asks_for() {
    let a = Worker::named("a");
    let authority = Authority::new();
    let first = authority.identity(&["first.test"]);
    let wild = authority.identity(&["*.wild.test", "wild.test"]);
    let exact = authority.identity(&["exact.wild.test", "Upper.Test"]);
    let plane = serving(&[open(1, a.address)], offer(&[&first, &wild, &exact]));
    let mut config = (*plain(&authority)).clone();
    // Whose certificate it is is looked at, not believed.
    config
        .dangerous()
        .set_certificate_verifier(Arc::new(Anybody));
    let unnamed = {
        let mut unnamed = config.clone();
        unnamed.enable_sni = false;
        Arc::new(unnamed)
    };
    let config = Arc::new(config);
    for (name, wanted) in [
        ("first.test", &first),
        ("wild.test", &wild),
        ("one.wild.test", &wild),
        ("exact.wild.test", &exact),
        ("EXACT.wild.test", &exact),
        ("upper.test", &exact),
        // For one label, and no more.
        ("two.one.wild.test", &first),
        ("unknown.test", &first),
        ("127.0.0.1", &first),
    ] {
        let mut client = greet(plane.address, &config, name);
        client.shake().expect("a handshake");
        let shown = client.shown().expect("a certificate");
        assert!(shown[..] == wanted.chain[0][..], "{name}");
    }
    let mut client = greet(plane.address, &unnamed, "exact.wild.test");
    client.shake().expect("a handshake");
    let shown = client.shown().expect("a certificate");
    assert!(shown[..] == first.chain[0][..], "no name");
    assert_eq!(ask(&mut client), "a");
}

/// An address is no name, which some clients send all the same: they get what those get who name nobody. Everything
/// else that is no name is refused by rustls 0.23, before any code of ours is asked; where a later version lets us
/// choose, this test is to change.
#[test]
fn an_address_for_a_name_is_served_and_what_is_no_name_is_refused() {
    let a = Worker::named("a");
    let authority = Authority::new();
    let plane = serving(&[open(1, a.address)], offer(&[&authority.identity(&["a"])]));
    let first_record = |name: &str| {
        // Our own client refuses to say it.
        let stands_for_it = "n".repeat(name.len());
        let mut client = greet(plane.address, &plain(&authority), &stands_for_it);
        let mut hello = Vec::new();
        client.stream.conn.write_tls(&mut hello).expect("a hello");
        let mut places = hello.windows(name.len());
        let at = places.position(|part| part == stands_for_it.as_bytes());
        let at = at.expect("its name is there");
        hello[at..at + name.len()].copy_from_slice(name.as_bytes());
        let mut socket = &client.stream.sock;
        socket.write_all(&hello).expect("sent");
        let mut record = [0; 7];
        socket.read_exact(&mut record).expect("an answer");
        record
    };
    let (handshake, fatal, illegal_parameter) = (22, 2, 47);
    for name in ["127.0.0.1", "::1", "2001:db8::1"] {
        assert_eq!(first_record(name)[0], handshake, "{name}");
    }
    for name in ["localhost:8443", "-x", "*.example"] {
        let [kind, .., level, description] = first_record(name);
        let alert = (kind, level, description);
        assert_eq!(alert, (21, fatal, illegal_parameter), "{name}");
    }
}

/// Believes anybody: tests look at the certificate themselves.
#[derive(Debug)]
struct Anybody;

mod anybody {
    use tokio_rustls::rustls::client::danger::{
        HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
    };
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use tokio_rustls::rustls::{DigitallySignedStruct, Error, SignatureScheme};

    impl ServerCertVerifier for super::Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![
                SignatureScheme::ECDSA_NISTP256_SHA256,
                SignatureScheme::ED25519,
            ]
        }
    }
}

#[test]
fn t23_tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let a = Worker::named("a");
    let authority = Authority::new();
    let mut plane = serving(&[open(1, a.address)], offer(&[&authority.identity(&["a"])]));
    for (versions, spoken) in [
        (ONLY_12, ProtocolVersion::TLSv1_2),
        (ONLY_13, ProtocolVersion::TLSv1_3),
    ] {
        let mut trust = authority.client();
        trust.versions = versions;
        let mut client = greet(plane.address, &trust.config(), "a");
        assert_eq!(ask(&mut client), "a");
        assert_eq!(client.stream.conn.protocol_version(), Some(spoken));
    }
    // A hello of TLS 1.1, and of 1.0.
    let begun = Instant::now();
    for minor in [2, 1] {
        let mut hello = vec![3, minor];
        hello.extend([7; 32]);
        hello.extend([0, 0, 4, 0xc0, 0x13, 0x00, 0x2f, 1, 0, 0, 0]);
        let length = u8::try_from(hello.len()).expect("short");
        let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
        record.extend(hello);
        let mut client = plane.client();
        client.stream.write_all(&record).expect("sent");
        let mut said = Vec::new();
        client.stream.read_to_end(&mut said).expect("an end");
        // A fatal alert: `handshake_failure` or `protocol_version`.
        assert!(matches!(said[..], [21, _, _, 0, 2, 2, 40 | 70]), "{said:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "closed at once");
    plane.until(|sample| sample.connections == 2 || sample.connections == 0);
    assert_refused(&mut plane, 2);
}

#[test]
fn a_client_resumes_its_session_also_after_the_certificate_was_renewed() {
    let a = Worker::named("a");
    let authority = Authority::new();
    let mut plane = serving(&[open(1, a.address)], offer(&[&authority.identity(&["a"])]));
    for versions in [ONLY_12, ONLY_13] {
        let mut trust = authority.client();
        trust.versions = versions;
        let config = trust.config();
        for n in 0..4 {
            let mut client = greet(plane.address, &config, "a");
            assert_eq!(ask(&mut client), "a");
            let kind = client.stream.conn.handshake_kind().expect("done");
            let resumed = kind == HandshakeKind::Resumed;
            assert_eq!(resumed, n > 0, "{n}: {kind:?} {versions:?}");
            if n == 1 {
                let renewed = authority.identity(&["a"]);
                plane.send(&ToPlane::Tls {
                    offers: vec![offer(&[&renewed])],
                    last: true,
                });
                plane.sample();
            }
        }
    }
}

#[test]
fn clients_show_certificates_where_they_must() {
    let a = Worker::named("a");
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (ours, strange) = (authority.identity(&["me"]), stranger.identity(&["me"]));
    for required in [true, false] {
        let mut wanted = offer(&[&authority.identity(&["a"])]);
        wanted.clients = Some(authority.of_clients(required));
        let mut plane = serving(&[open(1, a.address)], wanted);
        for (shows, welcome) in [
            (Some(&ours), true),
            (Some(&strange), false),
            (None, !required),
        ] {
            for versions in [ONLY_12, ONLY_13] {
                let mut trust = authority.client();
                (trust.shows, trust.versions) = (shows, versions);
                let mut client = greet(plane.address, &trust.config(), "a");
                let greeted = client.stream.write_all(ASK.as_bytes());
                let mut first = [0; 1];
                let answered = greeted.and_then(|()| client.stream.read_exact(&mut first));
                assert_eq!(answered.is_ok(), welcome, "{required} {answered:?}");
            }
        }
        assert_refused(&mut plane, if required { 4 } else { 2 });
    }
    assert_eq!(a.requests().len(), 2 + 4);
}

#[test]
fn t23_a_ticket_is_worth_nothing_where_another_certificate_is_wanted_of_the_client() {
    let a = Worker::named("a");
    let (authority, other) = (Authority::new(), Authority::new());
    let ours = authority.identity(&["me"]);
    let of = |clients| TlsOffer {
        clients,
        ..offer(&[&authority.identity(&["a"])])
    };
    let plane_of = |clients| serving(&[open(1, a.address)], of(clients));
    let (asks_nobody, asks) = (plane_of(None), plane_of(Some(authority.of_clients(false))));
    let mut wants = plane_of(Some(authority.of_clients(true)));
    let resumed = |plane: &Plane, config: &Arc<ClientConfig>| {
        let mut client = greet(plane.address, config, "a");
        let greeted = client.stream.write_all(ASK.as_bytes());
        let mut first = [0; 1];
        greeted
            .and_then(|()| client.stream.read_exact(&mut first))
            .ok()?;
        let kind = client.stream.conn.handshake_kind().expect("done");
        Some(kind == HandshakeKind::Resumed)
    };
    for versions in [ONLY_12, ONLY_13] {
        for elsewhere in [&asks_nobody, &asks] {
            let mut trust = authority.client();
            trust.versions = versions;
            let without = trust.config();
            assert_eq!(resumed(elsewhere, &without), Some(false));
            assert_eq!(resumed(elsewhere, &without), Some(true), "it has tickets");
            assert_eq!(resumed(&wants, &without), None, "{versions:?}");
        }
        let mut trust = authority.client();
        (trust.versions, trust.shows) = (versions, Some(&ours));
        let with = trust.config();
        assert_eq!(resumed(&wants, &with), Some(false));
        assert_eq!(resumed(&wants, &with), Some(true), "where it was verified");
        // Nobody is to be taken for verified who was verified for somebody else.
        assert_eq!(resumed(&asks_nobody, &with), Some(false), "{versions:?}");
        wants.send(&ToPlane::Tls {
            offers: vec![of(Some(other.of_clients(true)))],
            last: true,
        });
        wants.sample();
        assert_eq!(resumed(&wants, &with), None, "its authority has gone");
        wants.send(&ToPlane::Tls {
            offers: vec![of(Some(authority.of_clients(true)))],
            last: true,
        });
        wants.sample();
    }
}

#[test]
fn http_without_tls_is_told_so_and_harms_nobody() {
    let a = Worker::named("a");
    let authority = Authority::new();
    let mut plane = serving(&[open(1, a.address)], offer(&[&authority.identity(&["a"])]));
    let mut client = plane.client();
    client.send(ASK);
    let answer = client.answer();
    assert_eq!(answer.status, 400);
    assert_eq!(answer.field("connection"), Some("close"));
    assert!(answer.text().contains("TLS"), "{}", answer.text());
    assert!(client.closed());
    let begun = Instant::now();
    // What is neither gets no answer in a language that it may not speak.
    for nonsense in [
        "\0\0\0\0\0\0\0\0",
        "\u{7f}xxxxxxx",
        "        ",
        "get / \r\n\r\n",
    ] {
        let mut client = plane.client();
        client.send(nonsense);
        let mut said = Vec::new();
        let _ = client.stream.read_to_end(&mut said);
        assert!(!said.starts_with(b"HTTP"), "{nonsense:?}");
    }
    plane.until(|sample| sample.connections == 0);
    // Long before a handshake that stands still.
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_refused(&mut plane, 5);
    assert_eq!(ask(&mut greet(plane.address, &plain(&authority), "a")), "a");
    assert_eq!(a.requests().len(), 1);
}

#[test]
fn a_handshake_that_stands_still_is_closed_after_the_heads_time() {
    let a = Worker::named("a");
    let authority = Authority::new();
    let limit = Duration::from_millis(400);
    let mut plane = serving_by(
        &[open(1, a.address)],
        offer(&[&authority.identity(&["a"])]),
        |plane| plane.front.header_timeout = limit,
    );
    let begun = Instant::now();
    let mut silent = plane.client();
    let mut half = plane.client();
    half.stream.write_all(&[22, 3, 1, 1, 0, 1]).expect("sent");
    assert!(silent.closed());
    assert!(half.closed());
    assert!(begun.elapsed() >= limit);
    plane.until(|sample| sample.connections == 0);
    assert_refused(&mut plane, 2);
    // One that leaves without a word only looked whether somebody is there.
    drop(plane.client());
    plane.until(|sample| sample.connections == 0 && sample.accepted == 3);
    assert_refused(&mut plane, 2);
}

#[test]
fn an_orderly_end_says_goodbye_and_a_cut_does_not() {
    let dies = Worker::scripted(|request, stream| {
        match request.path() {
            "/half" => write(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
            "/chunked" => write(
                stream,
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            ),
            _ => return reply(stream, "whole"),
        };
        false
    });
    let authority = Authority::new();
    let config = plain(&authority);
    let plane = serving_by(
        &[open(1, dies.address)],
        offer(&[&authority.identity(&["a"])]),
        |plane| plane.front.idle_timeout = Duration::from_millis(300),
    );
    let mut client = greet(plane.address, &config, "a");
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(client.answer().text(), "whole");
    assert!(client.closed() && !client.cut, "asked for");
    let mut client = greet(plane.address, &config, "a");
    assert_eq!(ask(&mut client), "whole");
    assert!(client.closed() && !client.cut, "idle");
    for (path, version) in [("/half", "1.1"), ("/chunked", "1.1"), ("/chunked", "1.0")] {
        let mut client = greet(plane.address, &config, "a");
        client.send(&format!("GET {path} HTTP/{version}\r\nHost: a\r\n\r\n"));
        if let Some(head) = client.head() {
            assert_eq!(head.status, 200);
            while client.more() {}
        }
        assert!(client.cut, "{path} {version} looks whole");
    }
}

#[test]
fn large_bodies_go_both_ways() {
    const SIZE: usize = 24 << 20;
    let large = Worker::scripted(move |request, stream| {
        if request.method() == "POST" {
            let text = request.body.len().to_string();
            return reply(stream, &text);
        }
        write(
            stream,
            &format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"),
        ) && stream.write_all(&vec![b'x'; SIZE]).is_ok()
    });
    let authority = Authority::new();
    let plane = serving(
        &[open(1, large.address)],
        offer(&[&authority.identity(&["a"])]),
    );
    let config = plain(&authority);
    let mut client = greet(plane.address, &config, "a");
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.answer();
    assert!(answer.whole && answer.body.len() == SIZE);
    let body = "y".repeat(3 << 20);
    client.send(&format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(client.answer().text(), body.len().to_string());
}

#[test]
fn the_last_bytes_reach_a_client_that_reads_late() {
    let sized = Worker::scripted(|request, stream| {
        let size: usize = request.path()[1..].parse().expect("a number");
        write(
            stream,
            &format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"),
        ) && stream.write_all(&vec![b'x'; size]).is_ok()
    });
    let authority = Authority::new();
    let mut plane = serving(
        &[open(1, sized.address)],
        offer(&[&authority.identity(&["a"])]),
    );
    let config = plain(&authority);
    let address = plane.address;
    let late = |size: usize, ending: &str| {
        let mut client = greet(address, &config, "a");
        client.send(&format!("GET /{size} HTTP/1.1\r\nHost: a\r\n{ending}\r\n"));
        client
    };
    // Nothing moves any more, and for longer than a goodbye is waited for.
    let stand_still = |plane: &mut Plane| loop {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(2_500) {
            plane.sample();
        }
        let exchanges = plane.exchanges();
        if exchanges.iter().all(|one| one.idle.as_millis() > 1_000) {
            return exchanges;
        }
    };
    let probe = late(32 << 20, "");
    plane.until(|sample| worker(sample, 1).in_flight.total() == 1);
    let taken = stand_still(&mut plane)[0].bytes_out;
    drop(probe);
    plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    // What the sockets do not take waits in TLS; of one of these sizes that is the end of the answer.
    let taken = usize::try_from(taken).expect("fits");
    let mut clients: Vec<_> = (0..12)
        .map(|n| {
            let size = taken + (64 << 10) - (n / 2) * (24 << 10);
            let ending = ["", "Connection: close\r\n"][n % 2];
            (late(size, ending), size)
        })
        .collect();
    stand_still(&mut plane);
    for (client, size) in &mut clients {
        let answer = client.answer();
        assert!(
            answer.whole && answer.body.len() == *size,
            "{} of {size} bytes",
            answer.body.len()
        );
    }
}

#[test]
fn large_bodies_go_both_ways_by_http_2() {
    const SIZE: usize = 8 << 20;
    let echo = Worker::scripted(|request, stream| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            request.body.len()
        );
        stream.write_all(head.as_bytes()).is_ok() && stream.write_all(&request.body).is_ok()
    });
    let authority = Authority::new();
    let plane = serving(
        &[open(1, echo.address)],
        offer(&[&authority.identity(&["a"])]),
    );
    let mut trust = authority.client();
    trust.protocols = &["h2"];
    let mut session = Session::secure(plane.address, trust.config(), "a");
    let body = Bytes::from(vec![b'x'; SIZE]);
    let answer = session.post(request("POST", "/"), body.clone(), None);
    assert!(answer.expect("served").body == body);
}

#[test]
fn a_websocket_becomes_a_tunnel_by_tls() {
    let echo = Worker::scripted(|_, stream| {
        write(
            stream,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
        );
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let _ = stream.write_all(&all);
        false
    });
    let authority = Authority::new();
    let mut plane = serving(
        &[open(1, echo.address)],
        offer(&[&authority.identity(&["a"])]),
    );
    let mut client = greet(plane.address, &plain(&authority), "a");
    client.send(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly ",
    );
    assert_eq!(client.head().expect("a head").status, 101);
    assert_eq!(client.take(5).as_deref(), Some(&b"hello"[..]));
    plane.until(|sample| worker(sample, 1).in_flight.tunnel == 1);
    let large = "z".repeat(2 << 20);
    client.send(&large);
    client.stream.conn.send_close_notify();
    client.stream.flush().expect("sent");
    let back = client.take(6 + large.len()).expect("all of it");
    assert!(back.starts_with(b"early z") && back.len() == 6 + large.len());
    assert!(client.closed() && !client.cut);
    let sample = plane.until(|sample| worker(sample, 1).in_flight.total() == 0);
    assert_eq!(worker(&sample, 1).failures, 0);
}

#[test]
fn the_proxy_protocol_comes_before_tls() {
    let a = Worker::named("a");
    let authority = Authority::new();
    let plane = serving_by(
        &[open(1, a.address)],
        offer(&[&authority.identity(&["a"])]),
        |plane| {
            plane.front.entrances[0].proxy_protocol = true;
            plane.front.trusted = vec![Network {
                address: [127, 0, 0, 0].into(),
                prefix: 8,
            }];
        },
    );
    let line = b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n";
    let mut stream = crate::plane::connect(plane.address);
    stream.write_all(line).expect("sent");
    let mut client = over(stream, &plain(&authority), "a");
    assert_eq!(ask(&mut client), "a");
    // Both in one packet: the hello is read along with the line.
    let mut hello = Vec::new();
    let stream = crate::plane::connect(plane.address);
    let mut client = over(stream, &plain(&authority), "a");
    client.stream.conn.write_tls(&mut hello).expect("a hello");
    let both = [&line[..], &hello].concat();
    client.stream.sock.write_all(&both).expect("sent");
    assert_eq!(ask(&mut client), "a");
    for request in a.requests() {
        assert_eq!(request.field("x-forwarded-for"), Some("192.0.2.7"));
        assert_eq!(request.field("x-forwarded-proto"), Some("https"));
    }
    assert_eq!(a.requests().len(), 2);
}

#[test]
fn t23_new_certificates_are_for_new_connections_and_those_that_stand_stay() {
    let a = Worker::named("a");
    let authority = Authority::new();
    let (old, new) = (authority.identity(&["a"]), authority.identity(&["a"]));
    let mut plane = serving(&[open(1, a.address)], offer(&[&old]));
    let config = || plain(&authority);
    let mut first = greet(plane.address, &config(), "a");
    assert_eq!(ask(&mut first), "a");
    let mut trust = authority.client();
    trust.protocols = &["h2"];
    let mut session = Session::secure(plane.address, trust.config(), "a");
    assert_eq!(session.ask(get("/")).text(), "a");
    // One that is in the middle of its handshake.
    let stream = crate::plane::connect(plane.address);
    let mut between = over(stream, &config(), "a");
    plane.until(|sample| sample.connections == 3);
    plane.send(&ToPlane::Tls {
        offers: vec![offer(&[&new])],
        last: true,
    });
    plane.sample();
    let mut second = greet(plane.address, &config(), "a");
    assert_eq!(ask(&mut second), "a");
    assert!(second.shown().expect("one")[..] == new.chain[0][..]);
    assert_eq!(ask(&mut first), "a");
    assert_eq!(session.ask(get("/")).text(), "a");
    assert_eq!(ask(&mut between), "a");
    assert!(!session.has_ended());
}

#[test]
fn f46_a_drain_under_tls_loses_nothing_and_says_goodbye() {
    let door = Door::new();
    let inside = door.clone();
    let slow = Worker::scripted(move |request, stream| {
        if request.path() == "/slow" {
            inside.wait();
        }
        reply(stream, "late")
    });
    let authority = Authority::new();
    let config = plain(&authority);
    let mut plane = serving(
        &[open(1, slow.address)],
        offer(&[&authority.identity(&["a"])]),
    );
    let mut busy = greet(plane.address, &config, "a");
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut idle = greet(plane.address, &config, "a");
    assert_eq!(ask(&mut idle), "late");
    let mut trust = authority.client();
    trust.protocols = &["h2"];
    let mut session = Session::secure(plane.address, trust.config(), "a");
    let (response, _) = session.begin(get("/slow"), true);
    plane.until(|sample| worker(sample, 1).in_flight.total() == 2);
    let mut silent = greet(plane.address, &config, "a");
    silent.shake().expect("a handshake");
    plane.send(&ToPlane::Drain);
    assert!(idle.closed() && !idle.cut);
    assert!(silent.closed() && !silent.cut);
    door.open();
    let answer = busy.answer();
    assert_eq!(
        (answer.text(), answer.field("connection")),
        ("late", Some("close"))
    );
    assert!(busy.closed() && !busy.cut);
    assert_eq!(session.answer(response).expect("served").text(), "late");
    session.ended().expect("an orderly end");
    plane.drained();
}

#[test]
fn an_early_answer_arrives_by_tls_though_the_body_still_comes() {
    let early = Worker::early(|_, stream| {
        write(
            stream,
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
        );
        false
    });
    let authority = Authority::new();
    let plane = serving(
        &[open(1, early.address)],
        offer(&[&authority.identity(&["a"])]),
    );
    for _ in 0..5 {
        let mut client = greet(plane.address, &plain(&authority), "a");
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n");
        client.send(&"x".repeat(400_000));
        let answer = client.answer();
        assert_eq!((answer.status, answer.text()), (403, "no"));
        assert_eq!(answer.field("connection"), Some("close"));
    }
}
