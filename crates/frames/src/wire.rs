//! The wire form of a frame: what the kernel half sends, and all that the store reads of it.
//!
//! A stack is a run of 64-bit words, leaf first. A frame is one word, or a head word and data
//! words:
//!
//! ```text
//! 63..60 kind   59..56 flags   55..0 payload
//!   kind 3, dynamic:  55..48 runtime, 47..40 number of data words that follow, 39..0 its own
//!   kind 1, native:   55..32 file id, 31..0 offset
//!   kind 2, own:      an address in one process
//!   any other kind:   one word
//! ```
//!
//! A word of a static kind is a key by itself, equal in all processes. A dynamic frame's key is all
//! of its words together with the process incarnation that sent it; so is an own word's, which
//! differs in that it is not asked about when it is met: it is named like static code, later or
//! never, and keeps its word.

const KIND_SHIFT: u32 = 60;
const DYNAMIC: u64 = 3;
const NATIVE: u64 = 1;
const OWN: u64 = 2;
const N_DATA_SHIFT: u32 = 40;
const FLAGS: u64 = 0xf << 56;

/// The words of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raw<'a> {
    /// Code that a file holds: the word names it for all processes.
    Static(u64),
    /// Code at an address of one process, in no file.
    Own(u64),
    /// Code that only one process has: head word and data words.
    Dynamic(&'a [u64]),
}

/// Cuts a stack's words into frames, leaf first. A head whose data words are missing ends it.
pub fn frames(words: &[u64]) -> impl Iterator<Item = Raw<'_>> {
    let mut rest = words;
    std::iter::from_fn(move || {
        let (&head, after) = rest.split_first()?;
        if head >> KIND_SHIFT != DYNAMIC {
            rest = after;
            let is_own = head >> KIND_SHIFT == OWN;
            return Some(if is_own { Raw::Own(head) } else { Raw::Static(head) });
        }
        let n_words = 1 + (head >> N_DATA_SHIFT & 0xff) as usize;
        let (frame, after) = rest.split_at_checked(n_words)?;
        rest = after;
        Some(Raw::Dynamic(frame))
    })
}

/// The words at a stack's outer end that are static frames; none of a stack that ends in what is no frame.
pub(crate) fn outer(words: &[u64]) -> &[u64] {
    let (mut from, mut to) = (0, 0);
    for frame in frames(words) {
        match frame {
            Raw::Static(_) => to += 1,
            Raw::Own(_) => {
                to += 1;
                from = to;
            }
            Raw::Dynamic(words) => {
                to += words.len();
                from = to;
            }
        }
    }
    if to == words.len() { words.get(from..).unwrap_or_default() } else { &[] }
}

/// What a static word belongs to: its kind, and for a native frame its file. Words with equal
/// groups are named together.
pub fn group(word: u64) -> u64 {
    let word = word & !FLAGS;
    if word >> KIND_SHIFT == NATIVE { word >> 32 } else { word >> KIND_SHIFT << 28 }
}

/// A word's place in the order of naming: by group, then by offset, then by flags.
pub fn naming_order(word: u64) -> (u64, u64, u64) {
    (group(word), word & !FLAGS, word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_into_frames() {
        let dynamic = |n: u64| 3 << 60 | 4 << 48 | n << 40;
        let words = [1 << 60 | 5, dynamic(2), 7, 8, 15 << 60 | 9, dynamic(0), 2 << 60 | 7];
        assert_eq!(outer(&words), []);
        assert_eq!(outer(&words[..5]), [words[4]]);
        assert_eq!(outer(&words[..1]), [words[0]]);
        assert_eq!(outer(&words[..3]), [], "its last head lacks a word");
        let got: Vec<_> = frames(&words).collect();
        let expect = [
            Raw::Static(words[0]),
            Raw::Dynamic(&words[1..4]),
            Raw::Static(words[4]),
            Raw::Dynamic(&words[5..6]),
            Raw::Own(words[6]),
        ];
        assert_eq!(got, expect);
        assert_eq!(frames(&[dynamic(255), 1, 2]).count(), 0);
        assert_eq!(frames(&[]).count(), 0);
    }

    #[test]
    fn flags_do_not_part_a_file() {
        let word = 1 << 60 | 77 << 32 | 0x1000;
        assert_eq!(group(word), group(word | 1 << 56));
        assert_ne!(group(word), group(word + (1 << 32)));
        assert_eq!(group(15 << 60 | 3), group(15 << 60 | 4 << 40));
    }
}
