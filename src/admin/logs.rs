//! `GET /v1/services/{service}/logs`: the workers' last lines, and with `follow` those to come, as one
//! JSON object per line.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::app::{App, stopped};
use super::body::{Asked, Named};
use super::failure::Failure;
use crate::feed::Feed;
use crate::rollout::{Refusal, ServiceName, Slot};
use crate::wire::{LogLine, Logs, Problem, Status};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    slot: Option<u32>,
    follow: Option<String>,
}

impl Wanted {
    /// `follow`, `follow=true` and `follow=1` all mean it.
    fn follows(&self) -> Result<bool, Failure> {
        match self.follow.as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(_) => Err(Failure::bad_request("`follow` is `true` or `false`")),
        }
    }
}

/// The workers' last lines of output, oldest first; with `follow` as lines of JSON
/// (`application/x-ndjson`), one object per line, that go on as the workers write.
#[utoipa::path(get, path = "/v1/services/{service}/logs", tag = "look", security(("token" = [])),
    params(
        ("service" = String, Path, description = "The service"),
        ("slot" = Option<u32>, Query, description = "Only this slot's"),
        ("follow" = Option<bool>, Query, description = "Go on")
    ),
    responses(
        (status = 200, description = "The lines", content(
            (Logs = "application/json"), (LogLine = "application/x-ndjson")
        )),
        (status = 404, description = "No such service, or a slot that has no worker and left no line", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "64 clients follow already", body = Problem, content_type = "application/problem+json")
))]
pub(super) async fn logs(
    State(app): State<Arc<App>>,
    Named(service): Named<String>,
    Asked(wanted): Asked<Wanted>,
) -> Result<Response, Failure> {
    let follows = wanted.follows()?;
    let filter = Filter {
        service,
        slot: wanted.slot,
    };
    let all = app.handle.logs.after(0).into_iter();
    let lines: Vec<LogLine> = all
        .filter(|(_, line)| filter.wants(line))
        .map(|(_, (_, line))| line)
        .collect();
    let nobody = filter.names_nobody(&app.handle.status.borrow());
    if let Some(refusal) = nobody
        && lines.is_empty()
    {
        return Err(app.refused(refusal, &filter.service));
    }
    if !follows {
        return Ok(Json(Logs { lines }).into_response());
    }
    let place = Arc::clone(&app.streams)
        .try_acquire_owned()
        .map_err(|_| Failure::too_many_streams())?;
    let follower = Follower {
        feed: app.handle.logs.clone(),
        position: 0,
        filter,
        stop: app.stop.clone(),
        _place: place,
    };
    let stream = stream::unfold(follower, |mut follower| async {
        let chunk = follower.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), follower))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(stream)).into_response())
}

struct Filter {
    service: String,
    slot: Option<u32>,
}

impl Filter {
    fn wants(&self, (service, line): &(String, LogLine)) -> bool {
        *service == self.service && self.slot.is_none_or(|slot| slot == line.slot)
    }

    /// What is named and is not there: silence would look like a worker that says nothing.
    fn names_nobody(&self, status: &Status) -> Option<Refusal> {
        let Some(service) = status.services.get(&self.service) else {
            return Some(Refusal::NoService(ServiceName::new(&self.service)));
        };
        let slot = self.slot?;
        let is_there = service.workers().any(|worker| worker.slot == slot);
        (!is_there).then_some(Refusal::NoSlot(Slot(slot)))
    }
}

/// One client's reading position. A client that is too slow misses lines; no worker waits for it.
struct Follower {
    feed: Feed<(String, LogLine)>,
    position: u64,
    filter: Filter,
    stop: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let new = self.feed.after(self.position);
            self.position = new.last().map_or(self.position, |(number, _)| *number);
            let text = new
                .iter()
                .filter(|(_, line)| self.filter.wants(line))
                .filter_map(|(_, (_, line))| serde_json::to_string(line).ok())
                .fold(String::new(), |text, line| text + &line + "\n");
            if !text.is_empty() {
                return Some(Bytes::from(text));
            }
            let feed = self.feed.clone();
            tokio::select! {
                () = feed.changed_since(self.position) => {}
                () = stopped(&mut self.stop) => return None,
            }
        }
    }
}
