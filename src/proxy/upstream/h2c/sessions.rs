//! The connections of one event loop to workers that speak HTTP/2.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, SendRequest};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::download::Open;
use super::wire::Wire;
use crate::proxy::upstream::connection::Connection;
use crate::rollout::WorkerId;

/// What a worker may send ahead of the client, on one stream; a client that does not read holds as much.
const STREAM_WINDOW: u32 = 128 << 10;
/// On all together: more than all streams may, or clients that do not read would hold up the others.
const CONNECTION_WINDOW: u32 = 64 << 20;
/// What waits in us of one request for a worker that does not read.
const SEND_BUFFER: usize = 64 << 10;
/// Longest fields of an answer, and longest trailers.
const MAX_HEAD: u32 = 64 << 10;
/// A connection without a request is kept for so long: the worker ends it by GOAWAY, which loses nothing.
const IDLE: Duration = Duration::from_secs(60);

/// A connection on which we reset so many streams is left when its last one has ended, and another one used:
/// a server counts the resets of a connection, takes more than so many for an attack, and ends it with all
/// that others have on it. The strictest known count 128 in a second, or 200 in 30; 500 and 1,000 are usual.
const RESETS: usize = 20;
/// Every stream that is open may be reset yet, all of them in a moment when a client with many leaves: with
/// those that were they are never more than this. A hundred at once are what most servers take anyway.
const RESETS_AND_OPEN: usize = RESETS + 100;

/// A stream that is reset as soon as it has begun may reach a busy worker together with its end. Some count
/// those that they have not even seen, and end a connection with 20: so they get this much time to see one.
const SEEN: Duration = Duration::from_millis(100);

/// Connections by worker.
#[derive(Debug, Default)]
pub(in crate::proxy::upstream) struct Sessions {
    of: RefCell<HashMap<WorkerId, Vec<Rc<Session>>, foldhash::fast::RandomState>>,
    /// Connections that somebody opens now, by worker.
    opening: RefCell<HashMap<WorkerId, Rc<Opening>>>,
    leaving: Rc<Leaving>,
    ending: Rc<Endings>,
}

/// Streams that are reset when they are dropped, each with when it began.
type Leaving = RefCell<Vec<(Instant, SendStream<Bytes>, Place)>>;

/// Streams whose answer is whole and whose end is to come, each with when it is reset.
type Endings = RefCell<Vec<(Instant, Open)>>;

/// A connection that is being opened, for all who wait for one.
#[derive(Debug, Default)]
struct Opening {
    over: Notify,
    failed: Cell<Option<io::ErrorKind>>,
}

/// A connection.
pub(super) struct Session {
    sender: SendRequest<Bytes>,
    open: Cell<usize>,
    /// Streams on it that we have reset.
    resets: Cell<usize>,
    /// Those of all connections that will be.
    leaving: Weak<Leaving>,
    /// Those of all connections that only have to end.
    ending: Weak<Endings>,
    ended: Cell<bool>,
    /// Why it ended, if it should not have.
    broke: Cell<Option<io::ErrorKind>>,
    /// One request was on it when it ended.
    ended_alone: Cell<bool>,
    idle_since: Cell<Instant>,
}

/// A request's place on a connection.
#[derive(Debug)]
pub(super) struct Place(Rc<Session>);

impl Place {
    fn new(session: &Rc<Session>) -> Self {
        session.open.set(session.open.get() + 1);
        Self(Rc::clone(session))
    }

    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.0.sender.clone()
    }

    /// Nothing more is to be begun on it.
    pub(super) fn retire(&self) {
        self.0.ended.set(true);
    }

    /// The connection has ended, and nobody else was on it then.
    pub(super) fn was_alone(&self) -> bool {
        self.0.ended_alone.get()
    }

    /// Waits for the end of a stream whose answer is whole, or resets it if the worker is still sent something.
    pub(super) fn see_off(mut open: Open) {
        let exchange = &open.exchange;
        let Some(ending) = exchange.place().0.ending.upgrade() else {
            return;
        };
        let until = Instant::now().checked_add(exchange.limits.body_idle);
        if let Some(until) = until.filter(|_| exchange.is_sent())
            && !open.has_ended()
        {
            ending.borrow_mut().push((until, open));
        }
    }

    /// Its stream is reset, by us; later, if it began a moment ago and may be `unseen`.
    pub(super) fn reset(&self, unseen: Option<(Instant, SendStream<Bytes>)>) {
        if let Some((begun, stream)) = unseen
            && begun.elapsed() < SEEN
            && let Some(leaving) = self.0.leaving.upgrade()
        {
            leaving
                .borrow_mut()
                .push((begun, stream, Self::new(&self.0)));
        }
        let resets = self.0.resets.get() + 1;
        self.0.resets.set(resets);
        if resets >= RESETS {
            self.retire();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.idle_since.set(Instant::now());
    }
}

/// Ends an opening, however it ends.
struct InProgress<'a> {
    sessions: &'a Sessions,
    worker: WorkerId,
    opening: Rc<Opening>,
}

impl<'a> InProgress<'a> {
    fn new(sessions: &'a Sessions, worker: WorkerId) -> Self {
        let opening = Rc::<Opening>::default();
        let mut all = sessions.opening.borrow_mut();
        all.insert(worker, Rc::clone(&opening));
        Self {
            sessions,
            worker,
            opening,
        }
    }
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.sessions.opening.borrow_mut().remove(&self.worker);
        self.opening.over.notify_waiters();
    }
}

impl Session {
    fn has_room(&self) -> bool {
        let open = self.open.get();
        !self.ended.get()
            && open + self.resets.get() < RESETS_AND_OPEN
            && open < self.sender.current_max_send_streams()
    }
}

impl Session {
    /// One request waits on it; those that were given up do not.
    fn is_awaited_by_one(self: &Rc<Self>) -> bool {
        let given_up = self.leaving.upgrade().map_or(0, |leaving| {
            let leaving = leaving.borrow();
            let here = leaving
                .iter()
                .filter(|(.., place)| Rc::ptr_eq(&place.0, self));
            here.count()
        });
        let answered = self.ending.upgrade().map_or(0, |ending| {
            let ending = ending.borrow();
            ending.iter().filter(|(_, open)| self.has(open)).count()
        });
        self.open.get() == given_up + answered + 1
    }

    fn has(self: &Rc<Self>, open: &Open) -> bool {
        Rc::ptr_eq(&open.exchange.place().0, self)
    }

    /// Lets go of the streams whose answer is whole and that have ended now.
    fn let_end(self: &Rc<Self>) {
        let Some(ending) = self.ending.upgrade() else {
            return;
        };
        let is_over = |(_, open): &mut (_, Open)| self.has(open) && open.has_ended();
        let over: Vec<_> = ending.borrow_mut().extract_if(.., is_over).collect();
        drop(over);
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("open", &self.open.get())
            .field("resets", &self.resets.get())
            .field("ended", &self.ended.get())
            .finish_non_exhaustive()
    }
}

impl Sessions {
    /// A place on a connection that stands.
    pub(super) fn take(&self, worker: WorkerId) -> Option<Place> {
        let of = self.of.borrow();
        let mut all = of.get(&worker)?.iter();
        Some(Place::new(all.find(|session| session.has_room())?))
    }

    /// A place on a connection that stands, or on one that is made by `connect`; who comes meanwhile waits for
    /// it, too.
    ///
    /// # Errors
    /// That of the connection waited for.
    pub(super) async fn place(
        &self,
        worker: WorkerId,
        connect: impl Future<Output = io::Result<Connection>>,
    ) -> io::Result<Place> {
        loop {
            if let Some(place) = self.take(worker) {
                return Ok(place);
            }
            let known = self.opening.borrow().get(&worker).map(Rc::clone);
            let Some(opening) = known else {
                break;
            };
            opening.over.notified().await;
            if let Some(kind) = opening.failed.get() {
                return Err(kind.into());
            }
        }
        let opening = InProgress::new(self, worker);
        let opened = match connect.await {
            Ok(connection) => self.open(worker, connection).await,
            Err(error) => Err(error),
        };
        let failed = opened.as_ref().err().map(io::Error::kind);
        opening.opening.failed.set(failed);
        opened
    }

    /// A place on a new connection, which others may use, too.
    ///
    /// # Errors
    /// The worker's: it does not speak HTTP/2.
    pub(super) async fn open(&self, worker: WorkerId, connection: Connection) -> io::Result<Place> {
        let handshake = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEAD)
            // Until the worker has said how many it takes.
            .initial_max_send_streams(0)
            .enable_push(false)
            .handshake(Wire::new(connection.socket));
        let (sender, connection) = handshake.await.map_err(io::Error::other)?;
        let session = Rc::new(Session {
            sender,
            open: Cell::new(0),
            resets: Cell::new(0),
            leaving: Rc::downgrade(&self.leaving),
            ending: Rc::downgrade(&self.ending),
            ended: Cell::new(false),
            broke: Cell::new(None),
            ended_alone: Cell::new(false),
            idle_since: Cell::new(Instant::now()),
        });
        let place = Place::new(&session);
        let weak = Rc::downgrade(&session);
        let known = Weak::clone(&weak);
        let settled = Rc::new(Notify::new());
        let mut settles = Some(Rc::clone(&settled));
        let mut connection = Box::pin(connection);
        let driving = poll_fn(move |cx| {
            let driven = connection.as_mut().poll(cx);
            let takes = connection.max_concurrent_send_streams() > 0;
            if (takes || driven.is_ready())
                && let Some(settles) = settles.take()
            {
                settles.notify_one();
            }
            // What came for them was told to nobody.
            if let Some(session) = known.upgrade() {
                session.let_end();
            }
            driven
        });
        tokio::task::spawn_local(async move {
            let driven = driving.await;
            let session = weak.upgrade();
            if let Some(session) = &session {
                session.ended.set(true);
                session.ended_alone.set(session.is_awaited_by_one());
            }
            let Err(error) = driven else {
                return;
            };
            tracing::debug!(worker = worker.0, %error, "a connection to a worker broke off");
            if let Some(session) = session {
                session.broke.set(Some(match error.is_io() {
                    true => io::ErrorKind::ConnectionReset,
                    false => io::ErrorKind::InvalidData,
                }));
            }
        });
        settled.notified().await;
        if session.ended.get() {
            let kind = session.broke.get();
            return Err(kind.unwrap_or(io::ErrorKind::ConnectionReset).into());
        }
        self.of
            .borrow_mut()
            .entry(worker)
            .or_default()
            .push(session);
        Ok(place)
    }

    /// Begins nothing more on a worker's connections; each ends with its last request.
    pub(in crate::proxy::upstream) fn close(&self, worker: WorkerId) {
        self.of.borrow_mut().remove(&worker);
    }

    /// Resets the streams that were given up, and may have been seen by now; and those that do not end.
    pub(in crate::proxy::upstream) fn let_go(&self) {
        let mut leaving = self.leaving.borrow_mut();
        leaving.retain(|(begun, ..)| begun.elapsed() < SEEN);
        let now = Instant::now();
        let is_late = |(until, _): &mut (Instant, _)| *until <= now;
        let late: Vec<_> = self.ending.borrow_mut().extract_if(.., is_late).collect();
        drop(late);
    }

    /// Lets go of what has ended or was long without a request.
    pub(in crate::proxy::upstream) fn sweep(&self) {
        let now = Instant::now();
        self.of.borrow_mut().retain(|_, all| {
            all.retain(|session| {
                let idle = session.open.get() == 0 && now >= session.idle_since.get() + IDLE;
                !session.ended.get() && !idle
            });
            !all.is_empty()
        });
    }

    /// Connections without a request.
    pub(in crate::proxy::upstream) fn idle(&self, worker: WorkerId) -> usize {
        let of = self.of.borrow();
        let all = of.get(&worker).map_or(&[][..], Vec::as_slice);
        let idle = |session: &&Rc<Session>| session.open.get() == 0;
        all.iter().filter(idle).count()
    }
}
