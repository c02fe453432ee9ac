//! The command line as a tree. What each command does is in the file of its name.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

use crate::config::RunFlags;
use crate::config::paths::socket_variable;

/// What `--version` says after the name.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (revision ",
    env!("REMUDA_REVISION"),
    ", rustc ",
    env!("REMUDA_RUSTC"),
    ")"
);

const EXAMPLES: &str = "\
Examples:
  remuda run -- ./server --port {port}    front a server, two workers, on port 8080
  remuda rollout                          replace every worker, no request lost
  remuda status --watch                   see it
  remuda demo                             see the whole thing in half a minute

Exit codes:
  0    done
  1    failed, and the old generation serves at full strength
  2    the command line makes no sense
  3    timed out waiting, it still runs
  4    no instance answers, or it stopped before the end
  5    conflict, or another rollout took over
  6    failed, and capacity is degraded
  78   the config is invalid
  130  interrupted while waiting, it goes on";

// A paragraph is one line here: it is broken for the terminal that it is shown on.
const ROLLOUT_EXAMPLES: &str = "\
Without `--release` this is a restart: a new generation of the same release. With it, a rollout of that \
release which already runs is joined, and one that is stable already is left alone unless `--force` is \
given.

While one runs, a second one joins it as long as it has started no worker. After that the second one waits until \
the batch that runs has ended, and takes over from it: what the first has started serves on until it is replaced, \
before all others, and the command that waits for the first exits with 5. If the first completes with that batch, \
or fails and goes back, that is its end, and the second one begins then; one that somebody paused is waited for. \
Only the newest of those that wait is kept, and who waits for another exits with 5.

Examples:
  remuda rollout                                restart every worker of every service
  remuda rollout shop --release 2026-11-23.1    a named release of one service
  remuda rollout --timeout 10m --json           for a deploy script";

const RUN_EXAMPLES: &str = "\
What is after `--` is the command of a service named `app`, and no file is needed. The worker listens at \
`{port}` or `$PORT`, at the unix socket `{socket}`, or on descriptor 3 with `--connect fd`.

Examples:
  remuda run -- ./server --port {port}
  remuda run --workers 4 --health /healthz -- gunicorn --bind unix:{socket} app:app
  remuda run -c remuda.toml

Signals: USR2 rolls every service, HUP re-reads the config, TERM and INT stop gracefully (twice: now), \
QUIT stops now, TTIN and TTOU change the number of workers.";

/// A front proxy that owns a service's socket and its workers, and replaces them without losing a request.
#[derive(Debug, Parser)]
#[command(name = "remuda", version = VERSION, after_long_help = EXAMPLES, propagate_version = false)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// Where to find the instance, and how to speak.
    #[command(flatten)]
    pub(crate) common: Common,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes, before or after its own arguments.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The instance's admin socket [default: admin.sock in the runtime directory]
    #[arg(
        long,
        global = true,
        env = socket_variable(),
        hide_env_values = true
    )]
    #[arg(value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) admin_socket: Option<PathBuf>,
    /// Print JSON: one object, or one event per line; the last line is `{"type":"result",…}`
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorWhen,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`
    Auto,
    /// Also into a pipe
    Always,
    /// Not even on a terminal
    Never,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Front a service: own its socket, run its workers, in the foreground
    #[command(after_long_help = RUN_EXAMPLES)]
    Run(Box<RunFlags>),
    /// See the whole thing in half a minute, on built-in workers under load
    Demo(crate::demo::Flags),
    /// Say everything that is wrong with a config, before anything is touched
    Check(super::check::CheckArgs),
    /// Replace every worker without losing a request, and wait for the end
    #[command(after_long_help = ROLLOUT_EXAMPLES)]
    Rollout(Rollout),
    /// Hold the running rollout where it is
    Pause(Steer),
    /// Let a paused rollout go on
    Resume(Steer),
    /// Skip what is left of the soak and the ramps, and finish
    Promote(Steer),
    /// Go back to the old generation, and wait until it serves alone
    Abort(Steer),
    /// Go back to what served before the last rollout, and wait for the end
    Rollback(Steer),
    /// Show generations, workers and what is awaited
    ///
    /// The memory of a worker is that of its main process; its children are not in it.
    Status(Status),
    /// Say in one sentence what is awaited
    Why(Look),
    /// List rollouts, or show one
    History(History),
    /// Show the workers' output
    Logs(Logs),
    /// List the requests in flight, and what holds a drain
    Requests(Look),
    /// Set the number of workers, and wait until they are ready
    Scale(Scale),
    /// Give a worker no new requests, and wait for those in flight
    Drain(OneWorker),
    /// Give a drained worker requests again
    Undrain(OneWorker),
    /// Replace one worker, the new one first
    Restart(OneWorker),
    /// Print the path of the admin socket, for curl and others
    Socket,
    /// Read the config again; only what changed is rolled, and waited for
    Reload(Reload),
    /// Exit with 0 if requests can be answered, with 1 if not
    Healthcheck,
    /// Print a shell's completion script
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write all pages to a directory
    Man {
        /// The directory
        #[arg(value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

/// How long to wait for the outcome.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Wait {
    /// Wait no longer than this, then exit with 3; what was asked for goes on
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Do not wait for the outcome
    #[arg(long, conflicts_with = "timeout")]
    pub(crate) detach: bool,
}

/// `remuda rollout`.
#[derive(Debug, Args)]
pub(crate) struct Rollout {
    /// The service; all of them if none is named
    pub(crate) service: Option<String>,
    /// The operator's name for what is rolled out
    #[arg(long, value_name = "NAME")]
    pub(crate) release: Option<String>,
    /// How to go about it; `rolling` is the only one yet
    #[arg(long, value_name = "STRATEGY")]
    pub(crate) strategy: Option<String>,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Roll even if the release is stable already
    #[arg(long)]
    pub(crate) force: bool,
    /// Refuse unless this generation is the stable one
    #[arg(long, value_name = "GENERATION")]
    pub(crate) expected_generation: Option<u64>,
    /// How long to wait.
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// `pause`, `resume`, `promote`, `abort`, `rollback`.
#[derive(Debug, Args)]
pub(crate) struct Steer {
    /// The service; not needed if there is only one
    pub(crate) service: Option<String>,
    /// How long to wait.
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// `remuda status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Draw again as things change, until interrupted
    #[arg(long, short)]
    pub(crate) watch: bool,
    /// Only this service
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Option<String>,
}

/// A command that looks at services.
#[derive(Debug, Args)]
pub(crate) struct Look {
    /// Only this service
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Option<String>,
}

/// `remuda history`.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// A rollout, such as `app-3`
    pub(crate) id: Option<String>,
    /// Only this service
    #[arg(long, value_name = "SERVICE", conflicts_with = "id")]
    pub(crate) service: Option<String>,
}

/// `remuda logs`.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Only the worker in this slot
    pub(crate) slot: Option<u32>,
    /// Go on as lines come, until interrupted
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// The service; not needed if there is only one
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Option<String>,
}

/// `remuda reload`.
#[derive(Debug, Args)]
pub(crate) struct Reload {
    /// How long to wait.
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// `remuda scale`.
#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// The new number of workers
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) workers: u32,
    /// The service; not needed if there is only one
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Option<String>,
    /// How long to wait.
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// `drain`, `undrain`, `restart`.
#[derive(Debug, Args)]
pub(crate) struct OneWorker {
    /// The worker's slot, as `remuda status` shows it
    pub(crate) slot: u32,
    /// The service; not needed if there is only one
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Option<String>,
    /// How long to wait.
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Cli, Command};

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_socket_is_accepted_before_and_after() {
        for line in [
            ["remuda", "--admin-socket", "/s", "pause", "shop"],
            ["remuda", "pause", "--admin-socket", "/s", "shop"],
            ["remuda", "pause", "shop", "--admin-socket", "/s"],
        ] {
            let cli = Cli::try_parse_from(line).expect("accepted");
            assert_eq!(cli.common.admin_socket, Some("/s".into()));
            let Command::Pause(steer) = cli.command else {
                unreachable!("pause was asked for")
            };
            assert_eq!(steer.service.as_deref(), Some("shop"));
        }
    }
}
