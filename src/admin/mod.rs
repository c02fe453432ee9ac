//! The admin API and the status page: what people and programs see of the supervisor and order from it.
//!
//! It owns the connections on the admin unix socket, the loopback TCP listener and the metrics listener.
//! The supervisor starts it with [`serve`] and gives it a [`Handle`]; nothing here reaches the control
//! loop but by a question on that handle. It must never decide anything about rollouts, hold the loop
//! up, or let one slow client keep another out: connections, heads, bodies, streams and stalled writes
//! all have limits.
//!
//! Who may do what:
//!
//! | way in | may |
//! |---|---|
//! | unix socket, our uid or root | everything |
//! | loopback TCP without a token | page, health, metrics, status, rollouts, events, OpenAPI |
//! | loopback TCP with the token | everything |
//! | metrics listener | `/metrics`, `/healthz`, `/readyz` |

mod accept;
mod app;
mod body;
mod caller;
mod events;
mod failure;
mod guard;
mod health;
mod idempotency;
mod logs;
mod openapi;
mod page;
mod rollouts;
mod routes;
mod services;
mod token;

use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::supervisor::handle::Handle;

use self::accept::Entrance;
pub(crate) use self::accept::may_enter;
use self::app::App;
pub use self::token::Token;

/// Bound listeners, owned by the admin side from here on.
#[derive(Debug)]
pub struct Listeners {
    /// The unix socket. Its directory and mode are the binder's concern, who connects is ours.
    pub unix: UnixListener,
    /// Loopback TCP, unless switched off.
    pub tcp: Option<TcpListener>,
    /// Metrics and health for others.
    pub metrics: Option<TcpListener>,
}

/// Where the unix socket of a running admin side is changed: its path may be made anew.
#[derive(Debug, Clone)]
pub struct Door(watch::Sender<Arc<UnixListener>>);

impl Door {
    pub(crate) fn new(unix: UnixListener) -> (Self, watch::Receiver<Arc<UnixListener>>) {
        let (door, listener) = watch::channel(Arc::new(unix));
        (Self(door), listener)
    }

    /// New connections come in here from now on; those that stand go on.
    pub fn move_to(&self, unix: UnixListener) {
        self.0.send_replace(Arc::new(unix));
    }
}

/// The running admin side. Dropping it ends everything at once; [`Running::stop`] is the polite way.
#[derive(Debug)]
pub struct Running {
    stopping: watch::Sender<bool>,
    tasks: JoinSet<()>,
    door: Door,
}

impl Running {
    /// Its unix socket.
    #[must_use]
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// Stops accepting, ends event streams and idle connections, and waits until requests under way
    /// are answered, for a second at most.
    pub async fn stop(mut self) {
        self.stopping.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Starts to serve, on the tokio runtime this is called on.
#[must_use]
pub fn serve(listeners: Listeners, handle: Handle, token: Token) -> Running {
    let Listeners { unix, tcp, metrics } = listeners;
    let (stopping, stop) = watch::channel(false);
    let app = Arc::new(App::new(handle, token, stop.clone()));
    let full = routes::full(Arc::clone(&app));
    let mut tasks = JoinSet::new();
    let (door, unix) = Door::new(unix);
    tasks.spawn(accept::run(
        Entrance::Unix(unix),
        full.clone(),
        stop.clone(),
    ));
    if let Some(tcp) = tcp {
        tasks.spawn(accept::run(Entrance::Tcp(tcp), full, stop.clone()));
    }
    if let Some(metrics) = metrics {
        let few = routes::metrics_only(app);
        tasks.spawn(accept::run(Entrance::Metrics(metrics), few, stop));
    }
    Running {
        stopping,
        tasks,
        door,
    }
}
