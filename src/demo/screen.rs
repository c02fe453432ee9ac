//! What people see while the demo runs: redrawn lines on a terminal, otherwise a line for each change.

use std::collections::VecDeque;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::load::RATE;
use super::tally::Numbers;
use crate::cli::out::{Out, Tone};
use crate::cli::{time, words};
use crate::wire::{Rollout, Service, Worker};

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
            Some(drawn) => {
                let width = self.out.stderr_width().unwrap_or(usize::MAX);
                drawn.draw(&lines(self.out, scene, width));
            }
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
    let rollout = running(scene)?;
    Some(format!("{}: {}", scene.title, words::place(rollout)))
}

fn lines(out: &Out, scene: &Scene<'_>, width: usize) -> Vec<String> {
    let mut lines = vec![String::new(), head(scene)];
    if let Some(rollout) = running(scene) {
        // Its own line, also while it says nothing: what is below does not jump.
        let waiting = rollout.waiting_on.as_ref();
        let waiting = waiting.map_or("", |waiting| &waiting.message);
        let waiting = cut(&format!("   {waiting}"), width);
        lines.push(out.stderr(Tone::Quiet, &waiting));
    }
    let workers = scene.service.into_iter().flat_map(Service::workers);
    let mut workers: Vec<&Worker> = workers.collect();
    workers.sort_by_key(|worker| (worker.slot, worker.generation));
    lines.extend(workers.into_iter().map(|w| worker(out, scene, w)));
    lines.push(format!(" answers  {}", answers(scene)));
    lines.push(numbers(scene));
    lines
}

fn running<'a>(scene: &Scene<'a>) -> Option<&'a Rollout> {
    let rollout = scene.service?.rollout.as_ref()?;
    (!words::ended(&rollout.state)).then_some(rollout)
}

fn head(scene: &Scene<'_>) -> String {
    let elapsed = format!("{:.1} s", scene.elapsed.as_secs_f64());
    let Some(rollout) = running(scene) else {
        return format!(" {}  {elapsed}", scene.title);
    };
    format!(
        " {}  {}  {}  {elapsed}",
        scene.title,
        bar(rollout.progress, 14),
        words::place(rollout)
    )
}

/// So much of a text as fits, which then shows that there is more.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

fn worker(out: &Out, scene: &Scene<'_>, worker: &Worker) -> String {
    let number = usize::try_from(worker.generation).unwrap_or(usize::MAX);
    let release = scene.releases.get(number.wrapping_sub(1));
    let release = release.map_or("?", String::as_str);
    let now = time::now();
    let age = worker.started_at.as_deref();
    let age = age.and_then(|at| time::since(at, now)).unwrap_or_default();
    let pid = worker.pid.unwrap_or_default();
    // What holds a drain is what there is to see then, and takes the room of all else.
    let remark = match worker.state.as_str() {
        "draining" => words::drain(worker, now),
        _ => format!(
            "pid {pid:<7} {:>4}  {} in flight",
            time::short(age),
            worker.in_flight
        ),
    };
    let tone = match worker.state.as_str() {
        "ready" => Tone::Good,
        _ => Tone::Busy,
    };
    let state = out.stderr(tone, &format!("{:<11}", worker.state));
    format!("  slot {}  {release}  {state}  {remark}", worker.slot)
}

fn answers(scene: &Scene<'_>) -> String {
    let recent = &scene.recent;
    let total = u64::max(recent.answers.values().sum(), 1);
    let answers = recent.answers.iter();
    let answers =
        answers.map(|(release, count)| format!("{release} {}%", (count * 100 + total / 2) / total));
    answers.collect::<Vec<_>>().join("  ")
}

fn numbers(scene: &Scene<'_>) -> String {
    let recent = &scene.recent;
    format!(
        " requests {}   failed {}   {RATE}/s   p50 {}   p99 {}",
        scene.all.requests,
        scene.all.failed,
        milliseconds(recent.p50),
        milliseconds(recent.p99),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::{Numbers, Out, Scene, lines};
    use crate::cli::args::ColorWhen;
    use crate::wire::Service;

    fn worker(slot: u32, generation: u64, state: &str) -> Value {
        json!({
            "slot": slot, "pid": 4_194_303, "generation": generation, "state": state, "health": "passing",
            "in_flight": 12, "in_flight_by_class": {"plain": 12, "upload": 0, "stream": 0, "tunnel": 0},
            "started_at": "2026-11-23T02:00:00.000Z", "drain_deadline": "2999-01-01T00:00:00.000Z",
            "failures": 0, "ejected": false,
        })
    }

    fn in_the_middle() -> Service {
        let none = json!({"plain": 0, "upload": 0, "stream": 0, "tunnel": 0});
        let waiting = json!({
            "kind": "ready",
            "message": "worker 4 of generation 2 to become ready (last probe: its socket \
                        /tmp/remuda-demo-4194303/run/w/app/4-2/s does not exist)",
            "since": "2026-11-23T02:00:00.000Z",
        });
        let rollout = json!({
            "id": "app-2", "service": "app", "from": 1, "to": 2, "trigger": "signal",
            "state": "rolling_back", "step": {"name": "finishing", "batch": 3, "of": 3},
            "progress": 0.5, "waiting_on": waiting,
            "counts": {"wanted": 4, "candidate_ready": 3, "stable_ready": 1, "retiring": 2, "retiring_requests": 3},
            "verdicts": [],
            "remarks": [],
            "ledger": {"requests": 9, "candidate": 4, "stable": 5, "retried": 0, "proxy_errors": 0, "cut": none,
                       "client_gone": 0},
            "requested_at": "2026-11-23T02:00:00.000Z", "full_strength": true,
        });
        let generations = json!([
            {"number": 1, "role": "stable", "weight": 0.5,
             "workers": [worker(0, 1, "ready"), worker(1, 1, "draining")]},
            {"number": 2, "role": "candidate", "weight": 0.5,
             "workers": [worker(4, 2, "starting"), worker(5, 2, "ready")]},
        ]);
        let service = json!({
            "generation": 1, "wanted": 4, "ready": 4, "rollout": rollout, "generations": generations,
            "in_flight": 9, "parked": 0,
        });
        serde_json::from_value(service).expect("a service")
    }

    #[test]
    fn nothing_is_cut_or_broken_on_a_terminal_of_80_columns() {
        let service = in_the_middle();
        let numbers = Numbers {
            requests: 99_999,
            failed: 0,
            first_fault: None,
            p50: Duration::from_micros(123_400),
            p99: Duration::from_micros(1_234_500),
            answers: [("v1".to_owned(), 1), ("v2".to_owned(), 1)].into(),
        };
        let scene = Scene {
            title: "rollout v1 → v2",
            elapsed: Duration::from_secs(59),
            service: Some(&service),
            releases: &["v1".to_owned(), "v2".to_owned()],
            recent: numbers.clone(),
            all: numbers,
        };
        let out = Out::new(false, ColorWhen::Never);
        let shown = lines(&out, &scene, 80);
        for line in &shown {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(shown[2].starts_with("   worker 4 of generation 2 to become ready"));
        assert!(
            shown[2].ends_with('…'),
            "what does not fit is shown to be more"
        );
        let all = shown.join("\n");
        for whole in [
            "rolling back, batch 3 of 3, finishing  59.0 s",
            "12 in flight",
            "answers  v1 50%  v2 50%",
        ] {
            assert!(all.contains(whole), "{whole} in {all}");
        }
    }
}
