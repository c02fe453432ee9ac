//! One health probe: a whole exchange on a connection of its own. That a connection is accepted
//! proves nothing, because the kernel does that for a listener whose process hangs (F22).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::text::excerpt;
use crate::link::message::{Protocol, WorkerAddress};
use crate::sys::is_exhausted;

mod h2c;
mod http1;

use self::h2c::ask_h2c;
use self::http1::ask_http1;

/// Bytes of a bad answer's body that are shown.
const EXCERPT: usize = 200;
/// So long is the rest of an answer waited for whose status is known.
const MOMENT: Duration = Duration::from_millis(50);

/// Why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missed {
    /// What came of the worker instead, in a sentence.
    Worker(String),
    /// Nothing in time.
    Late(String),
    /// We could not ask, which says nothing of it.
    Unasked(String),
}

impl Missed {
    fn to_connect(error: &io::Error) -> Self {
        match is_exhausted(error) {
            true => Self::Unasked(error.to_string()),
            false => Self::Worker(why(error)),
        }
    }
}

/// Asks a worker whether it can answer: `GET path` wanting 200 to 399, or `GET /` wanting any answer.
///
/// # Errors
/// What came instead.
pub async fn probe(
    address: &WorkerAddress,
    protocol: Protocol,
    path: Option<&str>,
    timeout: Duration,
) -> Result<(), Missed> {
    let late = |_elapsed| {
        let timeout = humantime::format_duration(timeout);
        Missed::Late(format!("no answer in {timeout}"))
    };
    let exchange = async {
        match address {
            WorkerAddress::Tcp(address) => match TcpStream::connect(address).await {
                Ok(stream) => ask(stream, protocol, path).await.map_err(Missed::Worker),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    let what = format!("connection refused at {address}: nobody listens there");
                    Err(Missed::Worker(what))
                }
                Err(error) => Err(Missed::to_connect(&error)),
            },
            WorkerAddress::Unix(path_of_socket) => {
                match UnixStream::connect(path_of_socket).await {
                    Ok(stream) => ask(stream, protocol, path).await.map_err(Missed::Worker),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        let socket = path_of_socket.display();
                        let what = format!("its socket {socket} does not exist");
                        Err(Missed::Worker(what))
                    }
                    Err(error) => Err(Missed::to_connect(&error)),
                }
            }
        }
    };
    tokio::time::timeout(timeout, exchange)
        .await
        .map_err(late)?
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    protocol: Protocol,
    path: Option<&str>,
) -> Result<(), String> {
    match protocol {
        Protocol::Http1 => ask_http1(stream, path).await,
        Protocol::H2c => ask_h2c(stream, path).await,
    }
}

fn cut(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        "the connection was closed without an answer".to_owned()
    } else {
        format!("not HTTP: closed after {}", excerpt(bytes, EXCERPT))
    }
}

fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "the connection was reset without an answer".to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use nix::errno::Errno;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::{Missed, probe};
    use crate::link::message::{Protocol, WorkerAddress};

    /// What a probe says of a server that answers with these bytes and closes; `None` never answers.
    async fn against(
        answer: Option<&'static [u8]>,
        path: Option<&'static str>,
    ) -> Result<(), Missed> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = WorkerAddress::Tcp(listener.local_addr().expect("bound"));
        let limit = if answer.is_some() { 10_000 } else { 50 };
        let server = async {
            let Some(answer) = answer else {
                return std::future::pending().await;
            };
            let (mut stream, _) = listener.accept().await.expect("accept");
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.expect("read");
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            assert!(request.starts_with(&format!(
                "GET {} HTTP/1.1\r\nHost: localhost\r\n",
                path.unwrap_or("/")
            )));
            assert!(request.contains("User-Agent: remuda-probe\r\n"));
            stream.write_all(answer).await.expect("write");
            stream.shutdown().await.expect("shutdown");
            drop(stream);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            outcome = probe(&address, Protocol::Http1, path, Duration::from_millis(limit)) => outcome,
            () = server => panic!("the server never ends first"),
        }
    }

    #[tokio::test]
    async fn f22_only_an_answer_counts() {
        for (answer, path, expected) in [
            (
                &b"HTTP/1.1 204 No Content\r\n\r\n"[..],
                Some("/healthz"),
                Ok(()),
            ),
            (
                b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n",
                Some("/healthz"),
                Ok(()),
            ),
            (
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
                Some("/healthz"),
                Ok(()),
            ),
            (b"HTTP/1.0 500 Oh\r\n\r\n", None, Ok(())),
            (
                b"HTTP/1.1 503 Unavailable\r\nContent-Length: 8\r\n\r\nno \x1b base",
                Some("/healthz"),
                Err("GET /healthz answered 503: no \\u{1b} base"),
            ),
            (
                b"HTTP/1.1 500 E\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nlost\r\n0\r\n\r\n",
                Some("/h"),
                Err("GET /h answered 500: lost"),
            ),
            (
                b"HTTP/1.1 404 Not Found\r\n\r\n",
                Some("/h"),
                Err("GET /h answered 404"),
            ),
            (
                b"",
                None,
                Err("the connection was closed without an answer"),
            ),
            (
                b"HTTP/1.1 20",
                None,
                Err("not HTTP: closed after HTTP/1.1 20"),
            ),
        ] {
            let outcome = against(Some(answer), path).await;
            let expected = expected.map_err(|what: &str| Missed::Worker(what.to_owned()));
            assert_eq!(outcome, expected, "{answer:?}");
        }
        let outcome = against(Some(b"SSH-2.0-OpenSSH\r\n"), None)
            .await
            .expect_err("no HTTP");
        assert!(
            matches!(&outcome, Missed::Worker(what) if what.starts_with("not HTTP: ")),
            "{outcome:?}"
        );
    }

    #[tokio::test]
    async fn f22_a_listener_that_never_answers_is_not_ready() {
        let outcome = against(None, None).await;
        let late = Missed::Late("no answer in 50ms".to_owned());
        assert_eq!(outcome, Err(late));
    }

    #[tokio::test]
    async fn what_is_not_there_is_said() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = WorkerAddress::Tcp(listener.local_addr().expect("bound"));
        drop(listener);
        let limit = Duration::from_secs(10);
        assert_eq!(
            probe(&address, Protocol::Http1, None, limit).await,
            Err(Missed::Worker(format!(
                "connection refused at {address}: nobody listens there"
            )))
        );
        let address = WorkerAddress::Unix("/no/such/socket".into());
        assert_eq!(
            probe(&address, Protocol::Http1, None, limit).await,
            Err(Missed::Worker(
                "its socket /no/such/socket does not exist".to_owned()
            ))
        );
    }

    #[test]
    fn g16_what_this_host_has_not_enough_of_says_nothing_of_a_worker() {
        let error = |errno: Errno| io::Error::from_raw_os_error(errno as i32);
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::EADDRNOTAVAIL] {
            let missed = Missed::to_connect(&error(errno));
            assert!(matches!(missed, Missed::Unasked(_)), "{missed:?}");
        }
        for errno in [Errno::ECONNREFUSED, Errno::ECONNRESET, Errno::EACCES] {
            let missed = Missed::to_connect(&error(errno));
            assert!(matches!(missed, Missed::Worker(_)), "{missed:?}");
        }
    }
}
