//! `GET /v1/openapi.json`, made from the same functions and types that serve.

use std::sync::OnceLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::{events, health, logs, rollouts, services};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Remuda admin API",
        description = "What runs behind the proxy, and orders to it. Errors are RFC 9457 problems. Values that are missing are null, never absent."
    ),
    paths(
        health::healthz,
        health::readyz,
        health::metrics,
        rollouts::status,
        rollouts::list,
        rollouts::one,
        rollouts::order,
        rollouts::steer,
        services::rollback,
        services::scale,
        services::worker,
        services::requests,
        logs::logs,
        services::reload,
        services::upgrade,
        events::events,
        document
    )
)]
struct Document;

/// What orders may leave out; everything else is always there.
const LENIENT: [&str; 1] = ["NewRollout"];

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "look", responses(
    (status = 200, description = "OpenAPI 3.1", body = Object)
))]
pub(super) async fn document() -> Response {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| Bytes::from(make().to_string()));
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, text.clone()).into_response()
}

fn make() -> Value {
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    document["components"]["securitySchemes"] =
        json!({ "token": { "type": "http", "scheme": "bearer" } });
    let schemas = document["components"]["schemas"].as_object_mut();
    for (name, schema) in schemas.into_iter().flatten() {
        if LENIENT.contains(&name.as_str()) {
            continue;
        }
        let Some(properties) = schema["properties"].as_object() else {
            continue;
        };
        let all: Vec<String> = properties.keys().cloned().collect();
        schema["required"] = json!(all);
    }
    document
}
