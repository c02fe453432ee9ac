//! The loop's care for its planes: what their news and their ends lead to, who is replaced, and what is said of it.
//! The set itself, and who of it is hung, is with [`super::planes`].

use serde_json::json;
use tracing::Level;

use super::control::Supervisor;
use super::planes::News;
use crate::rollout::Moment;

impl Supervisor {
    /// What a plane said.
    pub(super) fn on_plane_news(&mut self, incarnation: u64, news: News) {
        match news {
            News::Introduced(confinement) => self.tell_confinement(confinement),
            News::Acknowledged => self.tell_acknowledged(),
            News::Accepting => {
                let now = self.clock.now();
                self.journal.note(
                    now,
                    Level::INFO,
                    "plane_accepting",
                    "the data plane accepts",
                    json!({"incarnation": incarnation}),
                );
                self.tell_planes();
                self.tell_acknowledged();
            }
            News::Sampled(answers) => {
                if let Some((_, plane)) = self
                    .planes
                    .iter()
                    .find(|(number, _)| *number == incarnation)
                {
                    let now = self.clock.now();
                    if let Err(refused) = self.metrics.plane_sample(incarnation, &plane.sample, now)
                    {
                        tracing::debug!("a sample of plane {incarnation} was refused: {refused:?}");
                    }
                }
                self.tell_loads();
                self.tell_ejected();
                self.tell_traffic();
                if let Some(question) = answers {
                    self.answered_sample(incarnation, question);
                }
            }
            News::Exchanges(question, exchanges) => {
                self.answered_exchanges(incarnation, question, exchanges);
            }
            News::Leaving if self.stopping.is_none() => {
                let now = self.clock.now();
                self.journal.note(
                    now,
                    Level::WARN,
                    "plane_leaving",
                    "the data plane was sent SIGTERM by somebody else; a successor takes over while it finishes",
                    json!({ "incarnation": incarnation }),
                );
                self.start_plane(now);
            }
            News::Leaving => {}
            News::Broken(why) => self.kill_plane(incarnation, &why),
            News::Nothing => {}
        }
    }

    /// One that is of no use any more; its end, and so its successor, follow.
    pub(super) fn kill_plane(&mut self, incarnation: u64, why: &str) {
        if let Some(pid) = self.planes.kill(incarnation) {
            let now = self.clock.now();
            self.journal.note(
                now,
                Level::WARN,
                "plane_killed",
                &format!("the data plane (pid {pid}) is replaced: {why}"),
                json!({"incarnation": incarnation, "pid": pid, "why": why}),
            );
            self.workers.reaper().kill(pid);
        }
    }

    /// Starts a plane; if that fails another try is due soon, and it is said.
    pub(super) fn start_plane(&mut self, now: Moment) {
        let started = self.planes.start(now);
        self.watch_planes(now, started);
    }

    fn watch_planes(&mut self, now: Moment, started: std::io::Result<u32>) {
        match started {
            Ok(pid) => self.workers.reaper().watch(pid),
            Err(error) => self.journal.note(
                now,
                Level::ERROR,
                "plane_failed",
                &format!("the data plane cannot be started: {error}; trying again"),
                json!({"error": error.to_string()}),
            ),
        }
    }

    /// Ends those that hang, and starts one that is due.
    pub(super) fn tick_planes(&mut self) {
        let now = self.clock.now();
        for (incarnation, why) in self.planes.tick(now) {
            self.kill_plane(incarnation, &why);
        }
        if self.planes.start_is_due(now) {
            self.start_plane(now);
        }
    }
}
