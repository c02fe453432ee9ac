//! The offline check: what clients saw against what workers executed. Tested with planted violations.

use std::collections::BTreeMap;
use std::path::Path;

/// What a client saw of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) method: String,
    pub(crate) outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The right answer, whole.
    Answered,
    /// Anything else.
    Failed(String),
}

/// What the workers wrote: begins of each id.
#[derive(Debug, Default)]
pub(crate) struct Executed {
    begins: BTreeMap<String, Vec<String>>,
}

impl Executed {
    /// Reads the workers' common log.
    pub(crate) fn read(path: &Path) -> Self {
        Self::parse(&std::fs::read_to_string(path).expect("workers wrote a log"))
    }

    fn parse(text: &str) -> Self {
        let mut begins: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            if let [pid, generation, slot, "begin", id, _method] = words[..] {
                begins
                    .entry(id.to_owned())
                    .or_default()
                    .push(format!("{pid} {generation} {slot}"));
            }
        }
        Self { begins }
    }
}

/// What is allowed to have failed: the rest is a violation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    /// Failed requests, for whatever a test's fault must cost.
    pub(crate) failures: usize,
}

/// Every violation, in words; empty if all is well.
pub(crate) fn violations(client: &[Entry], workers: &Executed, allowed: Allowed) -> Vec<String> {
    let mut found = Vec::new();
    let mut failed = Vec::new();
    let mut known = BTreeMap::new();
    for entry in client {
        if known.insert(entry.id.as_str(), entry).is_some() {
            found.push(format!("{} was used twice by the client", entry.id));
        }
        let begins = workers.begins.get(&entry.id).map_or(&[][..], Vec::as_slice);
        match &entry.outcome {
            Outcome::Failed(why) => failed.push(format!("{} {}: {why}", entry.method, entry.id)),
            Outcome::Answered if begins.is_empty() => {
                found.push(format!(
                    "{} was answered but no worker executed it",
                    entry.id
                ));
            }
            Outcome::Answered => {}
        }
        if entry.method == "POST" && begins.len() > 1 {
            found.push(format!(
                "I13: {} was executed {} times: {begins:?}",
                entry.id,
                begins.len()
            ));
        }
    }
    for id in workers.begins.keys() {
        if id != "-" && !known.contains_key(id.as_str()) {
            found.push(format!("{id} was executed but no client sent it"));
        }
    }
    if failed.len() > allowed.failures {
        found.push(format!(
            "{} failed, {} allowed:",
            failed.len(),
            allowed.failures
        ));
        found.extend(failed.into_iter().take(20));
    }
    found
}

/// Fails the test with all violations.
pub(crate) fn assert_clean(client: &[Entry], log: &Path) {
    let found = violations(client, &Executed::read(log), Allowed { failures: 0 });
    assert!(
        found.is_empty(),
        "{} requests; {}",
        client.len(),
        found.join("\n")
    );
    assert!(
        client.len() > 100,
        "only {} requests: no load",
        client.len()
    );
}

fn answered(id: &str, method: &str) -> Entry {
    Entry {
        id: id.to_owned(),
        method: method.to_owned(),
        outcome: Outcome::Answered,
    }
}

const CLEAN: &str =
    "7 g1 s0 begin a GET\n7 g1 s0 end a GET\n8 g1 s1 begin b POST\n8 g1 s1 end b POST\n";
const NONE: Allowed = Allowed { failures: 0 };

#[test]
fn the_checker_passes_a_clean_run() {
    let client = [answered("a", "GET"), answered("b", "POST")];
    assert_eq!(
        violations(&client, &Executed::parse(CLEAN), NONE),
        Vec::<String>::new()
    );
}

#[test]
fn the_checker_finds_a_post_executed_twice() {
    let client = [answered("a", "GET"), answered("b", "POST")];
    let log = format!("{CLEAN}9 g2 s0 begin b POST\n");
    assert!(violations(&client, &Executed::parse(&log), NONE)[0].starts_with("I13: b"));
}

#[test]
fn the_checker_finds_a_failure_and_an_invented_answer_and_a_stranger() {
    let mut client = vec![
        answered("a", "GET"),
        answered("b", "POST"),
        answered("c", "GET"),
    ];
    client[0].outcome = Outcome::Failed("reset".to_owned());
    let log = format!("{CLEAN}9 g2 s0 begin d GET\n");
    let found = violations(&client, &Executed::parse(&log), NONE);
    assert_eq!(found.len(), 4, "{found:?}");
    let forgiven = violations(&client, &Executed::parse(&log), Allowed { failures: 1 });
    assert_eq!(forgiven.len(), 2, "{forgiven:?}");
}

#[test]
fn a_get_may_be_executed_twice() {
    let client = [answered("a", "GET"), answered("b", "POST")];
    let log = format!("{CLEAN}9 g2 s0 begin a GET\n");
    assert_eq!(
        violations(&client, &Executed::parse(&log), NONE),
        Vec::<String>::new()
    );
}
