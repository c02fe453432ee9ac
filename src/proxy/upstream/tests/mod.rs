//! Scripted workers on real sockets: each test plays the worker by hand.

mod answers;
mod differential;
mod duplex;
mod early;
mod framing;
mod property;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, Version};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};
use nix::sys::socket::{getsockopt, sockopt::TcpCongestion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::connection::Socket;
use super::*;
use crate::link::message::{Front, WorkerAddress};
use crate::proxy::head::{AnswerHead, Fields, RequestHead};
use crate::proxy::rules::{self, Framing, Origin, Outgoing};
use crate::rollout::WorkerId;

const WORKER: WorkerId = WorkerId(7);

const LIMITS: Limits = Limits {
    since: None,
    response_head: Duration::from_secs(5),
    body_idle: Duration::from_secs(5),
    pool_idle: Duration::from_secs(5),
};

/// What an exchange told.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Told {
    uploaded: u64,
    upload_ended: u32,
    downloaded: u64,
    informational: Vec<u16>,
    ended: Vec<bool>,
}

#[derive(Debug, Default)]
struct Notes(RefCell<Told>);

impl Notes {
    fn told(&self) -> Told {
        self.0.borrow().clone()
    }
}

impl Watch for Notes {
    fn uploaded(&self, bytes: u64) {
        self.0.borrow_mut().uploaded += bytes;
    }
    fn upload_ended(&self) {
        self.0.borrow_mut().upload_ended += 1;
    }
    fn downloaded(&self, bytes: u64) {
        self.0.borrow_mut().downloaded += bytes;
    }
    fn informational(&self, head: &AnswerHead) {
        self.0.borrow_mut().informational.push(head.status.as_u16());
    }
    fn ended(&self, whole: bool) {
        self.0.borrow_mut().ended.push(whole);
    }
}

/// A loop's pool and what it told.
struct Client {
    pool: Rc<Pool>,
    notes: Rc<Notes>,
    limits: Limits,
}

impl Client {
    fn new() -> Self {
        Self {
            pool: Pool::new(),
            notes: Rc::default(),
            limits: LIMITS,
        }
    }

    async fn send<B>(
        &self,
        connection: Connection,
        outgoing: &Outgoing,
        body: B,
    ) -> Result<Answer, SendError>
    where
        B: Body<Data = Bytes> + Unpin + 'static,
        B::Error: std::error::Error + 'static,
    {
        let watch = Rc::clone(&self.notes) as Rc<dyn Watch>;
        send(
            connection,
            &self.pool,
            WORKER,
            outgoing,
            body,
            self.limits,
            watch,
        )
        .await
    }

    async fn get(&self, connection: Connection) -> Result<Answer, SendError> {
        let outgoing = outgoing(Method::GET, &[], Framing::Empty);
        self.send(connection, &outgoing, Empty::new()).await
    }
}

fn outgoing(method: Method, fields: &[(&str, &str)], framing: Framing) -> Outgoing {
    let length;
    let framed = match framing {
        Framing::Empty => None,
        Framing::Length(bytes) => {
            length = bytes.to_string();
            Some(("content-length", &*length))
        }
        Framing::Chunked => Some(("transfer-encoding", "chunked")),
    };
    let host = [("host", "shop.example")];
    let all = host.iter().chain(fields).copied().chain(framed);
    let request = RequestHead {
        method,
        by_connect: false,
        uri: "/".parse().expect("a target"),
        version: Version::HTTP_11,
        fields: Fields::from_pairs(all),
    };
    let origin = Origin {
        client: None,
        trusted: false,
        grpc: false,
        scheme: "http",
        request_id: rules::RequestId::of(Duration::ZERO, 1),
        certificate: None,
    };
    let front = Front::default();
    let target = rules::target(&request, &front).expect("a good target");
    let terms = rules::Terms {
        front: &front,
        edits: &crate::link::message::Edits::default(),
    };
    rules::outgoing(
        &request,
        target,
        framing,
        &origin,
        terms,
        &mut BytesMut::new(),
    )
    .expect("a good request")
}

/// A connection and the worker's end of it.
async fn pair() -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = WorkerAddress::Tcp(listener.local_addr().expect("address"));
    let (connection, accepted) =
        tokio::join!(connect(&address, Duration::from_secs(5)), listener.accept());
    (connection.expect("connect"), accepted.expect("accept").0)
}

/// Reads up to and with the empty line of a head.
async fn read_head(worker: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(worker.read_u8().await.expect("a head"));
    }
    String::from_utf8(head).expect("text")
}

async fn answer(worker: &mut TcpStream, text: &[u8]) {
    read_head(worker).await;
    worker.write_all(text).await.expect("write");
}

async fn whole(answer: Answer) -> (StatusCode, Bytes) {
    let body = answer.body.collect().await.expect("a whole body");
    (answer.head.status, body.to_bytes())
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let client = Client::new();
    let (connection, mut worker) = pair().await;
    let script = async {
        answer(
            &mut worker,
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        )
        .await;
        let head = read_head(&mut worker).await;
        assert!(
            head.starts_with("POST / HTTP/1.1\r\nhost: shop.example\r\n"),
            "{head}"
        );
        let mut body = [0; 5];
        worker.read_exact(&mut body).await.expect("body");
        assert_eq!(&body, b"hello");
        worker
            .write_all(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            )
            .await
            .expect("write");
    };
    let asks = async {
        let first = client.get(connection).await.expect("an answer");
        assert_eq!(whole(first).await, (StatusCode::OK, "hi".into()));
        assert_eq!(client.pool.idle(WORKER), 1);
        let again = client.pool.take(WORKER, Instant::now()).expect("the same");
        let post = outgoing(Method::POST, &[], Framing::Length(5));
        let body = Full::new(Bytes::from("hello"));
        let second = client.send(again, &post, body).await.expect("an answer");
        assert_eq!(whole(second).await, (StatusCode::OK, "hello".into()));
    };
    tokio::join!(script, asks);
    assert_eq!(client.pool.idle(WORKER), 1);
    let told = client.notes.told();
    assert_eq!((told.uploaded, told.downloaded), (5, 7));
    assert_eq!(told.ended, [true, true]);
}

#[tokio::test]
async fn what_goes_to_a_worker_on_this_host_is_not_paced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = WorkerAddress::Tcp(listener.local_addr().expect("an address"));
    let connection = connect(&address, Duration::from_secs(5)).await;
    let Socket::Tcp(stream) = connection.expect("a connection").socket else {
        panic!("a connection of TCP");
    };
    let control = getsockopt(&stream, TcpCongestion).expect("its control");
    assert_eq!(control.to_string_lossy().trim_end_matches('\0'), "reno");
}

/// The worker answers a GET with `text` and closes.
async fn get(client: &Client, text: &[u8]) -> Result<Answer, SendError> {
    exchange(client, Method::GET, text).await
}

async fn exchange(client: &Client, method: Method, text: &[u8]) -> Result<Answer, SendError> {
    let (connection, mut worker) = pair().await;
    let outgoing = outgoing(method, &[], Framing::Empty);
    let script = async {
        answer(&mut worker, text).await;
        drop(worker);
    };
    tokio::join!(script, client.send(connection, &outgoing, Empty::new())).1
}

#[tokio::test]
async fn f52_a_dropped_body_closes_the_connection() {
    let client = Client::new();
    let (connection, mut worker) = pair().await;
    let script = answer(
        &mut worker,
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello",
    );
    let (_, answered) = tokio::join!(script, client.get(connection));
    drop(answered.expect("a head"));
    assert_eq!(worker.read(&mut [0]).await.expect("the end"), 0);
    assert_eq!(client.notes.told().ended, [false]);
}

#[tokio::test]
async fn f52_a_dropped_request_closes_the_connection() {
    let client = Client::new();
    let (connection, mut worker) = pair().await;
    tokio::select! {
        _ = client.get(connection) => unreachable!("nobody answers"),
        _ = read_head(&mut worker) => {}
    }
    assert_eq!(worker.read(&mut [0]).await.expect("the end"), 0);
    assert_eq!(client.notes.told().ended, [false]);
}

#[tokio::test]
async fn a_reset_before_the_answer_says_what_was_sent() {
    let client = Client::new();
    let failed = get(&client, b"").await.expect_err("nothing came");
    assert_eq!(failed.kind, SendErrorKind::Reset);
    assert!(failed.sent && !failed.answered);
    let failed = get(&client, b"HTTP/1.1 2").await.expect_err("half a head");
    assert_eq!(failed.kind, SendErrorKind::Reset);
    assert!(failed.sent && failed.answered);
}

/// A connection in the pool, and the worker's end of it.
async fn pooled(client: &Client) -> TcpStream {
    let (connection, mut worker) = pair().await;
    let script = answer(&mut worker, b"HTTP/1.1 204 None\r\n\r\n");
    let (_, answered) = tokio::join!(script, client.get(connection));
    answered.expect("an answer");
    assert_eq!(client.pool.idle(WORKER), 1);
    worker
}

/// Lets the loop hear what happened on its sockets.
async fn hear() {
    let (connection, worker) = pair().await;
    drop(worker);
    let Socket::Tcp(stream) = &connection.socket else {
        unreachable!("made so");
    };
    stream.readable().await.expect("heard");
}

#[tokio::test]
async fn f41_a_connection_the_worker_closed_is_not_taken() {
    let client = Client::new();
    drop(pooled(&client).await);
    hear().await;
    assert!(client.pool.take(WORKER, Instant::now()).is_none());
}

#[tokio::test]
async fn unasked_bytes_spoil_a_pooled_connection() {
    let client = Client::new();
    let mut worker = pooled(&client).await;
    let poison = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    worker.write_all(poison).await.expect("write");
    hear().await;
    assert!(client.pool.take(WORKER, Instant::now()).is_none());
    assert_eq!(
        worker
            .read(&mut [0])
            .await
            .map_err(|e| e.kind())
            .unwrap_or(0),
        0
    );
}

#[tokio::test]
async fn f41_a_ghost_does_not_get_a_post() {
    let client = Client::new();
    let worker = pooled(&client).await;
    // Closed by the worker, but this loop has not turned since.
    let connection = client
        .pool
        .take(WORKER, Instant::now())
        .expect("not known to be closed");
    drop(worker);
    let post = outgoing(Method::POST, &[], Framing::Length(5));
    let body = Full::new(Bytes::from("hello"));
    let failed = client
        .send(connection, &post, body)
        .await
        .expect_err("closed");
    assert_eq!(failed.kind, SendErrorKind::Reset);
    assert!(!failed.sent && !failed.answered);
    assert_eq!(client.notes.told().uploaded, 0);
}

#[tokio::test]
async fn f41_a_ghost_answers_a_get_with_a_reset() {
    let client = Client::new();
    let worker = pooled(&client).await;
    let connection = client
        .pool
        .take(WORKER, Instant::now())
        .expect("not known to be closed");
    drop(worker);
    let failed = client.get(connection).await.expect_err("closed");
    assert_eq!(failed.kind, SendErrorKind::Reset);
    assert!(!failed.answered);
}

#[tokio::test]
async fn a_closed_worker_gets_nothing_back() {
    let client = Client::new();
    let _idle = pooled(&client).await;
    let (connection, mut worker) = pair().await;
    let script = answer(
        &mut worker,
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nh",
    );
    let (_, answered) = tokio::join!(script, client.get(connection));
    client.pool.close(WORKER);
    assert_eq!(client.pool.idle(WORKER), 0);
    let (_, body) = tokio::join!(worker.write_all(b"i"), whole(answered.expect("a head")));
    assert_eq!(body.1, "hi");
    assert_eq!(client.pool.idle(WORKER), 0);
}

#[tokio::test]
async fn the_pool_keeps_to_its_limits() {
    let mut client = Client::new();
    client.limits.pool_idle = Duration::from_millis(20);
    let _worker = pooled(&client).await;
    let over = Instant::now() + client.limits.pool_idle;
    tokio::time::sleep_until(over).await;
    assert!(client.pool.take(WORKER, Instant::now()).is_none());
    let _worker = pooled(&client).await;
    tokio::time::sleep(client.limits.pool_idle).await;
    client.pool.sweep();
    assert_eq!(client.pool.idle(WORKER), 0);
}
