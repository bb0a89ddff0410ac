//! `/proc/PID/maps` and its lines.
//!
//! In: the text as the kernel prints it (Documentation/filesystems/proc.rst), up to [`MAPS_MAX_BYTES`].
//! Out: executable mappings with the identity of their file, and text that may have been copied. What
//! is no line of it is passed over.
//!
//! # Cost
//! One open and a read for each 32 KiB, a few hundred lines for most processes.

use super::mappings::fit;
use super::{COPIED_MAX, Mapping};
use crate::copied;
use crate::files::{FileId, Files, Identity, root_device};
use std::cell::LazyCell;
use std::io::BufRead as _;

/// Longest maps file that is read.
const MAPS_MAX_BYTES: u64 = 64 << 20;

/// What `/proc/PID/maps` says.
pub(super) struct Maps {
    /// Executable mappings, sorted.
    pub(super) mappings: Vec<Mapping>,
    /// How many found no room among them.
    pub(super) without_room: u64,
    /// Text of files where anonymous code lies.
    pub(super) copied: Vec<Mapping>,
}

/// The executable mappings of a live process.
pub(super) fn read_maps(pid: u32, files: &mut Files) -> Option<Maps> {
    let mut reader = std::io::BufReader::with_capacity(32 << 10, open_maps(pid)?);
    let root = LazyCell::new(|| root_device(pid));
    let (mut mappings, mut without_room, mut copied) = (Vec::new(), 0, Vec::new());
    let mut line = Vec::new();
    // The line of the last file whose first bytes, an ELF's header, are mapped, and what it says.
    let mut header = String::new();
    let mut of_header: Option<Mapping> = None;
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).ok()? == 0 {
            break;
        }
        let line = String::from_utf8_lossy(&line);
        let Some(mapping) = parse_maps_line(&line, pid, || *root, files) else {
            if line.contains(" 00000000 ") && line.contains('/') {
                header.clear();
                header.push_str(&line);
                of_header = None;
            }
            continue;
        };
        if mapping.file == 0 && copied.len() < COPIED_MAX {
            of_header = of_header.or_else(|| {
                let (_, of) = Executable::of_any(&header)?;
                let file = file_of(&of, pid, || *root, files);
                Some(Mapping { start: of.start, end: of.end, pgoff: of.pgoff, file })
            });
            if let Some(header) = &of_header {
                copied.extend(copied::parts(files, pid, header, mapping.start, mapping.end));
            }
        }
        // In the order of the file, so that a process of very many costs one pass.
        mappings.push(mapping);
        without_room += fit(&mut mappings, |mapping| mapping.file == 0);
    }
    (!mappings.is_empty()).then_some(Maps { mappings, without_room, copied })
}

/// An executable mapping, as a line of `/proc/PID/maps` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Executable<'a> {
    /// First byte.
    pub start: u64,
    /// First byte behind it.
    pub end: u64,
    /// Where `start` lies in the file.
    pub pgoff: u64,
    /// Device (major, minor).
    pub device: (u32, u32),
    /// 0: it is of no file.
    pub inode: u64,
    /// With ` (deleted)`, if it was; `[vdso]`, `[anon:…]` or nothing where there is no file.
    pub path: &'a str,
}

impl<'a> Executable<'a> {
    /// `start-end perms offset major:minor inode path` (Documentation/filesystems/proc.rst).
    pub fn parse(line: &'a str) -> Option<Executable<'a>> {
        Executable::of_any(line).filter(|(is_executable, _)| *is_executable).map(|(_, it)| it)
    }

    /// The same of any mapping, and whether it is executable.
    fn of_any(line: &'a str) -> Option<(bool, Executable<'a>)> {
        let line = line.trim_end_matches('\n');
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let is_executable = fields.next()?.as_bytes().get(2) == Some(&b'x');
        let pgoff = fields.next()?;
        let (major, minor) = fields.next()?.split_once(':')?;
        let inode = fields.next()?.parse().ok()?;
        let path = fields.next().unwrap_or_default().trim_start();
        let address = |text| u64::from_str_radix(text, 16).ok();
        let number = |text| u32::from_str_radix(text, 16).ok();
        let mapping = Executable {
            start: address(start)?,
            end: address(end)?,
            pgoff: address(pgoff)?,
            device: (number(major)?, number(minor)?),
            inode,
            path,
        };
        Some((is_executable, mapping))
    }

    /// What is known of its file before that is opened.
    pub fn identity(&self) -> Identity {
        Identity::Inode(self.device.0, self.device.1, self.inode)
    }
}

/// What `/proc/PID/maps` says, up to a bound. Names are bytes: what of them is not UTF-8 is replaced.
pub fn maps_text(pid: u32) -> Option<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    open_maps(pid)?.read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn open_maps(pid: u32) -> Option<std::io::Take<std::fs::File>> {
    let file = std::fs::File::open(format!("/proc/{pid}/maps")).ok()?;
    Some(std::io::Read::take(file, MAPS_MAX_BYTES))
}

fn parse_maps_line(
    line: &str,
    pid: u32,
    root: impl FnOnce() -> u64,
    files: &mut Files,
) -> Option<Mapping> {
    let mapping = Executable::parse(line)?;
    let Executable { start, end, pgoff, path, .. } = mapping;
    if path == "[vsyscall]" {
        return None;
    }
    Some(Mapping { start, end, pgoff, file: file_of(&mapping, pid, root, files) })
}

fn file_of(
    mapping: &Executable<'_>,
    pid: u32,
    root: impl FnOnce() -> u64,
    files: &mut Files,
) -> FileId {
    let path = mapping.path;
    if path == "[vdso]" {
        files.intern(Identity::Vdso, path, pid)
    } else if mapping.inode != 0 && is_file(path) {
        files.intern(mapping.identity().in_process(path, root), path, pid)
    } else {
        0
    }
}

/// A path that names a file, as opposed to `//anon`, `[heap]`, `anon_inode:…`.
pub(super) fn is_file(path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//anon")
        && !path.starts_with("/dev/")
        && !path.starts_with("/SYSV")
        && !path.starts_with("/anon_hugepage")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of maps as the kernel prints them.
    #[test]
    fn maps_lines() {
        let mut files = Files::default();
        let line = "7f0000001000-7f0000002000 r-xp 00001000 fe:00 1234   /usr/lib/a b.so\n";
        let mapping = parse_maps_line(line, 1, || 0, &mut files).expect("an executable mapping");
        assert_eq!((mapping.start, mapping.pgoff), (0x7f00_0000_1000, 0x1000));
        assert_eq!(files.get(mapping.file).expect("a file").path, "/usr/lib/a b.so");
        assert_eq!(parse_maps_line("00-10 rw-p 0 00:00 0 \n", 1, || 0, &mut files), None);
        let anon = parse_maps_line("1000-2000 rwxp 00000000 00:00 0 \n", 1, || 0, &mut files);
        assert_eq!(anon.expect("executable").file, 0);
        assert_eq!(parse_maps_line("garbage", 1, || 0, &mut files), None);
    }
}
