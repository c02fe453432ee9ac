//! How requests are logged.

use serde::{Deserialize, Serialize};

/// How requests are logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    /// How a line looks.
    pub format: LogFormat,
    /// Query strings are kept.
    pub query: bool,
}

/// How a line of the access log looks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    /// An object.
    Json,
    /// The Common Log Format.
    Common,
    /// The same with referer and user agent.
    Combined,
    /// Text with `{field}` in it.
    Template(String),
}
