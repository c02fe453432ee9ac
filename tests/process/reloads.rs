//! Reloads of a config that cannot be taken, or not whole, while remuda runs: what is said of it, and for how
//! long (F14).

use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::support::cli::{Ended, run_in};
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
        .says(&["`remuda check` says why"]);
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
