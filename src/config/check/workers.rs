//! Who runs the workers of a service: we, or somebody else.

use super::{Check, Value};
use crate::config::{Upstream, Workers};
use crate::link::message::Protocol;

impl Check<'_> {
    /// Who runs the workers of a service.
    pub(super) fn workers(&mut self, name: &str) -> Workers {
        let at = |key: &str| format!("services.{name}.{key}");
        let command = match self.maybe(&at("command")) {
            Some(Value::Texts(command)) => Some(command.clone()),
            _ => None,
        };
        let upstream = match self.maybe(&at("upstream")) {
            Some(Value::Upstreams(addresses)) => Some(addresses.clone()),
            _ => None,
        };
        let protocol = match self.text(&at("protocol")).as_deref() {
            Some("h2c") => Protocol::H2c,
            _ => Protocol::Http1,
        };
        let upstream = upstream.map(|addresses| {
            let addresses = addresses.into_iter();
            let worker = |address| Upstream { address, protocol };
            addresses.map(worker).collect::<Vec<_>>()
        });
        match (command, upstream) {
            (Some(_), Some(workers)) => {
                let span = self.values.span(&at("upstream"));
                let message = format!("service `{name}` has both `command` and `upstream`");
                let help =
                    "keep `command` if remuda starts the workers, `upstream` if somebody else does";
                self.problems
                    .error("conflict", span, message, Some(help.to_owned()));
                Workers::Unmanaged(workers)
            }
            (Some(command), None) => Workers::Managed(self.recipe(name, command, protocol)),
            (None, Some(workers)) => {
                self.unmanaged(name, &workers);
                Workers::Unmanaged(workers)
            }
            // What was given and is wrong has been said already.
            (None, None)
                if ["command", "upstream"]
                    .iter()
                    .any(|key| self.values.refused.contains(&at(key))) =>
            {
                Workers::Unmanaged(Vec::new())
            }
            (None, None) => {
                let span = self.values.services.get(name).cloned().flatten();
                let message = format!("service `{name}` has neither `command` nor `upstream`");
                let help = "add `command = [\"./server\", \"--port\", \"{port}\"]`".to_owned();
                self.problems.error("missing", span, message, Some(help));
                Workers::Unmanaged(Vec::new())
            }
        }
    }

    fn unmanaged(&mut self, name: &str, workers: &[Upstream]) {
        const OF_A_COMMAND: [&str; 9] = [
            "workers",
            "connect",
            "cwd",
            "env",
            "env_file",
            "env_clear",
            "user",
            "group",
            "umask",
        ];
        for key in OF_A_COMMAND {
            let path = format!("services.{name}.{key}");
            if self.values.found.contains_key(&path) {
                let message = format!(
                    "`{key}` belongs to a `command`, and service `{name}` has an `upstream`"
                );
                let help = if key == "workers" {
                    "remove it; there is one worker per address".to_owned()
                } else {
                    "remove it; who runs the workers sets it".to_owned()
                };
                self.problems
                    .error("conflict", self.values.span(&path), message, Some(help));
            }
        }
        for (number, one) in workers.iter().enumerate() {
            if workers[..number].contains(one) {
                let span = self.values.span(&format!("services.{name}.upstream"));
                let message = format!("`{}` is named twice", one.address);
                self.problems.error("duplicate", span, message, None);
            }
        }
    }
}
