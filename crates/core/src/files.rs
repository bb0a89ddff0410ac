//! The files of code on this machine: one [`CodeFile`] each, shared by all processes.
//!
//! In: what the side-band or `/proc/PID/maps` says a mapping is. Out: a file id, and, once a
//! process that maps it is sampled, the open file, its unwind rows and how its image is mapped.
//!
//! # How it works
//! Identity is the build id where there is one, else device and inode. A mapping is only named at
//! first; the file is opened when a blob of mappings is built, through the process, so that
//! deleted and replaced files and other mount namespaces work, and kept open, so that it can be
//! named after its processes died. The vDSO is read from our own memory: it is the same everywhere.
//!
//! # Not handled
//! Two files with one build id and different text (a patched binary): they are taken for one.
//!
//! # Cost
//! An open and about six reads a file, once; a descriptor each. Above [`MAX_OPEN`] files those
//! that no sample hit are closed.

use hotframe_objects::{ElfFile, ReadAt, RowSource};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

/// Files kept open at once.
pub const MAX_OPEN: usize = 2048;

/// The path of an image that a process registered.
const IMAGE_PATH: &str = "[jit]";

/// What is learnt of a file beyond its headers and is no larger than this is kept.
const SMALL_BYTES: usize = 16 << 10;

/// Number of a file; 0 is none. Never reused.
pub type FileId = u32;

/// What is known of a mapping's file before it is opened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// GNU build id.
    BuildId(Vec<u8>),
    /// Device (major, minor), inode.
    Inode(u32, u32, u64),
    /// The same on a device without a number of its own (major 0: overlayfs, btrfs, tmpfs). The subvolumes
    /// of a btrfs are one such device, and each numbers its inodes from 256 on: a file is one only with its
    /// path, and with what that begins at, since containers may be snapshots of one subvolume. One that is seen
    /// from two roots is two files, unless they have a build id.
    Numberless {
        /// Minor number.
        minor: u32,
        /// Inode.
        inode: u64,
        /// Path without ` (deleted)`.
        path: Box<str>,
        /// Device of the process's root directory, as stat tells it (the subvolume's); 0: unknown.
        root: u64,
    },
    /// The vDSO.
    Vdso,
    /// An image that a process registered, rewritten: all of its bytes.
    Image(Arc<[u8]>),
}

impl Identity {
    /// The identity of a file that a process maps under a path: what a device and an inode leave open is
    /// added. `root` is asked for the process's [`root_device`] if that is needed.
    #[must_use]
    pub fn in_process(self, path: &str, root: impl FnOnce() -> u64) -> Identity {
        let Identity::Inode(0, minor, inode) = self else { return self };
        Identity::Numberless { minor, inode, path: linked_path(path).into(), root: root() }
    }

    /// Bytes on the heap: the table by identity has them once more.
    fn heap_bytes(&self) -> usize {
        2 * match self {
            Identity::BuildId(bytes) => bytes.capacity(),
            Identity::Numberless { path, .. } => path.len(),
            Identity::Inode(..) | Identity::Vdso | Identity::Image(_) => 0,
        }
    }
}

/// Device of a process's root directory, as stat tells it; 0: unknown.
pub fn root_device(pid: u32) -> u64 {
    std::fs::metadata(format!("/proc/{pid}/root")).map_or(0, |root| root.dev())
}

/// The path that a file had, without ` (deleted)`.
pub fn linked_path(path: &str) -> &str {
    path.strip_suffix(" (deleted)").unwrap_or(path)
}

/// Bytes of a file or of the vDSO's image.
#[derive(Debug, Clone)]
pub enum Reader {
    /// An open file.
    File(Arc<File>),
    /// An image read from memory.
    Bytes(Arc<[u8]>),
}

impl ReadAt for Reader {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Reader::File(file) => ReadAt::read_at(&**file, buf, offset),
            Reader::Bytes(bytes) => ReadAt::read_at(&**bytes, buf, offset),
        }
    }

    fn len(&self) -> u64 {
        match self {
            Reader::File(file) => ReadAt::len(&**file),
            Reader::Bytes(bytes) => ReadAt::len(&**bytes),
        }
    }
}

/// What opening gave.
#[derive(Debug)]
pub enum State {
    /// Not tried.
    Unopened,
    /// Open, with its rows.
    Open(Box<RowSource<Reader>>),
    /// Closed to save descriptors; can be opened again.
    Closed,
    /// It cannot be used, and why.
    Unusable(String),
    /// It turned out to be the file of this number, which has all the rest.
    Same(FileId),
}

/// A file of code.
#[derive(Debug)]
pub struct CodeFile {
    /// Path as its first process saw it, without ` (deleted)`.
    pub path: String,
    /// What was known of it first.
    pub identity: Identity,
    /// GNU build id; empty: none or not known yet.
    pub build_id: Vec<u8>,
    /// Open or not.
    pub state: State,
    /// A sample has a frame in it.
    pub is_sampled: bool,
    /// A process that mapped it: its root shows the file's own mount namespace.
    pub pid: u32,
    /// Bytes of rows built so far that could not be read.
    pub bad_fdes: u64,
    /// Rows of it were built lately: see [`Files::cool`].
    pub is_warm: bool,
}

/// All files.
#[derive(Debug, Default)]
pub struct Files {
    files: Vec<CodeFile>,
    by_identity: HashMap<Identity, FileId>,
    n_open: usize,
}

impl Files {
    /// Number of files known.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// No file is known.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The file of an id, also of one that it went by before its build id was known.
    pub fn get(&self, id: FileId) -> Option<&CodeFile> {
        self.files.get((self.actual(id) as usize).checked_sub(1)?)
    }

    /// The file of an id, to change.
    pub fn get_mut(&mut self, id: FileId) -> Option<&mut CodeFile> {
        let at = (self.actual(id) as usize).checked_sub(1)?;
        self.files.get_mut(at)
    }

    /// The id that a file goes by, as [`Self::open`] returned it.
    pub fn actual(&self, id: FileId) -> FileId {
        match (id as usize).checked_sub(1).and_then(|at| self.files.get(at)).map(|file| &file.state)
        {
            Some(&State::Same(other)) => other,
            _ => id,
        }
    }

    /// All files with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (FileId, &CodeFile)> {
        self.files.iter().enumerate().map(|(at, file)| (at as FileId + 1, file))
    }

    /// The id of a mapping's file, known or new; 0 when there is no room for more.
    pub fn intern(&mut self, identity: Identity, path: &str, pid: u32) -> FileId {
        let identity = identity.in_process(path, || root_device(pid));
        if let Some(&id) = self.by_identity.get(&identity) {
            return id;
        }
        if self.files.len() as u32 >= hotframe_abi::HF_FILE_ID_MAX {
            return 0;
        }
        let build_id = match &identity {
            Identity::BuildId(bytes) => bytes.clone(),
            _ => Vec::new(),
        };
        self.files.push(CodeFile {
            path: linked_path(path).to_owned(),
            identity: identity.clone(),
            build_id,
            state: State::Unopened,
            is_sampled: false,
            pid,
            bad_fdes: 0,
            is_warm: false,
        });
        let id = self.files.len() as FileId;
        self.by_identity.insert(identity, id);
        id
    }

    /// Opens a file through a mapping of a live process, if it is not open. Returns the id that it
    /// goes by from now on: a file first known by its inode may turn out to be one that is known
    /// by its build id.
    pub fn open(&mut self, id: FileId, pid: u32, start: u64, end: u64) -> FileId {
        let id = self.actual(id);
        let Some(file) = self.get_mut(id) else {
            return id;
        };
        if matches!(file.state, State::Open(_) | State::Unusable(_)) {
            return id;
        }
        file.pid = pid;
        let reader = if file.path == "[vdso]" {
            read_vdso()
        } else {
            open_mapped(pid, start, end, &file.path, &file.identity)
                .map(|file| Reader::File(Arc::new(file)))
        };
        let opened =
            reader.map_err(|cause| (cause.to_string(), is_passing(&cause))).and_then(|reader| {
                ElfFile::open(reader)
                    .and_then(RowSource::new)
                    .map_err(|cause| (crate::chain(&cause), false))
            });
        match opened {
            Ok(source) => {
                let build_id = source.file().build_id().unwrap_or_default().to_vec();
                if file.build_id.is_empty() && !build_id.is_empty() {
                    let known = Identity::BuildId(build_id.clone());
                    if let Some(&other) = self.by_identity.get(&known) {
                        for target in self.by_identity.values_mut().filter(|at| **at == id) {
                            *target = other;
                        }
                        // Mappings that name it go on to do so.
                        if let Some(file) = self.get_mut(id) {
                            file.state = State::Same(other);
                        }
                        return self.open(other, pid, start, end);
                    }
                    self.by_identity.insert(known, id);
                    if let Some(file) = self.get_mut(id) {
                        file.build_id = build_id;
                    }
                }
                if let Some(file) = self.get_mut(id) {
                    file.state = State::Open(Box::new(source));
                }
                self.n_open += 1;
                if self.n_open > MAX_OPEN {
                    self.close_unsampled(id);
                }
            }
            Err((why, true)) => {
                tracing::debug!(path = file.path, "not opened: {why}");
            }
            Err((why, false)) => file.state = State::Unusable(why),
        }
        id
    }

    /// Takes in an image that a process registered. Its number, which is that of an equal one if there is
    /// one, and whether it is new; 0 where there is no room for more.
    pub(crate) fn add_image(&mut self, bytes: Arc<[u8]>, pid: u32) -> (FileId, bool) {
        let known = self.files.len();
        let id = self.intern(Identity::Image(bytes.clone()), IMAGE_PATH, pid);
        if let Some(file) = self.get_mut(id)
            && matches!(file.state, State::Unopened)
        {
            file.state = match ElfFile::open(Reader::Bytes(bytes)).and_then(RowSource::new) {
                Ok(source) => State::Open(Box::new(source)),
                Err(cause) => State::Unusable(cause.to_string()),
            };
        }
        (id, self.files.len() > known)
    }

    /// Nobody shows an image any more. What no sample is in is given back; returns how many bytes. An equal
    /// one that comes later is another file.
    pub(crate) fn drop_image(&mut self, id: FileId) -> usize {
        let Some(file) = self.get_mut(id) else { return 0 };
        let none = Identity::Image(Arc::default());
        let identity = std::mem::replace(&mut file.identity, none);
        let Identity::Image(bytes) = &identity else {
            file.identity = identity;
            return 0;
        };
        let freed = if file.is_sampled { 0 } else { <[u8]>::len(bytes) };
        if freed > 0 {
            file.state = State::Closed;
        }
        self.by_identity.remove(&identity);
        freed
    }

    fn close_unsampled(&mut self, but: FileId) {
        for (at, file) in self.files.iter_mut().enumerate() {
            if at as FileId + 1 != but
                && !file.is_sampled
                && !file.is_image()
                && matches!(file.state, State::Open(_))
            {
                file.state = State::Closed;
                self.n_open -= 1;
            }
        }
    }

    /// To be called now and then: files of which no rows were built since the last call give back
    /// what only makes the next block faster, and, while all of them together hold more than
    /// `room_bytes`, what was learnt of them too (it is read again when it is needed). A machine that
    /// makes new executables all the time would fill memory with them.
    pub fn cool(&mut self, room_bytes: usize) {
        let mut held = self.heap_bytes();
        for file in &mut self.files {
            let is_warm = std::mem::take(&mut file.is_warm);
            let State::Open(source) = &mut file.state else { continue };
            let before = source.heap_bytes();
            if before == 0 || is_warm && held <= room_bytes {
                continue;
            }
            source.release();
            let reader = source.file().reader();
            if held > room_bytes
                && source.heap_bytes() > SMALL_BYTES
                && let Ok(anew) = ElfFile::open(reader.clone()).and_then(RowSource::new)
            {
                **source = anew;
            }
            held = (held + source.heap_bytes()).saturating_sub(before);
        }
    }

    /// Bytes of heap that files hold.
    pub fn heap_bytes(&self) -> usize {
        self.files
            .iter()
            .map(|file| {
                size_of::<CodeFile>()
                    + file.path.capacity()
                    + file.build_id.capacity()
                    + file.identity.heap_bytes()
                    + match &file.state {
                        State::Open(source) => {
                            let image = match source.file().reader() {
                                Reader::Bytes(bytes) => <[u8]>::len(bytes),
                                Reader::File(_) => 0,
                            };
                            size_of_val(&**source) + source.heap_bytes() + image
                        }
                        _ => 0,
                    }
            })
            .sum()
    }
}

impl CodeFile {
    /// It is an image that a process registered, not a file.
    pub fn is_image(&self) -> bool {
        matches!(self.identity, Identity::Image(_))
    }

    /// The open ELF file.
    pub fn elf(&self) -> Option<&ElfFile<Reader>> {
        match &self.state {
            State::Open(source) => Some(source.file()),
            _ => None,
        }
    }

    /// The open descriptor, for those who read names.
    pub fn reader(&self) -> Option<&Reader> {
        self.elf().map(ElfFile::reader)
    }
}

/// A failure that says nothing of the file: its process ended.
fn is_passing(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::NotFound)
        || matches!(cause.raw_os_error(), Some(libc::ESRCH | libc::EMFILE | libc::ENFILE))
}

/// Opens a mapped file: by the mapping itself (needs CAP_CHECKPOINT_RESTORE; deleted and replaced
/// files too), else by its path below the process's root, else by its path here. Each must be the
/// file that was mapped: the process may have become another meanwhile.
///
/// # Errors
/// None of them can be opened, or none is that file.
pub fn open_mapped(
    pid: u32,
    start: u64,
    end: u64,
    path: &str,
    identity: &Identity,
) -> io::Result<File> {
    let routes = [
        (format!("/proc/{pid}/map_files/{start:x}-{end:x}"), true),
        (format!("/proc/{pid}/root{path}"), false),
        (path.to_owned(), false),
    ];
    let mut first = None;
    for (route, is_mapping) in routes {
        match open_regular(Path::new(&route)) {
            Ok(file) => {
                let is_inode = |device, inode| is_inode(&file, device, inode, is_mapping, pid);
                let is_it = match identity {
                    Identity::BuildId(id) => {
                        ElfFile::open(&file).is_ok_and(|elf| elf.build_id() == Some(id))
                    }
                    &Identity::Inode(major, minor, inode) => is_inode((major, minor), inode),
                    &Identity::Numberless { minor, inode, .. } => is_inode((0, minor), inode),
                    Identity::Vdso | Identity::Image(_) => true,
                };
                if is_it {
                    return Ok(file);
                }
            }
            Err(cause) => first = first.or(Some(cause)),
        }
    }
    Err(first.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

/// Is an open file the one that the kernel says is mapped? Of a device without a number of its own stat
/// may tell another than that (`st_dev` is the subvolume's on btrfs, a layer's on overlayfs; before Linux
/// 6.8 overlayfs says its mappings to be of the layer): then the mapping itself is believed, and a path
/// by the device of the file system that it leads to.
fn is_inode(file: &File, device: (u32, u32), inode: u64, is_mapping: bool, pid: u32) -> bool {
    let Ok(meta) = file.metadata() else { return false };
    let found = (libc::major(meta.dev()), libc::minor(meta.dev()));
    let is_numberless = found.0 == 0 || device.0 == 0;
    meta.ino() == inode
        && (found == device
            || is_numberless && (is_mapping || device_of_mount(file, pid) == Some(device)))
}

/// Bytes of a list of mounts that are read.
const MOUNTS_MAX_BYTES: u64 = 4 << 20;

/// The device of the file system in which an open file lies, as the kernel knows it (`s_dev`): by its
/// mount, which the process or we see.
fn device_of_mount(file: &File, pid: u32) -> Option<(u32, u32)> {
    use std::io::Read as _;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    [format!("/proc/{pid}/mountinfo"), "/proc/self/mountinfo".to_owned()].iter().find_map(|list| {
        let mut mounts = Vec::new();
        File::open(list).ok()?.take(MOUNTS_MAX_BYTES).read_to_end(&mut mounts).ok()?;
        device_in(&String::from_utf8_lossy(&mounts), mount)
    })
}

/// `id parent major:minor …` (Documentation/filesystems/proc.rst, 3.5).
fn device_in(mounts: &str, mount: &str) -> Option<(u32, u32)> {
    let line = mounts.lines().find(|line| line.split(' ').next() == Some(mount))?;
    let (major, minor) = line.split(' ').nth(2)?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Opens a file that is one: never a FIFO or a device that somebody put there.
fn open_regular(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file)
}

/// The vDSO's image, from our own memory.
fn read_vdso() -> io::Result<Reader> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let range = maps
        .lines()
        .find(|line| line.ends_with("[vdso]"))
        .and_then(|line| line.split_once(' ')?.0.split_once('-'))
        .and_then(|(start, end)| {
            Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
        })
        .ok_or_else(|| io::Error::other("no vDSO in our own maps"))?;
    let mut bytes = vec![0; (range.1 - range.0).min(1 << 20) as usize];
    File::open("/proc/self/mem")?.read_exact_at(&mut bytes, range.0)?;
    Ok(Reader::Bytes(bytes.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What side-band and maps say of an open file.
    fn inode_of(file: &File) -> io::Result<Identity> {
        let meta = file.metadata()?;
        Ok(Identity::Inode(libc::major(meta.dev()), libc::minor(meta.dev()), meta.ino()))
    }

    /// The vDSO of this very machine is an ELF file with text.
    #[test]
    fn vdso_is_elf() {
        let elf = ElfFile::open(read_vdso().expect("readable")).expect("an ELF file");
        assert!(elf.executable_segments().count() > 0);
    }

    /// What files of which no rows are built hold goes, and their rows are the same afterwards.
    #[test]
    fn files_cool() {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("our own maps");
        let line = maps
            .lines()
            .find(|line| line.contains("/libc.so") && line.contains("r-xp"))
            .expect("a dynamically linked C library");
        let path = line.split_ascii_whitespace().nth(5).expect("a path");
        let identity = inode_of(&File::open(path).expect("readable")).expect("an inode");
        let mut files = Files::default();
        let id = files.intern(identity, path, std::process::id());
        let id = files.open(id, std::process::id(), 0, 0);
        let build = |files: &mut Files| {
            let file = files.get_mut(id).expect("it is known");
            file.is_warm = true;
            let State::Open(source) = &mut file.state else { panic!("it is open") };
            let blocks = 0..source.n_blocks();
            let rows = blocks.flat_map(|n| source.block(n).expect("rows").rows);
            rows.map(|row| (row.pc, row.kind, row.fp, row.cfa)).collect::<Vec<_>>()
        };
        let before = build(&mut files);
        let warm = files.heap_bytes();
        files.cool(usize::MAX);
        assert_eq!(files.heap_bytes(), warm, "its rows were built since the last time");
        files.cool(usize::MAX);
        let cool = files.heap_bytes();
        assert!(cool < warm, "{cool} {warm}");
        assert!(build(&mut files) == before);
        files.cool(0);
        assert!(files.heap_bytes() <= cool);
        assert!(build(&mut files) == before);
    }

    /// A file known by inode and by build id is one file.
    #[test]
    fn identities_join() {
        let mut files = Files::default();
        let exe = std::fs::read_link("/proc/self/exe").expect("our own path");
        let file = File::open(&exe).expect("readable");
        let elf = ElfFile::open(Reader::File(Arc::new(File::open(&exe).expect("readable"))))
            .expect("an ELF file");
        let Some(build_id) = elf.build_id().map(<[u8]>::to_vec) else {
            return;
        };
        let path = exe.to_string_lossy();
        let a = files.intern(Identity::BuildId(build_id), &path, std::process::id());
        let b = files.intern(inode_of(&file).expect("an inode"), &path, std::process::id());
        assert_ne!(a, b);
        assert_eq!(files.open(b, std::process::id(), 0, 0), a);
        assert!(files.get(b).and_then(CodeFile::elf).is_some(), "mappings still name it");
        assert_eq!(files.intern(inode_of(&file).expect("an inode"), &path, 1), a);
    }

    /// Subvolumes of one btrfs number their inodes alike: there a number is a file only with its path.
    #[test]
    fn inodes_of_devices_without_a_number() {
        let mut files = Files::default();
        let mut of = |major, path| files.intern(Identity::Inode(major, 41, 257), path, 1);
        let ours = of(0, "/usr/bin/a");
        assert_eq!(of(0, "/usr/bin/a (deleted)"), ours);
        assert_ne!(of(0, "/usr/lib/b.so"), ours);
        assert_eq!(of(8, "/usr/bin/a"), of(8, "/usr/lib/b.so"), "two links to one file");
    }

    /// What mounts say of a file system is what stat says of a file in an ordinary one, and a file whose
    /// device stat cannot tell is believed by that.
    #[test]
    fn devices_of_mounts() {
        let file = File::open("/proc/self/exe").expect("readable");
        let found = device_of_mount(&file, std::process::id()).expect("a mount");
        let meta = file.metadata().expect("known");
        let is_ours = |device, inode| is_inode(&file, device, inode, false, std::process::id());
        assert!(is_ours(found, meta.ino()) && !is_ours(found, meta.ino() + 1));
        assert!(!is_ours((0, u32::MAX), meta.ino()));
        if libc::major(meta.dev()) != 0 {
            assert_eq!(found, (libc::major(meta.dev()), libc::minor(meta.dev())));
        }
        let mounts = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n210 21 0:41 / /a rw - btrfs - rw\n";
        assert_eq!(device_in(mounts, "210"), Some((0, 41)));
        assert_eq!(device_in(mounts, "2"), None);
    }
}
