//! Makes foreign names fit to be kept: valid UTF-8, no control characters, at most 1 KiB.
//!
//! In: bytes as a process or a file has them. Out: text. What cannot be shown becomes U+FFFD; what
//! is too long keeps its beginning and ends in a hash of the whole, so that two long names that
//! differ anywhere stay two.

use std::borrow::Cow;

/// Bytes of the longest text that is kept.
pub const MAX_TEXT_BYTES: usize = 1024;

/// `…` and 16 hexadecimal digits.
const CUT_MARK_BYTES: usize = 3 + 16;

/// Bytes that are a text to keep as they are, told without looking at characters: the common case.
#[inline]
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    // No early end: the loop is one of vectors.
    let is_odd = |byte: u8| byte.wrapping_sub(b' ') > b'~' - b' ';
    bytes.len() <= MAX_TEXT_BYTES && !bytes.iter().fold(false, |odd, &byte| odd | is_odd(byte))
}

/// The text to keep for `bytes`, and whether it differs from them.
pub(crate) fn clean(bytes: &[u8]) -> Cow<'_, str> {
    if bytes.len() <= MAX_TEXT_BYTES
        && let Ok(text) = std::str::from_utf8(bytes)
        && !text.chars().any(is_unfit)
    {
        return Cow::Borrowed(text);
    }
    // A character of input gives at least one byte of output, so nothing beyond this is needed.
    let (head, cut) = match bytes.split_at_checked(4 * MAX_TEXT_BYTES) {
        Some((head, rest)) => (head, !rest.is_empty()),
        None => (bytes, false),
    };
    let mut text: String = String::from_utf8_lossy(head)
        .chars()
        .map(|c| if is_unfit(c) { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if cut || text.len() > MAX_TEXT_BYTES {
        let end = text.floor_char_boundary(MAX_TEXT_BYTES - CUT_MARK_BYTES);
        text.truncate(end);
        text.push_str(&format!("…{:016x}", fnv1a(bytes)));
    }
    Cow::Owned(text)
}

fn is_unfit(c: char) -> bool {
    c.is_control()
}

/// The same in every run: names of two recordings can be compared.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_fit_to_keep() {
        let check = |input: &[u8], expect: &str| {
            assert_eq!(clean(input), expect);
            assert!(!is_plain(input) || input == expect.as_bytes());
        };
        assert!(is_plain(b"") && is_plain(b" java.lang.String::equals~"));
        assert!(!is_plain(b"\x7f") && !is_plain(b"\x1f") && !is_plain(b"\x80"));
        assert!(!is_plain(&[b'x'; MAX_TEXT_BYTES + 1]));
        check(b"", "");
        check(b"java.lang.String::equals", "java.lang.String::equals");
        check("größe<τ>".as_bytes(), "größe<τ>");
        check(b"a\0b\nc\x7f\x1b[31m", "a\u{fffd}b\u{fffd}c\u{fffd}\u{fffd}[31m");
        check("\u{85}".as_bytes(), "\u{fffd}");
        check(b"\xff\xfeok", "\u{fffd}\u{fffd}ok");
        check(&[b'x'; 1024], &"x".repeat(1024));
    }

    #[test]
    fn long_names_stay_different() {
        let mut one = vec![b'x'; 1 << 20];
        let mut two = one.clone();
        two[1_000_000] = b'y';
        assert_ne!(clean(&one), clean(&two));
        assert_eq!(clean(&one).len(), MAX_TEXT_BYTES);
        // Three bytes a character, and one that would be cut in its middle.
        one = "€".repeat(500).into_bytes();
        let text = clean(&one);
        assert!(text.len() <= MAX_TEXT_BYTES && text.starts_with("€€€"), "{}", text.len());
        assert!(clean(&[0xff; 5000]).len() <= MAX_TEXT_BYTES);
    }
}
