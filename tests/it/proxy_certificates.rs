//! What a certificate has to do with requests: whose host it is for (421), and who the client is that showed
//! one (RFC 9440).

use std::sync::Arc;

use remuda::link::message::{Identity, TlsOffer, ToPlane};
use tokio_rustls::rustls::HandshakeKind;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::h2::{Session, get};
use crate::plane::{Plane, open};
use crate::tls::{Authority, greet, offer, serving};
use crate::worker::{Request, Worker};

/// The status of an answer to a request for `host`, by a server of this name.
fn asked_http1(plane: &Plane, authority: &Authority, name: &str, host: &str) -> u16 {
    let mut client = greet(plane.address, &authority.client().config(), name);
    client.send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let status = client.answer().status;
    if status == 421 {
        assert!(client.closed(), "it has to come by another connection");
    }
    status
}

fn asked_http2(plane: &Plane, authority: &Authority, name: &str, host: &str) -> u16 {
    let mut trust = authority.client();
    trust.protocols = &["h2"];
    let mut session = Session::secure(plane.address, trust.config(), name);
    let request = http::Request::builder().uri(format!("https://{host}/"));
    let status = session.ask(request.body(()).expect("a request")).status;
    let right = http::Request::builder().uri(format!("https://{name}/"));
    let right = session.ask(right.body(()).expect("a request")).status;
    assert_eq!(right, 200, "others on it are served");
    status
}

#[test]
fn a_request_for_the_host_of_another_certificate_is_misdirected() {
    let a = Worker::named("a");
    let authority = Authority::new();
    let ours = [
        authority.identity(&["shop.test", "www.shop.test"]),
        authority.identity(&["*.wild.test"]),
    ];
    let mut plane = serving(&[open(1, a.address)], offer(&[&ours[0], &ours[1]]));
    // Another listener, which asks certificates of its clients, has this one.
    let partners = authority.identity(&["partners.test"]);
    let mut theirs = offer(&[&partners]);
    theirs.place = 1;
    theirs.clients = Some(authority.of_clients(true));
    plane.send(&ToPlane::Tls {
        offers: vec![offer(&[&ours[0], &ours[1]]), theirs],
        last: true,
    });
    plane.sample();
    for (name, host, status) in [
        ("shop.test", "shop.test", 200),
        ("shop.test", "Shop.test:8443", 200),
        ("shop.test", "www.shop.test", 200),
        ("shop.test", "a.wild.test", 421),
        ("shop.test", "partners.test", 421),
        ("shop.test", "partners.test:443", 421),
        ("a.wild.test", "b.wild.test", 200),
        ("a.wild.test", "shop.test", 421),
        // Nobody's, and routes say whose.
        ("shop.test", "unknown.test", 200),
        ("shop.test", "127.0.0.1", 200),
    ] {
        let found = asked_http1(&plane, &authority, name, host);
        assert_eq!(found, status, "{name} {host}");
        let found = asked_http2(&plane, &authority, name, host);
        assert_eq!(found, status, "{name} {host} by HTTP/2");
    }
    let hosts = a.requests();
    let host = |request: &Request| request.field("host").unwrap_or_default().to_owned();
    assert!(!hosts.iter().any(|it| host(it).starts_with("partners")));
    let mut unnamed = (*authority.client().config()).clone();
    unnamed.enable_sni = false;
    let mut client = greet(plane.address, &Arc::new(unnamed), "shop.test");
    client.send("GET / HTTP/1.1\r\nHost: a.wild.test\r\n\r\n");
    assert_eq!(client.answer().status, 200, "it asked for nobody");
    // Certificates of before do not bind those of now, and the other way round.
    let mut standing = greet(plane.address, &authority.client().config(), "shop.test");
    standing.shake().expect("a handshake");
    plane.send(&ToPlane::Tls {
        offers: vec![offer(&[&ours[0]])],
        last: true,
    });
    plane.sample();
    let found = asked_http1(&plane, &authority, "shop.test", "partners.test");
    assert_eq!(found, 200, "there is one certificate only");
    standing.send("GET / HTTP/1.1\r\nHost: partners.test\r\n\r\n");
    assert_eq!(standing.answer().status, 421);
}

/// The certificates that a field tells of, read as those who know PEM read them.
fn told(request: &Request, name: &str) -> Vec<Vec<u8>> {
    let members = request
        .field(name)
        .into_iter()
        .flat_map(|all| all.split(", "));
    let read = |member: &str| {
        let digits = member.strip_prefix(':').and_then(|it| it.strip_suffix(':'));
        let digits = digits.expect("a byte sequence");
        let text = format!("-----BEGIN CERTIFICATE-----\n{digits}\n-----END CERTIFICATE-----\n");
        let der = CertificateDer::from_pem_slice(text.as_bytes());
        der.expect("a certificate").to_vec()
    };
    members.map(read).collect()
}

const FORGED: &str = "Client-Cert: :Zm9yZ2Vk:\r\nClient-Cert-Chain: :Zm9yZ2Vk:\r\n\
    Client_Cert: :Zm9yZ2Vk:\r\n";

#[test]
fn a_worker_is_told_the_certificate_that_was_verified_and_no_other() {
    let a = Worker::named("a");
    let authority = Authority::new();
    let server = authority.identity(&["a"]);
    let mut client = authority.identity(&["me"]);
    let leaf = client.chain[0].clone();
    let ask = format!("GET / HTTP/1.1\r\nHost: a\r\n{FORGED}\r\n");
    let mut seen = 0;
    let mut last = |worker: &Worker| {
        seen += 1;
        let all = worker.requests();
        assert_eq!(all.len(), seen);
        all.into_iter().next_back().expect("one")
    };
    let asking = |required: Option<bool>| -> TlsOffer {
        let mut offer = offer(&[&server]);
        offer.clients = required.map(|required| authority.of_clients(required));
        offer
    };
    for (required, shows) in [
        (Some(true), true),
        (Some(false), true),
        (Some(false), false),
        (None, true),
    ] {
        let plane = serving(&[open(1, a.address)], asking(required));
        for version in [&TLS12, &TLS13] {
            let versions: &'static [_] = Box::leak(Box::new([version]));
            let mut trust = authority.client();
            trust.versions = versions;
            trust.shows = shows.then_some(&client);
            let config = trust.config();
            let expected: Vec<_> = required
                .filter(|_| shows)
                .map(|_| leaf.clone())
                .into_iter()
                .collect();
            for n in 0..3 {
                let mut client = greet(plane.address, &config, "a");
                for _ in 0..2 {
                    client.send(&ask);
                    assert_eq!(client.answer().text(), "a");
                    let request = last(&a);
                    let shown = told(&request, "client-cert");
                    assert!(shown == expected, "{required:?} {shows}");
                    assert_eq!(request.field("client-cert-chain"), None);
                    assert_eq!(request.field("client_cert"), None);
                }
                // Also where it is not shown again.
                let kind = client.stream.conn.handshake_kind();
                assert_eq!(kind == Some(HandshakeKind::Resumed), n > 0);
            }
        }
        let mut trust = authority.client();
        (trust.shows, trust.protocols) = (shows.then_some(&client), &["h2"]);
        let mut session = Session::secure(plane.address, trust.config(), "a");
        let mut request = get("/");
        let forged = http::HeaderValue::from_static(":Zm9yZ2Vk:");
        request.headers_mut().insert("client-cert", forged);
        assert_eq!(session.ask(request).text(), "a");
        let shown = told(&last(&a), "client-cert");
        assert_eq!(shown.len(), usize::from(required.is_some() && shows));
        assert!(shown.iter().all(|one| *one == leaf));
    }
    // Without TLS nothing was verified.
    let plane = Plane::serving(&[open(1, a.address)]);
    let mut bare = plane.client();
    bare.send(&ask);
    assert_eq!(bare.answer().text(), "a");
    let request = last(&a);
    assert_eq!(request.field("client-cert"), None);
    assert_eq!(request.field("client-cert-chain"), None);
    // And what stands between.
    let between: Identity = authority.identity(&["between"]);
    client.chain.push(between.chain[0].clone());
    let plane = serving(&[open(1, a.address)], asking(Some(true)));
    let mut trust = authority.client();
    trust.shows = Some(&client);
    let mut secure = greet(plane.address, &trust.config(), "a");
    secure.send(&ask);
    assert_eq!(secure.answer().text(), "a");
    let request = last(&a);
    assert!(told(&request, "client-cert") == [leaf]);
    assert!(told(&request, "client-cert-chain") == between.chain);
}
