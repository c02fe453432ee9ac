//! Tells the build what it is built from, for `remuda --version` and `remuda_build_info`.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    // `rustc 1.89.0 (29483883e 2025-08-04)`: the number is enough.
    let rustc = line(&rustc, &["--version"]).and_then(|line| {
        let version = line.split_whitespace().nth(1)?;
        Some(version.to_owned())
    });
    // Only our own repository: unpacked inside somebody else's, theirs would say nothing about us.
    let revision = Path::new(".git").exists().then(|| {
        // Git adds a line to this log whenever what is checked out changes, also for a packed branch.
        if let Some(log) = line("git", &["rev-parse", "--git-path", "logs/HEAD"])
            && Path::new(&log).exists()
        {
            println!("cargo::rerun-if-changed={log}");
        }
        line("git", &["rev-parse", "--short=10", "HEAD"])
    });
    let or_unknown = |found: Option<String>| found.unwrap_or_else(|| "unknown".to_owned());
    println!(
        "cargo::rustc-env=REMUDA_REVISION={}",
        or_unknown(revision.flatten())
    );
    println!("cargo::rustc-env=REMUDA_RUSTC={}", or_unknown(rustc));
}

/// What a program printed, if it ended well and printed anything.
fn line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
