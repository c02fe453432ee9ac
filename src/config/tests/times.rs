//! What is asked for and cannot happen, because something else is over first, or off.

use super::*;

/// The warnings of a service with these lines: their lines, counted from its own, and all words.
fn warned(lines: &str) -> Vec<(Option<usize>, String)> {
    let loaded = read(&format!("{APP}{lines}\n")).unwrap_or_else(|problems| panic!("{problems}"));
    let reports = loaded.warnings.reports().into_iter();
    let all = reports.map(|one| {
        let help = one.help.unwrap_or_default();
        (
            one.line.map(|line| line - 2),
            format!("{}; {help}", one.message),
        )
    });
    all.collect()
}

/// Exactly one warning, at this line, with all of these words.
fn warns(lines: &str, at: usize, words: &[&str]) {
    let all = warned(lines);
    assert_eq!(all.len(), 1, "{lines}: {all:?}");
    assert_eq!(all[0].0, Some(at), "{lines}: {all:?}");
    for word in words {
        assert!(all[0].1.contains(word), "{word:?} not in {:?}", all[0].1);
    }
}

fn is_fine(lines: &str) {
    assert_eq!(warned(lines), [], "{lines}");
}

#[test]
fn a_soak_that_is_over_before_its_ramp_is_a_warning() {
    warns(
        "[services.app.rollout]\nramp = \"30s\"\nsoak = \"10s\"",
        3,
        &[
            "`services.app.rollout.soak`",
            "10s",
            "`ramp`",
            "30s",
            "full share",
            "\"0s\"",
        ],
    );
    warns("rollout = { soak = \"1s\" }", 1, &["`ramp`", "3s"]);
    is_fine("rollout = { ramp = \"30s\", soak = \"30s\" }");
    // Who wants no soak says so, and who only sets a ramp asks for nothing that does not happen.
    is_fine("rollout = { ramp = \"30s\", soak = \"0s\" }");
    is_fine("rollout = { ramp = \"30s\" }");
}

#[test]
fn a_start_that_may_take_longer_than_a_rollout_waits_for_it_is_a_warning() {
    warns(
        "health = { start_timeout = \"5m\" }",
        1,
        &[
            "`services.app.health.start_timeout`",
            "5m",
            "`rollout.progress_deadline`",
            "2m",
            "fail",
        ],
    );
    warns(
        "health = { start_timeout = \"30s\" }\nrollout = { progress_deadline = \"20s\" }",
        1,
        &["`rollout.progress_deadline`", "20s"],
    );
    is_fine("health = { start_timeout = \"2m\" }");
    is_fine("rollout = { progress_deadline = \"20s\" }");
    // Nobody waits for the start of workers that somebody else starts.
    let upstream =
        "[services.app]\nupstream = [\"127.0.0.1:9000\"]\nhealth.start_timeout = \"5m\"\n";
    let loaded = read(upstream).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
}

#[test]
fn a_drain_that_is_cut_before_its_own_limit_is_a_warning() {
    for class in ["upload", "stream", "tunnel"] {
        warns(
            &format!("[services.app.drain]\n{class} = \"20m\"\nat_most = \"15m\""),
            2,
            &[
                &format!("`services.app.drain.{class}`"),
                "20m",
                "`at_most`",
                "15m",
            ],
        );
    }
    is_fine("drain = { tunnel = \"20m\", at_most = \"20m\" }");
    // To cut all of them earlier is what it is for.
    is_fine("drain = { at_most = \"5m\" }");
    is_fine("drain = { tunnel = \"3h\" }");
    is_fine("drain = { request = \"40s\", at_most = \"10s\" }");
}

#[test]
fn a_queue_that_nobody_can_wait_in_is_a_warning() {
    warns(
        "[services.app.queue]\nrequests = 1000\nwait = \"30s\"",
        3,
        &["`services.app.queue.wait`", "`max_in_flight`", "`parking`"],
    );
    is_fine("max_in_flight = 10\nqueue = { wait = \"30s\" }");
    // A file with all the defaults is nobody's wish.
    is_fine("queue = { wait = \"5s\" }");
}

#[test]
fn a_stop_has_its_time_from_where_the_listeners_close() {
    let late = format!("shutdown_delay = \"50s\"\n{APP}");
    let loaded = read(&late).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let short = format!("stop_timeout = \"30s\"\n{APP}");
    let loaded = read(&short).unwrap_or_else(|problems| panic!("{problems}"));
    let reports = loaded.warnings.reports();
    assert_eq!(reports.len(), 1, "{}", loaded.warnings);
    assert_eq!(reports[0].line, Some(1));
    assert!(
        reports[0]
            .help
            .as_ref()
            .is_some_and(|help| help.contains("40s"))
    );
}

#[test]
fn what_another_reading_has_warned_of_is_no_news() {
    let soak = "rollout = { soak = \"1s\" }\n";
    let one = read(&format!("{APP}{soak}")).expect("valid");
    let moved = read(&format!("# A line more.\n{APP}{soak}")).expect("valid");
    assert_eq!(moved.warnings_since(&one), []);
    let two = read(&format!(
        "{APP}{soak}health = {{ start_timeout = \"5m\" }}\n"
    ))
    .expect("valid");
    let news = two.warnings_since(&moved);
    assert_eq!(news.len(), 1, "{news:?}");
    assert_eq!(news[0].line, Some(4));
}
