//! Lists and tables with more than one mistake.

use super::*;

/// The places and messages of all that is wrong, in the order of the text.
fn places(text: &str) -> Vec<(Option<usize>, String)> {
    let all = wrong(text).into_iter();
    all.map(|(line, message, _)| (line, message)).collect()
}

/// Exactly these are wrong: lines, and what is said there.
fn are_wrong(text: &str, expected: &[(usize, &str)]) {
    let all = places(text);
    assert_eq!(all.len(), expected.len(), "{text}\n{all:?}");
    for ((line, message), (at, what)) in all.iter().zip(expected) {
        assert!(
            *line == Some(*at) && message.contains(what),
            "{at}: {what:?} not in {line:?}: {message:?}"
        );
    }
}

#[test]
fn every_wrong_item_of_a_list_is_said_at_its_own_place() {
    let networks = format!(
        "trusted_proxies = [\n  \"x\",\n  \"10.0.0.0/8\",\n  \"10.0.0.0/99\",\n  7,\n  \"${{UNSET}}\",\n]\n{APP}"
    );
    are_wrong(
        &networks,
        &[
            (2, "`trusted_proxies`: `x` is not a network"),
            (4, "`trusted_proxies`: `10.0.0.0/99` is not a network"),
            (5, "`trusted_proxies`: every item of the list is a text"),
            (6, "`trusted_proxies`: the variable `UNSET` is not set"),
        ],
    );
    let hosts = format!("{APP}hosts = [\n\"a:80\",\n\"fine.example\",\n\"http://b\",\n\"*\",\n]\n");
    are_wrong(&hosts, &[(4, "`a:80`"), (6, "`http://b`"), (7, "`*`")]);
    let upstream =
        "[services.app]\nupstream = [\n\"127.0.0.1\",\n\"unix:/fine\",\n\"127.0.0.1:0\",\n]\n";
    are_wrong(upstream, &[(3, "not an address"), (5, "port 0")]);
    let twice = format!("{APP}hosts = [\n\"a:80\",\n\"a:80\",\n]\n");
    are_wrong(&twice, &[(4, "`a:80`"), (5, "`a:80`")]);
}

#[test]
fn every_wrong_protocol_of_upgrades_is_said_at_its_own_place() {
    let text = format!("{APP}upgrades = [\n\"websocket\",\n\"h2c\",\n\"a b\",\n\"\",\n]\n");
    are_wrong(
        &text,
        &[
            (5, "`h2c` is never upgraded to"),
            (6, "`a b` is not the name"),
            (7, "`` is not the name"),
        ],
    );
}

#[test]
fn every_wrong_variable_of_a_table_is_said_at_its_own_place() {
    let text = format!(
        "{APP}[services.app.env]\nA = 1\nFINE = \"x\"\n\"B=C\" = \"x\"\nD = \"${{UNSET}}\"\n"
    );
    are_wrong(
        &text,
        &[
            (4, "`env`: `A` must be a text"),
            (6, "`env`: `B=C` cannot be"),
            (7, "`env`: the variable `UNSET` is not set"),
        ],
    );
}
