//! Remuda in front of real servers that nobody here wrote: a rolling restart under load loses nothing, and
//! after a stop nothing is left. A runtime that is absent shows as ignored, with the reason; with
//! `REMUDA_REQUIRE_ALL=1` that is a failure. And behind real clients, by HTTP/2 and TLS.

#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    clippy::exit,
    clippy::panic,
    clippy::print_stderr,
    clippy::zombie_processes,
    dead_code,
    unsafe_code,
    unused_imports,
    reason = "one harness for two test programs: a scripted worker misbehaves like a C program, tests poll"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::Signal;

use clients::{CLIENTS, Front};
use support::checker::Outcome;
use support::instance::{Start, processes_of};
use support::load::{Load, Mix};

mod clients;
mod grpc;
#[path = "../process/support/mod.rs"]
mod support;

/// One server.
struct Runtime {
    name: &'static str,
    /// Programs it needs, each with arguments that succeed where it is.
    needs: &'static [&'static [&'static str]],
    command: fn(&Path) -> Vec<String>,
    post: bool,
    service: &'static str,
}

const WSGI: &str = "\
def app(environ, start_response):
    length = int(environ.get('CONTENT_LENGTH') or 0)
    body = environ['wsgi.input'].read(length) if length else b'hello'
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', str(len(body)))])
    return [body]
";

const ASGI: &str = "\
async def app(scope, receive, send):
    assert scope['type'] == 'http'
    body = b''
    while True:
        message = await receive()
        body += message.get('body', b'')
        if not message.get('more_body'):
            break
    body = body or b'hello'
    await send({'type': 'http.response.start', 'status': 200,
                'headers': [(b'content-length', str(len(body)).encode())]})
    await send({'type': 'http.response.body', 'body': body})
";

const NODE: &str = "\
const http = require('http');
const server = http.createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => response.end(parts.length ? Buffer.concat(parts) : 'hello'));
});
server.listen(process.env.PORT, '127.0.0.1');
process.on('SIGTERM', () => server.close(() => process.exit(0)));
";

const GO: &str = r#"package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	listener, err := net.FileListener(os.NewFile(3, ""))
	if err != nil {
		panic(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if len(body) == 0 {
			body = []byte("hello")
		}
		w.Write(body)
	})}
	done := make(chan struct{})
	go func() {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM)
		<-signals
		server.Shutdown(context.Background())
		close(done)
	}()
	server.Serve(listener)
	<-done
}
"#;

const RUNTIMES: [Runtime; 6] = [
    Runtime {
        name: "gunicorn_gthread_on_a_unix_socket",
        needs: &[&["gunicorn", "--version"]],
        command: |dir| {
            write(dir, "wsgi.py", WSGI);
            words(&[
                "gunicorn",
                "--threads",
                "4",
                "--bind",
                "unix:{socket}",
                "--no-control-socket",
                "wsgi:app",
            ])
        },
        post: true,
        service: "",
    },
    Runtime {
        name: "gunicorn_gthread_on_an_inherited_listener",
        needs: &[&["gunicorn", "--version"]],
        command: |dir| {
            write(dir, "wsgi.py", WSGI);
            words(&[
                "gunicorn",
                "--threads",
                "4",
                "--no-control-socket",
                "wsgi:app",
            ])
        },
        post: true,
        service: "connect = \"fd\"",
    },
    Runtime {
        name: "uvicorn_on_an_inherited_listener",
        needs: &[&["uvicorn", "--version"]],
        command: |dir| {
            write(dir, "asgi.py", ASGI);
            words(&["uvicorn", "--fd", "3", "--log-level", "warning", "asgi:app"])
        },
        post: true,
        service: "connect = \"fd\"",
    },
    Runtime {
        name: "node_http_on_a_port",
        needs: &[&["node", "--version"]],
        command: |dir| {
            write(dir, "server.js", NODE);
            words(&["node", "server.js"])
        },
        post: true,
        service: "",
    },
    Runtime {
        name: "python_http_server_without_shutdown_code",
        needs: &[&["python3", "--version"]],
        command: |dir| {
            write(dir, "fast", "hello");
            words(&[
                "python3",
                "-m",
                "http.server",
                "--bind",
                "127.0.0.1",
                "{port}",
            ])
        },
        post: false,
        service: "",
    },
    Runtime {
        name: "go_net_http_on_descriptor_3",
        needs: &[&["go", "version"]],
        command: |dir| {
            write(dir, "server.go", GO);
            let built = Command::new("go")
                .args(["build", "-o", "server", "server.go"])
                .current_dir(dir)
                .env("GOCACHE", target().join("go-cache"))
                .env("GOTOOLCHAIN", "local")
                .env("CGO_ENABLED", "0")
                .status();
            assert!(
                built.is_ok_and(|status| status.success()),
                "the Go server does not build"
            );
            words(&["./server"])
        },
        post: true,
        service: "connect = \"fd\"",
    },
];

fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).to_owned()
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).expect("the directory is writable");
}

fn words(of: &[&str]) -> Vec<String> {
    of.iter().map(|&word| word.to_owned()).collect()
}

fn absent(needs: &[&[&str]]) -> Option<String> {
    needs.iter().find_map(|need| {
        let ran = Command::new(need[0])
            .args(&need[1..])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        match ran {
            Err(_) => Some(format!("`{}` is not installed", need[0])),
            Ok(status) if status.success() => None,
            // It is there, and something that it needs is not.
            Ok(_) => Some(format!("`{}` fails", need.join(" "))),
        }
    })
}

fn rolls(runtime: &Runtime) -> Result<(), Failed> {
    let app = tempfile::Builder::new().prefix("rmdapp").tempdir()?;
    let command = (runtime.command)(app.path());
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut instance = Start::default()
        .command(&command)
        .service(&format!("cwd = {:?}", app.path().display().to_string()))
        .service(runtime.service)
        .flags(&["--soak", "200ms", "--ramp", "100ms"])
        .ready();
    let posts = if runtime.post { 3 } else { 0 };
    let mix = Mix {
        keep_alive: 4,
        per_request: 2,
        post: posts,
        slow: 0,
        sse: 0,
        tunnel: 0,
        h2: 0,
    };
    let load = Load::start(instance.address, mix);
    load.wait_for(50);
    for generation in 2..=4 {
        instance.signal(Signal::SIGUSR2);
        instance.wait("the rollout to complete", |status| {
            let app = &status["services"]["app"];
            app["generation"] == generation && app["rollout"]["state"] == "completed"
        });
    }
    load.wait_for(50);
    let entries = load.stop();
    let failed: Vec<_> = entries
        .iter()
        .filter(|entry| entry.outcome != Outcome::Answered)
        .take(10)
        .collect();
    if !failed.is_empty() {
        return Err(format!(
            "of {} requests failed: {failed:#?}\n{}",
            entries.len(),
            instance.said()
        )
        .into());
    }
    instance.signal(Signal::SIGTERM);
    let exit = instance.ended();
    if exit.code() != Some(0) {
        return Err(format!("remuda ended with {exit}:\n{}", instance.said()).into());
    }
    let left = processes_of(instance.dir.path());
    if !left.is_empty() {
        return Err(format!("left behind: {left:?}").into());
    }
    Ok(())
}

fn main() -> ExitCode {
    support::worker::become_one();
    let mut arguments = Arguments::from_args();
    // Each server and its load want the machine for themselves.
    arguments.test_threads.get_or_insert(1);
    let strict = std::env::var_os("REMUDA_REQUIRE_ALL").is_some();
    let trial = |name: &'static str, needs, run: Box<dyn FnOnce() -> Result<(), Failed> + Send>| {
        match absent(needs) {
            Some(why) if strict => Trial::test(name, move || {
                Err(format!("{why}, and all are required").into())
            }),
            Some(why) => {
                eprintln!("{name} is ignored: {why}");
                Trial::test(format!("{name} ({why})"), || Ok(())).with_ignored_flag(true)
            }
            None => Trial::test(name, run),
        }
    };
    let runtimes = RUNTIMES
        .iter()
        .map(|one| trial(one.name, one.needs, Box::new(|| rolls(one))));
    let clients = CLIENTS.iter().map(|one| {
        trial(
            one.name,
            one.needs,
            Box::new(|| (one.talk)(&Front::start())),
        )
    });
    let calls = trial(
        "grpc_calls_of_all_kinds_go_on_through_rollouts",
        grpc::NEEDS,
        Box::new(grpc::calls_go_on),
    );
    let trials = runtimes.chain(clients).chain([calls]).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
