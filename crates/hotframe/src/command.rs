//! The command to record: it waits until everything is live, then runs as the user who asked.
//!
//! hotframe starts itself with [`GATE`] set; that process takes the user's ids, waits for a byte
//! on a pipe, and becomes the command. So its pid is known before its first instruction, and
//! nothing of it is missed. If it cannot, it says so by another pipe, and nothing is written.

use anyhow::Context as _;
use nix::sys::signalfd::siginfo;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, User};
use rustix::process::{PidfdFlags, Signal, pidfd_open};
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;

/// Set in the environment of the process that waits: the numbers of the pipe that lets it go and of
/// the one that takes why it could not, and `UID:GID` or nothing, with `;` between.
const GATE: &str = "HOTFRAME_GATE";

/// A command that waits to be let go, or runs.
pub struct Target {
    child: Child,
    /// Its pid.
    pub pid: u32,
    /// To send it signals by.
    pub handle: Arc<Handle>,
    release: Option<std::io::PipeWriter>,
    /// Has why it did not become the command; at its end once it did.
    failure: std::io::PipeReader,
}

/// The process that is or becomes a command, and no later one of its pid.
#[derive(Debug)]
pub struct Handle(OwnedFd);

/// `si_code` of signals that the kernel sends, a terminal's among them.
const SI_KERNEL: i32 = 0x80;

impl Handle {
    /// Sends it a signal that came to us, unless it came to both: a terminal's does.
    pub fn pass_on(&self, info: &siginfo) {
        if info.ssi_code != SI_KERNEL
            && let Some(signal) = Signal::from_named_raw(info.ssi_signo as i32)
        {
            let _ = rustix::process::pidfd_send_signal(&self.0, signal);
        }
    }
}

/// Where commands are looked for without a PATH: glibc's _CS_PATH, which its execvp takes.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Finds a command as a shell would. Not found is 127, not executable 126.
pub fn find(name: &std::ffi::OsStr) -> anyhow::Result<PathBuf> {
    let candidates: Vec<PathBuf> = if name.as_bytes().contains(&b'/') {
        vec![PathBuf::from(name)]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        std::env::split_paths(&path).map(|directory| directory.join(name)).collect()
    };
    let mut found = None;
    for candidate in candidates {
        if candidate.is_file() {
            if nix::unistd::access(&candidate, nix::unistd::AccessFlags::X_OK).is_ok() {
                return Ok(candidate);
            }
            found = found.or(Some((candidate, "permission denied")));
        } else if name.as_bytes().contains(&b'/') && candidate.is_dir() {
            found = Some((candidate, "is a directory"));
        }
    }
    Err(match found {
        Some((path, why)) => {
            crate::Exit { code: 126, message: format!("{}: {why}", path.display()) }
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
        let (failure, tells) = std::io::pipe().context("making a pipe")?;
        let exe = std::env::current_exe().context("finding our own executable")?;
        // The command needs our standard streams, so the pipes go in by number.
        for end in [theirs.as_fd(), tells.as_fd()] {
            nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))
                .context("keeping a descriptor open")?;
        }
        let (go, told) = (theirs.as_raw_fd(), tells.as_raw_fd());
        let child = Command::new(exe)
            .env(GATE, format!("{go};{told};{gate}"))
            .arg(&program)
            .args(command)
            .stdin(Stdio::inherit())
            .spawn()
            .context("starting a process")?;
        let pid = child.id();
        let handle = rustix::process::Pid::from_raw(pid as i32)
            .context("a process without a number")
            .and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?))
            .context("holding the command's process")?;
        Ok(Target { child, pid, handle: Arc::new(Handle(handle)), release: Some(ours), failure })
    }

    /// Lets it run.
    pub fn release(&mut self) -> anyhow::Result<()> {
        if let Some(mut pipe) = self.release.take() {
            pipe.write_all(b"go").context("starting the command")?;
        }
        Ok(())
    }

    /// Why it never became the command. Of a process that has ended: it is waited for otherwise.
    pub fn failure(&mut self) -> Option<crate::Exit> {
        let mut text = String::new();
        let _ = std::io::Read::by_ref(&mut self.failure).take(4096).read_to_string(&mut text);
        let (code, message) = text.split_once(';')?;
        Some(crate::Exit { code: code.parse().ok()?, message: message.to_owned() })
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
    let cause = match gate_of(&spec) {
        Ok((go, mut tells, ids)) => match become_command(go, ids) {
            Ok(never) => return Some(never),
            Err(cause) => {
                let _ = write!(tells, "{};{cause:#}", crate::Exit::code_of(&cause));
                cause
            }
        },
        Err(cause) => {
            crate::messages::line(format_args!("hotframe: {cause:#}"));
            cause
        }
    };
    Some(ExitCode::from(crate::Exit::code_of(&cause)))
}

/// The two pipes and the ids.
fn gate_of(spec: &str) -> anyhow::Result<(File, File, &str)> {
    let mut parts = spec.splitn(3, ';');
    // Opened anew by their paths, while we may: after the change of ids they are not ours. And these
    // the command does not inherit.
    let mut open = |options: &std::fs::OpenOptions| {
        let number: i32 =
            parts.next().and_then(|it| it.parse().ok()).context("a malformed gate")?;
        let file = options.open(format!("/proc/self/fd/{number}")).context("opening the pipe")?;
        nix::unistd::close(number).context("closing a descriptor")?;
        anyhow::Ok(file)
    };
    let go = open(std::fs::OpenOptions::new().read(true))?;
    let tells = open(std::fs::OpenOptions::new().write(true))?;
    Ok((go, tells, parts.next().context("a malformed gate")?))
}

fn become_command(mut go: File, ids: &str) -> anyhow::Result<ExitCode> {
    let mut user = None;
    if let Some((uid, gid)) = ids.split_once(':') {
        let (uid, gid) = (Uid::from_raw(uid.parse()?), Gid::from_raw(gid.parse()?));
        user = User::from_uid(uid).ok().flatten();
        match user.as_ref().and_then(|user| CString::new(user.name.as_str()).ok()) {
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
    if go.read_exact(&mut word).is_err() {
        return Ok(ExitCode::from(1)); // hotframe is gone: the command is not started
    }
    // A process inherits the signals that its parent blocks; the command must not.
    nix::sys::signal::SigSet::all().thread_unblock().context("unblocking signals")?;
    let mut command = Command::new(&program);
    command.arg0(&name).args(arguments).env_remove(GATE);
    if let Some(user) = user {
        command.env("HOME", &user.dir).env("USER", &user.name).env("LOGNAME", &user.name);
    }
    let cause = command.exec();
    let code = if cause.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
    let program = Path::new(&program);
    // It was found, so what the kernel misses is what its first line or its ELF header asks for.
    let why = match code == 127 && program.exists() {
        true => "the interpreter that it names does not exist".into(),
        false => cause.to_string(),
    };
    Err(crate::Exit { code, message: format!("{}: {why}", program.display()) }.into())
}
