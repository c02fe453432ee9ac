//! The ports that workers get.

use super::{Check, Value};
use crate::config::{Config, Connect, Workers};

impl Check<'_> {
    /// Ports for workers.
    pub(super) fn ports(&mut self) -> (u16, u16) {
        let Some(Value::Ports(first, last)) = self.get("ports") else {
            return (20_000, 29_999);
        };
        if let Some((low, high)) = ephemeral_ports()
            && first <= high
            && low <= last
        {
            let message = format!(
                "`ports` {first}-{last} overlaps the kernel's ephemeral range {low}-{high}: a stranger's connection may hold a worker's port"
            );
            let help = "choose a range outside of it".to_owned();
            self.problems.warning(
                "ephemeral-ports",
                self.values.span("ports"),
                message,
                Some(help),
            );
        }
        (first, last)
    }

    /// Each worker that is reached by a port has one, those of a rollout's batch included.
    pub(super) fn enough_ports(&mut self, config: &Config) {
        let by_port = config
            .services
            .iter()
            .filter(|service| match &service.workers {
                Workers::Managed(recipe) => recipe.connect == Connect::Port,
                Workers::Unmanaged(_) => false,
            });
        let needed: u64 = by_port
            .map(|service| {
                let of = &service.settings;
                let surge = of.max_surge.of_rounded_up(of.wanted);
                u64::from(of.wanted) + u64::from(surge)
            })
            .sum();
        let (first, last) = config.ports;
        let there = u64::from(last.saturating_sub(first)) + 1;
        if needed > there {
            let message = format!(
                "`ports` {first}-{last} are {there}, and `workers` and `max_surge` together need {needed}"
            );
            let help = "a worker that drains keeps its port, so name some more than that";
            self.problems.error(
                "ports",
                self.values.span("ports"),
                message,
                Some(help.to_owned()),
            );
        }
    }
}

fn ephemeral_ports() -> Option<(u16, u16)> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}
