//! Several services behind one proxy: each gets its own requests, and is rolled by itself.

use super::support::checker::assert_clean;
use super::support::http::Client;
use super::support::instance::{Instance, Start};
use super::support::load::{Load, Mix};

/// What answers a request to this URL: its service, or the status of an answer of ours.
fn answers(instance: &Instance, url: &str) -> Result<String, u16> {
    let mut client = Client::tcp(instance.address).expect("it listens");
    let answer = client.get(&format!("{url}/env")).expect("an answer");
    let service = |text: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| Some(line.strip_prefix("REMUDA_SERVICE=")?.to_owned()))
    };
    match answer.status {
        200 => Ok(service(&answer.text()).expect("a worker's environment")),
        status => Err(status),
    }
}

fn three_services() -> Instance {
    let mut instance = Start::default()
        .service("hosts = [\"shop.example\", \"localhost\"]")
        .another("api", "hosts = [\"shop.example\"]\npath_prefix = \"/api\"")
        .another("blogs", "hosts = [\"*.blog.example\"]\nworkers = 1")
        .flags(&["--soak", "100ms", "--ramp", "50ms"])
        .ready();
    instance.wait("the others to be ready", |status| {
        let ready = |name: &str| status["services"][name]["ready"] != 0;
        ready("api") && ready("blogs")
    });
    instance
}

#[test]
fn each_host_and_path_reaches_its_own_service() {
    let instance = three_services();
    for (url, service) in [
        ("http://shop.example", Ok("app")),
        ("http://Shop.Example:8080", Ok("app")),
        ("http://shop.example/apis", Ok("app")),
        ("http://shop.example/api", Ok("api")),
        ("http://anna.blog.example", Ok("blogs")),
        ("http://blog.example", Err(404)),
        ("http://other.example/api", Err(404)),
    ] {
        let service = service.map(str::to_owned);
        assert_eq!(answers(&instance, url), service, "{url}");
    }
    let unrouted = instance.metric("remuda_http_unrouted_requests_total", &[]);
    assert!((unrouted - 2.0).abs() < 0.5, "{unrouted}");
}

#[test]
fn a_request_for_nobody_is_told_nothing_and_the_connection_goes_on() {
    let instance = three_services();
    let mut client = Client::tcp(instance.address).expect("it listens");
    let answer = client.get("http://other.example/").expect("an answer");
    assert_eq!(answer.status, 404);
    let id = answer.header("x-request-id").expect("an id");
    assert_eq!(answer.text(), format!("404 Not Found\nrequest {id}\n"));
    assert_eq!(answer.header("connection"), None);
    let next = client.get("http://shop.example/env").expect("an answer");
    assert_eq!(next.status, 200);
    // What it sends after its head would be taken for the next request.
    let posted = client.request("POST", "http://other.example/", &[], b"GET / HTTP/1.1\r\n");
    let posted = posted.expect("an answer");
    assert_eq!(posted.status, 404);
    assert_eq!(posted.header("connection"), Some("close"));
}

#[test]
fn a_service_is_rolled_alone_and_all_by_a_signal_and_nothing_is_lost() {
    let mut instance = three_services();
    let load = Load::known_to(&instance, Mix::default(), 30);
    let generations = |instance: &Instance| {
        let status = instance.status();
        ["app", "api", "blogs"].map(|name| status["services"][name]["generation"].clone())
    };
    let before = generations(&instance);
    instance.cli(&["rollout", "blogs"]).expect(0);
    let after = generations(&instance);
    assert_eq!(after[..2], before[..2]);
    assert_ne!(after[2], before[2]);

    instance.signal(nix::sys::signal::Signal::SIGUSR2);
    instance.wait("every service to have rolled", |status| {
        let rolled = |(name, before): (&str, &serde_json::Value)| {
            let service = &status["services"][name];
            service["generation"] != *before && service["rollout"]["state"] == "completed"
        };
        ["app", "api", "blogs"].into_iter().zip(&after).all(rolled)
    });
    assert_eq!(
        answers(&instance, "http://x.blog.example"),
        Ok("blogs".to_owned())
    );
    assert_clean(&load.stop(), &instance.dir.path().join("executed"));
    assert_eq!(
        answers(&instance, "http://shop.example/api"),
        Ok("api".to_owned())
    );
}

#[test]
fn a_service_without_a_ready_worker_answers_503_and_the_others_go_on() {
    let instance = Start::default()
        .service("hosts = [\"shop.example\"]")
        .another(
            "ill",
            "hosts = [\"ill.example\"]\nupstream = [\"127.0.0.1:1\"]\n\
             [services.ill.parking]\nwait = \"200ms\"",
        )
        .ready();
    assert_eq!(answers(&instance, "http://ill.example"), Err(503));
    assert_eq!(
        answers(&instance, "http://shop.example"),
        Ok("app".to_owned())
    );
}
