//! A re-read config: what can change at once changes, what needs other workers becomes a rollout, and
//! what needs another socket is named and left (F14: a broken file changes nothing).

use std::time::Duration;

use serde_json::json;
use tracing::Level;

use super::access_log;
use super::certificates::Certificates;
use super::control::Supervisor;
use super::notices::{is_moving, other_services, restart_needed};
use super::status::rollout_id;
use crate::config::{Config, ServiceConfig, Workers};
use crate::rollout::{Accepted, Command, Generation, Moment, Refusal, RolloutOrder, Trigger};
use crate::wire;

/// How often a config that was refused is looked at.
const LOOK_AT_REFUSED: Duration = Duration::from_secs(5);

/// What a config has changed.
#[derive(Debug, Default)]
struct Changes {
    /// In sentences.
    told: Vec<String>,
    /// The ids of the rollouts that were ordered for it.
    rolled: Vec<String>,
}

impl Supervisor {
    /// Re-reads the config and applies it. Returns what changed, and what is rolled for it.
    pub(super) fn reload(&mut self) -> Result<wire::Reloaded, Refusal> {
        if self.stopping.is_some() {
            return Err(Refusal::Stopping);
        }
        self.manager.reloads();
        let outcome = self.read_and_apply();
        self.manager.reloaded();
        let Changes { told, rolled } = outcome?;
        self.act();
        self.publish_views();
        let mut rollouts = self.rollouts_now();
        rollouts.retain(|rollout| rolled.contains(&rollout.id));
        Ok(wire::Reloaded {
            changes: told,
            rollouts,
        })
    }

    fn read_and_apply(&mut self) -> Result<Changes, Refusal> {
        let now = self.clock.now();
        let read = (self.reread)().map_err(|problems| {
            self.journal.note(
                now,
                Level::ERROR,
                "reload_failed",
                "the new config is not valid; the running one stays",
                json!({"problems": problems}),
            );
            Refusal::Invalid(problems)
        });
        let applied = read.and_then(|new| self.apply(&new).map(|changes| (new, changes)));
        self.notices.config = applied.as_ref().err().map(|refusal| match refusal {
            Refusal::Conflict(why) => format!("the config was not reloaded: {why}"),
            _ => "the config was not reloaded, and the one before stays in use; `remuda check` says why"
                .to_owned(),
        });
        self.metrics
            .config_reload(self.notices.all_read(), self.clock.wall(now));
        let (new, changes) = applied?;
        self.last_read = new;
        self.metrics.config_hash(&digest(&self.config));
        for change in &changes.told {
            self.journal
                .note(now, Level::INFO, "reloaded", change, json!({}));
        }
        Ok(changes)
    }

    /// Looks whether a config that was refused has become the one in use: its file was put back, or the
    /// certificate that was wrong with it was mended. Nothing is applied, as nobody has asked again.
    pub(super) fn look_at_refused(&mut self, now: Moment) {
        self.refused_due = now + LOOK_AT_REFUSED;
        if self.notices.config.is_none() {
            return;
        }
        let Ok(read) = (self.reread)() else {
            return;
        };
        if read != self.last_read {
            if other_services(&self.config, &read).is_none() {
                let message =
                    "the config was not reloaded; it is valid now, and `remuda reload` takes it";
                self.notices.config = Some(message.to_owned());
            }
            return;
        }
        self.notices.config = None;
        self.metrics.config_is_read(self.notices.all_read());
        self.journal.note(
            now,
            Level::INFO,
            "config_in_use",
            "the config that was refused was mended: it says again what is in use",
            json!({}),
        );
    }

    fn apply(&mut self, new: &Config) -> Result<Changes, Refusal> {
        let now = self.clock.now();
        let (certificates, offers) = Certificates::read(new, now).map_err(Refusal::Invalid)?;
        if let Some(why) = other_services(&self.config, new) {
            return Err(Refusal::Conflict(why));
        }
        let needed = restart_needed(&self.config, new);
        let mut changes = Changes {
            told: needed.clone(),
            rolled: Vec::new(),
        };
        // Before anything is changed: a log that cannot be opened changes nothing.
        let log = match self.config.access_log == new.access_log {
            true => None,
            false => Some(access_log::open(&new.access_log).map_err(Refusal::Invalid)?),
        };
        if let Some(log) = log {
            self.planes.log_to(log);
            self.config.access_log = new.access_log.clone();
            changes
                .told
                .push("the access log changed (live)".to_owned());
        }
        self.notices.restart = needed;
        // First, as services publish the table.
        let before = std::mem::replace(&mut self.config.front, new.front.clone());
        if self.config.listen == new.listen {
            self.config.tls.clone_from(&new.tls);
            self.certificates = certificates;
            self.notices.certificates = None;
            if *offers != *self.planes.offers() {
                self.planes.offer(offers);
                changes.told.push("certificates changed (live)".to_owned());
            }
        } else {
            // They are those of other listeners.
            self.config.front.entrances = before.entrances;
        }
        for service in &new.services {
            self.apply_service(service, &mut changes)?;
        }
        changes.told.extend(self.behind(&self.view()));
        self.config.shutdown_delay = new.shutdown_delay;
        self.config.stop_timeout = new.stop_timeout;
        if changes.told.is_empty() {
            changes.told.push("nothing changed".to_owned());
        }
        Ok(changes)
    }

    fn apply_service(&mut self, new: &ServiceConfig, changes: &mut Changes) -> Result<(), Refusal> {
        let Some(index) = self
            .config
            .services
            .iter()
            .position(|of| of.name == new.name)
        else {
            return Ok(());
        };
        let old = self.config.services[index].clone();
        let name = &new.name;
        if old.settings != new.settings {
            self.command(Command::Configure {
                service: name.clone(),
                settings: new.settings.clone(),
            })?;
            changes
                .told
                .push(if old.settings.wanted == new.settings.wanted {
                    format!("service {name}: settings changed (live)")
                } else {
                    format!(
                        "service {name}: workers {} → {} (live)",
                        old.settings.wanted, new.settings.wanted
                    )
                });
        }
        if old.rules != new.rules || old.health != new.health {
            changes
                .told
                .push(format!("service {name}: limits or health changed (live)"));
        }
        self.config.services[index] = new.clone();
        self.workers.configure(new);
        self.republish();
        if old.workers == new.workers && old.release == new.release {
            return Ok(());
        }
        // After a rollback the config before it is no change to what serves.
        if let Some(serving) = self.serves(new) {
            changes.told.push(format!(
                "service {name}: generation {serving} runs this command and environment already"
            ));
        } else {
            let order = RolloutOrder {
                release: new.release.clone().filter(|_| old.release != new.release),
                trigger: Trigger::Reload,
                reason: Some("the config changed".to_owned()),
                force: true,
                expected: None,
            };
            let accepted = self.command(Command::Rollout {
                service: name.clone(),
                order,
            })?;
            if let Accepted::Rollout { number, .. } = accepted {
                changes.rolled.push(rollout_id(name, number.0));
            }
            changes.told.push(format!(
                "service {name}: command, environment or protocol changed (rollout)"
            ));
        }
        Ok(())
    }

    /// The stable generation, if it runs what this config says and no rollout is about to change that.
    fn serves(&self, config: &ServiceConfig) -> Option<Generation> {
        let Workers::Managed(wanted) = &config.workers else {
            return None;
        };
        let view = self.view();
        let mut services = view.services.iter();
        let serving = services.find(|of| of.service == config.name)?;
        let is_named = |release: &String| *release == serving.release;
        let same = self.workers.recipe(&config.name, serving.stable) == Some(wanted)
            && config.release.as_ref().is_none_or(is_named);
        (same && !is_moving(serving)).then_some(serving.stable)
    }

    /// The same routes with new rules. The epoch stays the core's: an acknowledgement of the same number
    /// only says what is true already.
    fn republish(&mut self) {
        let table = super::table::build(&self.routes, &self.config, &self.workers);
        self.planes.publish(self.clock.now(), table);
    }
}

/// A digest to compare hosts by (64-bit FNV-1a), the same for the same config in every build of a version.
/// Values of the environment are left out: the digest is public, and a short secret could be guessed from it.
pub(super) fn digest(config: &Config) -> String {
    let mut config = config.clone();
    for service in &mut config.services {
        if let Workers::Managed(recipe) = &mut service.workers {
            for (_, value) in &mut recipe.env {
                value.clear();
            }
        }
    }
    let hash = format!("{config:?}")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{hash:016x}")
}
