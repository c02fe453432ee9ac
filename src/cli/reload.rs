//! `remuda reload`: has the config read again, says what changed, and waits for what is rolled for it.

use serde_json::{Map, json};

use super::args;
use super::client::Client;
use super::exit::{Code, Failure};
use super::follow;
use super::out::{Out, Tone};
use super::patience::Patience;
use super::rollout::result;
use crate::wire::Reloaded;

/// Reloads, and follows the rollouts that come of it to their ends.
pub(crate) async fn reload(
    client: &Client,
    out: &Out,
    args: args::Reload,
) -> Result<Code, Failure> {
    let patience = Patience::new(args.wait)?;
    let Reloaded {
        changes,
        warnings,
        rollouts,
    } = ask(client, out, false).await?;
    if rollouts.is_empty() || args.wait.detach {
        let message = match rollouts.is_empty() {
            true => "reloaded; nothing is rolled",
            false => "reloaded; `remuda status --watch` follows what is rolled now",
        };
        let more = json!({ "changes": changes, "warnings": warnings, "rollouts": rollouts });
        out.done(Code::Done, message, more);
        return Ok(Code::Done);
    }
    let work = follow::to_the_end(client, out, rollouts);
    let rollouts = patience.wait("the rollout", work).await?;
    let more = [
        ("changes".to_owned(), json!(changes)),
        ("warnings".to_owned(), json!(warnings)),
    ];
    Ok(result(out, &rollouts, Map::from_iter(more)))
}

/// `remuda check --plan`: what a reload would do.
pub(crate) async fn plan(client: &Client, out: &Out) -> Result<Code, Failure> {
    let Reloaded {
        changes, warnings, ..
    } = ask(client, out, true).await?;
    let message = "that is what `remuda reload` would do now; nothing is done yet";
    let more = json!({ "changes": changes, "warnings": warnings });
    out.done(Code::Done, message, more);
    Ok(Code::Done)
}

/// Has the config read, and shows what that changes, or would.
async fn ask(client: &Client, out: &Out, dry_run: bool) -> Result<Reloaded, Failure> {
    // An instance of an earlier version takes no fields.
    let order = match dry_run {
        true => json!({ "dry_run": true }),
        false => json!({}),
    };
    let answer: Result<Reloaded, Failure> = client.post("/v1/reload", &order).await;
    let reloaded = answer.map_err(|mut failure| {
        // There is nothing in the request that could be wrong: a refusal is about the file.
        if failure.code == Code::Usage {
            failure.code = Code::ConfigInvalid;
        }
        failure
    })?;
    for change in &reloaded.changes {
        out.text(change);
    }
    for warning in &reloaded.warnings {
        let mark = out.stderr(Tone::Busy, "warning:");
        out.say(&format!("{mark} {warning}"));
    }
    Ok(reloaded)
}
