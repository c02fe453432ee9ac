//! Connections that wait for their next request, of one event loop.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connection;
use super::h2c::Sessions;
use crate::proxy::h1::Buffers;
use crate::rollout::WorkerId;

/// Unused connections kept per worker and loop. More only wait for a burst of that size to come again
/// within the idle limit, and each costs the worker a descriptor, and many a whole thread.
const MAX_IDLE: usize = 256;

/// Closed workers remembered. Numbers only grow, so the oldest ones are forgotten first; by the time a
/// thousand others were retired, nothing of theirs can still be in flight.
const MAX_CLOSED: usize = 1024;

/// How long a connection is left alone whose worker may have answered without reading the request's body. If
/// it has, and closes now, the reset comes within a round trip, and takes with it what was sent meanwhile.
const REST: Duration = Duration::from_millis(50);

/// Connections that wait for their next request, of one event loop, by worker; newest used first.
#[derive(Debug, Default)]
pub struct Pool {
    pub(in crate::proxy) buffers: Buffers,
    pub(super) sessions: Sessions,
    inner: RefCell<Inner>,
    /// When it was last asked for a connection, or swept: what comes back then is no younger.
    looked: Cell<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Inner {
    workers: std::collections::HashMap<WorkerId, Vec<Idle>, foldhash::fast::RandomState>,
    closed: BTreeSet<WorkerId>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    until: Instant,
    rests: Option<Instant>,
}

impl Idle {
    /// Whether it may be asked.
    fn is_rested(&self, now: Instant) -> bool {
        self.rests.is_none_or(|until| until <= now)
    }
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::new(Self::default())
    }

    /// The newest one that is not known to be closed, has no unasked byte waiting and is not over its
    /// idle limit. Costs no system call when nothing has happened on it. `now` may be some moments old.
    #[must_use]
    pub fn take(&self, worker: WorkerId, now: Instant) -> Option<Connection> {
        self.looked.set(Some(now));
        let mut inner = self.inner.borrow_mut();
        let idle = inner.workers.get_mut(&worker)?;
        while let Some(at) = idle.iter().rposition(|one| one.is_rested(now)) {
            let newest = idle.remove(at);
            if now < newest.until && newest.connection.socket.is_quiet() {
                return Some(newest.connection);
            }
        }
        None
    }

    /// Closes all of a worker's connections, and those that would come back later.
    pub fn close(&self, worker: WorkerId) {
        self.sessions.close(worker);
        let mut inner = self.inner.borrow_mut();
        inner.workers.remove(&worker);
        inner.closed.insert(worker);
        if inner.closed.len() > MAX_CLOSED {
            inner.closed.pop_first();
        }
    }

    /// Resets what was given up a moment ago; call it at every turn.
    pub fn let_go(&self) {
        self.sessions.let_go();
    }

    /// Closes what is over its idle limit; call it every few hundred milliseconds.
    pub fn sweep(&self) {
        self.sessions.sweep();
        let now = Instant::now();
        self.looked.set(Some(now));
        self.inner.borrow_mut().workers.retain(|_, idle| {
            idle.retain(|one| now < one.until && one.connection.socket.is_quiet());
            !idle.is_empty()
        });
    }

    /// Unused connections of a worker.
    #[must_use]
    pub fn idle(&self, worker: WorkerId) -> u32 {
        let inner = self.inner.borrow();
        let count = inner.workers.get(&worker).map_or(0, Vec::len);
        let count = count + self.sessions.idle(worker);
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Takes a connection back, unless its worker was closed or has enough of them. One on which something
    /// may be unread serves again only after a while.
    pub(super) fn put(
        &self,
        worker: WorkerId,
        mut connection: Connection,
        limit: Duration,
        unread: bool,
    ) {
        let rests = unread.then(|| Instant::now() + REST);
        // A little too early at most, as sweeps are frequent: one look at the clock less for each request.
        let now = self.looked.get().unwrap_or_else(Instant::now);
        let Some(until) = now.checked_add(limit) else {
            return;
        };
        connection.reused = true;
        let mut inner = self.inner.borrow_mut();
        if !inner.workers.contains_key(&worker) && inner.closed.contains(&worker) {
            return;
        }
        let idle = inner.workers.entry(worker).or_default();
        if idle.len() < MAX_IDLE {
            idle.push(Idle {
                connection,
                until,
                rests,
            });
        }
    }
}
