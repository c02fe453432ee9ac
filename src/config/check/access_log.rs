//! The access log.

use super::{Check, Value};
use crate::config::{AccessLogConfig, LogTarget};
use crate::link::message::{AccessLog, LogFormat};

impl Check<'_> {
    /// One line for each request.
    pub(super) fn access_log(&mut self) -> AccessLogConfig {
        let to = match self.get("access_log.to") {
            Some(Value::LogTarget(to)) => to,
            _ => LogTarget::Off,
        };
        let format = match self.get("access_log.format") {
            Some(Value::LogFormat(format)) => format,
            _ => LogFormat::Json,
        };
        let query = self.yes("access_log.query");
        let log = AccessLog { format, query };
        let names = crate::proxy::LogFormat::new(&log).is_ok_and(|format| format.names_query());
        if names && !query {
            let message = "`{query}` is always empty: query strings are not kept";
            let help = "add `query = true` if they hold no secrets, or leave the field out";
            let span = self.values.span("access_log.format");
            self.problems
                .error("conflict", span, message, Some(help.to_owned()));
        }
        AccessLogConfig { to, log }
    }
}
