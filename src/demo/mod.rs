//! `remuda demo`: the whole thing in half a minute, on built-in workers under load.
//!
//! It owns a real supervisor as a child process, a load that never tries anything twice, and the score.
//! Called by the command line; nothing else needs it. It must never know more of remuda than anybody
//! outside could: it deploys by a symlink, rolls out by a signal, and looks through the admin API.

mod load;
mod play;
mod score;
mod screen;
mod stage;
mod tally;
mod websocket;
mod worker;

use std::process::ExitCode;

use clap::Args;
use nix::sys::signal::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

pub use self::stage::become_child;
pub use self::worker::run as run_worker;

use self::play::Broken;
use self::stage::Stage;
use crate::cli::exit::{Code, Failure};
use crate::cli::out::Out;

/// How to show it.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Flags {
    /// Leave it running at the end, under load, for the status page, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Show in the end what the same load makes of a worker that is killed and restarted without remuda
    #[arg(long)]
    naive: bool,
}

/// Shows it. Exits with 0 only if no request failed and the broken release was rolled back.
pub(crate) fn run(flags: Flags, out: &Out) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(show(flags, out)),
        Err(error) => Err(Broken(error.to_string())),
    };
    match outcome {
        Ok(code) => code.into(),
        Err(Broken(why)) => {
            out.failure(&Failure::new(
                Code::Failed,
                format!("the demo failed: {why}"),
            ));
            Code::Failed.into()
        }
    }
}

async fn show(flags: Flags, out: &Out) -> Result<Code, Broken> {
    let mut stop = Stop::listen()?;
    let mut stage = tokio::select! {
        biased;
        // The stage clears itself away when it is dropped half set.
        () = stop.asked() => return Ok(interrupted(out)),
        stage = play::set() => stage?,
    };
    let played = tokio::select! {
        biased;
        () = stop.asked() => None,
        played = play::play(&mut stage, out, flags) => Some(played),
    };
    let (code, how) = match played {
        None => (Ok(interrupted(out)), Signal::SIGQUIT),
        Some(Err(broken)) => (Err(broken), Signal::SIGQUIT),
        Some(Ok(score)) => {
            score.show(out);
            let code = score.code();
            match flags.keep {
                true => {
                    keep(&stage, out, &mut stop).await;
                    (Ok(code), Signal::SIGQUIT)
                }
                false => {
                    out.say("");
                    out.say("for your own service: `remuda run -- ./server --port {port}`");
                    (Ok(code), Signal::SIGTERM)
                }
            }
        }
    };
    stage.clear(how).await?;
    code
}

fn interrupted(out: &Out) -> Code {
    let words = "interrupted; everything is stopped";
    out.failure(&Failure::new(Code::Interrupted, words));
    Code::Interrupted
}

/// Leaves everything running, with load, so that the page has something to show.
async fn keep(stage: &Stage, out: &Out, stop: &mut Stop) {
    let load = load::Load::start(stage.public);
    out.say(&format!(
        "it goes on: the page is http://{}, `remuda --admin-socket {} rollout` rolls, Ctrl-C ends it",
        stage.admin,
        stage.socket().display()
    ));
    stop.asked().await;
    drop(load);
}

/// Ctrl-C, or a TERM or HUP for the demo alone.
struct Stop {
    signals: [unix::Signal; 3],
}

impl Stop {
    fn listen() -> Result<Self, Broken> {
        Ok(Self {
            signals: [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            ],
        })
    }

    async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
