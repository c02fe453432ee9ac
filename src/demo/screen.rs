//! What people see while the demo runs: redrawn lines on a terminal, otherwise a line for each change.

use std::collections::VecDeque;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::load::RATE;
use super::tally::Numbers;
use crate::cli::out::{Out, Tone};
use crate::cli::{time, words};
use crate::wire::{Service, Worker};

/// The screen.
#[derive(Debug)]
pub(super) struct Screen<'a> {
    out: &'a Out,
    drawn: Option<Drawn>,
    last: VecDeque<String>,
}

#[derive(Debug, Default)]
struct Drawn {
    screen: MultiProgress,
    lines: Vec<ProgressBar>,
}

/// What is to be seen at one moment.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    /// What the demo does now.
    pub(super) title: &'a str,
    /// Since when.
    pub(super) elapsed: Duration,
    /// The service.
    pub(super) service: Option<&'a Service>,
    /// The release of each generation, from the first.
    pub(super) releases: &'a [String],
    /// The last two seconds of the load.
    pub(super) recent: Numbers,
    /// All of the load.
    pub(super) all: Numbers,
}

impl<'a> Screen<'a> {
    /// An empty screen.
    pub(super) fn new(out: &'a Out) -> Self {
        Self {
            out,
            drawn: out.live().then(Drawn::default),
            last: VecDeque::new(),
        }
    }

    /// A line that stays.
    pub(super) fn say(&self, text: &str) {
        match &self.drawn {
            // Nothing can be done if the terminal is gone.
            Some(drawn) => drop(drawn.screen.println(text)),
            None => self.out.say(text),
        }
    }

    /// Shows how things are.
    pub(super) fn show(&mut self, scene: &Scene<'_>) {
        match &mut self.drawn {
            Some(drawn) => drawn.draw(&lines(self.out, scene)),
            None => {
                if let Some(line) = state(scene)
                    && self.last.back() != Some(&line)
                {
                    self.out.say(&line);
                    self.last = VecDeque::from([line]);
                }
            }
        }
    }

    /// Takes everything that does not stay away.
    pub(super) fn clear(&mut self) {
        if let Some(drawn) = &mut self.drawn {
            drawn.draw(&[]);
        }
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Drawn {
    fn draw(&mut self, lines: &[String]) {
        while self.lines.len() > lines.len() {
            if let Some(line) = self.lines.pop() {
                line.finish_and_clear();
                self.screen.remove(&line);
            }
        }
        while self.lines.len() < lines.len() {
            let line = self.screen.add(ProgressBar::new(1));
            if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
                line.set_style(style);
            }
            self.lines.push(line);
        }
        for (line, text) in self.lines.iter().zip(lines) {
            line.set_message(text.clone());
        }
    }
}

/// Where the rollout is, in one line.
fn state(scene: &Scene<'_>) -> Option<String> {
    let rollout = scene.service?.rollout.as_ref()?;
    if words::ended(&rollout.state) {
        return None;
    }
    Some(format!("{}: {}", scene.title, words::place(rollout)))
}

fn lines(out: &Out, scene: &Scene<'_>) -> Vec<String> {
    let mut lines = vec![String::new(), head(out, scene)];
    let workers = scene.service.into_iter().flat_map(|s| &s.generations);
    let mut workers: Vec<&Worker> = workers.flat_map(|g| &g.workers).collect();
    workers.sort_by_key(|worker| (worker.slot, worker.generation));
    lines.extend(workers.into_iter().map(|w| worker(out, scene, w)));
    lines.push(numbers(scene));
    lines
}

fn head(out: &Out, scene: &Scene<'_>) -> String {
    let elapsed = format!("{:.1} s", scene.elapsed.as_secs_f64());
    let rollout = scene.service.and_then(|service| service.rollout.as_ref());
    let Some(rollout) = rollout.filter(|rollout| !words::ended(&rollout.state)) else {
        return format!(" {}  {elapsed}", scene.title);
    };
    let waiting = rollout.waiting_on.as_ref();
    let waiting = waiting.map_or_else(String::new, |w| format!("  {}", w.message));
    let waiting = out.stderr(Tone::Quiet, &waiting);
    format!(
        " {}  {}  {}  {elapsed}{waiting}",
        scene.title,
        bar(rollout.progress, 18),
        words::place(rollout)
    )
}

fn worker(out: &Out, scene: &Scene<'_>, worker: &Worker) -> String {
    let number = usize::try_from(worker.generation).unwrap_or(usize::MAX);
    let release = scene.releases.get(number.wrapping_sub(1));
    let release = release.map_or("?", String::as_str);
    let now = time::now();
    let age = worker.started_at.as_deref();
    let age = age.and_then(|at| time::since(at, now)).unwrap_or_default();
    let pid = worker.pid.unwrap_or_default();
    let remark = match worker.state.as_str() {
        "draining" => words::drain(worker, now),
        _ => format!("{} in flight", worker.in_flight),
    };
    let tone = match worker.state.as_str() {
        "ready" => Tone::Good,
        _ => Tone::Busy,
    };
    let state = out.stderr(tone, &format!("{:<11}", worker.state));
    format!(
        "  slot {}  {release}  {state}  {remark:<34}  age {:>4}  pid {pid}",
        worker.slot,
        time::short(age)
    )
}

fn numbers(scene: &Scene<'_>) -> String {
    let recent = &scene.recent;
    let total = u64::max(recent.answers.values().sum(), 1);
    let answers: Vec<String> = recent
        .answers
        .iter()
        .map(|(release, count)| format!("{release} {}%", count * 100 / total))
        .collect();
    format!(
        " requests {}   failed {}   {RATE}/s   p50 {}   p99 {}   answers {}",
        scene.all.requests,
        scene.all.failed,
        milliseconds(recent.p50),
        milliseconds(recent.p99),
        answers.join("  ")
    )
}

fn bar(share: f64, width: u32) -> String {
    let filled = (0..width).filter(|cell| f64::from(*cell) < share * f64::from(width));
    let filled = filled.count();
    let empty = usize::try_from(width).unwrap_or(0) - filled;
    format!("{}{}", "█".repeat(filled), "░".repeat(empty))
}

/// `9.8 ms`.
pub(super) fn milliseconds(length: Duration) -> String {
    format!("{:.1} ms", length.as_secs_f64() * 1_000.0)
}
