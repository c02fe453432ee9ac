//! A re-read config: what can change at once changes, what needs other workers becomes a rollout, and
//! what needs another socket is named and left (F14: a broken file changes nothing).

use std::time::Duration;

use serde_json::json;
use tracing::Level;

use self::plan::{Plan, Step, Word};
use self::words::{INVALID, not_reloaded};
use super::access_log;
use super::certificates::Certificates;
use super::control::Supervisor;
use super::notices::{other_owners, other_services};
use super::standing::Standing;
use super::status::rollout_id;
use crate::config::{Config, ServiceConfig, Workers};
use crate::link::message::TlsOffer;
use crate::rollout::{Accepted, Command, Moment, Refusal};
use crate::wire;

mod plan;
mod words;

/// How often a config that was refused is looked at.
const LOOK_AT_REFUSED: Duration = Duration::from_secs(5);

/// What was read for a config that may be taken.
struct Prepared {
    certificates: Certificates,
    offers: Vec<TlsOffer>,
    standing: Standing,
}

/// The access log that is opened for a config, if it is another one; none, if it is off.
type OtherLog = Option<Option<access_log::OpenLog>>;

/// What a config has changed.
#[derive(Debug, Default)]
struct Changes {
    /// In sentences.
    told: Vec<String>,
    /// What the new config warns of and the one before did not, in sentences.
    warnings: Vec<String>,
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
        let Changes {
            told,
            warnings,
            rolled,
        } = outcome?;
        self.act();
        self.publish_views();
        let mut rollouts = self.rollouts_now();
        rollouts.retain(|rollout| rolled.contains(&rollout.id));
        Ok(wire::Reloaded {
            changes: told,
            warnings,
            rollouts,
        })
    }

    /// What [`Self::reload`] would do now, without doing it: nothing is noted or opened either.
    pub(super) fn rehearse(&self) -> Result<wire::Reloaded, Refusal> {
        if self.stopping.is_some() {
            return Err(Refusal::Stopping);
        }
        let new = (self.reread)().map_err(Refusal::Invalid)?;
        let ready = self.prepare(&new.config)?;
        let keys = new.changed_since(&self.last_read);
        let warnings = new.warnings_since(&self.last_read);
        let mut changes = self.plan(&new.config, &ready, &keys).told;
        if changes.is_empty() {
            changes.push("nothing would change".to_owned());
        }
        Ok(wire::Reloaded {
            changes,
            warnings: warnings.iter().map(ToString::to_string).collect(),
            rollouts: Vec::new(),
        })
    }

    fn read_and_apply(&mut self) -> Result<Changes, Refusal> {
        let now = self.clock.now();
        let mut why = None;
        let read = (self.reread)().map_err(|problems| {
            self.journal.note(
                now,
                Level::ERROR,
                "reload_failed",
                "the new config is not valid; the running one stays",
                json!({"problems": problems}),
            );
            why = Some(INVALID.to_owned());
            Refusal::Invalid(problems)
        });
        let prepared = read.and_then(|new| {
            let ready = self.prepare(&new.config)?;
            let log = self.open_log(&new.config)?;
            Ok((new, ready, log))
        });
        let applied = prepared.and_then(|(new, ready, log)| {
            let keys = new.changed_since(&self.last_read);
            let plan = self.plan(&new.config, &ready, &keys);
            self.apply(&new.config, ready, log, plan)
                .map(|changes| (new, changes))
        });
        let refused = applied.as_ref().err();
        self.notices.config = refused.map(|refusal| why.unwrap_or_else(|| not_reloaded(refusal)));
        self.metrics
            .config_reload(self.notices.all_read(), self.clock.wall(now));
        let (new, mut changes) = applied?;
        if changes.told.is_empty() {
            changes.told.push("nothing changed".to_owned());
        }
        for warning in new.warnings_since(&self.last_read) {
            let (kind, text) = ("config_warning", warning.to_string());
            self.journal
                .note(now, Level::WARN, kind, &text, json!(warning));
            changes.warnings.push(text);
        }
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
        if read.config != self.last_read.config {
            let ready = self.prepare(&read.config);
            self.notices.config = Some(match ready.and_then(|_| self.open_log(&read.config)) {
                Ok(_not_asked_for) => {
                    "the config was not reloaded; it is valid now, and `remuda reload` takes it"
                        .to_owned()
                }
                Err(refusal) => not_reloaded(&refusal),
            });
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

    /// Everything of a config that may be refused but its log, before anything is changed: all of it is taken,
    /// or nothing.
    fn prepare(&self, new: &Config) -> Result<Prepared, Refusal> {
        if let Some(why) = other_services(&self.config, new) {
            return Err(Refusal::Conflict(why));
        }
        if let Some(why) = other_owners(&self.config, new) {
            return Err(Refusal::Conflict(why));
        }
        let now = self.clock.now();
        let standing = Standing::of(&self.config, new);
        let mut here = new.clone();
        here.listen.clone_from(&self.config.listen);
        here.tls.clone_from(&standing.tls);
        here.front.entrances.clone_from(&standing.entrances);
        // Those of listeners that are yet to come are read for their mistakes only.
        Certificates::read(new, now).map_err(Refusal::Invalid)?;
        let (mut certificates, read) = Certificates::read(&here, now).map_err(Refusal::Invalid)?;
        let offers = certificates.keeping(&standing.left_out, self.planes.offers(), read);
        Ok(Prepared {
            certificates,
            offers,
            standing,
        })
    }

    fn open_log(&self, new: &Config) -> Result<OtherLog, Refusal> {
        if self.config.access_log == new.access_log {
            return Ok(None);
        }
        let log = access_log::open(&new.access_log).map_err(Refusal::Invalid)?;
        Ok(Some(log))
    }

    /// Does what was decided. What may be refused, was before.
    fn apply(
        &mut self,
        new: &Config,
        ready: Prepared,
        log: OtherLog,
        plan: Plan,
    ) -> Result<Changes, Refusal> {
        if let Some(log) = log {
            self.planes.log_to(log);
            self.config.access_log = new.access_log.clone();
        }
        self.notices.restart = plan.needed;
        // First, as services publish the table.
        self.config.front = new.front.clone();
        self.config.front.entrances = ready.standing.entrances;
        for (place, files) in (0..).zip(ready.standing.tls) {
            if let Some(known) = self.config.tls.get_mut(place as usize)
                && !ready.standing.left_out.contains(&place)
            {
                *known = files;
            }
        }
        self.certificates = ready.certificates;
        self.notices.certificates = None;
        if *ready.offers != *self.planes.offers() {
            self.say_certificate_faults(&ready.offers);
            self.planes.offer(ready.offers);
        }
        let mut rolled = Vec::new();
        for (service, step) in new.services.iter().zip(plan.services) {
            rolled.extend(self.apply_service(service, step)?);
        }
        self.config.shutdown_delay = new.shutdown_delay;
        self.config.stop_timeout = new.stop_timeout;
        Ok(Changes {
            told: plan.told,
            warnings: Vec::new(),
            rolled,
        })
    }

    /// The id of the rollout that was ordered for it, if one was.
    fn apply_service(
        &mut self,
        new: &ServiceConfig,
        step: Step,
    ) -> Result<Option<String>, Refusal> {
        let mut known = self.config.services.iter_mut();
        if let Some(known) = known.find(|of| of.name == new.name) {
            *known = new.clone();
        }
        self.workers.configure(new);
        let service = new.name.clone();
        let settings = new.settings.clone();
        match step.core {
            Some(Word::Readdress) => {
                let gone = self.workers.unname(new);
                self.command(Command::Readdress {
                    service,
                    settings,
                    gone,
                })?;
            }
            Some(Word::Configure) => {
                self.command(Command::Configure { service, settings })?;
            }
            None => {}
        }
        self.republish();
        let Some(order) = step.rollout else {
            return Ok(None);
        };
        let service = new.name.clone();
        let accepted = self.command(Command::Rollout { service, order })?;
        Ok(match accepted {
            Accepted::Rollout { number, .. } => Some(rollout_id(&new.name, number.0)),
            _ => None,
        })
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
