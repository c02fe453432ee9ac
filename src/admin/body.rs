//! Reading requests: bodies with a limit and a deadline, and path and query parameters whose errors
//! are problems like all others.

use std::time::Duration;

use axum::RequestExt;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use bytes::Bytes;
use http::request::Parts;
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::failure::Failure;

/// Far more than any order needs.
const LARGEST: usize = 64 << 10;
/// A body of ours fits in one packet.
const PATIENCE: Duration = Duration::from_secs(10);

/// A JSON body; `None` if it is empty.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) Option<T>);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let bytes = read(request).await?;
        if bytes.trim_ascii().is_empty() {
            return Ok(Self(None));
        }
        // A list would be taken for an object's values in their order, an empty one for none of them.
        let is_object = bytes.trim_ascii_start().starts_with(b"{");
        let parsed = if is_object {
            serde_json::from_slice(&bytes)
        } else {
            serde_json::from_slice::<IgnoredAny>(&bytes)
                .and_then(|_| Err(serde::de::Error::custom("the body has to be a JSON object")))
        };
        match parsed {
            Ok(value) => Ok(Self(Some(value))),
            Err(error) if error.is_data() => Err(Failure::invalid(error.to_string())),
            Err(error) => Err(Failure::bad_request(format!("not JSON: {error}"))),
        }
    }
}

/// The body of a call that takes none: empty, or an empty object.
#[derive(Debug)]
pub(super) struct NoBody;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

impl<S: Sync> FromRequest<S> for NoBody {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let Body(None | Some(Empty {})) = Body::<Empty>::from_request(request, state).await?;
        Ok(Self)
    }
}

/// Reads the body of a request that is refused, within the same limits: a client that still sends when the
/// answer comes and the connection goes sees a broken connection in its place.
pub(super) async fn pass_over(request: Request) {
    // Whatever is wrong with it, the answer is decided.
    let _ = read(request).await;
}

async fn read(request: Request) -> Result<Bytes, Failure> {
    let body = Limited::new(request.with_limited_body().into_body(), LARGEST);
    match tokio::time::timeout(PATIENCE, body.collect()).await {
        Err(_) => Err(Failure::body_too_slow()),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Failure::too_large())
        }
        Ok(Err(_)) => Err(Failure::bad_request("the body broke off")),
    }
}

/// Path parameters.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(value) = Path::from_request_parts(parts, state).await?;
        Ok(Self(value))
    }
}

/// Query parameters.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Query(value) = Query::from_request_parts(parts, state).await?;
        Ok(Self(value))
    }
}
