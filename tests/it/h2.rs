//! Clients of HTTP/2: one by the `h2` crate, and raw frames where that refuses to misbehave.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::plane::{PATIENCE, connect};

/// A connection by the `h2` crate, kept going by a thread of its own.
pub(crate) struct Session {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
    ended: mpsc::Receiver<Result<(), h2::Error>>,
}

/// What a stream brought.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        Some(self.fields.get(name)?.to_str().expect("text"))
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime")
}

impl Session {
    /// By prior knowledge.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::with(address, Builder::new())
    }

    /// The same, with settings of the test's own.
    pub(crate) fn with(address: SocketAddr, settings: Builder) -> Self {
        Self::start(settings, None, connect(address))
    }

    /// By TLS, to a server of this name.
    pub(crate) fn secure(address: SocketAddr, config: Arc<ClientConfig>, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        Self::start(Builder::new(), Some((config, name)), connect(address))
    }

    fn start(
        settings: Builder,
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
        stream: TcpStream,
    ) -> Self {
        let (found, sender) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        std::thread::spawn(move || {
            runtime().block_on(async {
                stream.set_nonblocking(true).expect("non-blocking");
                let stream = tokio::net::TcpStream::from_std(stream).expect("stream");
                match tls {
                    None => drive(settings, stream, found, end).await,
                    Some((config, name)) => {
                        let connector = TlsConnector::from(config);
                        let stream = connector.connect(name, stream).await.expect("TLS");
                        let agreed = stream.get_ref().1.alpn_protocol();
                        assert_eq!(agreed, Some(&b"h2"[..]));
                        drive(settings, stream, found, end).await;
                    }
                }
            });
        });
        Self {
            runtime: runtime(),
            sender: sender.recv_timeout(PATIENCE).expect("a handshake"),
            ended,
        }
    }

    /// What it comes to, which is soon.
    pub(crate) fn block<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            let bounded = tokio::time::timeout(PATIENCE, future);
            bounded.await.expect("it comes in time")
        })
    }

    /// Begins a request; `ends` if it has no body.
    pub(crate) fn try_begin(
        &mut self,
        request: Request<()>,
        ends: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.sender = self.block(self.sender.clone().ready())?;
        self.sender.send_request(request, ends)
    }

    pub(crate) fn begin(
        &mut self,
        request: Request<()>,
        ends: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        self.try_begin(request, ends).expect("the connection lives")
    }

    /// A whole answer, or why there is none.
    pub(crate) fn answer(&self, response: ResponseFuture) -> Result<Answer, h2::Error> {
        self.block(whole(response))
    }

    /// One request without a body.
    pub(crate) fn ask(&mut self, request: Request<()>) -> Answer {
        let (response, _) = self.begin(request, true);
        self.answer(response).expect("an answer")
    }

    /// One request with a body, sent as the window lets it.
    pub(crate) fn post(
        &mut self,
        request: Request<()>,
        body: Bytes,
        trailers: Option<HeaderMap>,
    ) -> Result<Answer, h2::Error> {
        let (response, mut stream) = self.begin(request, false);
        self.block(async {
            send(&mut stream, body, trailers.is_none()).await;
            if let Some(trailers) = trailers {
                stream.send_trailers(trailers)?;
            }
            whole(response).await
        })
    }

    /// How the connection ended, which it does soon.
    pub(crate) fn ended(&self) -> Result<(), h2::Error> {
        self.ended.recv_timeout(PATIENCE).expect("it ends in time")
    }

    /// Whether it has.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.try_recv().is_ok()
    }
}

async fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    settings: Builder,
    stream: S,
    found: mpsc::Sender<SendRequest<Bytes>>,
    end: mpsc::Sender<Result<(), h2::Error>>,
) {
    let (sender, connection) = settings.handshake(stream).await.expect("handshake");
    let _ = found.send(sender);
    let _ = end.send(connection.await);
}

/// Sends all of a body, unless the other end does not want it.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, mut body: Bytes, ends: bool) {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let Some(Ok(room)) = room else { return };
        let part = body.split_to(room.min(body.len()));
        let last = ends && body.is_empty();
        if stream.send_data(part, last).is_err() {
            return;
        }
    }
}

/// A whole answer, its window opened as it comes.
pub(crate) async fn whole(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut stream) = response.await?.into_parts();
    let mut body = Vec::new();
    while let Some(data) = piece(&mut stream).await {
        body.extend_from_slice(&data?);
    }
    Ok(Answer {
        status: head.status.as_u16(),
        fields: head.headers,
        body,
        trailers: stream.trailers().await?,
    })
}

/// The next piece of a body.
pub(crate) async fn piece(stream: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let data = stream.data().await?;
    if let Ok(data) = &data {
        let _ = stream.flow_control().release_capacity(data.len());
    }
    Some(data)
}

/// A GET of this path at the host `a`.
pub(crate) fn get(path: &str) -> Request<()> {
    request("GET", path)
}

pub(crate) fn request(method: &str, path: &str) -> Request<()> {
    let builder = Request::builder().method(method);
    let builder = builder.uri(format!("http://a{path}"));
    builder.body(()).expect("a request")
}

// Frame types and flags (RFC 9113 §6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        Self {
            kind,
            flags,
            stream,
            payload: payload.to_vec(),
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("short");
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// A big-endian number in the payload.
    pub(crate) fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four"))
    }

    /// The status of an answer's head, if it is one of those that HPACK has a number for.
    pub(crate) fn status(&self) -> Option<u16> {
        let known = [200, 204, 206, 304, 400, 404, 500];
        let first = *self.payload.first()?;
        known.get(usize::from(first.checked_sub(0x88)?)).copied()
    }
}

/// A connection of bare frames.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    /// One that has sent its preface and settings.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let mut raw = Self::silent(address);
        raw.stream.write_all(PREFACE).expect("sent");
        raw.send(SETTINGS, 0, 0, &[]);
        raw
    }

    pub(crate) fn silent(address: SocketAddr) -> Self {
        Self {
            stream: connect(address),
            buffer: Vec::new(),
        }
    }

    /// The worker's end of one, which has read the preface and sent its settings.
    pub(crate) fn accepted(mut stream: TcpStream) -> io::Result<Self> {
        stream.read_exact(&mut [0; PREFACE.len()])?;
        let settings = Frame::new(SETTINGS, 0, 0, &[]);
        stream.write_all(&settings.bytes())?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let frame = Frame::new(kind, flags, stream, payload);
        self.stream.write_all(&frame.bytes()).expect("sent");
    }

    /// A GET of `/`, whole.
    pub(crate) fn get(&mut self, stream: u32) {
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &fields(&ROOT));
    }

    /// The next frame; `None` at the end, which a reset is too.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(head) = self.buffer.first_chunk::<9>() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let end = 9 + usize::try_from(length).expect("short");
                if self.buffer.len() >= end {
                    let frame: Vec<u8> = self.buffer.drain(..end).collect();
                    let stream = [frame[5], frame[6], frame[7], frame[8]];
                    let stream = u32::from_be_bytes(stream);
                    return Some(Frame::new(frame[3], frame[4], stream, &frame[9..]));
                }
            }
            let mut part = [0; 16 << 10];
            match self.stream.read(&mut part) {
                Ok(0) => return None,
                Ok(read) => self.buffer.extend_from_slice(&part[..read]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing to read: {error}"),
            }
        }
    }

    /// The next frame of this kind; those before are dropped.
    pub(crate) fn until(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().expect("the connection lives");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// The next frame of this stream.
    pub(crate) fn of(&mut self, stream: u32) -> Frame {
        loop {
            let frame = self.next().expect("the connection lives");
            if frame.stream == stream {
                return frame;
            }
        }
    }

    /// The reason the other end gave for ending the connection; it ends it, in any case.
    pub(crate) fn end(&mut self) -> Option<u32> {
        let mut reason = None;
        while let Some(frame) = self.next() {
            if frame.kind == GOAWAY {
                reason = Some(frame.number(4));
            }
        }
        reason
    }

    /// Sends what `make` makes, block by block, and reads what comes meanwhile, until the other end closes
    /// or takes nothing for a while, or there were so many blocks.
    pub(crate) fn flood(
        mut self,
        blocks: usize,
        mut make: impl FnMut(usize) -> Vec<u8>,
    ) -> Flooded {
        let patience = Duration::from_secs(2);
        self.stream.set_write_timeout(Some(patience)).expect("set");
        let mut reader = Self {
            stream: self.stream.try_clone().expect("a copy"),
            buffer: std::mem::take(&mut self.buffer),
        };
        let (over, is_over) = mpsc::channel();
        let reading = std::thread::spawn(move || {
            let reason = reader.end();
            let _ = over.send(());
            reason
        });
        let mut sent = 0;
        let mut outcome = Outcome::Endured;
        for block in 0..blocks {
            // Whoever has closed its own way may still throw away what comes by the other one.
            if is_over.try_recv().is_ok() {
                outcome = Outcome::Ended;
                break;
            }
            match self.stream.write_all(&make(block)) {
                Ok(()) => sent += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    outcome = Outcome::Held;
                    break;
                }
                Err(_) => {
                    outcome = Outcome::Ended;
                    break;
                }
            }
        }
        if outcome == Outcome::Endured && is_over.recv_timeout(patience).is_ok() {
            outcome = Outcome::Ended;
        }
        Flooded {
            raw: self,
            reading,
            sent,
            outcome,
        }
    }
}

/// How a flood was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it was taken.
    Endured,
    /// The other end took no more.
    Held,
    /// The other end closed.
    Ended,
}

/// A flood that is over.
pub(crate) struct Flooded {
    raw: Raw,
    reading: std::thread::JoinHandle<Option<u32>>,
    /// Blocks sent.
    pub(crate) sent: usize,
    pub(crate) outcome: Outcome,
}

impl Flooded {
    /// Leaves; the reason that the other end gave for its own end, if it gave one.
    pub(crate) fn leave(self) -> Option<u32> {
        let _ = self.raw.stream.shutdown(std::net::Shutdown::Both);
        self.reading.join().expect("no panic")
    }
}

/// The fields of a GET of `/`.
pub(crate) const ROOT: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "a"),
    (":path", "/"),
];

/// A header block, every field as a literal that is not remembered (RFC 7541 §6.2.2).
pub(crate) fn fields(all: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in all {
        literal(&mut block, 0, name, value);
    }
    block
}

/// One field as a literal, of the kind that its first byte says.
pub(crate) fn literal(block: &mut Vec<u8>, first: u8, name: &str, value: &str) {
    block.push(first);
    for text in [name, value] {
        let mut rest = text.len();
        if rest < 127 {
            block.push(u8::try_from(rest).expect("small"));
        } else {
            block.push(127);
            rest -= 127;
            while rest >= 128 {
                block.push(u8::try_from(rest % 128).expect("small") | 128);
                rest /= 128;
            }
            block.push(u8::try_from(rest).expect("small"));
        }
        block.extend_from_slice(text.as_bytes());
    }
}
