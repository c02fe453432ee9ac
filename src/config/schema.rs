//! The JSON Schema (draft-07) for editors. Written from the table of keys, like everything about them.

use serde_json::{Map, Value, json};

use super::keys::{Key, SECTIONS, SERVICE, Section};
use super::value::{Kind, MAX_WORKERS};

/// The text of `config/schema.json`.
#[must_use]
pub fn text() -> String {
    let mut text = serde_json::to_string_pretty(&schema()).unwrap_or_default();
    text.push('\n');
    text
}

fn schema() -> Value {
    let mut top = properties("");
    for section in SECTIONS {
        if !section.path.is_empty() && !section.path.contains('.') {
            let table = table(section);
            let whole = match section.path {
                "listen" => json!({ "type": "array", "items": table }),
                _ => table,
            };
            top.insert(section.path.to_owned(), whole);
        }
    }
    let services = json!({
        "type": "object",
        "description": "The services",
        "propertyNames": { "pattern": "^[a-z0-9_-]{1,63}$" },
        "additionalProperties": service(),
    });
    top.insert("services".to_owned(), services);
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "remuda.toml",
        "type": "object",
        "additionalProperties": false,
        "properties": top,
    })
}

fn service() -> Value {
    let mut all = properties(SERVICE);
    for section in SECTIONS {
        if let Some(name) = section.path.strip_prefix("services.*.") {
            all.insert(name.to_owned(), table(section));
        }
    }
    json!({
        "type": "object",
        "additionalProperties": false,
        "oneOf": [{ "required": ["command"] }, { "required": ["upstream"] }],
        "properties": all,
    })
}

fn table(section: &Section) -> Value {
    let mut all = properties(section.path);
    for below in SECTIONS {
        let name = below.path.strip_prefix(section.path);
        if let Some(name) = name.and_then(|rest| rest.strip_prefix('.')) {
            all.insert(name.to_owned(), table(below));
        }
    }
    json!({
        "type": "object",
        "description": section.doc,
        "additionalProperties": false,
        "properties": all,
    })
}

fn properties(path: &str) -> Map<String, Value> {
    let section = SECTIONS.iter().filter(|section| section.path == path);
    section
        .flat_map(|section| section.keys)
        .map(|key| (key.name.to_owned(), property(key)))
        .collect()
}

fn property(key: &Key) -> Value {
    let mut property = of_kind(key.kind);
    property.insert("description".to_owned(), json!(key.doc));
    if let Some(default) = key.default
        && let Ok(default) = serde_json::from_str::<Value>(default)
    {
        property.insert("default".to_owned(), default);
    }
    property.into()
}

fn of_kind(kind: Kind) -> Map<String, Value> {
    let value = match kind {
        Kind::Text | Kind::Path | Kind::LogTarget => json!({ "type": "string" }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Count(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Time(_) => pattern(r"([0-9]+ ?[a-z]+ ?)+"),
        Kind::Size => pattern(r"[0-9.]+ ?[kKMGTP]?i?[bB]"),
        Kind::Percent => pattern(r"[0-9]{1,3}%"),
        Kind::Amount => json!({ "oneOf": [
            { "type": "integer", "minimum": 0, "maximum": MAX_WORKERS },
            pattern(r"[0-9]{1,3}%"),
        ] }),
        Kind::Listener => pattern(r"(unix:.+|.+:[0-9]+)"),
        Kind::Address | Kind::Loopback => pattern(r"(off|.+:[0-9]+)"),
        Kind::Ports => pattern(r"[0-9]+ *- *[0-9]+"),
        Kind::Umask => pattern(r"[0-7]{3,4}"),
        Kind::UrlPath => pattern(r"/.*"),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::LogFormat => pattern(r"(json|common|combined|.*\{[a-z_]+\}.*)"),
        Kind::Texts => json!({ "type": "array", "minItems": 1, "items": { "type": "string" } }),
        Kind::Upstreams => {
            json!({ "type": "array", "minItems": 1, "items": pattern(r"(unix:.+|.+:[0-9]+)") })
        }
        Kind::Peers => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Hosts => json!({ "type": "array", "minItems": 1, "items": { "type": "string" } }),
        Kind::Paths => json!({ "oneOf": [
            { "type": "string" },
            { "type": "array", "minItems": 1, "items": { "type": "string" } },
        ] }),
        Kind::Files | Kind::Pairs => {
            json!({ "type": "object", "additionalProperties": { "type": "string" } })
        }
    };
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A text of this form, or one that holds a variable.
fn pattern(form: &str) -> Value {
    json!({ "type": "string", "pattern": format!(r"^({form}|.*\$\{{.*)$") })
}
