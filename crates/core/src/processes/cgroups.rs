//! Where processes belong: paths of cgroups, by their inodes.
//!
//! In: a pid, and the inodes of the cgroups that it was executed in, as the kernel half noted them. Out: a path, empty
//! if the process has ended and none that was known has these inodes.
//!
//! # Cost
//! A known cgroup: one look-up. Another: one read of `/proc/PID/cgroup` and up to two `stat`s.

use hotframe_abi as abi;
use std::collections::HashMap;

/// No cgroup is known.
pub(crate) const NO_CGROUP: abi::hf_cgroup_ids = abi::hf_cgroup_ids { unified: 0, memory: 0 };

/// Paths that are kept: a program that starts containers all day makes new ones.
const CGROUPS_MAX: usize = 1024;

/// Cgroups' paths by inode, so that not each process that is executed has to be asked.
#[derive(Debug, Default)]
pub struct Cgroups {
    by_id: HashMap<(u64, u64), String>,
}

impl Cgroups {
    /// The cgroup of a process that was forked and has executed nothing since. It began where its parent
    /// was, which may have moved since that was executed, in `ids`; so the processes are asked first.
    pub fn of_forked(
        &mut self,
        pid: u32,
        ancestor: Option<u32>,
        ids: abi::hf_cgroup_ids,
    ) -> String {
        for pid in [Some(pid), ancestor].into_iter().flatten() {
            let path = self.of(pid, NO_CGROUP);
            if !path.is_empty() {
                return path;
            }
        }
        self.by_id.get(&(ids.unified, ids.memory)).cloned().unwrap_or_default()
    }

    /// The cgroup of a process that was executed in these (zeros: not known); empty: it has ended
    /// and nobody knows.
    pub fn of(&mut self, pid: u32, ids: abi::hf_cgroup_ids) -> String {
        if let Some(path) = self.by_id.get(&(ids.unified, ids.memory)) {
            return path.clone();
        }
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/cgroup")) else {
            return String::new();
        };
        let (controllers, path) = parse_cgroup(&text);
        // It may have moved since, or the path is that of another hierarchy.
        use std::os::unix::fs::MetadataExt as _;
        let inode = |root: &str| std::fs::metadata(format!("{root}{path}")).map(|meta| meta.ino());
        let is = |id: u64, root: &str| id != 0 && inode(root).ok() == Some(id);
        let is_still = if controllers.is_empty() {
            ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].iter().any(|root| is(ids.unified, root))
        } else {
            controllers.split(',').any(|controller| controller == "memory")
                && is(ids.memory, "/sys/fs/cgroup/memory")
        };
        if is_still {
            if self.by_id.len() >= CGROUPS_MAX {
                self.by_id.clear();
            }
            self.by_id.insert((ids.unified, ids.memory), path.to_owned());
        }
        path.to_owned()
    }
}

/// Controllers of the hierarchy whose path counts, and that; "": the unified one.
fn parse_cgroup(text: &str) -> (&str, &str) {
    let paths = || {
        text.lines().filter_map(|line| {
            let (number, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            (path != "/").then_some((number, controllers, path))
        })
    };
    let unified = paths().find(|(number, ..)| *number == "0");
    let found = unified.or_else(|| paths().next());
    found.map_or(("", "/"), |(_, controllers, path)| (controllers, path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Files;
    use crate::processes::{Processes, read_facts};
    use crate::sideband::Event;

    /// The path of a cgroup is known by its inode once a process was there, and by that alone; of
    /// who is gone and was elsewhere nothing is known.
    #[test]
    fn known_cgroups() {
        use std::os::unix::fs::MetadataExt as _;
        let mut cgroups = Cgroups::default();
        let own = std::process::id();
        let path = cgroups.of(own, NO_CGROUP);
        assert!(path.starts_with('/'));
        assert!(cgroups.by_id.is_empty());
        let elsewhere = abi::hf_cgroup_ids { unified: u64::MAX, memory: u64::MAX };
        assert_eq!(cgroups.of(own, elsewhere), path, "it moved");
        assert!(cgroups.by_id.is_empty());
        assert_eq!(cgroups.of(u32::MAX, elsewhere), "");
        let inode = |root: &str| std::fs::metadata(format!("{root}{path}")).map(|meta| meta.ino());
        let ids = abi::hf_cgroup_ids {
            unified: inode("/sys/fs/cgroup").unwrap_or(0),
            memory: inode("/sys/fs/cgroup/memory").unwrap_or(0),
        };
        assert_eq!(cgroups.of(own, ids), path);
        if cgroups.by_id.is_empty() {
            eprintln!("known_cgroups: SKIPPED: neither a unified hierarchy nor one for memory");
            return;
        }
        assert_eq!(cgroups.of(u32::MAX, ids), path);
    }

    /// The unified cgroup counts, unless only an older hierarchy says anything.
    #[test]
    fn cgroups() {
        assert_eq!(parse_cgroup("0::/system.slice/a\n"), ("", "/system.slice/a"));
        assert_eq!(parse_cgroup("4:cpu,memory:/box\n0::/\n"), ("cpu,memory", "/box"));
        assert_eq!(parse_cgroup(""), ("", "/"));
    }

    /// A child that ended has the program and the cgroup of the process that forked it, also where
    /// another that ended stands in between; of one that executes something else nothing is taken.
    #[test]
    fn a_child_that_is_gone() {
        let own = std::process::id();
        let (mut files, mut processes) = (Files::default(), Processes::default());
        let mut apply = |event| processes.apply(1, &event, &mut files);
        let exec = |pid| Event::Comm { pid, tid: pid, exec: true, comm: "it".into() };
        let fork = |parent_pid, pid| Event::Fork { pid, tid: pid, parent_pid };
        // No process has these pids.
        let (child, grandchild) = (u32::MAX - 1, u32::MAX);
        for event in [exec(own), fork(own, child), fork(child, grandchild)] {
            apply(event);
        }
        apply(Event::Exit { pid: child, tid: child });
        assert_eq!(processes.ancestor(child), Some(own));
        assert_eq!(processes.ancestor(grandchild), Some(own));
        assert_eq!(processes.ancestor(own), None);
        let ancestor = processes.ancestor(grandchild);
        let mut cgroups = Cgroups::default();
        let cgroup = cgroups.of_forked(grandchild, ancestor, NO_CGROUP);
        assert_eq!(cgroup, cgroups.of(own, NO_CGROUP));
        assert!(cgroup.starts_with('/'));
        let facts = read_facts(grandchild, ancestor, None, None, cgroup);
        let exe = std::env::current_exe().expect("a path");
        assert_eq!(facts.exe, exe.to_string_lossy());
        // Its parent was executed there, and is gone.
        let ids = abi::hf_cgroup_ids { unified: 5, memory: 6 };
        cgroups.by_id.insert((5, 6), "/box".into());
        assert_eq!(cgroups.of_forked(grandchild, None, ids), "/box");
        assert_eq!(cgroups.of_forked(own, None, ids), cgroups.of(own, NO_CGROUP), "it moved");
        processes.apply(2, &exec(own), &mut files);
        assert_eq!(processes.ancestor(grandchild), None);
    }
}
