//! The command line: says what people want to the instance, and says back what became of it.
//!
//! Owns the words and exit codes of the contract; called by `main`. All but `run`, `check`, `demo` and
//! the packaging commands are clients of the admin API. Never decides anything about a rollout.

pub(crate) mod args;
mod check;
pub(crate) mod client;
pub(crate) mod exit;
mod fold;
mod follow;
mod history;
mod live;
mod logs;
pub(crate) mod out;
mod packaging;
mod patience;
mod reload;
mod requests;
mod rollout;
mod run;
mod service;
mod status;
mod steer;
mod table;
pub(crate) mod time;
pub(crate) mod words;
mod workers;

use std::process::ExitCode;

use clap::Parser;

use self::args::{Cli, ColorWhen, Command};
use self::client::Client;
use self::exit::{Code, Failure};
use self::out::Out;
use self::steer::Way;
use self::workers::Order;
use crate::config::paths::default_admin_socket;

/// Reads the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too.
            let printed = error.print();
            if error.use_stderr() {
                return Code::Usage.into();
            }
            let out = Out::new(false, ColorWhen::Auto);
            out.printed(&printed);
            return out.end(Code::Done).into();
        }
    };
    let out = Out::new(cli.common.json, cli.common.color);
    let socket = || cli.common.admin_socket.unwrap_or_else(default_admin_socket);
    let outcome = match cli.command {
        Command::Run(flags) => return run::run(&out, *flags),
        Command::Demo(flags) => return crate::demo::run(flags, &out),
        Command::Check(args) if !args.plan => Ok(check::check(&out, args)),
        Command::Completions { shell } => Ok(packaging::completions(&out, shell)),
        Command::Man { dir } => packaging::man(&out, dir.as_deref()),
        Command::Socket => Ok(packaging::socket(&out, &socket())),
        command => speak(&Client::new(socket()), &out, command),
    };
    let code = outcome.unwrap_or_else(|failure| {
        out.failure(&failure);
        failure.code
    });
    out.end(code).into()
}

/// The commands that are said to an instance.
fn speak(client: &Client, out: &Out, command: Command) -> Result<Code, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::Failed, format!("cannot start: {error}")))?;
    runtime.block_on(async {
        match command {
            Command::Rollout(args) => rollout::rollout(client, out, args).await,
            Command::Pause(args) => steer::steer(client, out, Way::Pause, args).await,
            Command::Resume(args) => steer::steer(client, out, Way::Resume, args).await,
            Command::Promote(args) => steer::steer(client, out, Way::Promote, args).await,
            Command::Abort(args) => steer::steer(client, out, Way::Abort, args).await,
            Command::Rollback(args) => steer::rollback(client, out, args).await,
            Command::Status(args) => status::status(client, out, args).await,
            Command::Why(args) => status::why(client, out, args).await,
            Command::History(args) => history::history(client, out, args).await,
            Command::Logs(args) => logs::logs(client, out, args).await,
            Command::Requests(args) => requests::requests(client, out, args).await,
            Command::Scale(args) => workers::scale(client, out, args).await,
            Command::Drain(args) => workers::one(client, out, Order::Drain, args).await,
            Command::Undrain(args) => workers::one(client, out, Order::Undrain, args).await,
            Command::Restart(args) => workers::one(client, out, Order::Restart, args).await,
            Command::Reload(args) => reload::reload(client, out, args).await,
            Command::Check(_) => reload::plan(client, out).await,
            Command::Healthcheck => status::healthcheck(client, out).await,
            Command::Run(_)
            | Command::Demo(_)
            | Command::Completions { .. }
            | Command::Socket
            | Command::Man { .. } => {
                unreachable!("these speak to nobody and were done before")
            }
        }
    })
}
