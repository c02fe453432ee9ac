//! A data plane in a thread of this process, with the test in the supervisor's place.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use remuda::link::channel::{Channel, Receiver, Sender};
use remuda::link::message::{
    AccessLog, Exchange, FromPlane, Front, GenerationEntry, LogFormat, MAGIC, PROTOCOL, Protocol,
    PublicListener, Sample, Service, ServiceRules, Table, ToPlane, WorkerAddress, WorkerEntry,
    WorkerSample,
};
use remuda::rollout::{Epoch, GateState, Generation, Role, ServiceName, Slot, Weight, WorkerId};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Nothing in these tests takes so long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A plane and the supervisor's end of its link.
pub(crate) struct Plane {
    runtime: Runtime,
    receiver: Receiver,
    sender: Option<Sender>,
    thread: Option<JoinHandle<io::Result<()>>>,
    pub(crate) address: SocketAddr,
    pub(crate) listener: Option<TcpListener>,
    pub(crate) rules: ServiceRules,
    /// Services beside it, which the next tables have, too.
    pub(crate) others: Vec<Service>,
    pub(crate) front: Front,
    /// Of every worker in the next tables that has none of its own.
    pub(crate) protocol: Protocol,
    epoch: u64,
    asked: u64,
    last: Sample,
}

/// A worker as a table names it.
#[derive(Clone, Copy)]
pub(crate) struct Route {
    pub(crate) id: u64,
    pub(crate) address: SocketAddr,
    pub(crate) gate: GateState,
    pub(crate) protocol: Option<Protocol>,
}

pub(crate) fn open(id: u64, address: SocketAddr) -> Route {
    Route {
        id,
        address,
        gate: GateState::Open,
        protocol: None,
    }
}

pub(crate) fn shut(id: u64, address: SocketAddr) -> Route {
    Route {
        id,
        address,
        gate: GateState::Shut,
        protocol: None,
    }
}

/// One that fails its probes.
pub(crate) fn aside(id: u64, address: SocketAddr) -> Route {
    Route {
        id,
        address,
        gate: GateState::Aside,
        protocol: None,
    }
}

impl Plane {
    /// A plane that has a listener, and no table yet.
    pub(crate) fn start() -> Self {
        Self::start_with(2)
    }

    pub(crate) fn start_with(loops: u32) -> Self {
        Self::start_as(loops, |theirs| {
            std::thread::spawn(move || remuda::proxy::serve_here(theirs))
        })
    }

    /// What we, its supervisor, are called by what we would leave: pid and start, any start here.
    pub(crate) fn our_name() -> String {
        format!("{}.1", std::process::id())
    }

    /// A plane in a process of its own, and its pid. It has no runtime directory to tidy up.
    pub(crate) fn start_process() -> (Self, Pid) {
        Self::start_program(Command::new(env!("CARGO_BIN_EXE_remuda")), 2, &[])
    }

    /// The same, by a command that runs our program, such as one that counts what it does, and with more
    /// arguments.
    pub(crate) fn start_program(mut program: Command, loops: u32, more: &[&str]) -> (Self, Pid) {
        let mut pid = 0;
        let plane = Self::start_as(loops, |theirs| {
            let mut child = program
                .args(["proxy", &Self::our_name(), "/nonexistent"])
                .args(more)
                .stdin(OwnedFd::from(theirs))
                .spawn()
                .expect("spawn");
            pid = child.id();
            std::thread::spawn(move || match child.wait()?.success() {
                true => Ok(()),
                false => Err(io::Error::other("the plane's process failed")),
            })
        });
        (plane, Pid::from_raw(i32::try_from(pid).expect("a pid")))
    }

    fn start_as(loops: u32, run: impl FnOnce(UnixStream) -> JoinHandle<io::Result<()>>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        let (ours, theirs) = UnixStream::pair().expect("pair");
        let thread = run(theirs);
        ours.set_nonblocking(true).expect("non-blocking");
        let (receiver, sender) = {
            let _inside = runtime.enter();
            Channel::new(tokio::net::UnixStream::from_std(ours).expect("stream")).split()
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.set_nonblocking(true).expect("non-blocking");
        let mut plane = Self {
            address: listener.local_addr().expect("address"),
            runtime,
            receiver,
            sender: Some(sender),
            thread: Some(thread),
            listener: Some(listener),
            rules: ServiceRules::default(),
            others: Vec::new(),
            front: Front::default(),
            protocol: Protocol::Http1,
            epoch: 0,
            asked: 0,
            last: Sample::default(),
        };
        plane.send(&ToPlane::Hello {
            magic: MAGIC,
            protocol: PROTOCOL,
            build: "test".into(),
            incarnation: 1,
            loops,
        });
        plane.wait(|message| matches!(message, FromPlane::Hello { .. }).then_some(()));
        plane
    }

    /// A plane that serves generation 1 from these workers.
    pub(crate) fn serving(workers: &[Route]) -> Self {
        Self::serving_by(workers, |_| {})
    }

    /// The same, with rules of the test's own.
    pub(crate) fn serving_by(workers: &[Route], adapt: impl FnOnce(&mut Self)) -> Self {
        let mut plane = Self::start();
        adapt(&mut plane);
        plane.publish(&[(10_000, workers)]);
        plane.accept();
        plane
    }

    /// The same, whose only listener is a unix socket, `socket` in the directory that comes with it.
    pub(crate) fn serving_unix(
        workers: &[Route],
        adapt: impl FnOnce(&mut Self),
    ) -> (Self, TempDir) {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).expect("bind");
        listener.set_nonblocking(true).expect("non-blocking");
        let mut plane = Self::start();
        adapt(&mut plane);
        plane.publish(&[(10_000, workers)]);
        plane.accept_at(PublicListener::Unix(path), listener.as_fd());
        (plane, dir)
    }

    pub(crate) fn accept(&mut self) {
        let listener = self.listener.as_ref().expect("kept");
        let listener = listener.try_clone().expect("a copy");
        self.accept_at(PublicListener::Tcp(self.address), listener.as_fd());
    }

    fn accept_at(&mut self, address: PublicListener, listener: BorrowedFd<'_>) {
        let message = ToPlane::Listeners(vec![address]);
        let sender = self.sender.as_mut().expect("alive");
        self.runtime
            .block_on(sender.send(&message, &[listener]))
            .expect("sent");
        self.send(&ToPlane::Accept);
        self.wait(|message| matches!(message, FromPlane::Accepting).then_some(()));
    }

    pub(crate) fn send(&mut self, message: &ToPlane) {
        let sender = self.sender.as_mut().expect("alive");
        self.runtime
            .block_on(sender.send(message, &[]))
            .expect("sent");
    }

    /// Logs requests to this file, as objects, from now on.
    pub(crate) fn log_to(&mut self, file: &File) {
        self.log_as(LogFormat::Json, file);
    }

    /// Logs requests to this file, in this format, from now on.
    pub(crate) fn log_as(&mut self, format: LogFormat, file: &File) {
        let query = false;
        let log = AccessLog { format, query };
        let message = ToPlane::AccessLog(Some(log));
        let sender = self.sender.as_mut().expect("alive");
        self.runtime
            .block_on(sender.send(&message, &[file.as_fd()]))
            .expect("sent");
        // What is answered after it is done after it.
        self.sample();
    }

    /// The first message that `find` likes; those before are dropped.
    pub(crate) fn wait<T>(&mut self, find: impl Fn(FromPlane) -> Option<T>) -> T {
        let (receiver, last) = (&mut self.receiver, &mut self.last);
        self.runtime.block_on(async {
            let search = async {
                loop {
                    let next = receiver.recv::<FromPlane>().await.expect("link");
                    let (message, _) = next.expect("the plane left");
                    if let FromPlane::Sample { sample, .. } = &message {
                        *last = (**sample).clone();
                    }
                    if let Some(found) = find(message) {
                        return found;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, search)
                .await
                .expect("the plane says it in time")
        })
    }

    /// Publishes generations 1, 2, … by weight and workers, and waits for the acknowledgement.
    pub(crate) fn publish(&mut self, generations: &[(u16, &[Route])]) {
        let epoch = self.publish_only(generations);
        self.wait(|message| {
            matches!(message, FromPlane::Ack(acknowledged) if acknowledged == epoch).then_some(())
        });
    }

    pub(crate) fn publish_only(&mut self, generations: &[(u16, &[Route])]) -> Epoch {
        self.epoch += 1;
        let epoch = Epoch(self.epoch);
        let entries = generations.iter().zip(1..);
        let table = Table {
            epoch,
            services: [Service {
                name: ServiceName::new("app"),
                rules: Arc::new(self.rules.clone()),
                generations: entries
                    .map(|((weight, workers), number)| GenerationEntry {
                        number: Generation(number),
                        role: if number == 1 {
                            Role::Stable
                        } else {
                            Role::Candidate
                        },
                        weight: Weight(*weight),
                        workers: workers.iter().map(|of| entry(of, self.protocol)).collect(),
                    })
                    .collect(),
            }]
            .into_iter()
            .chain(self.others.clone())
            .collect(),
            front: self.front.clone(),
        };
        self.send(&ToPlane::Table(Arc::new(table)));
        epoch
    }

    /// Counters as they are now.
    pub(crate) fn sample(&mut self) -> Sample {
        self.asked += 1;
        let number = self.asked;
        self.send(&ToPlane::Sample(number));
        self.wait(|message| match message {
            FromPlane::Sample { answers, sample } if answers == Some(number) => Some(*sample),
            _ => None,
        })
    }

    /// The first counters that `good` likes, as they come by themselves.
    pub(crate) fn until(&mut self, good: impl Fn(&Sample) -> bool) -> Sample {
        let now = self.sample();
        if good(&now) {
            return now;
        }
        self.wait(|message| match message {
            FromPlane::Sample { sample, .. } if good(&sample) => Some(*sample),
            _ => None,
        })
    }

    pub(crate) fn exchanges(&mut self) -> Vec<Exchange> {
        self.asked += 1;
        let number = self.asked;
        self.send(&ToPlane::Exchanges(number));
        self.wait(|message| match message {
            FromPlane::Exchanges { answers, exchanges } if answers == number => Some(exchanges),
            _ => None,
        })
    }

    /// Waits for the word that everything has ended, and for the end itself.
    pub(crate) fn drained(mut self) {
        self.wait(|message| matches!(message, FromPlane::Drained).then_some(()));
        self.ended();
    }

    /// Dies as a supervisor does: without a word.
    pub(crate) fn abandon(&mut self) {
        drop(self.sender.take());
    }

    pub(crate) fn ended(&mut self) {
        let thread = self.thread.take().expect("once");
        let begun = Instant::now();
        while !thread.is_finished() {
            assert!(begun.elapsed() < PATIENCE, "the plane does not end");
            std::thread::yield_now();
        }
        thread.join().expect("no panic").expect("no error");
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// One GET on a connection of its own.
    pub(crate) fn get(&self, path: &str) -> Answer {
        let mut client = self.client();
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.answer()
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.rules.drain.request = Duration::ZERO;
            if let Some(mut sender) = self.sender.take() {
                // A table without time for anybody, so that no test waits for its own leftovers.
                let table = Table {
                    epoch: Epoch(u64::MAX),
                    services: Vec::new(),
                    front: Front::default(),
                };
                let message = ToPlane::Table(Arc::new(table));
                let _ = self.runtime.block_on(sender.send(&message, &[]));
            }
            // A plane that panicked has failed its test already, or this test fails for a reason of its own.
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("no panic").expect("no error");
            }
        }
    }
}

fn entry(route: &Route, protocol: Protocol) -> WorkerEntry {
    WorkerEntry {
        worker: WorkerId(route.id),
        slot: Slot(u32::try_from(route.id).expect("small")),
        address: WorkerAddress::Tcp(route.address),
        protocol: route.protocol.unwrap_or(protocol),
        gate: route.gate,
    }
}

pub(crate) fn worker(sample: &Sample, id: u64) -> WorkerSample {
    let found = sample.workers.iter().find(|w| w.worker == WorkerId(id));
    found.expect("in the table").clone()
}

/// A client's raw connection, or one by TLS.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    pub(crate) buffer: Vec<u8>,
    /// It ended without the goodbye that TLS has.
    pub(crate) cut: bool,
}

/// What a client got.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The body ended as its framing says.
    pub(crate) whole: bool,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

/// A connection on which nobody waits for ever.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
    stream.set_nodelay(true).expect("nodelay");
    stream
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(connect(address))
    }
}

impl Client<UnixStream> {
    pub(crate) fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
        Self::over(stream)
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            cut: false,
        }
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("sent");
    }

    /// Reads more; false at the end, which a reset is too.
    pub(crate) fn more(&mut self) -> bool {
        let mut part = [0; 16 << 10];
        match self.stream.read(&mut part) {
            Ok(0) => false,
            Ok(read) => {
                self.buffer.extend_from_slice(&part[..read]);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                self.cut = true;
                false
            }
            // What TLS calls an end without a goodbye.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.cut = true;
                false
            }
            Err(error) => panic!("nothing to read: {error}"),
        }
    }

    /// Whether the connection ends without another byte.
    pub(crate) fn closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.more()
    }

    fn line_end(&mut self) -> Option<usize> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                return Some(at);
            }
            if !self.more() {
                return None;
            }
        }
    }

    pub(crate) fn take(&mut self, bytes: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < bytes {
            if !self.more() {
                return None;
            }
        }
        Some(self.buffer.drain(..bytes).collect())
    }

    pub(crate) fn head(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more() {
                return None;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8(head).expect("text");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Some(Answer {
            status: status.expect("a status line"),
            head,
            body: Vec::new(),
            whole: false,
        })
    }

    /// One chunk; an empty one is the last.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let end = self.line_end()?;
        let line: Vec<u8> = self.take(end + 2)?;
        let size = std::str::from_utf8(&line[..end]).expect("text");
        let size = usize::from_str_radix(size, 16).expect("a size");
        let mut data = self.take(size + 2)?;
        data.truncate(size);
        Some(data)
    }

    pub(crate) fn answer(&mut self) -> Answer {
        self.answer_to("GET").expect("an answer")
    }

    pub(crate) fn answer_to(&mut self, method: &str) -> Option<Answer> {
        let mut answer = loop {
            let head = self.head()?;
            if head.status >= 200 {
                break head;
            }
        };
        if method == "HEAD" || matches!(answer.status, 204 | 304) {
            answer.whole = true;
        } else if let Some(length) = answer.field("content-length") {
            let length = length.parse().expect("a number");
            if let Some(body) = self.take(length) {
                answer.body = body;
                answer.whole = true;
            } else {
                answer.body = std::mem::take(&mut self.buffer);
            }
        } else if answer.field("transfer-encoding").is_some() {
            while let Some(chunk) = self.chunk() {
                if chunk.is_empty() {
                    answer.whole = true;
                    break;
                }
                answer.body.extend_from_slice(&chunk);
            }
        } else {
            while self.more() {}
            answer.body = std::mem::take(&mut self.buffer);
            answer.whole = true;
        }
        Some(answer)
    }
}

pub(crate) fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
