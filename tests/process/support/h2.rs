//! Load by HTTP/2 over TLS: several streams at once on one connection, which is kept.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::checker::Outcome;
use super::http::PATIENCE;
use super::load::Loader;
use super::tls::NAME;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Goes on until it is stopped.
pub(super) fn run(client: &mut Loader) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let config = client.tls.clone().expect("HTTP/2 goes by TLS");
    let mut kept = None;
    while client.goes_on() {
        let four = [
            ("GET", "/fast", 0),
            ("POST", "/echo", 100_000),
            ("GET", "/slow?ms=100", 0),
            ("POST", "/echo", 10),
        ];
        let ids: Vec<_> = four.iter().map(|_| client.id()).collect();
        let address = client.address;
        let outcomes = runtime.block_on(async {
            let sender = match kept.take() {
                Some(sender) => Ok(sender),
                None => connect(address, &config).await,
            };
            let sender = match sender {
                Ok(sender) => sender,
                Err(error) => return vec![error.to_string(); four.len()],
            };
            let running: Vec<JoinHandle<_>> = four
                .iter()
                .zip(&ids)
                .map(|(&(method, target, size), id)| {
                    let one = one(sender.clone(), method, target, id.clone(), size);
                    tokio::spawn(timeout(PATIENCE, one))
                })
                .collect();
            let mut outcomes = Vec::new();
            for one in running {
                outcomes.push(match one.await.expect("no panic") {
                    Ok(Ok(())) => String::new(),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "no answer".to_owned(),
                });
            }
            if outcomes.iter().all(String::is_empty) {
                kept = Some(sender);
            }
            outcomes
        });
        for ((id, (method, ..)), outcome) in ids.into_iter().zip(four).zip(outcomes) {
            let outcome = match outcome.is_empty() {
                true => Outcome::Answered,
                false => Outcome::Failed(outcome),
            };
            client.note(id, method, outcome);
        }
    }
}

async fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> Result<SendRequest<Bytes>, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    greet(stream, config).await
}

async fn greet<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    config: &Arc<ClientConfig>,
) -> Result<SendRequest<Bytes>, Failure> {
    let connector = TlsConnector::from(Arc::clone(config));
    let stream = connector
        .connect(ServerName::try_from(NAME)?, stream)
        .await?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Requests by TLS on a unix socket, several at once on one connection; what went wrong, if something did.
pub(crate) fn ask_unix(
    path: &Path,
    config: &Arc<ClientConfig>,
    count: usize,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let stream = UnixStream::connect(path).await?;
        let sender = greet(stream, config).await?;
        let begin = |n| {
            one(
                sender.clone(),
                "POST",
                "/echo",
                format!("unix-{n}"),
                100_000,
            )
        };
        let running: Vec<_> = (0..count)
            .map(|n| tokio::spawn(timeout(PATIENCE, begin(n))))
            .collect();
        for one in running {
            one.await???;
        }
        Ok(())
    })
}

/// One request; its body, if it has one, must come back.
async fn one(
    sender: SendRequest<Bytes>,
    method: &str,
    target: &str,
    id: String,
    size: usize,
) -> Result<(), Failure> {
    let request = Request::builder()
        .method(method)
        .uri(format!("https://{NAME}{target}"))
        .header("x-id", id)
        .body(())?;
    let (response, mut stream) = sender.ready().await?.send_request(request, size == 0)?;
    let body: Vec<u8> = (0..size)
        .map(|n| u8::try_from(n % 253).unwrap_or(0))
        .collect();
    let mut rest = Bytes::from(body.clone());
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let room = room.ok_or("the stream is gone")??;
        let part = rest.split_to(room.min(rest.len()));
        stream.send_data(part, rest.is_empty())?;
    }
    let (head, mut came) = response.await?.into_parts();
    let mut answer = Vec::new();
    while let Some(data) = came.data().await {
        let data = data?;
        came.flow_control().release_capacity(data.len())?;
        answer.extend_from_slice(&data);
    }
    match (head.status.as_u16(), size) {
        (200, 0) if !answer.is_empty() => Ok(()),
        (200, 1..) if answer == body => Ok(()),
        (200, _) => Err("wrong body".into()),
        (status, _) => Err(format!("status {status}").into()),
    }
}
