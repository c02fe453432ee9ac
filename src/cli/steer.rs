//! `pause`, `resume`, `promote`, `abort` and `rollback`: one word to a running rollout, then its effect.

use serde_json::{Value, json};

use super::args;
use super::client::{Client, escape};
use super::exit::{Code, Failure};
use super::out::Out;
use super::patience::{GLANCE, Patience};
use super::rollout::detached;
use super::service;
use super::{follow, words};
use crate::wire::{Rollout, Rollouts, Service};

/// Where to steer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Hold.
    Pause,
    /// Go on.
    Resume,
    /// Finish.
    Promote,
    /// Go back.
    Abort,
}

impl Way {
    fn verb(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote => "promote",
            Self::Abort => "abort",
        }
    }
}

/// Steers the service's rollout and waits until it has taken effect.
pub(crate) async fn steer(
    client: &Client,
    out: &Out,
    way: Way,
    args: args::Steer,
) -> Result<Code, Failure> {
    let patience = Patience::new(args.wait)?;
    let status = client.status().await?;
    let name = service::named(&status, args.service.as_deref())?;
    let Some(rollout) = status.services.get(&name).and_then(|s| s.rollout.clone()) else {
        let message = format!(
            "no rollout of `{name}` is running, so there is none to {}; `remuda rollout` begins one",
            way.verb()
        );
        return Err(Failure::new(Code::Conflict, message));
    };
    let path = format!("/v1/rollouts/{}/{}", escape(&rollout.id), way.verb());
    let _: Value = client.post(&path, &json!({})).await.map_err(|failure| {
        // Its service is there, so this one is about the rollout: it ended before our word arrived.
        let code = match failure.code {
            Code::Usage => Code::Conflict,
            other => other,
        };
        Failure { code, ..failure }
    })?;
    if args.wait.detach {
        return Ok(detached(out, &[rollout]));
    }
    let it = "the rollout";
    let rollout = match way {
        Way::Pause => {
            let is_held = |r: &Rollout| r.state == "paused" || words::ended(&r.state);
            let work = until(client, &rollout.id, is_held);
            patience.wait(it, work).await?
        }
        Way::Resume => {
            let work = until(client, &rollout.id, |r| r.state != "paused");
            patience.wait(it, work).await?
        }
        Way::Promote | Way::Abort => {
            let work = follow::to_the_end(client, out, vec![rollout.clone()]);
            let ended = patience.wait(it, work).await?;
            ended.into_iter().next().unwrap_or(rollout)
        }
    };
    Ok(report(out, way, &rollout))
}

/// Goes back, whatever that takes now: an abort, a parked generation, a rollout of the release before, or
/// nothing if that was done already.
pub(crate) async fn rollback(
    client: &Client,
    out: &Out,
    args: args::Steer,
) -> Result<Code, Failure> {
    let patience = Patience::new(args.wait)?;
    let status = client.status().await?;
    let name = service::named(&status, args.service.as_deref())?;
    let path = format!("/v1/services/{}/rollback", escape(&name));
    let answer: Rollouts = client.post(&path, &json!({})).await?;
    let Some(rollout) = answer.rollouts.into_iter().next() else {
        out.done(Code::Done, &format!("`{name}` went back"), json!({}));
        return Ok(Code::Done);
    };
    if let Some(service) = status.services.get(&name)
        && let Some(before) = &service.rollout
        && before.id == rollout.id
        && words::ended(&before.state)
    {
        return Ok(already_back(out, service, &rollout));
    }
    if args.wait.detach {
        return Ok(detached(out, &[rollout]));
    }
    let work = follow::to_the_end(client, out, vec![rollout.clone()]);
    let ended = patience.wait("the rollback", work).await?;
    let rollout = ended.into_iter().next().unwrap_or(rollout);
    let code = match (rollout.state.as_str(), rollout.trigger.as_str()) {
        ("completed", "rollback") => Code::Done,
        ("completed", _) => Code::Conflict,
        // The way back itself was undone.
        ("rolled_back", "rollback") => words::code(&rollout),
        ("rolled_back", _) if rollout.full_strength => Code::Done,
        _ => words::code(&rollout),
    };
    let mut message = words::end(&rollout);
    if rollout.state == "completed" {
        let release = rollout.release.as_deref();
        let serves = format!("{} serves", words::generation(rollout.to, release));
        out.say(&serves);
        message = format!("{message}; {serves}");
    }
    out.result(ended_with(code, &message, &rollout));
    Ok(code)
}

/// The service went back before the order came, so nothing was done.
fn already_back(out: &Out, service: &Service, rollout: &Rollout) -> Code {
    let title = words::title(rollout);
    let (code, message) = match rollout.state.as_str() {
        // It could not go back altogether, and a second order helps no more than the first.
        "failed" => (words::code(rollout), words::end(rollout)),
        state => {
            let serves = words::generation(service.generation, service.release.as_deref());
            let how = match state {
                "completed" => format!("{title} went back to it"),
                _ => format!("{title} was rolled back"),
            };
            let message = format!(
                "nothing to do: {serves} serves already, since {how}; `remuda rollout` goes forward"
            );
            (Code::Done, message)
        }
    };
    out.say(&message);
    out.result(ended_with(code, &message, rollout));
    code
}

fn ended_with(code: Code, message: &str, rollout: &Rollout) -> Value {
    json!({
        "result": code.name(),
        "exit_code": code.number(),
        "message": message,
        "problem": null,
        "rollouts": [rollout],
    })
}

/// Looks until it is so.
async fn until(
    client: &Client,
    id: &str,
    so: impl Fn(&Rollout) -> bool,
) -> Result<Rollout, Failure> {
    loop {
        let rollout = client.rollout(id).await?;
        if so(&rollout) {
            return Ok(rollout);
        }
        tokio::time::sleep(GLANCE).await;
    }
}

fn report(out: &Out, way: Way, rollout: &Rollout) -> Code {
    let went_back = rollout.state == "rolled_back" && rollout.full_strength;
    let code = match way {
        Way::Pause if rollout.state == "paused" => Code::Done,
        Way::Resume if !words::ended(&rollout.state) => Code::Done,
        Way::Abort if went_back => Code::Done,
        Way::Pause | Way::Abort if rollout.state == "completed" => Code::Conflict,
        Way::Pause | Way::Resume | Way::Promote | Way::Abort => words::code(rollout),
    };
    let title = words::title(rollout);
    let message = match way {
        Way::Pause if code == Code::Done => {
            format!("{title} is paused; `remuda resume` lets it go on, `remuda abort` goes back")
        }
        Way::Resume if code == Code::Done => {
            format!("{title} goes on; `remuda status --watch` shows it")
        }
        Way::Pause | Way::Resume | Way::Promote | Way::Abort => words::end(rollout),
    };
    // Who followed to the end has seen the end already.
    if matches!(way, Way::Pause | Way::Resume) {
        out.say(&message);
    }
    out.result(ended_with(code, &message, rollout));
    code
}
