//! Where results go: chosen and checked before anything is recorded, written at the end.
//!
//! A file is written under a temporary name beside it and renamed when it is whole, so that nobody
//! ever sees half of one. Under sudo it belongs to who called sudo. As root a link is never
//! followed: the name itself is replaced, and the directory is opened once, with its links resolved
//! as that user may.

use anyhow::Context as _;
use hotframe_core::profile::Profile;
use hotframe_formats::Format;
use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

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
    let name = path.file_name()?.to_str()?;
    let format = Format::from_path(path)?;
    let bare = format.extensions().iter().any(|end| name.eq_ignore_ascii_case(end));
    (format.writes() && !bare).then_some(format)
}

/// The format that `--format` or `--from` names: by its name, or as an extension without the dot.
pub fn of_name(name: &str) -> Option<Format> {
    Format::from_name(name).or_else(|| Format::from_path(Path::new(&format!("x.{name}"))))
}

/// One place to write to.
#[derive(Debug, Clone)]
pub struct Output {
    /// Path; `-` is stdout.
    pub path: PathBuf,
    /// What to write.
    pub format: Format,
}

impl Output {
    fn is_stdout(&self) -> bool {
        self.path == Path::new("-")
    }
}

/// The outputs of a command line, checked.
pub fn choose(paths: &[PathBuf], format: Option<&str>) -> anyhow::Result<Vec<Output>> {
    let named = match format {
        Some(name) => Some(of_name(name).filter(|format| format.writes()).ok_or_else(|| {
            crate::Exit::usage(format!("unknown format {name:?}: {}", writable(Format::name)))
        })?),
        None => None,
    };
    let default = [PathBuf::from("hotframe.html")];
    let paths = if paths.is_empty() { &default } else { paths };
    let mut outputs = Vec::new();
    for path in paths {
        let format = if path == Path::new("-") {
            named.ok_or_else(|| {
                let names = writable(Format::name);
                crate::Exit::usage(format!("writing to - needs --format {names}"))
            })?
        } else {
            of_path(path).or(named).ok_or_else(|| {
                let ends = writable(|format| format.extensions().first().copied().unwrap_or(""));
                crate::Exit::usage(format!(
                    "{}: unknown kind of output: name it {ends}",
                    path.display()
                ))
            })?
        };
        let output = Output { path: path.clone(), format };
        if output.is_stdout() {
            if !format.is_text() && std::io::stdout().is_terminal() {
                return Err(crate::Exit::usage("not writing binary data to a terminal"));
            }
        } else {
            probe(path)?;
        }
        outputs.push(output);
    }
    Ok(outputs)
}

/// Can a file be made there? Found out before a recording is taken in vain.
pub fn probe(path: &Path) -> anyhow::Result<()> {
    if path.is_dir() {
        anyhow::bail!("{}: is a directory", path.display());
    }
    let (temporary, _) = create(path)?;
    std::fs::remove_file(&temporary).with_context(|| format!("removing {}", temporary.display()))
}

/// Makes the temporary file beside `path`.
fn create(path: &Path) -> anyhow::Result<(PathBuf, File)> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let name = path
        .file_name()
        .with_context(|| format!("{}: not the name of a file", path.display()))?
        .to_string_lossy();
    let temporary = directory.join(format!(".{name}.{}.tmp", std::process::id()));
    // O_EXCL never follows a link; one that is in the way is somebody else's.
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&temporary)
        .with_context(|| format!("{}: cannot be written", path.display()))?;
    if let Some((uid, gid)) = invoking_user() {
        let _ = std::os::unix::fs::fchown(&file, Some(uid), Some(gid));
    }
    Ok((temporary, file))
}

/// The user who called sudo, if that is how we run.
pub fn invoking_user() -> Option<(u32, u32)> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let id = |name| std::env::var(name).ok()?.parse().ok();
    Some((id("SUDO_UID")?, id("SUDO_GID")?))
}

/// Writes a file by way of `write`, whole or not at all.
pub fn write_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (temporary, file) = create(path)?;
    let mut out = BufWriter::with_capacity(64 << 10, file);
    let result = write(&mut out)
        .and_then(|()| out.flush().map_err(Into::into))
        .and_then(|()| std::fs::rename(&temporary, path).map_err(Into::into))
        .with_context(|| format!("writing {}", path.display()));
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result
}

/// Writes a profile to an output.
pub fn write(output: &Output, profile: &Profile, address_only: bool) -> anyhow::Result<()> {
    if output.is_stdout() {
        let mut out = BufWriter::new(std::io::stdout().lock());
        render(output.format, profile, address_only, &mut out)
            .and_then(|()| out.flush().map_err(Into::into))
            .context("writing to stdout")
    } else {
        write_file(&output.path, |out| render(output.format, profile, address_only, out))
    }
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
        assert!(said(&["-"], Some("perf-script")).starts_with("unknown format"));
    }

    /// A failure leaves the old file as it was and nothing beside it.
    #[test]
    fn whole_or_not_at_all() {
        let directory =
            std::env::temp_dir().join(format!("hotframe-output-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join("x.html");
        std::fs::write(&path, "old").expect("written");
        let result = write_file(&path, |out| {
            out.write_all(b"half")?;
            anyhow::bail!("no more")
        });
        assert!(result.is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "old");
        assert_eq!(std::fs::read_dir(&directory).expect("there").count(), 1);
        write_file(&path, |out| Ok(out.write_all(b"new")?)).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "new");
        std::fs::remove_dir_all(&directory).expect("removed");
    }
}
