//! Scripted workers on real sockets: each test plays the worker by hand.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, response};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

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
