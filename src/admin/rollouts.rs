//! Ordering, looking at and steering rollouts.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use tokio::sync::oneshot;

use super::app::{App, put};
use super::body::{Body, Named, NoBody};
use super::caller::Caller;
use super::failure::Failure;
use super::idempotency::{Answer, Claim, Pending};
use crate::rollout::{
    Command, Generation, Refusal, ServiceName, Steer, unfit_reason, unfit_release,
};
use crate::supervisor::handle::Ask;
use crate::wire::{NewRollout, Problem, Rollout, Rollouts, Status};

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// Everything that runs, now.
#[utoipa::path(get, path = "/v1/status", tag = "look", responses(
    (status = 200, description = "The status", body = Status)
))]
pub(super) async fn status(State(app): State<Arc<App>>) -> Response {
    let status = Arc::clone(&app.handle.status.borrow());
    Json(status).into_response()
}

/// Every rollout that is remembered, newest first.
#[utoipa::path(get, path = "/v1/rollouts", tag = "look", responses(
    (status = 200, description = "The rollouts", body = Rollouts)
))]
pub(super) async fn list(State(app): State<Arc<App>>) -> Json<Rollouts> {
    let rollouts = app.handle.rollouts.borrow().to_vec();
    Json(Rollouts { rollouts })
}

/// One rollout.
#[utoipa::path(get, path = "/v1/rollouts/{id}", tag = "look",
    params(("id" = String, Path, description = "`SERVICE-NUMBER`")),
    responses(
        (status = 200, description = "The rollout", body = Rollout),
        (status = 404, description = "None of this id is remembered", body = Problem, content_type = "application/problem+json")
))]
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Named(id): Named<String>,
) -> Result<Json<Rollout>, Failure> {
    find(&app, &id).map(Json)
}

/// Rolls one service or all to a new generation.
///
/// With an `Idempotency-Key` the same order sent again gets the same answer and is not carried out again.
#[utoipa::path(post, path = "/v1/rollouts", tag = "change", security(("token" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 characters, remembered for 24 hours and 1,000 keys")),
    request_body(content = Option<NewRollout>, description = "Nothing: a restart of all services"),
    responses(
        (status = 202, description = "One rollout per service meant", body = Rollouts),
        (status = 404, description = "No such service", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Not the expected generation, or not now", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The order makes no sense", body = Problem, content_type = "application/problem+json")
))]
pub(super) async fn order(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Body(order): Body<NewRollout>,
) -> Result<Response, Failure> {
    if caller.is_tcp() && !app.orders.take() {
        return Err(Failure::too_many("too many orders for rollouts at once"));
    }
    let order = order.unwrap_or_default();
    check(&order)?;
    let service = order.service.clone().unwrap_or_default();
    let Some(key) = headers.get("idempotency-key") else {
        let ask = rollout_ask(order, caller, &headers);
        let rollouts = app.ask(ask).await?;
        let rollouts = rollouts.map_err(|refusal| app.refused(refusal, &service))?;
        return Ok((StatusCode::ACCEPTED, Json(Rollouts { rollouts })).into_response());
    };
    let key = key
        .to_str()
        .map_err(|_| Failure::bad_request("`Idempotency-Key` is not text"))?;
    let pending = match app.keys.claim(key, &order, Instant::now())? {
        Claim::Again(pending) => pending,
        Claim::First(send, pending) => {
            let ask = rollout_ask(order, caller, &headers);
            let app = Arc::clone(&app);
            // Ends with the loop's answer or with the loop.
            tokio::spawn(async move {
                let (reply, answer) = oneshot::channel();
                let ordered = put(&app.handle.asks, ask(reply), answer).await;
                let outcome = ordered
                    .and_then(|ordered| ordered.map_err(|refusal| app.refused(refusal, &service)));
                send.send_replace(Some(remembered(outcome)));
            });
            pending
        }
    };
    repeat(pending).await
}

fn check(order: &NewRollout) -> Result<(), Failure> {
    match order.strategy.as_deref() {
        None | Some("rolling") => {}
        Some(other) => {
            return Err(Failure::invalid(format!(
                "strategy `{}` is not in this version; `rolling` is",
                other.escape_default()
            )));
        }
    }
    if let Some(why) = order.release.as_deref().and_then(unfit_release) {
        return Err(Failure::invalid(why));
    }
    if let Some(why) = order.reason.as_deref().and_then(unfit_reason) {
        return Err(Failure::invalid(why));
    }
    if order.release.as_deref() == Some("") {
        return Err(Failure::invalid(
            "`release` is empty; leave it out for a restart of the same release",
        ));
    }
    Ok(())
}

type Ordered = Result<Vec<Rollout>, Refusal>;

fn rollout_ask(
    order: NewRollout,
    caller: Caller,
    headers: &HeaderMap,
) -> impl FnOnce(oneshot::Sender<Ordered>) -> Ask + use<> {
    let trigger = caller.trigger(headers);
    move |reply| Ask::Rollout {
        order,
        trigger,
        by: caller.to_string(),
        reply,
    }
}

fn remembered(outcome: Result<Vec<Rollout>, Failure>) -> Answer {
    let (status, content_type, body) = match outcome {
        Ok(rollouts) => {
            let body = serde_json::to_vec(&Rollouts { rollouts });
            (StatusCode::ACCEPTED, JSON, body)
        }
        Err(failure) => {
            let body = serde_json::to_vec(&failure.problem());
            (failure.status(), PROBLEM, body)
        }
    };
    Answer {
        status,
        content_type,
        body: Bytes::from(body.unwrap_or_default()),
    }
}

async fn repeat(mut pending: Pending) -> Result<Response, Failure> {
    let wait = pending.wait_for(Option::is_some);
    let answer = match tokio::time::timeout(super::app::PATIENCE, wait).await {
        Ok(Ok(answer)) => answer.clone(),
        Ok(Err(_)) => None,
        Err(_) => return Err(Failure::no_answer_in_time()),
    };
    let Some(answer) = answer else {
        return Err(Failure::stopping());
    };
    let kind = [(header::CONTENT_TYPE, answer.content_type)];
    Ok((answer.status, kind, answer.body).into_response())
}

/// Holds a running rollout, lets it go on, finishes it or goes back.
///
/// Idempotent: what is so already is answered with 200 and the rollout. That includes `promote` of a
/// completed rollout and `abort` of one that ended without completing; every other order to a rollout
/// that has ended is a conflict.
#[utoipa::path(post, path = "/v1/rollouts/{id}/{order}", tag = "change", security(("token" = [])),
    params(
        ("id" = String, Path, description = "`SERVICE-NUMBER`"),
        ("order" = String, Path, description = "`pause`, `resume`, `promote` or `abort`")
    ),
    responses(
        (status = 200, description = "The rollout as it is now", body = Rollout),
        (status = 404, description = "None of this id is remembered", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has ended, or has not begun", body = Problem, content_type = "application/problem+json")
))]
pub(super) async fn steer(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Named((id, order)): Named<(String, String)>,
    _: NoBody,
) -> Result<Json<Rollout>, Failure> {
    let (steer, goal): (_, &[&str]) = match order.as_str() {
        "pause" => (Steer::Pause, &[]),
        "resume" => (Steer::Resume, &[]),
        "promote" => (Steer::Promote, &["completed"]),
        "abort" => (Steer::Abort, &["rolled_back", "failed", "superseded"]),
        _ => return Err(Failure::no_such_path()),
    };
    let rollout = find(&app, &id)?;
    if goal.contains(&rollout.state.as_str()) {
        return Ok(Json(rollout));
    }
    if let Some(why) = unsteerable(&app, &rollout) {
        return Err(Failure::conflict(why));
    }
    let service = ServiceName::new(&rollout.service);
    // Another one may have taken over since the look above: the core checks again at its turn.
    let meant = Some(Generation(rollout.to));
    app.ask(|reply| Ask::Command {
        command: Box::new(Command::Steer {
            service,
            steer,
            rollout: meant,
        }),
        by: caller.to_string(),
        reply,
    })
    .await??;
    find(&app, &id).map(Json)
}

fn unsteerable(app: &App, rollout: &Rollout) -> Option<String> {
    let id = &rollout.id;
    if rollout.ended_at.is_some()
        || ["completed", "rolled_back", "failed", "superseded"].contains(&rollout.state.as_str())
    {
        let hint = match rollout.state.as_str() {
            "completed" => "; `rollback` goes back to the generation before",
            _ => "",
        };
        return Some(format!("rollout `{id}` has ended: {}{hint}", rollout.state));
    }
    let status = app.handle.status.borrow();
    let current = status.services.get(&rollout.service)?.rollout.as_ref()?;
    if current.id == *id {
        return None;
    }
    Some(format!(
        "rollout `{id}` waits for `{}`; steer that one",
        current.id
    ))
}

/// The rollout of this id, among the services' last ones first: they are the freshest.
pub(super) fn find(app: &App, id: &str) -> Result<Rollout, Failure> {
    let status = app.handle.status.borrow();
    let mut last = status
        .services
        .values()
        .filter_map(|service| service.rollout.as_ref());
    if let Some(rollout) = last.find(|rollout| rollout.id == id) {
        return Ok(rollout.clone());
    }
    let rollouts = app.handle.rollouts.borrow();
    let found = rollouts.iter().find(|rollout| rollout.id == id);
    found.cloned().ok_or_else(|| Failure::no_such_rollout(id))
}
