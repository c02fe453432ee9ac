//! How the scripted worker misbehaves: `key=value` lines in a file that each start reads anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The file, shared by a test and the workers it starts.
#[derive(Debug, Clone)]
pub(crate) struct Knobs {
    path: PathBuf,
}

impl Knobs {
    pub(crate) fn new(dir: &Path) -> Self {
        let knobs = Self {
            path: dir.join("knobs"),
        };
        knobs.set(&[]);
        knobs
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces all of them; workers started from now on see them.
    pub(crate) fn set(&self, pairs: &[(&str, &str)]) {
        let text: String = pairs
            .iter()
            .map(|(key, value)| format!("{key}={value}\n"))
            .collect();
        let new = self.path.with_extension("new");
        std::fs::write(&new, text).expect("the test's own directory is writable");
        std::fs::rename(&new, &self.path).expect("same directory");
    }
}

/// What a worker reads at its start.
#[derive(Debug, Default)]
pub(crate) struct Set(BTreeMap<String, String>);

impl Set {
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        Self(
            text.lines()
                .filter_map(|line| line.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.0.get(key)?.parse().ok()
    }

    pub(crate) fn on(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
}
