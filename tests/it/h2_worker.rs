//! A worker that speaks HTTP/2 by prior knowledge: its script is given each stream.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, Connection, SendResponse};
use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};

/// A stream that was accepted.
pub(crate) struct Stream {
    pub(crate) request: Request<RecvStream>,
    pub(crate) respond: SendResponse<Bytes>,
    /// Which one it is on its connection, from 1.
    pub(crate) number: usize,
    /// Which connection of its worker, from 1.
    pub(crate) connection: usize,
}

/// What a worker does with one stream, while its connection goes on.
pub(crate) type Doing = Pin<Box<dyn Future<Output = ()>>>;

/// What a worker does with a connection when a stream comes.
pub(crate) type Hand = dyn Fn(&mut Connection<TcpStream, Bytes>, Stream) -> Doing + Send + Sync;

/// A scripted worker. Its thread ends with the test program.
pub(crate) struct H2Worker {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    /// Method and path of each stream.
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
}

impl H2Worker {
    pub(crate) fn start(
        settings: Builder,
        hand: impl Fn(&mut Connection<TcpStream, Bytes>, Stream) -> Doing + Send + Sync + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("bound");
        let worker = Self {
            address,
            connections: Arc::default(),
            seen: Arc::default(),
        };
        let (connections, seen) = (Arc::clone(&worker.connections), Arc::clone(&worker.seen));
        let hand: Arc<Hand> = Arc::new(hand);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("runtime");
            tokio::task::LocalSet::new().block_on(&runtime, async move {
                let listener = TcpListener::from_std(listener).expect("listener");
                while let Ok((stream, _)) = listener.accept().await {
                    let which = connections.fetch_add(1, Ordering::SeqCst) + 1;
                    let (settings, hand) = (settings.clone(), Arc::clone(&hand));
                    let seen = Arc::clone(&seen);
                    tokio::task::spawn_local(async move {
                        let Ok(mut connection) = settings.handshake(stream).await else {
                            return;
                        };
                        let mut number = 0;
                        while let Some(Ok((request, respond))) = connection.accept().await {
                            number += 1;
                            let line = format!("{} {}", request.method(), request.uri().path());
                            seen.lock().expect("no panic").push(line);
                            let stream = Stream {
                                request,
                                respond,
                                number,
                                connection: which,
                            };
                            let doing = hand(&mut connection, stream);
                            tokio::task::spawn_local(doing);
                        }
                    });
                }
            });
        });
        worker
    }

    /// Answers every stream with its own name.
    pub(crate) fn named(name: &'static str) -> Self {
        Self::start(Builder::new(), move |_, stream| {
            Box::pin(reply(stream, name))
        })
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").clone()
    }
}

/// A whole answer.
pub(crate) async fn reply(mut stream: Stream, body: &'static str) {
    let mut upload = stream.request.into_body();
    while let Some(Ok(data)) = upload.data().await {
        let _ = upload.flow_control().release_capacity(data.len());
    }
    let head = Response::builder().header("content-length", body.len());
    let head = head.body(()).expect("a head");
    if let Ok(mut send) = stream.respond.send_response(head, false) {
        let _ = send.send_data(Bytes::from_static(body.as_bytes()), true);
    }
}
