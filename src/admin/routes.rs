//! Which path leads where, and behind which checks.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use http::{HeaderValue, header};

use super::app::App;
use super::failure::Failure;
use super::{events, guard, health, logs, openapi, page, rollouts, services};

/// The admin listener's paths, on the unix socket and on TCP.
pub(super) fn full(app: Arc<App>) -> Router {
    let changes = Router::new()
        .route("/v1/rollouts", post(rollouts::order))
        .route("/v1/rollouts/{id}/{order}", post(rollouts::steer))
        .route("/v1/services/{service}/rollback", post(services::rollback))
        .route("/v1/services/{service}/scale", post(services::scale))
        .route(
            "/v1/services/{service}/workers/{slot}/{order}",
            post(services::worker),
        )
        .route("/v1/reload", post(services::reload))
        .route("/v1/upgrade", post(services::upgrade))
        .route_layer(from_fn(guard::json))
        .route_layer(from_fn_with_state(Arc::clone(&app), guard::token));
    let private = Router::new()
        .route("/v1/services/{service}/requests", get(services::requests))
        .route("/v1/services/{service}/logs", get(logs::logs))
        .route_layer(from_fn_with_state(Arc::clone(&app), guard::token));
    let open = Router::new()
        .route("/", get(page::index))
        .route("/page.js", get(page::script))
        .route("/page.css", get(page::style))
        .route("/v1/status", get(rollouts::status))
        .route("/v1/rollouts", get(rollouts::list))
        .route("/v1/rollouts/{id}", get(rollouts::one))
        .route("/v1/events", get(events::events))
        .route("/v1/openapi.json", get(openapi::document));
    finish(health().merge(open).merge(private).merge(changes), app)
}

/// The metrics listener's paths.
pub(super) fn metrics_only(app: Arc<App>) -> Router {
    finish(health(), app)
}

fn health() -> Router<Arc<App>> {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
}

fn finish(router: Router<Arc<App>>, app: Arc<App>) -> Router {
    router
        .method_not_allowed_fallback(async || Failure::method_not_allowed())
        .fallback(async || Failure::no_such_path())
        .layer(from_fn(guard::origin))
        .layer(from_fn(headers))
        .with_state(app)
}

/// On every answer: nothing is cached, framed, sniffed or read by another origin (T4, T20).
async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            http::HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            http::HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
