//! What is said of mistakes, and where.

use super::*;

#[test]
fn every_mistake_is_reported_at_once_with_its_place() {
    let text = "stop_timeout = 30\n\
                [services.shop]\n\
                comand = [\"x\"]\n\
                command = [\"x\"]\n\
                workers = 0\n\
                [services.shop.rollout]\n\
                max_surge = 0\n\
                soak = \"5\"\n\
                [services.shop.drian]\n\
                request = \"30s\"\n";
    let all = wrong(text);
    let lines: Vec<_> = all.iter().map(|one| one.0.unwrap()).collect();
    assert_eq!(lines, [1, 3, 5, 7, 8, 9], "{all:?}");
    assert!(all[0].2.contains("\"30s\""));
    assert!(all[1].2.contains("`command`"));
    assert!(all[3].1.contains("both 0"));
    assert!(all[4].2.contains("\"5s\""));
    assert!(all[5].2.contains("`drain`"));
}

#[test]
fn a_problem_shows_file_line_carets_and_help() {
    let problems = read("[services.app]\ncommand = [\"x\"]\nworkrs = 3\n").unwrap_err();
    let shown = problems.render(false, None);
    for part in [
        "dir/remuda.toml:3:1",
        "workrs = 3",
        "^^^^^^",
        "did you mean `workers`?",
    ] {
        assert!(shown.contains(part), "{part:?} not in\n{shown}");
    }
    let report = &problems.reports()[0];
    assert_eq!(
        (
            report.line,
            report.column,
            report.end_line,
            report.end_column
        ),
        (Some(3), Some(1), Some(3), Some(7))
    );
    assert!(!shown.contains('\u{1b}'));
}

#[test]
fn keys_that_come_later_are_refused_with_that_sentence() {
    for strategy in ["canary", "blue-green", "recreate"] {
        let text = format!("{APP}[services.app.rollout]\nstrategy = \"{strategy}\"\n");
        only(
            &text,
            &format!("strategy `{strategy}` is not in this version yet"),
            "rolling",
        );
    }
}

#[test]
fn a_syntax_error_is_shown_once_beside_other_mistakes() {
    let all = wrong("[services.app]\ncommand = [\"x\"]\nworkers = = 3\nwrong = 1\n");
    assert!(all.iter().any(|one| one.0 == Some(3)), "{all:?}");
    assert!(
        all.iter().any(|one| one.1.contains("unknown key `wrong`")),
        "{all:?}"
    );
}

#[test]
fn hostile_texts_never_panic() {
    let texts = [
        "\u{0}",
        "=",
        "[",
        "[[",
        "[services.\"\u{1b}[31m\"]",
        "[services]\na = 1",
        "services = 1",
        "listen = 1",
        "[[listen]]",
        "[[listen]]\naddress = \"\u{1F600}\"",
        "listen = [1]",
        "[admin]\naddress = []",
        "[services.app]\ncommand = \"a b\"",
        "[services.app]\nenv = { a = 1 }",
        "a.b.c.d = \"${\"",
        "[services.app]\nworkers = 99999999999999999999999",
        "[services.app]\nworkers = -1",
        "ä = \"ö\n",
    ];
    for text in texts {
        let problems = read(text).unwrap_err();
        assert!(problems.errors() > 0, "{text:?}");
        assert!(!problems.render(false, None).contains('\u{1b}'), "{text:?}");
        assert_eq!(problems.reports().len(), problems.list().len());
    }
}

#[test]
fn what_looks_like_a_placeholder_is_told_with_its_place() {
    let text = "[services.app]\ncommand = [\n  \"x\",\n  \"--bind={address}\",\n  \"{port}\",\n]\n\
                [services.app.env]\nJSON = '{\"a\": 1}'\nNAME = \"$${USER}-{index}\"\n";
    let reports = read(text).unwrap().warnings.reports();
    let places: Vec<_> = reports.iter().map(|one| (one.line, one.column)).collect();
    assert_eq!(
        places,
        [(Some(4), Some(11)), (Some(9), Some(18))],
        "{reports:?}"
    );
    assert!(reports[0].message.starts_with("`command`: `{address}`"));
    assert!(reports[1].message.starts_with("`env`: `{index}`"));
    assert!(reports[0].help.as_ref().unwrap().contains("`{release}`"));
}

#[test]
fn a_misspelt_key_is_not_missing_too() {
    only(
        "[services.app]\ncomand = [\"x\"]\n",
        "unknown key `comand`",
        "`command`",
    );
}

#[test]
fn a_mistake_is_said_once_at_its_own_place_and_in_its_own_words() {
    let twice = "[[listen]]\naddress = \"127.0.0.1:8080\"\n".repeat(2);
    let all = wrong(&format!("{twice}{APP}"));
    assert_eq!(all.len(), 1);
    assert_eq!(
        (all[0].0, &*all[0].1),
        (
            Some(4),
            "two listeners have the same address `127.0.0.1:8080`"
        )
    );
    for (text, message) in [
        (
            "[services]\n\"A b\" = { command = [\"x\"] }\n",
            "cannot be the name",
        ),
        ("services = 3\n", "`services` is a table of services"),
        ("[services]\napp = 3\n", "`app` is a table"),
    ] {
        only(text, message, "");
    }
    for (line, message, help) in [
        (
            "env = { A = \"\\u0000\" }",
            "`A`: a NUL character is not allowed",
            "",
        ),
        ("workers = -1", "-1 is out of range: 1 to 4096", ""),
        (
            "judge.min_requests = -3",
            "-3 is out of range: 1 to 1000000",
            "",
        ),
        (
            "rollout.max_surge = -1",
            "-1 is out of range: 0 to 4096",
            "",
        ),
        (
            "slow_start = -1",
            "expected a time with its unit, such as \"30s\", found -1",
            "",
        ),
        (
            "rollout.max_surge = \"25\"",
            "`25` is not a percentage",
            "write 25 without quotes",
        ),
        (
            "rollout.max_surge = \"x\"",
            "`x` is not a percentage",
            "\"25%\"",
        ),
    ] {
        only(&format!("{APP}{line}\n"), message, help);
    }
    let long = "x".repeat(129);
    only(
        &format!("{APP}release = \"{long}\"\n"),
        "at most 128 characters, not 129",
        "",
    );
    config(&format!("{APP}release = \"{}\"\n", &long[1..]));
}
