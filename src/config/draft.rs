//! A config as it was read, mistakes and all: what else is to be said of it is said before it is taken or refused.

use std::ops::Range;
use std::path::Path;

use super::check::{self, Built};
use super::diagnose::Problems;
use super::file::{self, Values};
use super::identity::Leaf;
use super::{Config, Env, Loaded, RunFlags};

/// A config that is neither taken nor refused yet.
pub(super) struct Draft {
    /// What it would be. Where something was refused the default stands in its place.
    pub(super) config: Config,
    /// What was given.
    pub(super) values: Values,
    /// The certificates that listeners show, each with the place where its file is named.
    pub(super) leaves: Vec<(Leaf, Option<Range<usize>>)>,
    /// What is said of it so far.
    pub(super) problems: Problems,
}

impl Draft {
    /// Reads a text, and puts the flags over it.
    pub(super) fn of(file: Option<&Path>, text: &str, flags: &RunFlags, env: &Env) -> Self {
        let mut problems = Problems::of(file.map(|file| file.display().to_string()), text);
        let base = file.map_or(Path::new(""), base_of);
        let mut values = file::read(text, base, env, &mut problems);
        flags.apply(&mut values, &mut problems);
        let Built { config, leaves } = check::build(&values, env, &mut problems);
        Self {
            config,
            values,
            leaves,
            problems,
        }
    }

    /// The config, if nothing is wrong with it.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, at once; warnings among it.
    pub(super) fn settled(mut self) -> Result<Loaded, Problems> {
        self.problems.settle();
        if self.problems.errors() > 0 {
            return Err(self.problems);
        }
        Ok(Loaded {
            config: self.config,
            warnings: self.problems,
            values: self.values,
        })
    }
}

/// Where relative paths of a config begin: at its directory, or at ours if the name is only a descriptor's, as
/// `/dev/stdin` and `/dev/fd/63` are.
fn base_of(file: &Path) -> &Path {
    let is_descriptor = file.starts_with("/dev") || file.starts_with("/proc");
    let directory = file.parent().filter(|_| !is_descriptor);
    directory.unwrap_or(Path::new(""))
}
