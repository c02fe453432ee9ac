//! What a command and the values of `env` may hold in braces, and what only looks like it.

use super::suggest::nearest;

/// What is filled in for each worker.
pub(super) const KNOWN: [&str; 5] = ["port", "socket", "slot", "generation", "release"];

/// Signs before a brace that give it a meaning of its own: variables of a shell, fields of a format.
const OF_OTHERS: [char; 6] = ['$', '%', '{', '#', '@', '\\'];

/// Words that others have for what a placeholder stands for.
const ELSEWHERE: [(&str, &str); 7] = [
    ("worker", "slot"),
    ("instance", "slot"),
    ("index", "slot"),
    ("id", "slot"),
    ("version", "release"),
    ("path", "socket"),
    ("unix", "socket"),
];

/// Words for the whole address, of which we give a part.
const WHOLE: [&str; 7] = [
    "address", "addr", "bind", "listen", "host", "endpoint", "url",
];

/// The words in single braces that look like a placeholder and are none. What stands in braces for others (JSON,
/// `${NAME}`, `{{name}}`, `{a,b}`) is theirs.
pub(super) fn unknown(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices('{').filter_map(|(at, _)| {
        if text[..at].ends_with(OF_OTHERS) {
            return None;
        }
        let (word, rest) = text[at + 1..].split_once('}')?;
        let is_plain =
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let is_strange = !KNOWN.contains(&word) && !rest.starts_with('}');
        (is_strange && (is_plain || near(word).is_some())).then_some(word)
    })
}

/// The placeholder that may be meant, and which ones there are.
pub(super) fn help(word: &str) -> String {
    let of_others =
        |(of_others, ours): &(&str, &'static str)| (*of_others == word).then_some(*ours);
    let known = KNOWN.map(|word| format!("`{{{word}}}`")).join(", ");
    match near(word).or_else(|| ELSEWHERE.iter().find_map(of_others)) {
        Some(meant) => format!("did you mean `{{{meant}}}`? the placeholders are {known}"),
        None if WHOLE.contains(&word) => {
            format!(
                "write `127.0.0.1:{{port}}`, or `unix:{{socket}}`; the placeholders are {known}"
            )
        }
        None => format!("the placeholders are {known}"),
    }
}

fn near(word: &str) -> Option<&'static str> {
    let begun = |known: &&str| word.len() > 2 && known.starts_with(word);
    nearest(word, KNOWN.into_iter()).or_else(|| KNOWN.into_iter().find(begun))
}

#[cfg(test)]
mod tests {
    use super::{help, unknown};

    #[test]
    fn only_what_looks_like_a_placeholder_is_found() {
        for (text, expected) in [
            ("--bind={address}", vec!["address"]),
            ("{a}:{port}:{b_c}", vec!["a", "b_c"]),
            ("{PORT} {sock} {prot}", vec!["PORT", "sock", "prot"]),
            ("é{address}é", vec!["address"]),
        ] {
            assert_eq!(unknown(text).collect::<Vec<_>>(), expected, "{text}");
        }
        for text in [
            "{port} {socket} {slot} {generation} {release}",
            r#"{"a":1}"#,
            r#"{"a":{"b":[{}]}}"#,
            "${VAR} ${var} ${var:-x}",
            "{{name}} {{prot}} {{ name }}",
            "%{http_code}",
            "{a,b} {1..9} {0} {} { list; }",
            "{NAME} {x:02} {self.name}",
            "{",
            "}{",
            "{port",
            "{é}",
        ] {
            assert_eq!(unknown(text).next(), None, "{text}");
        }
    }

    #[test]
    fn the_help_names_the_nearest_and_all() {
        for (word, says) in [
            ("prot", "did you mean `{port}`?"),
            ("PORT", "did you mean `{port}`?"),
            ("sock", "did you mean `{socket}`?"),
            ("worker", "did you mean `{slot}`?"),
            ("address", "write `127.0.0.1:{port}`"),
            ("elephant", "the placeholders are"),
        ] {
            let help = help(word);
            assert!(help.starts_with(says), "{help}");
            assert!(help.contains("`{generation}`"), "{help}");
        }
    }
}
