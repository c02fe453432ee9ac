//! Times that cannot, or hardly, be meant together.

use std::time::Duration;

use super::{Check, default};
use crate::config::value::time_text;
use crate::config::{Config, FIRST_PROBES};
use crate::rollout::Ownership;

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

    /// Says what was asked for and cannot happen, because something else is over first, or off. Only what was given
    /// is said so of: who sets but the shorter time has what was asked for.
    pub(super) fn in_vain(&mut self, name: &str, ownership: Ownership) {
        self.soak_in_a_ramp(name);
        if ownership == Ownership::Managed {
            self.start_beyond_a_rollout(name);
        }
        for class in ["upload", "stream", "tunnel"] {
            self.drain_beyond_all(name, class);
        }
        self.queue_of_nobody(name);
    }

    /// A batch is watched until both are over, so that a shorter soak ends with the ramp.
    fn soak_in_a_ramp(&mut self, name: &str) {
        let keys = ["rollout.soak", "rollout.ramp"];
        let Some((soak, ramp)) = self.shorter(name, keys, "rollout.soak") else {
            return;
        };
        // Who wants no soak at all says it so.
        if soak.is_zero() {
            return;
        }
        let message = format!(
            "`services.{name}.rollout.soak` is {} and includes `ramp`, which is {}: where requests come at once, no batch is watched at its full share of them",
            time_text(soak),
            time_text(ramp)
        );
        let help = format!(
            "set `soak` to the ramp and the time to watch after it, such as \"{}\", or to \"0s\" for none",
            time_text(ramp + Duration::from_secs(10))
        );
        self.warn(name, "rollout.soak", message, help);
    }

    /// A worker that starts is no progress until it is ready.
    fn start_beyond_a_rollout(&mut self, name: &str) {
        let keys = ["rollout.progress_deadline", "health.start_timeout"];
        let Some((deadline, start)) = self.shorter(name, keys, "health.start_timeout") else {
            return;
        };
        let (deadline, start) = (time_text(deadline), time_text(start));
        let message = format!(
            "`services.{name}.health.start_timeout` is {start}, and `rollout.progress_deadline` {deadline}: a rollout fails once it has waited longer than that for a worker"
        );
        let help = format!(
            "set `progress_deadline` to more than \"{start}\", or a shorter `start_timeout`"
        );
        self.warn(name, "health.start_timeout", message, help);
    }

    /// What waits since the last byte is cut with all of the drain.
    fn drain_beyond_all(&mut self, name: &str, class: &str) {
        // Without it the limit is as long as the longest class.
        if !self.given(name, "drain.at_most") {
            return;
        }
        let key = format!("drain.{class}");
        let Some((all, limit)) = self.shorter(name, ["drain.at_most", &key], &key) else {
            return;
        };
        let (all, limit) = (time_text(all), time_text(limit));
        let message = format!(
            "`services.{name}.{key}` is {limit}, and `at_most` {all}: all that is left then is cut, so that nothing has that long"
        );
        let help = format!("set `at_most` to \"{limit}\" or more, or a shorter `{class}`");
        self.warn(name, &key, message, help);
    }

    /// Only who has no place at a worker waits for one.
    fn queue_of_nobody(&mut self, name: &str) {
        let at = |key: &str| format!("services.{name}.{key}");
        let limit = at("max_in_flight");
        if self.given(name, "max_in_flight") || self.values.refused.contains(&limit) {
            return;
        }
        // A file with every key at its default wishes for nothing.
        let is_wish = |key: &&&str| {
            let value = self.maybe(&at(key));
            value.is_some() && value != default(&at(key)).as_ref()
        };
        let keys = ["queue.requests", "queue.bytes", "queue.wait"];
        if let Some(key) = keys.iter().find(is_wish) {
            let message = format!(
                "`services.{name}.{key}` without `max_in_flight`: no worker is ever full, so that nobody waits in the queue"
            );
            let help = "set `max_in_flight`, or `parking` for what waits until a worker is ready";
            self.warn(name, key, message, help.to_owned());
        }
    }

    fn given(&self, name: &str, key: &str) -> bool {
        self.maybe(&format!("services.{name}.{key}")).is_some()
    }

    /// The times of two keys of a service, if the first is the shorter and `wished` was given. What could not be
    /// read is compared with nothing.
    fn shorter(&self, name: &str, keys: [&str; 2], wished: &str) -> Option<(Duration, Duration)> {
        let paths = keys.map(|key| format!("services.{name}.{key}"));
        let refused = paths.iter().any(|path| self.values.refused.contains(path));
        if refused || !self.given(name, wished) {
            return None;
        }
        let [one, other] = paths.map(|path| self.time(&path));
        (one < other).then_some((one, other))
    }

    fn warn(&mut self, name: &str, key: &str, message: String, help: String) {
        let span = self.values.span(&format!("services.{name}.{key}"));
        self.problems.warning("in-vain", span, message, Some(help));
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
