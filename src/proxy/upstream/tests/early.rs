//! Answers of workers that do not read the request's body and close: whatever comes first, the end of the
//! connection or our next byte, what they said before is the answer (RFC 9112 §9.6, RFC 9110 §15.5).

use std::convert::Infallible;
use std::io::{Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body::{Body, Frame};
use socket2::SockRef;

use super::*;

/// A worker's end that does as it is told at once: it blocks, and what it needs is there already.
trait End: Read + Write + Send {
    /// The connection breaks off, whatever was read.
    fn reset(&self);
}

impl End for std::net::TcpStream {
    fn reset(&self) {
        let linger = Some(Duration::ZERO);
        SockRef::from(self)
            .set_linger(linger)
            .expect("an open socket");
    }
}

impl End for std::os::unix::net::UnixStream {
    /// It does so by itself if something is unread.
    fn reset(&self) {}
}

/// What happens at the worker at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Nothing,
    /// It reads the head of the request and nothing else.
    ReadsHead,
    /// It reads all that has come.
    ReadsAll,
    Says(&'static [u8]),
    /// It lets go of the connection: an end if it has read all, and a reset if it has not.
    Closes,
    /// A reset in any case, where there is one.
    Resets,
}

/// What the client's body has when it is asked.
#[derive(Debug, Clone, Copy)]
enum Has {
    Data,
    /// Nothing more comes for now.
    Nothing,
    End,
}

/// A body that plays the worker each time that it is asked, so that everything before is surely done and
/// nothing after.
struct Script {
    worker: Option<Box<dyn End>>,
    steps: std::vec::IntoIter<(Vec<Does>, Has)>,
    /// It says by itself when it is at its end.
    ended: bool,
}

impl Script {
    fn plays(&mut self, does: Does) {
        let Some(worker) = &mut self.worker else {
            return;
        };
        match does {
            Does::Nothing => {}
            Does::ReadsHead => {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    worker.read_exact(&mut byte).expect("a head");
                    head.extend_from_slice(&byte);
                }
            }
            Does::ReadsAll => {
                let mut all = vec![0; 1 << 20];
                let _ = worker.read(&mut all).expect("what was sent");
            }
            Does::Says(text) => worker.write_all(text).expect("room"),
            Does::Closes => self.worker = None,
            Does::Resets => {
                worker.reset();
                self.worker = None;
            }
        }
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some((does, has)) = self.steps.next() else {
            return Poll::Pending;
        };
        for does in does {
            self.plays(does);
        }
        match has {
            Has::Data => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(DATA))))),
            Has::Nothing => Poll::Pending,
            Has::End => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

const DATA: &[u8] = &[b'x'; 1_000];
const FORBIDDEN: &[u8] = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno";
const UNTIL_CLOSE: &[u8] = b"HTTP/1.1 403 Forbidden\r\n\r\nno";
const HINTED: &[u8] =
    b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno";

async fn tcp() -> (Connection, Box<dyn End>) {
    let (connection, worker) = pair().await;
    let worker = worker.into_std().expect("a socket");
    worker.set_nonblocking(false).expect("a socket");
    (connection, Box::new(worker))
}

async fn unix() -> (Connection, Box<dyn End>) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("bind");
    let address = WorkerAddress::Unix(path);
    let connection = connect(&address, Duration::from_secs(5)).await;
    let (worker, _) = listener.accept().expect("accept");
    (connection.expect("connect"), Box::new(worker))
}

/// Every order of what the worker does and what we send.
fn orders() -> Vec<Vec<(Vec<Does>, Has)>> {
    use Does::{Closes, Nothing, ReadsAll, ReadsHead, Resets, Says};
    use Has::{Data, End, Nothing as Silent};
    let mut orders = Vec::new();
    for says in [FORBIDDEN, UNTIL_CLOSE, HINTED] {
        for ends in [Closes, Resets] {
            for reads in [ReadsHead, ReadsAll] {
                // One that lasts until the end of the connection is not whole if that is a reset.
                let until_close = says == UNTIL_CLOSE;
                if until_close && (ends, reads) != (Closes, ReadsAll) {
                    continue;
                }
                for then in [Data, Silent, End] {
                    // All at once, before we write again or read.
                    orders.push(vec![
                        (vec![Nothing], Data),
                        (vec![reads, Says(says), ends], then),
                        (vec![Nothing], Data),
                        (vec![Nothing], Data),
                    ]);
                    if until_close {
                        continue;
                    }
                    // We write between the answer and the end.
                    orders.push(vec![
                        (vec![Nothing], Data),
                        (vec![reads, Says(says)], Data),
                        (vec![ends], then),
                        (vec![Nothing], Data),
                    ]);
                    // And when the connection has ended, twice: first it breaks, then it is broken.
                    orders.push(vec![
                        (vec![Nothing], Data),
                        (vec![reads], Data),
                        (vec![Says(says), ends], Data),
                        (vec![Nothing], Data),
                        (vec![Nothing], then),
                    ]);
                }
            }
        }
    }
    orders
}

#[tokio::test]
async fn what_a_worker_says_before_it_closes_is_the_answer_in_whatever_order_its_bytes_come() {
    for order in orders() {
        for framing in [Framing::Length(1 << 40), Framing::Chunked] {
            let has_end = order.iter().any(|(_, has)| matches!(has, Has::End));
            if has_end && framing != Framing::Chunked {
                continue;
            }
            for is_unix in [false, true] {
                let client = Client::new();
                let (connection, worker) = match is_unix {
                    false => tcp().await,
                    true => unix().await,
                };
                let said = format!("unix: {is_unix}, {framing:?}, {order:?}");
                let body = Script {
                    worker: Some(worker),
                    steps: order.clone().into_iter(),
                    ended: false,
                };
                let post = outgoing(Method::POST, &[], framing);
                let answered = client.send(connection, &post, body).await;
                let answered = answered.unwrap_or_else(|error| panic!("{error:?} {said}"));
                assert_eq!(answered.head.status, 403, "{said}");
                let body = answered.body.collect().await;
                let body = body.unwrap_or_else(|error| panic!("{error:?} {said}"));
                assert_eq!(body.to_bytes(), "no", "{said}");
            }
        }
    }
}

#[tokio::test]
async fn f41_a_connection_on_which_the_worker_left_a_body_unread_is_not_used_again() {
    // All of it is in the kernel, so to us it was sent; the worker has not even said that it will close.
    for (is_unix, length) in [(false, 256_usize << 10), (true, 64 << 10), (true, 1)] {
        for reads in [Does::ReadsHead, Does::ReadsAll] {
            let client = Client::new();
            let (connection, mut worker) = match is_unix {
                false => tcp().await,
                true => unix().await,
            };
            let post = outgoing(Method::POST, &[], Framing::Length(length as u64));
            let body = Full::new(Bytes::from(vec![b'x'; length]));
            let early = std::thread::spawn(move || {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    worker.read_exact(&mut byte).expect("a head");
                    head.extend_from_slice(&byte);
                }
                if reads == Does::ReadsAll {
                    let mut body = vec![0; length];
                    worker.read_exact(&mut body).expect("a body");
                }
                worker.write_all(FORBIDDEN).expect("room");
                worker
            });
            let answered = client.send(connection, &post, body).await;
            assert_eq!(whole(answered.expect("an answer")).await.0, 403);
            let idle = client.pool.idle(WORKER);
            assert_eq!(idle == 1, reads == Does::ReadsAll, "{is_unix} {length}");
            drop(early.join().expect("no panic"));
        }
    }
}

#[tokio::test]
async fn f41_a_connection_on_which_a_short_body_may_be_unread_is_left_alone_for_a_while() {
    // The worker's kernel has taken it, so nobody can tell whether the worker has.
    let (answered, refused) = (
        &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno"[..],
        FORBIDDEN,
    );
    for (says, length, at_once) in [
        (refused, 1, false),
        (refused, 1 << 10, false),
        (refused, 0, true),
        (answered, 1 << 10, true),
    ] {
        let client = Client::new();
        let (connection, mut worker) = tcp().await;
        let post = outgoing(Method::POST, &[], Framing::Length(length as u64));
        let body = Full::new(Bytes::from(vec![b'x'; length]));
        worker.write_all(says).expect("room");
        let early = client.send(connection, &post, body).await;
        let before = Instant::now();
        whole(early.expect("an answer")).await;
        assert_eq!(client.pool.idle(WORKER), 1);
        let taken = client.pool.take(WORKER, before);
        assert_eq!(taken.is_some(), at_once, "{length}");
        let later = Instant::now() + Duration::from_millis(50);
        let taken = taken.or_else(|| client.pool.take(WORKER, later));
        assert!(taken.is_some(), "{length}");
    }
}
