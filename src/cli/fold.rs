//! Long lines on a terminal: broken between words and indented, where the terminal would cut a word in two and
//! begin at its edge. Into a pipe each line stays one: whoever reads it there looks for lines.

/// On anything narrower a broken line is no easier to read.
const NARROWEST: usize = 40;

/// Breaks a line that is wider than the terminal; what does not fit begins under `hang`. What has several lines
/// already is laid out, with carets under words, and stays as it is.
pub(crate) fn fold(text: &str, width: Option<usize>, hang: usize) -> Vec<String> {
    let width = width.filter(|width| *width >= NARROWEST && !text.contains('\n'));
    let Some(width) = width else {
        return vec![text.to_owned()];
    };
    let hang = hang.min(width / 2);
    let mut lines = Vec::new();
    let mut rest = text.to_owned();
    while let Some(at) = break_at(&rest, width, hang) {
        let next = rest.split_off(at);
        lines.push(rest.trim_end().to_owned());
        rest = format!("{:hang$}{}", "", next.trim_start());
    }
    lines.push(rest);
    lines
}

/// The same, under the line's own beginning.
pub(crate) fn under_itself(text: &str, width: Option<usize>) -> Vec<String> {
    let begin = text.len() - text.trim_start_matches(' ').len();
    fold(text, width, begin + 2)
}

/// Findings with their lines of source: what is said of them is broken as any sentence, and what shows a place in
/// the source, with carets under words, stays as it is.
pub(crate) fn findings(text: &str, width: Option<usize>) -> String {
    let folded = text.split('\n').flat_map(|line| match hang_of(line) {
        Some(hang) => fold(line, width, hang),
        None => vec![line.to_owned()],
    });
    folded.collect::<Vec<_>>().join("\n")
}

/// Where a sentence among findings goes on, titles by their own begin and notes below their first word; `None`
/// for a line of source.
fn hang_of(line: &str) -> Option<usize> {
    let seen: String = visible(line).map(|(_, c)| c).collect();
    match seen.trim_start().strip_prefix("= ") {
        Some(note) => {
            let label = note.find(": ").map_or(0, |at| at + 2);
            Some(seen.len() - note.len() + label)
        }
        None => seen.starts_with(|c: char| c.is_alphabetic()).then_some(2),
    }
}

/// Columns that a line takes; colours take none.
pub(crate) fn columns(text: &str) -> usize {
    visible(text).count()
}

/// Where a line that is too wide is broken; `None` if it fits, or has no place to be broken at.
fn break_at(text: &str, width: usize, hang: usize) -> Option<usize> {
    if columns(text) <= width {
        return None;
    }
    let begin = hang.max(text.len() - text.trim_start_matches(' ').len());
    let (mut between_words, mut between_parts) = (None, None);
    let mut was_space = true;
    for (column, (at, c)) in visible(text).enumerate() {
        let is_space = c == ' ';
        if is_space && !was_space && column > begin {
            if column > width && between_words.is_some() {
                break;
            }
            between_words = Some(at);
            // Two spaces stand between parts that belong together each.
            if text[at..].starts_with("  ") && column > width / 2 {
                between_parts = Some(at);
            }
            if column > width {
                break;
            }
        }
        was_space = is_space;
    }
    between_parts.or(between_words)
}

/// What is seen of a line: characters and where they stand, without the orders that colour them.
fn visible(text: &str) -> impl Iterator<Item = (usize, char)> + '_ {
    let mut is_order = false;
    text.char_indices().filter(move |(_, c)| {
        let is_seen = !is_order && *c != '\u{1b}';
        is_order = (is_order && *c != 'm') || *c == '\u{1b}';
        is_seen
    })
}

#[cfg(test)]
mod tests {
    use super::{columns, findings, fold, under_itself};

    #[test]
    fn a_line_is_broken_between_words_and_goes_on_indented() {
        let line = "  waiting  the soak of batch 1 to end (requests to generation 2 so far: 17)";
        assert_eq!(
            fold(line, Some(48), 11),
            [
                "  waiting  the soak of batch 1 to end (requests",
                "           to generation 2 so far: 17)"
            ]
        );
        assert_eq!(fold(line, Some(80), 11), [line], "it fits");
        assert_eq!(fold(line, None, 11), [line], "no terminal");
        assert_eq!(fold(line, Some(12), 11), [line], "too narrow for anything");
        let laid_out = format!("{line}\n{:70}^^^^", "");
        assert_eq!(fold(&laid_out, Some(48), 11), [laid_out]);
    }

    #[test]
    fn parts_with_two_spaces_between_them_stay_whole() {
        let line =
            "remuda 0.1.0  pid 23568  running for 32s  on 127.0.0.1:80  admin 127.0.0.1:9900";
        assert_eq!(
            under_itself(line, Some(70)),
            [
                "remuda 0.1.0  pid 23568  running for 32s  on 127.0.0.1:80",
                "  admin 127.0.0.1:9900"
            ]
        );
    }

    #[test]
    fn a_word_that_is_too_long_stays_whole_and_every_line_ends() {
        let path = "/a".repeat(60);
        let line = format!("see {path} for more of it");
        assert_eq!(
            under_itself(&line, Some(40)),
            [
                "see".to_owned(),
                format!("  {path}"),
                "  for more of it".to_owned()
            ]
        );
        for width in 40..90 {
            for line in [&*path, "", " ", &" ".repeat(200), &"é ".repeat(200)] {
                let folded = under_itself(line, Some(width));
                let words = |text: &str| text.split_whitespace().collect::<String>();
                assert_eq!(words(&folded.join(" ")), words(line));
            }
        }
    }

    #[test]
    fn of_findings_only_sentences_are_broken() {
        let source =
            "2 | command = [\"gunicorn\", \"--bind\", \"{address}\", \"app:app\"]\n  |  ^^^^^^^^^";
        let text = format!(
            "\u{1b}[33mwarning[placeholder]\u{1b}[0m: `{{address}}` is no placeholder\n --> t.toml:2:35\n  |\n\
             {source}\n  \u{1b}[94m= \u{1b}[0mhelp: write `{{port}}` or another of those that there are"
        );
        assert_eq!(
            findings(&text, Some(40)),
            format!(
                "\u{1b}[33mwarning[placeholder]\u{1b}[0m: `{{address}}` is no\n  placeholder\n --> t.toml:2:35\n  |\n\
                 {source}\n  \u{1b}[94m= \u{1b}[0mhelp: write `{{port}}` or another of\n          those that there are"
            )
        );
        assert_eq!(findings(&text, None), text);
    }

    #[test]
    fn colours_take_no_room() {
        let red = "\u{1b}[31mfour\u{1b}[0m";
        assert_eq!(columns(red), 4);
        let line = [red; 8].join(" ");
        assert_eq!(fold(&line, Some(40), 0), [line]);
    }
}
