//! The command to record: it waits until everything is live, then runs as the user who asked.
//!
//! hotframe starts itself with [`GATE`] set; that process takes the user's ids, waits for a byte
//! on a pipe, and becomes the command. So its pid is known before its first instruction, and
//! nothing of it is missed.

use anyhow::Context as _;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, User};
use std::ffi::{CString, OsString};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

/// Set in the environment of the process that waits: the pipe's number, `;`, and
/// `UID:GID` or nothing.
const GATE: &str = "HOTFRAME_GATE";

/// A command that waits to be let go, or runs.
pub struct Target {
    child: Child,
    /// Its pid.
    pub pid: u32,
    release: Option<std::io::PipeWriter>,
}

/// Finds a command as a shell would. Not found is 127, not executable 126.
pub fn find(name: &std::ffi::OsStr) -> anyhow::Result<PathBuf> {
    let candidates: Vec<PathBuf> = if name.as_bytes().contains(&b'/') {
        vec![PathBuf::from(name)]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|directory| directory.join(name)).collect()
    };
    let mut found = None;
    for candidate in candidates {
        if candidate.is_file() {
            if nix::unistd::access(&candidate, nix::unistd::AccessFlags::X_OK).is_ok() {
                return Ok(candidate);
            }
            found = found.or(Some(candidate));
        }
    }
    Err(match found {
        Some(path) => {
            crate::Exit { code: 126, message: format!("{}: permission denied", path.display()) }
        }
        None => crate::Exit {
            code: 127,
            message: format!("{}: command not found", Path::new(name).display()),
        },
    }
    .into())
}

impl Target {
    /// Starts the process that waits.
    pub fn start(command: &[OsString], user: Option<&str>) -> anyhow::Result<Target> {
        let program = find(&command[0])?;
        let ids = match user {
            Some(name) => {
                let user = User::from_name(name)
                    .ok()
                    .flatten()
                    .or_else(|| User::from_uid(Uid::from_raw(name.parse().ok()?)).ok().flatten())
                    .ok_or_else(|| crate::Exit::usage(format!("no user {name:?}")))?;
                Some((user.uid.as_raw(), user.gid.as_raw()))
            }
            None => crate::output::invoking_user(),
        };
        let gate = ids.map_or_else(String::new, |(uid, gid)| format!("{uid}:{gid}"));
        let (theirs, ours) = std::io::pipe().context("making a pipe")?;
        let exe = std::env::current_exe().context("finding our own executable")?;
        // The command needs our standard input, so the pipe goes in by number.
        nix::fcntl::fcntl(&theirs, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))
            .context("keeping a descriptor open")?;
        let number = theirs.as_raw_fd();
        let child = Command::new(exe)
            .env(GATE, format!("{number};{gate}"))
            .arg(&program)
            .args(command)
            .stdin(Stdio::inherit())
            .spawn()
            .context("starting a process")?;
        drop(theirs);
        Ok(Target { pid: child.id(), child, release: Some(ours) })
    }

    /// Lets it run.
    pub fn release(&mut self) -> anyhow::Result<()> {
        if let Some(mut pipe) = self.release.take() {
            pipe.write_all(b"go").context("starting the command")?;
        }
        Ok(())
    }

    /// Its exit code if it has ended: its own, or 128 + signal.
    pub fn poll(&mut self) -> Option<u8> {
        exit_code(waitpid(Pid::from_raw(self.pid as i32), Some(WaitPidFlag::WNOHANG)))
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> u8 {
        loop {
            if let Some(code) = exit_code(waitpid(Pid::from_raw(self.pid as i32), None)) {
                return code;
            }
        }
    }

    /// Ends it: for when the recording cannot begin.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn exit_code(status: nix::Result<WaitStatus>) -> Option<u8> {
    match status {
        Ok(WaitStatus::Exited(_, code)) => Some(code as u8),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(128 + signal as u8),
        Ok(_) | Err(nix::Error::EINTR) => None,
        Err(_) => Some(1),
    }
}

/// In the process that waits: becomes the command. `None` in any other.
pub fn gate() -> Option<ExitCode> {
    let spec = std::env::var(GATE).ok()?;
    match become_command(&spec) {
        Ok(never) => Some(never),
        Err(cause) => {
            eprintln!("hotframe: {cause:#}");
            Some(ExitCode::from(cause.downcast_ref::<crate::Exit>().map_or(1, |exit| exit.code)))
        }
    }
}

fn become_command(spec: &str) -> anyhow::Result<ExitCode> {
    let (number, ids) = spec.split_once(';').context("a malformed gate")?;
    let number: i32 = number.parse().context("a malformed gate")?;
    // Opened anew by its path, while we may: after the change of ids it is not ours.
    let mut pipe =
        std::fs::File::open(format!("/proc/self/fd/{number}")).context("opening the pipe")?;
    nix::unistd::close(number).context("closing a descriptor")?;
    if let Some((uid, gid)) = ids.split_once(':') {
        let (uid, gid) = (Uid::from_raw(uid.parse()?), Gid::from_raw(gid.parse()?));
        match User::from_uid(uid).ok().flatten().and_then(|user| CString::new(user.name).ok()) {
            Some(name) => nix::unistd::initgroups(&name, gid),
            None => nix::unistd::setgroups(&[gid]),
        }
        .and_then(|()| nix::unistd::setgid(gid))
        .and_then(|()| nix::unistd::setuid(uid))
        .context("taking the user's ids")?;
    }
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().context("a malformed gate")?;
    let name = arguments.next().context("a malformed gate")?;
    let mut word = [0; 2];
    if pipe.read_exact(&mut word).is_err() {
        return Ok(ExitCode::from(1)); // hotframe is gone: the command is not started
    }
    drop(pipe);
    // A process inherits the signals that its parent blocks; the command must not.
    nix::sys::signal::SigSet::all().thread_unblock().context("unblocking signals")?;
    let cause = Command::new(&program).arg0(&name).args(arguments).env_remove(GATE).exec();
    let code = if cause.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
    Err(crate::Exit { code, message: format!("{}: {cause}", Path::new(&program).display()) }.into())
}
