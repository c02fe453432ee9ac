//! Mixed load with a log: keep-alive, connection per request, POST with a checked echo, slow requests,
//! event streams and upgraded connections. A client never repeats a request; what fails has failed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio_rustls::rustls::ClientConfig;

use super::checker::{Entry, Outcome};
use super::h2;
use super::http::Client;
use super::instance::Instance;
use super::tls::Authority;

/// How many clients of each kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mix {
    pub(crate) keep_alive: usize,
    pub(crate) per_request: usize,
    pub(crate) post: usize,
    pub(crate) slow: usize,
    pub(crate) sse: usize,
    pub(crate) tunnel: usize,
    /// Connections of HTTP/2, of four streams at once.
    pub(crate) h2: usize,
}

impl Mix {
    /// Plain requests only, where what is watched are the workers and not the classes.
    pub(crate) const PLAIN: Self = Self {
        keep_alive: 4,
        per_request: 2,
        post: 2,
        slow: 0,
        sse: 0,
        tunnel: 0,
        h2: 0,
    };
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            keep_alive: 4,
            per_request: 2,
            post: 3,
            slow: 2,
            sse: 1,
            tunnel: 1,
            h2: 0,
        }
    }
}

type Run = fn(&mut Loader);

/// Load that goes on until it is stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    log: Arc<Mutex<Vec<Entry>>>,
    clients: Vec<JoinHandle<()>>,
}

/// One client's place to write.
pub(super) struct Loader {
    pub(super) address: SocketAddr,
    /// It goes by TLS.
    pub(super) tls: Option<Arc<ClientConfig>>,
    name: String,
    sent: u64,
    stop: Arc<AtomicBool>,
    log: Arc<Mutex<Vec<Entry>>>,
}

/// Between two requests of one client, so that ten of them make a mild, steady load on two cores, also
/// where four tests run at once.
const PACE: Duration = Duration::from_millis(15);

impl Load {
    /// Begins.
    pub(crate) fn start(address: SocketAddr, mix: Mix) -> Self {
        Self::start_by(address, mix, |_| None)
    }

    /// Begins, by TLS.
    pub(crate) fn start_secure(address: SocketAddr, mix: Mix, authority: &Authority) -> Self {
        let (one, two) = (authority.client(&[]), authority.client(&["h2"]));
        Self::start_by(address, mix, |kind| {
            Some(Arc::clone(if kind == "h2" { &two } else { &one }))
        })
    }

    fn start_by(
        address: SocketAddr,
        mix: Mix,
        tls: impl Fn(&str) -> Option<Arc<ClientConfig>>,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut clients = Vec::new();
        let kinds: [(&str, usize, Run); 7] = [
            ("keep", mix.keep_alive, keep_alive),
            ("once", mix.per_request, per_request),
            ("post", mix.post, post),
            ("slow", mix.slow, slow),
            ("sse", mix.sse, sse),
            ("tunnel", mix.tunnel, tunnel),
            ("h2", mix.h2, h2::run),
        ];
        for (kind, count, run) in kinds {
            for n in 0..count {
                let mut client = Loader {
                    address,
                    tls: tls(kind),
                    name: format!("{kind}{n}"),
                    sent: 0,
                    stop: Arc::clone(&stop),
                    log: Arc::clone(&log),
                };
                clients.push(std::thread::spawn(move || run(&mut client)));
            }
        }
        Self { stop, log, clients }
    }

    /// Requests that ended so far.
    pub(crate) fn count(&self) -> usize {
        self.log.lock().expect("no panic holds it").len()
    }

    /// Waits until this many further requests have ended.
    pub(crate) fn wait_for(&self, more: usize) {
        let (from, deadline) = (self.count(), Instant::now() + Duration::from_secs(30));
        while self.count() < from + more {
            assert!(Instant::now() < deadline, "the load does not go on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until every client has ended another request: what was in flight before is over then.
    pub(crate) fn wait_for_each(&self) {
        let ended = |log: &[Entry]| {
            let mut ended: BTreeMap<String, usize> = BTreeMap::new();
            for entry in log {
                let (client, _) = entry.id.rsplit_once('-').expect("client and number");
                *ended.entry(client.to_owned()).or_default() += 1;
            }
            ended
        };
        let all = || ended(&self.log.lock().expect("no panic holds it"));
        let (before, deadline) = (all(), Instant::now() + Duration::from_secs(30));
        let is_over = |now: &BTreeMap<String, usize>| {
            let goes_on = |client: &String| now.get(client) > before.get(client);
            now.len() == self.clients.len() && now.keys().all(goes_on)
        };
        while !is_over(&all()) {
            assert!(Instant::now() < deadline, "the load does not go on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Begins, and waits until clients have had so many answers and the supervisor has heard of them. What
    /// clients have seen is news to it for a moment yet, and for so long a service without earlier requests
    /// is idle: no ramp, no soak.
    pub(crate) fn known_to(instance: &Instance, mix: Mix, answers: usize) -> Self {
        let load = Self::start(instance.address, mix);
        load.wait_for(answers);
        let deadline = Instant::now() + Duration::from_secs(30);
        while instance.metric("remuda_http_requests_total", &[]) < 1.0 {
            assert!(Instant::now() < deadline, "no request is counted");
        }
        load
    }

    /// Ends and hands over the log.
    pub(crate) fn stop(self) -> Vec<Entry> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client does not panic");
        }
        std::mem::take(&mut self.log.lock().expect("no panic holds it"))
    }
}

impl Loader {
    fn connect(&self) -> std::io::Result<Client> {
        match &self.tls {
            Some(config) => Client::tls(self.address, config),
            None => Client::tcp(self.address),
        }
    }

    pub(super) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn id(&mut self) -> String {
        self.sent += 1;
        format!("{}-{}", self.name, self.sent)
    }

    pub(super) fn note(&self, id: String, method: &str, outcome: Outcome) {
        let entry = Entry {
            id,
            method: method.to_owned(),
            outcome,
        };
        self.log.lock().expect("no panic holds it").push(entry);
    }

    /// One request on a kept or new connection; notes what became of it.
    fn one(
        &mut self,
        kept: &mut Option<Client>,
        method: &str,
        target: &str,
        body: &[u8],
        right: impl Fn(&[u8]) -> bool,
    ) {
        let id = self.id();
        let answer = (|| {
            let mut client = match kept.take() {
                Some(client) => client,
                None => self.connect()?,
            };
            let answer = client.request(method, target, &[("X-Id", &id)], body)?;
            let closes = answer
                .header("connection")
                .is_some_and(|value| value == "close");
            if !closes {
                *kept = Some(client);
            }
            std::io::Result::Ok(answer)
        })();
        let outcome = match answer {
            Ok(answer) if answer.status != 200 => {
                Outcome::Failed(format!("status {}: {}", answer.status, answer.text()))
            }
            Ok(answer) if !right(&answer.body) => Outcome::Failed("wrong body".to_owned()),
            Ok(_) => Outcome::Answered,
            Err(error) => Outcome::Failed(error.to_string()),
        };
        self.note(id, method, outcome);
    }
}

fn keep_alive(client: &mut Loader) {
    let mut kept = None;
    while client.goes_on() {
        client.one(&mut kept, "GET", "/fast", b"", |body| !body.is_empty());
        std::thread::sleep(PACE);
    }
}

fn per_request(client: &mut Loader) {
    while client.goes_on() {
        client.one(&mut None, "GET", "/fast", b"", |body| !body.is_empty());
        std::thread::sleep(PACE);
    }
}

fn post(client: &mut Loader) {
    let mut kept = None;
    // Numbered lines: no two stretches of it are alike, so neither are bodies from different places of it.
    let lines: String = (0..20_000).map(|n| format!("{n:05}\n")).collect();
    while client.goes_on() {
        let turn = usize::try_from(client.sent).unwrap_or(0);
        let (size, from) = ([10, 1_000, 100_000][turn % 3], turn * 7 % 20_000);
        let body = &lines.as_bytes()[from..from + size];
        client.one(&mut kept, "POST", "/echo", body, |echo| echo == body);
        std::thread::sleep(PACE);
    }
}

fn slow(client: &mut Loader) {
    let mut kept = None;
    while client.goes_on() {
        client.one(&mut kept, "GET", "/slow?ms=400", b"", |body| {
            !body.is_empty()
        });
    }
}

fn sse(client: &mut Loader) {
    while client.goes_on() {
        client.one(&mut None, "GET", "/sse?n=10&ms=50", b"", |body| {
            body.windows(6).filter(|window| window == b"data: ").count() == 10
        });
    }
}

/// An upgraded connection that echoes 40 messages over two seconds, then closes.
fn tunnel(client: &mut Loader) {
    while client.goes_on() {
        let id = client.id();
        let outcome = (|| {
            let mut socket = client.connect()?;
            let fields = [
                ("X-Id", id.as_str()),
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
            ];
            socket.send("GET", "/ws", &fields, b"")?;
            let head = socket.head()?;
            if head.status != 101 {
                return Ok(Outcome::Failed(format!("status {}", head.status)));
            }
            for n in 0..40 {
                let message = format!("{id} message {n}");
                if socket.exchange_raw(message.as_bytes())? != message.as_bytes() {
                    return Ok(Outcome::Failed("wrong echo".to_owned()));
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            std::io::Result::Ok(Outcome::Answered)
        })();
        let outcome = outcome.unwrap_or_else(|error| Outcome::Failed(error.to_string()));
        client.note(id, "GET", outcome);
    }
}
