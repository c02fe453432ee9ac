//! Services: each for itself, and that each request is for one of them.

use std::collections::HashMap;

use super::Check;
use crate::config::{Health, ServiceConfig, Workers};
use crate::link::message::HostPattern;
use crate::rollout::{Ownership, ServiceName, unfit_release};

impl Check<'_> {
    /// There is something to serve.
    pub(super) fn services(&mut self) {
        // Those that could not be read have been said already.
        if self.values.services.is_empty() && !self.values.refused.contains("services") {
            let help =
                "write `[services.app]` with a `command`, or run `remuda run -- CMD`".to_owned();
            self.problems
                .error("missing", None, "there is no service", Some(help));
        }
    }

    /// One service.
    pub(super) fn service(&mut self, name: &str) -> ServiceConfig {
        let at = |key: &str| format!("services.{name}.{key}");
        let workers = self.workers(name);
        let mut settings = self.settings(name);
        if let Workers::Unmanaged(upstream) = &workers {
            settings.ownership = Ownership::Unmanaged;
            settings.wanted = u32::try_from(upstream.len()).unwrap_or(u32::MAX);
        }
        let health = Health {
            path: self.text(&at("health.path")),
            interval: self.time(&at("health.interval")),
            timeout: self.time(&at("health.timeout")),
            notify: self.yes(&at("health.notify")),
        };
        if health.notify && settings.ownership == Ownership::Unmanaged {
            let help = "remove it; readiness is asked by HTTP".to_owned();
            let span = self.values.span(&at("health.notify"));
            let message = "`health.notify` needs workers that remuda starts";
            self.problems.error("conflict", span, message, Some(help));
        }
        self.in_vain(name, settings.ownership);
        ServiceConfig {
            name: ServiceName::new(name),
            workers,
            health,
            rules: self.rules(name, &settings),
            settings,
            release: self.release(&at("release")),
        }
    }

    fn release(&mut self, path: &str) -> Option<String> {
        let name = self.text(path)?;
        if let Some(why) = unfit_release(&name) {
            let span = self.values.span(path);
            self.problems
                .error("value", span, format!("`release`: {why}"), None);
        }
        Some(name)
    }

    /// Each request is for one service at most.
    pub(super) fn routes(&mut self, services: &[ServiceConfig]) {
        let mut taken: HashMap<(Option<&HostPattern>, &str), &ServiceName> = HashMap::new();
        for service in services {
            let hosts: Vec<_> = match &*service.rules.hosts {
                [] => vec![None],
                hosts => hosts.iter().map(Some).collect(),
            };
            for host in hosts {
                let prefix = service.rules.path_prefix.trim_end_matches('/');
                let Some(other) = taken.insert((host, prefix), &service.name) else {
                    continue;
                };
                let whose =
                    host.map_or_else(|| "every host".to_owned(), |host| format!("`{host}`"));
                let below = match prefix {
                    "" => String::new(),
                    prefix => format!(" below `{prefix}`"),
                };
                let message = match *other == service.name {
                    true => format!("service `{other}` names {whose} twice"),
                    false => format!(
                        "services `{other}` and `{}` both get the requests of {whose}{below}",
                        service.name
                    ),
                };
                let at = |key: &str| {
                    self.values
                        .span(&format!("services.{}.{key}", service.name))
                };
                let span = at("hosts").or_else(|| at("path_prefix"));
                let span = span.or_else(|| {
                    self.values
                        .services
                        .get(&*service.name.0)
                        .cloned()
                        .flatten()
                });
                let help = "tell them apart by `hosts` or `path_prefix`".to_owned();
                self.problems.error("conflict", span, message, Some(help));
            }
        }
    }
}
