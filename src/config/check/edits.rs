//! What a service changes about requests and answers: fields, upgrades, and what clients read instead of our
//! own words.

use std::path::Path;

use super::{Check, Value};
use crate::config::read_text;
use crate::config::value::quoted;
use crate::link::message::{Edits, FieldEdits, Page};
use crate::proxy::{head, rules};

/// Longest page, and all of a service together: they are in every table that planes get.
const MAX_PAGE: usize = 32 << 10;
const MAX_PAGES: usize = 128 << 10;

impl Check<'_> {
    /// What is changed about heads.
    pub(super) fn edits(&mut self, service: &str) -> Edits {
        let upgrades = match self.maybe(&format!("services.{service}.upgrades")) {
            Some(Value::Texts(texts)) => self.upgrades(service, &texts.clone()),
            _ => Edits::default().upgrades,
        };
        Edits {
            upgrades,
            request: self.fields(service, "request"),
            response: self.fields(service, "response"),
        }
    }

    fn upgrades(&mut self, service: &str, texts: &[String]) -> Vec<String> {
        let key = format!("services.{service}.upgrades");
        for text in texts {
            let h2c = text.eq_ignore_ascii_case("h2c");
            // Perhaps with a version: `name/1.0`.
            let token = text.split('/').all(is_token);
            if h2c || !token {
                let why = match h2c {
                    true => "`h2c` is never upgraded to: clients begin with HTTP/2, or use TLS"
                        .to_owned(),
                    false => format!("`{}` is not the name of a protocol", text.escape_debug()),
                };
                let list = self.values.span(&key);
                let span = list.map(|list| self.problems.within(list, &quoted(text)));
                self.problems.error("value", span, why, None);
            }
        }
        texts.iter().map(|text| text.to_ascii_lowercase()).collect()
    }

    fn fields(&mut self, service: &str, of: &str) -> FieldEdits {
        let at = |what: &str| format!("services.{service}.headers.{of}_{what}");
        let (set, remove) = (at("set"), at("remove"));
        let mut edits = FieldEdits::default();
        if let Some(Value::Pairs(pairs)) = self.maybe(&set) {
            edits.set.clone_from(pairs);
        }
        if let Some(Value::Texts(names)) = self.maybe(&remove) {
            edits.remove.clone_from(names);
        }
        for (name, value) in &mut edits.set {
            self.name(&set, name);
            if value.bytes().any(head::is_control) {
                let message = format!("the value of `{name}` has a control character");
                self.problems
                    .error("value", self.values.span(&set), message, None);
            }
        }
        for name in &mut edits.remove {
            self.name(&remove, name);
        }
        edits
    }

    /// A field's name, made lower case.
    fn name(&mut self, key: &str, name: &mut String) {
        let shown = name.escape_debug().to_string();
        name.make_ascii_lowercase();
        let message = if !is_token(name) {
            format!("`{shown}` cannot be the name of a field")
        } else if rules::is_ours(name.as_bytes()) {
            format!("`{shown}` is remuda's own to write")
        } else {
            return;
        };
        self.problems
            .error("value", self.values.span(key), message, None);
    }

    /// What clients read by status; all of it is read now.
    pub(super) fn pages(&mut self, service: &str) -> Vec<Page> {
        let key = format!("services.{service}.error_pages");
        let Some(Value::Files(files)) = self.maybe(&key) else {
            return Vec::new();
        };
        let (mut pages, mut sum, mut wrong) = (Vec::new(), 0, Vec::new());
        for (status, file) in files {
            match page(status, file) {
                Ok(page) => {
                    sum += page.text.len();
                    pages.push(page);
                }
                Err(message) => wrong.push(message),
            }
        }
        if sum > MAX_PAGES {
            wrong.push("the pages together are larger than 128 KiB".to_owned());
        }
        for message in wrong {
            self.problems
                .error("page", self.values.span(&key), message, None);
        }
        pages
    }
}

fn page(status: &str, file: &Path) -> Result<Page, String> {
    let Ok(number @ 400..=599) = status.parse() else {
        let shown = status.escape_debug();
        return Err(format!("`{shown}` is no status of an error"));
    };
    let shown = file.display();
    let text = read_text(file).map_err(|why| format!("cannot read `{shown}`: {why}"))?;
    if text.len() > MAX_PAGE {
        return Err(format!("`{shown}` is larger than 32 KiB"));
    }
    let ending = file.extension().and_then(|ending| ending.to_str());
    let kind = match ending {
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("json") => "application/json",
        _ => "text/plain; charset=utf-8",
    };
    Ok(Page {
        status: number,
        kind: kind.to_owned(),
        text,
    })
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(head::is_token)
}
