//! From a TOML value to what its key holds: variables filled in, relative paths based.

use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::file::Reader;
use super::keys::{Key, LATER_STRATEGIES};
use super::value::{self, Kind, Value, Wrong};
use super::{Listen, LogTarget};
use crate::link::message::PublicListener;

/// What is wrong with a value: each mistake, and the place of the part that has it; `None` is all of it.
pub(super) type Mistakes = Vec<(Option<Range<usize>>, Wrong)>;

impl Reader<'_> {
    /// Reads a value as its key wants it; of a list or a table, every mistake is found.
    pub(super) fn convert(&self, key: &Key, value: &DeValue<'_>) -> Result<Value, Mistakes> {
        match (key.kind, value) {
            (Kind::Texts, DeValue::Array(array)) => {
                let texts = self.texts(array, key, |text| Ok(text.to_owned()))?;
                Ok(Value::Texts(texts))
            }
            (Kind::Upstreams, DeValue::Array(array)) => self
                .texts(array, key, value::upstream)
                .map(Value::Upstreams),
            (Kind::Peers, DeValue::Array(array)) if array.is_empty() => {
                Ok(Value::Peers(Vec::new()))
            }
            (Kind::Peers, DeValue::Array(array)) => {
                self.texts(array, key, value::peers).map(Value::Peers)
            }
            (Kind::Hosts, DeValue::Array(array)) => {
                self.texts(array, key, value::host).map(Value::Hosts)
            }
            (Kind::Paths, DeValue::Array(array)) => self
                .texts(array, key, value::path)
                .map(|paths| self.based(&paths)),
            (Kind::Pairs, DeValue::Table(table)) => self.pairs(table).map(Value::Pairs),
            (Kind::Files, DeValue::Table(table)) => {
                let pairs = self.pairs(table)?.into_iter();
                let based = pairs.map(|(name, path)| (name, self.base.join(path)));
                Ok(Value::Files(based.collect()))
            }
            _ => self.single(key, value).map_err(|wrong| vec![(None, wrong)]),
        }
    }

    fn single(&self, key: &Key, value: &DeValue<'_>) -> Result<Value, Wrong> {
        let expected =
            |found: &str| Wrong::new(format!("expected {}, found {found}", key.kind.noun()));
        match (key.kind, value) {
            (Kind::Bool, DeValue::Boolean(yes)) => Ok(Value::Bool(*yes)),
            (Kind::Texts, DeValue::String(text)) if key.name != "command" => {
                let wrong = Wrong::new("expected a list of texts, found a text".to_owned());
                Err(wrong.help(format!("write [{}]", value::quoted(text))))
            }
            (Kind::Texts, DeValue::String(text)) => {
                let words = text
                    .split_whitespace()
                    .map(value::quoted)
                    .collect::<Vec<_>>();
                Err(expected("a text")
                    .help(format!("there is no shell; write [{}]", words.join(", "))))
            }
            (Kind::Upstreams | Kind::Peers | Kind::Hosts, DeValue::String(text)) => {
                Err(expected("a text").help(format!("write [{}]", value::quoted(text))))
            }
            (Kind::Word(_), DeValue::String(text))
                if key.name == "strategy" && LATER_STRATEGIES.contains(&text.as_ref()) =>
            {
                Err(
                    Wrong::new(format!("strategy `{text}` is not in this version yet"))
                        .help("write \"rolling\", or leave the key out"),
                )
            }
            (kind, DeValue::String(text)) => {
                let text = self.expand(text)?;
                match kind.text(&text)? {
                    Value::Path(path) => Ok(Value::Path(self.base.join(path))),
                    Value::Paths(paths) => Ok(self.based(&paths)),
                    Value::LogTarget(LogTarget::File(path)) => {
                        Ok(Value::LogTarget(LogTarget::File(self.base.join(path))))
                    }
                    Value::Listeners(list) => Ok(Value::Listeners(
                        list.into_iter().map(|one| self.rooted(one)).collect(),
                    )),
                    other => Ok(other),
                }
            }
            (kind, DeValue::Integer(number)) => {
                let text = number.as_str().replace('_', "");
                match u64::from_str_radix(&text, number.radix()) {
                    Ok(number) => kind.number(number),
                    Err(_) => Err(kind.out_of_range(&number.to_string())),
                }
            }
            (_, DeValue::Float(_)) => Err(expected("a number with a fraction")),
            (_, DeValue::Boolean(yes)) => Err(expected(&format!("`{yes}`"))),
            (_, DeValue::Datetime(_)) => Err(expected("a date")),
            (_, DeValue::Array(_)) => Err(expected("a list")),
            (_, DeValue::Table(_)) => Err(expected("a table")),
        }
    }

    fn based(&self, paths: &[PathBuf]) -> Value {
        Value::Paths(paths.iter().map(|path| self.base.join(path)).collect())
    }

    fn rooted(&self, listen: Listen) -> Listen {
        let address = match listen.address {
            PublicListener::Unix(path) => PublicListener::Unix(self.base.join(path)),
            PublicListener::Tcp(address) => PublicListener::Tcp(address),
        };
        Listen { address, ..listen }
    }

    fn texts<T>(
        &self,
        array: &DeArray<'_>,
        key: &Key,
        read: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Result<Vec<T>, Mistakes> {
        if array.is_empty() {
            let wrong = format!("the list is empty; expected {}", key.kind.noun());
            return Err(vec![(None, Wrong::new(wrong))]);
        }
        let one = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
            DeValue::String(text) if text.contains('\0') => {
                Err(Wrong::new("a NUL character is not allowed"))
            }
            DeValue::String(text) => read(&self.expand(text)?),
            _ => Err(Wrong::new("every item of the list is a text in quotes")),
        };
        all(array.iter().map(|item| (item.span(), one(item))))
    }

    fn pairs(&self, table: &DeTable<'_>) -> Result<Vec<(String, String)>, Mistakes> {
        all(table.iter().map(|(name, value)| {
            let place = name.span().start..value.span().end;
            (place, self.pair(name.get_ref(), value.get_ref()))
        }))
    }

    fn pair(&self, name: &str, value: &DeValue<'_>) -> Result<(String, String), Wrong> {
        let shown = name.escape_debug();
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Wrong::new(format!("`{shown}` cannot be a variable's name")));
        }
        match value {
            DeValue::String(text) if text.contains('\0') => Err(Wrong::new(format!(
                "`{shown}`: a NUL character is not allowed"
            ))),
            DeValue::String(text) => Ok((name.to_owned(), self.expand(text)?)),
            _ => Err(Wrong::new(format!("`{shown}` must be a text"))
                .help("write the value in quotes, such as { WORKERS = \"4\" }")),
        }
    }

    /// Fills in `${NAME}` and `${NAME:-default}`; `$${` is a plain `${`.
    fn expand(&self, text: &str) -> Result<String, Wrong> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, after) = (&rest[..at], &rest[at + 2..]);
            if let Some(literal) = before.strip_suffix('$') {
                out.push_str(literal);
                out.push_str("${");
                rest = after;
                continue;
            }
            out.push_str(before);
            let Some((inner, tail)) = after.split_once('}') else {
                return Err(Wrong::new("`${` without its `}`").help("write `$${` for a plain `${`"));
            };
            let (name, default) = match inner.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inner, None),
            };
            let set = self
                .env
                .get(name)
                .filter(|value| !value.is_empty() || default.is_none());
            match set.map(String::as_str).or(default) {
                Some(value) => out.push_str(value),
                None => {
                    let name = name.escape_debug();
                    return Err(Wrong::new(format!("the variable `{name}` is not set"))
                        .help(format!("set it, or write `${{{name}:-default}}`")));
                }
            }
            rest = tail;
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// What was read if nothing is wrong; else everything that is.
fn all<T>(
    items: impl Iterator<Item = (Range<usize>, Result<T, Wrong>)>,
) -> Result<Vec<T>, Mistakes> {
    let (mut read, mut mistakes) = (Vec::new(), Mistakes::new());
    for (place, item) in items {
        match item {
            Ok(item) => read.push(item),
            Err(wrong) => mistakes.push((Some(place), wrong)),
        }
    }
    match mistakes.is_empty() {
        true => Ok(read),
        false => Err(mistakes),
    }
}
