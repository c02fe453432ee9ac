//! Checks by Prometheus' own tools, where they are installed.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use libtest_mimic::{Failed, Trial};

use crate::{Outcome, dashboards, ensure, fake};

/// A test that needs `tool`: ignored without it, or failing if everything is required.
pub(crate) fn needing(tool: &'static str, name: &str, test: fn() -> Outcome) -> Trial {
    let is_here = Command::new(tool)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if is_here {
        return Trial::test(name, test);
    }
    if std::env::var_os("REMUDA_REQUIRE_ALL").is_some_and(|value| value == "1") {
        return Trial::test(name, move || {
            Err(format!("`{tool}` is not installed").into())
        });
    }
    Trial::test(format!("{name} (`{tool}` is not installed)"), || Ok(())).with_ignored_flag(true)
}

pub(crate) fn check_metrics() -> Outcome {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let text = fake::exposition();
    if let Some(mut stdin) = promtool.stdin.take() {
        stdin.write_all(text.as_bytes())?;
    }
    passed(&promtool.wait_with_output()?)
}

pub(crate) fn check_rules() -> Outcome {
    promtool(
        &["check", "rules", "--lint-fatal"],
        "prometheus/alerts.yaml",
    )
}

pub(crate) fn check_config() -> Outcome {
    promtool(&["check", "config"], "prometheus/prometheus.yml")
}

pub(crate) fn test_rules() -> Outcome {
    promtool(&["test", "rules"], "prometheus/tests/alerts.yaml")
}

fn promtool(arguments: &[&str], file: &str) -> Outcome {
    passed(
        &Command::new("promtool")
            .args(arguments)
            .arg(dashboards(file))
            .output()?,
    )
}

fn passed(output: &Output) -> Outcome {
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure(output.status.success(), || {
        format!(
            "{}{}{}",
            output.status,
            said(&output.stdout),
            said(&output.stderr)
        )
    })
    .map_err(|problem: Failed| problem)
}
