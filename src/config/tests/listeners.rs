//! Listeners: their certificates, and what else is said of each.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair};

use super::{APP, Config, Draft, Env, Loaded, RunFlags, load};

/// A directory with three certificates and their keys.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a temporary directory"));
        for name in ["one", "two", "roots"] {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(vec![format!("{name}.test")]);
            let certificate = params.expect("parameters").self_signed(&key);
            let certificate = certificate.expect("a certificate").pem();
            place.put(&format!("{name}.pem"), &certificate);
            place.put(&format!("{name}.key"), &key.serialize_pem());
            let both = key.serialize_pem() + &certificate;
            place.put(&format!("{name}-both.pem"), &both);
        }
        place.put("empty.pem", "");
        place.put(
            "text.pem",
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
        );
        place
    }

    /// A certificate of its own that ends with the first day of this year.
    fn expiring(&self, name: &str, year: i32) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![format!("{name}.test")]);
        let mut params = params.expect("parameters");
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.self_signed(&key).expect("a certificate");
        self.put(&format!("{name}.pem"), &certificate.pem());
        self.put(&format!("{name}.key"), &key.serialize_pem());
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).expect("it is ours");
    }

    fn allow(&self, name: &str, mode: u32) {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.path().join(name), mode).expect("it is ours");
    }

    fn read(&self, text: &str) -> Result<Loaded, String> {
        self.draft(text)
            .settled()
            .map_err(|problems| problems.render(false, None))
    }

    fn draft(&self, text: &str) -> Draft {
        let env = Env::from([("RUNTIME_DIRECTORY".to_owned(), "/run/r".to_owned())]);
        let file = self.path().join("remuda.toml");
        Draft::of(Some(&file), text, &RunFlags::default(), &env)
    }

    /// What a check says of it beside mistakes, of which it has none.
    fn warnings(&self, text: &str) -> String {
        let mut draft = self.draft(text);
        draft.look_at_host(&Env::new());
        let loaded = draft.settled().expect("valid");
        loaded.warnings.render(false, None)
    }

    fn with(&self, tls: &str) -> Result<Config, String> {
        let text = format!("[[listen]]\naddress = \"127.0.0.1:8443\"\ntls = {{ {tls} }}\n{APP}");
        self.read(&text).map(|loaded| loaded.config)
    }

    /// The only mistake, which says this.
    fn wrong(&self, tls: &str, what: &str) {
        let said = self.with(tls).expect_err(tls);
        assert!(said.contains(what), "{tls}: {what:?} not in\n{said}");
        assert_eq!(said.matches("error[").count(), 1, "{said}");
    }
}

#[test]
fn certificates_are_read_beside_the_config_whatever_the_form() {
    let place = Place::new();
    let files = |tls: &str| {
        let config = place.with(tls).expect(tls);
        assert!(config.front.entrances[0].tls);
        config.tls[0].clone().expect("TLS")
    };
    let at = |name: &str| place.path().join(name);
    let one = files("cert = \"one.pem\", key = \"one.key\"");
    assert_eq!(one.pairs, [(at("one.pem"), at("one.key"))]);
    let both = files("cert = \"two-both.pem\"");
    assert_eq!(both.pairs, [(at("two-both.pem"), at("two-both.pem"))]);
    let list = "cert = [\"one.pem\", \"two.pem\"], key = [\"one.key\", \"two.key\"]";
    assert_eq!(files(list).pairs.len(), 2);
    let absolute = format!("cert = {:?}", at("one-both.pem").display().to_string());
    assert_eq!(files(&absolute).pairs[0].0, at("one-both.pem"));
    let asks = "cert = \"one-both.pem\", client_ca = \"roots.pem\"";
    let required = files(asks);
    assert_eq!(required.client_ca, Some(at("roots.pem")));
    assert!(required.client_required);
    let optional = files(&format!("{asks}, client_cert = \"optional\""));
    assert!(!optional.client_required);
}

#[test]
fn t23_what_is_wrong_with_certificates_is_said_before_anybody_sees_them() {
    let place = Place::new();
    place.wrong("", "`tls` without `cert`");
    place.wrong("key = \"one.key\"", "`tls` without `cert`");
    place.wrong(
        "cert = \"one.pem\", key = \"two.key\"",
        "two.key: the key is not",
    );
    place.wrong("cert = \"one.pem\"", "one.pem: there is no private key");
    place.wrong(
        "cert = \"one.key\", key = \"one.key\"",
        "there is no certificate",
    );
    place.wrong("cert = \"empty.pem\"", "empty.pem: there is no certificate");
    place.wrong("cert = \"text.pem\"", "text.pem: it is no PEM file");
    place.wrong("cert = \"none.pem\"", "none.pem");
    place.wrong("cert = \".\"", "");
    place.wrong(
        "cert = [\"one.pem\", \"two.pem\"], key = \"one.key\"",
        "differ in length",
    );
    let crossed = "cert = [\"one.pem\", \"two.pem\"], key = [\"two.key\", \"one.key\"]";
    let said = place.with(crossed).expect_err(crossed);
    assert_eq!(said.matches("the key is not").count(), 2, "{said}");
    place.wrong(
        "cert = \"one-both.pem\", client_cert = \"required\"",
        "`client_cert` without `client_ca`",
    );
    place.wrong("cert = \"one-both.pem\", client_cert = \"maybe\"", "maybe");
    place.wrong(
        "cert = \"one-both.pem\", client_ca = \"empty.pem\"",
        "empty.pem",
    );
    place.wrong("cert = \"one-both.pem\", chain = \"x\"", "chain");
    for mode in [0o620, 0o602, 0o666] {
        place.allow("one.key", mode);
        place.wrong(
            "cert = \"one.pem\", key = \"one.key\"",
            "one.key: the key can be changed by other users",
        );
    }
    place.put("large.pem", &"x".repeat((1 << 20) + 1));
    place.wrong("cert = \"large.pem\"", "larger than 1 MiB");
}

#[test]
fn t21_a_key_that_everybody_can_read_is_a_warning_of_a_check() {
    let place = Place::new();
    let listen = "tls = { cert = \"one.pem\", key = \"one.key\" }\n";
    let text = format!("[[listen]]\naddress = \"127.0.0.1:8443\"\n{listen}{APP}");
    for (mode, warns) in [(0o644, true), (0o640, false), (0o600, false)] {
        place.allow("one.key", mode);
        let said = place.warnings(&text);
        let says = said.contains("one.key: the key can be read by every user");
        assert_eq!(says, warns, "{mode:o}: {said}");
    }
}

#[test]
fn t23_a_certificate_that_clients_refuse_is_a_warning_of_a_check() {
    let place = Place::new();
    let listen = "tls = { cert = \"old.pem\", key = \"old.key\" }\n";
    let text = format!("[[listen]]\naddress = \"127.0.0.1:8443\"\n{listen}{APP}");
    for (end, warns) in [(2020, true), (4096, false)] {
        place.expiring("old", end);
        let said = place.warnings(&text);
        let says = said.contains("old.pem: the certificate: it expired on 2020-01-01");
        assert_eq!(says, warns, "{end}: {said}");
    }
}

#[test]
fn t23_a_certificate_is_read_once_and_what_was_read_is_judged() {
    let place = Place::new();
    place.expiring("old", 2020);
    let listen = "tls = { cert = \"old.pem\", key = \"old.key\" }\n";
    let text = format!("[[listen]]\naddress = \"127.0.0.1:8443\"\n{listen}{APP}");
    let mut draft = place.draft(&text);
    std::fs::remove_file(place.path().join("old.pem")).expect("it is ours");
    draft.look_at_host(&Env::new());
    let loaded = draft.settled().expect("it can be shown");
    let said = loaded.warnings.render(false, None);
    assert!(said.contains("it expired on 2020-01-01"), "{said}");
    assert!(said.contains("remuda.toml:3:"), "{said}");
}

#[test]
fn t23_every_listed_certificate_that_cannot_be_shown_is_said() {
    let place = Place::new();
    place.expiring("old", 2020);
    let cert = "[\"old.pem\", \"none.pem\", \"one.pem\", \"text.pem\"]";
    let key = "[\"old.key\", \"none.key\", \"two.key\", \"one.key\"]";
    let tls = format!("cert = {cert}, key = {key}, client_ca = \"empty.pem\"");
    let said = place.with(&tls).expect_err("refused");
    for what in [
        "none.pem: there is no such file",
        "two.key: the key is not",
        "text.pem: it is no PEM file",
        "empty.pem: there is no certificate",
    ] {
        assert!(said.contains(what), "{what:?} not in\n{said}");
    }
    assert_eq!(said.matches("error[").count(), 4, "{said}");
}

#[test]
fn a_list_of_no_listeners_is_no_wish_for_the_default() {
    let place = Place::new();
    let said = place.read(&format!("listen = []\n{APP}"));
    let said = said.expect_err("refused");
    assert!(said.contains("`listen` is empty"), "{said}");
}

#[test]
fn what_is_wrong_with_certificates_is_said_where_their_file_is_named() {
    let place = Place::new();
    let line = |tls: &str| {
        let text = format!("[[listen]]\naddress = \"127.0.0.1:8443\"\n[listen.tls]\n{tls}\n{APP}");
        let said = place.read(&text).expect_err(tls);
        let (_, place) = said.split_once("remuda.toml:").expect("a place");
        let (line, _) = place.split_once(':').expect("a line");
        line.parse::<usize>().expect("a number")
    };
    assert_eq!(line("cert = \"none.pem\"\nkey = \"one.key\""), 4);
    assert_eq!(line("cert = \"one.pem\"\nkey = \"none.key\""), 5);
    assert_eq!(line("cert = \"one.pem\"\nkey = \"two.key\""), 5);
    assert_eq!(line("http = 1\ncert = \"one.pem\""), 4);
    assert_eq!(
        line("cert = \"one-both.pem\"\nclient_ca = \"empty.pem\""),
        5
    );
    assert_eq!(
        line("cert = \"one-both.pem\"\nclient_cert = \"required\""),
        5
    );
    // One that is of no use is not said to be missing, too.
    place.wrong("cert = 3, key = \"one.key\"", "`cert`: expected a path");
}

#[test]
fn a_redirect_is_for_listeners_without_tls() {
    let place = Place::new();
    let listen = "[[listen]]\naddress = \"127.0.0.1:8443\"\n";
    let tls = "tls = { cert = \"one-both.pem\" }\n";
    let text = format!("{listen}{tls}redirect_https = 443\n{APP}");
    let said = place.read(&text).expect_err("a circle");
    assert!(
        said.contains("`redirect_https` of a listener that has `tls`"),
        "{said}"
    );
    // What one listener says is not the next one's, whichever comes first.
    let plain = "[[listen]]\naddress = \"127.0.0.1:8080\"\nredirect_https = 8443\nhttp2 = false\n";
    for text in [
        format!("{listen}{tls}{plain}{APP}"),
        format!("{plain}{listen}{tls}{APP}"),
    ] {
        let config = place.read(&text).expect("good").config;
        for (entrance, files) in config.front.entrances.iter().zip(&config.tls) {
            assert_eq!(entrance.tls, files.is_some());
            assert_eq!(entrance.http2, entrance.tls);
            assert_eq!(entrance.redirect, (!entrance.tls).then_some(8443));
        }
    }
}

#[test]
fn t23_a_flag_never_takes_tls_away_without_a_word() {
    let place = Place::new();
    let by_flag = |text: &str| {
        place.put("remuda.toml", text);
        let flags = RunFlags {
            config: Some(place.path().join("remuda.toml")),
            listen: vec!["127.0.0.1:9".to_owned()],
            ..RunFlags::default()
        };
        let env = Env::from([("RUNTIME_DIRECTORY".to_owned(), "/run/r".to_owned())]);
        load(&flags, &env).map_err(|problems| problems.render(false, None))
    };
    let listen = "[[listen]]\naddress = \"127.0.0.1:8443\"\n";
    for (key, text) in [
        ("tls", "tls = { cert = \"one-both.pem\" }"),
        ("proxy_protocol", "proxy_protocol = true"),
        ("redirect_https", "redirect_https = 443"),
        ("http2", "http2 = false"),
    ] {
        for others in ["", listen] {
            let said = by_flag(&format!("{others}{listen}{text}\n{APP}"));
            let said = said.expect_err(key);
            assert!(
                said.contains(&format!("whose `{key}` would be lost")),
                "{said}"
            );
            assert!(said.contains("leave out `--listen`"), "{said}");
            assert_eq!(said.matches("error[").count(), 1, "{said}");
        }
    }
    let config = by_flag(&format!("{listen}{APP}"))
        .expect("nothing is lost")
        .config;
    assert_eq!(config.listen.len(), 1);
}

#[test]
fn what_is_resolved_of_listeners_reads_again() {
    let place = Place::new();
    let text = format!(
        "[[listen]]\naddress = \"127.0.0.1:8443\"\n\
         tls = {{ cert = [\"one.pem\", \"two.pem\"], key = [\"one.key\", \"two.key\"], \
         client_ca = \"roots.pem\", client_cert = \"optional\" }}\n\
         [[listen]]\naddress = \"127.0.0.1:8080\"\nredirect_https = 8443\nhttp2 = false\n{APP}"
    );
    let first = place.read(&text).expect("good");
    let again = place
        .read(&first.resolved())
        .expect("what is resolved reads again");
    assert_eq!(first.config.tls, again.config.tls);
    assert_eq!(first.config.front, again.config.front);
    assert_eq!(first.config.listen, again.config.listen);
}
