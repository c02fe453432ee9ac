//! From values to a [`Config`]: what must hold between them, and what follows from them.
//!
//! Here are the whole and how a value is asked for. What is checked is in the file of its noun: `listeners` and
//! `admin` (the doors, and the metrics'), `access_log`, `ports`, `services` (each, and that no two get the same
//! requests), and of a service its `workers` with their `recipe`, its `settings` for the core, its `rules` for the
//! plane, among them its `edits`; `times` has what times mean for each other.

mod access_log;
mod admin;
mod edits;
mod listeners;
mod ports;
mod recipe;
mod rules;
mod services;
mod settings;
mod times;
mod workers;

use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::diagnose::Problems;
use super::file::Values;
use super::identity::Leaf;
use super::keys;
use super::paths::Env;
use super::value::{Kind, Value};
use super::{Config, ServiceConfig};
use crate::rollout::Amount;

/// A config, and what was read beside it.
pub(crate) struct Built {
    pub(crate) config: Config,
    /// The certificates that listeners show, each with the place where its file is named.
    pub(crate) leaves: Vec<(Leaf, Option<Range<usize>>)>,
}

/// Builds the config. What it returns counts only if no error was found.
pub(crate) fn build(values: &Values, env: &Env, problems: &mut Problems) -> Built {
    let leaves = Vec::new();
    let mut check = Check {
        values,
        problems,
        leaves,
    };
    check.services();
    let admin = check.admin(env);
    let services: Vec<ServiceConfig> = values
        .services
        .keys()
        .map(|name| check.service(name))
        .collect();
    check.routes(&services);
    let listen = check.listeners();
    check.addresses(&listen, &admin);
    let config = Config {
        front: check.front(&listen),
        tls: listen.iter().map(|one| one.tls.clone()).collect(),
        listen: listen.into_iter().map(|one| one.address).collect(),
        metrics: check.metrics(),
        access_log: check.access_log(),
        admin,
        loops: check.maybe("threads").and_then(count),
        sandbox: check.yes("sandbox"),
        state_dir: check.path("state_dir"),
        ports: check.ports(),
        shutdown_delay: check.time("shutdown_delay"),
        stop_timeout: check.time("stop_timeout"),
        pid_file: check.path("pid_file"),
        exit_on_failed_start: check.yes("exit_on_failed_start"),
        services,
    };
    check.stop(&config);
    check.enough_ports(&config);
    Built {
        config,
        leaves: check.leaves,
    }
}

/// What was given, and where is said what is wrong with it.
struct Check<'a> {
    values: &'a Values,
    problems: &'a mut Problems,
    leaves: Vec<(Leaf, Option<Range<usize>>)>,
}

impl Check<'_> {
    /// The value that was given.
    fn maybe(&self, path: &str) -> Option<&Value> {
        Some(&self.values.found.get(path)?.value)
    }

    /// The value that was given, else the default.
    fn get(&self, path: &str) -> Option<Value> {
        self.maybe(path).cloned().or_else(|| default(path))
    }

    // A key of another kind or without a default would be a slip in the table of keys; a test asks
    // for every one of them, so the last arms below are for nobody.

    fn time(&self, path: &str) -> Duration {
        match self.get(path) {
            Some(Value::Time(time)) => time,
            other => slip(path, other.as_ref()),
        }
    }

    fn count(&self, path: &str) -> u32 {
        self.get(path)
            .as_ref()
            .and_then(count)
            .unwrap_or_else(|| slip(path, None))
    }

    fn percent(&self, path: &str) -> u32 {
        match self.get(path) {
            Some(Value::Percent(part)) => part,
            other => slip(path, other.as_ref()),
        }
    }

    fn size(&self, path: &str) -> u64 {
        match self.get(path) {
            Some(Value::Size(size)) => size,
            other => slip(path, other.as_ref()),
        }
    }

    fn yes(&self, path: &str) -> bool {
        matches!(self.get(path), Some(Value::Bool(true)))
    }

    fn text(&self, path: &str) -> Option<String> {
        match self.get(path) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn path(&self, path: &str) -> Option<PathBuf> {
        match self.maybe(path) {
            Some(Value::Path(path)) => Some(path.clone()),
            _ => None,
        }
    }

    /// A percentage of nothing is none, so that both ways to write zero are one.
    fn amount(&self, path: &str) -> Amount {
        match self.get(path) {
            Some(Value::Amount(Amount::Percent(0))) => Amount::Count(0),
            Some(Value::Amount(amount)) => amount,
            other => slip(path, other.as_ref()),
        }
    }
}

fn slip<T: Zero>(path: &str, found: Option<&Value>) -> T {
    debug_assert!(false, "the table of keys does not fit `{path}`: {found:?}");
    T::ZERO
}

trait Zero {
    const ZERO: Self;
}
impl Zero for Duration {
    const ZERO: Self = Self::ZERO;
}
impl Zero for u32 {
    const ZERO: Self = 0;
}
impl Zero for u64 {
    const ZERO: Self = 0;
}
impl Zero for Amount {
    const ZERO: Self = Self::Count(0);
}

fn count(value: &Value) -> Option<u32> {
    match value {
        Value::Count(count) => Some(*count),
        _ => None,
    }
}

/// The default of a key, from the table of keys.
pub(crate) fn default(path: &str) -> Option<Value> {
    let key = keys::at(path)?;
    let literal = key.default?;
    match literal
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
    {
        Some(text) => key.kind.text(text).ok(),
        None if key.kind == Kind::Bool => Some(Value::Bool(literal == "true")),
        None => key.kind.number(literal.parse().ok()?).ok(),
    }
}

/// Refuses a file that others may change (T21): who may write it says what we run.
pub(crate) fn writable_by_others(file: &Path, span: Option<Range<usize>>, problems: &mut Problems) {
    let Ok(meta) = std::fs::metadata(file) else {
        return;
    };
    if meta.is_file() && meta.mode() & 0o022 != 0 {
        let shown = file.display();
        let message = format!(
            "`{shown}` can be changed by other users (mode {:03o})",
            meta.mode() & 0o777
        );
        problems.error(
            "writable-by-others",
            span,
            message,
            Some(format!("run `chmod go-w {shown}`")),
        );
    }
}
