//! The load: an open loop, so many requests a second whatever becomes of them, plus streams and
//! WebSockets that are always there. Nothing is ever tried twice: what fails is counted.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::tally::{Kind, Shot, Tally};
use super::websocket;
use super::worker::{RELEASE_HEADER, STREAM_END};

/// Requests a second.
pub(super) const RATE: u32 = 200;
/// Streams that are open at any time.
const STREAMS: u64 = 2;
/// Longer than anything here takes; what is not answered by then has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Messages over one WebSocket, and the time between them: 4 s in all.
const MESSAGES: u32 = 8;
const PAUSE: Duration = Duration::from_millis(500);

type Sender = SendRequest<Full<Bytes>>;
type Ended = Result<String, String>;

/// A load that runs until it is stopped.
#[derive(Debug)]
pub(super) struct Load {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    began: Instant,
    tally: Mutex<Tally>,
    idle: Mutex<Vec<Sender>>,
}

impl Load {
    /// Begins to ask this address.
    pub(super) fn start(target: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            target,
            began: Instant::now(),
            tally: Mutex::default(),
            idle: Mutex::default(),
        });
        let stop = watch::Sender::new(false);
        tokio::spawn(pace(Arc::clone(&shared), stop.subscribe()));
        for _ in 0..STREAMS {
            tokio::spawn(again(Arc::clone(&shared), Kind::Stream, stop.subscribe()));
        }
        tokio::spawn(again(Arc::clone(&shared), Kind::Tunnel, stop.subscribe()));
        Self { shared, stop }
    }

    /// How long it has run.
    pub(super) fn elapsed(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// What became of it so far.
    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.shared.tally()
    }

    /// Asks for nothing new and waits for what is in flight.
    pub(super) async fn stop(&self) {
        self.stop.send_replace(true);
        let give_up = Instant::now() + PATIENCE;
        while self.tally().in_flight() > 0 && Instant::now() < give_up {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        // Each change of a tally is complete or not begun, so a panic elsewhere left it whole.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Sender>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends each request when it is due, however the ones before fare.
async fn pace(shared: Arc<Shared>, stop: watch::Receiver<bool>) {
    let gap = Duration::from_secs(1) / RATE;
    let mut number = 0;
    while !*stop.borrow() {
        let due = shared.began + gap * number;
        tokio::time::sleep_until(due).await;
        let kind = match number {
            n if n % 50 == 7 => Kind::Slow,
            n if n % 10 == 3 => Kind::Echo,
            _ => Kind::Fast,
        };
        tokio::spawn(shoot(Arc::clone(&shared), kind, due, number));
        number += 1;
    }
}

/// Opens the next long one when the one before has ended.
async fn again(shared: Arc<Shared>, kind: Kind, stop: watch::Receiver<bool>) {
    let mut number = 0;
    while !*stop.borrow() {
        shoot(Arc::clone(&shared), kind, Instant::now(), number).await;
        number += 1;
        // Keeps a target that refuses everything from being asked without a pause.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn shoot(shared: Arc<Shared>, kind: Kind, due: Instant, number: u32) {
    shared.tally().begin();
    let work = async {
        match kind {
            Kind::Fast | Kind::Echo | Kind::Slow => exchange(&shared, kind, number).await,
            Kind::Stream => stream(&shared).await,
            Kind::Tunnel => tunnel(&shared).await,
        }
    };
    let end = tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err("no end within 20 s".to_owned()));
    let shot = Shot {
        kind,
        due: due - shared.began,
        took: due.elapsed(),
        end: end.map_err(|fault| format!("{kind:?}: {fault}")),
    };
    shared.tally().end(shot);
}

async fn exchange(shared: &Shared, kind: Kind, number: u32) -> Ended {
    // Some clients never reuse a connection.
    let once = number.is_multiple_of(25);
    let idle = if once { None } else { take_idle(shared) };
    let mut sender = match idle {
        Some(sender) => sender,
        None => connect(shared.target).await?,
    };
    let words = format!("request {number} of the demo, which must come back as it was\n");
    let (method, path, body) = match kind {
        Kind::Echo => ("POST", "/echo", Bytes::from(words.clone())),
        Kind::Slow => ("GET", "/slow", Bytes::new()),
        Kind::Fast | Kind::Stream | Kind::Tunnel => ("GET", "/", Bytes::new()),
    };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("Host", "demo.example");
    if once {
        request = request.header("Connection", "close");
    }
    let request = request.body(Full::new(body)).map_err(told)?;
    let response = sender.send_request(request).await.map_err(told)?;
    let release = answered_by(&response, StatusCode::OK)?;
    let body = response.into_body().collect().await.map_err(told)?;
    let body = body.to_bytes();
    let expected = match kind {
        Kind::Echo => words,
        Kind::Fast | Kind::Slow | Kind::Stream | Kind::Tunnel => format!("{release}\n"),
    };
    if body != expected.as_bytes() {
        return Err(format!("another body than expected, {} bytes", body.len()));
    }
    if !once && sender.ready().await.is_ok() {
        shared.idle().push(sender);
    }
    Ok(release)
}

/// The connection that was used last and still stands.
fn take_idle(shared: &Shared) -> Option<Sender> {
    let mut idle = shared.idle();
    idle.retain(|sender| !sender.is_closed());
    idle.pop()
}

async fn stream(shared: &Shared) -> Ended {
    let mut sender = connect(shared.target).await?;
    let request = Request::builder()
        .uri("/events")
        .header("Host", "demo.example")
        .body(Full::default())
        .map_err(told)?;
    let response = sender.send_request(request).await.map_err(told)?;
    let release = answered_by(&response, StatusCode::OK)?;
    let body = response.into_body().collect().await.map_err(told)?;
    if body.to_bytes().ends_with(STREAM_END.as_bytes()) {
        return Ok(release);
    }
    Err("cut before its last event".to_owned())
}

async fn tunnel(shared: &Shared) -> Ended {
    let mut sender = connect(shared.target).await?;
    let request = Request::builder()
        .uri("/ws")
        .header("Host", "demo.example")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", websocket::KEY)
        .body(Full::default())
        .map_err(told)?;
    let response = sender.send_request(request).await.map_err(told)?;
    let release = answered_by(&response, StatusCode::SWITCHING_PROTOCOLS)?;
    let accept = response.headers().get("sec-websocket-accept");
    if accept.is_none_or(|accept| accept != websocket::ACCEPT) {
        return Err("another handshake's answer".to_owned());
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(told)?;
    let mut socket = TokioIo::new(upgraded);
    for number in 0..=MESSAGES {
        let last = number == MESSAGES;
        let opcode = if last {
            websocket::CLOSE
        } else {
            websocket::TEXT
        };
        let words = format!("{number}");
        let frame = websocket::frame(opcode, words.as_bytes(), true).map_err(told)?;
        socket.write_all(&frame).await.map_err(told)?;
        let came = websocket::read(&mut socket).await.map_err(told)?;
        if came != (opcode, words.into_bytes()) {
            return Err("another message than was sent".to_owned());
        }
        if !last {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(release)
}

async fn connect(target: SocketAddr) -> Result<Sender, String> {
    let stream = TcpStream::connect(target).await.map_err(told)?;
    stream.set_nodelay(true).map_err(told)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(told)?;
    // Its error reaches us through the sender.
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}

fn answered_by<B>(response: &Response<B>, wanted: StatusCode) -> Ended {
    if response.status() != wanted {
        return Err(format!("status {}", response.status()));
    }
    let release = response.headers().get(RELEASE_HEADER);
    let release = release.and_then(|release| release.to_str().ok());
    release
        .map(str::to_owned)
        .ok_or_else(|| "an answer that no worker wrote".to_owned())
}

/// The error with what caused it: hyper's own words alone say little.
fn told(error: impl std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Load;

    #[tokio::test]
    async fn a_target_that_refuses_fails_every_request() {
        let refused = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port")
            .local_addr()
            .expect("bound");
        let load = Load::start(refused);
        while load.tally().between(Duration::ZERO, Duration::MAX).requests < 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        load.stop().await;
        let numbers = load.tally().between(Duration::ZERO, Duration::MAX);
        assert_eq!(numbers.failed, numbers.requests);
        assert!(numbers.first_fault.is_some());
    }
}
