//! Conventions that a machine can check.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use remuda::config::{self, Config, Env, RunFlags, reference, schema};

/// Files of `config/` that must be read as they are.
const EXAMPLES: [&str; 8] = [
    "minimal.toml",
    "reference.toml",
    "gunicorn.toml",
    "uvicorn.toml",
    "node.toml",
    "go.toml",
    "services.toml",
    "grpc.toml",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a directory.
fn sources(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}

/// The lines of a file without what stands behind `//`.
fn code(file: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(file).unwrap();
    text.lines()
        .enumerate()
        .map(|(number, line)| {
            let line = line.split_once("//").map_or(line, |(code, _)| code);
            (number + 1, line.to_owned())
        })
        .collect()
}

/// Whether `word` stands in `line` as a whole word.
fn names(line: &str, word: &str) -> bool {
    let part = |char: char| char.is_alphanumeric() || char == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

/// A copy that only we may write, whatever the checkout's modes are.
fn load(name: &str, text: &str) -> Config {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let flags = RunFlags {
        config: Some(file),
        ..RunFlags::default()
    };
    let loaded = config::load(&flags, &Env::new()).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    loaded.config
}

fn committed(name: &str) -> String {
    let path = root().join("config").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Fails when the committed file is stale; with `UPDATE_CONFIG=1` it is written instead.
fn is_current(name: &str, text: &str) {
    let path = root().join("config").join(name);
    if std::env::var_os("UPDATE_CONFIG").is_some() {
        fs::write(&path, text).unwrap();
    }
    assert!(
        fs::read_to_string(&path).is_ok_and(|old| old == text),
        "config/{name} is stale: run `UPDATE_CONFIG=1 cargo test --test guards`"
    );
}

#[test]
fn the_reference_is_current_and_says_the_defaults() {
    is_current("reference.toml", &reference::text());
    let least = "[services.app]\ncommand = [\"./server\", \"--port\", \"{port}\"]\n";
    let mut reference = load("remuda.toml", &reference::text());
    let least = load("remuda.toml", least);
    // To write the default address is to name it.
    assert!(reference.admin.address_named);
    reference.admin.address_named = false;
    assert_eq!(reference, least);
}

#[test]
fn the_schema_is_current_and_knows_every_key() {
    is_current("schema.json", &schema::text());
    let schema: serde_json::Value = serde_json::from_str(&schema::text()).unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    let service = &schema["properties"]["services"]["additionalProperties"]["properties"];
    // The reference names every key; what is in it must be in the schema at the same place.
    let text = reference::text();
    let mut table = String::new();
    let mut keys = 0;
    for line in text.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_matches(['[', ']']).to_owned();
            continue;
        }
        let Some((key, _)) = line.split_once(" = ") else {
            continue;
        };
        if key.contains(|char: char| !char.is_ascii_lowercase() && char != '_') {
            continue;
        }
        keys += 1;
        let found = match table.as_str() {
            "" => &schema["properties"][key],
            "listen" => &schema["properties"]["listen"]["items"]["properties"][key],
            "listen.tls" => {
                let listen = &schema["properties"]["listen"]["items"]["properties"];
                &listen["tls"]["properties"][key]
            }
            "services.app" => &service[key],
            table => match table.strip_prefix("services.app.") {
                Some(name) => &service[name]["properties"][key],
                None => &schema["properties"][table]["properties"][key],
            },
        };
        assert!(
            found["description"].is_string(),
            "`{key}` of `[{table}]` is not in the schema"
        );
    }
    assert!(keys > 60, "only {keys} keys were found in the reference");
}

#[test]
fn every_example_is_valid_without_a_warning() {
    for name in EXAMPLES {
        let text = committed(name);
        assert!(text.starts_with("#:schema ./schema.json\n"), "{name}");
        let several = if name == "services.toml" { 3 } else { 1 };
        assert_eq!(load(name, &text).services.len(), several, "{name}");
    }
    assert!(committed("minimal.toml").lines().count() <= 10);
    for entry in fs::read_dir(root().join("config")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            !name.ends_with(".toml") || EXAMPLES.contains(&name.as_str()),
            "config/{name} is not checked"
        );
    }
}

#[test]
fn the_systemd_unit_is_valid() {
    let unit = committed("remuda.service");
    for line in [
        "Type=notify",
        "KillMode=mixed",
        "RestartPreventExitStatus=78",
        "RuntimeDirectory=remuda",
        "FileDescriptorStoreMax=",
    ] {
        assert!(unit.contains(line), "{line}");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("remuda.service");
    // The program is not installed here; `verify` looks for it.
    fs::write(&file, unit.replace("/usr/bin/remuda", "/bin/true")).unwrap();
    let socket = dir.path().join("remuda.socket");
    fs::write(&socket, committed("remuda.socket")).unwrap();
    match Command::new("systemd-analyze")
        .arg("verify")
        .args([&file, &socket])
        .output()
    {
        Ok(done) => {
            let said = String::from_utf8_lossy(&done.stderr);
            let ours: Vec<&str> = said
                .lines()
                .filter(|line| line.contains("remuda.s"))
                .collect();
            assert!(ours.is_empty(), "{ours:?}");
        }
        // Only the runner that promises every tool must have this one.
        Err(error) => assert!(
            std::env::var_os("REMUDA_REQUIRE_ALL").is_none(),
            "systemd-analyze: {error}"
        ),
    }
}

#[test]
fn f36_the_core_is_pure_and_knows_no_clock() {
    for file in sources(&root().join("src/rollout")) {
        for (number, line) in code(&file) {
            for word in [
                "tokio",
                "SystemTime",
                "Instant",
                "prometheus",
                "nix",
                "rand",
                "async",
                "await",
            ] {
                assert!(
                    !names(&line, word),
                    "{}:{number} names `{word}`",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn unsafe_lives_in_one_folder() {
    for file in sources(&root().join("src")) {
        if file.starts_with(root().join("src/sys")) {
            continue;
        }
        for (number, line) in code(&file) {
            assert!(
                !names(&line, "unsafe"),
                "{}:{number} is unsafe",
                file.display()
            );
        }
    }
}

#[test]
fn the_supervisor_waits_for_its_children_itself() {
    for file in sources(&root().join("src/supervisor")) {
        for (number, line) in code(&file) {
            assert!(
                !line.contains("tokio::process"),
                "{}:{number}",
                file.display()
            );
        }
    }
}

#[test]
fn f03_nobody_shuts_a_listener_down() {
    // `shutdown` on one copy of a listening socket refuses everybody; stopping is closing one's own copy.
    for file in [
        "src/proxy/accept.rs",
        "src/supervisor/listeners.rs",
        "src/supervisor/planes.rs",
    ] {
        for (line, text) in code(&root().join(file)) {
            assert!(!names(&text, "shutdown"), "{file}:{line}: {text}");
        }
    }
}

#[test]
fn f02_no_listener_is_one_of_a_group() {
    // In an SO_REUSEPORT group the kernel gives a closing member's queue to nobody unless
    // `net.ipv4.tcp_migrate_req` is on. All planes accept from one socket, so it does not matter.
    for file in sources(&root().join("src")) {
        for (line, text) in code(&file) {
            let text = text.to_lowercase();
            assert!(
                !text.contains("reuseport") && !text.contains("reuse_port"),
                "{}:{line}",
                file.display()
            );
        }
    }
}
