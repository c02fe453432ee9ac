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
    let answer = client.post("/v1/reload", &json!({})).await;
    let Reloaded {
        changes,
        warnings,
        rollouts,
    } = answer.map_err(|mut failure| {
        // There is nothing in the request that could be wrong: a refusal is about the file.
        if failure.code == Code::Usage {
            failure.code = Code::ConfigInvalid;
        }
        failure
    })?;
    for change in &changes {
        out.text(change);
    }
    for warning in &warnings {
        out.say(&format!("{} {warning}", out.stderr(Tone::Busy, "warning:")));
    }
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
