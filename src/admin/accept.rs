//! The accept loops: who may connect, how many, and for how long they may stall.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Sleep;

use super::app::stopped;
use super::caller::Caller;

/// Connections at once on the unix socket, on TCP and on the metrics listener: 256 in all. Each listener
/// has its own, so that nobody on one keeps another's clients out; streams (64) leave room on each.
const UNIX: usize = 96;
const TCP: usize = 96;
const METRICS: usize = 64;
/// For a head to be complete, and for the next one to come on an idle connection.
const HEAD: Duration = Duration::from_secs(10);
/// The same on TCP, where a stranger on this host may take every place with half-sent heads: so long he keeps
/// others out, and browsers and scrapers send theirs at once.
const TCP_HEAD: Duration = Duration::from_secs(2);
/// A client that takes not one byte for so long is gone or hostile.
const STALL: Duration = Duration::from_secs(30);
/// Heads are small here.
const BUFFER: usize = 16 << 10;
/// After a failed accept (no descriptor left, mostly): trying at once would only spin.
const BREATH: Duration = Duration::from_millis(100);
/// For requests under way when we stop.
const GRACE: Duration = Duration::from_secs(1);

/// A listener and what kind of caller comes through it.
#[derive(Debug)]
pub(super) enum Entrance {
    /// It may be replaced by another that is bound to the same path.
    Unix(watch::Receiver<Arc<UnixListener>>),
    Tcp(TcpListener),
    Metrics(TcpListener),
}

impl Entrance {
    fn places(&self) -> usize {
        match self {
            Self::Unix(_) => UNIX,
            Self::Tcp(_) => TCP,
            Self::Metrics(_) => METRICS,
        }
    }

    /// The next connection; `None` if its peer may not come in.
    async fn accept(&mut self) -> io::Result<Option<(Box<dyn Stream>, Caller)>> {
        match self {
            Self::Unix(door) => {
                let (stream, _) = loop {
                    let listener = Arc::clone(&door.borrow_and_update());
                    tokio::select! {
                        accepted = listener.accept() => break accepted?,
                        Ok(()) = door.changed() => {}
                    }
                };
                // The peer left already: nothing to serve.
                let Ok(peer) = stream.peer_cred() else {
                    return Ok(None);
                };
                if !may_enter(peer.uid(), nix::unistd::geteuid().as_raw()) {
                    return Ok(None);
                }
                let (uid, pid) = (peer.uid(), peer.pid());
                Ok(Some((Box::new(stream), Caller::Unix { uid, pid })))
            }
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Some((Box::new(stream), Caller::Tcp(peer))))
            }
            Self::Metrics(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Some((Box::new(stream), Caller::Metrics)))
            }
        }
    }
}

/// Whom an instance of this owner lets in by its socket: the owner, or root (T1). Others get no word.
pub(crate) fn may_enter(uid: u32, owner: u32) -> bool {
    uid == 0 || uid == owner
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Accepts until told to stop, then waits a little for what is under way.
pub(super) async fn run(mut entrance: Entrance, router: Router, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(entrance.places()));
    let mut connections = JoinSet::new();
    let told = stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = next(&mut entrance, &places) => accepted,
            Some(_) = connections.join_next() => continue,
            () = stopped(&mut stop) => break,
        };
        match accepted {
            Ok((Some((stream, caller)), place)) => {
                let connection = serve(stream, caller, router.clone(), told.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Ok((None, _)) => {}
            Err(_) => tokio::time::sleep(BREATH).await,
        }
    }
    drop(entrance);
    let rest = async { while connections.join_next().await.is_some() {} };
    // What is left is dropped with the set.
    let _ = tokio::time::timeout(GRACE, rest).await;
}

type Accepted = (
    Option<(Box<dyn Stream>, Caller)>,
    tokio::sync::OwnedSemaphorePermit,
);

/// A place first, then a connection: those beyond the limit wait in the kernel's queue.
async fn next(entrance: &mut Entrance, places: &Arc<Semaphore>) -> io::Result<Accepted> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    Ok((entrance.accept().await?, place))
}

async fn serve(
    stream: Box<dyn Stream>,
    caller: Caller,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let router = TowerToHyperService::new(router);
    let head = match caller {
        Caller::Unix { .. } => HEAD,
        Caller::Tcp(_) | Caller::Metrics => TCP_HEAD,
    };
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(caller);
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Impatient::new(stream)), service);
    let mut connection = std::pin::pin!(connection);
    // A broken connection is its client's business: nothing to do about either outcome.
    let _ = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}

/// A stream whose writes fail when the other side takes nothing for too long.
struct Impatient {
    stream: Box<dyn Stream>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    fn new(stream: Box<dyn Stream>) -> Self {
        let stalled = None;
        Self { stream, stalled }
    }

    fn watched<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut dyn Stream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(done) = write(Pin::new(&mut *self.stream), cx) {
            self.stalled = None;
            return Poll::Ready(done);
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.watched(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watched(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watched(cx, |stream, cx| stream.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::may_enter;

    #[test]
    fn t1_only_our_own_user_and_root_may_enter() {
        let own = nix::unistd::geteuid().as_raw();
        assert!(may_enter(own, own));
        assert!(may_enter(0, own));
        for other in [own + 1, 65_534, u32::MAX] {
            assert!(!may_enter(other, own), "{other}");
        }
    }
}
