//! Orders to one service or one worker, its requests in flight, and orders to remuda itself.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;

use super::app::App;
use super::body::{Body, Named, NoBody};
use super::caller::Caller;
use super::failure::Failure;
use crate::rollout::{Accepted, Command, Refusal, ServiceName, Slot, WorkerOrder};
use crate::supervisor::handle::Ask;
use crate::wire::{
    Problem, ReloadOrder, Reloaded, Requests, Rollouts, Scale, Service, WorkerOrdered,
};

/// Goes back: aborts a running rollout, takes a parked generation back, or rolls to the release before.
///
/// Idempotent: while the service goes back, and when it has gone back and nothing was rolled forward since, the
/// answer is the rollout that does or did, and nothing is done.
#[utoipa::path(post, path = "/v1/services/{service}/rollback", tag = "change", security(("token" = [])),
    params(("service" = String, Path, description = "The service")),
    responses(
        (status = 202, description = "The rollout that goes back", body = Rollouts),
        (status = 404, description = "No such service", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "There is nothing to go back to", body = Problem, content_type = "application/problem+json")
))]
pub(super) async fn rollback(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<String>,
    _: NoBody,
) -> Result<(StatusCode, Json<Rollouts>), Failure> {
    let service = ServiceName::new(&name);
    let accepted = command(&app, &name, caller, Command::Rollback { service }).await?;
    let rollout = match accepted {
        Accepted::Rollout { number, .. } => {
            super::rollouts::find(&app, &format!("{name}-{number}")).ok()
        }
        Accepted::Done | Accepted::AlreadyStable { .. } => {
            let status = app.handle.status.borrow();
            let service = status.services.get(&name);
            service.and_then(|service| service.rollout.clone())
        }
    };
    let rollouts = rollout.into_iter().collect();
    Ok((StatusCode::ACCEPTED, Json(Rollouts { rollouts })))
}

/// Sets the count of workers.
#[utoipa::path(post, path = "/v1/services/{service}/scale", tag = "change", security(("token" = [])),
    params(("service" = String, Path, description = "The service")),
    request_body = Scale,
    responses(
        (status = 200, description = "The service as it is now", body = Service),
        (status = 404, description = "No such service", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The count makes no sense", body = Problem, content_type = "application/problem+json")
))]
pub(super) async fn scale(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<String>,
    Body(scale): Body<Scale>,
) -> Result<Json<Service>, Failure> {
    let Some(Scale { workers: wanted }) = scale else {
        return Err(Failure::invalid(
            "the body is missing; it is `{\"workers\": N}`",
        ));
    };
    let service = ServiceName::new(&name);
    command(&app, &name, caller, Command::Scale { service, wanted }).await?;
    find(&app, &name).map(Json)
}

/// Takes one worker out of traffic, puts it back, or replaces it.
#[utoipa::path(post, path = "/v1/services/{service}/workers/{slot}/{order}", tag = "change", security(("token" = [])),
    params(
        ("service" = String, Path, description = "The service"),
        ("slot" = u32, Path, description = "The worker's slot"),
        ("order" = String, Path, description = "`drain`, `undrain` or `restart`")
    ),
    responses(
        (status = 200, description = "The service as it is now, and what the order costs", body = WorkerOrdered),
        (status = 404, description = "No such service or slot", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Not in this state", body = Problem, content_type = "application/problem+json")
))]
pub(super) async fn worker(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Named((name, slot, order)): Named<(String, String, String)>,
    _: NoBody,
) -> Result<Json<WorkerOrdered>, Failure> {
    let order = match order.as_str() {
        "drain" => WorkerOrder::Drain,
        "undrain" => WorkerOrder::Undrain,
        "restart" => WorkerOrder::Restart,
        _ => return Err(Failure::no_such_path()),
    };
    let slot = slot
        .parse()
        .map(Slot)
        .map_err(|_| Failure::bad_request("a slot is a number"))?;
    let service = ServiceName::new(&name);
    let ordered = Command::Worker {
        service,
        slot,
        order,
    };
    command(&app, &name, caller, ordered).await?;
    let service = find(&app, &name)?;
    let notice = match order {
        WorkerOrder::Drain => short_of_workers(&service),
        WorkerOrder::Undrain | WorkerOrder::Restart => None,
    };
    Ok(Json(WorkerOrdered { notice, service }))
}

/// What a drain leaves: the worker keeps its slot, so nobody is started in its place.
fn short_of_workers(service: &Service) -> Option<String> {
    let (ready, wanted) = (service.ready, service.wanted);
    match ready {
        0 => Some(format!(
            "none of {wanted} wanted workers serves now: requests wait, then get 503, until one is undrained or restarted"
        )),
        _ if ready < wanted => Some(format!(
            "{ready} of {wanted} wanted workers serve now: none is started for a drained one until it is restarted"
        )),
        _ => None,
    }
}

/// What is in flight, oldest first.
#[utoipa::path(get, path = "/v1/services/{service}/requests", tag = "look", security(("token" = [])),
    params(("service" = String, Path, description = "The service")),
    responses(
        (status = 200, description = "The requests", body = Requests),
        (status = 404, description = "No such service", body = Problem, content_type = "application/problem+json")
))]
pub(super) async fn requests(
    State(app): State<Arc<App>>,
    Named(service): Named<String>,
) -> Result<Json<Requests>, Failure> {
    let name = service.clone();
    let requests = app.ask(|reply| Ask::Requests { service, reply }).await?;
    let requests = requests.map_err(|refusal| app.refused(refusal, &name))?;
    Ok(Json(Requests { requests }))
}

/// Reads the config again and rolls what changed, or says what it would.
#[utoipa::path(post, path = "/v1/reload", tag = "change", security(("token" = [])), request_body = ReloadOrder, responses(
    (status = 200, description = "What changed or would, and what is rolled for it", body = Reloaded),
    (status = 409, description = "Services were added or removed, which needs a restart of remuda; nothing changed", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "The config is invalid; nothing changed", body = Problem, content_type = "application/problem+json")
))]
pub(super) async fn reload(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(order): Body<ReloadOrder>,
) -> Result<Json<Reloaded>, Failure> {
    let ReloadOrder { dry_run } = order.unwrap_or_default();
    let by = caller.to_string();
    let ask = |reply| match dry_run {
        true => Ask::Plan { reply },
        false => Ask::Reload { by, reply },
    };
    let reloaded = app.ask(ask).await??;
    Ok(Json(reloaded))
}

/// Replaces remuda's own binary; not in this version.
#[utoipa::path(post, path = "/v1/upgrade", tag = "change", security(("token" = [])), responses(
    (status = 501, description = "Not in this version", body = Problem, content_type = "application/problem+json")
))]
pub(super) async fn upgrade(_: NoBody) -> Failure {
    Failure::not_in_this_version("replacing remuda's own binary")
}

/// Orders something for the service of this name.
async fn command(
    app: &App,
    name: &str,
    caller: Caller,
    command: Command,
) -> Result<Accepted, Failure> {
    let by = caller.to_string();
    let command = Box::new(command);
    let ordered = app.ask(|reply| Ask::Command { command, by, reply }).await?;
    ordered.map_err(|refusal| app.refused(refusal, name))
}

fn find(app: &App, name: &str) -> Result<Service, Failure> {
    let service = app.handle.status.borrow().services.get(name).cloned();
    service.ok_or_else(|| app.refused(Refusal::NoService(ServiceName::new(name)), name))
}
