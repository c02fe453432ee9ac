//! What a reload does, decided before any of it is done: so it can be asked for without doing it.

use super::Prepared;
use super::words::{OF_A_GENERATION, OF_PROBES, moves, named};
use crate::config::{ChangedKeys, Config, ServiceConfig, Workers};
use crate::rollout::{Generation, RolloutOrder, Trigger};
use crate::supervisor::certificates::shown;
use crate::supervisor::control::Supervisor;
use crate::supervisor::notices::{OF_THE_START, is_moving, restart_needed};

/// What a config changes about what runs.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// In sentences.
    pub(super) told: Vec<String>,
    /// Of them, what only a restart takes into use.
    pub(super) needed: Vec<String>,
    /// What is done about each service, in their order.
    pub(super) services: Vec<Step>,
}

/// What is done about one service.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// What the core is told of it.
    pub(super) core: Option<Word>,
    /// How it is rolled.
    pub(super) rollout: Option<RolloutOrder>,
}

/// What the core is told of a service's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// They are others.
    Configure,
    /// So are the addresses of its workers, which are somebody else's.
    Readdress,
}

impl Supervisor {
    /// What this config changes, if it is taken now.
    pub(super) fn plan(&self, new: &Config, ready: &Prepared, keys: &ChangedKeys) -> Plan {
        let needed = restart_needed(&self.config, new);
        let mut told = needed.clone();
        let general = keys.general.iter().map(|key| &**key);
        let live: Vec<&str> = general.filter(|key| !OF_THE_START.contains(key)).collect();
        if !live.is_empty() {
            told.push(format!("{} changed (live)", named(&live)));
        }
        if self.config.access_log != new.access_log {
            told.push("the access log changed (live)".to_owned());
        }
        told.extend(ready.standing.told.iter().cloned());
        // More than that HTTP/2 is offered, or no more, which its listener's line says.
        if shown(&ready.offers).ne(shown(self.planes.offers())) {
            told.push("certificates changed (live)".to_owned());
        }
        let mut services = Vec::new();
        for service in &new.services {
            let keys = keys.services.get(&service.name).map_or(&[][..], |of| of);
            services.push(self.step(service, keys, &mut told));
        }
        let view = self.view();
        let is_rolled = |name: &_| {
            let mut all = new.services.iter().zip(&services);
            all.any(|(service, step)| service.name == *name && step.rollout.is_some())
        };
        let stay = view.services.iter().filter(|of| !is_rolled(&of.service));
        told.extend(stay.filter_map(|service| self.behind_in(new, service)));
        Plan {
            told,
            needed,
            services,
        }
    }

    fn step(&self, new: &ServiceConfig, keys: &[String], told: &mut Vec<String>) -> Step {
        let mut services = self.config.services.iter();
        let Some(old) = services.find(|of| of.name == new.name) else {
            return Step::default();
        };
        let name = &new.name;
        let moved = match (&old.workers, &new.workers) {
            (Workers::Unmanaged(was), Workers::Unmanaged(is)) if was != is => Some((was, is)),
            _ => None,
        };
        let (was, is) = (old.settings.wanted, new.settings.wanted);
        if was != is && moved.is_none() {
            told.push(format!("service {name}: workers {was} → {is} (live)"));
        }
        let is_live = |key: &&str| *key != "workers" && !OF_A_GENERATION.contains(key);
        let live = keys.iter().map(|key| &**key).filter(is_live);
        // Probes go on as they began: what a worker is asked is its own for life.
        let (asked, live): (Vec<&str>, Vec<&str>) = live.partition(|key| OF_PROBES.contains(key));
        if !asked.is_empty() {
            told.push(format!(
                "service {name}: {} changed (for workers that begin from now on)",
                named(&asked)
            ));
        }
        let differs =
            old.settings != new.settings || old.rules != new.rules || old.health != new.health;
        if !live.is_empty() {
            let live = named(&live);
            told.push(format!("service {name}: {live} changed (live)"));
        } else if differs && asked.is_empty() && was == is {
            // A page, which is a file of its own.
            told.push(format!(
                "service {name}: a file that it names changed (live)"
            ));
        }
        if let Some((was, is)) = moved {
            told.push(format!("service {name}: {} (live)", moves(was, is)));
        }
        let core = match (moved, old.settings == new.settings) {
            (Some(_), _) => Some(Word::Readdress),
            (None, false) => Some(Word::Configure),
            (None, true) => None,
        };
        Step {
            core,
            rollout: self.order(old, new, keys, told),
        }
    }

    /// How a service is rolled whose workers are to be others.
    fn order(
        &self,
        old: &ServiceConfig,
        new: &ServiceConfig,
        keys: &[String],
        told: &mut Vec<String>,
    ) -> Option<RolloutOrder> {
        let name = &new.name;
        let same = old.workers == new.workers && old.release == new.release;
        if same || matches!(new.workers, Workers::Unmanaged(_)) {
            return None;
        }
        // After a rollback the config before it is no change to what serves.
        if let Some(serving) = self.serves(new) {
            told.push(format!(
                "service {name}: generation {serving} runs this command and environment already"
            ));
            return None;
        }
        let of = keys.iter().map(|key| &**key);
        let of: Vec<&str> = of.filter(|key| OF_A_GENERATION.contains(key)).collect();
        // A placeholder of the environment may be another one.
        let what = match of.is_empty() {
            true => "command or environment".to_owned(),
            false => named(&of),
        };
        told.push(format!("service {name}: {what} changed (rollout)"));
        Some(RolloutOrder {
            release: new.release.clone().filter(|_| old.release != new.release),
            trigger: Trigger::Reload,
            reason: Some("the config changed".to_owned()),
            force: true,
            expected: None,
        })
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
}
