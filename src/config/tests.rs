//! What the whole module promises.

use std::time::Duration;

use super::*;
use crate::link::message::{
    Entrance, Front, Protocol, PublicListener, ServiceRules, WorkerAddress,
};
use crate::rollout::Settings;

mod lists;
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
fn every_mistake_is_reported_at_once_with_its_place() {
    let text = "stop_timeout = 30\n\
                [services.shop]\n\
                comand = [\"x\"]\n\
                command = [\"x\"]\n\
                workers = 0\n\
                [services.shop.rollout]\n\
                max_surge = 0\n\
                soak = \"5\"\n\
                [services.shop.drian]\n\
                request = \"30s\"\n";
    let all = wrong(text);
    let lines: Vec<_> = all.iter().map(|one| one.0.unwrap()).collect();
    assert_eq!(lines, [1, 3, 5, 7, 8, 9], "{all:?}");
    assert!(all[0].2.contains("\"30s\""));
    assert!(all[1].2.contains("`command`"));
    assert!(all[3].1.contains("both 0"));
    assert!(all[4].2.contains("\"5s\""));
    assert!(all[5].2.contains("`drain`"));
}

#[test]
fn a_problem_shows_file_line_carets_and_help() {
    let problems = read("[services.app]\ncommand = [\"x\"]\nworkrs = 3\n").unwrap_err();
    let shown = problems.render(false, None);
    for part in [
        "dir/remuda.toml:3:1",
        "workrs = 3",
        "^^^^^^",
        "did you mean `workers`?",
    ] {
        assert!(shown.contains(part), "{part:?} not in\n{shown}");
    }
    let report = &problems.reports()[0];
    assert_eq!(
        (
            report.line,
            report.column,
            report.end_line,
            report.end_column
        ),
        (Some(3), Some(1), Some(3), Some(7))
    );
    assert!(!shown.contains('\u{1b}'));
}

#[test]
fn keys_that_come_later_are_refused_with_that_sentence() {
    for strategy in ["canary", "blue-green", "recreate"] {
        let text = format!("{APP}[services.app.rollout]\nstrategy = \"{strategy}\"\n");
        only(
            &text,
            &format!("strategy `{strategy}` is not in this version yet"),
            "rolling",
        );
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
fn a_listener_that_believes_nobody_expects_no_header() {
    let text = |trusted: &str| {
        format!(
            "{trusted}\n{APP}[[listen]]\naddress = \"0.0.0.0:1\"\nproxy_protocol = true\n\
             [[listen]]\naddress = \"0.0.0.0:2\"\n[[listen]]\naddress = \"unix:/run/x\"\nproxy_protocol = true\n"
        )
    };
    only(
        &text(""),
        "`proxy_protocol` without `trusted_proxies`",
        "10.0.0.0/8",
    );
    let config = config(&text("trusted_proxies = [\"10.0.0.0/8\"]"));
    let expects = config.front.entrances.iter().map(|one| one.proxy_protocol);
    assert_eq!(expects.collect::<Vec<_>>(), [true, false, true]);
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
fn variables_are_filled_in_and_missing_ones_reported() {
    let text = "[services.app]\ncommand = [\"${NAME}\", \"${NONE:-y}\", \"${EMPTY:-z}\", \"$${NAME}\", \"$HOME\"]\n";
    let config = config(text);
    assert_eq!(
        managed(&config).command,
        ["x", "y", "z", "${NAME}", "$HOME"]
    );
    only(
        "[services.app]\ncommand = [\"${NONE}\"]\n",
        "`NONE` is not set",
        "${NONE:-default}",
    );
    only(
        "[services.app]\ncommand = [\"${NONE\"]\n",
        "without its `}`",
        "$${",
    );
}

#[test]
fn a_flag_replaces_the_value_for_every_service() {
    let flags = RunFlags {
        workers: Some("5".to_owned()),
        drain_timeout: Some("7s".to_owned()),
        listen: vec!["0.0.0.0:1".to_owned(), "unix:/run/l.sock".to_owned()],
        admin: Some("off".to_owned()),
        ramp: Some("0s".to_owned()),
        ..RunFlags::default()
    };
    let text =
        "[services.shop]\ncommand = [\"x\"]\nworkers = 3\n[[listen]]\naddress = \"0.0.0.0:2\"\n";
    let loaded = read_with(text, &flags).unwrap();
    let service = &loaded.config.services[0];
    assert_eq!(service.name, ServiceName::new("shop"));
    assert_eq!(service.settings.wanted, 5);
    assert_eq!(service.settings.drain_request, Duration::from_secs(7));
    assert_eq!(service.rules.drain.request, Duration::from_secs(7));
    assert_eq!(service.settings.ramp, Duration::ZERO);
    assert_eq!(loaded.config.listen.len(), 2);
    assert_eq!(loaded.config.admin.address, None);
    assert!(loaded.config.admin.address_named);
    let resolved = loaded.resolved();
    assert!(
        resolved.contains("workers = 5 # flag --workers or REMUDA_WORKERS"),
        "{resolved}"
    );
    assert!(
        resolved.contains("command = [\"x\"] # dir/remuda.toml"),
        "{resolved}"
    );
    assert!(resolved.contains("soak = \"5s\" # default"), "{resolved}");
    read(&resolved).unwrap_or_else(|problems| panic!("what is resolved reads again\n{problems}"));
}

#[test]
fn a_command_needs_no_file() {
    let flags = RunFlags {
        command: vec!["./server".to_owned(), "{port}".to_owned()],
        ..RunFlags::default()
    };
    assert_eq!(flags.file(), None);
    let loaded = load(&flags, &Env::new()).unwrap();
    assert_eq!(loaded.config.services[0].name, ServiceName::new("app"));
    assert_eq!(managed(&loaded.config).command, ["./server", "{port}"]);
    assert_eq!(
        RunFlags::default().file(),
        Some(PathBuf::from("remuda.toml"))
    );

    let upstream = RunFlags {
        upstream: vec!["127.0.0.1:9000".to_owned()],
        ..RunFlags::default()
    };
    let loaded = load(&upstream, &Env::new()).unwrap();
    assert_eq!(loaded.config.services[0].settings.wanted, 1);
}

#[test]
fn flags_are_checked_by_the_command_line() {
    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        run: RunFlags,
    }
    use clap::{CommandFactory, Parser};
    Line::command().debug_assert();
    let line = |args: &[&str]| Line::try_parse_from([&["run"], args].concat());
    let run = line(&[
        "--soak",
        "1s",
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "unix:/x",
        "--max-surge",
        "1",
        "--",
        "cmd",
        "--soak",
    ])
    .unwrap()
    .run;
    assert_eq!(run.soak.as_deref(), Some("1s"));
    assert_eq!(run.listen.len(), 2);
    assert_eq!(run.command, ["cmd", "--soak"]);
    for bad in [
        ["--soak", "5"],
        ["--listen", ":80"],
        ["--admin", "0.0.0.0:1"],
        ["--workers", "0"],
        ["--connect", "x"],
        ["--max-surge", "101%"],
    ] {
        let error = line(&bad).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{bad:?}");
    }
}

#[test]
fn t21_a_config_that_others_may_change_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("remuda.toml");
    let token = dir.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123456789abcdef\n").unwrap();
    let text = format!("{APP}[admin]\ntoken_file = \"token\"\n");
    std::fs::write(&file, text).unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let flags = RunFlags {
        config: Some(file.clone()),
        ..RunFlags::default()
    };
    let refused = || {
        load(&flags, &Env::new())
            .err()
            .map(|problems| problems.to_string())
    };
    mode(&file, 0o644);
    mode(&token, 0o600);
    assert_eq!(refused(), None);
    for bad in [0o664, 0o646, 0o666] {
        mode(&file, bad);
        assert!(
            refused().is_some_and(|text| text.contains("chmod go-w")),
            "{bad:o}"
        );
    }
    mode(&file, 0o644);
    mode(&token, 0o620);
    assert!(refused().is_some_and(|text| text.contains("token")));
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |name: &str, bytes: Option<&[u8]>| {
        let file = dir.path().join(name);
        if let Some(bytes) = bytes {
            std::fs::write(&file, bytes).unwrap();
        }
        let flags = RunFlags {
            config: Some(file),
            ..RunFlags::default()
        };
        load(&flags, &Env::new()).unwrap_err().to_string()
    };
    assert!(refused("none", None).contains("there is no such file"));
    assert!(refused("binary", Some(&[0xff, 0xfe, 0])).contains("not UTF-8"));
    assert!(refused("huge", Some(&vec![b'#'; 2 << 20])).contains("larger than 1 MiB"));
    assert!(refused("empty", Some(b"")).contains("there is no service"));
}

#[test]
fn a_syntax_error_is_shown_once_beside_other_mistakes() {
    let all = wrong("[services.app]\ncommand = [\"x\"]\nworkers = = 3\nwrong = 1\n");
    assert!(all.iter().any(|one| one.0 == Some(3)), "{all:?}");
    assert!(
        all.iter().any(|one| one.1.contains("unknown key `wrong`")),
        "{all:?}"
    );
}

#[test]
fn hostile_texts_never_panic() {
    let texts = [
        "\u{0}",
        "=",
        "[",
        "[[",
        "[services.\"\u{1b}[31m\"]",
        "[services]\na = 1",
        "services = 1",
        "listen = 1",
        "[[listen]]",
        "[[listen]]\naddress = \"\u{1F600}\"",
        "listen = [1]",
        "[admin]\naddress = []",
        "[services.app]\ncommand = \"a b\"",
        "[services.app]\nenv = { a = 1 }",
        "a.b.c.d = \"${\"",
        "[services.app]\nworkers = 99999999999999999999999",
        "[services.app]\nworkers = -1",
        "ä = \"ö\n",
    ];
    for text in texts {
        let problems = read(text).unwrap_err();
        assert!(problems.errors() > 0, "{text:?}");
        assert!(!problems.render(false, None).contains('\u{1b}'), "{text:?}");
        assert_eq!(problems.reports().len(), problems.list().len());
    }
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
fn what_looks_like_a_placeholder_is_told_with_its_place() {
    let text = "[services.app]\ncommand = [\n  \"x\",\n  \"--bind={address}\",\n  \"{port}\",\n]\n\
                [services.app.env]\nJSON = '{\"a\": 1}'\nNAME = \"$${USER}-{index}\"\n";
    let reports = read(text).unwrap().warnings.reports();
    let places: Vec<_> = reports.iter().map(|one| (one.line, one.column)).collect();
    assert_eq!(
        places,
        [(Some(4), Some(11)), (Some(9), Some(18))],
        "{reports:?}"
    );
    assert!(reports[0].message.starts_with("`command`: `{address}`"));
    assert!(reports[1].message.starts_with("`env`: `{index}`"));
    assert!(reports[0].help.as_ref().unwrap().contains("`{release}`"));
}

#[test]
fn metrics_are_switched_off_as_the_admin_address_is() {
    let file = |address: &str| format!("[metrics]\naddress = \"{address}\"\n{APP}");
    assert_eq!(config(&file("off")).metrics, None);
    let flags = RunFlags {
        metrics: Some("off".to_owned()),
        ..RunFlags::default()
    };
    let on = file("127.0.0.1:9901");
    assert!(config(&on).metrics.is_some());
    let off = read_with(&on, &flags).unwrap();
    assert_eq!(off.config.metrics, None);
    assert!(
        off.resolved()
            .contains("[metrics]\naddress = \"off\" # flag")
    );
    only(&file("of"), "is not an address", "IP:PORT");
}

#[test]
fn paths_of_the_file_begin_at_its_directory() {
    let config = config(
        "pid_file = \"p\"\nstate_dir = \"/s\"\n[services.app]\ncommand = [\"x\"]\ncwd = \"current\"\n",
    );
    assert_eq!(config.pid_file, Some("dir/p".into()));
    assert_eq!(config.state_dir, Some("/s".into()));
    assert_eq!(managed(&config).cwd, Some("dir/current".into()));
}

#[test]
fn a_path_too_long_for_a_socket_is_refused() {
    let long = "x".repeat(120);
    only(
        &format!("{APP}[admin]\nsocket = \"/{long}\"\n"),
        "too long for a unix socket",
        "shorter",
    );
    assert!(!wrong(&format!("runtime_dir = \"/{long}\"\n{APP}")).is_empty());
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
fn a_misspelt_key_is_not_missing_too() {
    only(
        "[services.app]\ncomand = [\"x\"]\n",
        "unknown key `comand`",
        "`command`",
    );
}

#[test]
fn the_admin_sides_doors_are_not_the_clients() {
    let named = "[admin]\naddress = \"127.0.0.1:8080\"\n";
    for listen in ["127.0.0.1:8080", "0.0.0.0:8080"] {
        let text = format!("[[listen]]\naddress = \"{listen}\"\n{named}{APP}");
        only(
            &text,
            "the admin address 127.0.0.1:8080 is a public",
            "another port",
        );
        assert_eq!(wrong(&text)[0].0, Some(4));
    }
    let metrics = format!("[metrics]\naddress = \"0.0.0.0:9900\"\n{APP}");
    only(&metrics, "0.0.0.0:9900 is the admin side's", "another port");
    let socket = format!("[[listen]]\naddress = \"unix:/run/r/admin.sock\"\n{APP}");
    only(
        &socket,
        "the admin socket /run/r/admin.sock is a public",
        "",
    );
    // The default one is done without, so that is no error.
    let default = read(&format!("[[listen]]\naddress = \"127.0.0.1:9900\"\n{APP}"));
    let warnings = default
        .unwrap_or_else(|problems| panic!("{problems}"))
        .warnings;
    assert!(
        warnings
            .to_string()
            .contains("the admin address 127.0.0.1:9900"),
        "{warnings}"
    );
    for fine in ["127.0.0.2:9900", "[::]:9900", "127.0.0.1:9901", "0.0.0.0:0"] {
        let text = format!("[[listen]]\naddress = \"{fine}\"\n{APP}");
        let warnings = read(&text)
            .unwrap_or_else(|problems| panic!("{problems}"))
            .warnings;
        assert!(warnings.is_empty(), "{fine}: {warnings}");
    }
}

#[test]
fn ports_are_enough_for_the_workers_and_a_rollout_of_them() {
    let with = |last: u32, lines: &str| format!("ports = \"21000-{last}\"\n{APP}{lines}\n");
    let four = "workers = 4";
    only(
        &with(21_003, four),
        "are 4, and `workers` and `max_surge` together need 5",
        "drains",
    );
    assert_eq!(config(&with(21_004, four)).ports, (21_000, 21_004));
    config(&with(21_000, "workers = 4\nconnect = \"fd\""));
    let two = format!("{four}\nhosts = [\"a\"]\n[services.b]\ncommand = [\"b\"]\nhosts = [\"b\"]");
    only(
        &with(21_006, &two),
        "are 7, and `workers` and `max_surge` together need 8",
        "",
    );
    config(&with(21_007, &two));
}

#[test]
fn a_token_file_that_a_start_would_refuse_is_refused_by_a_check() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("remuda.toml");
    let token = dir.path().join("token");
    std::fs::write(&file, format!("{APP}[admin]\ntoken_file = \"token\"\n")).unwrap();
    let flags = RunFlags {
        config: Some(file),
        ..RunFlags::default()
    };
    let said = |content: &[u8], mode| {
        std::fs::write(&token, content).unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(mode)).unwrap();
        let outcome = load(&flags, &Env::new());
        outcome
            .err()
            .map_or_else(String::new, |problems| problems.to_string())
    };
    let good = b"0123456789abcdef0123456789abcdef\n";
    assert_eq!(said(good, 0o600), "");
    for short in [&b""[..], b" \n", b"short\n"] {
        assert!(said(short, 0o600).contains("fewer than 22 characters"));
    }
    for odd in [&b"0123456789abcdef 0123456789abcdef"[..], &[0xff; 40]] {
        assert!(said(odd, 0o600).contains("something else than one word"));
    }
    assert!(said(good, 0o644).contains("may be read or written by others"));
    let writable = said(good, 0o666);
    assert_eq!(writable.matches("error[").count(), 1, "{writable}");
    // A start looks for it; the host that checks need not have it.
    std::fs::remove_file(&token).unwrap();
    assert!(load(&flags, &Env::new()).is_ok());
}

#[test]
fn a_port_at_one_address_and_at_all_of_them_is_refused() {
    let with = |one: &str, other: &str| {
        format!("[[listen]]\naddress = \"{one}\"\n[[listen]]\naddress = \"{other}\"\n{APP}")
    };
    for (one, other) in [
        ("127.0.0.1:8080", "0.0.0.0:8080"),
        ("0.0.0.0:8080", "127.0.0.1:8080"),
        ("[::1]:8080", "[::]:8080"),
    ] {
        let both = format!("`{one}` and `{other}` cannot both be listened on");
        only(&with(one, other), &both, "another port");
    }
    config(&with("127.0.0.1:8080", "127.0.0.2:8080"));
    config(&with("127.0.0.1:0", "0.0.0.0:0"));
    config(&with("0.0.0.0:8080", "[::]:8080"));
}

#[test]
fn a_mistake_is_said_once_at_its_own_place_and_in_its_own_words() {
    let twice = "[[listen]]\naddress = \"127.0.0.1:8080\"\n".repeat(2);
    let all = wrong(&format!("{twice}{APP}"));
    assert_eq!(all.len(), 1);
    assert_eq!(
        (all[0].0, &*all[0].1),
        (
            Some(4),
            "two listeners have the same address `127.0.0.1:8080`"
        )
    );
    for (text, message) in [
        (
            "[services]\n\"A b\" = { command = [\"x\"] }\n",
            "cannot be the name",
        ),
        ("services = 3\n", "`services` is a table of services"),
        ("[services]\napp = 3\n", "`app` is a table"),
    ] {
        only(text, message, "");
    }
    for (line, message, help) in [
        (
            "env = { A = \"\\u0000\" }",
            "`A`: a NUL character is not allowed",
            "",
        ),
        ("workers = -1", "-1 is out of range: 1 to 4096", ""),
        (
            "judge.min_requests = -3",
            "-3 is out of range: 1 to 1000000",
            "",
        ),
        (
            "rollout.max_surge = -1",
            "-1 is out of range: 0 to 4096",
            "",
        ),
        (
            "slow_start = -1",
            "expected a time with its unit, such as \"30s\", found -1",
            "",
        ),
        (
            "rollout.max_surge = \"25\"",
            "`25` is not a percentage",
            "write 25 without quotes",
        ),
        (
            "rollout.max_surge = \"x\"",
            "`x` is not a percentage",
            "\"25%\"",
        ),
    ] {
        only(&format!("{APP}{line}\n"), message, help);
    }
    let long = "x".repeat(129);
    only(
        &format!("{APP}release = \"{long}\"\n"),
        "at most 128 characters, not 129",
        "",
    );
    config(&format!("{APP}release = \"{}\"\n", &long[1..]));
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
