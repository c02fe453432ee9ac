//! Which bytes may stand in a head, and where.

/// `tchar` of RFC 9110 §5.6.2 in lower case; 0 for any other byte.
pub(super) const TOKEN: [u8; 256] = {
    let (mut table, mut byte) = ([0; 256], 0);
    while byte < 128_u8 {
        if byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~'
            )
        {
            table[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

/// A byte that may stand in a name or a method.
pub(crate) fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)] != 0
}

/// A byte that may stand in no value.
pub(crate) fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

/// Where the next control character is, a tab too: those below a space, and DEL. Eight bytes at a time,
/// as all compilers can.
pub(super) fn next_control(text: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    let (words, tail) = rest.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        let found = controls(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(from + number * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let last = tail.iter().position(u8::is_ascii_control)?;
    Some(from + words.len() * 8 + last)
}

/// Of eight bytes, the highest bit of each that is a control character. No sum leaves its byte.
fn controls(bytes: u64) -> u64 {
    const EACH: u64 = u64::MAX / 0xff;
    let low = bytes & (EACH * 0x7f);
    // The highest bit of each that is 0x20 or more, and of each that is 0x7f or more.
    let visible = low + EACH * (0x80 - 0x20);
    let deleted = low + EACH;
    (!visible | deleted) & !bytes & (EACH * 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_control_character_is_found_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for length in 0..20 {
                for at in 0..length {
                    let mut text = vec![b'a'; length];
                    text[at] = byte;
                    let expected = byte.is_ascii_control().then_some(at);
                    assert_eq!(
                        next_control(&text, 0),
                        expected,
                        "{byte} at {at} of {length}"
                    );
                    assert_eq!(next_control(&text, at), expected);
                    assert_eq!(next_control(&text, at + 1), None);
                }
            }
        }
        // Neighbours do not disturb each other.
        for pair in [
            [0x7f, 0x80],
            [0x80, 0x1f],
            [0xff, 0],
            [0x1f, 0xff],
            [0x9f, 0x7f],
        ] {
            let text = [pair, pair, pair, pair].concat();
            let expected = text.iter().position(u8::is_ascii_control);
            assert_eq!(next_control(&text, 0), expected, "{pair:?}");
        }
    }
}
