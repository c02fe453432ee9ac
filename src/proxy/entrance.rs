//! From accept to the first byte of HTTP: who the client is, TLS, and which HTTP it speaks.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

use super::accept::Accepted;
use super::client::Way;
use super::event_loop::Loop;
use super::front::Inlet;
use super::linger::linger;
use super::socket::{Peer, Socket};
use super::tls;
use crate::link::message::{AcceptError, Entrance, Limit};

/// A balancer or client that is not through by then, after the last accept, is not waited for.
const LATE: Duration = Duration::from_secs(1);
/// What a client reads that speaks HTTP where TLS is spoken.
const NEEDS_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain; charset=utf-8\r\nconnection: close\r\ncontent-length: 51\r\n\
    proxy-status: remuda; error=http_request_error\r\n\r\n\
    400 Bad Request\nthis port speaks TLS: use https://\n";

/// A client that may begin.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) way: Way,
    pub(super) entrance: Entrance,
    pub(super) speaks: Speaks,
}

/// What it speaks.
#[derive(Debug)]
pub(super) enum Speaks {
    /// HTTP/1.1, unless it begins with the preface of HTTP/2.
    Http1(Rc<Inlet>),
    /// HTTP/2, agreed on by TLS.
    Http2(Socket),
}

/// Lets one in by the listener at `place`, or not.
pub(super) async fn enter(lp: &Rc<Loop>, place: usize, accepted: Accepted) -> Option<Entered> {
    let Accepted { socket, peer } = accepted;
    let entrance = lp.table().front.entrances.get(place).copied();
    let mut entrance = entrance.unwrap_or_default();
    let mut way = Way {
        peer,
        fd: socket.as_raw_fd(),
        tls: None,
        tls_before: false,
        redirect: entrance.redirect,
    };
    let inlet = Inlet::new(socket, Rc::clone(&lp.pool));
    if entrance.proxy_protocol {
        let introduced = introduced(lp, way.peer, &inlet);
        let introduced = in_time(lp, way.peer, AcceptError::ProxyProtocol, introduced);
        let Introduced { client, tls } = Box::pin(introduced).await??;
        way.peer = client;
        way.tls_before = tls;
        // It is where it would be sent.
        way.redirect = way.redirect.filter(|_| !tls);
    }
    if !entrance.tls {
        let speaks = Speaks::Http1(inlet);
        return Some(Entered {
            way,
            entrance,
            speaks,
        });
    }
    let greeting = async {
        let first = poll_fn(|cx| inlet.poll_first(cx)).await;
        let socket = inlet.take_socket();
        let (Some(first), Some((mut socket, came))) = (first, socket) else {
            return Ok(None);
        };
        // A method; a handshake begins with 22.
        if first.is_ascii_uppercase() {
            let _ = socket.write_all(NEEDS_TLS).await;
            linger(&mut socket).await;
            return Err("HTTP without TLS".to_owned());
        }
        let greeting = lp.greeting(place).ok_or("no certificate")?;
        match tls::accept(Arc::clone(&greeting.config), socket, came).await {
            Ok(stream) => Ok(Some((tls::Known::of(&stream, &greeting), stream))),
            // One that only asks whether somebody listens.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    };
    // Boxed, as what comes before: it is large, and over before the first request.
    let greeted = Box::pin(in_time(lp, way.peer, AcceptError::Tls, greeting));
    let (known, stream) = greeted.await??;
    way.tls = Some(Rc::new(known));
    let agreed = stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2);
    let socket = Socket::Tls(Box::new(stream));
    // By TLS it must be agreed on (RFC 9113 §3.2).
    entrance.http2 = false;
    let speaks = match agreed {
        true => Speaks::Http2(socket),
        false => Speaks::Http1(Inlet::new(socket, Rc::clone(&lp.pool))),
    };
    Some(Entered {
        way,
        entrance,
        speaks,
    })
}

/// What must be done before the first request; `None` ends the connection: what came instead may be
/// anything.
async fn in_time<T>(
    lp: &Loop,
    peer: Peer,
    failure: AcceptError,
    step: impl Future<Output = Result<T, String>>,
) -> Option<T> {
    let limit = lp.table().front.header_timeout;
    let leaving = async {
        lp.until_accepting_stops().await;
        sleep(LATE).await;
    };
    let done = tokio::select! {
        biased;
        done = timeout(limit, step) => done.unwrap_or_else(|_| {
            lp.counters.reached(Limit::HeaderTime);
            Err("it took too long".to_owned())
        }),
        () = leaving => return None,
    };
    match done {
        Ok(done) => Some(done),
        Err(why) => {
            tracing::debug!(%peer, why, "closed before a request");
            lp.counters.accept_failed(failure);
            None
        }
    }
}

/// A client, as whoever may say it says.
struct Introduced {
    client: Peer,
    /// It came by TLS to the balancer that says so.
    tls: bool,
}

/// Who the client is: the peer, or whom it names if it is a balancer that must say so. `None` if it leaves
/// without a byte, as one does that only asks whether somebody listens.
async fn introduced(lp: &Loop, peer: Peer, inlet: &Inlet) -> Result<Option<Introduced>, String> {
    let is_believed = {
        let table = lp.table();
        // Who reaches a unix socket was let in by its directory, and whoever wants its header there means it:
        // whether its other words are believed is another question.
        peer.ip().is_none_or(|ip| table.front.trusts(ip))
    };
    if !is_believed {
        let (client, tls) = (peer, false);
        return Ok(Some(Introduced { client, tls }));
    }
    let header = poll_fn(|cx| inlet.poll_introduction(cx)).await?;
    Ok(header.map(|header| Introduced {
        client: header.client.map_or(peer, Peer::Tcp),
        tls: header.tls,
    }))
}
