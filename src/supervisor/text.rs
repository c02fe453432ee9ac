//! Text that comes from workers, made safe to print (T19).

/// The bytes as text on one line: control characters, and those that reorder what is shown, become
/// escapes; what is no UTF-8 becomes U+FFFD. Tabs stay.
pub(super) fn escape(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if !text.contains(needs_escape) {
        return text.into_owned();
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if needs_escape(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// The same, at most about `limit` bytes of it.
pub(super) fn excerpt(bytes: &[u8], limit: usize) -> String {
    if bytes.len() <= limit {
        return escape(bytes);
    }
    format!("{}…", escape(&bytes[..limit]))
}

fn needs_escape(character: char) -> bool {
    (character.is_control() && character != '\t')
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::{escape, excerpt};

    #[test]
    fn t19_control_characters_are_escaped() {
        assert_eq!(escape(b"plain \t text"), "plain \t text");
        assert_eq!(escape(b"\x1b[2J\x07"), "\\u{1b}[2J\\u{7}");
        assert_eq!(escape("a\u{202e}b".as_bytes()), "a\\u{202e}b");
        assert_eq!(escape(b"\xff"), "\u{fffd}");
        assert_eq!(excerpt(b"abcdef", 3), "abc…");
    }
}
