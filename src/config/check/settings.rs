//! What the core decides by: counts, times and what follows from a verdict.

use std::time::Duration;

use super::{Check, Value};
use crate::rollout::{Amount, NotEnough, OnFailure, Ownership, Settings};

/// What a drain may take in all if `drain.at_most` does not say.
const DRAIN_AT_MOST: Duration = Duration::from_secs(3600);

impl Check<'_> {
    /// What the core needs to know of a service.
    pub(super) fn settings(&mut self, name: &str) -> Settings {
        let at = |key: &str| format!("services.{name}.{key}");
        let max_surge = self.amount(&at("rollout.max_surge"));
        let max_unavailable = self.amount(&at("rollout.max_unavailable"));
        if max_surge == Amount::Count(0) && max_unavailable == Amount::Count(0) {
            let span = self
                .values
                .span(&at("rollout.max_surge"))
                .or_else(|| self.values.span(&at("rollout.max_unavailable")));
            let message =
                "`max_surge` and `max_unavailable` are both 0: no worker could ever be replaced";
            let help = "set `max_surge = 1`".to_owned();
            self.problems.error("both-zero", span, message, Some(help));
        }
        let (first, most) = (
            self.time(&at("restart.first")),
            self.time(&at("restart.most")),
        );
        if first > most {
            let message = "`restart.first` is longer than `restart.most`";
            let span = self.values.span(&at("restart.first"));
            self.problems.error("conflict", span, message, None);
        }
        self.time_to_rise(name);
        let on_failure = match self.text(&at("rollout.on_failure")).as_deref() {
            Some("pause") => OnFailure::Pause,
            _ => OnFailure::Rollback,
        };
        let not_enough = match self.text(&at("judge.not_enough")).as_deref() {
            Some("hold") => NotEnough::Hold,
            _ => NotEnough::Continue,
        };
        let [upload, stream, tunnel] =
            ["upload", "stream", "tunnel"].map(|class| self.time(&at(&format!("drain.{class}"))));
        let at_most = match self.maybe(&at("drain.at_most")) {
            Some(Value::Time(at_most)) => *at_most,
            _ => DRAIN_AT_MOST.max(upload).max(stream).max(tunnel),
        };
        Settings {
            ownership: Ownership::Managed,
            wanted: self.count(&at("workers")),
            max_surge,
            max_unavailable,
            ramp: self.time(&at("rollout.ramp")),
            soak: self.time(&at("rollout.soak")),
            progress_deadline: self.time(&at("rollout.progress_deadline")),
            on_failure,
            park: self.time(&at("rollout.park")),
            max_generations: self.count(&at("rollout.max_generations")),
            judge_min_requests: u64::from(self.count(&at("judge.min_requests"))),
            not_enough,
            rise: self.count(&at("health.rise")),
            fall: self.count(&at("health.fall")),
            start_timeout: self.time(&at("health.start_timeout")),
            kill_grace: self.time(&at("drain.kill_grace")),
            drain_request: self.time(&at("drain.request")),
            drain_upload: upload,
            drain_stream: stream,
            drain_tunnel: tunnel,
            drain_at_most: at_most,
            backoff_first: first,
            backoff_max: most,
            unhealthy_after: self.time(&at("restart.unhealthy")),
            backoff_reset: self.time(&at("restart.reset")),
        }
    }
}
