//! Queries: that they parse, and that metrics, labels and label values exist in the registry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector};
use remuda::metrics::catalogue::{self, Family, Kind};

use crate::{Outcome, ensure, fake};

/// Labels that the scrape adds.
const TARGET_LABELS: [&str; 2] = ["job", "instance"];
/// Functions that make a rate of a counter.
const RATES: [&str; 3] = ["rate", "irate", "increase"];

/// Fails unless `expr` parses and everything that it names exists.
pub(crate) fn check(expr: &str) -> Outcome {
    let parsed = parse(expr)?;
    let mut walk = Walk::default();
    walk.visit(&parsed, false)
        .map_err(|problem| format!("{problem}\n  in {expr}"))?;
    for label in &walk.grouped {
        ensure(walk.labels.contains(label), || {
            format!("no metric here has the label `{label}`\n  in {expr}")
        })?;
    }
    Ok(())
}

/// The families that `expr` reads.
pub(crate) fn families(expr: &str) -> Result<BTreeSet<&'static str>, String> {
    let mut walk = Walk::default();
    walk.visit(&parse(expr)?, false)?;
    Ok(walk.families)
}

/// Labels that the metrics of `expr` have.
pub(crate) fn labels(expr: &str) -> Result<BTreeSet<String>, String> {
    let mut walk = Walk::default();
    walk.visit(&parse(expr)?, false)?;
    Ok(walk.labels)
}

/// Fails unless every selector has the matcher `text`, literally.
pub(crate) fn every_selector_has(expr: &str, text: &str) -> Outcome {
    let selectors = expr.matches('{').count();
    let having = expr.matches(text).count();
    ensure(selectors > 0 && selectors == having, || {
        format!("not every selector has {text}\n  in {expr}")
    })
}

pub(crate) fn sees_planted_mistakes() -> Outcome {
    let wrong = [
        ("sum by (service (remuda_workers)", "a parenthesis"),
        ("remuda_worker_count", "a metric"),
        ("remuda_workers{colour=\"red\"}", "a label"),
        ("remuda_workers{state=\"asleep\"}", "a value"),
        ("sum by (slot) (remuda_workers)", "a grouping"),
        ("remuda_http_requests_total", "a counter without a rate"),
        (
            "remuda_worker_ready_seconds",
            "a histogram without its part",
        ),
        ("rate(remuda_workers[5m])", "the rate of a gauge"),
        (
            "rate(remuda_drain_duration_seconds_max[5m])",
            "a part that histograms lack",
        ),
    ];
    for (expr, planted) in wrong {
        ensure(check(expr).is_err(), || format!("{planted} passed: {expr}"))?;
    }
    check("sum by (service) (rate(remuda_http_requests_total{code=~\"5..\"}[$__rate_interval]))")
}

/// The query as Grafana would send it.
pub(crate) fn filled(expr: &str) -> String {
    let mut filled = expr.replace("$__rate_interval", "1m");
    for variable in ["$job", "$instance", "$service"] {
        filled = filled.replace(variable, ".+");
    }
    filled
}

fn parse(expr: &str) -> Result<Expr, String> {
    let expr = filled(expr);
    if expr.contains('$') {
        return Err(format!("an unknown variable in {expr}"));
    }
    parser::parse(&expr).map_err(|problem| format!("{problem}\n  in {expr}"))
}

/// What a query reads.
#[derive(Debug, Default)]
struct Walk {
    families: BTreeSet<&'static str>,
    labels: BTreeSet<String>,
    grouped: BTreeSet<String>,
}

impl Walk {
    fn visit(&mut self, expr: &Expr, in_rate: bool) -> Result<(), String> {
        match expr {
            Expr::Aggregate(aggregate) => {
                self.group(aggregate.modifier.as_ref());
                if let Some(param) = &aggregate.param {
                    self.visit(param, in_rate)?;
                }
                self.visit(&aggregate.expr, in_rate)
            }
            Expr::Unary(unary) => self.visit(&unary.expr, in_rate),
            Expr::Binary(binary) => {
                if let Some(modifier) = &binary.modifier {
                    self.group(modifier.matching.as_ref());
                }
                self.visit(&binary.lhs, in_rate)?;
                self.visit(&binary.rhs, in_rate)
            }
            Expr::Paren(paren) => self.visit(&paren.expr, in_rate),
            Expr::Subquery(subquery) => self.visit(&subquery.expr, in_rate),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Ok(()),
            Expr::VectorSelector(selector) => self.select(selector, false),
            Expr::MatrixSelector(matrix) => self.select(&matrix.vs, in_rate),
            Expr::Call(call) => {
                let in_rate = RATES.contains(&call.func.name);
                call.args
                    .args
                    .iter()
                    .try_for_each(|arg| self.visit(arg, in_rate))
            }
            Expr::Extension(_) => Err("an extension".to_owned()),
        }
    }

    fn group(&mut self, modifier: Option<&LabelModifier>) {
        if let Some(LabelModifier::Include(labels) | LabelModifier::Exclude(labels)) = modifier {
            self.grouped.extend(labels.labels.iter().cloned());
        }
    }

    fn select(&mut self, selector: &VectorSelector, in_rate: bool) -> Result<(), String> {
        let name = selector
            .name
            .as_deref()
            .ok_or("a selector without a name")?;
        let (family, is_bucket) =
            family(name).ok_or_else(|| format!("there is no metric `{name}`"))?;
        let grows = family.kind != Kind::Gauge;
        if grows != in_rate {
            return Err(format!(
                "`{name}` is {} a rate",
                if grows { "not under" } else { "under" }
            ));
        }
        self.families.insert(family.name);
        let mut labels: BTreeSet<&str> = family.labels.iter().copied().collect();
        labels.extend(TARGET_LABELS);
        if is_bucket {
            labels.insert("le");
        }
        for matcher in &selector.matchers.matchers {
            if !labels.contains(&*matcher.name) {
                return Err(format!("`{name}` has no label `{}`", matcher.name));
            }
            known_value(family, matcher)?;
        }
        self.labels.extend(labels.into_iter().map(str::to_owned));
        Ok(())
    }
}

/// The family of a series' name, and whether the series has `le`.
fn family(name: &str) -> Option<(&'static Family, bool)> {
    catalogue::ALL.iter().find_map(|family| {
        let part = name.strip_prefix(family.name)?;
        match (family.kind, part) {
            (Kind::Histogram, "_bucket") => Some((family, true)),
            (Kind::Histogram, "_sum" | "_count") | (Kind::Counter | Kind::Gauge, "") => {
                Some((family, false))
            }
            (Kind::Histogram | Kind::Counter | Kind::Gauge, _) => None,
        }
    })
}

/// A value that a query asks for by name must be one that is exported, for labels with closed sets.
fn known_value(family: &Family, matcher: &Matcher) -> Result<(), String> {
    if !matches!(matcher.op, MatchOp::Equal | MatchOp::NotEqual) {
        return Ok(());
    }
    let values = exported().get(&(family.name.to_owned(), matcher.name.clone()));
    if values.is_some_and(|values| values.contains(&matcher.value)) {
        return Ok(());
    }
    Err(format!(
        "no `{}` of `{}` is ever `{}`",
        matcher.name, family.name, matcher.value
    ))
}

/// Label values in the fake's exposition, by family and label.
fn exported() -> &'static BTreeMap<(String, String), BTreeSet<String>> {
    static EXPORTED: OnceLock<BTreeMap<(String, String), BTreeSet<String>>> = OnceLock::new();
    EXPORTED.get_or_init(|| {
        let mut exported: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for line in fake::exposition()
            .lines()
            .filter(|line| !line.starts_with('#'))
        {
            let Some((name, rest)) = line.split_once('{') else {
                continue;
            };
            let Some((family, _)) = family(name) else {
                continue;
            };
            let pairs = rest.rsplit_once('}').map_or("", |(pairs, _)| pairs);
            for (label, value) in pairs.split("\",").filter_map(|pair| pair.split_once("=\"")) {
                let value = value.trim_end_matches('"').to_owned();
                exported
                    .entry((family.name.to_owned(), label.to_owned()))
                    .or_default()
                    .insert(value);
            }
        }
        exported
    })
}
