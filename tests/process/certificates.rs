//! TLS by the real binary: certificates that change while connections stand, and rollouts under it (T23).

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_rustls::rustls::ClientConfig;

use super::support::checker::{Allowed, Executed, Outcome, assert_clean, violations};
use super::support::h2::ask_unix;
use super::support::http::{Client, PATIENCE, shown};
use super::support::instance::{Instance, Start};
use super::support::load::{Load, Mix};
use super::support::tls::{Authority, LISTEN, Pair, put};
use super::support::watch::plane;
use super::under_load::{QUICK, trigger};

/// Clients of HTTP/1.1 and HTTP/2, all by TLS.
const MIX: Mix = Mix {
    keep_alive: 2,
    per_request: 1,
    post: 1,
    slow: 1,
    sse: 1,
    tunnel: 1,
    h2: 2,
};

fn start(pair: &Pair) -> Start {
    Start::default()
        .top(LISTEN)
        .file("cert.pem", &pair.cert)
        .file("key.pem", &pair.key)
}

fn load(instance: &Instance, authority: &Authority, mix: Mix) -> Load {
    let load = Load::start_secure(instance.address, mix, authority);
    load.wait_for(50);
    load
}

/// Waits until new connections are shown this one.
fn until_shown(address: SocketAddr, config: &Arc<ClientConfig>, pair: &Pair) {
    let deadline = Instant::now() + PATIENCE;
    while !pair.is(&shown(address, config).expect("a handshake")) {
        assert!(Instant::now() < deadline, "it is never shown");
        std::thread::sleep(Duration::from_millis(50));
    }
}

const REFUSED: &str = "new connections go on to get the certificates of before";

#[test]
fn t23_files_that_are_replaced_are_shown_to_new_connections_and_a_bad_pair_changes_nothing() {
    let authority = Authority::new();
    let (old, new) = (authority.pair(), authority.pair());
    let mut instance = start(&old).ready();
    let config = authority.client(&[]);
    let address = instance.address;
    assert!(old.is(&shown(address, &config).expect("a handshake")));
    let mut first = Client::tls(address, &config).expect("a connection");
    assert_eq!(first.get("/").expect("an answer").status, 200);
    let load = load(&instance, &authority, MIX);
    let dir = instance.dir.path().to_owned();

    put(&dir, "cert.pem", &new.cert);
    instance.wait_said(REFUSED);
    // It stays so for further looks, and is said once.
    let said = Instant::now();
    while said.elapsed() < Duration::from_millis(4_500) {
        assert!(old.is(&shown(address, &config).expect("a handshake")));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(instance.said().matches(REFUSED).count(), 1);
    // It can be seen as long as it is so, without the log.
    let read = "remuda_config_last_reload_successful";
    instance.wait_metric(read, &[], 0.0);
    instance
        .cli(&["status"])
        .expect(0)
        .says(&["note: ", REFUSED]);
    instance.cli(&["why"]).expect(0).says(&["note: ", REFUSED]);

    put(&dir, "key.pem", &new.key);
    until_shown(address, &config, &new);
    instance.wait_metric(read, &[], 1.0);
    assert!(!instance.cli(&["status"]).expect(0).out.contains("note: "));
    assert_eq!(instance.said().matches(REFUSED).count(), 1);
    assert_eq!(first.get("/").expect("it stands").status, 200);
    load.wait_for(50);
    assert_clean(&load.stop(), &dir.join("executed"));
}

#[test]
fn t23_sighup_reads_certificates_at_once_and_refuses_a_bad_pair() {
    let authority = Authority::new();
    let (old, new) = (authority.pair(), authority.pair());
    let mut instance = start(&old).ready();
    let config = authority.client(&[]);
    let address = instance.address;
    let dir = instance.dir.path().to_owned();
    put(&dir, "key.pem", &new.key);
    instance.signal(Signal::SIGHUP);
    instance.wait_said("the key is not the certificate's");
    assert!(old.is(&shown(address, &config).expect("a handshake")));
    new.replace(&dir);
    instance.signal(Signal::SIGHUP);
    until_shown(address, &config, &new);
    instance.wait_said("certificates changed (live)");
}

#[test]
fn t23_a_certificate_that_clients_refuse_is_said_at_the_start_and_when_it_is_read_anew() {
    let authority = Authority::new();
    let expired =
        |year: i32| format!("it expired on {year}-01-01T00:00:00Z, and clients refuse it");
    let mut instance = start(&authority.pair_until(2020)).ready();
    instance.wait_said(&expired(2020));
    let dir = instance.dir.path().to_owned();
    authority.pair_until(2021).replace(&dir);
    instance.wait_said(&expired(2021));
    let good = authority.pair();
    good.replace(&dir);
    instance.signal(Signal::SIGHUP);
    let (config, deadline) = (authority.client(&[]), Instant::now() + PATIENCE);
    // Until then a client that checks refuses.
    while shown(instance.address, &config).is_err() {
        assert!(Instant::now() < deadline, "it is never shown");
        std::thread::sleep(Duration::from_millis(50));
    }
    for year in [2020, 2021] {
        assert_eq!(instance.said().matches(&expired(year)).count(), 1);
    }
}

#[test]
fn t23_a_reload_that_a_certificate_stopped_is_not_told_any_more_once_that_is_mended() {
    let authority = Authority::new();
    let (old, new) = (authority.pair(), authority.pair());
    let mut instance = start(&old).ready();
    let config = authority.client(&[]);
    let dir = instance.dir.path().to_owned();
    put(&dir, "key.pem", &new.key);
    instance.cli(&["reload"]).expect(78);
    instance.wait_metric("remuda_config_last_reload_successful", &[], 0.0);
    instance
        .cli(&["status"])
        .expect(0)
        .says(&["note: the config was not reloaded"]);
    new.replace(&dir);
    until_shown(instance.address, &config, &new);
    instance.wait("no note to be left", |status| {
        status["notices"].as_array().is_some_and(Vec::is_empty)
    });
    instance.wait_metric("remuda_config_last_reload_successful", &[], 1.0);
}

#[test]
fn rollouts_under_http_2_and_tls_lose_nothing() {
    // A quick look in daily runs, the whole number where nothing may be left out.
    let count = match std::env::var_os("REMUDA_REQUIRE_ALL") {
        Some(_) => 20,
        None => 4,
    };
    let authority = Authority::new();
    let mut instance = start(&authority.pair())
        .flags(&QUICK)
        .flags(&["--workers", "3"])
        .ready();
    let load = load(&instance, &authority, MIX);
    let deadline = Instant::now() + PATIENCE;
    while instance.metric("remuda_http_requests_total", &[]) < 1.0 {
        assert!(Instant::now() < deadline, "no request is counted");
    }
    for n in 0..count {
        let generation = n + 2;
        trigger(&instance, n);
        instance.wait("the rollout to complete", |status| {
            let app = &status["services"]["app"];
            app["generation"] == generation && app["rollout"]["state"] == "completed"
        });
    }
    load.wait_for(50);
    assert_clean(&load.stop(), &instance.dir.path().join("executed"));
}

#[test]
fn f01_the_successor_of_a_plane_has_the_certificates_of_now() {
    let authority = Authority::new();
    let (old, new) = (authority.pair(), authority.pair());
    let mut instance = start(&old).ready();
    let config = authority.client(&[]);
    let address = instance.address;
    let dir = instance.dir.path().to_owned();
    for pair in [&old, &new] {
        pair.replace(&dir);
        until_shown(address, &config, pair);
        let status = instance.wait("a plane", |status| plane(status).is_some());
        let victim = plane(&status).expect("just seen");
        kill(Pid::from_raw(victim), Signal::SIGKILL).expect("it lives");
        instance.wait("the successor", |status| {
            plane(status).is_some_and(|pid| pid != victim)
        });
        assert!(pair.is(&shown(address, &config).expect("a handshake")));
        let mut client = Client::tls(address, &config).expect("a connection");
        assert_eq!(client.get("/").expect("an answer").status, 200);
    }
}

#[test]
fn f33_a_plane_that_dies_under_http_2_and_tls_refuses_nobody() {
    const KILLS: usize = 4;
    // What every client of the load has in flight, twice: a connection may be accepted by a plane that dies.
    const LOST: usize = 2 * (2 + 1 + 1 + 1 + 1 + 1 + 2 * 4);
    let authority = Authority::new();
    let mut instance = start(&authority.pair()).flags(&["--workers", "3"]).ready();
    let address = instance.address;
    let config = authority.client(&[]);
    let load = load(&instance, &authority, MIX);
    for _ in 0..KILLS {
        let status = instance.wait("a plane", |status| plane(status).is_some());
        let victim = plane(&status).expect("just seen");
        kill(Pid::from_raw(victim), Signal::SIGKILL).expect("it lives");
        let began = Instant::now();
        // They wait in the queue of the socket that the supervisor holds.
        let mut waiting: Vec<_> = (0..20)
            .map(|_| TcpStream::connect(address).expect("never refused"))
            .collect();
        let ask = || Client::tls(address, &config)?.get("/");
        // The one that is just being killed may have accepted it: then it is reset, and only then.
        let answer = ask().or_else(|_| ask());
        assert_eq!(answer.expect("the successor answers").status, 200);
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "{:?}",
            began.elapsed()
        );
        waiting.clear();
        instance.wait("the successor", |status| {
            plane(status).is_some_and(|pid| pid != victim)
        });
        load.wait_for(50);
    }
    let entries = load.stop();
    for entry in &entries {
        if let Outcome::Failed(why) = &entry.outcome {
            assert!(!why.contains("refused"), "{entry:?}");
        }
    }
    let executed = Executed::read(&instance.dir.path().join("executed"));
    let allowed = Allowed {
        failures: KILLS * LOST,
    };
    let found = violations(&entries, &executed, allowed);
    assert!(
        found.is_empty(),
        "{} requests; {}",
        entries.len(),
        found.join("\n")
    );
    assert!(entries.len() > 200, "only {} requests", entries.len());
}

#[test]
fn tls_is_spoken_on_a_unix_socket_also_by_the_successor_of_a_plane() {
    let authority = Authority::new();
    let pair = authority.pair();
    let begin = Start::default();
    let path = begin.place().join("public");
    let listen = format!(
        "[[listen]]\naddress = \"unix:{}\"\ntls = {{ cert = \"cert.pem\", key = \"key.pem\" }}",
        path.display()
    );
    let mut instance = begin
        .top(&listen)
        .file("cert.pem", &pair.cert)
        .file("key.pem", &pair.key)
        .ready();
    for _ in 0..2 {
        let status = instance.wait("a plane", |status| plane(status).is_some());
        let mut client = Client::tls_unix(&path, &authority.client(&[])).expect("TLS");
        for _ in 0..3 {
            assert_eq!(client.get("/").expect("an answer").status, 200);
        }
        ask_unix(&path, &authority.client(&["h2"]), 8).expect("answers");
        // Who speaks none is told so.
        let mut bare = Client::unix(&path).expect("it listens");
        let answer = bare.get("/").expect("an answer");
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains("TLS"), "{}", answer.text());
        let victim = plane(&status).expect("just seen");
        kill(Pid::from_raw(victim), Signal::SIGKILL).expect("it lives");
        instance.wait("the successor", |status| {
            plane(status).is_some_and(|pid| pid != victim)
        });
    }
}

#[test]
fn requests_without_tls_are_sent_to_the_port_that_has_it() {
    let authority = Authority::new();
    let instance = start(&authority.pair())
        .top("[[listen]]\naddress = \"127.0.0.1:0\"\nredirect_https = 8443")
        .ready();
    let status = instance.status();
    let plain: SocketAddr = status["listeners"][1]
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("an address");
    let mut client = Client::tcp(plain).expect("it listens");
    for method in ["GET", "HEAD"] {
        let answer = client.request(method, "/a?b=c", &[], b"");
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 308);
        assert_eq!(
            answer.header("location"),
            Some("https://localhost:8443/a?b=c")
        );
    }
    let mut secure = Client::tls(instance.address, &authority.client(&[])).expect("TLS");
    assert_eq!(secure.get("/a?b=c").expect("an answer").status, 200);
}

#[test]
fn a_start_without_good_certificates_fails_with_the_files_name() {
    let authority = Authority::new();
    let (one, other) = (authority.pair(), authority.pair());
    let dir = tempfile::Builder::new().prefix("rmd").tempdir();
    let dir = dir.expect("a temporary directory");
    put(dir.path(), "cert.pem", &one.cert);
    put(dir.path(), "key.pem", &other.key);
    let config = format!("{LISTEN}\n[services.app]\ncommand = [\"sleep\", \"9\"]\n");
    put(dir.path(), "remuda.toml", &config);
    for args in [&["run", "-c"][..], &["check"], &["check", "--resolved"]] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_remuda"))
            .args(args)
            .arg(dir.path().join("remuda.toml"))
            .env("XDG_RUNTIME_DIR", dir.path())
            .env_remove("RUNTIME_DIRECTORY")
            .output()
            .expect("the binary is built");
        assert!(!output.status.success(), "{args:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("the key is not the certificate's"), "{said}");
        assert!(said.contains("key.pem"), "{said}");
    }
}

#[test]
fn f14_a_listener_that_stands_is_met_as_the_config_says_while_another_waits_for_a_restart() {
    let authority = Authority::new();
    let (old, new, other) = (authority.pair(), authority.pair(), authority.pair());
    let mut instance = start(&old).ready();
    let config = authority.client(&[]);
    let address = instance.address;
    let dir = instance.dir.path().to_owned();
    let file = dir.join("remuda.toml");
    let before = std::fs::read_to_string(&file).expect("there");
    let more = "[[listen]]\naddress = \"127.0.0.1:1\"\n";
    let write = |text: &str| std::fs::write(&file, text).expect("writable");
    write(&before.replace("[admin]", &format!("{more}[admin]")));
    let waits = "`listen` changed, which needs a restart of remuda (127.0.0.1:1 is new)";
    instance.cli(&["reload"]).expect(0).says(&[waits]);
    // Renewed ones are taken at once, as ever.
    new.replace(&dir);
    instance
        .cli(&["reload"])
        .expect(0)
        .says(&[waits, "certificates changed (live)"]);
    until_shown(address, &config, &new);
    // So are those of another place, and what else is said of it.
    put(&dir, "other.pem", &other.cert);
    put(&dir, "other.key", &other.key);
    let moved = before
        .replace("cert.pem", "other.pem")
        .replace("key.pem", "other.key")
        .replacen(
            "[[listen]]\n",
            &format!("{more}[[listen]]\nhttp2 = false\n"),
            1,
        );
    write(&moved);
    instance
        .cli(&["reload"])
        .expect(0)
        .says(&[waits, "listener 127.0.0.1:0: `http2`, `tls` changed (live)"]);
    until_shown(address, &config, &other);
    // The files of before are nobody's now.
    put(&dir, "key.pem", "nothing of the kind");
    instance.cli(&["reload"]).expect(0);
    assert!(!instance.said().contains(REFUSED));

    // One that is left out stands until the restart as it is, whatever becomes of its files.
    let (_, rest) = before.split_once("[admin]").expect("there");
    write(&format!("{more}[admin]{rest}"));
    std::fs::remove_file(dir.join("other.key")).expect("there");
    let gone = "(127.0.0.1:1 is new; 127.0.0.1:0, 127.0.0.1:0 are gone)";
    instance.cli(&["reload"]).expect(0).says(&[gone]);
    assert!(other.is(&shown(address, &config).expect("a handshake")));
    instance.cli(&["status"]).expect(0).says(&[gone]);
    assert_eq!(
        Client::tls(address, &config)
            .and_then(|mut client| client.get("/"))
            .expect("an answer")
            .status,
        200
    );
    instance.signal(Signal::SIGTERM);
    assert_eq!(instance.ended().code(), Some(0));
}
