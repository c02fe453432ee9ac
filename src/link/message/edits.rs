//! What a service changes about requests and answers.

use serde::{Deserialize, Serialize};

/// What is changed about heads on their way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edits {
    /// Protocols that a request may be upgraded to, in lower case (T11).
    pub upgrades: Vec<String>,
    /// Of requests.
    pub request: FieldEdits,
    /// Of workers' answers.
    pub response: FieldEdits,
}

impl Default for Edits {
    fn default() -> Self {
        Self {
            upgrades: vec!["websocket".to_owned()],
            request: FieldEdits::default(),
            response: FieldEdits::default(),
        }
    }
}

/// Fields that are written, or left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldEdits {
    /// Written in place of what was there: name in lower case, and value.
    pub set: Vec<(String, String)>,
    /// Left out: names in lower case.
    pub remove: Vec<String>,
}

impl FieldEdits {
    /// A field of this name, in lower case, does not go on as it came.
    #[must_use]
    pub fn touches(&self, name: &[u8]) -> bool {
        let set = self.set.iter().any(|(one, _)| one.as_bytes() == name);
        set || self.remove.iter().any(|one| one.as_bytes() == name)
    }
}

/// What clients read instead of our own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// With this status.
    pub status: u16,
    /// Its media type.
    pub kind: String,
    /// Its text; `{request_id}` stands for the request's id.
    pub text: String,
}
