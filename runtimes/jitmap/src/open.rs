//! Opens what a process leaves: through the process, and nothing that was put there to hurt.
//!
//! Never through a link at the end of the path, never out of the process's root, never waiting (a
//! FIFO), no device; and only what belongs to the process's user or to root, since anybody may write
//! a file of any name into `/tmp`.

use crate::Error;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Bytes of `/proc/PID/maps` that are looked through.
const MAPS_MAX_BYTES: u64 = 16 << 20;

/// Who a process is, to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Its pid in its own pid namespace.
    pub(crate) own_pid: u32,
    /// Its effective user, as we see it.
    pub(crate) user: u32,
    /// When it started, CLOCK_BOOTTIME, in steps of [`START_STEP_NS`].
    pub(crate) start_ns: u64,
}

/// Of the 100 clock ticks a second in which `/proc` tells times (USER_HZ, proc_pid_stat(5)).
const START_STEP_NS: u64 = 10_000_000;

impl Identity {
    /// Of a live process.
    pub(crate) fn of(pid: u32) -> Result<Identity, Error> {
        let path = proc(pid).join("status");
        let failed = |cause| Error::Process { path: path.clone(), cause };
        let status = std::fs::read_to_string(&path).map_err(failed)?;
        // A thread's name need not be text.
        let stat = std::fs::read(proc(pid).join("stat")).map_err(failed)?;
        Identity::parse(&status, &String::from_utf8_lossy(&stat))
            .ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))
    }

    /// The pid in the innermost namespace, and the effective user id, of a status file; the start
    /// of a stat file.
    fn parse(status: &str, stat: &str) -> Option<Identity> {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let pids = field("NSpid:").or_else(|| field("Pid:"))?;
        let own_pid = pids.split_ascii_whitespace().last()?.parse().ok()?;
        let user = field("Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok()?;
        // Its 22nd field; the second is a name in brackets, which may hold anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let start: u64 = fields.split_ascii_whitespace().nth(22 - 3)?.parse().ok()?;
        Some(Identity { own_pid, user, start_ns: start.checked_mul(START_STEP_NS)? })
    }
}

fn proc(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

/// Opens a file by the path that the process would use.
pub(crate) fn by_path(pid: u32, who: Identity, path: &Path) -> Result<File, Error> {
    let root = proc(pid).join("root");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&root, flags, Mode::empty())
        .map_err(|cause| Error::Process { path: root, cause: cause.into() })?;
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve)
        .map_err(|cause| Error::Open { path: path.to_owned(), cause: cause.into() })?;
    checked(found, who, path)
}

/// What stands at `found` for reading, if that is a file that may be believed.
fn checked(found: OwnedFd, who: Identity, path: &Path) -> Result<File, Error> {
    let failed = |cause| Error::Open { path: path.to_owned(), cause };
    let found = File::from(found);
    let meta = found.metadata().map_err(failed)?;
    if meta.is_symlink() {
        return Err(failed(io::Error::from(rustix::io::Errno::LOOP)));
    }
    if !meta.is_file() {
        return Err(Error::NotRegular { path: path.to_owned() });
    }
    if meta.uid() != who.user && meta.uid() != 0 {
        let path = path.to_owned();
        return Err(Error::ForeignOwner { path, owner: meta.uid(), user: who.user });
    }
    // The very file that was looked at, whatever stands at its path by now.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let again = format!("/proc/self/fd/{}", found.as_raw_fd());
    let file = rustix::fs::open(again, flags, Mode::empty()).map_err(|why| failed(why.into()))?;
    Ok(file.into())
}

/// Opens the jitdump that the process has mapped executable, if there is one: so a JIT says where it
/// is. By the mapping itself, which neither a new name nor a deletion hides, else by its path.
pub(crate) fn mapped_dump(pid: u32, who: Identity) -> Result<Option<File>, Error> {
    let path = proc(pid).join("maps");
    let failed = |cause| Error::Process { path: path.clone(), cause };
    let mut maps = Vec::new();
    let file = File::open(&path).map_err(failed)?;
    file.take(MAPS_MAX_BYTES).read_to_end(&mut maps).map_err(failed)?;
    let Some(mapping) = maps.split(|&byte| byte == b'\n').find_map(dump_mapping) else {
        return Ok(None);
    };
    let shown = Path::new(&mapping.path);
    let link = proc(pid).join("map_files").join(&mapping.range);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    if let Ok(found) = rustix::fs::open(&link, flags, Mode::empty()) {
        return checked(found, who, shown).map(Some);
    }
    let file = by_path(pid, who, shown)?;
    let inode = file.metadata().map_err(failed)?.ino();
    if inode != mapping.inode {
        let cause = io::Error::other("another file than the one that is mapped");
        return Err(Error::Open { path: mapping.path.into(), cause });
    }
    Ok(Some(file))
}

#[derive(Debug, PartialEq, Eq)]
struct DumpMapping {
    /// Of addresses, as `map_files` names it.
    range: String,
    inode: u64,
    path: String,
}

/// A line of maps, if it is the executable mapping of a file `jit-NUMBER.dump`.
fn dump_mapping(line: &[u8]) -> Option<DumpMapping> {
    let line = str::from_utf8(line).ok()?;
    let mut fields = line.splitn(6, ' ');
    let (range, rights) = (fields.next()?, fields.next()?);
    let inode = fields.nth(2)?.parse().ok()?;
    let path = fields.next()?.trim_start();
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let name = path.rsplit('/').next()?;
    let number = name.strip_prefix("jit-")?.strip_suffix(".dump")?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && rights.as_bytes().get(2) == Some(&b'x')).then(|| DumpMapping {
        // Without leading zeros, which `map_files` does not have.
        range: range
            .split('-')
            .map(|address| address.trim_start_matches('0'))
            .collect::<Vec<_>>()
            .join("-"),
        inode,
        path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The innermost pid and the effective user count.
    #[test]
    fn identities() {
        let stat = "900 (a) b) S 1 1 1 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 77 9 9 9\n";
        let status = "Name:\tx\nPid:\t900\nUid:\t1\t2\t3\t4\nNSpid:\t900\t17\t3\n";
        let identity = Identity { own_pid: 3, user: 2, start_ns: 770_000_000 };
        assert_eq!(Identity::parse(status, stat), Some(identity));
        let status = "Pid:\t900\nUid:\t1\t2\t3\t4\n";
        assert_eq!(Identity::parse(status, stat), Some(Identity { own_pid: 900, ..identity }));
        for (status, stat) in [("garbage", stat), (status, "900 (a) S 1"), (status, "garbage")] {
            assert_eq!(Identity::parse(status, stat), None, "{status} {stat}");
        }
    }

    /// A dump is known by its name and by being executable.
    #[test]
    fn mappings() {
        let line = b"00400000-00401000 r-xp 00000000 fe:00 77       /a b/jit-12.dump (deleted)";
        let expect = DumpMapping {
            range: "400000-401000".into(),
            inode: 77,
            path: "/a b/jit-12.dump".into(),
        };
        assert_eq!(dump_mapping(line), Some(expect));
        for line in [
            "00400000-00401000 r--p 00000000 fe:00 77    /a/jit-12.dump",
            "00400000-00401000 r-xp 00000000 fe:00 77    /a/jit-.dump",
            "00400000-00401000 r-xp 00000000 fe:00 77    /a/jit-1x.dump",
            "00400000-00401000 r-xp 00000000 00:00 0 ",
            "00400000-00401000",
            "",
        ] {
            assert_eq!(dump_mapping(line.as_bytes()), None, "{line}");
        }
    }
}
