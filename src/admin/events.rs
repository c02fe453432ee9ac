//! `GET /v1/events`: server-sent events, resumable by number.
//!
//! Each event bears its number as `id`, its kind as `event` and itself as `data`. A client that comes
//! back with `Last-Event-ID` (or `?since=`) gets what it missed; what is no longer kept is named in one
//! `gap` event. Without either it gets what happens from now on; `?since=0` is everything kept.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, header};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::app::{App, stopped};
use super::body::Asked;
use super::failure::Failure;
use crate::feed::Feed;
use crate::wire::{Event, Problem};

/// Keeps middle boxes from closing a quiet stream, and finds clients that are gone.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Bytes put together for one write.
const CHUNK: usize = 32 << 10;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    since: Option<u64>,
}

/// Follows what happens, as server-sent events: `id` is the event's number, `event` its kind, `data` the event.
#[utoipa::path(get, path = "/v1/events", tag = "look",
    params(
        ("since" = Option<u64>, Query, description = "The last event seen; 0 gets everything kept. Missing: from now on"),
        ("Last-Event-ID" = Option<u64>, Header, description = "The same; goes before `since`")
    ),
    responses(
        (status = 200, description = "A stream that does not end", body = Event, content_type = "text/event-stream"),
        (status = 503, description = "64 clients follow already", body = Problem, content_type = "application/problem+json")
))]
pub(super) async fn events(
    State(app): State<Arc<App>>,
    Asked(query): Asked<Since>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let last = match headers.get("last-event-id") {
        None => query.since,
        Some(id) => {
            let id = id.to_str().ok().and_then(|id| id.trim().parse().ok());
            Some(id.ok_or_else(|| Failure::bad_request("`Last-Event-ID` is not a number"))?)
        }
    };
    let place = Arc::clone(&app.streams)
        .try_acquire_owned()
        .map_err(|_| Failure::too_many_streams())?;
    let feed = app.handle.events.clone();
    let newest = feed.newest();
    // A number from the future was given by a supervisor before us: all of ours is new.
    let position = match last {
        Some(last) if last <= newest => last,
        Some(_) => 0,
        None => newest,
    };
    let follower = Follower {
        feed,
        position,
        told: last.is_some(),
        stop: app.stop.clone(),
        waiting: VecDeque::from([Bytes::from_static(b"retry: 1000\n: hello\n\n")]),
        _place: place,
    };
    let stream = stream::unfold(follower, |mut follower| async {
        let chunk = follower.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), follower))
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok((kind, Body::from_stream(stream)).into_response())
}

/// One client's reading position. The writer of the feed never waits for it.
struct Follower {
    feed: Feed<Event>,
    position: u64,
    /// Whether the client said what it has seen, so that a missing number is worth telling.
    told: bool,
    stop: watch::Receiver<bool>,
    waiting: VecDeque<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(chunk) = self.waiting.pop_front() {
            return Some(chunk);
        }
        loop {
            let new = self.feed.after(self.position);
            if !new.is_empty() {
                self.take(&new);
                return self.waiting.pop_front();
            }
            let feed = self.feed.clone();
            tokio::select! {
                () = feed.changed_since(self.position) => {}
                () = tokio::time::sleep(HEARTBEAT) => return Some(Bytes::from_static(b": \n\n")),
                () = stopped(&mut self.stop) => return None,
            }
        }
    }

    fn take(&mut self, new: &[(u64, Event)]) {
        let mut text = String::new();
        for (number, event) in new {
            if self.told && *number > self.position + 1 {
                write_gap(&mut text, self.position + 1, *number - 1, event);
            }
            self.told = true;
            self.position = *number;
            write_event(&mut text, *number, event);
            if text.len() > CHUNK {
                self.waiting
                    .push_back(Bytes::from(std::mem::take(&mut text)));
            }
        }
        if !text.is_empty() {
            self.waiting.push_back(Bytes::from(text));
        }
    }
}

fn write_event(text: &mut String, number: u64, event: &Event) {
    // JSON has no bare line end, and a kind is a word of ours; both are forced all the same.
    let kind: String = event
        .kind
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect();
    let data = serde_json::to_string(event).unwrap_or_default();
    // Writing to a string does not fail.
    let _ = write!(text, "id: {number}\nevent: {kind}\ndata: {data}\n\n");
}

fn write_gap(text: &mut String, first: u64, last: u64, next: &Event) {
    let gap = Event {
        at: next.at.clone(),
        service: None,
        kind: "gap".to_owned(),
        message: format!("{} earlier events are no longer kept", last - first + 1),
        data: serde_json::json!({ "first": first, "last": last }),
    };
    let data = serde_json::to_string(&gap).unwrap_or_default();
    let _ = write!(text, "event: gap\ndata: {data}\n\n");
}
