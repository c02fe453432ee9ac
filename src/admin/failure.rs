//! Every error of the API, as RFC 9457 wants it: this file alone maps what went wrong to a status.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::rollout::Refusal;
use crate::wire::Problem;

/// An error answer.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    /// Name, in lower case, and value.
    header: Option<(&'static str, &'static str)>,
}

impl Failure {
    /// An error whose kind is a name of ours.
    pub(super) fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            kind,
            title,
            detail: detail.into(),
            header: None,
        }
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }

    /// More to the sentence.
    pub(super) fn and(mut self, hint: &str) -> Self {
        self.detail = format!("{}; {hint}", self.detail);
        self
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        let status = StatusCode::BAD_REQUEST;
        Self::new(status, "urn:remuda:bad-request", "Bad request", detail)
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self::new(status, "urn:remuda:invalid", "Invalid value", detail)
    }

    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        let status = StatusCode::CONFLICT;
        Self::new(status, "urn:remuda:conflict", "Conflict", detail)
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        let status = StatusCode::FORBIDDEN;
        Self::new(status, "urn:remuda:forbidden", "Forbidden", detail)
    }

    /// No word about what was wrong (T3).
    pub(super) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "urn:remuda:unauthorized",
            "Unauthorized",
            "this call needs `Authorization: Bearer TOKEN`; use the unix socket or the token file",
        )
        .with("www-authenticate", "Bearer realm=\"remuda\"")
    }

    pub(super) fn too_many(detail: impl Into<String>) -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self::new(status, "urn:remuda:too-many", "Too many requests", detail)
            .with("retry-after", "6")
    }

    pub(super) fn too_many_streams() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "urn:remuda:too-many-streams",
            "Too many streams",
            "as many clients follow events and logs as may; poll `/v1/status` instead",
        )
        .with("retry-after", "5")
    }

    pub(super) fn misdirected(host: &str) -> Self {
        Self::new(
            StatusCode::MISDIRECTED_REQUEST,
            "urn:remuda:misdirected",
            "Misdirected request",
            format!(
                "the admin listener answers to `localhost` and loopback addresses, not to `{}`",
                host.escape_default()
            ),
        )
    }

    pub(super) fn not_json() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "urn:remuda:not-json",
            "Unsupported media type",
            "changes need `Content-Type: application/json`, also without a body",
        )
    }

    pub(super) fn no_such_path() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "urn:remuda:no-such-path",
            "Not found",
            "there is nothing at this path; `/v1/openapi.json` lists what there is",
        )
    }

    pub(super) fn no_such_rollout(id: &str) -> Self {
        let detail = format!(
            "no rollout `{}` is remembered; `remuda history` and `/v1/rollouts` list them",
            id.escape_default()
        );
        let status = StatusCode::NOT_FOUND;
        Self::new(status, "urn:remuda:no-rollout", "No such rollout", detail)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "urn:remuda:method-not-allowed",
            "Method not allowed",
            "this path answers to the methods named in `Allow`; changes are always POST",
        )
    }

    pub(super) fn too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "urn:remuda:too-large",
            "Content too large",
            "a body may have 64 KiB",
        )
    }

    pub(super) fn body_too_slow() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "urn:remuda:too-slow",
            "Request timeout",
            "the body did not come in 10 s",
        )
    }

    pub(super) fn not_in_this_version(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            "urn:remuda:not-implemented",
            "Not in this version",
            format!("{what} is not in this version"),
        )
    }

    pub(super) fn not_ready(why: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "urn:remuda:not-ready", "Not ready", why)
    }

    pub(super) fn stopping() -> Self {
        Self::from(Refusal::Stopping)
    }

    pub(super) fn no_answer_in_time() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "urn:remuda:no-answer",
            "No answer",
            "the control loop has not answered in 10 s; what was ordered may still be carried out",
        )
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The body, as JSON.
    pub(super) fn problem(&self) -> Problem {
        Problem {
            kind: self.kind.to_owned(),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        let (status, kind, title) = match refusal {
            Refusal::NoService(_) => {
                let status = StatusCode::NOT_FOUND;
                (status, "urn:remuda:no-service", "No such service")
            }
            Refusal::NoSlot(_) => {
                let status = StatusCode::NOT_FOUND;
                (status, "urn:remuda:no-slot", "No such worker")
            }
            Refusal::NoRollout => {
                let status = StatusCode::NOT_FOUND;
                (status, "urn:remuda:no-rollout", "No such rollout")
            }
            Refusal::NothingToRollBackTo => {
                let status = StatusCode::CONFLICT;
                (status, "urn:remuda:no-earlier", "Nothing to go back to")
            }
            Refusal::Unexpected { .. } => {
                let status = StatusCode::CONFLICT;
                (status, "urn:remuda:unexpected", "Unexpected generation")
            }
            Refusal::Conflict(_) => return Self::conflict(detail),
            Refusal::Unmanaged => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                (status, "urn:remuda:unmanaged", "Unmanaged workers")
            }
            Refusal::Invalid(_) => return Self::invalid(detail),
            Refusal::Stopping => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                (status, "urn:remuda:stopping", "Stopping")
            }
        };
        Self::new(status, kind, title, detail)
    }
}

impl From<PathRejection> for Failure {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.problem()).unwrap_or_default();
        let kind = (header::CONTENT_TYPE, "application/problem+json");
        let mut response = (self.status, [kind], body).into_response();
        if let Some((name, value)) = self.header {
            let value = HeaderValue::from_static(value);
            response
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
        response
    }
}
