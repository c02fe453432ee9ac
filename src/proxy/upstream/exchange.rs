//! One request and its answer on one connection: both directions polled by one task.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use http_body::Body;
use tokio::time::Instant;

use super::super::h1::{Decoder, LARGE};
use super::connection::Connection;
use super::download::Download;
use super::head::{self, Head};
use super::pool::Pool;
use super::upload::{Phase, Source, Upload, UploadError};
use super::{Answer, Limits, SendError, SendErrorKind, Watch};
use crate::proxy::rules::{self, Outgoing};
use crate::rollout::WorkerId;

/// How long a client that expects `100 Continue` is left waiting for a worker that does not say it.
const CONTINUE: Duration = Duration::from_secs(1);
/// Informational answers before the final one; a worker that sends more is broken.
pub(super) const MAX_INFORMATIONAL: u32 = 32;

/// Sends one request on a connection and resolves with the head of the final answer (101 included).
///
/// The body is pumped while the answer is awaited and, if it comes early, while its body is read
/// ([`AnswerBody`](super::AnswerBody) drives both). With `outgoing.expects_continue` the body is not polled before a 100
/// arrives or one second has passed; a final answer before that means it is never polled.
/// When the answer ended whole, no byte is left over and the request was sent whole, the connection goes
/// back to `pool`; otherwise it is closed.
///
/// # Errors
/// See [`SendError`].
pub async fn send<B>(
    connection: Connection,
    pool: &Rc<Pool>,
    worker: WorkerId,
    outgoing: &Outgoing,
    mut body: B,
    limits: Limits,
    watch: Rc<dyn Watch>,
) -> Result<Answer, SendError>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: std::error::Error + 'static,
{
    // A request that must not be repeated is not risked on a connection that the worker has closed
    // but whose end this loop has not heard of yet: one system call, only for those (F41).
    if connection.reused && !outgoing.idempotent && !connection.socket.is_quiet_now() {
        watch.ended(false);
        return Err(SendError {
            kind: SendErrorKind::Reset,
            sent: false,
            answered: false,
            source: None,
        });
    }
    let mut download = Download::new(Exchange {
        connection: Some(connection),
        buffer: BytesMut::new(),
        large: false,
        pool: Rc::clone(pool),
        worker,
        limits,
        watch,
        upload: Upload::new(outgoing),
        since: None,
        answered: false,
        keep: None,
        refused: false,
        over: false,
    });
    let mut awaiting = Awaiting {
        method: &outgoing.method,
        upgrade: outgoing.upgrade.as_deref(),
        searched: 0,
        informational: 0,
    };
    let head = poll_fn(|cx| download.poll_answer(cx, &mut body, &mut awaiting)).await?;
    Ok(download.answer(head, body))
}

/// What is needed only until the final head is there.
pub(super) struct Awaiting<'a> {
    method: &'a Method,
    upgrade: Option<&'a str>,
    searched: usize,
    informational: u32,
}

/// A connection in use.
pub(super) struct Exchange {
    /// Gone once the exchange is over.
    connection: Option<Connection>,
    pub(super) buffer: BytesMut,
    /// A large body comes: read more at once.
    pub(super) large: bool,
    pool: Rc<Pool>,
    worker: WorkerId,
    limits: Limits,
    watch: Rc<dyn Watch>,
    upload: Upload,
    /// Since when nothing has moved, if we wait.
    since: Option<Instant>,
    answered: bool,
    /// How long the connection may wait in the pool afterwards, if it may be used again.
    keep: Option<Duration>,
    /// The answer is no success: it may have come without a look at the request's body.
    refused: bool,
    over: bool,
}

impl Exchange {
    /// Until the final head is there.
    pub(super) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn Source,
        awaiting: &mut Awaiting<'_>,
    ) -> Poll<Result<Head, SendError>> {
        loop {
            if let Err(e) = self.poll_upload(cx, source) {
                return Poll::Ready(Err(e));
            }
            let phase = self.upload.phase;
            match self.poll_head(cx, awaiting) {
                Poll::Ready(head) => return Poll::Ready(head),
                // A 100 has come: go on with the body.
                Poll::Pending if self.upload.phase != phase => continue,
                Poll::Pending => {}
            }
            let (limit, kind) = self.limit_before_answer();
            if self.poll_limit(cx, limit).is_pending() {
                return Poll::Pending;
            }
            if self.upload.phase != Phase::AwaitContinue {
                return Poll::Ready(Err(self.error(kind, None)));
            }
            self.since = None;
            self.upload.release();
        }
    }

    /// The final head is there.
    pub(super) fn answer_begins(&mut self, head: &Head) {
        if head.answer.is_event_stream() {
            self.limits.body_idle = Duration::MAX;
        }
        self.large = matches!(head.body, Decoder::Length(LARGE..));
        self.refused = !head.answer.status.is_success();
        self.keep = head.keep_alive.then(|| self.idle_limit(head.keep_for));
    }

    /// Nothing of the request will be sent any more.
    pub(super) fn is_sent(&self) -> bool {
        self.upload.is_over()
    }

    /// What we wait for before the answer, and for how long.
    fn limit_before_answer(&self) -> (Duration, SendErrorKind) {
        match self.upload.phase {
            Phase::AwaitContinue => (CONTINUE, SendErrorKind::Timeout),
            Phase::Body if self.upload.waits_for_client() => {
                (self.limits.body_idle, SendErrorKind::BodyTimeout)
            }
            Phase::Body | Phase::Flushing => (self.limits.body_idle, SendErrorKind::Timeout),
            Phase::Complete | Phase::Abandoned => {
                (self.limits.response_head, SendErrorKind::Timeout)
            }
        }
    }

    /// Pumps the request. A worker that does not take it may still answer, so that alone is no error
    /// once something was sent.
    fn poll_upload(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn Source,
    ) -> Result<(), SendError> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        if self.upload.is_over() {
            return Ok(());
        }
        let socket = &mut connection.socket;
        let (watch, buffers) = (&*self.watch, &self.pool.buffers);
        let polled = self.upload.poll(cx, socket, source, watch, buffers);
        if std::mem::take(&mut self.upload.moved) {
            // What goes out at once needs no look at the clock.
            self.since = self.limits.since.take().map(Instant::from_std);
        }
        match polled {
            Poll::Pending | Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(UploadError::Client(e))) => {
                Err(self.error(SendErrorKind::ClientBody, Some(e)))
            }
            Poll::Ready(Err(UploadError::Worker(e))) if !self.upload.sent => {
                Err(self.error(SendErrorKind::Reset, Some(e)))
            }
            Poll::Ready(Err(UploadError::Worker(_))) => {
                self.upload.phase = Phase::Abandoned;
                Ok(())
            }
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        awaiting: &mut Awaiting<'_>,
    ) -> Poll<Result<Head, SendError>> {
        loop {
            match self.next_head(awaiting) {
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
                Err(why) => {
                    let why = io::Error::new(io::ErrorKind::InvalidData, why);
                    return Poll::Ready(Err(self.error(SendErrorKind::BadAnswer, Some(why))));
                }
            }
            match self.poll_read(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(self.error(SendErrorKind::Reset, None)));
                }
                Poll::Ready(Ok(_)) => self.answered = true,
                Poll::Ready(Err(e)) => {
                    return Poll::Ready(Err(self.error(SendErrorKind::Reset, Some(e))));
                }
            }
        }
    }

    /// The final head, if the buffer has it; informational ones before it are told and forgotten.
    fn next_head(&mut self, awaiting: &mut Awaiting<'_>) -> Result<Option<Head>, &'static str> {
        loop {
            let parsed = head::parse(&mut self.buffer, &mut awaiting.searched, awaiting.method)?;
            let Some(head) = parsed else {
                return Ok(None);
            };
            let status = head.answer.status;
            if status == StatusCode::SWITCHING_PROTOCOLS {
                let asked = awaiting.upgrade.ok_or("101 without an upgrade asked")?;
                rules::switches_to(&head.answer.fields, asked)?;
                return Ok(Some(head));
            }
            if !status.is_informational() {
                return Ok(Some(self.stop_waiting(head)));
            }
            if !head.body.is_over() || !head.keep_alive {
                return Err("informational answer with a body or a close");
            }
            awaiting.informational += 1;
            if awaiting.informational > MAX_INFORMATIONAL {
                return Err("too many informational answers");
            }
            self.watch.informational(&head.answer);
            if status == StatusCode::CONTINUE {
                self.since = None;
                self.upload.release();
            }
        }
    }

    /// A final answer while the client still waits for a 100: its body is never asked for.
    fn stop_waiting(&mut self, head: Head) -> Head {
        if self.upload.phase == Phase::AwaitContinue {
            self.upload.phase = Phase::Abandoned;
        }
        head
    }

    /// Reads once into the buffer.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(Ok(0));
        };
        let socket = &mut connection.socket;
        let buffers = &self.pool.buffers;
        let read = ready!(buffers.poll_fill(socket, &mut self.buffer, self.large, cx));
        self.since = None;
        Poll::Ready(read)
    }

    /// Ready once nothing has moved for `limit`.
    fn poll_limit(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        match (since.checked_add(limit), &mut self.connection) {
            (Some(deadline), Some(connection)) => connection.timer.poll(cx, deadline),
            _ => Poll::Pending,
        }
    }

    fn error(&self, kind: SendErrorKind, source: Option<io::Error>) -> SendError {
        SendError {
            kind,
            sent: self.upload.sent,
            answered: self.answered,
            source,
        }
    }

    fn idle_limit(&self, said: Option<Duration>) -> Duration {
        // A second less than the worker says: its timer began before ours.
        let said = said.map_or(Duration::MAX, |t| t.saturating_sub(Duration::from_secs(1)));
        said.min(self.limits.pool_idle)
    }

    /// While the answer's body is read: goes on with the request's. True once it is over.
    pub(super) fn poll_rest(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn Source,
    ) -> io::Result<bool> {
        match self.poll_upload(cx, source) {
            Ok(()) => Ok(self.upload.is_over()),
            Err(e) => Err(e
                .source
                .unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())),
        }
    }

    /// Reads more of the answer's body; `Ok(0)` is the end of the connection.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(read) = self.poll_read(cx) {
            return Poll::Ready(read);
        }
        match self.poll_limit(cx, self.limits.body_idle) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    pub(super) fn downloaded(&self, bytes: usize) {
        self.watch.downloaded(bytes as u64);
    }

    /// The answer is complete: the connection goes back to the pool if nothing speaks against it.
    pub(super) fn finish(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        let clean = self.upload.phase == Phase::Complete
            && self.buffer.is_empty()
            && !connection.socket.has_unread(self.upload.body);
        if let Some(keep) = self.keep.filter(|keep| clean && !keep.is_zero()) {
            let unread = self.refused && self.upload.body > 0;
            self.pool.put(self.worker, connection, keep, unread);
        }
        self.end(true);
    }

    /// The connection is not HTTP any more: hands it out with what was read already.
    pub(super) fn take_socket(&mut self) -> Option<(Connection, Bytes, Rc<dyn Watch>)> {
        let connection = self.connection.take()?;
        self.over = true;
        let read = self.buffer.split().freeze();
        Some((connection, read, Rc::clone(&self.watch)))
    }

    fn end(&mut self, whole: bool) {
        if !self.over {
            self.over = true;
            self.watch.ended(whole);
            self.pool.buffers.put(std::mem::take(&mut self.buffer));
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // The connection first: "ended" means that it is closed.
        self.connection = None;
        self.end(false);
    }
}
