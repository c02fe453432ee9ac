//! `remuda history`: rollouts that were.

use serde_json::json;

use super::args;
use super::client::Client;
use super::exit::{Code, Failure};
use super::out::Out;
use super::table::{self, Align};
use super::{service, time, words};
use crate::wire::Rollout;

/// Lists rollouts, newest first, or shows one.
pub(crate) async fn history(
    client: &Client,
    out: &Out,
    args: args::History,
) -> Result<Code, Failure> {
    if let Some(id) = &args.id {
        let rollout = client.rollout(id).await?;
        for line in details(&rollout) {
            out.text(&line);
        }
        out.result(&rollout);
        return Ok(Code::Done);
    }
    if let Some(service) = &args.service {
        service::named(&client.status().await?, Some(service))?;
    }
    let mut rollouts = client.rollouts().await?;
    if let Some(service) = &args.service {
        rollouts.retain(|rollout| rollout.service == *service);
    }
    if rollouts.is_empty() {
        out.say("no rollout yet; `remuda rollout` begins one");
    } else {
        for line in list(&rollouts, out.stdout_width()) {
            out.text(&line);
        }
    }
    out.result(json!({ "rollouts": rollouts }));
    Ok(Code::Done)
}

fn list(rollouts: &[Rollout], terminal: Option<usize>) -> Vec<String> {
    let columns = [
        ("ID", Align::Left),
        ("STATE", Align::Left),
        ("RELEASE", Align::Left),
        ("TRIGGER", Align::Left),
        ("BEGAN", Align::Left),
        ("TOOK", Align::Right),
        ("WHY", Align::Left),
    ];
    let rows: Vec<Vec<String>> = rollouts.iter().map(row).collect();
    table::lines(&columns, &rows, terminal)
}

fn row(rollout: &Rollout) -> Vec<String> {
    let missing = || "-".to_owned();
    let begin = rollout.started_at.as_deref();
    let took = begin
        .zip(rollout.ended_at.as_deref())
        .and_then(|(begin, end)| time::between(begin, end));
    let failure = rollout.failure.as_ref().map(|f| f.message.clone());
    vec![
        rollout.id.clone(),
        rollout.state.clone(),
        rollout.release.clone().unwrap_or_else(missing),
        rollout.trigger.clone(),
        begin.map_or_else(missing, str::to_owned),
        took.map_or_else(missing, time::short),
        failure
            .or_else(|| rollout.reason.clone())
            .unwrap_or_default(),
    ]
}

fn details(rollout: &Rollout) -> Vec<String> {
    let mut lines = vec![
        words::outcome(rollout),
        format!("  from         generation {}", rollout.from),
        format!(
            "  to           {}",
            words::generation(rollout.to, rollout.release.as_deref())
        ),
        format!("  trigger      {}", rollout.trigger),
    ];
    let optional = [
        ("reason", rollout.reason.as_ref()),
        ("began", rollout.started_at.as_ref()),
        ("ended", rollout.ended_at.as_ref()),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            lines.push(format!("  {name:<12} {value}"));
        }
    }
    lines.push(format!("  requests     {}", words::ledger(rollout)));
    for verdict in &rollout.verdicts {
        lines.push(format!(
            "  batch {:<6} {}: {}",
            verdict.batch,
            verdict.verdict.replace('_', " "),
            verdict.message
        ));
    }
    let remarks = rollout.remarks.iter();
    lines.extend(remarks.map(|remark| format!("  note         {remark}")));
    lines.extend(words::bundle(rollout));
    lines
}
