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
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::bytes::Bytes;
use crate::dwarf::{self, Debug, Place};
use crate::elf::{AltLink, Elf, SHT_SYMTAB};
use crate::{Context, Error, Report};

/// debuginfod servers, their cache and bounds. Clones share what was learnt of the servers.
///
/// A name that is missing must not cost the recording: a server that cannot be reached or does not go
/// on is asked no more, and there is one end of time for all files.
#[derive(Clone, Debug)]
pub struct Debuginfod {
    /// Base URLs, asked in this order.
    pub urls: Vec<String>,
    /// Directory of the cache: `BUILDID/debuginfo`, as elfutils lays it out.
    pub cache: PathBuf,
    /// Most bytes of one file.
    pub max_bytes: u64,
    /// Longest wait for a connection, for an answer's head, and for each further piece of it.
    pub wait_max: Duration,
    /// Most time for all files.
    pub time_max: Duration,
    learnt: Arc<Mutex<Learnt>>,
}

/// What was learnt of the servers.
#[derive(Debug, Default)]
struct Learnt {
    /// Base URLs that are asked no more.
    given_up: Vec<String>,
    /// Time that fetching took so far.
    spent: Duration,
    /// It is over, and that was said.
    is_over: bool,
}

/// Why a file was not fetched.
enum Failure {
    /// Others need not be asked for there.
    Server(String),
    /// Others may be there.
    File(String),
}

/// For so long a server's "not found" is believed: elfutils' `cache_miss_s`.
const MISS_TIME: Duration = Duration::from_secs(600);
/// elfutils waits 90 s for 100 KB. It serves debuggers, whose user waits for just that; here a profile
/// waits to be written, and what comes too late is in the server's cache the next time.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// As much as one file was given where each had its own.
const TIME_MAX: Duration = Duration::from_secs(60);

impl Debuginfod {
    /// Servers and a cache, at most 1 GiB a file, 10 s without progress and 60 s in all.
    pub fn new(urls: Vec<String>, cache: impl Into<PathBuf>) -> Debuginfod {
        Debuginfod {
            urls,
            cache: cache.into(),
            max_bytes: 1 << 30,
            wait_max: WAIT_MAX,
            time_max: TIME_MAX,
            learnt: Arc::default(),
        }
    }

    /// As `DEBUGINFOD_URLS`, `DEBUGINFOD_CACHE_PATH`, `DEBUGINFOD_MAXSIZE` (bytes),
    /// `DEBUGINFOD_TIMEOUT` (seconds without progress) and `DEBUGINFOD_MAXTIME` (seconds, here of all
    /// files) say; `None` without URLs or without a place for a cache.
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
        let mut servers = Debuginfod::new(urls, cache);
        let seconds = |name: &str| number(name).map(Duration::from_secs);
        servers.max_bytes = number("DEBUGINFOD_MAXSIZE").unwrap_or(servers.max_bytes);
        servers.wait_max = seconds("DEBUGINFOD_TIMEOUT").unwrap_or(servers.wait_max);
        servers.time_max = seconds("DEBUGINFOD_MAXTIME").unwrap_or(servers.time_max);
        Some(servers)
    }

    /// The debug file of a build id, from the cache or a server.
    fn fetch(&self, build_id: &[u8], report: &mut Report) -> Option<(File, PathBuf)> {
        let id = hex(build_id);
        let directory = self.cache.join(&id);
        let path = directory.join("debuginfo");
        if let Ok(file) = File::open(&path) {
            let metadata = report.note(file.metadata().map_err(Error::from))?;
            if metadata.len() > 0 {
                return Some((file, path));
            }
            let age = metadata.modified().ok().and_then(|m| m.elapsed().ok());
            if age.is_some_and(|age| age < MISS_TIME) {
                return None;
            }
        }
        let file = self.ask(&id, &directory, &path, report)?;
        Some((file, path))
    }

    /// Asks the servers. What each failed by is said once for each that is given up.
    fn ask(&self, id: &str, directory: &Path, path: &Path, report: &mut Report) -> Option<File> {
        let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all_have_not = true;
        for base in &self.urls {
            if learnt.is_over {
                return None;
            }
            if learnt.given_up.contains(base) {
                all_have_not = false;
                continue;
            }
            let url = format!("{}/buildid/{id}/debuginfo", base.trim_end_matches('/'));
            let began = Instant::now();
            let left = self.time_max.saturating_sub(learnt.spent);
            let answer = self.download(&url, directory, path, left);
            learnt.spent += began.elapsed();
            let mut why = match answer {
                Ok(Some(file)) => return Some(file),
                Ok(None) => continue,
                Err(Failure::File(why)) => why,
                Err(Failure::Server(why)) => {
                    learnt.given_up.push(base.clone());
                    format!("{why}; this server is asked no more")
                }
            };
            if learnt.spent >= self.time_max {
                learnt.is_over = true;
                let seconds = self.time_max.as_secs_f64();
                why = format!("the {seconds} s for all files are over; no more are asked for");
            }
            all_have_not = false;
            report.note::<()>(Err(Error::Fetch { url, why }));
        }
        if all_have_not {
            let kept = fs::create_dir_all(directory).and_then(|()| File::create(path));
            report.note(kept.map_err(Error::from));
        }
        None
    }

    fn download(
        &self,
        url: &str,
        directory: &Path,
        path: &Path,
        left: Duration,
    ) -> Result<Option<File>, Failure> {
        let wait = Some(self.wait_max);
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(left))
            .timeout_resolve(wait)
            .timeout_connect(wait)
            .timeout_send_request(wait)
            .timeout_recv_response(wait)
            .timeout_per_read(wait)
            .http_status_as_error(false)
            .max_redirects(5)
            .build()
            .into();
        let response = agent.get(url).call().map_err(|e| Failure::Server(e.to_string()))?;
        match response.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            status => return Err(Failure::File(format!("status {status}"))),
        }
        fs::create_dir_all(directory)?;
        let part = directory.join(format!("debuginfo.{}", std::process::id()));
        let mut file =
            File::options().read(true).write(true).create(true).truncate(true).open(&part)?;
        let mut body = response.into_body().into_reader();
        let stored = self.store(&mut body, &mut file).and_then(|()| Ok(fs::rename(&part, path)?));
        if stored.is_err() {
            // Nothing half-written stays; the error that matters is the first.
            let _ = fs::remove_file(&part);
        }
        stored.map(|()| Some(file))
    }

    fn store(&self, body: &mut impl Read, file: &mut File) -> Result<(), Failure> {
        let mut buffer = vec![0; 64 << 10];
        let mut n_bytes = 0;
        loop {
            let n = match body.read(&mut buffer) {
                Ok(0) => return Ok(file.flush()?),
                Ok(n) => n,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                Err(why) => {
                    let cause = why.get_ref().and_then(|cause| cause.downcast_ref());
                    let is_late = matches!(cause, Some(ureq::Error::Timeout(_)));
                    let why = why.to_string();
                    return Err(if is_late { Failure::Server(why) } else { Failure::File(why) });
                }
            };
            n_bytes += n as u64;
            if n_bytes > self.max_bytes {
                return Err(io::Error::from(io::ErrorKind::FileTooLarge).into());
            }
            file.write_all(&buffer[..n])?;
        }
    }
}

impl From<io::Error> for Failure {
    fn from(cause: io::Error) -> Failure {
        Failure::File(cause.to_string())
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
    let (file, path) = server.fetch(id, report)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A server that does so with each connection, and how many it had.
    fn server(serve: impl Fn(TcpStream) + Send + 'static) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let n_asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&n_asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counter.fetch_add(1, Ordering::Relaxed);
                serve(stream);
            }
        });
        (url, n_asked)
    }

    /// Keeps what it accepts, and says nothing.
    fn silent() -> (String, Arc<AtomicUsize>) {
        let kept = Mutex::new(Vec::new());
        server(move |stream| kept.lock().expect("nobody failed").push(stream))
    }

    /// Answers with so many pieces of a KiB, each after a pause.
    fn slow(n_pieces: usize, pause: Duration) -> (String, Arc<AtomicUsize>) {
        server(move |mut stream| {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", n_pieces << 10);
            let _ = stream.read(&mut [0; 1024]);
            let mut sent = stream.write_all(head.as_bytes());
            for _ in 0..n_pieces {
                if sent.is_err() {
                    break;
                }
                std::thread::sleep(pause);
                sent = stream.write_all(&[7; 1024]);
            }
        })
    }

    /// Asks for files until one comes; with it, what was said.
    fn fetch(servers: &Debuginfod, n_files: u8) -> (Option<File>, Vec<String>) {
        let mut report = Report::default();
        let file = (0..n_files).find_map(|n| servers.fetch(&[n; 20], &mut report));
        (file.map(|(file, _)| file), report.problems.iter().map(ToString::to_string).collect())
    }

    fn servers(test: &str, urls: Vec<String>) -> Debuginfod {
        let cache = format!("hotframe-debuginfod-{test}-{}", std::process::id());
        Debuginfod::new(urls, std::env::temp_dir().join(cache))
    }

    /// Servers that accept and say nothing cost their wait once, however many files there are; nothing
    /// is remembered of the files.
    #[test]
    fn silent_servers_are_given_up() {
        let (first, second) = (silent(), silent());
        let mut servers = servers("silent", vec![first.0, second.0]);
        servers.wait_max = Duration::from_millis(200);
        let began = Instant::now();
        let (file, problems) = fetch(&servers.clone(), 100);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(file.is_none());
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems.iter().all(|why| why.contains("asked no more")), "{problems:?}");
        assert_eq!(fetch(&servers, 100).1, [""; 0], "it is said once");
        assert_eq!((first.1.load(Ordering::Relaxed), second.1.load(Ordering::Relaxed)), (1, 1));
        assert!(!servers.cache.exists());
    }

    /// A server where nobody listens is given up, too, and the next one is asked.
    #[test]
    fn one_that_is_not_there() {
        let gone = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
        let (url, _) = slow(1, Duration::ZERO);
        let servers = servers("gone", vec![format!("http://{gone}"), url]);
        let (file, problems) = fetch(&servers, 1);
        assert!(file.is_some());
        assert_eq!(problems.len(), 1, "{problems:?}");
        let _ = fs::remove_dir_all(&servers.cache);
    }

    /// A server that is slow and goes on is waited for, longer than for one that stands still.
    #[test]
    fn a_slow_server_serves() {
        let (url, _) = slow(8, Duration::from_millis(200));
        let mut servers = servers("slow", vec![url]);
        servers.wait_max = Duration::from_secs(1);
        let began = Instant::now();
        let (file, problems) = fetch(&servers, 1);
        assert!(began.elapsed() > servers.wait_max, "it was not slow");
        let file = file.unwrap_or_else(|| panic!("{problems:?}"));
        assert_eq!(file.metadata().expect("a file").len(), 8 << 10);
        let _ = fs::remove_dir_all(&servers.cache);
    }

    /// One that never comes to an end costs the time of all files, and no file more than that.
    #[test]
    fn time_is_for_all_files() {
        let (url, n_asked) = slow(1 << 20, Duration::from_millis(20));
        let mut servers = servers("endless", vec![url]);
        servers.time_max = Duration::from_millis(500);
        let began = Instant::now();
        let (file, problems) = fetch(&servers, 100);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(file.is_none());
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("0.5 s for all files"), "{problems:?}");
        assert_eq!(n_asked.load(Ordering::Relaxed), 1);
        let left = fs::read_dir(servers.cache.join(hex(&[0; 20]))).expect("it began").count();
        assert_eq!(left, 0, "nothing half-written stays");
        let _ = fs::remove_dir_all(&servers.cache);
    }
}
