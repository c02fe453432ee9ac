//! Which service is meant.

use super::exit::{Code, Failure};
use crate::wire::{Service, Status};

/// The service of this name, or the only one there is. For commands that take it as their argument.
pub(crate) fn named(status: &Status, name: Option<&str>) -> Result<String, Failure> {
    chosen(status, name, "")
}

/// The same for commands that take it as `--service`.
pub(crate) fn by_option(status: &Status, name: Option<&str>) -> Result<String, Failure> {
    chosen(status, name, " with `--service`")
}

fn chosen(status: &Status, name: Option<&str>, how: &str) -> Result<String, Failure> {
    let names: Vec<&str> = status.services.keys().map(String::as_str).collect();
    match (name, names.as_slice()) {
        (Some(name), _) if status.services.contains_key(name) => Ok(name.to_owned()),
        (None, [only]) => Ok((*only).to_owned()),
        (Some(name), all) => Err(Failure::new(
            Code::Usage,
            format!("there is no service `{name}`; there is {}", listed(all)),
        )),
        (None, all) => Err(Failure::new(
            Code::Usage,
            format!("name one of the services{how}: {}", listed(all)),
        )),
    }
}

/// The service of this name, or all.
pub(crate) fn looked_at<'a>(
    status: &'a Status,
    name: Option<&str>,
) -> Result<Vec<(&'a String, &'a Service)>, Failure> {
    if let Some(name) = name {
        named(status, Some(name))?;
    }
    let all = status.services.iter();
    Ok(all
        .filter(|(candidate, _)| name.is_none_or(|name| name == candidate.as_str()))
        .collect())
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}
