//! One health probe: a whole exchange on a connection of its own. That a connection is accepted
//! proves nothing, because the kernel does that for a listener whose process hangs (F22).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::text::excerpt;
use crate::link::message::{Protocol, WorkerAddress};
use crate::sys::is_exhausted;

/// Most bytes read of an answer.
const LONGEST: usize = 16 << 10;
/// Most header fields looked at.
const FIELDS: usize = 100;
/// Bytes of a bad answer's body that are shown.
const EXCERPT: usize = 200;

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
                        let what = format!("its socket {socket} does not exist yet");
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

/// A worker that refuses the one stream answers, too, if any answer will do: a gRPC server need not know
/// `GET`.
async fn ask_h2c(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    path: Option<&str>,
) -> Result<(), String> {
    let target = path.unwrap_or("/");
    let no_http2 = |error: h2::Error| format!("not HTTP/2, as `protocol = \"h2c\"` wants: {error}");
    let (sender, connection) = h2::client::handshake(stream).await.map_err(no_http2)?;
    let request = http::Request::get(format!("http://localhost{target}"))
        .header("user-agent", "remuda-probe")
        .body(())
        .map_err(|error| format!("`{target}` is no path: {error}"))?;
    let exchange = async {
        let mut sender = sender.ready().await.map_err(no_http2)?;
        let (response, _) = sender.send_request(request, true).map_err(no_http2)?;
        match response.await {
            Ok(response) => Ok(Some(response.status())),
            Err(error) if error.is_reset() && error.is_remote() => Ok(None),
            Err(error) => Err(no_http2(error)),
        }
    };
    let status = tokio::select! {
        biased;
        status = exchange => status?,
        ended = connection => return match ended {
            Ok(()) => Err(cut(&[])),
            Err(error) => Err(no_http2(error)),
        },
    };
    match (path, status) {
        (None, _) => Ok(()),
        (Some(_), Some(status)) if (200..400).contains(&status.as_u16()) => Ok(()),
        (Some(_), Some(status)) => Err(format!("GET {target} answered {}", status.as_u16())),
        (Some(_), None) => Err(format!("GET {target} was refused")),
    }
}

async fn ask_http1(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: Option<&str>,
) -> Result<(), String> {
    let target = path.unwrap_or("/");
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: remuda-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| why(&error))?;
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(head) = final_head(&bytes)? {
            break head;
        }
        if read_more(&mut stream, &mut bytes).await? == 0 {
            return Err(cut(&bytes));
        }
        if bytes.len() > LONGEST {
            return Err(format!("not HTTP: no end of the header in {LONGEST} bytes"));
        }
    };
    if path.is_none() || (200..400).contains(&head.status) {
        return Ok(());
    }
    let problem = format!("GET {target} answered {}", head.status);
    // The reason may be in the body; it is shown as far as it comes before the time is over. The caller's
    // time limit would lose the status, so a body that does not come is not waited for.
    let body = async {
        while bytes.len() < head.length + EXCERPT {
            match read_more(&mut stream, &mut bytes).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(50), body).await;
    let mut body = &bytes[head.length..];
    if head.is_chunked {
        // The first chunk is enough; its length is not of interest.
        let start = body
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        body = &body[start..];
        let end = body
            .windows(2)
            .position(|two| two == b"\r\n")
            .unwrap_or(body.len());
        body = &body[..end];
    }
    let body = body.trim_ascii();
    if body.is_empty() {
        Err(problem)
    } else {
        Err(format!("{problem}: {}", excerpt(body, EXCERPT)))
    }
}

/// A final answer's head.
struct Head {
    status: u16,
    length: usize,
    is_chunked: bool,
}

/// The head of the final answer, past informational ones; `None` if it is not whole yet.
fn final_head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let mut skipped = 0;
    loop {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut answer = httparse::Response::new(&mut fields);
        let parsed = answer.parse(&bytes[skipped..]).map_err(|error| {
            if matches!(bytes, [0, 0, _, 4, ..]) {
                return "it speaks HTTP/2 only: set `protocol = \"h2c\"`".to_owned();
            }
            format!("not HTTP: {error}: {}", excerpt(&bytes[skipped..], EXCERPT))
        })?;
        let httparse::Status::Complete(length) = parsed else {
            return Ok(None);
        };
        skipped += length;
        let status = answer.code.unwrap_or(0);
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let is_chunked = answer.headers.iter().any(|field| {
            field.name.eq_ignore_ascii_case("transfer-encoding")
                && field.value.to_ascii_lowercase().ends_with(b"chunked")
        });
        return Ok(Some(Head {
            status,
            length: skipped,
            is_chunked,
        }));
    }
}

async fn read_more(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
) -> Result<usize, String> {
    let mut chunk = [0; 2048];
    let length = match stream.read(&mut chunk).await {
        Ok(length) => length,
        Err(error) => return Err(why(&error)),
    };
    bytes.extend_from_slice(&chunk[..length]);
    Ok(length)
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
                "its socket /no/such/socket does not exist yet".to_owned()
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
