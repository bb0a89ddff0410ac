//! What `/proc` says of a process beside its mappings: whether it goes on, its names, who descends from it.
//!
//! In: pids. Out: texts, empty where they cannot be read: a process may end at any moment.
//!
//! # Cost
//! One read of a small file a question; [`descendants`] reads one of every process.

use crate::files::linked_path;
use std::collections::HashMap;

/// Does a process go on whose first thread ended? Others may, and one of them may have made it another
/// program: exec ends the rest and takes the first one's place.
pub fn goes_on(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/stat")).is_ok_and(|stat| !is_over(&stat))
}

/// May it? Also one does of which nothing may be read (a /proc that hides others' processes).
pub(crate) fn may_go_on(pid: u32) -> bool {
    let there = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), None);
    there != Err(nix::errno::Errno::ESRCH)
        && !std::fs::read(format!("/proc/{pid}/stat")).is_ok_and(|stat| is_over(&stat))
}

/// proc_pid_stat(5): the state is field 3, behind the name in parentheses, num_threads field 20.
fn is_over(stat: &[u8]) -> bool {
    let stat = String::from_utf8_lossy(stat);
    let Some((_, rest)) = stat.rsplit_once(") ") else { return true };
    let n_threads = rest.split(' ').nth(20 - 3).and_then(|n| n.parse().ok()).unwrap_or(0);
    rest.starts_with(['Z', 'X']) && n_threads <= 1
}

/// Where a process belongs, read once when it is first sampled; empty where it cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Name of its main thread.
    pub comm: String,
    /// Path of its executable.
    pub exe: String,
    /// Its cgroup: the unified one, else the first with a path.
    pub cgroup: String,
}

/// [`Facts`] of a live process; what is known already is not read. Of one that is gone the program is
/// that of its ancestor ([`Processes::ancestor`](super::Processes::ancestor)).
pub fn read_facts(
    pid: u32,
    ancestor: Option<u32>,
    comm: Option<String>,
    exe: Option<String>,
    cgroup: String,
) -> Facts {
    let read_exe = || {
        let path = [Some(pid), ancestor]
            .into_iter()
            .flatten()
            .find_map(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok())
            .unwrap_or_default();
        let path = path.to_string_lossy();
        linked_path(&path).to_owned()
    };
    let read_comm = || {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        comm.trim_end_matches('\n').to_owned()
    };
    Facts { comm: comm.unwrap_or_else(read_comm), exe: exe.unwrap_or_else(read_exe), cgroup }
}

/// A process and all that descend from it, as `/proc` shows them now.
pub fn descendants(roots: &[u32]) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // pid (comm) state ppid …; comm may hold anything, so the last parenthesis counts.
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut all = roots.to_vec();
    let mut at = 0;
    while at < all.len() {
        for child in children.remove(&all[at]).unwrap_or_default() {
            if !all.contains(&child) {
                all.push(child);
            }
        }
        at += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process is over once its last thread is; a name may look like the rest of the line.
    #[test]
    fn what_is_over() {
        let line = |name: &str, state: char, n_threads: u32| {
            format!("7 ({name}) {state}{} {n_threads} 0 9", " 1".repeat(16)).into_bytes()
        };
        assert!(!is_over(&line("a", 'R', 1)) && !is_over(&line("a", 'Z', 2)));
        assert!(is_over(&line("a", 'Z', 1)) && is_over(&line("a) R 1", 'Z', 0)));
        assert!(!is_over(&line("a) Z 1", 'S', 1)) && is_over(b"7"));
        assert!(goes_on(std::process::id()) && may_go_on(std::process::id()));
    }
}
