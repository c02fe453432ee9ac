//! The sample app: `remuda demo-worker`, an HTTP server as anybody might have written one.
//!
//! It listens on the unix socket that its argument names, or else on the port in `PORT`, takes its
//! release from the file `release` in its working directory, needs a second to start, and has no shutdown
//! code at all: SIGTERM ends it on the spot. Every answer names its release. It must never know that it
//! is restarted.

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use super::websocket;

/// The file in the working directory that names the release.
pub(super) const RELEASE_FILE: &str = "release";
/// The release whose database is gone: it never listens.
pub(super) const BROKEN: &str = "v3";
/// The header that names the release in every answer.
pub(super) const RELEASE_HEADER: &str = "demo-release";
/// The last event of a stream that ended by itself.
pub(super) const STREAM_END: &str = "event: end\ndata: bye\n\n";

/// What a real app does before it listens.
const START: Duration = Duration::from_secs(1);
/// What a slow answer takes.
const SLOW: Duration = Duration::from_secs(3);
/// Events of a stream, and the time between them: 4 s in all.
const TICKS: u32 = 16;
const TICK: Duration = Duration::from_millis(250);

type Body = BoxBody<Bytes, hyper::Error>;

/// Runs the sample app until it is killed.
#[must_use]
pub fn run() -> ExitCode {
    let release = std::fs::read_to_string(RELEASE_FILE)
        .map_or_else(|_| "v1".to_owned(), |text| text.trim().to_owned());
    match serve(&release) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{release}: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn serve(release: &str) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        say(&format!("{release}: starting"));
        tokio::time::sleep(START).await;
        if release == BROKEN {
            say("cannot open database");
            return std::future::pending().await;
        }
        if let Some(path) = std::env::args_os().nth(2) {
            let listener = UnixListener::bind(&path)?;
            say(&format!("{release}: listening on {}", path.display()));
            loop {
                serve_one(listener.accept().await?.0, release);
            }
        }
        let port = std::env::var("PORT")
            .ok()
            .and_then(|port| port.parse().ok());
        let port = port.ok_or_else(|| io::Error::other("`PORT` names no port"))?;
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        say(&format!("{release}: listening on port {port}"));
        loop {
            serve_one(listener.accept().await?.0, release);
        }
    })
}

/// Answers one connection until it ends, in the background.
pub(super) fn serve_one<S>(stream: S, release: &str)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let release = release.to_owned();
    let service = service_fn(move |request| answer(request, release.clone()));
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // A connection that breaks is its client's affair.
    tokio::spawn(connection);
}

async fn answer(request: Request<Incoming>, release: String) -> Result<Response<Body>, Infallible> {
    let mut response = match (request.method(), request.uri().path()) {
        (&Method::GET, "/" | "/healthz") => text(StatusCode::OK, format!("{release}\n")),
        (&Method::GET, "/slow") => {
            tokio::time::sleep(SLOW).await;
            text(StatusCode::OK, format!("{release}\n"))
        }
        (&Method::POST, "/echo") => Response::new(request.into_body().boxed()),
        (&Method::GET, "/events") => events(),
        (&Method::GET, "/ws") => websocket::accept(request).unwrap_or_else(|| {
            text(
                StatusCode::BAD_REQUEST,
                "not a WebSocket handshake\n".to_owned(),
            )
        }),
        _ => text(StatusCode::NOT_FOUND, "there is nothing here\n".to_owned()),
    };
    if let Ok(value) = release.parse() {
        response.headers_mut().insert(RELEASE_HEADER, value);
    }
    Ok(response)
}

/// A stream of events that ends by itself.
fn events() -> Response<Body> {
    let ticks = stream::unfold(0, |tick| async move {
        if tick > TICKS {
            return None;
        }
        tokio::time::sleep(TICK).await;
        let event = if tick == TICKS {
            STREAM_END.to_owned()
        } else {
            format!("data: {tick}\n\n")
        };
        Some((Ok(Frame::data(Bytes::from(event))), tick + 1))
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(ticks)));
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/event-stream"),
    );
    response
}

/// A short answer.
fn text(status: StatusCode, words: String) -> Response<Body> {
    let body = Full::new(Bytes::from(words));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    text(status, String::new())
}

fn say(line: &str) {
    // The app goes on when nobody listens.
    let _ = writeln!(io::stderr().lock(), "{line}");
}
