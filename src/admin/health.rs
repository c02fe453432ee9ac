//! Health and metrics, the calls that must answer whatever else is going on.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use tokio::sync::oneshot;

use super::app::{App, put};
use super::failure::Failure;
use crate::supervisor::handle::Ask;
use crate::wire::Status;

/// A scrape is worth more late than never, and more old than late.
const SCRAPE_PATIENCE: Duration = Duration::from_secs(1);

/// The process lives and its control loop is there.
#[utoipa::path(get, path = "/healthz", tag = "health", responses(
    (status = 200, description = "Alive", body = String, content_type = "text/plain"),
    (status = 503, description = "The control loop is gone", body = crate::wire::Problem, content_type = "application/problem+json")
))]
pub(super) async fn healthz(State(app): State<Arc<App>>) -> Result<&'static str, Failure> {
    if app.handle.asks.is_closed() {
        return Err(Failure::stopping());
    }
    Ok("ok\n")
}

/// Requests can be answered, and the listeners will not stop before this turns to 503.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, description = "Ready", body = String, content_type = "text/plain"),
    (status = 503, description = "Not ready, with the reason", body = crate::wire::Problem, content_type = "application/problem+json")
))]
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str, Failure> {
    if *app.handle.ready.borrow() {
        return Ok("ready\n");
    }
    Err(Failure::not_ready(why_not_ready(
        &app.handle.status.borrow(),
    )))
}

fn why_not_ready(status: &Status) -> String {
    if status.state == "stopping" {
        return "remuda is stopping".to_owned();
    }
    let lacking = status
        .services
        .iter()
        .find(|(_, service)| service.ready == 0);
    match lacking {
        Some((name, service)) => match &service.waiting_on {
            Some(waiting) => format!("no worker of `{name}` is ready: {}", waiting.message),
            None => format!("no worker of `{name}` is ready"),
        },
        None => "no data plane accepts connections".to_owned(),
    }
}

/// Prometheus text format 0.0.4.
#[utoipa::path(get, path = "/metrics", tag = "health", responses(
    (status = 200, description = "All metrics", body = String, content_type = "text/plain"),
    (status = 503, description = "No answer, and none before", body = crate::wire::Problem, content_type = "application/problem+json")
))]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let (reply, answer) = oneshot::channel();
    let asked = put(&app.handle.asks, Ask::Metrics { reply }, answer);
    let fresh = match tokio::time::timeout(SCRAPE_PATIENCE, asked).await {
        Ok(Ok(text)) => Some(Bytes::from(text)),
        Ok(Err(_)) | Err(_) => None,
    };
    let text = {
        let mut last = app
            .last_metrics
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(fresh) = fresh {
            *last = fresh;
        }
        last.clone()
    };
    if text.is_empty() {
        return Err(Failure::not_ready("there are no metrics yet"));
    }
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
