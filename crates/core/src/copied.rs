//! Text that a program has copied to anonymous memory in its own place, so that huge pages hold it
//! (Node's `--use-largepages`, BOLT's `--hugify`, liblppreload): its file's rows and names serve as before.
//!
//! In: anonymous executable memory, and the file that was mapped there or whose header stands before it. Out: the
//! mappings of that file which the memory stands for, if it holds the same bytes.
//!
//! Of a mapping, pages at equal distances are compared, at most [`PAGES_MAX`]: it lies where its file says that
//! its text does, and other code that was laid there differs in the first of them.

use crate::files::{FileId, Files};
use crate::processes::{Mapping, Memory};
use hotframe_objects::{ReadAt as _, Segment};

const PAGE: u64 = 4096;
/// Pages of a mapping that are compared.
const PAGES_MAX: u64 = 64;

/// The executable segments of a file, as far as they would lie in a range; its header is mapped as `header` says.
pub(crate) fn parts(
    files: &mut Files,
    pid: u32,
    header: &Mapping,
    start: u64,
    end: u64,
) -> Vec<Mapping> {
    let file = files.open(header.file, pid, header.start, header.end);
    let Some(elf) = files.get(file).and_then(|file| file.elf()) else {
        return Vec::new();
    };
    let Some(image) = elf.map_bias(header.start, header.pgoff) else {
        return Vec::new();
    };
    let base = image.wrapping_sub(elf.image_base());
    elf.executable_segments().filter_map(|segment| part(segment, base, file, start, end)).collect()
}

fn part(segment: &Segment, base: u64, file: FileId, start: u64, end: u64) -> Option<Mapping> {
    let first = base.wrapping_add(segment.vaddr) & !(PAGE - 1);
    let in_page = segment.vaddr & (PAGE - 1);
    let bytes = segment.filesz.checked_add(in_page)?.checked_next_multiple_of(PAGE)?;
    let from = start.max(first);
    let to = end.min(first.checked_add(bytes)?);
    let pgoff = segment.offset.checked_sub(in_page)?.checked_add(from - first)?;
    (from < to).then_some(Mapping { start: from, end: to, pgoff, file })
}

/// Does memory hold what its file has there?
pub(crate) fn is_copy(memory: &Memory, files: &Files, mapping: &Mapping) -> bool {
    let Some(reader) = files.get(files.actual(mapping.file)).and_then(|file| file.reader()) else {
        return false;
    };
    let n_pages = (mapping.end - mapping.start) / PAGE;
    let n = n_pages.min(PAGES_MAX);
    let (mut here, mut there) = ([0; PAGE as usize], [0; PAGE as usize]);
    let is_same = (0..n).all(|at| {
        // The first and the last are among them.
        let within = at * (n_pages - 1) / (n - 1).max(1) * PAGE;
        let Ok(bytes) = reader.read_at(&mut there, mapping.pgoff + within) else {
            return false;
        };
        // A file may end within its last page.
        bytes > 0
            && memory.read(mapping.start + within, &mut here)
            && here.get(..bytes) == there.get(..bytes)
    });
    n > 0 && is_same
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(offset: u64, vaddr: u64, filesz: u64) -> Segment {
        Segment { kind: 1, flags: 5, offset, vaddr, filesz, memsz: filesz }
    }

    /// A segment where memory lies, and not beyond it.
    #[test]
    fn parts_of_segments() {
        let text = segment(0x1040, 0x401_040, 0x2fc0);
        let at = |start, end| part(&text, 0x10_0000, 7, start, end);
        let mapping = |start, end, pgoff| Some(Mapping { start, end, pgoff, file: 7 });
        assert_eq!(at(0x501_000, 0x504_000), mapping(0x501_000, 0x504_000, 0x1000));
        assert_eq!(at(0x400_000, 0x600_000), mapping(0x501_000, 0x504_000, 0x1000));
        assert_eq!(at(0x502_000, 0x503_000), mapping(0x502_000, 0x503_000, 0x2000));
        assert_eq!(at(0x504_000, 0x600_000), None);
        assert_eq!(at(0x400_000, 0x501_000), None);
    }

    /// The same bytes are a copy; one other byte in the first page or the last is none.
    #[test]
    fn copies_of_a_file() {
        let pid = std::process::id();
        let maps = crate::processes::maps_text(pid).expect("maps");
        let line = maps.lines().find(|line| line.contains(" r-xp ")).expect("text");
        let mut files = Files::default();
        let text = crate::processes::Executable::parse(line).expect("a mapping");
        let id = files.intern(text.identity(), text.path, pid);
        let id = files.open(id, pid, text.start, text.end);
        let mut copy = std::fs::read(text.path).expect("this program");
        copy.truncate(copy.len() / PAGE as usize * PAGE as usize);
        let start = copy.as_ptr() as u64;
        let end = start + copy.len() as u64;
        let mapping = Mapping { start, end, pgoff: 0, file: id };
        let memory = Memory::open(pid).expect("memory");
        assert!(is_copy(&memory, &files, &mapping));
        assert!(!is_copy(&memory, &files, &Mapping { file: 0, ..mapping.clone() }));
        assert!(!is_copy(&memory, &files, &Mapping { pgoff: PAGE, ..mapping.clone() }));
        for at in [7, copy.len() - 7] {
            copy[at] ^= 1;
            assert!(!is_copy(&memory, &files, &mapping), "{at}");
            copy[at] ^= 1;
        }
        assert!(is_copy(&memory, &files, &mapping));
    }

    /// No number of a file overflows.
    #[test]
    fn foreign_numbers() {
        for text in [
            segment(0, u64::MAX, u64::MAX),
            segment(0, 0x1040, 8),
            segment(u64::MAX, 0, 0x1000),
            segment(0x1000, u64::MAX - 0xfff, 0x10_0000),
        ] {
            for base in [0, 1 << 47, u64::MAX] {
                for end in [0, 0x2000, u64::MAX] {
                    let _ = part(&text, base, 7, 0, end);
                }
            }
        }
    }
}
