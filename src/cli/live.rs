//! Progress that is drawn and redrawn on a terminal: a bar for each rollout, what it waits for, and a
//! line for each worker that drains.

use std::collections::BTreeMap;
use std::time::SystemTime;

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::out::size;
use super::{fold, words};
use crate::wire::{Rollout, Service, Worker};

/// Steps of a bar.
const STEPS: u64 = 1_000;

/// Everything that is drawn; taken off the screen when dropped.
#[derive(Debug, Default)]
pub(crate) struct Live {
    screen: MultiProgress,
    rollouts: BTreeMap<String, Bars>,
}

#[derive(Debug)]
struct Bars {
    rollout: ProgressBar,
    waiting: ProgressBar,
    workers: BTreeMap<(u64, u32), ProgressBar>,
}

impl Live {
    /// Draws one rollout as it is now.
    pub(crate) fn show(&mut self, rollout: &Rollout, service: Option<&Service>, now: SystemTime) {
        let screen = &self.screen;
        let bars = self
            .rollouts
            .entry(rollout.id.clone())
            .or_insert_with(|| Bars::new(screen));
        bars.rollout.set_position(steps(rollout.progress));
        bars.rollout.set_prefix(words::title(rollout));
        bars.rollout.set_message(position(rollout, service));
        let waiting = rollout
            .waiting_on
            .as_ref()
            .map_or_else(String::new, |waiting| words::waiting(waiting, now));
        let waiting = fold::under_itself(&format!("  {waiting}"), width()).join("\n");
        bars.waiting.set_message(waiting);
        bars.show_workers(screen, rollout, service, now);
    }

    /// A line that stays, above what is drawn.
    pub(crate) fn say(&self, text: &str) {
        // Nothing can be done if the terminal is gone.
        let text = fold::under_itself(text, width()).join("\n");
        let _ = self.screen.println(text);
    }

    /// Takes one rollout off the screen.
    pub(crate) fn remove(&mut self, id: &str) {
        if let Some(bars) = self.rollouts.remove(id) {
            for bar in bars.all() {
                bar.finish_and_clear();
                self.screen.remove(bar);
            }
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        for bars in self.rollouts.values() {
            for bar in bars.all() {
                bar.finish_and_clear();
            }
        }
    }
}

impl Bars {
    fn new(screen: &MultiProgress) -> Self {
        let rollout = screen.add(ProgressBar::new(STEPS));
        rollout.set_style(style("{prefix} {bar:20.green} {percent:>3}%  {msg}"));
        let waiting = screen.add(ProgressBar::new(STEPS));
        waiting.set_style(style("{msg}"));
        Self {
            rollout,
            waiting,
            workers: BTreeMap::new(),
        }
    }

    fn show_workers(
        &mut self,
        screen: &MultiProgress,
        rollout: &Rollout,
        service: Option<&Service>,
        now: SystemTime,
    ) {
        let workers = service.into_iter().flat_map(Service::workers);
        let draining: BTreeMap<(u64, u32), &Worker> = workers
            .filter(|worker| worker.state == "draining" && worker.generation != rollout.to)
            .map(|worker| ((worker.generation, worker.slot), worker))
            .collect();
        self.workers.retain(|key, bar| {
            let stays = draining.contains_key(key);
            if !stays {
                bar.finish_and_clear();
                screen.remove(bar);
            }
            stays
        });
        for (key, worker) in draining {
            let bar = self.workers.entry(key).or_insert_with(|| {
                let bar = screen.insert_after(&self.waiting, ProgressBar::new(1));
                bar.set_style(style("  {prefix}  draining {bar:12.yellow}  {msg}"));
                bar
            });
            let initial = worker
                .drain_initial
                .unwrap_or(worker.in_flight)
                .max(worker.in_flight);
            bar.set_length(initial.max(1).into());
            bar.set_position((initial - worker.in_flight).into());
            bar.set_prefix(format!(
                "slot {} generation {}",
                worker.slot, worker.generation
            ));
            bar.set_message(words::drain(worker, now));
        }
    }

    fn all(&self) -> impl Iterator<Item = &ProgressBar> {
        [&self.rollout, &self.waiting]
            .into_iter()
            .chain(self.workers.values())
    }
}

fn position(rollout: &Rollout, service: Option<&Service>) -> String {
    let counts = &rollout.counts;
    let share = service
        .into_iter()
        .flat_map(|service| &service.generations)
        .find(|generation| generation.number == rollout.to)
        .map_or_else(String::new, |generation| {
            format!(", share {:.0}%", generation.weight * 100.0)
        });
    let place = words::place(rollout);
    // That it runs can be seen; a line of 80 columns has no room to say so too.
    let place = place.strip_prefix("running, ").unwrap_or(&place);
    format!(
        "{place}  new {} of {}{share}",
        counts.candidate_ready, counts.wanted
    )
}

/// Columns of what is drawn on.
fn width() -> Option<usize> {
    size(&Term::stderr()).map(|(_, columns)| columns)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("█▓░")
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=1000 before"
)]
fn steps(progress: f64) -> u64 {
    (progress.clamp(0.0, 1.0) * 1_000.0) as u64
}
