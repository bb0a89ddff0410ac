//! Where results go: chosen and checked before anything is recorded, written at the end.
//!
//! A file is written under a temporary name beside it and renamed when it is whole, so that nobody
//! ever sees half of one. Under sudo it belongs to who called sudo. As root a link is never
//! followed: the name itself is replaced, and the directory is opened once, with its links resolved
//! as that user may. A device or a pipe is written as it stands.

use anyhow::Context as _;
use hotframe_core::profile::Profile;
use hotframe_formats::Format;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FcntlArg, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, geteuid, setfsgid, setfsuid, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufWriter, IsTerminal as _, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Temporary names that are tried. One is enough but for a chance of 1 in 2⁶⁴.
const TEMPORARY_NAMES: usize = 3;

/// The formats that can be written, for messages.
fn writable(say: impl Fn(Format) -> &'static str) -> String {
    let all: Vec<&str> = Format::ALL.into_iter().filter(|f| f.writes()).map(say).collect();
    match all.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => all.concat(),
    }
}

/// The writable format that a file's name means; a name that is nothing but the extension means
/// none.
fn of_path(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_string_lossy();
    let format = Format::from_path(path)?;
    let bare = format.extensions().iter().any(|end| name.eq_ignore_ascii_case(end));
    (format.writes() && !bare).then_some(format)
}

/// The format that `--format` or `--from` names: by its name, or as an extension without the dot.
pub fn of_name(name: &str) -> Option<Format> {
    Format::from_name(name).or_else(|| Format::from_path(Path::new(&format!("x.{name}"))))
}

/// A place to write to, checked.
#[derive(Debug)]
pub struct Place {
    /// As it was given.
    path: PathBuf,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Stdout,
    /// A file of this name in this directory, which is made or replaced.
    File {
        directory: OwnedFd,
        name: OsString,
    },
    /// A device or a pipe, open for writing: who reads a pipe would take a second opening's end for
    /// the end.
    Direct(File),
}

/// One output: where, and what.
#[derive(Debug)]
pub struct Output {
    /// Where to.
    pub place: Place,
    /// What to write.
    pub format: Format,
}

/// The outputs of a command line, checked. Without one it is `hotframe.html` here, or of the format
/// that is asked for.
pub fn choose(paths: &[PathBuf], format: Option<&str>) -> anyhow::Result<Vec<Output>> {
    let named = match format {
        Some(name) => Some(of_name(name).filter(|format| format.writes()).ok_or_else(|| {
            crate::Exit::usage(format!("unknown format {name:?}: {}", writable(Format::name)))
        })?),
        None => None,
    };
    let extension = named.and_then(|format| format.extensions().first().copied());
    let default = [PathBuf::from(format!("hotframe{}", extension.unwrap_or(".html")))];
    let paths = if paths.is_empty() { &default } else { paths };
    let mut chosen = Vec::new();
    for path in paths {
        let format = if path == Path::new("-") {
            named.ok_or_else(|| {
                let names = writable(Format::name);
                crate::Exit::usage(format!("writing to - needs --format {names}"))
            })?
        } else {
            of_path(path).or(named).ok_or_else(|| {
                if path.is_dir() {
                    let path = path.display();
                    return crate::Exit::usage(format!("{path}: is a directory: name a file"));
                }
                let ends = writable(|format| format.extensions().first().copied().unwrap_or(""));
                crate::Exit::usage(format!(
                    "{}: unknown kind of output: name it {ends}",
                    path.display()
                ))
            })?
        };
        chosen.push((path, format));
    }
    if let (Some(named), Some((path, format))) = (named, chosen.first())
        && chosen.iter().all(|&(_, format)| format != named)
    {
        return Err(crate::Exit::usage(format!(
            "--format {}: {} is {} by its name",
            named.name(),
            path.display(),
            format.name()
        )));
    }
    let mut outputs = Vec::new();
    for (path, format) in chosen {
        let place = Place::of(path)?;
        if !format.is_text() && place.is_terminal() {
            return Err(crate::Exit::usage("not writing binary data to a terminal"));
        }
        outputs.push(Output { place, format });
    }
    Ok(outputs)
}

/// No two of them are one place: the second would take the first one's.
pub fn distinct<'a>(places: impl IntoIterator<Item = &'a Place>) -> anyhow::Result<()> {
    let mut taken = Vec::new();
    for place in places {
        let here = match &place.way {
            Way::Stdout => None,
            Way::File { directory, name } => {
                let of = fstat(directory).with_context(|| place.said())?;
                Some((of.st_dev, of.st_ino, name.as_os_str()))
            }
            Way::Direct(_) => continue,
        };
        if taken.contains(&here) {
            return Err(crate::Exit::usage(format!(
                "{}: two things cannot go there",
                place.said()
            )));
        }
        taken.push(here);
    }
    Ok(())
}

impl Place {
    /// Can it be written? Found out before a recording is taken in vain. `-` is stdout.
    ///
    /// # Errors
    /// One line that says why not. A link is one of these if it leads to what is no file: it would be
    /// replaced, and `/dev/stdout` is one.
    pub fn of(path: &Path) -> anyhow::Result<Place> {
        let path = path.to_path_buf();
        if path == Path::new("-") {
            return Ok(Place { path, way: Way::Stdout });
        }
        let shown = path.display();
        let name = path.file_name().filter(|_| !ends_in_slash(&path));
        let Some(name) = name.map(OsStr::to_os_string) else {
            match path.is_dir() {
                true => anyhow::bail!("{shown}: is a directory"),
                false => anyhow::bail!("{shown}: not the name of a file"),
            }
        };
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        let directory = open_directory(parent.unwrap_or(Path::new(".")), &name)
            .with_context(|| format!("{shown}: cannot be written"))?;
        let here = fstatat(&directory, &*name, AtFlags::AT_SYMLINK_NOFOLLOW).ok();
        let is_link = here.as_ref().is_some_and(|it| kind(it) == SFlag::S_IFLNK);
        let there = if is_link { fstatat(&directory, &*name, AtFlags::empty()).ok() } else { here };
        let way = match there.as_ref().map(kind) {
            None | Some(SFlag::S_IFREG) => Way::File { directory, name },
            Some(SFlag::S_IFDIR) => anyhow::bail!("{shown}: is a directory"),
            Some(_) if is_link => {
                anyhow::bail!("{shown}: is a link to what is no file: name that, or - for stdout")
            }
            Some(SFlag::S_IFCHR | SFlag::S_IFIFO) if there.as_ref().is_some_and(is_ours) => {
                match open_direct(&directory, &name) {
                    Err(Errno::ENXIO) if there.as_ref().map(kind) == Some(SFlag::S_IFIFO) => {
                        anyhow::bail!("{shown}: nobody reads this pipe; start its reader first")
                    }
                    file => {
                        Way::Direct(file.with_context(|| format!("{shown}: cannot be written"))?)
                    }
                }
            }
            Some(_) => anyhow::bail!("{shown}: neither a file nor a device or pipe of this user"),
        };
        Ok(Place { path, way })
    }

    /// As it was given; `-` as stdout.
    pub fn said(&self) -> String {
        match self.way {
            Way::Stdout => "stdout".into(),
            _ => self.path.display().to_string(),
        }
    }

    fn is_terminal(&self) -> bool {
        match &self.way {
            Way::Stdout => std::io::stdout().is_terminal(),
            Way::File { .. } => false,
            Way::Direct(file) => file.is_terminal(),
        }
    }

    /// Writes by way of `write`; a file whole or not at all.
    pub fn write(
        &self,
        write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let through = |to: &mut dyn Write| {
            let mut out = BufWriter::with_capacity(64 << 10, to);
            write(&mut out).and_then(|()| out.flush().map_err(Into::into))
        };
        let context = || format!("writing {}", self.path.display());
        match &self.way {
            Way::Stdout => through(&mut std::io::stdout().lock()).context("writing to stdout"),
            Way::Direct(file) => through(&mut &*file).with_context(context),
            Way::File { directory, name } => {
                let (temporary, mut file) = create(directory)
                    .with_context(|| format!("{}: cannot be written", self.path.display()))?;
                if let Some((uid, gid)) = invoking_user() {
                    let _ = std::os::unix::fs::fchown(&file, Some(uid), Some(gid));
                }
                let result = through(&mut file)
                    .and_then(|()| {
                        nix::fcntl::renameat(directory, &*temporary, directory, &**name)
                            .map_err(Into::into)
                    })
                    .with_context(context);
                if result.is_err() {
                    let _ = unlinkat(directory, &*temporary, UnlinkatFlags::NoRemoveDir);
                }
                result
            }
        }
    }
}

/// Makes the temporary file that takes its name once it is whole.
fn create(directory: &OwnedFd) -> nix::Result<(OsString, File)> {
    // O_EXCL never follows a link; one that is in the way is somebody else's.
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(0o644);
    let mut why = Errno::EEXIST;
    for _ in 0..TEMPORARY_NAMES {
        // By chance: not from the file's name, which may be as long as a name can be, nor from our
        // pid, which in the next container, or of one that was killed here, is the same.
        let number = RandomState::new().hash_one(());
        let temporary = OsString::from(format!(".hotframe-{number:016x}.tmp"));
        match nix::fcntl::openat(directory, &*temporary, flags, mode) {
            Ok(file) => return Ok((temporary, file.into())),
            Err(cause) => why = cause,
        }
        if why != Errno::EEXIST {
            break;
        }
    }
    Err(why)
}

fn ends_in_slash(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

fn kind(of: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(of.st_mode & SFlag::S_IFMT.bits())
}

/// Root's, ours, or that of who called sudo: a pipe that anybody else laid there would hold us up.
fn is_ours(of: &FileStat) -> bool {
    let caller = invoking_user().map(|(uid, _)| uid);
    [Some(0), Some(geteuid().as_raw()), caller].contains(&Some(of.st_uid))
}

fn open_direct(directory: &OwnedFd, name: &OsStr) -> nix::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    // A pipe that nobody reads is refused and not waited for; one that is read is.
    let file = nix::fcntl::openat(directory, name, flags | OFlag::O_NONBLOCK, Mode::empty())?;
    nix::fcntl::fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(file.into())
}

/// Opens a directory in which a file of this name can be made, unless a device or the like has it; under
/// sudo as who called sudo, and where that may not, as root by no link.
fn open_directory(path: &Path, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let usable = |directory: OwnedFd| {
        let here = match fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // The temporary name would be taken, and this one not: too long, for one.
            Err(why) if why != Errno::ENOENT => return Err(why),
            here => here.ok(),
        };
        if matches!(here.as_ref().map(kind), None | Some(SFlag::S_IFREG | SFlag::S_IFLNK)) {
            let (temporary, _) = create(&directory)?;
            unlinkat(&directory, &*temporary, UnlinkatFlags::NoRemoveDir)?;
        }
        Ok(directory)
    };
    let open = || nix::fcntl::open(path, flags, Mode::empty()).and_then(usable);
    let Some((uid, gid)) = invoking_user() else { return open() };
    let as_user = {
        let _ids = FileIds::of(uid, gid);
        open()
    };
    as_user.or_else(|why| {
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
        match why {
            Errno::EACCES => {
                nix::fcntl::openat2(AT_FDCWD, path, how).map_err(|_| why).and_then(usable)
            }
            _ => Err(why),
        }
    })
}

/// This thread's ids for files are another's for as long as this lives.
struct FileIds(Uid, Gid);

impl FileIds {
    fn of(uid: u32, gid: u32) -> FileIds {
        let gid = setfsgid(Gid::from_raw(gid));
        FileIds(setfsuid(Uid::from_raw(uid)), gid)
    }
}

impl Drop for FileIds {
    fn drop(&mut self) {
        setfsuid(self.0);
        setfsgid(self.1);
    }
}

/// The user who called sudo, if that is how we run; see [`check_invoking_user`].
pub fn invoking_user() -> Option<(u32, u32)> {
    sudo_ids().ok().flatten()
}

/// Refuses what sudo cannot have set: what is to run and to be written as somebody else must not be
/// root's by mistake.
///
/// # Errors
/// Wrong usage: the variable, what it is, and what was expected.
pub fn check_invoking_user() -> anyhow::Result<()> {
    sudo_ids().map(drop).map_err(crate::Exit::usage)
}

fn sudo_ids() -> Result<Option<(u32, u32)>, String> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    ids_of(std::env::var_os("SUDO_UID"), std::env::var_os("SUDO_GID"))
}

fn ids_of(uid: Option<OsString>, gid: Option<OsString>) -> Result<Option<(u32, u32)>, String> {
    let id = |name, value: &OsStr| {
        let number = value.to_str().and_then(|text| text.parse().ok());
        // -1 is nobody's: setresuid(2) leaves what is.
        number.filter(|&id| id != u32::MAX).ok_or_else(|| {
            format!("{name} is {value:?}: expected the number that sudo sets, or no {name}")
        })
    };
    match (uid, gid) {
        (None, None) => Ok(None),
        (Some(uid), Some(gid)) => Ok(Some((id("SUDO_UID", &uid)?, id("SUDO_GID", &gid)?))),
        (Some(_), None) => Err("SUDO_UID is set and SUDO_GID is not: sudo sets both".into()),
        (None, Some(_)) => Err("SUDO_GID is set and SUDO_UID is not: sudo sets both".into()),
    }
}

/// Writes a profile to an output.
pub fn write(output: &Output, profile: &Profile, address_only: bool) -> anyhow::Result<()> {
    output.place.write(|out| render(output.format, profile, address_only, out))
}

fn render(
    format: Format,
    profile: &Profile,
    address_only: bool,
    mut out: &mut dyn Write,
) -> anyhow::Result<()> {
    if format == Format::Pprof && address_only {
        let options = hotframe_formats::pprof::Options { address_only };
        hotframe_formats::pprof::write(profile, options, &mut out)?;
    } else {
        format.write(profile, &mut out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt as _;

    /// What sudo cannot have set is refused, and not root.
    #[test]
    fn ids_of_sudo() {
        let ids = |uid: &str, gid: &str| {
            let value = |text: &str| (text != "-").then(|| OsString::from(text));
            ids_of(value(uid), value(gid))
        };
        assert_eq!(ids("-", "-"), Ok(None));
        assert_eq!(ids("1000", "0"), Ok(Some((1000, 0))));
        let expected = "SUDO_UID is \"abc\": expected the number that sudo sets, or no SUDO_UID";
        assert_eq!(ids("abc", "0"), Err(expected.into()));
        for (uid, gid) in [("", "0"), ("4294967295", "0"), ("0", "-1"), ("0", "-"), ("-", "0")] {
            assert!(ids(uid, gid).is_err(), "{uid} {gid}");
        }
    }

    /// Formats follow from names, by the formats' own table.
    #[test]
    fn formats() {
        assert_eq!(of_path(Path::new("a/b.html")), Some(Format::Html));
        assert_eq!(of_path(Path::new("b.pb.gz")), Some(Format::Pprof));
        assert_eq!(of_path(Path::new("b.folded")), Some(Format::Folded));
        assert_eq!(of_path(Path::new("b.firefox.json")), Some(Format::Firefox));
        assert_eq!(of_path(Path::new("b.perf")), None, "read, but not written");
        assert_eq!(of_path(Path::new("b.txt")), None);
        assert_eq!(of_path(Path::new(".html")), None);
        let no_text = OsStr::from_bytes(b"a\xff\xfe.html");
        assert_eq!(of_path(Path::new(no_text)), Some(Format::Html), "names are bytes");
        assert_eq!(of_name("pb.gz"), Some(Format::Pprof));
        assert_eq!(of_name("speedscope"), Some(Format::Speedscope));
        assert_eq!(of_name("pdf"), None);
    }

    /// What cannot be written is said with what can.
    #[test]
    fn refusals() {
        let said = |paths: &[&str], format| {
            let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
            choose(&paths, format).expect_err("refused").to_string()
        };
        let ends = ".html, .pb.gz, .folded, .otlp, .firefox.json, .speedscope.json or .svg";
        assert!(said(&["a.txt"], None).ends_with(ends), "{}", said(&["a.txt"], None));
        assert!(said(&["-"], None).contains("--format html, pprof"));
        assert_eq!(said(&["/"], None), "/: is a directory: name a file");
        assert!(said(&["-"], Some("perf-script")).starts_with("unknown format"));
        assert_eq!(
            said(&["a.html"], Some("folded")),
            "--format folded: a.html is html by its name"
        );
    }

    /// The longest name that a file can have is written; a longer one is refused before, not after, a
    /// recording.
    #[test]
    fn the_longest_name() {
        let directory =
            std::env::temp_dir().join(format!("hotframe-longest-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join(format!("{}.html", "a".repeat(250)));
        let place = Place::of(&path).expect("writable");
        place.write(|out| Ok(out.write_all(b"whole")?)).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "whole");
        assert_eq!(std::fs::read_dir(&directory).expect("there").count(), 1);
        let longer = directory.join(format!("{}.html", "a".repeat(251)));
        let why = Place::of(&longer).expect_err("refused");
        assert!(format!("{why:#}").contains("File name too long"), "{why:#}");
        std::fs::remove_dir_all(&directory).expect("removed");
    }

    /// A failure leaves the old file as it was and nothing beside it.
    #[test]
    fn whole_or_not_at_all() {
        let directory =
            std::env::temp_dir().join(format!("hotframe-output-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join("x.html");
        std::fs::write(&path, "old").expect("written");
        let place = Place::of(&path).expect("writable");
        let result = place.write(|out| {
            out.write_all(b"half")?;
            anyhow::bail!("no more")
        });
        assert!(result.is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "old");
        assert_eq!(std::fs::read_dir(&directory).expect("there").count(), 1);
        place.write(|out| Ok(out.write_all(b"new")?)).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "new");
        std::fs::remove_dir_all(&directory).expect("removed");
    }
}
