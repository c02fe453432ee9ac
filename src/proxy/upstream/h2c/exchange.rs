//! One request and its answer on one stream, polled by the request's own task.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use tokio::time::{Instant, timeout};

use super::download::Download;
use super::sessions::Place;
use super::upload::Upload;
use crate::link::message::WorkerAddress;
use crate::proxy::head::{AnswerHead, Fields};
use crate::proxy::rules::{self, Outgoing};
use crate::proxy::upstream::connection::{Timer, connect};
use crate::proxy::upstream::exchange::MAX_INFORMATIONAL;
use crate::proxy::upstream::upload::Source;
use crate::proxy::upstream::{Answer, Limits, Pool, SendError, SendErrorKind, Watch};
use crate::rollout::WorkerId;

/// Whom a request is sent to, and how long anything may take.
#[derive(Debug, Clone, Copy)]
pub(in crate::proxy) struct To<'a> {
    pub(in crate::proxy) worker: WorkerId,
    pub(in crate::proxy) address: &'a WorkerAddress,
    pub(in crate::proxy) connect: Duration,
    pub(in crate::proxy) limits: Limits,
    /// Only a new connection will do.
    pub(in crate::proxy) fresh: bool,
}

/// Sends one request on a stream of its own and resolves with the head of the final answer. The body is
/// pumped while the answer is awaited, and while the answer's body is read.
///
/// # Errors
/// See [`SendError`].
pub(in crate::proxy) async fn send<B>(
    pool: &Pool,
    to: To<'_>,
    outgoing: &Outgoing,
    body: B,
    watch: Rc<dyn Watch>,
) -> Result<Answer, SendError>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: std::error::Error + 'static,
{
    let place = place(pool, to).await.map_err(|error| {
        tracing::debug!(worker = to.worker.0, %error, "cannot connect");
        let kind = match error.kind() {
            io::ErrorKind::InvalidData => SendErrorKind::BadAnswer,
            io::ErrorKind::ConnectionReset => SendErrorKind::Reset,
            _ => SendErrorKind::Unconnected,
        };
        SendError {
            kind,
            sent: false,
            answered: false,
            source: Some(error),
        }
    })?;
    let unsent = |source| SendError {
        kind: SendErrorKind::Reset,
        sent: false,
        answered: false,
        source,
    };
    let request = request(outgoing).ok_or_else(|| unsent(None))?;
    let ends = !outgoing.framing.has_body();
    let mut sender = place.sender().ready().await.map_err(|error| {
        place.retire();
        unsent(Some(io::Error::other(error)))
    })?;
    let sent = sender.send_request(request, ends);
    let (response, stream) = sent.map_err(|error| unsent(Some(io::Error::other(error))))?;
    let source: Option<Box<dyn Source>> = match ends {
        true => None,
        false => Some(Box::new(body)),
    };
    let mut exchange = Box::new(Exchange {
        upload: Upload::new(stream, source),
        timer: Timer::default(),
        since: None,
        limits: to.limits,
        watch,
        place,
        begun: Instant::now(),
        answered: false,
        informational: 0,
        whole: false,
        reset: false,
    });
    let mut response = response;
    let (parts, stream) = poll_fn(|cx| exchange.poll_answer(cx, &mut response))
        .await?
        .into_parts();
    exchange.answered = true;
    let fields = Fields::from_worker(&parts.headers).ok_or_else(|| bad("byte in a field value"))?;
    let bodiless = outgoing.method == Method::HEAD
        || matches!(
            parts.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
    // Checked by `h2`.
    let said = || fields.all(b"content-length").next();
    let length = match bodiless {
        true => Some(0),
        false => said().and_then(rules::decimal),
    };
    let head = AnswerHead {
        status: parts.status,
        version: Version::HTTP_2,
        fields,
    };
    if head.is_event_stream() {
        exchange.limits.body_idle = Duration::MAX;
    }
    Ok(Answer {
        head,
        body: Download::new(exchange, stream, length).into(),
    })
}

async fn place(pool: &Pool, to: To<'_>) -> io::Result<Place> {
    let sessions = &pool.sessions;
    let connecting = connect(to.address, to.connect);
    let place = async {
        match to.fresh {
            true => sessions.open(to.worker, connecting.await?).await,
            false => sessions.place(to.worker, connecting).await,
        }
    };
    timeout(to.connect, place)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// A request's head as HTTP/2 has it, from the one that the rules have made. What frames a message of
/// HTTP/1.1 stays behind (RFC 9113 §8.2.2).
fn request(outgoing: &Outgoing) -> Option<Request<()>> {
    let mut lines = outgoing.head.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let target = first.split(|byte| *byte == b' ').nth(1)?;
    let mut request = Request::new(());
    *request.method_mut() = outgoing.method.clone();
    *request.version_mut() = Version::HTTP_2;
    let mut host: &[u8] = b"";
    for line in lines.filter_map(|line| line.strip_suffix(b"\r")) {
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        let (name, value) = (&line[..colon], line.get(colon + 2..).unwrap_or_default());
        match name {
            b"host" => host = value,
            b"connection" | b"upgrade" | b"transfer-encoding" | b"expect" => {}
            name => {
                let name = HeaderName::from_bytes(name).ok()?;
                let value = HeaderValue::from_bytes(value).ok()?;
                request.headers_mut().append(name, value);
            }
        }
    }
    // One of HTTP/1.0 may have none; it is no empty one here.
    let authority = match host {
        b"" => b"localhost",
        host => host,
    };
    *request.uri_mut() = Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query(target)
        .build()
        .ok()?;
    Some(request)
}

/// A stream in use.
pub(super) struct Exchange {
    upload: Upload,
    timer: Timer,
    /// Since when nothing has moved, if we wait.
    since: Option<Instant>,
    pub(super) limits: Limits,
    watch: Rc<dyn Watch>,
    place: Place,
    begun: Instant,
    /// Its answer has begun.
    answered: bool,
    /// Informational answers so far.
    informational: u32,
    whole: bool,
    /// The worker has reset it.
    reset: bool,
}

impl Exchange {
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        response: &mut ResponseFuture,
    ) -> Poll<Result<Response<RecvStream>, SendError>> {
        if let Err(error) = self.poll_upload(cx) {
            return Poll::Ready(Err(failed(SendErrorKind::ClientBody, Some(error))));
        }
        while let Poll::Ready(Some(Ok(informational))) = response.poll_informational(cx) {
            self.since = None;
            // HTTP/2 has none that switches protocols (RFC 9113 §8.6); who waits for an answer would take what
            // follows for another protocol.
            if informational.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Err(bad("101 in HTTP/2")));
            }
            self.informational += 1;
            if self.informational > MAX_INFORMATIONAL {
                return Poll::Ready(Err(bad("too many informational answers")));
            }
            self.tell(informational);
        }
        match std::pin::Pin::new(response).poll(cx) {
            Poll::Ready(Ok(response)) => return Poll::Ready(Ok(response)),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(self.refused(error))),
            Poll::Pending => {}
        }
        let (limit, kind) = match &self.upload {
            upload if upload.waits_for_client() => {
                (self.limits.body_idle, SendErrorKind::BodyTimeout)
            }
            upload if upload.is_over() => (self.limits.response_head, SendErrorKind::Timeout),
            _ => (self.limits.body_idle, SendErrorKind::Timeout),
        };
        match self.poll_limit(cx, limit) {
            Poll::Ready(()) => {
                if kind == SendErrorKind::Timeout {
                    // It may be the connection that stands still: who comes next has another one.
                    self.place.retire();
                }
                Poll::Ready(Err(failed(kind, None)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn tell(&self, informational: Response<()>) {
        let (parts, ()) = informational.into_parts();
        if let Some(fields) = Fields::from_worker(&parts.headers) {
            self.watch.informational(&AnswerHead {
                status: parts.status,
                version: Version::HTTP_2,
                fields,
            });
        }
    }

    /// No answer came, or none that is one.
    fn refused(&mut self, error: h2::Error) -> SendError {
        self.broke(&error);
        // One that has said something has begun.
        let answered = self.informational > 0;
        let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        // Streams that a GOAWAY leaves to end go on: this one was behind its last.
        let left = error.is_go_away() && error.is_remote();
        if left || error.is_io() {
            self.place.retire();
        }
        // It broke HTTP in its answer; on a connection that others used, too, it may have been in another's.
        let malformed = error.is_library() && (error.is_reset() || self.place.was_alone());
        let kind = match (malformed, refused) {
            (true, _) => SendErrorKind::BadAnswer,
            (false, true) if !answered => SendErrorKind::Refused,
            (false, _) => SendErrorKind::Reset,
        };
        SendError {
            kind,
            sent: answered || !(refused || left),
            answered,
            source: Some(io::Error::other(error)),
        }
    }

    /// Goes on with the request's body.
    ///
    /// # Errors
    /// The client's.
    pub(super) fn poll_upload(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let polled = self.upload.poll(cx, &*self.watch);
        if std::mem::take(&mut self.upload.moved) {
            self.since = None;
        }
        match polled {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// Ready once nothing has moved for `limit`.
    pub(super) fn poll_limit(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        match since.checked_add(limit) {
            Some(deadline) => self.timer.poll(cx, deadline),
            None => Poll::Pending,
        }
    }

    /// So many bytes of the answer came.
    pub(super) fn downloaded(&mut self, bytes: usize) {
        self.since = None;
        self.watch.downloaded(bytes as u64);
    }

    /// The stream broke off.
    pub(super) fn broke(&mut self, error: &h2::Error) {
        self.reset = error.is_remote() || error.is_io();
    }

    /// Nothing of the request will be sent any more.
    pub(super) fn is_sent(&self) -> bool {
        self.upload.is_over()
    }

    /// Its place.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The answer ended as it should.
    pub(super) fn finish(&mut self) {
        self.whole = true;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // What is left of a stream is reset when it is let go.
        let has_ended = self.reset || (self.whole && self.upload.is_over());
        if !has_ended {
            let unseen = match self.answered {
                true => None,
                false => self.upload.leave().map(|stream| (self.begun, stream)),
            };
            self.place.reset(unseen);
        }
        self.watch.ended(self.whole);
    }
}

/// An answer that breaks HTTP.
fn bad(why: &'static str) -> SendError {
    SendError {
        kind: SendErrorKind::BadAnswer,
        sent: true,
        answered: true,
        source: Some(io::Error::new(io::ErrorKind::InvalidData, why)),
    }
}

fn failed(kind: SendErrorKind, source: Option<io::Error>) -> SendError {
    SendError {
        kind,
        sent: true,
        answered: false,
        source,
    }
}
