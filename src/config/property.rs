//! Any text is a config or a list of what is wrong with it, each with a place inside the text.

use std::path::Path;

use super::draft::Draft;
use super::{Env, Problems, RunFlags};
use crate::fuzz::{self, Choices, Tally};

/// Every example that is shipped, and the page with every key.
const EXAMPLES: [&str; 6] = [
    include_str!("../../config/minimal.toml"),
    include_str!("../../config/services.toml"),
    include_str!("../../config/gunicorn.toml"),
    include_str!("../../config/grpc.toml"),
    include_str!("../../config/node.toml"),
    include_str!("../../config/reference.toml"),
];

const PARTS: [&[u8]; 24] = [
    b"[services.app]\n",
    b"[services.app.rollout]\n",
    b"[[listen]]\n",
    b"command = [\"./server\"]\n",
    b"workers = 4\n",
    b"workers = \"4\"\n",
    b"address = \"127.0.0.1:0\"\n",
    b"max_surge = \"25%\"\n",
    b"soak = \"5s\"\n",
    b"health = { path = \"/\" }\n",
    b"env = { A = \"${HOME}\", PORT = \"{port}\" }\n",
    b"hosts = [\"a\", \"*.b\"]\n",
    b"=",
    b"\"",
    b"'''",
    b"[",
    b"]\n",
    b"{",
    b".",
    b"\n",
    b"99999999999999999999",
    b"-1",
    b"\"1e309s\"",
    b"\"{\"",
];

const MISTAKES: [&[u8]; 16] = [
    b"\"",
    b"'",
    b"\n",
    b"=",
    b"[",
    b"]",
    b"{",
    b"}",
    b"#",
    b"-",
    b"9",
    b".",
    b"%",
    b"\\",
    b"\xe2\x80\xa8",
    b"\0",
];

/// A text that is made up, or an example with a mistake.
fn text(choices: &mut Choices<'_>) -> String {
    let mut text = Vec::new();
    match choices.below(4) {
        0 => text.extend_from_slice(choices.text(80).as_bytes()),
        1 => {
            for _ in 0..choices.below(12) {
                text.extend_from_slice(choices.of(&PARTS));
            }
        }
        2 => {
            // Its keys as they are, and those in comments too: a piece of it, so that each is met.
            let lines: Vec<_> = choices.of(&EXAMPLES).lines().collect();
            let from = choices.below(lines.len());
            for line in &lines[from..(from + 30).min(lines.len())] {
                let shown = line
                    .strip_prefix('#')
                    .filter(|key| !key.starts_with([' ', ':']));
                text.extend_from_slice(shown.unwrap_or(line).as_bytes());
                text.push(b'\n');
            }
            choices.mutate(&mut text, &MISTAKES);
        }
        _ => {
            text.extend_from_slice(choices.of(&EXAMPLES).as_bytes());
            choices.mutate(&mut text, &MISTAKES);
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn read(text: &str) -> Result<Problems, Problems> {
    let env: Env = [("HOME", "/home/x"), ("RUNTIME_DIRECTORY", "/run/r")]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    // A folder that is not there, so that nothing is read but the text.
    let file = Path::new("/nowhere/remuda.toml");
    let draft = Draft::of(Some(file), text, &RunFlags::default(), &env);
    draft.settled().map(|loaded| {
        assert!(!loaded.resolved().is_empty());
        loaded.warnings
    })
}

#[test]
fn any_text_is_a_config_or_problems_with_a_place_in_it() {
    let accepted = Tally::default();
    let check = bolero::check!().with_generator(fuzz::from(text));
    check.with_iterations(200).for_each(|text: &String| {
        let loaded = read(text);
        accepted.count(loaded.is_ok());
        let problems = match loaded {
            Ok(warnings) => {
                assert_eq!(warnings.errors(), 0);
                warnings
            }
            Err(problems) => {
                assert!(problems.errors() > 0, "refused without a reason");
                problems
            }
        };
        let lines = text.split('\n').count();
        for problem in problems.reports() {
            assert!(!problem.message.is_empty());
            let inside = |line: Option<usize>| line.is_none_or(|line| (1..=lines).contains(&line));
            assert!(
                inside(problem.line) && inside(problem.end_line),
                "{problem:?}"
            );
        }
        for colour in [false, true] {
            assert!(problems.is_empty() || !problems.render(colour, None).is_empty());
        }
    });
    accepted.both("configs accepted", 5);
}
