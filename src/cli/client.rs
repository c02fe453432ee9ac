//! The client of the admin API: HTTP/1.1 over the unix socket of one instance, a connection per call.

use std::fmt::Write as _;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::exit::{Code, Failure};
use crate::admin::may_enter;
use crate::config::paths::OF_SYSTEMD;
use crate::wire::{Problem, Rollout, Rollouts, Status};

/// More than any answer of ours; an answer beyond it is not ours.
const LARGEST_ANSWER: usize = 64 << 20;

/// How long an answer may take to begin. An instance that can speak does so in 10 s, be it to say that it is held up.
const PATIENCE: Duration = Duration::from_secs(12);

/// One instance, found by its socket.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    /// The instance behind this socket. Nothing is connected yet.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// `GET /v1/status`.
    pub(crate) async fn status(&self) -> Result<Status, Failure> {
        self.get("/v1/status").await
    }

    /// `GET /v1/rollouts`.
    pub(crate) async fn rollouts(&self) -> Result<Vec<Rollout>, Failure> {
        let all: Rollouts = self.get("/v1/rollouts").await?;
        Ok(all.rollouts)
    }

    /// `GET /v1/rollouts/{id}`.
    pub(crate) async fn rollout(&self, id: &str) -> Result<Rollout, Failure> {
        self.get(&format!("/v1/rollouts/{}", escape(id))).await
    }

    /// Asks for JSON.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let answer = self.send(Method::GET, path, Bytes::new()).await?;
        self.read(answer).await
    }

    /// Orders a change and reads the JSON that comes back.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Failure::new(Code::Failed, format!("cannot be sent: {error}")))?;
        let answer = self.send(Method::POST, path, Bytes::from(body)).await?;
        self.read(answer).await
    }

    /// Asks for something that streams.
    pub(crate) async fn stream(&self, path: &str) -> Result<Incoming, Failure> {
        let answer = self.send(Method::GET, path, Bytes::new()).await?;
        if answer.status().is_success() {
            return Ok(answer.into_body());
        }
        self.read::<serde_json::Value>(answer).await?;
        Err(self.garbled("an error without a reason"))
    }

    /// Whether nobody listens at its socket any more.
    pub(crate) async fn is_gone(&self) -> bool {
        use std::io::ErrorKind::{ConnectionRefused, NotFound};
        let connected = UnixStream::connect(&self.socket).await;
        connected.is_err_and(|error| matches!(error.kind(), NotFound | ConnectionRefused))
    }

    /// Only the status code of an answer.
    pub(crate) async fn probe(&self, path: &str) -> Result<StatusCode, Failure> {
        let answer = self.send(Method::GET, path, Bytes::new()).await?;
        Ok(answer.status())
    }

    /// Asks, and waits for the head of the answer no longer than there is hope for one.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let may_be_done = method == Method::POST;
        let answer = self.exchange(method, path, body);
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(self.silent(may_be_done)),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| no_instance(&self.socket, &error, Path::new(OF_SYSTEMD)))?;
        let own = nix::unistd::geteuid().as_raw();
        let theirs = stream.peer_cred().map(|peer| peer.uid()).ok();
        let broke = |error: hyper::Error| match theirs {
            Some(theirs) if !may_enter(own, theirs) => self.closed(theirs, own),
            _ => self.broke(&error),
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broke)?;
        // Ends when the answer has been read or dropped; its error reaches us through the sender.
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(&method)
            .uri(path)
            .header("Host", "remuda")
            .header("Remuda-Client", "cli");
        if method == Method::POST {
            request = request
                .header("Content-Type", "application/json")
                .header("Idempotency-Key", uuid::Uuid::now_v7().to_string());
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| Failure::new(Code::Usage, format!("cannot be asked for: {error}")))?;
        sender.send_request(request).await.map_err(broke)
    }

    async fn read<T: DeserializeOwned>(&self, answer: Response<Incoming>) -> Result<T, Failure> {
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST_ANSWER)
            .collect()
            .await
            .map_err(|error| self.garbled(&error.to_string()))?
            .to_bytes();
        if !status.is_success() {
            let problem = serde_json::from_slice(&body).unwrap_or_else(|_| Problem {
                kind: "about:blank".to_owned(),
                title: status.canonical_reason().unwrap_or("error").to_owned(),
                status: status.as_u16(),
                detail: format!("the instance answered {status}"),
            });
            return Err(Failure::refused(problem));
        }
        serde_json::from_slice(&body).map_err(|error| self.garbled(&error.to_string()))
    }

    fn silent(&self, may_be_done: bool) -> Failure {
        let order = match may_be_done {
            true => " and may still do what was ordered",
            false => "",
        };
        Failure::new(
            Code::NoInstance,
            format!(
                "the instance at `{}` has not answered in {} s{order}: its process is held up, or stopped by a signal",
                self.socket.display(),
                PATIENCE.as_secs()
            ),
        )
    }

    /// It is of another user, and does not answer this one.
    fn closed(&self, theirs: u32, own: u32) -> Failure {
        Failure::new(
            Code::NoInstance,
            format!(
                "the instance at `{}` is run by the user with the number {theirs} and does not answer this one, {own}; be that user, or root",
                self.socket.display()
            ),
        )
    }

    fn broke(&self, error: &hyper::Error) -> Failure {
        Failure::new(
            Code::NoInstance,
            format!(
                "the instance at `{}` went away before it answered ({error}); see `remuda status`",
                self.socket.display()
            ),
        )
    }

    fn garbled(&self, what: &str) -> Failure {
        Failure::new(
            Code::NoInstance,
            format!(
                "what answers at `{}` is not a remuda of this version ({what}); compare `remuda --version` with the running one",
                self.socket.display()
            ),
        )
    }
}

/// A path segment with everything escaped that is not plain.
pub(crate) fn escape(segment: &str) -> String {
    segment
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn no_instance(socket: &Path, error: &std::io::Error, of_systemd: &Path) -> Failure {
    let start = "start one with `remuda run -- CMD`, or name another with `--admin-socket PATH`";
    let other = "name the one with `--admin-socket PATH`";
    let (why, then) = match error.kind() {
        std::io::ErrorKind::NotFound => ("there is no such socket".to_owned(), start),
        std::io::ErrorKind::ConnectionRefused if is_other(socket) => {
            ("it is no socket".to_owned(), other)
        }
        std::io::ErrorKind::ConnectionRefused => {
            ("nobody listens there any more".to_owned(), start)
        }
        std::io::ErrorKind::PermissionDenied => (
            "this user may not connect to it".to_owned(),
            "be the user who runs it, or root",
        ),
        _ => (error.to_string(), start),
    };
    let mut message = format!("no instance answers at `{}`: {why}; ", socket.display());
    match of_systemd.symlink_metadata().map_err(|error| error.kind()) {
        _ if socket == of_systemd => message.push_str(then),
        Ok(_) => {
            let there = of_systemd.display();
            let _ = write!(message, "the one of systemd is at `--admin-socket {there}`");
        }
        Err(std::io::ErrorKind::PermissionDenied) => {
            let there = of_systemd.display();
            let _ = write!(
                message,
                "if systemd runs it, be root and name `--admin-socket {there}`"
            );
        }
        Err(_) => message.push_str(then),
    }
    Failure::new(Code::NoInstance, message)
}

/// It is there, and is something else than a socket.
fn is_other(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|there| !there.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::{Client, escape, no_instance};
    use crate::admin::may_enter;
    use crate::cli::exit::Code;

    #[test]
    fn who_finds_nobody_is_told_of_the_instance_of_systemd() {
        let directory = tempfile::tempdir().expect("a directory");
        let of_systemd = directory.path().join("admin.sock");
        let ours = Path::new("/nowhere/admin.sock");
        let gone = io::Error::from(io::ErrorKind::NotFound);
        let said = |socket| no_instance(socket, &gone, &of_systemd).message;
        assert!(said(ours).contains("start one with"), "{}", said(ours));
        std::fs::write(&of_systemd, "").expect("written");
        let other = format!("--admin-socket {}", of_systemd.display());
        assert!(said(ours).contains(&other), "{}", said(ours));
        assert!(!said(&of_systemd).contains(&other));
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_is_stopped_by_a_signal_is_not_waited_for_for_ever() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("admin.sock");
        // The kernel takes the connection; nobody reads it.
        let _held = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        let client = Client::new(socket);
        let failure = client.status().await.expect_err("nobody answers");
        assert_eq!(failure.code, Code::NoInstance);
        let said = failure.message;
        assert!(said.contains("has not answered in 12 s"), "{said}");
        let order = client.post::<serde_json::Value>("/v1/reload", &()).await;
        let said = order.expect_err("nobody answers").message;
        assert!(said.contains("may still do what was ordered"), "{said}");
    }

    #[test]
    fn t1_whom_an_instance_of_another_user_turns_away_is_told_so() {
        assert!(may_enter(1000, 1000) && may_enter(0, 1000) && may_enter(0, 0));
        assert!(!may_enter(1001, 1000) && !may_enter(1000, 0));
        let failure = Client::new("/x/admin.sock".into()).closed(0, 1000);
        assert_eq!(failure.code, Code::NoInstance);
        let said = failure.message;
        assert!(said.contains("does not answer this one, 1000"), "{said}");
        assert!(said.contains("or root"), "{said}");
    }

    #[test]
    fn a_name_cannot_leave_its_path_segment() {
        assert_eq!(escape("app-3"), "app-3");
        assert_eq!(escape("../a b?ü"), "..%2Fa%20b%3F%C3%BC");
    }
}
