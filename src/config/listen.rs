//! `[[listen]]`, the one table that may stand there more than once.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::file::{Found, Reader, Source};
use super::keys::{self, Section};
use super::value::Value;
use super::{Listen, Places, TlsFiles};
use crate::link::message::Entrance;

impl Reader<'_> {
    pub(super) fn listeners(&mut self, value: &Spanned<DeValue<'_>>) {
        let (Some(section), DeValue::Array(array)) = (keys::section("listen"), value.get_ref())
        else {
            let help = "write it with two brackets: `[[listen]]`".to_owned();
            self.problems.error(
                "type",
                Some(value.span()),
                "`listen` is a list of tables",
                Some(help),
            );
            return;
        };
        let mut all = Vec::new();
        for one in array {
            let DeValue::Table(table) = one.get_ref() else {
                let help =
                    "write `[[listen]]` and below it `address = \"0.0.0.0:8080\"`".to_owned();
                self.problems.error(
                    "type",
                    Some(one.span()),
                    "`listen` is a list of tables",
                    Some(help),
                );
                continue;
            };
            if !table.iter().any(|(name, _)| name.get_ref() == "address") {
                let help = "add `address = \"0.0.0.0:8080\"`".to_owned();
                self.problems.error(
                    "missing",
                    Some(one.span()),
                    "this listener has no `address`",
                    Some(help),
                );
            }
            all.extend(self.listener(section, table, one.span()));
        }
        if array.is_empty() {
            let help = "leave it out for the default, or name an address below `[[listen]]`";
            self.problems.error(
                "missing",
                Some(value.span()),
                "`listen` is empty, so that nobody could be served",
                Some(help.to_owned()),
            );
        }
        if !all.is_empty() {
            self.values.put(
                "listen.address".to_owned(),
                Value::Listeners(all),
                Source::File(value.span()),
            );
        }
    }

    fn listener(
        &mut self,
        section: &'static Section,
        table: &DeTable<'_>,
        span: Range<usize>,
    ) -> Vec<Listen> {
        // What the listener before said is not this one's.
        self.values
            .found
            .retain(|path, _| !path.starts_with("listen."));
        self.values
            .refused
            .retain(|path| !path.starts_with("listen."));
        self.section(section, "listen", table);
        let said = |key: &str| Some(&self.values.found.get(&format!("listen.{key}"))?.value);
        let is = |key, fallback| match said(key) {
            Some(Value::Bool(yes)) => *yes,
            _ => fallback,
        };
        let paths = |key| match said(key) {
            Some(Value::Paths(paths)) => paths.clone(),
            _ => Vec::new(),
        };
        let has_tls = table.iter().any(|(name, _)| name.get_ref() == "tls");
        let entrance = Entrance {
            proxy_protocol: is("proxy_protocol", false),
            tls: has_tls,
            http2: is("http2", true),
            redirect: match said("redirect_https") {
                Some(Value::Count(port)) => u16::try_from(*port).ok(),
                _ => None,
            },
        };
        let (certs, keys) = (paths("tls.cert"), paths("tls.key"));
        let client_ca = match said("tls.client_ca") {
            Some(Value::Path(path)) => Some(path.clone()),
            _ => None,
        };
        let client_cert = said("tls.client_cert");
        let client_required =
            *client_cert.unwrap_or(&Value::Off) != Value::Text("optional".to_owned());
        let at = |key: &str| self.values.span(&format!("listen.{key}"));
        let places = Places {
            address: at("address"),
            proxy_protocol: at("proxy_protocol"),
            cert: at("tls.cert"),
            key: at("tls.key"),
            client_ca: at("tls.client_ca"),
        };
        let tls_place = table.iter().find(|(name, _)| name.get_ref() == "tls");
        let tls_place = tls_place.map(|(name, _)| name.span());
        let refused = self.values.refused.contains("listen.tls.cert");
        let mut conflict = None;
        if has_tls && certs.is_empty() && !refused {
            conflict = Some((
                tls_place,
                "`tls` without `cert`",
                "name the file: `tls = { cert = \"cert.pem\", key = \"key.pem\" }`",
            ));
        } else if !keys.is_empty() && keys.len() != certs.len() && !refused {
            conflict = Some((
                at("tls.key"),
                "`tls.cert` and `tls.key` differ in length",
                "name one key for each certificate, in the same order",
            ));
        } else if client_cert.is_some() && client_ca.is_none() {
            conflict = Some((
                at("tls.client_cert"),
                "`client_cert` without `client_ca`",
                "name the roots that vouch for clients",
            ));
        } else if has_tls && entrance.redirect.is_some() {
            conflict = Some((
                at("redirect_https"),
                "`redirect_https` of a listener that has `tls`",
                "set it at the listener without `tls`",
            ));
        }
        if let Some((place, message, help)) = conflict {
            self.problems.error(
                "conflict",
                place.or(Some(span)),
                message,
                Some(help.to_owned()),
            );
        }
        let keys = if keys.is_empty() { certs.clone() } else { keys };
        let tls = has_tls.then(|| TlsFiles {
            pairs: certs.into_iter().zip(keys).collect(),
            client_ca,
            client_required,
        });
        match self.values.found.remove("listen.address") {
            Some(Found {
                value: Value::Listeners(addresses),
                ..
            }) => addresses
                .into_iter()
                .map(|one| Listen {
                    entrance,
                    tls: tls.clone(),
                    places: places.clone(),
                    ..one
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}
