//! `dashboards/` is held to the registry: every query parses, names what exists, and answers.
//!
//! Tests that need `promtool` or `prometheus` show as ignored where these are not installed, with the
//! reason in their name; `REMUDA_REQUIRE_ALL=1` makes their absence a failure.

mod fake;
mod grafana;
mod instances;
mod live;
mod promql;
mod rules;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// What a test says.
type Outcome = Result<(), Failed>;
/// A test's name and itself.
type Test = (&'static str, fn() -> Outcome);

fn main() -> ExitCode {
    let tests: [Test; 9] = [
        ("the_fake_fills_every_family", fake::fills_every_family),
        ("the_dashboard_obeys_the_linter", grafana::obeys_the_linter),
        (
            "the_dashboards_panels_do_not_overlap",
            grafana::panels_do_not_overlap,
        ),
        (
            "every_query_of_the_dashboard_parses_and_names_what_exists",
            grafana::queries_are_sound,
        ),
        (
            "every_alert_parses_and_names_what_exists",
            rules::alerts_are_sound,
        ),
        (
            "every_alert_has_a_runbook_and_a_test",
            rules::alerts_are_documented_and_tested,
        ),
        (
            "every_family_is_charted_or_listed",
            every_family_is_charted_or_listed,
        ),
        (
            "the_check_of_queries_sees_planted_mistakes",
            promql::sees_planted_mistakes,
        ),
        ("labels_come_from_closed_sets", no_open_labels),
    ];
    let mut trials: Vec<Trial> = tests
        .into_iter()
        .map(|(name, test)| Trial::test(name, test))
        .collect();
    trials.extend([
        tools::needing(
            "promtool",
            "promtool_finds_no_fault_in_the_exposition",
            tools::check_metrics,
        ),
        tools::needing(
            "promtool",
            "promtool_finds_no_fault_in_the_rules",
            tools::check_rules,
        ),
        tools::needing(
            "promtool",
            "promtool_finds_no_fault_in_the_scrape_example",
            tools::check_config,
        ),
        tools::needing(
            "promtool",
            "the_alerts_pass_their_unit_tests",
            tools::test_rules,
        ),
    ]);
    trials.extend(live::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Families that no panel and no alert uses, each with the reason.
const NOT_CHARTED: [(&str, &str); 6] = [
    (
        "remuda_config_last_reload_success_timestamp_seconds",
        "a date for those who look into a failed reload",
    ),
    (
        "remuda_config_hash_info",
        "compares hosts; a table of digests says nothing alone",
    ),
    (
        "process_virtual_memory_bytes",
        "reserved addresses, no cost",
    ),
    (
        "process_max_fds",
        "a limit to look up; the alert on accepts says when it is met",
    ),
    ("process_threads", "always a handful"),
    (
        "process_start_time_seconds",
        "used by tools that know it from everybody",
    ),
];

fn every_family_is_charted_or_listed() -> Outcome {
    let mut used = std::collections::BTreeSet::new();
    for expr in grafana::exprs().into_iter().chain(rules::exprs()) {
        used.extend(promql::families(&expr)?);
    }
    for family in remuda::metrics::catalogue::ALL {
        let is_listed = NOT_CHARTED.iter().any(|(name, _)| *name == family.name);
        match (used.contains(family.name), is_listed) {
            (true, false) | (false, true) => {}
            (false, false) => return Err(format!("{} is on no panel", family.name).into()),
            (true, true) => return Err(format!("{} is charted, yet listed", family.name).into()),
        }
    }
    Ok(())
}

/// Labels come from closed sets: no family has one that a client or a process number could fill.
fn no_open_labels() -> Outcome {
    const CLOSED: [&str; 21] = [
        "service",
        "code",
        "method",
        "role",
        "reason",
        "limit",
        "slot",
        "state",
        "generation",
        "trigger",
        "result",
        "outcome",
        "class",
        "stream",
        "what",
        "version",
        "revision",
        "rustc",
        "features",
        "hash",
        "le",
    ];
    for family in remuda::metrics::catalogue::ALL {
        for label in family.labels {
            if !CLOSED.contains(label) {
                return Err(format!("{} has the open label {label}", family.name).into());
            }
        }
    }
    Ok(())
}

/// A file below `dashboards/`.
fn dashboards(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("dashboards")
        .join(path)
}

/// The text of a file below `dashboards/`.
fn read(path: &str) -> String {
    std::fs::read_to_string(dashboards(path)).unwrap_or_default()
}

/// Fails with `message` unless `holds`.
fn ensure(holds: bool, message: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(message().into()) }
}
