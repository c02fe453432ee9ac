//! Addresses and ports, and that none is given twice.

use super::*;

#[test]
fn a_listener_that_believes_nobody_expects_no_header() {
    let text = |trusted: &str| {
        format!(
            "{trusted}\n{APP}[[listen]]\naddress = \"0.0.0.0:1\"\nproxy_protocol = true\n\
             [[listen]]\naddress = \"0.0.0.0:2\"\n[[listen]]\naddress = \"unix:/run/x\"\nproxy_protocol = true\n"
        )
    };
    only(
        &text(""),
        "`proxy_protocol` without `trusted_proxies`",
        "10.0.0.0/8",
    );
    let config = config(&text("trusted_proxies = [\"10.0.0.0/8\"]"));
    let expects = config.front.entrances.iter().map(|one| one.proxy_protocol);
    assert_eq!(expects.collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn t7_peers_of_unix_listeners_are_trusted_by_name() {
    let text = |trusted: &str| format!("trusted_proxies = {trusted}\n{APP}");
    for (trusted, unix, networks) in [
        ("[\"unix\"]", true, 0),
        ("[\"10.0.0.0/8\", \"unix\", \"::1\"]", true, 2),
        ("[\"10.0.0.0/8\"]", false, 1),
        ("[]", false, 0),
    ] {
        let front = config(&text(trusted)).front;
        assert_eq!(front.trusts_unix, unix, "{trusted}");
        assert_eq!(front.trusted.len(), networks, "{trusted}");
    }
    let read = read_with(&text("[\"10.1.0.0/16\", \"unix\"]"), &RunFlags::default()).unwrap();
    let shown = read.resolved();
    assert!(
        shown.contains("trusted_proxies = [\"10.1.0.0/16\", \"unix\"]"),
        "{shown}"
    );
    only(
        &text("[\"Unix\"]"),
        "`Unix` is not a network",
        "\"unix\" for the peers",
    );
    // Nobody comes to such a listener by a unix socket.
    let file = format!(
        "{}[[listen]]\naddress = \"0.0.0.0:1\"\nproxy_protocol = true\n",
        text("[\"unix\"]")
    );
    only(&file, "nobody's header would be believed", "10.0.0.0/8");
}

#[test]
fn metrics_are_switched_off_as_the_admin_address_is() {
    let file = |address: &str| format!("[metrics]\naddress = \"{address}\"\n{APP}");
    assert_eq!(config(&file("off")).metrics, None);
    let flags = RunFlags {
        metrics: Some("off".to_owned()),
        ..RunFlags::default()
    };
    let on = file("127.0.0.1:9901");
    assert!(config(&on).metrics.is_some());
    let off = read_with(&on, &flags).unwrap();
    assert_eq!(off.config.metrics, None);
    assert!(
        off.resolved()
            .contains("[metrics]\naddress = \"off\" # flag")
    );
    only(&file("of"), "is not an address", "IP:PORT");
}

#[test]
fn a_path_too_long_for_a_socket_is_refused() {
    let long = "x".repeat(120);
    only(
        &format!("{APP}[admin]\nsocket = \"/{long}\"\n"),
        "too long for a unix socket",
        "shorter",
    );
    assert!(!wrong(&format!("runtime_dir = \"/{long}\"\n{APP}")).is_empty());
}

#[test]
fn the_admin_sides_doors_are_not_the_clients() {
    let named = "[admin]\naddress = \"127.0.0.1:8080\"\n";
    for listen in ["127.0.0.1:8080", "0.0.0.0:8080"] {
        let text = format!("[[listen]]\naddress = \"{listen}\"\n{named}{APP}");
        only(
            &text,
            "the admin address 127.0.0.1:8080 is a public",
            "another port",
        );
        assert_eq!(wrong(&text)[0].0, Some(4));
    }
    let metrics = format!("[metrics]\naddress = \"0.0.0.0:9900\"\n{APP}");
    only(&metrics, "0.0.0.0:9900 is the admin side's", "another port");
    let socket = format!("[[listen]]\naddress = \"unix:/run/r/admin.sock\"\n{APP}");
    only(
        &socket,
        "the admin socket /run/r/admin.sock is a public",
        "",
    );
    // The default one is done without, so that is no error.
    let default = read(&format!("[[listen]]\naddress = \"127.0.0.1:9900\"\n{APP}"));
    let warnings = default
        .unwrap_or_else(|problems| panic!("{problems}"))
        .warnings;
    assert!(
        warnings
            .to_string()
            .contains("the admin address 127.0.0.1:9900"),
        "{warnings}"
    );
    for fine in ["127.0.0.2:9900", "[::]:9900", "127.0.0.1:9901", "0.0.0.0:0"] {
        let text = format!("[[listen]]\naddress = \"{fine}\"\n{APP}");
        let warnings = read(&text)
            .unwrap_or_else(|problems| panic!("{problems}"))
            .warnings;
        assert!(warnings.is_empty(), "{fine}: {warnings}");
    }
}

#[test]
fn ports_are_enough_for_the_workers_and_a_rollout_of_them() {
    let with = |last: u32, lines: &str| format!("ports = \"21000-{last}\"\n{APP}{lines}\n");
    let four = "workers = 4";
    only(
        &with(21_003, four),
        "are 4, and `workers` and `max_surge` together need 5",
        "drains",
    );
    assert_eq!(config(&with(21_004, four)).ports, (21_000, 21_004));
    config(&with(21_000, "workers = 4\nconnect = \"fd\""));
    let two = format!("{four}\nhosts = [\"a\"]\n[services.b]\ncommand = [\"b\"]\nhosts = [\"b\"]");
    only(
        &with(21_006, &two),
        "are 7, and `workers` and `max_surge` together need 8",
        "",
    );
    config(&with(21_007, &two));
}

#[test]
fn a_port_at_one_address_and_at_all_of_them_is_refused() {
    let with = |one: &str, other: &str| {
        format!("[[listen]]\naddress = \"{one}\"\n[[listen]]\naddress = \"{other}\"\n{APP}")
    };
    for (one, other) in [
        ("127.0.0.1:8080", "0.0.0.0:8080"),
        ("0.0.0.0:8080", "127.0.0.1:8080"),
        ("[::1]:8080", "[::]:8080"),
    ] {
        let both = format!("`{one}` and `{other}` cannot both be listened on");
        only(&with(one, other), &both, "another port");
    }
    config(&with("127.0.0.1:8080", "127.0.0.2:8080"));
    config(&with("127.0.0.1:0", "0.0.0.0:0"));
    config(&with("0.0.0.0:8080", "[::]:8080"));
}
