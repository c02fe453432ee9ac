//! The alert rules, as far as that needs no YAML parser: one key to a line, each on its own. `promtool`
//! reads them whole where it is installed.

use crate::{Outcome, dashboards, ensure, promql, read};

/// One alert.
#[derive(Debug, Default)]
struct Alert {
    name: String,
    keys: Vec<(String, String)>,
}

/// Every alert's expression.
pub(crate) fn exprs() -> Vec<String> {
    alerts()
        .iter()
        .map(|alert| alert.key("expr").to_owned())
        .collect()
}

pub(crate) fn alerts_are_sound() -> Outcome {
    let exprs = exprs();
    ensure(exprs.len() >= 10, || {
        format!("only {} alerts were found", exprs.len())
    })?;
    exprs.iter().try_for_each(|expr| promql::check(expr))
}

pub(crate) fn alerts_are_documented_and_tested() -> Outcome {
    let tests = read("prometheus/tests/alerts.yaml");
    let alerts = alerts();
    for alert in &alerts {
        let name = &alert.name;
        let is_camel = name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.chars().all(|c| c.is_ascii_alphanumeric());
        ensure(is_camel, || format!("{name} is no CamelCase"))?;
        ensure(
            ["critical", "warning", "info"].contains(&alert.key("severity")),
            || format!("{name} has no severity"),
        )?;
        ensure(!alert.key("for").is_empty(), || {
            format!("{name} has no `for`")
        })?;
        for key in ["summary", "description"] {
            let text = alert.key(key);
            ensure(!text.is_empty(), || format!("{name} has no {key}"))?;
            let known = promql::labels(alert.key("expr"))?;
            for label in text.split("$labels.").skip(1) {
                let label = label
                    .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .next();
                let label = label.unwrap_or_default();
                ensure(known.contains(label), || {
                    format!("{name}: {key} names the label {label}")
                })?;
            }
        }
        let runbook = format!("runbooks/{name}.md");
        ensure(alert.key("runbook_url") == format!("../{runbook}"), || {
            format!("{name}: no runbook")
        })?;
        let begins = format!("# {name}\n");
        ensure(read(&runbook).starts_with(&begins), || {
            format!("{runbook} is missing or another's")
        })?;
        ensure(tests.contains(&format!("- alertname: {name}\n")), || {
            format!("{name} has no test")
        })?;
    }
    let runbooks = std::fs::read_dir(dashboards("runbooks"))?.count();
    ensure(runbooks == alerts.len(), || {
        "a runbook is left of an alert that is gone".to_owned()
    })
}

impl Alert {
    fn key(&self, key: &str) -> &str {
        self.keys
            .iter()
            .find(|(name, _)| name == key)
            .map_or("", |(_, value)| value)
    }
}

fn alerts() -> Vec<Alert> {
    let mut alerts: Vec<Alert> = Vec::new();
    for line in read("prometheus/alerts.yaml").lines() {
        let Some((key, value)) = line.trim_start().split_once(": ") else {
            continue;
        };
        let value = value.trim_matches('\'').to_owned();
        if key == "- alert" {
            alerts.push(Alert {
                name: value,
                keys: Vec::new(),
            });
        } else if let Some(alert) = alerts.last_mut() {
            alert.keys.push((key.to_owned(), value));
        }
    }
    alerts
}
