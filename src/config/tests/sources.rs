//! Where values come from: files that are read or refused, flags, variables.

use super::*;

#[test]
fn variables_are_filled_in_and_missing_ones_reported() {
    let text = "[services.app]\ncommand = [\"${NAME}\", \"${NONE:-y}\", \"${EMPTY:-z}\", \"$${NAME}\", \"$HOME\"]\n";
    let config = config(text);
    assert_eq!(
        managed(&config).command,
        ["x", "y", "z", "${NAME}", "$HOME"]
    );
    only(
        "[services.app]\ncommand = [\"${NONE}\"]\n",
        "`NONE` is not set",
        "${NONE:-default}",
    );
    only(
        "[services.app]\ncommand = [\"${NONE\"]\n",
        "without its `}`",
        "$${",
    );
}

#[test]
fn a_flag_replaces_the_value_for_every_service() {
    let flags = RunFlags {
        workers: Some("5".to_owned()),
        drain_timeout: Some("7s".to_owned()),
        listen: vec!["0.0.0.0:1".to_owned(), "unix:/run/l.sock".to_owned()],
        admin: Some("off".to_owned()),
        ramp: Some("0s".to_owned()),
        ..RunFlags::default()
    };
    let text =
        "[services.shop]\ncommand = [\"x\"]\nworkers = 3\n[[listen]]\naddress = \"0.0.0.0:2\"\n";
    let loaded = read_with(text, &flags).unwrap();
    let service = &loaded.config.services[0];
    assert_eq!(service.name, ServiceName::new("shop"));
    assert_eq!(service.settings.wanted, 5);
    assert_eq!(service.settings.drain_request, Duration::from_secs(7));
    assert_eq!(service.rules.drain.request, Duration::from_secs(7));
    assert_eq!(service.settings.ramp, Duration::ZERO);
    assert_eq!(loaded.config.listen.len(), 2);
    assert_eq!(loaded.config.admin.address, None);
    assert!(loaded.config.admin.address_named);
    let resolved = loaded.resolved();
    assert!(
        resolved.contains("workers = 5 # flag --workers or REMUDA_WORKERS"),
        "{resolved}"
    );
    assert!(
        resolved.contains("command = [\"x\"] # dir/remuda.toml"),
        "{resolved}"
    );
    assert!(resolved.contains("soak = \"5s\" # default"), "{resolved}");
    read(&resolved).unwrap_or_else(|problems| panic!("what is resolved reads again\n{problems}"));
}

#[test]
fn a_command_needs_no_file() {
    let flags = RunFlags {
        command: vec!["./server".to_owned(), "{port}".to_owned()],
        ..RunFlags::default()
    };
    assert_eq!(flags.file(), None);
    let loaded = load(&flags, &Env::new()).unwrap();
    assert_eq!(loaded.config.services[0].name, ServiceName::new("app"));
    assert_eq!(managed(&loaded.config).command, ["./server", "{port}"]);
    assert_eq!(
        RunFlags::default().file(),
        Some(PathBuf::from("remuda.toml"))
    );

    let upstream = RunFlags {
        upstream: vec!["127.0.0.1:9000".to_owned()],
        ..RunFlags::default()
    };
    let loaded = load(&upstream, &Env::new()).unwrap();
    assert_eq!(loaded.config.services[0].settings.wanted, 1);
}

#[test]
fn flags_are_checked_by_the_command_line() {
    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        run: RunFlags,
    }
    use clap::{CommandFactory, Parser};
    Line::command().debug_assert();
    let line = |args: &[&str]| Line::try_parse_from([&["run"], args].concat());
    let run = line(&[
        "--soak",
        "1s",
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "unix:/x",
        "--max-surge",
        "1",
        "--",
        "cmd",
        "--soak",
    ])
    .unwrap()
    .run;
    assert_eq!(run.soak.as_deref(), Some("1s"));
    assert_eq!(run.listen.len(), 2);
    assert_eq!(run.command, ["cmd", "--soak"]);
    for bad in [
        ["--soak", "5"],
        ["--listen", ":80"],
        ["--admin", "0.0.0.0:1"],
        ["--workers", "0"],
        ["--connect", "x"],
        ["--max-surge", "101%"],
    ] {
        let error = line(&bad).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{bad:?}");
    }
}

#[test]
fn t21_a_config_that_others_may_change_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("remuda.toml");
    let token = dir.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123456789abcdef\n").unwrap();
    let text = format!("{APP}[admin]\ntoken_file = \"token\"\n");
    std::fs::write(&file, text).unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let flags = RunFlags {
        config: Some(file.clone()),
        ..RunFlags::default()
    };
    let refused = || {
        load(&flags, &Env::new())
            .err()
            .map(|problems| problems.to_string())
    };
    mode(&file, 0o644);
    mode(&token, 0o600);
    assert_eq!(refused(), None);
    for bad in [0o664, 0o646, 0o666] {
        mode(&file, bad);
        assert!(
            refused().is_some_and(|text| text.contains("chmod go-w")),
            "{bad:o}"
        );
    }
    mode(&file, 0o644);
    mode(&token, 0o620);
    assert!(refused().is_some_and(|text| text.contains("token")));
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |name: &str, bytes: Option<&[u8]>| {
        let file = dir.path().join(name);
        if let Some(bytes) = bytes {
            std::fs::write(&file, bytes).unwrap();
        }
        let flags = RunFlags {
            config: Some(file),
            ..RunFlags::default()
        };
        load(&flags, &Env::new()).unwrap_err().to_string()
    };
    assert!(refused("none", None).contains("there is no such file"));
    assert!(refused("binary", Some(&[0xff, 0xfe, 0])).contains("not UTF-8"));
    assert!(refused("huge", Some(&vec![b'#'; 2 << 20])).contains("larger than 1 MiB"));
    assert!(refused("empty", Some(b"")).contains("there is no service"));
}

#[test]
fn paths_of_the_file_begin_at_its_directory() {
    let config = config(
        "pid_file = \"p\"\nstate_dir = \"/s\"\n[services.app]\ncommand = [\"x\"]\ncwd = \"current\"\n",
    );
    assert_eq!(config.pid_file, Some("dir/p".into()));
    assert_eq!(config.state_dir, Some("/s".into()));
    assert_eq!(managed(&config).cwd, Some("dir/current".into()));
}

#[test]
fn a_token_file_that_a_start_would_refuse_is_refused_by_a_check() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("remuda.toml");
    let token = dir.path().join("token");
    std::fs::write(&file, format!("{APP}[admin]\ntoken_file = \"token\"\n")).unwrap();
    let flags = RunFlags {
        config: Some(file),
        ..RunFlags::default()
    };
    let said = |content: &[u8], mode| {
        std::fs::write(&token, content).unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(mode)).unwrap();
        let outcome = load(&flags, &Env::new());
        outcome
            .err()
            .map_or_else(String::new, |problems| problems.to_string())
    };
    let good = b"0123456789abcdef0123456789abcdef\n";
    assert_eq!(said(good, 0o600), "");
    for short in [&b""[..], b" \n", b"short\n"] {
        assert!(said(short, 0o600).contains("fewer than 22 characters"));
    }
    for odd in [&b"0123456789abcdef 0123456789abcdef"[..], &[0xff; 40]] {
        assert!(said(odd, 0o600).contains("something else than one word"));
    }
    assert!(said(good, 0o644).contains("may be read or written by others"));
    let writable = said(good, 0o666);
    assert_eq!(writable.matches("error[").count(), 1, "{writable}");
    // A start looks for it; the host that checks need not have it.
    std::fs::remove_file(&token).unwrap();
    assert!(load(&flags, &Env::new()).is_ok());
}
