//! Request bodies, early answers, 100-continue, time limits and tunnels.

use std::convert::Infallible;
use std::task::{Context, Poll};

use http::HeaderMap;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::mpsc;

use super::*;

type Frames = Vec<Result<Frame<Bytes>, Infallible>>;

fn frames(frames: Frames) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
    StreamBody::new(futures_util::stream::iter(frames))
}

fn data(text: &'static str) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

/// A body that comes as it is sent.
fn channel() -> (
    mpsc::Sender<Bytes>,
    impl Body<Data = Bytes, Error = Infallible> + Unpin,
) {
    let (sender, mut receiver) = mpsc::channel(1);
    let next = move |cx: &mut Context<'_>| {
        let data = receiver.poll_recv(cx);
        data.map(|data| data.map(|data| Ok(Frame::data(data))))
    };
    (sender, StreamBody::new(futures_util::stream::poll_fn(next)))
}

/// Never ends and never waits.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 1 << 16])))))
    }
}

/// Must not be asked for.
struct Untouched;

impl Body for Untouched {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        unreachable!("asked for a body that nobody wants")
    }
}

async fn read_exactly(worker: &mut TcpStream, text: &str) {
    let mut got = vec![0; text.len()];
    worker.read_exact(&mut got).await.expect("bytes");
    assert_eq!(String::from_utf8_lossy(&got), text);
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_chunked_body_is_chunked_anew_with_its_trailers() {
    let client = Client::new();
    let (connection, mut worker) = pair().await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().expect("value"));
    trailers.insert("content-length", "5".parse().expect("value"));
    let body = frames(vec![
        data("hello"),
        data(""),
        data("0123456789abcdef"),
        Ok(Frame::trailers(trailers)),
    ]);
    let post = outgoing(Method::POST, &[("trailer", "x-sum")], Framing::Chunked);
    let script = async {
        let head = read_head(&mut worker).await;
        assert!(head.contains("\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n"));
        let encoded = "5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nx-sum: 1\r\n\r\n";
        read_exactly(&mut worker, encoded).await;
        worker.write_all(OK).await.expect("write");
    };
    let (_, answered) = tokio::join!(script, client.send(connection, &post, body));
    assert_eq!(whole(answered.expect("an answer")).await.1, "ok");
    assert_eq!(client.pool.idle(WORKER), 1);
    let told = client.notes.told();
    assert_eq!((told.uploaded, told.upload_ended), (21, 1));
}

#[tokio::test]
async fn a_chunked_body_that_says_its_end_ends_with_its_data() {
    let client = Client::new();
    let (connection, mut worker) = pair().await;
    let post = outgoing(Method::POST, &[], Framing::Chunked);
    let script = async {
        read_head(&mut worker).await;
        read_exactly(&mut worker, "5\r\nhello\r\n0\r\n\r\n").await;
        worker.write_all(OK).await.expect("write");
    };
    let body = Full::new(Bytes::from("hello"));
    let (_, answered) = tokio::join!(script, client.send(connection, &post, body));
    assert_eq!(whole(answered.expect("an answer")).await.1, "ok");
    assert_eq!(client.pool.idle(WORKER), 1);
}

#[tokio::test]
async fn an_early_answer_ends_the_upload() {
    for closes in [true, false] {
        let client = Client::new();
        let (connection, mut worker) = pair().await;
        let post = outgoing(Method::POST, &[], Framing::Length(1 << 40));
        let script = async {
            let early = b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nlarge";
            answer(&mut worker, early).await;
            if closes {
                worker.shutdown().await.expect("shutdown");
            }
            worker
        };
        let (_worker, answered) = tokio::join!(script, client.send(connection, &post, Endless));
        let (status, body) = whole(answered.expect("an answer")).await;
        assert_eq!((status.as_u16(), &body[..]), (413, &b"large"[..]));
        assert_eq!(client.pool.idle(WORKER), 0);
        let told = client.notes.told();
        assert_eq!((told.upload_ended, told.ended), (0, vec![true]));
    }
}

#[tokio::test]
async fn f43_a_worker_that_dies_in_an_upload_was_sent_something() {
    let client = Client::new();
    let (connection, mut worker) = pair().await;
    let post = outgoing(Method::POST, &[], Framing::Chunked);
    let script = async {
        read_head(&mut worker).await;
        drop(worker);
    };
    let (_, failed) = tokio::join!(script, client.send(connection, &post, Endless));
    let failed = failed.expect_err("it died");
    assert_eq!(failed.kind, SendErrorKind::Reset);
    assert!(failed.sent && !failed.answered);
}

#[tokio::test]
async fn an_answer_streams_while_the_request_does() {
    let client = Client::new();
    let (connection, mut worker) = pair().await;
    let (sender, body) = channel();
    let post = outgoing(Method::POST, &[], Framing::Chunked);
    let script = async {
        answer(
            &mut worker,
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .await;
        for _ in 0..3 {
            read_exactly(&mut worker, "4\r\nping\r\n").await;
            worker.write_all(b"4\r\npong\r\n").await.expect("write");
        }
        read_exactly(&mut worker, "0\r\n\r\n").await;
        worker
            .write_all(b"0\r\nx: y\r\nhost: z\r\n\r\n")
            .await
            .expect("write");
    };
    let talks = async {
        let answered = client.send(connection, &post, body).await.expect("a head");
        let mut answer = answered.body;
        for _ in 0..3 {
            sender.send("ping".into()).await.expect("room");
            let frame = answer.frame().await.expect("a frame").expect("whole");
            assert_eq!(frame.into_data().expect("data"), "pong");
        }
        drop(sender);
        let trailers = answer.frame().await.expect("a frame").expect("whole");
        let trailers = trailers.into_trailers().expect("trailers");
        assert_eq!(trailers.len(), 1);
        assert!(answer.frame().await.is_none());
    };
    tokio::join!(script, talks);
    assert_eq!(client.pool.idle(WORKER), 1);
    assert_eq!(client.notes.told().ended, [true]);
}

#[tokio::test]
async fn a_body_waits_for_100_continue() {
    let client = Client::new();
    let (connection, mut worker) = pair().await;
    let post = outgoing(
        Method::POST,
        &[("expect", "100-continue")],
        Framing::Length(5),
    );
    let script = async {
        read_head(&mut worker).await;
        assert!(worker.try_read(&mut [0]).is_err(), "the body came unasked");
        let hints = b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
        worker.write_all(hints).await.expect("write");
        read_exactly(&mut worker, "hello").await;
        worker.write_all(OK).await.expect("write");
    };
    let body = Full::new(Bytes::from("hello"));
    let (_, answered) = tokio::join!(script, client.send(connection, &post, body));
    assert_eq!(whole(answered.expect("an answer")).await.1, "ok");
    assert_eq!(client.notes.told().informational, [103, 100]);
    assert_eq!(client.pool.idle(WORKER), 1);
}

#[tokio::test]
async fn a_worker_that_says_no_100_gets_the_body_after_a_second() {
    let client = Client::new();
    let (connection, mut worker) = pair().await;
    let post = outgoing(
        Method::POST,
        &[("expect", "100-continue")],
        Framing::Length(5),
    );
    let script = async {
        read_head(&mut worker).await;
        read_exactly(&mut worker, "hello").await;
        worker.write_all(OK).await.expect("write");
    };
    let body = Full::new(Bytes::from("hello"));
    let (_, answered) = tokio::join!(script, client.send(connection, &post, body));
    assert_eq!(whole(answered.expect("an answer")).await.1, "ok");
    assert_eq!(client.pool.idle(WORKER), 1);
}

#[tokio::test]
async fn a_final_answer_instead_of_100_means_no_body() {
    let client = Client::new();
    let (connection, mut worker) = pair().await;
    let post = outgoing(
        Method::POST,
        &[("expect", "100-continue")],
        Framing::Length(5),
    );
    let script = answer(&mut worker, b"HTTP/1.1 417 No\r\ncontent-length: 0\r\n\r\n");
    let (_, answered) = tokio::join!(script, client.send(connection, &post, Untouched));
    assert_eq!(answered.expect("an answer").head.status.as_u16(), 417);
    assert_eq!(client.pool.idle(WORKER), 0);
    assert_eq!(worker.read(&mut [0]).await.expect("the end"), 0);
}

#[tokio::test]
async fn a_body_of_another_length_than_announced_is_the_clients_fault() {
    for text in ["four", "sixsix"] {
        let client = Client::new();
        let (connection, mut worker) = pair().await;
        let post = outgoing(Method::POST, &[], Framing::Length(5));
        let body = Full::new(Bytes::from(text));
        let failed = client.send(connection, &post, body).await.expect_err(text);
        assert_eq!(failed.kind, SendErrorKind::ClientBody);
        let mut got = Vec::new();
        worker.read_to_end(&mut got).await.expect("the end");
        assert!(!String::from_utf8_lossy(&got).contains("sixsix"));
        assert_eq!(client.notes.told().ended, [false]);
    }
}

#[tokio::test]
async fn time_limits_name_who_was_late() {
    let mut client = Client::new();
    client.limits.response_head = Duration::from_millis(30);
    client.limits.body_idle = Duration::from_millis(30);

    // The worker does not answer.
    let (connection, _worker) = pair().await;
    let failed = client.get(connection).await.expect_err("late");
    assert_eq!(failed.kind, SendErrorKind::Timeout);
    assert!(failed.sent && !failed.answered);

    // The client's body does not come.
    let (connection, _worker) = pair().await;
    let (_sender, body) = channel();
    let post = outgoing(Method::POST, &[], Framing::Chunked);
    let failed = client
        .send(connection, &post, body)
        .await
        .expect_err("late");
    assert_eq!(failed.kind, SendErrorKind::BodyTimeout);

    // The worker does not take the body.
    let (connection, _worker) = pair().await;
    let failed = client
        .send(connection, &post, Endless)
        .await
        .expect_err("late");
    assert_eq!(failed.kind, SendErrorKind::Timeout);

    // The worker's body stops.
    let (connection, mut worker) = pair().await;
    let script = answer(
        &mut worker,
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello",
    );
    let (_, answered) = tokio::join!(script, client.get(connection));
    let cut = answered
        .expect("a head")
        .body
        .collect()
        .await
        .expect_err("late");
    assert_eq!(cut.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn an_event_stream_may_be_silent() {
    let mut client = Client::new();
    client.limits.body_idle = Duration::from_millis(20);
    let (connection, mut worker) = pair().await;
    let script = async {
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n";
        answer(&mut worker, head).await;
        tokio::time::sleep(client.limits.body_idle * 4).await;
        worker.write_all(b"data: x\n\n").await.expect("write");
        drop(worker);
    };
    let listens = async { whole(client.get(connection).await.expect("a head")).await };
    let (_, (_, body)) = tokio::join!(script, listens);
    assert_eq!(body, "data: x\n\n");
}

#[tokio::test]
async fn a_slow_body_that_moves_is_not_cut() {
    let mut client = Client::new();
    client.limits.body_idle = Duration::from_millis(200);
    let (connection, mut worker) = pair().await;
    let script = async {
        answer(&mut worker, b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n").await;
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_millis(60)).await;
            worker.write_all(b"x").await.expect("write");
        }
    };
    let reads = async { whole(client.get(connection).await.expect("a head")).await };
    let (_, (_, body)) = tokio::join!(script, reads);
    assert_eq!(body, "xxxxxx");
}

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel_with_what_came_behind_its_head() {
    let client = Client::new();
    let (connection, mut worker) = pair().await;
    let fields = [("upgrade", "websocket"), ("connection", "upgrade")];
    let ask = outgoing(Method::GET, &fields, Framing::Empty);
    let script = async {
        let head =
            b"HTTP/1.1 101 Switching\r\nupgrade: WebSocket\r\nconnection: upgrade\r\n\r\nearly";
        answer(&mut worker, head).await;
        read_exactly(&mut worker, "ping").await;
        worker.write_all(b" late").await.expect("write");
        drop(worker);
    };
    let talks = async {
        let answered = client
            .send(connection, &ask, Empty::new())
            .await
            .expect("a head");
        assert_eq!(answered.head.status, StatusCode::SWITCHING_PROTOCOLS);
        let mut tunnel = answered.body.into_tunnel().expect("a tunnel");
        tunnel.write_all(b"ping").await.expect("write");
        let mut got = String::new();
        tunnel.read_to_string(&mut got).await.expect("the end");
        assert_eq!(got, "early late");
        assert!(client.notes.told().ended.is_empty());
    };
    tokio::join!(script, talks);
    assert_eq!(client.notes.told().ended, [true]);
    assert_eq!(client.pool.idle(WORKER), 0);
}

#[tokio::test]
async fn t11_a_switch_to_another_protocol_is_no_answer() {
    for fields in [
        "upgrade: h2c\r\nconnection: upgrade",
        "upgrade: websocket",
        "connection: upgrade",
        "upgrade: websocket\r\nupgrade: websocket\r\nconnection: upgrade",
    ] {
        let client = Client::new();
        let (connection, mut worker) = pair().await;
        let asked = [("upgrade", "websocket"), ("connection", "upgrade")];
        let ask = outgoing(Method::GET, &asked, Framing::Empty);
        let text = format!("HTTP/1.1 101 Switching\r\n{fields}\r\n\r\n");
        let script = answer(&mut worker, text.as_bytes());
        let (_, failed) = tokio::join!(script, client.send(connection, &ask, Empty::new()));
        let failed = failed.expect_err(fields);
        assert_eq!(failed.kind, SendErrorKind::BadAnswer, "{fields}");
    }
}

#[tokio::test]
async fn no_end_of_informational_answers_is_no_answer() {
    let client = Client::new();
    let text = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100);
    let failed = get(&client, text.as_bytes()).await.expect_err("no end");
    assert_eq!(failed.kind, SendErrorKind::BadAnswer);
}

#[tokio::test]
async fn a_unix_worker_serves_too() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("s");
    let listener = tokio::net::UnixListener::bind(&path).expect("bind");
    let client = Client::new();
    let script = async {
        let (mut worker, _) = listener.accept().await.expect("accept");
        for _ in 0..2 {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(worker.read_u8().await.expect("a head"));
            }
            worker.write_all(OK).await.expect("write");
        }
        worker
    };
    let asks = async {
        let address = WorkerAddress::Unix(path.clone());
        let connection = connect(&address, Duration::from_secs(5))
            .await
            .expect("connect");
        let first = client.get(connection).await.expect("an answer");
        assert_eq!(whole(first).await.1, "ok");
        let again = client.pool.take(WORKER, Instant::now()).expect("the same");
        let second = client.get(again).await.expect("an answer");
        assert_eq!(whole(second).await.1, "ok");
    };
    let (worker, ()) = tokio::join!(script, asks);
    drop(worker);
}

#[tokio::test]
async fn f40_no_listener_means_nothing_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    drop(listener);
    let refused = connect(&WorkerAddress::Tcp(address), Duration::from_secs(5)).await;
    let refused = refused.expect_err("nobody listens");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}
