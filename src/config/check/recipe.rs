//! How a worker is started and reached.

use super::{Check, Value};
use crate::config::{Connect, Recipe, placeholders};
use crate::link::message::Protocol;

/// Variables that remuda itself sets.
const OURS: [&str; 4] = [
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];

impl Check<'_> {
    /// How we start them.
    pub(super) fn recipe(
        &mut self,
        name: &str,
        command: Vec<String>,
        protocol: Protocol,
    ) -> Recipe {
        let at = |key: &str| format!("services.{name}.{key}");
        let env = match self.maybe(&at("env")) {
            Some(Value::Pairs(pairs)) => pairs.clone(),
            _ => Vec::new(),
        };
        for (key, _) in &env {
            if OURS.contains(&key.as_str()) || key.starts_with("REMUDA_") {
                let message = format!("`env`: remuda itself sets `{}`", key.escape_debug());
                let span = self.values.span(&at("env"));
                self.problems
                    .error("reserved", span, message, Some("remove it".to_owned()));
            }
        }
        if command.first().is_some_and(String::is_empty) {
            let span = self.values.span(&at("command"));
            self.problems.error(
                "value",
                span,
                "`command`: the program's name is empty",
                None,
            );
        }
        self.placeholders(&at("command"), &command);
        for (_, value) in &env {
            self.placeholders(&at("env"), std::slice::from_ref(value));
        }
        let connect = self.connect(name, &command, &env);
        let umask = match self.maybe(&at("umask")) {
            Some(Value::Umask(mask)) => Some(*mask),
            _ => None,
        };
        Recipe {
            connect,
            protocol,
            cwd: self.path(&at("cwd")),
            env_file: self.path(&at("env_file")),
            env_clear: self.yes(&at("env_clear")),
            user: self.text(&at("user")),
            group: self.text(&at("group")),
            umask,
            command,
            env,
        }
    }

    /// A slip in a placeholder is nobody's mistake but ours to see: the worker gets the braces, and its own
    /// words about them are far from the config.
    fn placeholders(&mut self, path: &str, texts: &[String]) {
        let key = path.rsplit('.').next().unwrap_or(path);
        for word in texts.iter().flat_map(|text| placeholders::unknown(text)) {
            let shown = format!("{{{word}}}");
            let message = format!("`{key}`: `{shown}` is no placeholder and is passed on as it is");
            let span = self
                .values
                .span(path)
                .map(|span| self.problems.within(span, &shown));
            let help = placeholders::help(word);
            self.problems
                .warning("placeholder", span, message, Some(help));
        }
    }

    fn connect(&mut self, name: &str, command: &[String], env: &[(String, String)]) -> Connect {
        let at = |key: &str| format!("services.{name}.{key}");
        let texts = || command.iter().chain(env.iter().map(|(_, value)| value));
        let used = |word: &str| texts().any(|text| text.contains(&format!("{{{word}}}")));
        let (port, socket) = (used("port"), used("socket"));
        let named = self.text(&at("connect"));
        let span = self
            .values
            .span(&at("connect"))
            .or_else(|| self.values.span(&at("command")));
        let mut wrong = |message: &str, help: &str| {
            self.problems
                .error("connect", span.clone(), message, Some(help.to_owned()));
        };
        match named.as_deref() {
            Some("fd") => {
                if socket {
                    wrong(
                        "`connect = \"fd\"` gives no `{socket}`",
                        "remove the placeholder, or set `connect = \"socket\"`",
                    );
                }
                Connect::Fd
            }
            Some("socket") => {
                if !socket {
                    wrong(
                        "`connect = \"socket\"`, and nothing tells the worker its `{socket}`",
                        "add it to `command`, such as \"unix:{socket}\", or to a value of `env`",
                    );
                }
                if port {
                    wrong(
                        "`connect = \"socket\"` gives no `{port}`",
                        "remove the placeholder",
                    );
                }
                Connect::Socket
            }
            Some(_) => {
                if socket {
                    wrong(
                        "`connect = \"port\"` gives no `{socket}`",
                        "remove the placeholder, or set `connect = \"socket\"`",
                    );
                }
                Connect::Port
            }
            None if port && socket => {
                wrong(
                    "`{port}` and `{socket}` are both used",
                    "keep the one by which the worker is reached",
                );
                Connect::Port
            }
            None if socket => Connect::Socket,
            None => Connect::Port,
        }
    }
}
