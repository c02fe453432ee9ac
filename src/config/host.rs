//! What a config names on this host, and whether it is there. For `remuda check` alone, and as warnings: the
//! host that checks a config need not be the one that runs it, nor the moment.

use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::unistd::{Group, User};

use super::draft::Draft;
use super::identity::{self, Leaf};
use super::regular::{self, reason};
use super::{Env, LogTarget, Problems, Recipe, Workers, certificate_fault};

/// Where programs are looked for if the worker's environment has no `PATH`, as at the exec.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

impl Draft {
    /// Adds a warning for everything that a start would not find. Where the text itself is broken the reader has
    /// guessed, and nothing is looked for.
    pub(super) fn look_at_host(&mut self, env: &Env) {
        if self.problems.list().iter().any(|one| one.code == "syntax") {
            return;
        }
        let mut look = Look {
            values: &self.values,
            problems: &mut self.problems,
            env,
        };
        for service in &self.config.services {
            if let Workers::Managed(recipe) = &service.workers {
                look.recipe(&service.name.0, recipe);
            }
        }
        if let LogTarget::File(file) = &self.config.access_log.to {
            look.parent("access_log.to", file);
        }
        if let Some(file) = &self.config.pid_file {
            look.parent("pid_file", file);
        }
        if let Some(file) = &self.config.admin.token_file {
            look.file("admin.token_file", file);
        }
        for (leaf, place) in &self.leaves {
            look.certificate(leaf, place.clone());
        }
        for files in self.config.tls.iter().flatten() {
            for (_, key) in &files.pairs {
                look.key(key);
            }
        }
    }
}

struct Look<'a> {
    values: &'a super::file::Values,
    problems: &'a mut Problems,
    env: &'a Env,
}

impl Look<'_> {
    /// One that clients refuse, or soon will.
    fn certificate(&mut self, leaf: &Leaf, place: Option<Range<usize>>) {
        if let Some(message) = certificate_fault(&leaf.file, &leaf.der, SystemTime::now()) {
            self.problems.warning("expires", place, message, None);
        }
    }

    /// A key that everybody can read is no secret. A group may be meant to.
    fn key(&mut self, file: &Path) {
        if let Some(mode) = identity::mode(file).filter(|mode| mode & 0o004 != 0) {
            let shown = file.display();
            let message = format!("{shown}: the key can be read by every user (mode {mode:03o})");
            let help = format!("run `chmod o-r {shown}`");
            self.problems
                .warning("readable-by-all", None, message, Some(help));
        }
    }

    fn recipe(&mut self, service: &str, recipe: &Recipe) {
        let at = |key: &str| format!("services.{service}.{key}");
        if let Some(directory) = &recipe.cwd
            && !directory.is_dir()
        {
            let what = match directory.exists() {
                true => "it is no directory",
                false => "there is no such directory",
            };
            self.missing(&at("cwd"), &directory.display().to_string(), what, None);
        } else if !self.refused(service, &["cwd", "env", "env_file", "env_clear"]) {
            self.program(&at("command"), recipe);
        }
        if let Some(file) = &recipe.env_file {
            self.file(&at("env_file"), file);
        }
        // A number needs no entry.
        let is_name = |name: &&String| name.parse::<u32>().is_err();
        if let Some(name) = recipe.user.as_ref().filter(is_name)
            && matches!(User::from_name(name), Ok(None))
        {
            self.missing(&at("user"), name, "there is no such user", None);
        }
        if let Some(name) = recipe.group.as_ref().filter(is_name)
            && matches!(Group::from_name(name), Ok(None))
        {
            self.missing(&at("group"), name, "there is no such group", None);
        }
    }

    /// One of these was given, and nobody knows what was meant.
    fn refused(&self, service: &str, keys: &[&str]) -> bool {
        let refused = &self.values.refused;
        let at = |key: &&str| format!("services.{service}.{key}");
        keys.iter().any(|key| refused.contains(&at(key)))
    }

    fn program(&mut self, key: &str, recipe: &Recipe) {
        let Some(program) = recipe.command.first() else {
            return;
        };
        // What a placeholder stands for is not known yet.
        if program.contains('{') {
            return;
        }
        let within = recipe.cwd.as_deref().unwrap_or(Path::new(""));
        if program.contains('/') {
            let path = within.join(program);
            match executable(&path) {
                Executable::Yes => {}
                Executable::No => {
                    let help = format!("run `chmod +x {}`", path.display());
                    self.missing(key, program, "it cannot be executed", Some(help));
                }
                Executable::Nothing => {
                    let what = match program.starts_with('/') {
                        true => "there is no such file".to_owned(),
                        false => format!("there is no such file in {}", shown(within)),
                    };
                    self.missing(key, program, &what, None);
                }
            }
            return;
        }
        let Some(directories) = self.path_of(recipe) else {
            return;
        };
        let mut found = std::env::split_paths(&directories).map(|of| within.join(of).join(program));
        if !found.any(|path| matches!(executable(&path), Executable::Yes)) {
            let what = "it is in none of the directories of the worker's PATH";
            self.missing(key, program, what, None);
        }
    }

    /// The worker's `PATH`; `None` if only its own file of variables knows.
    fn path_of(&self, recipe: &Recipe) -> Option<String> {
        let named = recipe.env.iter().rev().find(|(name, _)| name == "PATH");
        if let Some((_, path)) = named {
            return Some(path.clone());
        }
        if recipe.env_file.is_some() {
            return None;
        }
        let inherited = self.env.get("PATH").filter(|_| !recipe.env_clear);
        Some(inherited.map_or_else(|| DEFAULT_PATH.to_owned(), Clone::clone))
    }

    fn file(&mut self, key: &str, file: &Path) {
        if let Err(error) = regular::open(file) {
            let name = file.display().to_string();
            self.missing(key, &name, &reason(&error), None);
        }
    }

    /// The directory that a file is to be made in.
    fn parent(&mut self, key: &str, file: &Path) {
        let parent = file.parent().map(Path::to_owned);
        let parent = parent.filter(|parent| *parent != PathBuf::new());
        if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
            let name = file.display().to_string();
            let what = format!("there is no directory {}", parent.display());
            let help = format!("run `mkdir -p {}`", parent.display());
            self.missing(key, &name, &what, Some(help));
        }
    }

    fn missing(&mut self, path: &str, name: &str, what: &str, help: Option<String>) {
        let key = path.rsplit('.').next().unwrap_or(path);
        let message = format!("`{key}`: `{}`: {what}", name.escape_debug());
        let span = self.values.span(path);
        self.problems.warning("not-here", span, message, help);
    }
}

enum Executable {
    Yes,
    No,
    Nothing,
}

fn executable(path: &Path) -> Executable {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => Executable::Yes,
        Ok(_) => Executable::No,
        Err(_) => Executable::Nothing,
    }
}

fn shown(directory: &Path) -> String {
    match directory == Path::new("") {
        true => "the current directory, where a worker without `cwd` starts".to_owned(),
        false => format!("`{}`", directory.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::super::{Env, RunFlags, examine, load};

    /// What is missed of this config, in a directory with a program, a text and a file of variables.
    fn missed(text: &str) -> Vec<(Option<usize>, String)> {
        let place = tempfile::tempdir().expect("a temporary directory");
        let put = |name: &str, text: &str, mode: u32| {
            let path = place.path().join(name);
            std::fs::write(&path, text).expect("it is ours");
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, mode).expect("it is ours");
        };
        put("server", "#!/bin/sh\n", 0o755);
        put("text", "no program", 0o644);
        put("vars", "A=1\n", 0o644);
        put(
            "remuda.toml",
            &text.replace("HERE", &at(place.path())),
            0o644,
        );
        let flags = RunFlags {
            config: Some(place.path().join("remuda.toml")),
            ..RunFlags::default()
        };
        let env = [
            ("RUNTIME_DIRECTORY", "/run/r".to_owned()),
            ("PATH", at(place.path())),
        ];
        let env: Env = env.map(|(name, value)| (name.to_owned(), value)).into();
        let loaded = load(&flags, &env).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        let loaded = examine(&flags, &env).unwrap_or_else(|problems| panic!("{problems}"));
        let reports = loaded.warnings.reports().into_iter();
        reports.map(|one| (one.line, one.message)).collect()
    }

    fn at(path: &Path) -> String {
        path.display().to_string()
    }

    #[test]
    fn what_a_start_would_not_find_is_a_warning_with_its_place() {
        let app = "[services.app]\ncommand = [\"HERE/server\"]\n";
        for (lines, what) in [
            ("cwd = \"none\"", "there is no such directory"),
            ("cwd = \"text\"", "it is no directory"),
            ("env_file = \"none\"", "there is no such file"),
            ("user = \"nobody-of-this-name\"", "there is no such user"),
            ("group = \"nobody-of-this-name\"", "there is no such group"),
        ] {
            let all = missed(&format!("{app}{lines}\n"));
            assert_eq!(all.len(), 1, "{lines}: {all:?}");
            assert!(all[0].0 == Some(3) && all[0].1.contains(what), "{all:?}");
        }
        for (command, what) in [
            ("HERE/none", "there is no such file"),
            ("./none", "there is no such file in `"),
            ("HERE/text", "it cannot be executed"),
            ("HERE", "it cannot be executed"),
            ("none-of-this-name", "PATH"),
            ("text", "PATH"),
        ] {
            let text = format!("[services.app]\ncommand = [\"{command}\"]\ncwd = \"HERE\"\n");
            let all = missed(&text);
            assert_eq!(all.len(), 1, "{command}: {all:?}");
            assert!(all[0].0 == Some(2) && all[0].1.contains(what), "{all:?}");
        }
        let logs = missed(&format!("[access_log]\nto = \"none/access.log\"\n{app}"));
        assert!(logs.len() == 1 && logs[0].0 == Some(2), "{logs:?}");
    }

    #[test]
    fn what_is_there_or_cannot_be_known_is_no_warning() {
        for lines in [
            "command = [\"HERE/server\"]\nenv_file = \"vars\"\nuser = \"root\"\ngroup = \"0\"",
            "command = [\"./server\"]\ncwd = \"HERE\"",
            // In our own `PATH`.
            "command = [\"server\"]\nuser = \"4294967\"",
            "command = [\"sh\"]\nenv_clear = true",
            "command = [\"sh\"]\nenv = { PATH = \"/bin:/usr/bin\" }",
            "command = [\"/opt/{release}/server\"]",
            "command = [\"only-there\"]\nenv_file = \"vars\"",
            "upstream = [\"127.0.0.1:9000\"]",
        ] {
            let text = format!("[access_log]\nto = \"access.log\"\n[services.app]\n{lines}\n");
            assert_eq!(missed(&text), [], "{lines}");
        }
    }
}
