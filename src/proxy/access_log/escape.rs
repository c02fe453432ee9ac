//! What a client sent, as it may stand in a line: printable ASCII only (T22). A line's reader may be a
//! terminal, to which an escape character, or its eight-bit form, is an order; and a parser, to which a
//! quote is the end of a value and a newline that of a line.

/// Whether every byte may stand in quotes as it is, in every format. Sixteen at a time, the last ones
/// once more rather than one by one.
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk::<16>() else {
        let Some(last) = bytes.last_chunk::<8>() else {
            return !bytes.iter().any(|b| is_special(*b));
        };
        return are_plain(last) && bytes.first_chunk::<8>().is_some_and(are_plain);
    };
    let (chunks, _) = bytes.as_chunks::<16>();
    are_plain(last) && chunks.iter().all(are_plain)
}

fn is_special(byte: u8) -> bool {
    !(b' '..0x7f).contains(&byte) | (byte == b'"') | (byte == b'\\')
}

/// No early return, so that all are compared at once.
#[inline]
fn are_plain<const N: usize>(bytes: &[u8; N]) -> bool {
    !bytes.iter().fold(false, |any, b| any | is_special(*b))
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn hex(nibble: u16) -> u8 {
    HEX[usize::from(nibble & 0xf)]
}

/// Writes bytes as what stands between the quotes of a JSON string. What is not UTF-8 is U+FFFD.
pub(super) fn json(out: &mut Vec<u8>, bytes: &[u8]) {
    let escaped = |out: &mut Vec<u8>, unit: u16| {
        let digits = [unit >> 12, unit >> 8, unit >> 4, unit].map(hex);
        out.extend_from_slice(b"\\u");
        out.extend_from_slice(&digits);
    };
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                ' '..='~' => out.extend(u8::try_from(letter)),
                _ => {
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        escaped(out, *unit);
                    }
                }
            }
        }
        if !chunk.invalid().is_empty() {
            escaped(out, 0xfffd);
        }
    }
}

/// Writes bytes as Apache does between quotes: `\"`, `\\`, and `\xhh` for what is not printable ASCII.
pub(super) fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b' '..=b'~' => out.push(*byte),
            _ => {
                let byte = u16::from(*byte);
                out.extend_from_slice(&[b'\\', b'x', hex(byte >> 4), hex(byte)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(bytes: &[u8]) -> (String, String) {
        let (mut as_json, mut as_text) = (Vec::new(), Vec::new());
        json(&mut as_json, bytes);
        text(&mut as_text, bytes);
        let string = |bytes| String::from_utf8(bytes).expect("ASCII");
        (string(as_json), string(as_text))
    }

    #[test]
    fn t22_control_characters_quotes_and_terminal_escapes_are_written_out() {
        for (bytes, as_json, as_text) in [
            (&b"plain ~"[..], "plain ~", "plain ~"),
            (b"a\"b\\c", "a\\\"b\\\\c", "a\\\"b\\\\c"),
            (
                b"\r\n\t\0",
                "\\u000d\\u000a\\u0009\\u0000",
                "\\x0d\\x0a\\x09\\x00",
            ),
            (b"\x1b[2J\x7f", "\\u001b[2J\\u007f", "\\x1b[2J\\x7f"),
            // The same order to a terminal, in eight bits: U+009B.
            (b"\xc2\x9b2J", "\\u009b2J", "\\xc2\\x9b2J"),
            (b"\x9b2J", "\\ufffd2J", "\\x9b2J"),
            (
                "é\u{1f40e}".as_bytes(),
                "\\u00e9\\ud83d\\udc0e",
                "\\xc3\\xa9\\xf0\\x9f\\x90\\x8e",
            ),
            // A right-to-left override, and a code point that was cut in half.
            (
                b"\xe2\x80\xae\xe2\x80",
                "\\u202e\\ufffd",
                "\\xe2\\x80\\xae\\xe2\\x80",
            ),
        ] {
            assert_eq!(both(bytes), (as_json.to_owned(), as_text.to_owned()));
        }
    }

    #[test]
    fn t22_plain_is_what_no_format_changes() {
        for byte in 0..=u8::MAX {
            for bytes in [vec![byte], [vec![b'a'; 40], vec![byte]].concat()] {
                let same = String::from_utf8_lossy(&bytes).into_owned();
                let unchanged = both(&bytes) == (same.clone(), same);
                assert_eq!(is_plain(&bytes), unchanged, "{byte:#x}");
            }
        }
    }
}
