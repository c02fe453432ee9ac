//! A running Remuda and a running Prometheus, each on ports that the kernel chose.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::{Outcome, dashboards, ensure};

/// The longest wait for any single thing.
const PATIENCE: Duration = Duration::from_secs(20);

/// Quick, but `/held` is answered when the file `go` is there, so that a scrape meets the drain it holds up.
const WORKER: &str = r#"
import os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        while self.path == "/held" and not os.path.exists(os.environ["GO"]):
            time.sleep(0.02)
        self.answer(b"from the worker")
    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["content-length"])))
    def answer(self, body):
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// A process that is asked to end, and then made to, when it goes out of scope.
struct Process(Child);

impl Process {
    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).unwrap_or(i32::MAX))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = kill(self.pid(), Signal::SIGTERM);
        let deadline = Instant::now() + PATIENCE;
        while let Ok(None) = self.0.try_wait() {
            if Instant::now() > deadline {
                let _ = self.0.kill();
            }
            pause();
        }
    }
}

/// A running Remuda; its process ends with the value.
pub(crate) struct Remuda {
    _process: Process,
    socket: std::path::PathBuf,
    pub(crate) public: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

impl Remuda {
    pub(crate) fn start(dir: &Path) -> Result<Self, String> {
        let socket = dir.join("admin.sock");
        let mut command = Command::new(env!("CARGO_BIN_EXE_remuda"));
        command
            .args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args([
                "--metrics",
                "127.0.0.1:0",
                "--workers",
                "2",
                "--ramp",
                "500ms",
            ])
            .args(["--soak", "1s", "--admin-socket"])
            .arg(&socket)
            .args(["--", "python3", "-c", WORKER])
            .env("XDG_RUNTIME_DIR", dir)
            .env("GO", dir.join("go"))
            .env_remove("RUNTIME_DIRECTORY")
            .env_remove("STATE_DIRECTORY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let lines = lines_of(child.stderr.take());
        let process = Process(child);
        let metrics = address_after(&lines, "metrics at http://")?;
        let status = wait("ready workers", || {
            let status = cli(&socket, &["status", "--json"]).ok()?;
            let status: Value = serde_json::from_str(&status).ok()?;
            (status["services"]["app"]["ready"] == 2).then_some(status)
        })?;
        let public = status["listeners"][0].as_str().unwrap_or_default();
        let public = public.trim_start_matches("http://");
        let public = public
            .parse()
            .map_err(|_| format!("no address: {public}"))?;
        Ok(Self {
            _process: process,
            socket,
            public,
            metrics,
        })
    }

    /// Waits until so many requests are in flight, and says how many workers have some.
    pub(crate) fn in_flight(&self, wanted: u64) -> Result<usize, String> {
        wait("requests in flight", || {
            let status = cli(&self.socket, &["status", "--json"]).ok()?;
            let status: Value = serde_json::from_str(&status).ok()?;
            let workers = status["services"]["app"]["generations"][0]["workers"].as_array()?;
            let each: Vec<u64> = workers
                .iter()
                .filter_map(|worker| worker["in_flight"].as_u64())
                .filter(|in_flight| *in_flight > 0)
                .collect();
            (each.iter().sum::<u64>() == wanted).then_some(each.len())
        })
    }

    pub(crate) fn roll(&self) -> Result<(), String> {
        cli(&self.socket, &["rollout", "--timeout", "30s"]).map(drop)
    }
}

fn cli(socket: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_remuda"))
        .arg("--admin-socket")
        .arg(socket)
        .args(arguments)
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{arguments:?}: {} {said}", output.status))
}

/// A running Prometheus, on a port that the kernel chose; its process ends with the value.
pub(crate) struct Prometheus {
    _process: Process,
    address: SocketAddr,
}

impl Prometheus {
    pub(crate) fn start(dir: &Path, target: SocketAddr) -> Result<Self, String> {
        let config = format!(
            "global: {{scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 1s}}\n\
             rule_files: [{:?}]\n\
             scrape_configs:\n- job_name: remuda\n  static_configs: [{{targets: [\"{target}\"]}}]\n",
            dashboards("prometheus/alerts.yaml")
        );
        let file = dir.join("prometheus.yml");
        std::fs::write(&file, config).map_err(|error| error.to_string())?;
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.join("tsdb").display()
            ))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let process = Process(child);
        let address = wait("Prometheus to listen", || listens_on(process.0.id()))?;
        let prometheus = Self {
            _process: process,
            address,
        };
        wait("Prometheus to be ready", || {
            http(address, "GET", "/-/ready", "")
                .ok()
                .filter(|answer| answer.contains("Ready"))
        })?;
        Ok(prometheus)
    }

    pub(crate) fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let pairs: Vec<String> = parameters
            .iter()
            .map(|(key, value)| format!("{key}={}", percent(value)))
            .collect();
        let body = http(
            self.address,
            "GET",
            &format!("{path}?{}", pairs.join("&")),
            "",
        )?;
        let answer: Value =
            serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
        if answer["status"] == "success" {
            return Ok(answer);
        }
        Err(format!("{path} {parameters:?}: {body}"))
    }

    pub(crate) fn wait_for(&self, expr: &str) -> Result<(), String> {
        wait(expr, || {
            let answer = self.get("/api/v1/query", &[("query", expr)]).ok()?;
            let is_true = answer["data"]["result"]
                .as_array()
                .is_some_and(|rows| !rows.is_empty());
            is_true.then_some(())
        })
    }

    /// Whether `expr` had a value that is a number at any time since `begin`.
    pub(crate) fn answers(&self, expr: &str, begin: SystemTime) -> Result<bool, String> {
        // A step more than now, or the last step may come before the last scrape.
        let end = SystemTime::now() + Duration::from_millis(250);
        let (begin, end) = (seconds(begin), seconds(end));
        let range = [
            ("query", expr),
            ("start", &begin),
            ("end", &end),
            ("step", "250ms"),
        ];
        let answer = self.get("/api/v1/query_range", &range)?;
        let rows = answer["data"]["result"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(rows.iter().any(|row| {
            let values = row["values"].as_array().into_iter().flatten();
            values.into_iter().any(|value| value[1] != "NaN")
        }))
    }

    pub(crate) fn rules_are_healthy(&self) -> Outcome {
        let answer = self.get("/api/v1/rules", &[])?;
        let rules = answer["data"]["groups"][0]["rules"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        ensure(!rules.is_empty(), || "no rule was loaded".to_owned())?;
        for rule in rules {
            ensure(rule["health"] == "ok", || {
                format!("{} is not healthy: {rule}", rule["name"])
            })?;
            let is_firing = rule["state"] == "firing";
            ensure(!is_firing, || {
                format!("{} fires, though nothing is wrong", rule["name"])
            })?;
        }
        Ok(())
    }
}

/// One request on a connection of its own; the answer's body if its status is 200.
pub(crate) fn http(
    address: SocketAddr,
    method: &str,
    target: &str,
    body: &str,
) -> Result<String, String> {
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let length = body.len();
        write!(
            stream,
            "{method} {target} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("a cut answer")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        Ok(body.to_owned())
    } else {
        Err(format!("{status}: {body}"))
    }
}

/// The loopback address on which the process listens, from the kernel's table of sockets.
fn listens_on(pid: u32) -> Option<SocketAddr> {
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| {
            let name = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(name.to_owned())
        })
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        // Local address, state (0A listens), inode.
        let is_ours =
            fields.get(3) == Some(&"0A") && sockets.iter().any(|inode| inode == fields[9]);
        let (_, port) = fields.get(1)?.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        is_ours.then_some(SocketAddr::from(([127, 0, 0, 1], port)))
    })
}

/// Every line of a stream, read to its end so that the writer never waits.
fn lines_of(stream: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (send, lines) = mpsc::channel();
    if let Some(stream) = stream {
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
    }
    lines
}

fn address_after(lines: &mpsc::Receiver<String>, words: &str) -> Result<SocketAddr, String> {
    let mut said = String::new();
    let deadline = Instant::now() + PATIENCE;
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        let rest = line.split_once(words).map(|(_, rest)| rest);
        let address = rest.and_then(|rest| rest.split('/').next()?.parse().ok());
        if let Some(address) = address {
            return Ok(address);
        }
        said.push_str(&line);
        said.push('\n');
    }
    Err(format!("remuda never said `{words}`, but\n{said}"))
}

/// Asks again and again until there is an answer, for a bounded time.
fn wait<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            return Err(format!("waited in vain for {what}"));
        }
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "between two questions, and paces the load; nothing relies on it"
)]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn seconds(at: SystemTime) -> String {
    format!(
        "{:.3}",
        at.duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64()
    )
}
