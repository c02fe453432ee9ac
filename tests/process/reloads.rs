//! Reloads of a config that cannot be taken, or not whole, while remuda runs: what is said of it, and for how
//! long (F14).

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::bad_input::{answers, serve_as};
use super::protocols::Load;
use super::support::cli::{Ended, run_in};
use super::support::http::PATIENCE;
use super::support::instance::{Instance, Start};
use super::support::watch::workers;

const READ: &str = "remuda_config_last_reload_successful";

fn file(instance: &Instance) -> PathBuf {
    instance.dir.path().join("remuda.toml")
}

fn text(instance: &Instance) -> String {
    std::fs::read_to_string(file(instance)).expect("there")
}

/// Writes the file anew and reloads it.
fn reload(instance: &Instance, text: &str) -> Ended {
    std::fs::write(file(instance), text).expect("writable");
    instance.cli(&["reload"])
}

fn assert_no_note(instance: &Instance) {
    for command in ["status", "why"] {
        let said = instance.cli(&[command]).expect(0).out;
        assert!(!said.contains("note: "), "{said}");
    }
}

#[test]
fn f14_a_service_more_or_less_needs_a_restart_which_is_said_of_a_good_config() {
    let instance = Start::default()
        .another("other", "hosts = [\"other\"]")
        .ready();
    let before = text(&instance);
    assert_no_note(&instance);
    let added = format!("{before}[services.third]\ncommand = [\"true\"]\nhosts = [\"third\"]\n");
    let (without, _) = before.split_once("[services.other]").expect("there");
    for (now, what) in [
        (added.as_str(), "`third` is new"),
        (without, "`other` is gone"),
    ] {
        let words = [
            "cannot be added or removed",
            what,
            "a restart of remuda takes it",
        ];
        reload(&instance, now).expect(5).says(&words);
        let answer = instance.admin("POST", "/v1/reload", "");
        assert_eq!(answer.status, 409, "{}", answer.text());
        instance.cli(&["status"]).expect(0).says(&["note: ", what]);
        instance.cli(&["why"]).expect(0).says(&["note: ", what]);
        instance.wait_metric(READ, &[], 0.0);
        assert_eq!(instance.get("/").status, 200);
    }
    // A file that is no config at all is another matter.
    reload(&instance, "workers = ").expect(78);
    instance
        .cli(&["status"])
        .expect(0)
        .says(&["`remuda check -c FILE` says why"]);
    reload(&instance, &before).expect(0);
    instance.wait_metric(READ, &[], 1.0);
    assert_no_note(&instance);
}

#[test]
fn what_only_a_restart_takes_is_said_as_long_as_it_waits_for_one() {
    let instance = Start::default().ready();
    let before = text(&instance);
    let more = before.replace("[admin]", "[[listen]]\naddress = \"127.0.0.1:0\"\n[admin]");
    let listen = "`listen` changed, which needs a restart of remuda";
    reload(&instance, &more).expect(0).says(&[listen]);
    // Nothing is different from the file of before, and still it is not in use.
    reload(&instance, &more).expect(0).says(&[listen]);
    for command in ["status", "why"] {
        instance.cli(&[command]).expect(0).says(&["note: ", listen]);
    }
    let moved = format!("runtime_dir = \"elsewhere\"\nports = \"21000-21999\"\n{before}");
    let said = reload(&instance, &moved).expect(0);
    said.says(&["`runtime_dir` changed", "`ports` changed"]);
    assert!(!said.out.contains("admin"), "{}", said.out);
    assert!(!said.out.contains("`listen`"), "{}", said.out);
    reload(&instance, &before)
        .expect(0)
        .says(&["nothing changed"]);
    assert_no_note(&instance);
}

#[test]
fn what_a_reload_changes_at_once_waits_for_nothing() {
    let instance = Start::default().ready();
    let before = text(&instance);
    let logged = format!("{before}\n[access_log]\nto = \"access.log\"\n");
    reload(&instance, &logged)
        .expect(0)
        .says(&["the access log changed (live)"]);
    assert_no_note(&instance);
}

#[test]
fn what_a_reload_would_do_is_said_without_any_of_it_being_done() {
    let mut instance = Start::default().ready();
    let before = text(&instance);
    let plan = |instance: &Instance, text: &str| {
        std::fs::write(file(instance), text).expect("writable");
        instance.cli(&["check", "--plan"])
    };
    let status = |instance: &Instance| {
        let app = &instance.status()["services"]["app"];
        (app["wanted"].clone(), app["rollout"].clone())
    };
    let was = status(&instance);
    plan(&instance, &before)
        .expect(0)
        .says(&["nothing would change"]);
    let after = with_marks(&before).replace("maintenance = true", "release = \"next\"");
    let after = format!("{after}\n[access_log]\nto = \"access.log\"\n");
    let planned = plan(&instance, &after).expect(0);
    planned.says(&[
        "the access log changed (live)",
        "service app: workers 2 → 3 (live)",
        "service app: `release` changed (rollout)",
        "nothing is done yet",
    ]);
    assert_unmarked(&instance);
    // Of what is no config, of one that cannot be taken, and of one that is, nothing is kept.
    plan(&instance, "workers = ").expect(78);
    let other = format!("{before}[services.other]\ncommand = [\"true\"]\nhosts = [\"other\"]\n");
    plan(&instance, &other)
        .expect(5)
        .says(&["`other` is new", "a restart of remuda takes it"]);
    assert_no_note(&instance);
    instance.wait_metric(READ, &[], 1.0);
    assert_eq!(status(&instance), was);
    assert!(!instance.dir.path().join("access.log").exists());
    // What was planned is what is done.
    std::fs::write(file(&instance), &after).expect("writable");
    let done = instance.cli(&["reload", "--detach"]).expect(0);
    assert_eq!(done.out, planned.out);
    instance.signal(Signal::SIGTERM);
    instance.ended();
    instance.cli(&["check", "--plan"]).expect(4);
}

#[test]
fn f14_what_a_reload_changed_is_named_whatever_table_it_is_in() {
    let instance = Start::default().ready();
    let before = text(&instance);
    let (top, service) = before.split_once("[services.app]\n").expect("there");
    let more = "[limits]\nhead = \"1KiB\"\n[timeouts]\nheader = \"9s\"\n[services.app]\nworkers = 3\n\
                maintenance = true\ntimeouts = { connect = \"9s\" }\n";
    let http1 = top.replace("[[listen]]\n", "[[listen]]\nhttp2 = false\n");
    let changed = format!("shutdown_delay = \"1s\"\n{http1}{more}{service}");
    reload(&instance, &changed).expect(0).says(&[
        "`shutdown_delay`, `timeouts.header`, `limits.head` changed (live)",
        "listener 127.0.0.1:0: `http2` changed (live)",
        "service app: workers 2 → 3 (live)",
        "service app: `maintenance`, `timeouts.connect` changed (live)",
    ]);
    until_closed(&instance);
    let closed = "`maintenance` is on, and every request is answered 503";
    instance
        .cli(&["status"])
        .expect(0)
        .says(&["note: service app: ", closed]);
    instance.cli(&["why"]).expect(0).says(&[closed]);
    reload(&instance, &changed)
        .expect(0)
        .says(&["nothing changed"]);
    // A key that says what is the default is no change.
    let same = before.replace("[services.app]\n", "[services.app]\nmaintenance = false\n");
    reload(&instance, &before).expect(0);
    assert_no_note(&instance);
    reload(&instance, &same)
        .expect(0)
        .says(&["nothing changed"]);
}

/// Planes use a new table a moment after it was published.
fn until_closed(instance: &Instance) {
    let deadline = Instant::now() + PATIENCE;
    while instance.get("/").status != 503 {
        assert!(Instant::now() < deadline, "`maintenance` is never in use");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A change in each part of a config that can be seen at once.
fn with_marks(config: &str) -> String {
    let (top, service) = config.split_once("[services.app]\n").expect("there");
    let marks = "[services.app]\nmaintenance = true\nworkers = 3\n";
    format!("shutdown_delay = \"1s\"\n{top}[limits]\ntarget = \"20B\"\n{marks}{service}")
}

/// None of [`with_marks`] is in use.
fn assert_unmarked(instance: &Instance) {
    let long = instance.get("/a-path-that-is-longer-than-that");
    assert_eq!(long.status, 200);
    assert_eq!(instance.status()["services"]["app"]["wanted"], 2);
}

#[test]
fn f14_a_log_that_cannot_be_opened_changes_nothing_and_the_note_says_why() {
    let mut instance = Start::default().ready();
    let before = text(&instance);
    let logged = format!(
        "{}\n[access_log]\nto = \"there/access.log\"\n",
        with_marks(&before)
    );
    let why = "there/access.log";
    reload(&instance, &logged).expect(78).says(&[why]);
    assert_unmarked(&instance);
    let said = instance.cli(&["status"]).expect(0);
    said.says(&["note: the config was not reloaded", why]);
    // That one would find nothing.
    said.says_none_of(&["remuda check"]);
    // It stays so until it is mended, and then it is said that somebody has to ask again.
    std::fs::create_dir(instance.dir.path().join("there")).expect("made");
    instance.wait("the note to say that it is valid", |status| {
        status["notices"][0]
            .as_str()
            .is_some_and(|note| note.contains("`remuda reload` takes it"))
    });
    assert_unmarked(&instance);
    instance.cli(&["reload"]).expect(0);
    until_closed(&instance);
    let said = instance.cli(&["status"]).expect(0);
    said.says_none_of(&["note: the config"]);
}

#[test]
fn f14_workers_that_are_to_be_somebody_elses_need_a_restart_and_nothing_else_is_taken() {
    let instance = Start::default().ready();
    let before = text(&instance);
    let line = |name: &str| {
        let mut lines = before.lines();
        let found = lines.find(|line| line.starts_with(name)).expect("there");
        found.to_owned()
    };
    let others = with_marks(&before)
        .replace(
            &line("command = "),
            "upstream = [\"127.0.0.1:1\", \"127.0.0.1:2\"]",
        )
        .replace(&line("env = "), "")
        .replace("workers = 3\n", "");
    for _ in 0..2 {
        let words = [
            "service app: `command` and `upstream` cannot be exchanged",
            "a restart of remuda takes it",
        ];
        reload(&instance, &others).expect(5).says(&words);
        assert_unmarked(&instance);
        instance
            .cli(&["status"])
            .expect(0)
            .says(&["note: ", words[0]]);
    }
    reload(&instance, &before)
        .expect(0)
        .says(&["nothing changed"]);
}

#[test]
fn f14_addresses_of_somebody_elses_workers_come_and_go_without_a_lost_request() {
    let named = |name: &'static str| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("bound").to_string();
        serve_as(name, move || Box::new(listener.accept().expect("accept").0));
        address
    };
    let (one, two, three) = (named("one"), named("two"), named("three"));
    let mut instance = Start::default().upstream(&[&one]).ready();
    let before = text(&instance);
    let list =
        |addresses: &[&str]| before.replace(&format!("{:?}", [&one]), &format!("{addresses:?}"));
    let load = Load::on(&instance);
    let said = reload(&instance, &list(&[&two, &three])).expect(0);
    said.says(&[&format!(
        "service app: `upstream`: {two}, {three} join, {one} leaves (live)"
    )]);
    instance.wait("the new ones to serve alone", |status| {
        let app = &status["services"]["app"];
        app["ready"] == 2 && app["wanted"] == 2 && workers(app).count() == 2
    });
    assert_eq!(answers(&instance), ["three", "two"]);
    reload(&instance, &list(&[&two, &three]))
        .expect(0)
        .says(&["nothing changed"]);
    load.goes_on();
    // One that is dead takes nothing away, and it is said who serves in its place.
    let dead = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.local_addr().expect("bound").to_string()
    };
    reload(&instance, &list(&[&dead])).expect(0);
    let lingers = "is not in `upstream` any more, and serves until";
    instance.cli(&["why"]).expect(0).says(&["note: ", lingers]);
    load.goes_on();
    reload(&instance, &list(&[&one, &three])).expect(0);
    instance.wait("those that are named to serve alone", |status| {
        let app = &status["services"]["app"];
        app["ready"] == 2 && workers(app).count() == 2
    });
    assert_eq!(answers(&instance), ["one", "three"]);
    load.lost_nothing();
    assert_no_note(&instance);
}

#[test]
fn f65_numbers_that_cannot_be_kept_are_told_until_they_can() {
    let start = Start::default()
        .top("state_dir = \"state\"")
        .flags(&["--soak", "0s", "--ramp", "0s"]);
    let state = start.place().join("state");
    let mut instance = start.ready();
    assert_no_note(&instance);
    // In everybody's way, as a full disk is.
    let in_the_way = state.join("state.json.new");
    std::fs::create_dir(&in_the_way).expect("made");
    instance.cli(&["rollout"]).expect(0);
    let told = "cannot keep the numbers of generations";
    for command in ["status", "why"] {
        instance.cli(&[command]).expect(0).says(&["note: ", told]);
    }
    assert_eq!(instance.get("/").status, 200);
    std::fs::remove_dir(&in_the_way).expect("removed");
    instance.wait("the numbers to be kept", |status| {
        status["notices"].as_array().is_some_and(Vec::is_empty)
    });
    instance.wait_said("kept again");
    let kept = std::fs::read_to_string(state.join("state.json")).expect("there");
    assert!(kept.contains("\"app\": 2"), "{kept}");
}

#[test]
fn a_config_that_was_rolled_back_is_not_taken_for_what_runs() {
    let instance = Start::default().ready();
    let before = text(&instance);
    let line = before.lines().find(|line| line.starts_with("command = "));
    let bad = before.replace(line.expect("there"), "command = [\"false\"]");
    reload(&instance, &bad)
        .expect(1)
        .says(&["(rollout)", "app-2 was rolled back: worker "]);
    let behind = "generation 1 runs the command and environment of an earlier config, \
                  as `remuda history app-2` shows; `remuda rollout app` rolls what the config says";
    let said = reload(&instance, &bad).expect(0);
    said.says(&[behind]);
    assert!(!said.out.contains("nothing changed"), "{}", said.out);
    instance
        .cli(&["status"])
        .expect(0)
        .says(&["note: ", behind]);
    instance
        .cli(&["history", "app-2"])
        .expect(0)
        .says(&["was rolled back: worker ", "exit status 1"]);
    // As it says: the same is tried again.
    instance.cli(&["rollout", "app"]).expect(1);
    // The config of before is what has served all the while, so nothing is rolled for it.
    let serving = |instance: &Instance| {
        let app = instance.status()["services"]["app"].clone();
        let pids = workers(&app).map(|worker| worker["pid"].clone());
        (app["generation"].clone(), pids.collect::<Vec<_>>())
    };
    let served = serving(&instance);
    reload(&instance, &before)
        .expect(0)
        .says(&["generation 1 runs this command and environment already"]);
    assert_no_note(&instance);
    assert_eq!(serving(&instance), served);
    reload(&instance, &before)
        .expect(0)
        .says(&["nothing changed"]);
}

#[test]
fn f65_a_second_instance_on_one_state_directory_is_refused_by_the_name_of_the_first() {
    let start = Start::default().top("state_dir = \"state\"");
    let state = start.place().join("state");
    let mut first = start.ready();
    let second = tempfile::tempdir().expect("a directory");
    let config = format!("state_dir = {state:?}\n[services.app]\ncommand = [\"sleep\", \"60\"]\n");
    std::fs::write(second.path().join("remuda.toml"), config).expect("writable");
    let words = ["run", "--listen", "127.0.0.1:0", "--admin", "off"];
    let other = format!("another remuda (pid {})", first.pid());
    run_in(second.path(), &words)
        .expect(1)
        .says(&[&other, "its own `state_dir`"]);
    // One that was killed keeps nobody out.
    first.signal(Signal::SIGKILL);
    first.ended();
    first.start_again();
    first.wait("the next life to serve", |status| {
        let app = &status["services"]["app"];
        app["ready"] == app["wanted"] && app["generation"] == 2
    });
}

#[test]
fn what_a_config_warns_of_is_said_once_at_the_start_and_by_the_reload_that_brings_it() {
    let mut instance = Start::default()
        .service("rollout = { ramp = \"2s\", soak = \"1s\" }")
        .ready();
    let times = |instance: &Instance, what: &str| instance.said().matches(what).count();
    let soak = "`services.app.rollout.soak` is 1s";
    assert_eq!(times(&instance, soak), 1, "{}", instance.said());
    let before = text(&instance);
    let start = "`services.app.health.start_timeout` is 5m";
    let with = format!("{before}\nhealth.start_timeout = \"5m\"\n");
    let told = reload(&instance, &with).expect(0).err;
    assert!(told.contains("warning: ") && told.contains(start), "{told}");
    instance.wait_said(start);
    // What was said is known, wherever it stands now.
    let told = reload(
        &instance,
        &format!("# A line more.\n{with}drain.request = \"29s\"\n"),
    )
    .expect(0);
    assert!(!told.err.contains("warning: "), "{}", told.err);
    instance.wait_said("drain.request");
    assert_eq!(times(&instance, soak), 1, "{}", instance.said());
    assert_eq!(times(&instance, start), 1, "{}", instance.said());
    let line = instance.said();
    let line = line.lines().find(|line| line.contains(start));
    let line = line.expect("just seen");
    assert!(line.contains("remuda.toml:"), "{line}");
}
