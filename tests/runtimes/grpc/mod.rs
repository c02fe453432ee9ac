//! gRPC's own client and server, with calls of all four kinds through rollouts of the server: none fails.

use std::process::{Child, Command, Stdio};

use libtest_mimic::Failed;
use nix::sys::signal::Signal;

use super::clients::Front;
use super::support::instance::{Start, processes_of};
use super::support::tls::NAME;

/// Rollouts in a plain run, and where every runtime is required.
const FEW: u64 = 3;
const ALL: u64 = 20;

/// Python with gRPC.
pub(super) const NEEDS: &[&[&str]] = &[&["python3", "-c", "import grpc"]];

/// Calls by TLS and without it go on through rollouts.
pub(super) fn calls_go_on() -> Result<(), Failed> {
    let app = tempfile::Builder::new().prefix("rmdgrpc").tempdir()?;
    let (server, client) = (app.path().join("server.py"), app.path().join("client.py"));
    std::fs::write(&server, include_str!("server.py"))?;
    std::fs::write(&client, include_str!("client.py"))?;
    let start = Start::default()
        .command(&["python3", &server.display().to_string(), "127.0.0.1:{port}"])
        .service("protocol = \"h2c\"")
        .flags(&["--soak", "200ms", "--ramp", "100ms"]);
    let mut front = Front::begin(start);
    let root = front.dir().join("root.pem").display().to_string();
    let call = |port: u16, root: &str| {
        Command::new("python3")
            .arg(&client)
            .args([&format!("127.0.0.1:{port}"), root, NAME])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    };
    let callers = [call(front.plain, "-")?, call(front.secure, &root)?];
    front.instance.wait("calls", |status| {
        status["services"]["app"]["in_flight"].as_u64() > Some(0)
    });
    let strict = std::env::var_os("REMUDA_REQUIRE_ALL").is_some();
    for generation in 2..2 + if strict { ALL } else { FEW } {
        front.instance.signal(Signal::SIGUSR2);
        front.instance.wait("the rollout to complete", |status| {
            let app = &status["services"]["app"];
            app["generation"] == generation && app["rollout"]["state"] == "completed"
        });
    }
    for caller in callers {
        let calls = counted(caller)?;
        if calls < 100 {
            return Err(format!("only {calls} calls").into());
        }
    }
    front.instance.signal(Signal::SIGTERM);
    let exit = front.instance.ended();
    if exit.code() != Some(0) {
        return Err(format!("remuda ended with {exit}:\n{}", front.instance.said()).into());
    }
    match processes_of(front.dir()) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("left behind: {left:?}").into()),
    }
}

/// Ends a caller; how many calls it made, none of which failed.
fn counted(mut caller: Child) -> Result<u64, Failed> {
    drop(caller.stdin.take());
    let output = caller.wait_with_output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}
