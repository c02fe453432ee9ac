//! `remuda rollout`: orders rollouts and waits for their ends.

use serde_json::{Map, Value, json};

use super::args;
use super::client::Client;
use super::exit::{Code, Failure};
use super::out::Out;
use super::patience::Patience;
use super::{follow, words};
use crate::wire::{NewRollout, Rollout, Rollouts};

/// What goes on when the waiting ends early.
const IT: &str = "the rollout";

/// Orders a rollout of one service or of all.
pub(crate) async fn rollout(
    client: &Client,
    out: &Out,
    args: args::Rollout,
) -> Result<Code, Failure> {
    let patience = Patience::new(args.wait)?;
    let release = args.release.clone();
    let order = NewRollout {
        service: args.service,
        release: args.release,
        strategy: args.strategy,
        reason: args.reason,
        force: args.force,
        expected_generation: args.expected_generation,
    };
    let ordered: Rollouts = client.post("/v1/rollouts", &order).await?;
    if ordered.rollouts.iter().all(|r| r.state == "completed") {
        let release = release.unwrap_or_default();
        let message = format!(
            "nothing to do: release `{release}` is stable already; `--force` rolls it again"
        );
        out.done(
            Code::Done,
            &message,
            json!({ "rollouts": ordered.rollouts }),
        );
        return Ok(Code::Done);
    }
    if args.wait.detach {
        return Ok(detached(out, &ordered.rollouts));
    }
    let work = follow::to_the_end(client, out, ordered.rollouts);
    let rollouts = patience.wait(IT, work).await?;
    Ok(result(out, &rollouts, Map::new()))
}

/// Only says which rollouts were begun.
pub(crate) fn detached(out: &Out, rollouts: &[Rollout]) -> Code {
    for rollout in rollouts {
        out.line(&rollout.id);
    }
    out.result(json!({
        "result": Code::Done.name(),
        "exit_code": Code::Done.number(),
        "message": "begun; `remuda status` shows it",
        "problem": null,
        "rollouts": rollouts,
    }));
    Code::Done
}

/// The worst end of several, with what else there is to tell; what people need to know was said on the way.
pub(crate) fn result(out: &Out, rollouts: &[Rollout], more: Map<String, Value>) -> Code {
    let code = rollouts
        .iter()
        .map(words::code)
        .fold(Code::Done, Code::worse);
    let message: Vec<String> = rollouts.iter().map(words::end).collect();
    let mut all = json!({
        "result": code.name(),
        "exit_code": code.number(),
        "message": message.join("; "),
        "problem": null,
        "rollouts": rollouts,
    });
    for (name, value) in more {
        all[name] = value;
    }
    out.result(all);
    code
}
