//! Times that cannot, or hardly, be meant together.

use super::Check;
use crate::config::value::time_text;
use crate::config::{Config, FIRST_PROBES};

impl Check<'_> {
    /// A worker becomes ready after `rise` probes in a row. A limit that is over before those can have been
    /// asked would end every start, or every rollout.
    pub(super) fn time_to_rise(&mut self, name: &str) {
        let rise = format!("services.{name}.health.rise");
        let least = FIRST_PROBES * self.count(&rise);
        for key in ["health.start_timeout", "rollout.progress_deadline"] {
            let path = format!("services.{name}.{key}");
            if self.count(&rise) < 2 || self.time(&path) >= least {
                continue;
            }
            let spans = (self.values.span(&path), self.values.span(&rise));
            let least = humantime::format_duration(least);
            let message = format!(
                "`{key}` ends before `health.rise` good answers in a row can come, so no worker would ever be ready in time"
            );
            let short = key.rsplit('.').next().unwrap_or(key);
            let help = format!("set `{short} = \"{least}\"` or more, or a lower `rise`");
            let span = spans.0.or(spans.1);
            self.problems.error("conflict", span, &message, Some(help));
        }
    }

    /// A stop has the time that its parts may take. It begins where the listeners close.
    pub(super) fn stop(&mut self, config: &Config) {
        for service in &config.services {
            let longest = service.settings.drain_request + service.settings.kill_grace;
            if longest > config.stop_timeout {
                let message = format!(
                    "`stop_timeout` is {}, less than `drain.request` and `drain.kill_grace` of `{}` together: a stop may cut requests",
                    time_text(config.stop_timeout),
                    service.name,
                );
                let help = format!("set it to at least \"{}\"", time_text(longest));
                self.problems.warning(
                    "stop-timeout",
                    self.values.span("stop_timeout"),
                    message,
                    Some(help),
                );
            }
        }
    }
}
