//! What to record: processes, cgroups and thread names, checked before anything starts.

use anyhow::Context as _;
use hotframe_abi as abi;
use hotframe_core::processes;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A cgroup to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Inode of its directory: the id that the kernel knows it by.
    pub inode: u64,
    /// Controller of a version 1 hierarchy; `None`: version 2.
    pub controller: Option<String>,
}

/// Are these processes there?
pub fn check_pids(pids: &[u32]) -> anyhow::Result<()> {
    for &pid in pids {
        if pid == 0 || !Path::new(&format!("/proc/{pid}")).exists() {
            anyhow::bail!("no process with pid {pid}");
        }
    }
    Ok(())
}

/// Puts processes and all their descendants into the filter; forks that happen meanwhile are
/// inherited in the kernel, so one more look that finds nothing new is enough.
pub fn add_with_descendants(
    kernel: &hotframe_bpf::Kernel,
    pids: &[u32],
) -> Result<BTreeSet<u32>, hotframe_bpf::Error> {
    let mut all = BTreeSet::new();
    loop {
        let found: Vec<u32> =
            processes::descendants(pids).into_iter().filter(|&pid| all.insert(pid)).collect();
        if found.is_empty() {
            return Ok(all);
        }
        for pid in found {
            kernel.add_pid(pid)?;
        }
    }
}

/// Thread names as the kernel keeps them: 15 bytes and a NUL.
pub fn comms(names: &[String]) -> anyhow::Result<([[u8; 16]; abi::HF_MAX_COMMS as usize], u32)> {
    let mut table = [[0; 16]; abi::HF_MAX_COMMS as usize];
    if names.len() > table.len() {
        return Err(crate::Exit::usage(format!("--comm: at most {} names", table.len())));
    }
    for (slot, name) in table.iter_mut().zip(names) {
        if name.is_empty() {
            return Err(crate::Exit::usage("--comm: an empty name"));
        }
        let n = name.len().min(15);
        slot[..n].copy_from_slice(&name.as_bytes()[..n]);
    }
    Ok((table, names.len() as u32))
}

/// A cgroup file system.
struct Mount {
    point: PathBuf,
    controller: Option<String>,
}

fn mounts() -> anyhow::Result<Vec<Mount>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").context("reading mountinfo")?;
    let mut mounts = Vec::new();
    for line in text.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(point) = left.split(' ').nth(4) else { continue };
        let mut right = right.split(' ');
        match right.next() {
            Some("cgroup2") => mounts.push(Mount { point: point.into(), controller: None }),
            Some("cgroup") => {
                let controller = right.nth(1).and_then(|options| {
                    options
                        .split(',')
                        .find(|option| !["rw", "ro", "xattr"].contains(option))
                        .map(|option| option.strip_prefix("name=").unwrap_or(option).to_owned())
                });
                mounts.push(Mount { point: point.into(), controller });
            }
            _ => {}
        }
    }
    mounts.sort_by_key(|mount| mount.controller.is_some());
    Ok(mounts)
}

/// Finds the cgroups of a command line: by path, or by the beginning of a container's id.
pub fn cgroups(names: &[String]) -> anyhow::Result<Vec<Cgroup>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mounts = mounts()?;
    if mounts.is_empty() {
        anyhow::bail!("--cgroup: no cgroup file system is mounted");
    }
    let found: Vec<Cgroup> =
        names.iter().map(|name| cgroup(name, &mounts)).collect::<anyhow::Result<_>>()?;
    if found.iter().any(|one| one.controller != found[0].controller) {
        return Err(crate::Exit::usage("--cgroup: all must be of one hierarchy"));
    }
    Ok(found)
}

/// Tells the kernel half which hierarchy these cgroups are of.
pub fn set_cgroups(settings: &mut abi::hf_config, cgroups: &[Cgroup]) -> anyhow::Result<()> {
    settings.filter_cgroups = (!cgroups.is_empty()).into();
    if let Some(controller) = cgroups.first().and_then(|cgroup| cgroup.controller.as_deref()) {
        settings.cgroup_v1 = 1;
        settings.cgroup_subsys = hotframe_bpf::kernel::cgroup_subsys(controller)
            .with_context(|| format!("this kernel has no cgroup controller {controller}"))?;
    }
    Ok(())
}

fn cgroup(name: &str, mounts: &[Mount]) -> anyhow::Result<Cgroup> {
    let at = |mount: &Mount, path: &Path| -> Option<Cgroup> {
        let meta = path.metadata().ok().filter(std::fs::Metadata::is_dir)?;
        path.join("cgroup.procs")
            .exists()
            .then(|| Cgroup { inode: meta.ino(), controller: mount.controller.clone() })
    };
    if name.contains('/') {
        for mount in mounts {
            let path = Path::new(name);
            let path = if path.starts_with(&mount.point) {
                path.to_owned()
            } else {
                mount.point.join(name.trim_start_matches('/'))
            };
            if let Some(found) = at(mount, &path) {
                return Ok(found);
            }
        }
        anyhow::bail!("no cgroup {name}");
    }
    for mount in mounts {
        let mut matches = Vec::new();
        find_by_id(&mount.point, name, 0, &mut matches);
        match matches.as_slice() {
            [] => {}
            [one] => return at(mount, one).with_context(|| format!("no cgroup {name}")),
            [a, b, ..] => {
                anyhow::bail!("{name}: both {} and {} match", a.display(), b.display())
            }
        }
    }
    anyhow::bail!("no cgroup or container {name}")
}

/// Directories named by a container id: `ID`, `docker-ID.scope`, `cri-containerd-ID.scope`, or a
/// plain name.
fn find_by_id(directory: &Path, prefix: &str, depth: usize, matches: &mut Vec<PathBuf>) {
    if depth > 12 || matches.len() > 1 {
        return;
    }
    let mut entries: Vec<PathBuf> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_match(&name, prefix) {
            matches.push(path); // what is below belongs to it
        } else {
            find_by_id(&path, prefix, depth + 1, matches);
        }
    }
}

fn is_match(name: &str, prefix: &str) -> bool {
    if name == prefix {
        return true;
    }
    let id = name.strip_suffix(".scope").unwrap_or(name).rsplit('-').next().unwrap_or(name);
    id.len() >= 12
        && prefix.len() >= 4
        && id.starts_with(prefix)
        && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Container ids as Docker, containerd and systemd write them.
    #[test]
    fn container_ids() {
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        assert!(is_match(id, "0123456789ab"));
        assert!(is_match(&format!("docker-{id}.scope"), "0123"));
        assert!(is_match(&format!("cri-containerd-{id}.scope"), "0123456"));
        assert!(!is_match(&format!("docker-{id}.scope"), "1234"));
        assert!(is_match("box", "box"));
        assert!(!is_match("boxes", "box"));
    }

    /// Names are cut to what the kernel keeps.
    #[test]
    fn names() {
        let (table, n) = comms(&["a-very-long-thread-name".into()]).expect("valid");
        assert_eq!((&table[0][..15], table[0][15], n), (&b"a-very-long-thr"[..], 0, 1));
        assert!(comms(&vec!["x".into(); 17]).is_err());
    }
}
