//! The thread that a user walks: run, traffic, SIGUSR2, status, retire, stop.

use nix::sys::signal::Signal;

use super::support::http::Client;
use super::support::instance::{Start, processes_of};

#[test]
fn a_service_is_fronted_rolled_by_sigusr2_and_stopped() {
    let mut instance = Start::default()
        .flags(&["--soak", "500ms", "--ramp", "200ms"])
        .ready();
    assert!(instance.get("/").text().contains(" g1 "));

    instance.signal(Signal::SIGUSR2);
    // Traffic goes on, or the rollout waits for it until the service counts as idle.
    let address = instance.address;
    let status = instance.wait("generation 2 to be stable and alone", |status| {
        assert_eq!(
            Client::tcp(address)
                .and_then(|mut client| client.get("/"))
                .map(|answer| answer.status)
                .ok(),
            Some(200)
        );
        let app = &status["services"]["app"];
        app["generation"] == 2
            && app["generations"]
                .as_array()
                .is_some_and(|all| all.len() == 1)
    });
    assert_eq!(
        status["services"]["app"]["rollout"]["state"], "completed",
        "{status:#}"
    );
    assert!(instance.get("/").text().contains(" g2 "));

    instance.signal(Signal::SIGTERM);
    assert_eq!(instance.ended().code(), Some(0), "{}", instance.said());
    assert_eq!(processes_of(instance.dir.path()), []);
    let left: Vec<_> = std::fs::read_dir(instance.dir.path().join("run/remuda"))
        .map(|entries| entries.flatten().map(|entry| entry.file_name()).collect())
        .unwrap_or_default();
    assert!(
        !left.iter().any(|name| name == "admin.sock" || name == "w"),
        "{left:?}"
    );
}
