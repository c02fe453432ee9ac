//! What the whole module promises.

use std::time::Duration;

use super::*;
use crate::link::message::{
    Entrance, Front, Protocol, PublicListener, ServiceRules, WorkerAddress,
};
use crate::rollout::Settings;

mod addresses;
mod listeners;
mod lists;
mod mistakes;
mod sources;
mod times;

fn env(pairs: &[(&str, &str)]) -> Env {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn read(text: &str) -> Result<Loaded, Problems> {
    read_with(text, &RunFlags::default())
}

fn read_with(text: &str, flags: &RunFlags) -> Result<Loaded, Problems> {
    let env = env(&[
        ("RUNTIME_DIRECTORY", "/run/r"),
        ("NAME", "x"),
        ("EMPTY", ""),
    ]);
    Draft::of(Some(Path::new("dir/remuda.toml")), text, flags, &env).settled()
}

fn config(text: &str) -> Config {
    read(text)
        .unwrap_or_else(|problems| panic!("{problems}"))
        .config
}

/// The messages with their lines and helps.
fn wrong(text: &str) -> Vec<(Option<usize>, String, String)> {
    let problems = read(text)
        .err()
        .unwrap_or_else(|| panic!("accepted: {text}"));
    problems
        .reports()
        .into_iter()
        .map(|one| (one.line, one.message, one.help.unwrap_or_default()))
        .collect()
}

/// The only problem, which must say both.
fn only(text: &str, message: &str, help: &str) {
    let all = wrong(text);
    assert_eq!(all.len(), 1, "{text}\n{all:?}");
    assert!(
        all[0].1.contains(message),
        "{message:?} not in {:?}",
        all[0].1
    );
    assert!(all[0].2.contains(help), "{help:?} not in {:?}", all[0].2);
}

const APP: &str = "[services.app]\ncommand = [\"./server\"]\n";

fn managed(config: &Config) -> &Recipe {
    match &config.services[0].workers {
        Workers::Managed(recipe) => recipe,
        Workers::Unmanaged(_) => panic!("unmanaged"),
    }
}

#[test]
fn defaults_are_those_of_the_seams() {
    let config = config(APP);
    let service = &config.services[0];
    assert_eq!(service.settings, Settings::default());
    assert_eq!(service.rules, ServiceRules::default());
    let front = Front {
        entrances: vec![Entrance::default()],
        ..Front::default()
    };
    assert_eq!(config.front, front);
    assert_eq!(
        config.listen,
        [PublicListener::Tcp("127.0.0.1:8080".parse().unwrap())]
    );
    assert_eq!(
        config.admin.address,
        Some("127.0.0.1:9900".parse().unwrap())
    );
    assert!(!config.admin.address_named);
    assert_eq!(config.admin.socket, Path::new("/run/r/admin.sock"));
    assert_eq!(config.ports, (20_000, 29_999));
    assert_eq!(config.stop_timeout, Duration::from_secs(60));
    assert_eq!(config.shutdown_delay, Duration::ZERO);
    assert_eq!(managed(&config).connect, Connect::Port);
}

#[test]
fn every_key_is_read() {
    // The reference names them all; each is set to its example, and must be found in the values.
    // Those that name files which are read at once are shown with such files.
    let sections = keys::SECTIONS.iter();
    for section in sections.filter(|section| section.path != "listen.tls") {
        for key in section.keys.iter().filter(|key| key.name != "error_pages") {
            let base = if key.name == "command" || key.name == "upstream" {
                "[services.app]\n"
            } else {
                APP
            };
            let line = format!("{} = {}\n", key.name, key.example);
            let text = match section.path {
                "" => format!("{line}{base}"),
                "listen" if key.name == "address" => format!("{base}[[listen]]\n{line}"),
                "listen" => format!("{base}[[listen]]\naddress = \"0.0.0.0:1\"\n{line}"),
                "services.*" => format!("{base}{line}"),
                path => format!("{base}[{}]\n{line}", path.replace('*', "app")),
            };
            let loaded = read(&text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
            let path = format!("{}.{}", section.path.replace('*', "app"), key.name);
            assert!(
                loaded
                    .values
                    .found
                    .contains_key(path.trim_start_matches('.')),
                "{path}"
            );
            if key.default.is_some() {
                assert!(
                    check::default(path.trim_start_matches('.')).is_some(),
                    "default of {path}"
                );
            }
        }
    }
}

#[test]
fn each_request_is_for_one_service_at_most() {
    let two = |one: &str, other: &str| {
        format!("{APP}{one}\n[services.web]\ncommand = [\"y\"]\n{other}\n")
    };
    for (one, other, message) in [
        (
            "",
            "",
            "services `app` and `web` both get the requests of every host",
        ),
        (
            "hosts = [\"a.example\"]",
            "hosts = [\"b.example\", \"A.Example.\"]",
            "both get the requests of `a.example`",
        ),
        (
            "path_prefix = \"/api\"",
            "path_prefix = \"/api/\"",
            "of every host below `/api`",
        ),
        (
            "hosts = [\"a\", \"a\"]",
            "hosts = [\"b\"]",
            "names `a` twice",
        ),
    ] {
        only(&two(one, other), message, "`hosts` or `path_prefix`");
    }
    for (one, other) in [
        ("", "hosts = [\"a\"]"),
        ("", "path_prefix = \"/api\""),
        ("hosts = [\"*.a\"]", "hosts = [\"a\"]"),
        (
            "hosts = [\"a\"]\npath_prefix = \"/x\"",
            "hosts = [\"a\"]\npath_prefix = \"/y\"",
        ),
    ] {
        config(&two(one, other));
    }
}

#[test]
fn units_are_always_visible() {
    let rollout = |line: &str| format!("{APP}[services.app.rollout]\n{line}\n");
    only(&rollout("soak = 30"), "a time needs its unit", "\"30s\"");
    only(&rollout("soak = \"30\""), "without its unit", "\"30s\"");
    only(&rollout("soak = 1.5"), "found a number with a fraction", "");
    only(
        &rollout("max_surge = \"a quarter\""),
        "not a percentage",
        "\"25%\"",
    );
    only(
        &format!("{APP}[services.app.limits]\nbody = 10\n"),
        "a size needs its unit",
        "MB",
    );
    only(
        &format!("{APP}[services.app.retry]\nbudget = 20\n"),
        "needs its sign",
        "\"20%\"",
    );
}

#[test]
fn both_limits_zero_is_an_error_however_zero_is_written() {
    for (surge, unavailable) in [("0", "0"), ("\"0%\"", "0"), ("0", "\"0%\"")] {
        let text = format!(
            "{APP}[services.app.rollout]\nmax_surge = {surge}\nmax_unavailable = {unavailable}\n"
        );
        only(&text, "both 0", "max_surge = 1");
    }
    config(&format!(
        "{APP}[services.app.rollout]\nmax_surge = 0\nmax_unavailable = 1\n"
    ));
}

#[test]
fn limits_that_end_before_a_worker_can_be_ready_are_refused_with_the_smallest_that_does() {
    let text = |rise: u32, rest: &str| format!("{APP}health = {{ rise = {rise}{rest} }}\n");
    only(
        &text(10, ", start_timeout = \"999ms\""),
        "`health.start_timeout` ends before `health.rise` good answers",
        "set `start_timeout = \"1s\"` or more",
    );
    config(&text(10, ", start_timeout = \"1s\""));
    config(&text(1, ", start_timeout = \"1ms\""));
    let late = |deadline: &str| {
        format!(
            "{}rollout = {{ progress_deadline = \"{deadline}\" }}\n",
            text(30, "")
        )
    };
    only(&late("2900ms"), "`rollout.progress_deadline`", "\"3s\"");
    // However short it is, neither ramp nor soak counts.
    config(&late("3s"));
}

#[test]
fn command_and_upstream_exclude_each_other() {
    only(
        &format!("{APP}upstream = [\"127.0.0.1:1\"]\n"),
        "both `command` and `upstream`",
        "keep",
    );
    only(
        "[services.app]\n",
        "neither `command` nor `upstream`",
        "add",
    );
    only("[services.app]\nupstream = []\n", "the list is empty", "");
    only(
        "[services.app]\nupstream = [\"127.0.0.1:1\"]\nworkers = 2\n",
        "belongs to a `command`",
        "one worker per address",
    );
    let config = config(
        "[services.app]\nupstream = [\"127.0.0.1:9000\", \"unix:/run/x.sock\"]\nprotocol = \"h2c\"\n",
    );
    let worker = |address| Upstream {
        address,
        protocol: Protocol::H2c,
    };
    assert_eq!(
        config.services[0].workers,
        Workers::Unmanaged(vec![
            worker(WorkerAddress::Tcp("127.0.0.1:9000".parse().unwrap())),
            worker(WorkerAddress::Unix("/run/x.sock".into())),
        ])
    );
    assert_eq!(config.services[0].settings.wanted, 2);
}

#[test]
fn connect_follows_from_the_placeholder() {
    let connect = |command: &str, rest: &str| {
        managed(&config(&format!(
            "[services.app]\ncommand = [{command}]\n{rest}"
        )))
        .connect
    };
    assert_eq!(connect("\"x\"", ""), Connect::Port);
    assert_eq!(connect("\"x\", \"{port}\"", ""), Connect::Port);
    assert_eq!(connect("\"x\", \"unix:{socket}\"", ""), Connect::Socket);
    assert_eq!(
        connect("\"x\"", "env = { SOCK = \"{socket}\" }"),
        Connect::Socket
    );
    assert_eq!(connect("\"x\"", "connect = \"fd\""), Connect::Fd);
    only(
        "[services.app]\ncommand = [\"{port}\", \"{socket}\"]\n",
        "both used",
        "keep",
    );
    only(
        &format!("{APP}connect = \"socket\"\n"),
        "nothing tells the worker",
        "{socket}",
    );
    only(
        &format!("{APP}connect = \"sokcet\"\n"),
        "not known",
        "\"socket\"",
    );
}

#[test]
fn warnings_do_not_refuse() {
    let loaded = read(&format!(
        "ports = \"30000-40000\"\n{APP}[services.app.drain]\nrequest = \"90s\"\n"
    ))
    .unwrap();
    let codes: Vec<_> = loaded.warnings.list().iter().map(|one| one.code).collect();
    assert!(codes.contains(&"stop-timeout"), "{codes:?}");
    let loaded = read("[services.app]\ncommand = [\"x\", \"{prot}\"]\n").unwrap();
    assert_eq!(loaded.warnings.list()[0].code, "placeholder");
}

#[test]
fn secrets_in_env_are_not_shown() {
    let loaded = read(&format!("{APP}env = {{ KEY = \"hunter2\" }}\n")).unwrap();
    assert!(!loaded.resolved().contains("hunter2"));
    only(
        &format!("{APP}env = {{ LISTEN_FDS = \"1\" }}\n"),
        "remuda itself sets",
        "remove",
    );
}

#[test]
fn a_drain_takes_an_hour_at_most_or_the_longest_that_its_classes_may_stand_still() {
    let at_most = |lines: &str| {
        let text = format!("[services.app]\ncommand = [\"x\"]\n[services.app.drain]\n{lines}");
        let loaded = read_with(&text, &RunFlags::default()).unwrap();
        let service = &loaded.config.services[0];
        assert_eq!(service.rules.drain.at_most, service.settings.drain_at_most);
        service.settings.drain_at_most.as_secs()
    };
    assert_eq!(at_most(""), 3600);
    assert_eq!(at_most("tunnel = \"2h\""), 7200);
    assert_eq!(at_most("tunnel = \"2h\"\nat_most = \"10m\""), 600);
}
