//! An admin side with a fake control loop behind it, and a small HTTP client.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use remuda::admin::{self, Listeners, Running, Token};
use remuda::feed::Feed;
use remuda::rollout::{Accepted, Command, Generation, Joined, Refusal, Slot, Steer};
use remuda::supervisor::handle::{Ask, Handle};
use remuda::wire;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc, watch};

/// Everything a test needs.
pub(crate) struct Rig {
    pub(crate) tcp: std::net::SocketAddr,
    pub(crate) metrics: std::net::SocketAddr,
    pub(crate) socket: PathBuf,
    pub(crate) token: String,
    pub(crate) events: Feed<wire::Event>,
    pub(crate) logs: Feed<(String, wire::LogLine)>,
    pub(crate) ready: watch::Sender<bool>,
    pub(crate) status: watch::Sender<Arc<wire::Status>>,
    /// What the loop was asked, in words.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    /// The loop answers nothing.
    pub(crate) mute: Arc<AtomicBool>,
    /// Lets an order with the reason `held` go on.
    pub(crate) release: Arc<Notify>,
    pub(crate) running: Running,
    _dir: tempfile::TempDir,
}

/// Which way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Unix,
    Tcp,
    Metrics,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Got {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).map(|value| value.to_str());
        value.transpose().expect("text").unwrap_or("")
    }
}

/// A call to be made.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: &'static str,
}

pub(crate) fn get(path: &str) -> Call {
    Call {
        method: "GET",
        path: path.to_owned(),
        headers: Vec::new(),
        body: "",
    }
}

/// A POST with a JSON content type.
pub(crate) fn post(path: &str, body: &'static str) -> Call {
    let call = Call {
        method: "POST",
        body,
        ..get(path)
    };
    call.with("content-type", "application/json")
}

impl Call {
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(header, _)| *header != name);
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("admin.sock");
        let unix = UnixListener::bind(&socket).expect("bound");
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let metrics = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let path = dir.path().join("token");
        let token = Token::create(&path).expect("made");
        let secret = std::fs::read_to_string(&path).expect("readable");
        let (asks, questions) = mpsc::channel(16);
        let (status, status_seen) = watch::channel(Arc::new(sample_status()));
        let (_, rollouts) = watch::channel(Arc::new(vec![sample_rollout(2, "completed")]));
        let (ready, ready_seen) = watch::channel(true);
        let (events, logs) = (Feed::new(5), Feed::new(100));
        let handle = Handle {
            asks,
            status: status_seen,
            rollouts,
            events: events.clone(),
            logs: logs.clone(),
            ready: ready_seen,
        };
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let mute = Arc::new(AtomicBool::new(false));
        let release = Arc::new(Notify::new());
        tokio::spawn(control_loop(
            questions,
            status.clone(),
            Arc::clone(&asked),
            Arc::clone(&mute),
            Arc::clone(&release),
        ));
        let at = |listener: &TcpListener| listener.local_addr().expect("bound");
        let (tcp_at, metrics_at) = (at(&tcp), at(&metrics));
        let listeners = Listeners {
            unix,
            tcp: Some(tcp),
            metrics: Some(metrics),
        };
        Self {
            tcp: tcp_at,
            metrics: metrics_at,
            socket,
            token: secret.trim().to_owned(),
            events,
            logs,
            ready,
            status,
            asked,
            mute,
            release,
            running: admin::serve(listeners, handle, token),
            _dir: dir,
        }
    }

    /// Makes a call and reads the head of the answer.
    pub(crate) async fn open(&self, way: Way, call: &Call) -> Response<Incoming> {
        let mut request = Request::builder().method(call.method).uri(&call.path);
        if !call.headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "localhost");
        }
        for (name, value) in call.headers.iter().filter(|(_, value)| value != "-") {
            request = request.header(*name, value);
        }
        let body = Full::new(Bytes::from_static(call.body.as_bytes()));
        let request = request.body(body).expect("a request");
        let answer = match way {
            Way::Unix => {
                let stream = UnixStream::connect(&self.socket).await.expect("connected");
                send(stream, request).await
            }
            Way::Tcp => {
                let stream = TcpStream::connect(self.tcp).await.expect("connected");
                send(stream, request).await
            }
            Way::Metrics => {
                let stream = TcpStream::connect(self.metrics).await.expect("connected");
                send(stream, request).await
            }
        };
        answer.expect("an answer")
    }

    /// Makes a call and reads the whole answer.
    pub(crate) async fn call(&self, way: Way, call: &Call) -> Got {
        let (head, body) = self.open(way, call).await.into_parts();
        let body = tokio::time::timeout(Duration::from_secs(20), body.collect())
            .await
            .expect("ended in time")
            .expect("whole")
            .to_bytes();
        Got {
            status: head.status,
            headers: head.headers,
            body,
        }
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    sender.send_request(request).await
}

/// Reads a stream until its text contains this, and returns all of it so far.
pub(crate) async fn read_until(body: &mut Incoming, so_far: &mut String, wanted: &str) {
    let read = async {
        while !so_far.contains(wanted) {
            let frame = body.frame().await.expect("not ended").expect("whole");
            if let Ok(data) = frame.into_data() {
                so_far.push_str(std::str::from_utf8(&data).expect("text"));
            }
        }
    };
    let read = tokio::time::timeout(Duration::from_secs(10), read).await;
    assert!(read.is_ok(), "no `{wanted}` in `{so_far}`");
}

async fn control_loop(
    mut questions: mpsc::Receiver<Ask>,
    status: watch::Sender<Arc<wire::Status>>,
    asked: Arc<Mutex<Vec<String>>>,
    mute: Arc<AtomicBool>,
    release: Arc<Notify>,
) {
    let mut unanswered = Vec::new();
    while let Some(ask) = questions.recv().await {
        let note = |text: String| asked.lock().expect("no panic").push(text);
        if mute.load(Ordering::SeqCst) {
            unanswered.push(ask);
            continue;
        }
        match ask {
            Ask::Command { command, by, reply } => {
                note(format!("{command:?} by {by}"));
                let _ = reply.send(obey(*command, &status));
            }
            Ask::Rollout {
                order,
                trigger,
                by,
                reply,
            } => {
                note(format!("rollout {order:?} {trigger:?} by {by}"));
                if order.reason.as_deref() == Some("held") {
                    release.notified().await;
                }
                let answer = match (order.service.as_deref(), order.expected_generation) {
                    (Some("nope"), _) => Err(Refusal::NoService(
                        remuda::rollout::ServiceName::new("nope"),
                    )),
                    (_, Some(generation)) if generation != 3 => Err(Refusal::Unexpected {
                        stable: Generation(3),
                    }),
                    _ => Ok(vec![sample_rollout(4, "pending")]),
                };
                let _ = reply.send(answer);
            }
            Ask::Requests { service, reply } => {
                note(format!("requests {service}"));
                let _ = reply.send(Ok(vec![sample_request()]));
            }
            Ask::Metrics { reply } => {
                let _ = reply.send("remuda_build_info 1\n".to_owned());
            }
            Ask::Plan { reply } => {
                note("plan".to_owned());
                let _ = reply.send(Ok(wire::Reloaded {
                    changes: vec!["service app: workers 4 → 6".to_owned()],
                    ..wire::Reloaded::default()
                }));
            }
            Ask::Reload { by, reply } => {
                note(format!("reload by {by}"));
                let _ = reply.send(Ok(wire::Reloaded {
                    changes: vec!["service app: workers 4 → 6".to_owned()],
                    warnings: Vec::new(),
                    rollouts: Vec::new(),
                }));
            }
        }
    }
}

fn obey(command: Command, status: &watch::Sender<Arc<wire::Status>>) -> Result<Accepted, Refusal> {
    match command {
        Command::Steer { steer, .. } => {
            let state = match steer {
                Steer::Pause => "paused",
                Steer::Resume => "running",
                Steer::Promote => "completed",
                Steer::Abort => "rolled_back",
            };
            status.send_modify(|status| {
                let app = Arc::make_mut(status).services.get_mut("app");
                let rollout = app.and_then(|app| app.rollout.as_mut());
                rollout.expect("there").state = state.to_owned();
            });
            Ok(Accepted::Done)
        }
        Command::Worker { slot, .. } if slot.0 > 50 => Err(Refusal::NoSlot(Slot(slot.0))),
        Command::Scale { service, .. } if &*service.0 == "nope" => Err(Refusal::NoService(service)),
        Command::Scale { wanted: 0, .. } => Err(Refusal::Invalid("at least 1".to_owned())),
        Command::Scale { wanted: 77, .. } => Err(Refusal::Unmanaged),
        Command::Rollback { .. } => Ok(Accepted::Rollout {
            number: Generation(4),
            how: Joined::Began,
        }),
        _ => Ok(Accepted::Done),
    }
}

pub(crate) fn sample_rollout(to: u64, state: &str) -> wire::Rollout {
    let failed = state == "rolled_back";
    wire::Rollout {
        id: format!("app-{to}"),
        service: "app".to_owned(),
        from: to - 1,
        to,
        release: Some("2026.11.2".to_owned()),
        trigger: "signal".to_owned(),
        reason: None,
        state: state.to_owned(),
        step: wire::RolloutStep {
            name: "retiring".to_owned(),
            batch: 2,
            of: 4,
        },
        progress: 0.43,
        waiting_on: None,
        counts: wire::RolloutCounts {
            wanted: 4,
            candidate_ready: 2,
            stable_ready: 2,
            retiring: 1,
            retiring_requests: 5,
        },
        verdicts: Vec::new(),
        ledger: wire::Ledger::default(),
        remarks: Vec::new(),
        failure: failed.then(|| wire::Failure {
            reason: "worker".to_owned(),
            message: "slot 4 of generation 4 ended before it was ready: exit status 1".to_owned(),
            worker: None,
        }),
        requested_at: "2026-11-23T02:00:00.000Z".to_owned(),
        started_at: Some("2026-11-23T02:00:00.010Z".to_owned()),
        ended_at: (state == "completed").then(|| "2026-11-23T02:00:30.000Z".to_owned()),
        full_strength: true,
    }
}

fn sample_worker(slot: u32, generation: u64, state: &str) -> wire::Worker {
    wire::Worker {
        slot,
        pid: Some(4000 + slot),
        generation,
        state: state.to_owned(),
        health: "passing".to_owned(),
        in_flight: 5,
        in_flight_by_class: wire::InFlight {
            plain: 3,
            upload: 0,
            stream: 2,
            tunnel: 0,
        },
        rss: Some(48_000_000 + u64::from(slot) * 1_300_000),
        started_at: Some("2026-11-23T01:58:00.000Z".to_owned()),
        address: None,
        drain_deadline: None,
        drain_initial: None,
        failures: 0,
        ejected: false,
    }
}

pub(crate) fn sample_status() -> wire::Status {
    let generation = |number, role: &str, weight, workers| wire::Generation {
        number,
        role: role.to_owned(),
        release: Some(format!("2026.11.{}", number - 2)),
        weight,
        workers,
    };
    let mut draining = sample_worker(1, 3, "draining");
    draining.drain_initial = Some(12);
    draining.drain_deadline = Some("2026-11-23T02:00:48.000Z".to_owned());
    let old = vec![
        sample_worker(0, 3, "ready"),
        draining,
        sample_worker(2, 3, "ready"),
    ];
    let mut starting = sample_worker(5, 4, "starting");
    starting.health = "unknown".to_owned();
    starting.rss = None;
    let new = vec![sample_worker(4, 4, "ready"), starting];
    let service = wire::Service {
        generation: 3,
        release: Some("2026.11.1".to_owned()),
        wanted: 4,
        ready: 4,
        waiting_on: Some(wire::WaitingOn {
            kind: "drain".to_owned(),
            message: "rolling 2 of 4: slot 1 drains 5 requests".to_owned(),
            since: "2026-11-23T02:00:20.000Z".to_owned(),
            deadline: Some("2026-11-23T02:00:48.000Z".to_owned()),
        }),
        rollout: Some(sample_rollout(4, "running")),
        generations: vec![
            generation(3, "stable", 0.57, old),
            generation(4, "candidate", 0.43, new),
        ],
        in_flight: 25,
        parked: 0,
        parked_as: None,
    };
    wire::Status {
        version: "0.1.0".to_owned(),
        pid: 3999,
        data_planes: vec![wire::DataPlane {
            pid: 4000,
            state: "accepting".to_owned(),
            started_at: "2026-11-23T01:58:00.000Z".to_owned(),
        }],
        services: [("app".to_owned(), service)].into(),
        state: "running".to_owned(),
        started_at: "2026-11-23T01:58:00.000Z".to_owned(),
        listeners: vec!["0.0.0.0:8080".to_owned()],
        admin: None,
        notices: Vec::new(),
    }
}

pub(crate) fn sample_event(kind: &str, message: &str) -> wire::Event {
    wire::Event {
        at: "2026-11-23T02:00:20.000Z".to_owned(),
        service: Some("app".to_owned()),
        kind: kind.to_owned(),
        message: message.to_owned(),
        data: json!({}),
    }
}

pub(crate) fn sample_line(slot: u32, line: &str) -> (String, wire::LogLine) {
    let line = wire::LogLine {
        at: "2026-11-23T02:00:20.000Z".to_owned(),
        slot,
        generation: 3,
        pid: 4000,
        stream: "stdout".to_owned(),
        line: line.to_owned(),
    };
    ("app".to_owned(), line)
}

fn sample_request() -> wire::LiveRequest {
    wire::LiveRequest {
        id: "r1".to_owned(),
        class: "plain".to_owned(),
        method: "GET".to_owned(),
        route: "/slow".to_owned(),
        client: "127.0.0.1".to_owned(),
        age: 1.5,
        idle: 0.5,
        bytes_in: 0,
        bytes_out: 10,
        slot: Some(1),
        generation: Some(3),
        blocks_drain: true,
        eta: None,
        attempt: 1,
    }
}
