//! The dashboard: the rules that Grafana's own linter has, and its queries.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{Outcome, ensure, promql, read};

/// The panels that ask something; rows do not.
pub(crate) fn panels() -> Vec<Value> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().cloned().unwrap_or_default();
    panels
        .into_iter()
        .filter(|panel| panel["type"] != "row")
        .collect()
}

/// Every panel's queries, with the panel's title.
pub(crate) fn queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for panel in panels() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((text(&panel["title"]), text(&target["expr"])));
        }
    }
    queries
}

/// Every expression, annotations included.
pub(crate) fn exprs() -> Vec<String> {
    let annotations = dashboard()["annotations"]["list"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let annotations = annotations
        .iter()
        .filter(|a| a["expr"].is_string())
        .map(|a| text(&a["expr"]));
    annotations
        .chain(queries().into_iter().map(|(_, expr)| expr))
        .collect()
}

pub(crate) fn queries_are_sound() -> Outcome {
    let exprs = exprs();
    ensure(exprs.len() > 50, || {
        format!("only {} queries were found", exprs.len())
    })?;
    for expr in exprs {
        promql::check(&expr)?;
        promql::every_selector_has(&expr, "job=~\"$job\"")?;
        promql::every_selector_has(&expr, "instance=~\"$instance\"")?;
        for range in expr.split('[').skip(1) {
            ensure(range.starts_with("$__rate_interval]"), || {
                format!("a fixed range in {expr}")
            })?;
        }
    }
    Ok(())
}

pub(crate) fn obeys_the_linter() -> Outcome {
    let dashboard = dashboard();
    ensure(dashboard["editable"] == false, || {
        "the dashboard is editable".to_owned()
    })?;
    ensure(dashboard["uid"] == "remuda-rollout-drain", || {
        "the uid moved: links break".to_owned()
    })?;
    ensure(!text(&dashboard["title"]).is_empty(), || {
        "no title".to_owned()
    })?;
    ensure(dashboard["id"].is_null(), || {
        "an id of somebody's Grafana is left".to_owned()
    })?;
    variables(&dashboard)?;
    annotations(&dashboard)?;
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        ensure(ids.insert(panel["id"].as_u64()), || {
            format!("two panels have the id {}", panel["id"])
        })?;
    }
    panels().iter().try_for_each(|panel| {
        lint(panel).map_err(|problem| {
            format!(
                "panel {}: {}",
                panel["title"],
                problem.message().unwrap_or_default()
            )
            .into()
        })
    })
}

fn lint(panel: &Value) -> Outcome {
    ensure(!text(&panel["title"]).is_empty(), || "no title".to_owned())?;
    ensure(text(&panel["description"]).ends_with('.'), || {
        "no description".to_owned()
    })?;
    ensure(
        !text(&panel["fieldConfig"]["defaults"]["unit"]).is_empty(),
        || "no unit".to_owned(),
    )?;
    templated(panel)?;
    let targets = panel["targets"].as_array().cloned().unwrap_or_default();
    ensure(!targets.is_empty(), || "no target".to_owned())?;
    let mut refs = BTreeSet::new();
    for target in &targets {
        templated(target)?;
        ensure(refs.insert(text(&target["refId"])), || {
            "two targets have one refId".to_owned()
        })?;
        let (expr, legend) = (text(&target["expr"]), text(&target["legendFormat"]));
        let labels = promql::labels(&expr)?;
        for label in legend
            .split("{{")
            .skip(1)
            .filter_map(|part| part.split("}}").next())
        {
            ensure(labels.contains(label), || {
                format!("the legend names `{label}`")
            })?;
        }
    }
    Ok(())
}

fn variables(dashboard: &Value) -> Outcome {
    let variables = dashboard["templating"]["list"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let named = |name: &str| variables.iter().find(|variable| variable["name"] == name);
    let source = named("datasource").ok_or("no datasource variable")?;
    ensure(
        source["type"] == "datasource" && source["query"] == "prometheus",
        || "the datasource variable is none".to_owned(),
    )?;
    for name in ["job", "instance", "service"] {
        let variable = named(name).ok_or_else(|| format!("no variable `{name}`"))?;
        templated(variable)?;
        ensure(
            variable["multi"] == true && variable["allValue"] == ".+",
            || format!("`{name}` is not multi with all as .+"),
        )?;
        let query = text(&variable["definition"]);
        ensure(text(&variable["query"]["query"]) == query, || {
            format!("`{name}` has two queries")
        })?;
        let inner = query
            .strip_prefix("label_values(")
            .and_then(|rest| rest.strip_suffix(')'));
        let (expr, label) = inner
            .and_then(|inner| inner.rsplit_once(", "))
            .ok_or("no label_values")?;
        promql::check(expr)?;
        ensure(promql::labels(expr)?.contains(label), || {
            format!("no label {label} in {expr}")
        })?;
    }
    Ok(())
}

fn annotations(dashboard: &Value) -> Outcome {
    let list = dashboard["annotations"]["list"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let begins = list
        .iter()
        .find(|annotation| text(&annotation["expr"]).contains("remuda_rollout_last_start"))
        .ok_or("no annotation marks rollouts")?;
    templated(begins)?;
    ensure(begins["useValueForTime"] == "on", || {
        "it marks the scrape, not the rollout".to_owned()
    })?;
    ensure(text(&begins["expr"]).ends_with("* 1000"), || {
        "Grafana wants milliseconds".to_owned()
    })
}

pub(crate) fn panels_do_not_overlap() -> Outcome {
    let mut taken = BTreeSet::new();
    let dashboard = dashboard();
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap_or(u64::MAX);
        ensure(at("x").saturating_add(at("w")) <= 24, || {
            format!("{} is too wide", panel["title"])
        })?;
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                ensure(taken.insert((x, y)), || {
                    format!("{} overlaps another", panel["title"])
                })?;
            }
        }
    }
    Ok(())
}

fn templated(of: &Value) -> Outcome {
    let source = &of["datasource"];
    ensure(
        source["type"] == "prometheus" && source["uid"] == "$datasource",
        || format!("{} has a datasource of its own", of["title"]),
    )
}

fn dashboard() -> Value {
    serde_json::from_str(&read("grafana/remuda.json")).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
