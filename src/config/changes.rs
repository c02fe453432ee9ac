//! Which keys have another value than in an earlier reading, by name, for whoever reloads a config.

use std::collections::BTreeMap;

use super::check;
use super::file::Values;
use super::keys::{SECTIONS, SERVICE};
use super::{Config, Loaded};
use crate::rollout::ServiceName;

/// Tables whose changes are told in words of their own.
const TOLD_OTHERWISE: [&str; 5] = ["listen", "listen.tls", "admin", "metrics", "access_log"];

/// Names of keys whose values differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangedKeys {
    /// Of the whole, such as `limits.head`; none of `listen`, `admin`, `metrics` and `access_log`.
    pub general: Vec<String>,
    /// Of services that were there before, from their own tables on, such as `timeouts.connect`.
    pub services: BTreeMap<ServiceName, Vec<String>>,
}

impl Loaded {
    /// What is another value here than it was in `before`. A value that is named and one that is the default
    /// are the same.
    #[must_use]
    pub fn changed_since(&self, before: &Self) -> ChangedKeys {
        let (old, new) = (&before.values, &self.values);
        let mut changed = ChangedKeys::default();
        for section in SECTIONS {
            let keys = || section.keys.iter().map(|key| key.name);
            let Some(own) = section.path.strip_prefix(SERVICE) else {
                if !TOLD_OTHERWISE.contains(&section.path) {
                    let paths = keys().map(|key| joined(section.path, key));
                    let differ = paths.filter(|path| differs(old, new, path));
                    changed.general.extend(differ);
                }
                continue;
            };
            let own = own.trim_start_matches('.');
            for name in in_both(&before.config, &self.config) {
                let paths = keys().map(|key| joined(own, key));
                let at = |path: &str| format!("services.{name}.{path}");
                let differ = paths.filter(|path| differs(old, new, &at(path)));
                let of = changed.services.entry(name.clone()).or_default();
                of.extend(differ);
            }
        }
        changed
    }
}

fn in_both<'a>(old: &'a Config, new: &'a Config) -> impl Iterator<Item = &'a ServiceName> {
    let names = new.services.iter().map(|of| &of.name);
    names.filter(|name| old.services.iter().any(|of| of.name == **name))
}

fn joined(table: &str, key: &str) -> String {
    match table {
        "" => key.to_owned(),
        table => format!("{table}.{key}"),
    }
}

fn differs(old: &Values, new: &Values, path: &str) -> bool {
    let value = |of: &Values| match of.found.get(path) {
        Some(found) => Some(found.value.clone()),
        None => check::default(path),
    };
    value(old) != value(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::draft::Draft;
    use crate::config::{Env, RunFlags};

    fn read(text: &str) -> Loaded {
        let text = format!("{text}\n[services.a]\ncommand = [\"x\"]\n");
        Draft::of(None, &text, &RunFlags::default(), &Env::new())
            .settled()
            .expect("valid")
    }

    #[test]
    fn f14_keys_that_differ_are_named_in_whatever_table_they_are() {
        let before = read("");
        let now = read(
            "shutdown_delay = \"1s\"\n[limits]\nhead = \"1KiB\"\n[timeouts]\nheader = \"10s\"\n\
             [services.a.timeouts]\nconnect = \"9s\"\n[services.a.rollout]\nramp = \"9s\"\n\
             [services.b]\ncommand = [\"y\"]\nhosts = [\"b.test\"]\n",
        );
        let changed = now.changed_since(&before);
        // The header's timeout is named now, and what it was.
        assert_eq!(changed.general, ["shutdown_delay", "limits.head"]);
        let a = &changed.services[&ServiceName::new("a")];
        assert_eq!(*a, ["rollout.ramp", "timeouts.connect"]);
        assert_eq!(changed.services.len(), 1, "a new service has no changes");
        let none = now.changed_since(&now);
        assert!(none.general.is_empty() && none.services.values().all(Vec::is_empty));
    }
}
