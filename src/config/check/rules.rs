//! How a service's requests are to be treated.

use std::num::NonZeroU32;

use super::{Check, Value, count};
use crate::link::message::{DrainLimits, Ejection, Parking, Retry, ServiceRules};
use crate::rollout::Settings;

impl Check<'_> {
    /// What the plane needs to know of a service.
    pub(super) fn rules(&mut self, name: &str, settings: &Settings) -> ServiceRules {
        let (edits, pages) = (self.edits(name), self.pages(name));
        let at = |key: &str| format!("services.{name}.{key}");
        ServiceRules {
            edits,
            pages,
            maintenance: self.yes(&at("maintenance")),
            hosts: match self.maybe(&at("hosts")) {
                Some(Value::Hosts(hosts)) => hosts.clone(),
                _ => Vec::new(),
            },
            path_prefix: self.text(&at("path_prefix")).unwrap_or_default(),
            connect_timeout: self.time(&at("timeouts.connect")),
            response_head_timeout: self.time(&at("timeouts.response_head")),
            body_idle_timeout: self.time(&at("timeouts.body_idle")),
            worker_idle_timeout: self.time(&at("timeouts.worker_idle")),
            max_body: match self.maybe(&at("limits.body")) {
                Some(Value::Size(size)) => Some(*size),
                _ => None,
            },
            drain: DrainLimits {
                request: settings.drain_request,
                upload: settings.drain_upload,
                stream: settings.drain_stream,
                tunnel: settings.drain_tunnel,
                at_most: settings.drain_at_most,
            },
            parking: Parking {
                max_requests: self.count(&at("parking.requests")),
                max_bytes: self.size(&at("parking.bytes")),
                max_wait: self.time(&at("parking.wait")),
            },
            max_in_flight: self
                .maybe(&at("max_in_flight"))
                .and_then(count)
                .and_then(NonZeroU32::new),
            queue: Parking {
                max_requests: self.count(&at("queue.requests")),
                max_bytes: self.size(&at("queue.bytes")),
                max_wait: self.time(&at("queue.wait")),
            },
            retry: Retry {
                tries: self.count(&at("retry.tries")),
                budget_percent: self.percent(&at("retry.budget")),
                buffer: self.size(&at("retry.buffer")),
            },
            ejection: Ejection {
                consecutive: self.count(&at("ejection.consecutive")),
                base_time: self.time(&at("ejection.base_time")),
                max_percent: self.percent(&at("ejection.max_percent")),
            },
            slow_start: self.time(&at("slow_start")),
        }
    }
}
