//! A re-read config: what can change at once changes, what needs other workers becomes a rollout, and
//! what needs another socket is named and left (F14: a broken file changes nothing).

use std::time::Duration;

use serde_json::json;
use tracing::Level;

use self::words::{INVALID, OF_A_GENERATION, OF_PROBES, moves, named, not_reloaded};
use super::access_log;
use super::certificates::{self, Certificates};
use super::control::Supervisor;
use super::notices::{OF_THE_START, is_moving, other_owners, other_services, restart_needed};
use super::standing::Standing;
use super::status::rollout_id;
use crate::config::{ChangedKeys, Config, ServiceConfig, Workers};
use crate::link::message::TlsOffer;
use crate::rollout::{Accepted, Command, Generation, Moment, Refusal, RolloutOrder, Trigger};
use crate::wire;

mod words;

/// How often a config that was refused is looked at.
const LOOK_AT_REFUSED: Duration = Duration::from_secs(5);

/// What was read and opened for a config that may be taken.
struct Prepared {
    certificates: Certificates,
    offers: Vec<TlsOffer>,
    standing: Standing,
    /// If it is another one.
    log: Option<Option<access_log::OpenLog>>,
}

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
        let prepared = read.and_then(|new| self.prepare(&new.config).map(|ready| (new, ready)));
        let applied = prepared.and_then(|(new, ready)| {
            let keys = new.changed_since(&self.last_read);
            self.apply(&new.config, ready, &keys)
                .map(|changes| (new, changes))
        });
        let refused = applied.as_ref().err();
        self.notices.config = refused.map(|refusal| why.unwrap_or_else(|| not_reloaded(refusal)));
        self.metrics
            .config_reload(self.notices.all_read(), self.clock.wall(now));
        let (new, mut changes) = applied?;
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
            self.notices.config = Some(match self.prepare(&read.config) {
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

    /// Everything of a config that may be refused, before anything is changed: all of it is taken, or nothing.
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
        let log = match self.config.access_log == new.access_log {
            true => None,
            false => Some(access_log::open(&new.access_log).map_err(Refusal::Invalid)?),
        };
        Ok(Prepared {
            certificates,
            offers,
            standing,
            log,
        })
    }

    fn apply(
        &mut self,
        new: &Config,
        ready: Prepared,
        keys: &ChangedKeys,
    ) -> Result<Changes, Refusal> {
        let needed = restart_needed(&self.config, new);
        let mut changes = Changes {
            told: needed.clone(),
            warnings: Vec::new(),
            rolled: Vec::new(),
        };
        let general = keys.general.iter().map(|key| &**key);
        let live: Vec<&str> = general.filter(|key| !OF_THE_START.contains(key)).collect();
        if !live.is_empty() {
            changes
                .told
                .push(format!("{} changed (live)", named(&live)));
        }
        if let Some(log) = ready.log {
            self.planes.log_to(log);
            self.config.access_log = new.access_log.clone();
            changes
                .told
                .push("the access log changed (live)".to_owned());
        }
        self.notices.restart = needed;
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
        changes.told.extend(ready.standing.told);
        self.certificates = ready.certificates;
        self.notices.certificates = None;
        let before = self.planes.offers();
        if *ready.offers != *before {
            // More than that HTTP/2 is offered, or no more, which its listener's line says.
            if certificates::shown(&ready.offers).ne(certificates::shown(before)) {
                changes.told.push("certificates changed (live)".to_owned());
            }
            self.say_certificate_faults(&ready.offers);
            self.planes.offer(ready.offers);
        }
        for service in &new.services {
            let keys = keys.services.get(&service.name).map_or(&[][..], |of| of);
            self.apply_service(service, keys, &mut changes)?;
        }
        changes.told.extend(self.behind(&self.view()));
        self.config.shutdown_delay = new.shutdown_delay;
        self.config.stop_timeout = new.stop_timeout;
        if changes.told.is_empty() {
            changes.told.push("nothing changed".to_owned());
        }
        Ok(changes)
    }

    fn apply_service(
        &mut self,
        new: &ServiceConfig,
        keys: &[String],
        changes: &mut Changes,
    ) -> Result<(), Refusal> {
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
        let moved = match (&old.workers, &new.workers) {
            (Workers::Unmanaged(was), Workers::Unmanaged(is)) if was != is => Some((was, is)),
            _ => None,
        };
        let (was, is) = (old.settings.wanted, new.settings.wanted);
        if was != is && moved.is_none() {
            changes
                .told
                .push(format!("service {name}: workers {was} → {is} (live)"));
        }
        let is_live = |key: &&str| *key != "workers" && !OF_A_GENERATION.contains(key);
        let live = keys.iter().map(|key| &**key).filter(is_live);
        // Probes go on as they began: what a worker is asked is its own for life.
        let (asked, live): (Vec<&str>, Vec<&str>) = live.partition(|key| OF_PROBES.contains(key));
        if !asked.is_empty() {
            changes.told.push(format!(
                "service {name}: {} changed (for workers that begin from now on)",
                named(&asked)
            ));
        }
        let differs =
            old.settings != new.settings || old.rules != new.rules || old.health != new.health;
        if !live.is_empty() {
            let live = named(&live);
            changes
                .told
                .push(format!("service {name}: {live} changed (live)"));
        } else if differs && asked.is_empty() && was == is {
            // A page, which is a file of its own.
            changes.told.push(format!(
                "service {name}: a file that it names changed (live)"
            ));
        }
        self.config.services[index] = new.clone();
        self.workers.configure(new);
        if let Some((was, is)) = moved {
            changes
                .told
                .push(format!("service {name}: {} (live)", moves(was, is)));
            let gone = self.workers.unname(new);
            self.command(Command::Readdress {
                service: name.clone(),
                settings: new.settings.clone(),
                gone,
            })?;
        } else if old.settings != new.settings {
            self.command(Command::Configure {
                service: name.clone(),
                settings: new.settings.clone(),
            })?;
        }
        self.republish();
        let same = old.workers == new.workers && old.release == new.release;
        if same || matches!(new.workers, Workers::Unmanaged(_)) {
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
            let of = keys.iter().map(|key| &**key);
            let of: Vec<&str> = of.filter(|key| OF_A_GENERATION.contains(key)).collect();
            // A placeholder of the environment may be another one.
            let what = match of.is_empty() {
                true => "command or environment".to_owned(),
                false => named(&of),
            };
            changes
                .told
                .push(format!("service {name}: {what} changed (rollout)"));
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
