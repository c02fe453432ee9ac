//! The public listeners that stand, by a config that may name others: those that it names are met as it says,
//! those that it leaves out go on as before until a restart.

use crate::config::{Config, TlsFiles, listener_names};
use crate::link::message::{Entrance, PublicListener};

/// What is to be in use at the standing listeners, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) entrances: Vec<Entrance>,
    /// Certificates of those that the config names.
    pub(super) tls: Vec<Option<TlsFiles>>,
    /// Places of those that it leaves out.
    pub(super) left_out: Vec<u32>,
    /// What is changed about which, in sentences.
    pub(super) told: Vec<String>,
}

impl Standing {
    /// By what `old` has in use and `new` says.
    pub(super) fn of(old: &Config, new: &Config) -> Self {
        let mut standing = Self::default();
        // One address may be there twice, as that of port 0.
        let mut named: Vec<usize> = (0..new.listen.len()).collect();
        for (place, listener) in (0..).zip(&old.listen) {
            let at = place as usize;
            let (met, files) = (old.front.entrances.get(at), old.tls.get(at));
            let found = named.iter().position(|by| new.listen[*by] == *listener);
            let Some(by) = found.map(|found| named.remove(found)) else {
                standing.left_out.push(place);
                standing.entrances.extend(met.copied());
                standing.tls.push(None);
                continue;
            };
            let (now, now_files) = (new.front.entrances.get(by), new.tls.get(by));
            let keys = differences((met, files), (now, now_files));
            if !keys.is_empty() {
                let name = listener_names(std::slice::from_ref(listener)).concat();
                let keys = keys.join("`, `");
                standing
                    .told
                    .push(format!("listener {name}: `{keys}` changed (live)"));
            }
            standing.entrances.extend(now.copied());
            standing.tls.push(now_files.cloned().flatten());
        }
        standing
    }
}

type Met<'a> = (Option<&'a Entrance>, Option<&'a Option<TlsFiles>>);

fn differences((was, had): Met<'_>, (is, has): Met<'_>) -> Vec<&'static str> {
    let of = |one: Option<&Entrance>| one.copied().unwrap_or_default();
    let (was, is) = (of(was), of(is));
    [
        ("proxy_protocol", was.proxy_protocol != is.proxy_protocol),
        ("http2", was.http2 != is.http2),
        ("redirect_https", was.redirect != is.redirect),
        ("tls", was.tls != is.tls || had != has),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
}

/// Which listeners wait for a restart to come, and which to go; `None` if the same ones are named.
pub(super) fn others(old: &[PublicListener], new: &[PublicListener]) -> Option<String> {
    let only_in = |one: &[PublicListener], other: &[PublicListener], word: &str| {
        let mut rest = listener_names(one);
        for name in listener_names(other) {
            if let Some(at) = rest.iter().position(|of| *of == name) {
                rest.remove(at);
            }
        }
        let verb = if rest.len() == 1 { "is" } else { "are" };
        (!rest.is_empty()).then(|| format!("{} {verb} {word}", rest.join(", ")))
    };
    let parts = [only_in(new, old, "new"), only_in(old, new, "gone")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, RunFlags, load};

    #[test]
    fn f14_listeners_that_stand_are_met_as_a_config_says_that_names_others_too() {
        let directory = tempfile::tempdir().expect("tempdir");
        let flags = RunFlags {
            config: Some(directory.path().join("remuda.toml")),
            ..RunFlags::default()
        };
        let config = |text: &str| {
            let text = format!("{text}[services.a]\ncommand = [\"x\"]\n");
            std::fs::write(directory.path().join("remuda.toml"), text).expect("written");
            let read = load(&flags, &Env::new());
            read.unwrap_or_else(|problems| panic!("{problems}")).config
        };
        let one =
            |port: u16, more: &str| format!("[[listen]]\naddress = \"127.0.0.1:{port}\"\n{more}\n");
        let old = config(&(one(1, "") + &one(2, "http2 = false")));
        let new = config(&(one(3, "") + &one(1, "redirect_https = 443")));
        let standing = Standing::of(&old, &new);
        assert_eq!(standing.entrances[0].redirect, Some(443));
        assert!(!standing.entrances[1].http2, "it is left out, and stays");
        assert_eq!(standing.left_out, [1]);
        let told = "listener 127.0.0.1:1: `redirect_https` changed (live)";
        assert_eq!(standing.told, [told]);
        let waits = others(&old.listen, &new.listen);
        let said = "127.0.0.1:3 is new; 127.0.0.1:2 is gone";
        assert_eq!(waits.as_deref(), Some(said));
        // In another order they are the same.
        let turned = config(&(one(2, "http2 = false") + &one(1, "")));
        let standing = Standing::of(&old, &turned);
        assert_eq!(standing.entrances, old.front.entrances);
        assert!(standing.told.is_empty() && others(&old.listen, &turned.listen).is_none());
    }
}
