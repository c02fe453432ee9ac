//! Scripted workers on real sockets: each test plays the worker by hand.

mod duplex;
mod property;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, response};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::connection::Socket;
use super::*;
use crate::link::message::{Front, WorkerAddress};
use crate::proxy::rules::{self, Framing, Origin, Outgoing};
use crate::rollout::WorkerId;

const WORKER: WorkerId = WorkerId(7);

const LIMITS: Limits = Limits {
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
    fn informational(&self, head: &response::Parts) {
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
    let mut request = Request::builder()
        .method(method)
        .uri("/")
        .header("host", "shop.example");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    match framing {
        Framing::Empty => {}
        Framing::Length(length) => request = request.header("content-length", length),
        Framing::Chunked => request = request.header("transfer-encoding", "chunked"),
    }
    let (parts, ()) = request.body(()).expect("a request").into_parts();
    let origin = Origin {
        client: None,
        trusted: false,
        scheme: "http",
        request_id: "id".into(),
    };
    rules::outgoing(&parts, framing, &origin, &Front::default()).expect("a good request")
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
        let again = client.pool.take(WORKER).expect("the same");
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

fn bad_heads() -> Vec<Vec<u8>> {
    let many = "x: y\r\n".repeat(200);
    let long = format!("x: {}\r\n", "y".repeat(65 << 10));
    let with = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n").into_bytes();
    let mut heads: Vec<Vec<u8>> = [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: +5\r\n",
        "content-length: -5\r\n",
        "content-length: 0x5\r\n",
        "content-length: 5 5\r\n",
        "content-length: 5, 5\r\n",
        "content-length: \r\n",
        "content-length: five\r\n",
        "content-length: 18446744073709551616\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: \r\n",
        "x: y\n",
        "x: y\rz: 1\r\n",
        "x: y\r\n folded\r\n",
        " x: y\r\n",
        "x : y\r\n",
        "x: a\0b\r\n",
        "x\r\n",
        ": y\r\n",
        &many,
        &long,
    ]
    .into_iter()
    .map(with)
    .collect();
    heads.extend(
        [
            "GET / HTTP/1.1\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\n\n",
            "HTTP/1.1 200 OK\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.2 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 abc OK\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "http/1.1 200 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "<html>garbage</html>\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        ]
        .map(Vec::from),
    );
    heads
}

#[tokio::test]
async fn t9_an_answer_that_breaks_http_is_no_answer() {
    for head in bad_heads() {
        let client = Client::new();
        let shown = String::from_utf8_lossy(&head[..head.len().min(80)]).into_owned();
        let failed = get(&client, &head).await.expect_err(&shown);
        assert_eq!(failed.kind, SendErrorKind::BadAnswer, "{shown}");
        assert!(failed.sent && failed.answered, "{shown}");
        assert_eq!(client.pool.idle(WORKER), 0);
        assert_eq!(client.notes.told().ended, [false]);
    }
}

#[test]
fn t9_a_bad_head_is_bad_wherever_it_is_split() {
    use bytes::BytesMut;
    for text in bad_heads() {
        // The last is only bad because nobody asked; long ones take too long at each byte.
        if text.starts_with(b"HTTP/1.1 101") || text.len() > 2000 {
            continue;
        }
        for at in 0..text.len() {
            let (mut buffer, mut searched) = (BytesMut::from(&text[..at]), 0);
            let first = head::parse(&mut buffer, &mut searched, &Method::GET);
            if let Ok(head) = first {
                assert!(head.is_none(), "{:?}", String::from_utf8_lossy(&text));
                buffer.extend_from_slice(&text[at..]);
                let whole = head::parse(&mut buffer, &mut searched, &Method::GET);
                assert!(whole.is_err(), "{at}: {:?}", String::from_utf8_lossy(&text));
            }
        }
    }
}

#[tokio::test]
async fn answers_are_framed_as_they_say() {
    // Status line and fields, body as sent, method, body as seen, whether the connection is kept.
    for (head, body, method, seen, kept) in [
        (
            "1.1 200 OK\r\ncontent-length: 5",
            "hello",
            Method::GET,
            "hello",
            true,
        ),
        (
            "1.1 200\r\ncontent-length: 5",
            "hello",
            Method::GET,
            "hello",
            true,
        ),
        (
            "1.1 200 OK\r\ncontent-length: 5\r\nContent-Length: 5",
            "hello",
            Method::GET,
            "hello",
            true,
        ),
        ("1.1 200 OK\r\ncontent-length: 0", "", Method::GET, "", true),
        (
            "1.1 200 OK\r\ncontent-length: 5\r\nconnection: Close",
            "hello",
            Method::GET,
            "hello",
            false,
        ),
        (
            "1.1 200 OK\r\ncontent-length: 5\r\nkeep-alive: timeout=1",
            "hello",
            Method::GET,
            "hello",
            false,
        ),
        (
            "1.1 200 OK\r\ncontent-length: 5\r\nkeep-alive: timeout=3",
            "hello",
            Method::GET,
            "hello",
            true,
        ),
        (
            "1.1 200 OK\r\ncontent-length: 5",
            "hello more",
            Method::GET,
            "hello",
            false,
        ),
        (
            "1.1 200 OK\r\ntransfer-encoding: Chunked",
            "5\r\nhello\r\n0\r\n\r\n",
            Method::GET,
            "hello",
            true,
        ),
        (
            "1.1 200 OK\r\ntransfer-encoding: chunked",
            "5;a=\"b\"\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
            Method::GET,
            "hello",
            false,
        ),
        (
            "1.1 200 OK",
            "until the end",
            Method::GET,
            "until the end",
            false,
        ),
        (
            "1.0 200 OK",
            "until the end",
            Method::GET,
            "until the end",
            false,
        ),
        (
            "1.0 200 OK\r\ncontent-length: 5",
            "hello",
            Method::GET,
            "hello",
            false,
        ),
        (
            "1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive",
            "hello",
            Method::GET,
            "hello",
            true,
        ),
        ("1.1 204 None", "", Method::GET, "", true),
        (
            "1.1 204 None\r\ncontent-length: 0",
            "",
            Method::GET,
            "",
            true,
        ),
        (
            "1.1 204 None\r\ncontent-length: 5",
            "",
            Method::GET,
            "",
            false,
        ),
        ("1.1 204 None", "body", Method::GET, "", false),
        ("1.1 205 Reset", "body", Method::GET, "", false),
        (
            "1.1 205 Reset\r\ncontent-length: 0",
            "",
            Method::GET,
            "",
            true,
        ),
        (
            "1.1 304 Same\r\ncontent-length: 5",
            "",
            Method::GET,
            "",
            true,
        ),
        (
            "1.1 304 Same\r\ncontent-length: 5",
            "hello",
            Method::GET,
            "",
            false,
        ),
        (
            "1.1 200 OK\r\ncontent-length: 5",
            "",
            Method::HEAD,
            "",
            true,
        ),
        (
            "1.1 200 OK\r\ncontent-length: 5",
            "hello",
            Method::HEAD,
            "",
            false,
        ),
        (
            "1.1 200 OK\r\ntransfer-encoding: chunked",
            "",
            Method::HEAD,
            "",
            true,
        ),
    ] {
        let client = Client::new();
        let text = format!("HTTP/{head}\r\n\r\n{body}");
        let answered = exchange(&client, method, text.as_bytes())
            .await
            .expect(head);
        let (_, got) = whole(answered).await;
        assert_eq!(got, seen, "{head}");
        assert_eq!(client.pool.idle(WORKER), u32::from(kept), "{text}");
        assert_eq!(client.notes.told().ended, [true], "{head}");
    }
}

#[tokio::test]
async fn f42_a_cut_answer_is_an_error() {
    for (head, body, kind) in [
        ("content-length: 9", "hello", io::ErrorKind::UnexpectedEof),
        (
            "transfer-encoding: chunked",
            "5\r\nhello\r\n",
            io::ErrorKind::UnexpectedEof,
        ),
        (
            "transfer-encoding: chunked",
            "5\r\nhello\r\n0\r\n",
            io::ErrorKind::UnexpectedEof,
        ),
        (
            "transfer-encoding: chunked",
            "5\r\nhel",
            io::ErrorKind::UnexpectedEof,
        ),
        (
            "transfer-encoding: chunked",
            "5\r\nhelloXX\r\n",
            io::ErrorKind::InvalidData,
        ),
        (
            "transfer-encoding: chunked",
            "5\nhello\r\n0\r\n\r\n",
            io::ErrorKind::InvalidData,
        ),
        (
            "transfer-encoding: chunked",
            "+5\r\nhello\r\n0\r\n\r\n",
            io::ErrorKind::InvalidData,
        ),
        (
            "transfer-encoding: chunked",
            "0x5\r\nhello\r\n0\r\n\r\n",
            io::ErrorKind::InvalidData,
        ),
        (
            "transfer-encoding: chunked",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
            io::ErrorKind::InvalidData,
        ),
        (
            "transfer-encoding: chunked",
            "5\r\nhello\n0\r\n\r\n",
            io::ErrorKind::InvalidData,
        ),
        (
            "transfer-encoding: chunked",
            "5\r\nhello\r\n0\r\nx: y\n\r\n",
            io::ErrorKind::InvalidData,
        ),
        (
            "transfer-encoding: chunked",
            "5\r\nhello\r\n0\r\n folded\r\n\r\n",
            io::ErrorKind::InvalidData,
        ),
        (
            "transfer-encoding: chunked",
            "\r\n5\r\nhello\r\n0\r\n\r\n",
            io::ErrorKind::InvalidData,
        ),
        (
            "transfer-encoding: chunked",
            "5 x\r\nhello\r\n0\r\n\r\n",
            io::ErrorKind::InvalidData,
        ),
        (
            "transfer-encoding: chunked",
            "5;\0\r\nhello\r\n0\r\n\r\n",
            io::ErrorKind::InvalidData,
        ),
    ] {
        let client = Client::new();
        let text = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}");
        let answered = get(&client, text.as_bytes()).await.expect("a head");
        let cut = answered.body.collect().await.expect_err(body);
        assert_eq!(cut.kind(), kind, "{body:?}");
        assert_eq!(client.pool.idle(WORKER), 0);
        assert_eq!(client.notes.told().ended, [false], "{body:?}");
    }
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
    assert!(client.pool.take(WORKER).is_none());
}

#[tokio::test]
async fn unasked_bytes_spoil_a_pooled_connection() {
    let client = Client::new();
    let mut worker = pooled(&client).await;
    let poison = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    worker.write_all(poison).await.expect("write");
    hear().await;
    assert!(client.pool.take(WORKER).is_none());
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
    let connection = client.pool.take(WORKER).expect("not known to be closed");
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
    let connection = client.pool.take(WORKER).expect("not known to be closed");
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
    let over = tokio::time::Instant::now() + client.limits.pool_idle;
    tokio::time::sleep_until(over).await;
    assert!(client.pool.take(WORKER).is_none());
    let _worker = pooled(&client).await;
    tokio::time::sleep(client.limits.pool_idle).await;
    client.pool.sweep();
    assert_eq!(client.pool.idle(WORKER), 0);
}
