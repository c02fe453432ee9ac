//! The score card: what was measured, for people and as JSON.

use std::time::Duration;

use serde::Serialize;

use super::screen::milliseconds;
use super::tally::Numbers;
use crate::cli::exit::Code;
use crate::cli::out::{Out, Tone};
use crate::wire::Rollout;

/// One act of the demo.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Act {
    /// What it was, such as `v1 → v2`.
    pub(super) name: String,
    /// It went as it should: completed, or rolled back at full strength.
    pub(super) as_it_should: bool,
    /// How the rollout ended.
    pub(super) state: String,
    /// How long it took, in seconds.
    pub(super) seconds: f64,
    /// From a worker's shut gate until nothing was left in flight on it, the longest, in seconds.
    pub(super) longest_drain_seconds: f64,
    /// Why it was undone.
    pub(super) failure: Option<String>,
    /// The worker's last words.
    pub(super) worker_said: Vec<String>,
    /// The load meanwhile.
    pub(super) load: Load,
}

/// The numbers of the load during an act.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Load {
    /// Requests that ended.
    pub(super) requests: u64,
    /// Of these, failed.
    pub(super) failed: u64,
    /// What went wrong first.
    pub(super) first_fault: Option<String>,
    /// In milliseconds, of requests that are answered at once.
    pub(super) p50_ms: f64,
    /// The same.
    pub(super) p99_ms: f64,
}

/// Everything that was measured.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Score {
    /// Every request of the demo.
    pub(super) all: Load,
    /// Before the first rollout.
    pub(super) before: Load,
    /// The good release.
    pub(super) good: Act,
    /// The broken release.
    pub(super) broken: Act,
    /// Kill and restart, with `--naive`: what the same load makes of it without remuda.
    pub(super) naive: Option<Load>,
}

impl Act {
    /// What became of a rollout.
    pub(super) fn of(name: String, wanted: &str, rollout: &Rollout, load: &Numbers) -> Self {
        let failure = rollout.failure.as_ref();
        let worker = failure.and_then(|failure| failure.worker.as_ref());
        Self {
            name,
            as_it_should: rollout.state == wanted && rollout.full_strength,
            state: rollout.state.clone(),
            seconds: 0.0,
            longest_drain_seconds: 0.0,
            failure: failure.map(|failure| failure.message.clone()),
            worker_said: worker.map(|w| w.output.clone()).unwrap_or_default(),
            load: Load::from(load),
        }
    }
}

impl From<&Numbers> for Load {
    fn from(numbers: &Numbers) -> Self {
        let milliseconds = |length: Duration| length.as_secs_f64() * 1_000.0;
        Self {
            requests: numbers.requests,
            failed: numbers.failed,
            first_fault: numbers.first_fault.clone(),
            p50_ms: milliseconds(numbers.p50),
            p99_ms: milliseconds(numbers.p99),
        }
    }
}

/// The last line with `--json`.
#[derive(Debug, Serialize)]
struct Result<'a> {
    result: &'static str,
    exit_code: u8,
    #[serde(flatten)]
    score: &'a Score,
}

impl Score {
    /// Done only if no request failed and both rollouts went as they should.
    pub(super) fn code(&self) -> Code {
        let passed = self.good.as_it_should && self.broken.as_it_should && self.all.failed == 0;
        if passed { Code::Done } else { Code::Failed }
    }

    /// Shows it: lines for people, one object with `--json`.
    pub(super) fn show(&self, out: &Out) {
        let code = self.code();
        out.result(Result {
            result: code.name(),
            exit_code: code.number(),
            score: self,
        });
        out.line("");
        let mut lines = self.good_lines(out);
        lines.extend(self.broken_lines(out));
        lines.extend(self.naive.as_ref().map(|naive| {
            format!(
                " {} without remuda: one worker killed and started again, {} requests, {} failed",
                mark(out, naive.failed == 0),
                naive.requests,
                naive.failed
            )
        }));
        let fault = self.all.first_fault.as_ref();
        let fault = fault.map_or_else(String::new, |fault| format!("; the first: {fault}"));
        lines.push(format!(
            " {} {} requests in all, {} failed{fault}",
            mark(out, self.code() == Code::Done),
            self.all.requests,
            self.all.failed
        ));
        for line in lines {
            out.text(&line);
        }
    }

    fn good_lines(&self, out: &Out) -> Vec<String> {
        let act = &self.good;
        let end = if act.as_it_should {
            let workers = super::stage::WORKERS;
            format!("{workers} workers replaced in {:.1} s", act.seconds)
        } else {
            let why = act.failure.as_deref().unwrap_or("no reason given");
            format!("{} after {:.1} s ({why})", act.state, act.seconds)
        };
        vec![
            headline(out, act, &end),
            format!(
                "{:INDENT$}longest drain {:.1} s, p99 {} (before {})",
                "",
                act.longest_drain_seconds,
                told(act.load.p99_ms),
                told(self.before.p99_ms)
            ),
        ]
    }

    fn broken_lines(&self, out: &Out) -> Vec<String> {
        let act = &self.broken;
        let end = format!("{} in {:.1} s", act.state.replace('_', " "), act.seconds);
        let why = act.failure.as_deref().unwrap_or("it was not noticed");
        let said = act.worker_said.iter();
        let said = said.map(|line| format!("the worker said: {line}"));
        let below = std::iter::once(why.to_owned()).chain(said);
        let below = below.map(|line| format!("{:INDENT$}{line}", ""));
        std::iter::once(headline(out, act, &end))
            .chain(below)
            .collect()
    }
}

/// What is said of an act begins under its first words.
const INDENT: usize = 12;

fn headline(out: &Out, act: &Act, end: &str) -> String {
    format!(
        " {} {}  {end}, {} requests, {} failed",
        mark(out, act.as_it_should && act.load.failed == 0),
        act.name,
        act.load.requests,
        act.load.failed
    )
}

fn told(ms: f64) -> String {
    milliseconds(Duration::try_from_secs_f64(ms / 1_000.0).unwrap_or_default())
}

fn mark(out: &Out, good: bool) -> String {
    if good {
        out.stdout(Tone::Good, "✔")
    } else {
        out.stdout(Tone::Bad, "✘")
    }
}
