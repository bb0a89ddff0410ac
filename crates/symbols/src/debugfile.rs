//! Where debug information lies when it is not in the file: a debugger's places, in its order.
//!
//! In: a file, the [`Context`]. Out: an open debug file that belongs to it.
//!
//! 1. `DIR/.build-id/xx/yyyy.debug` for each debug directory; its build id must be the file's.
//! 2. `.gnu_debuglink`: beside the file, in `.debug/` beside it, in `DIR/` + the file's directory; by
//!    build id if both have one, else by the CRC-32 that the link gives.
//! 3. A debuginfod server, or what one gave before ([`Debuginfod`]).
//!
//! Each place is looked for in the process's mount namespace first, resolved as if its root were
//! ours, then in our own. A file counts only if it has a symbol table or DWARF. `.gnu_debugdata` and
//! the supplementary file of dwz (`.gnu_debugaltlink`, by build id) are opened here too.
//!
//! # Sources
//! GDB manual, "Debugging information in separate files" and "MiniDebugInfo"; debuginfod(8),
//! debuginfod_find_debuginfo(3) of elfutils 0.192 for the protocol, the variables and the cache.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::bytes::Bytes;
use crate::dwarf::{self, Debug, Place};
use crate::elf::{AltLink, Elf, SHT_SYMTAB};
use crate::{Context, Error, Report};

/// debuginfod servers, their cache and bounds.
#[derive(Clone, Debug)]
pub struct Debuginfod {
    /// Base URLs, asked in this order.
    pub urls: Vec<String>,
    /// Directory of the cache: `BUILDID/debuginfo`, as elfutils lays it out.
    pub cache: PathBuf,
    /// Most bytes of one file.
    pub max_bytes: u64,
    /// Most time for one file.
    pub time_max: Duration,
}

/// For so long a server's "not found" is believed: elfutils' `cache_miss_s`.
const MISS_TIME: Duration = Duration::from_secs(600);

impl Debuginfod {
    /// As `DEBUGINFOD_URLS`, `DEBUGINFOD_CACHE_PATH`, `DEBUGINFOD_MAXSIZE` (bytes) and
    /// `DEBUGINFOD_MAXTIME` (seconds) say; `None` without URLs or without a place for a cache.
    /// Otherwise at most 1 GiB and 60 s a file.
    pub fn from_environment() -> Option<Debuginfod> {
        let text = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let number = |name: &str| text(name)?.trim().parse::<u64>().ok().filter(|&n| n > 0);
        let urls: Vec<String> =
            text("DEBUGINFOD_URLS")?.split_whitespace().map(str::to_owned).collect();
        let cache = text("DEBUGINFOD_CACHE_PATH").map(PathBuf::from).or_else(|| {
            let base = text("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .or_else(|| Some(PathBuf::from(text("HOME")?).join(".cache")))?;
            Some(base.join("debuginfod_client"))
        })?;
        if urls.is_empty() {
            return None;
        }
        Some(Debuginfod {
            urls,
            cache,
            max_bytes: number("DEBUGINFOD_MAXSIZE").unwrap_or(1 << 30),
            time_max: Duration::from_secs(number("DEBUGINFOD_MAXTIME").unwrap_or(60)),
        })
    }

    /// The debug file of a build id, from the cache or a server.
    fn fetch(&self, build_id: &[u8]) -> Result<Option<(File, PathBuf)>, Error> {
        let id = hex(build_id);
        let directory = self.cache.join(&id);
        let path = directory.join("debuginfo");
        if let Ok(file) = File::open(&path) {
            let metadata = file.metadata()?;
            if metadata.len() > 0 {
                return Ok(Some((file, path)));
            }
            let age = metadata.modified().ok().and_then(|m| m.elapsed().ok());
            if age.is_some_and(|age| age < MISS_TIME) {
                return Ok(None);
            }
        }
        let mut failed = None;
        for base in &self.urls {
            let url = format!("{}/buildid/{id}/debuginfo", base.trim_end_matches('/'));
            match self.download(&url, &directory, &path) {
                Ok(Some(file)) => return Ok(Some((file, path))),
                Ok(None) => {}
                Err(why) => failed = Some(Error::Fetch { url, why }),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => {
                // All servers said that they do not have it.
                fs::create_dir_all(&directory)?;
                File::create(&path)?;
                Ok(None)
            }
        }
    }

    fn download(&self, url: &str, directory: &Path, path: &Path) -> Result<Option<File>, String> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(self.time_max))
            .http_status_as_error(false)
            .max_redirects(5)
            .build()
            .into();
        let response = agent.get(url).call().map_err(|e| e.to_string())?;
        match response.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            status => return Err(format!("status {status}")),
        }
        let store = || -> io::Result<File> {
            fs::create_dir_all(directory)?;
            let part = directory.join(format!("debuginfo.{}", std::process::id()));
            let mut file =
                File::options().read(true).write(true).create(true).truncate(true).open(&part)?;
            let mut body = response.into_body().into_reader().take(self.max_bytes + 1);
            let stored = io::copy(&mut body, &mut file).and_then(|n| {
                if n > self.max_bytes {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
                file.flush()?;
                fs::rename(&part, path)
            });
            if stored.is_err() {
                // Nothing half-written stays; the error that matters is the first.
                let _ = fs::remove_file(&part);
            }
            stored.map(|()| file)
        };
        store().map(Some).map_err(|e| e.to_string())
    }
}

pub(crate) fn has_dwarf(elf: &Elf) -> bool {
    [".debug_info", ".zdebug_info"].iter().any(|n| elf.section(n).is_some_and(|s| s.size > 0))
}

pub(crate) fn has_symtab(elf: &Elf) -> bool {
    elf.sections().iter().any(|s| s.kind == SHT_SYMTAB && s.size > 24)
}

/// A separate debug file.
pub(crate) struct Found {
    pub(crate) elf: Elf,
    pub(crate) path: PathBuf,
}

/// The debug file of `elf`.
pub(crate) fn find(elf: &Elf, context: &Context, report: &mut Report) -> Option<Found> {
    let build_id = elf.build_id();
    let same_id = |other: &Elf| Some(build_id? == other.build_id()?);
    let useful = |other: &Elf| has_dwarf(other) || (has_symtab(other) && !has_symtab(elf));
    if let Some(id) = build_id {
        for path in build_id_paths(context, id) {
            for file in open_all(context, &path) {
                if let Ok(other) = file.and_then(Elf::new)
                    && same_id(&other) == Some(true)
                    && useful(&other)
                {
                    return Some(Found { elf: other, path: path.clone() });
                }
            }
        }
    }
    if let Some((name, crc)) = report.note(elf.debug_link()).flatten()
        && !name.is_empty()
        && !name.contains(&b'/')
    {
        for path in link_paths(context, &name) {
            for file in open_all(context, &path) {
                if let Ok(other) = file.and_then(Elf::new)
                    && useful(&other)
                    && same_id(&other)
                        .unwrap_or_else(|| checksum(other.reader()).is_ok_and(|c| c == crc))
                {
                    return Some(Found { elf: other, path: path.clone() });
                }
            }
        }
    }
    let (Some(server), Some(id)) = (&context.debuginfod, build_id) else {
        return None;
    };
    let (file, path) = report.note(server.fetch(id)).flatten()?;
    let other = Bytes::of_file(file).map_err(Error::from).and_then(Elf::new);
    let other = report.note(other)?;
    useful(&other).then_some(Found { elf: other, path })
}

fn build_id_paths(context: &Context, id: &[u8]) -> Vec<PathBuf> {
    let hex = hex(id);
    let (head, tail) = hex.split_at(2.min(hex.len()));
    let name = format!(".build-id/{head}/{tail}.debug");
    context.debug_directories.iter().map(|d| d.join(&name)).collect()
}

fn link_paths(context: &Context, name: &[u8]) -> Vec<PathBuf> {
    let name = OsStr::from_bytes(name);
    let directory = context.path.parent().unwrap_or(Path::new("/"));
    let mut paths = vec![directory.join(name), directory.join(".debug").join(name)];
    let inside = directory.strip_prefix("/").unwrap_or(directory);
    paths.extend(context.debug_directories.iter().map(|d| d.join(inside).join(name)));
    paths
}

/// The regular files of that path: in the process's mount namespace, then in ours.
fn open_all(context: &Context, path: &Path) -> impl Iterator<Item = Result<Bytes, Error>> {
    let theirs = context.root.as_deref().map(|root| open_below(root, path));
    theirs.into_iter().chain(std::iter::once_with(|| open(CWD, path, ResolveFlags::empty())))
}

fn open_below(root: &Path, path: &Path) -> Result<Bytes, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty()).map_err(io::Error::from)?;
    open(root, path, ResolveFlags::IN_ROOT)
}

fn open(
    directory: impl rustix::fd::AsFd,
    path: &Path,
    resolve: ResolveFlags,
) -> Result<Bytes, Error> {
    // Not to hang on a FIFO or a terminal that somebody put there.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file: File = rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve)
        .map_err(io::Error::from)?
        .into();
    if !file.metadata()?.is_file() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
    }
    Ok(Bytes::of_file(file)?)
}

/// CRC-32 of a file, as `.gnu_debuglink` has it.
fn checksum(bytes: &Bytes) -> io::Result<u32> {
    let mut crc = flate2::Crc::new();
    let mut buffer = vec![0; 64 << 10];
    let mut at = 0;
    loop {
        let n = bytes.read_at(at, &mut buffer)?;
        if n == 0 {
            return Ok(crc.sum());
        }
        crc.update(&buffer[..n]);
        at += n as u64;
    }
}

/// Dictionary that unpacking may need: `xz -9` has 64 MiB, but no minidebuginfo is as large.
const XZ_MAX_KIB: u32 = 80 << 10;

/// The ELF file in `.gnu_debugdata`.
pub(crate) fn minidebuginfo(elf: &Elf, context: &Context) -> Result<Option<Elf>, Error> {
    const NAME: &str = ".gnu_debugdata";
    let Some(section) = elf.section(NAME) else {
        return Ok(None);
    };
    let unpacked = lzma_rust2::XzReader::new_mem_limit(elf.raw(section).reader(), true, XZ_MAX_KIB);
    let bytes = Bytes::of_stream(unpacked, &context.scratch, context.unpacked_max_bytes)
        .map_err(|cause| Error::Decompress { what: NAME.to_owned(), cause })?;
    Elf::new(bytes).map(Some)
}

/// Names addresses by the DWARF of `elf`, which lies at `path`.
pub(crate) fn name_by_dwarf(
    elf: &Elf,
    path: &Path,
    context: &Context,
    deadline: Instant,
    addresses: &[u64],
    found: &mut impl FnMut(usize, Place),
) -> Result<(), Error> {
    let (scratch, max_bytes) = (context.scratch.as_path(), context.unpacked_max_bytes);
    let mut dwarf = dwarf::load(elf, scratch, max_bytes)?;
    let mut without_sup = None;
    if let Some(sup) = supplementary(elf, path, context)? {
        match dwarf::load(&sup, scratch, max_bytes) {
            Ok(sup) => dwarf.set_sup(sup),
            // What is in the file itself is still worth having.
            Err(error) => without_sup = Some(error),
        }
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".dwp");
    let package = first(context, Path::new(&name));
    let package = match package {
        Some(package) => Some(dwarf::load_package(&package, scratch, max_bytes)?),
        None => None,
    };
    let mut open_split = |path: &Path| open_all(context, path).flatten().next();
    let mut debug = Debug::new(dwarf, package, deadline, &mut open_split);
    debug.name(addresses, scratch, max_bytes, found)?;
    without_sup.map_or(Ok(()), Err)
}

fn first(context: &Context, path: &Path) -> Option<Elf> {
    open_all(context, path).find_map(|bytes| Elf::new(bytes.ok()?).ok())
}

/// The file that dwz moved common parts to.
fn supplementary(elf: &Elf, path: &Path, context: &Context) -> Result<Option<Elf>, Error> {
    let Some(AltLink { name, build_id: id }) = elf.debug_alt_link()? else {
        return Ok(None);
    };
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut paths = vec![directory.join(OsStr::from_bytes(&name))];
    paths.extend(build_id_paths(context, &id));
    for path in paths {
        for bytes in open_all(context, &path) {
            if let Ok(other) = bytes.and_then(Elf::new)
                && other.build_id() == Some(&id)
            {
                return Ok(Some(other));
            }
        }
    }
    Ok(None)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
