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
    pub directory: PathBuf,
    /// Inode of its directory: the id that the kernel knows it by.
    pub inode: u64,
    /// Controller of a version 1 hierarchy; `None`: version 2.
    pub controller: Option<String>,
}

/// Are these processes there? A thread has a directory in `/proc` too, but is none.
pub fn check_pids(pids: &[u32]) -> anyhow::Result<()> {
    for &pid in pids {
        if pid == 0 || !Path::new(&format!("/proc/{pid}")).exists() {
            anyhow::bail!("no process with pid {pid}");
        }
        if let Some((process, name)) = process_of(pid).filter(|&(process, _)| process != pid) {
            anyhow::bail!("{pid} is a thread of process {process} ({name}): give -p {process}");
        }
    }
    Ok(())
}

/// The process that a thread belongs to, and its name.
fn process_of(tid: u32) -> Option<(u32, String)> {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let process =
        status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())?;
    let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    Some((process, crate::summary::clean(name.trim_end(), 20)))
}

/// Puts processes and all their descendants into the filter; forks that happen meanwhile are
/// inherited in the kernel, so one more look that finds nothing new is enough.
fn add_with_descendants(
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

/// Fills the filter of processes, and says which ones will be sampled: those, else the cgroups'.
pub fn expected(
    kernel: &hotframe_bpf::Kernel,
    pids: &[u32],
    cgroups: &[Cgroup],
) -> Result<BTreeSet<u32>, hotframe_bpf::Error> {
    match pids {
        [] => Ok(members(cgroups)),
        _ => add_with_descendants(kernel, pids),
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
    let max = abi::HF_MAX_CGROUPS;
    if names.len() > max as usize {
        return Err(crate::Exit::usage(format!("--cgroup: at most {max} cgroups")));
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

/// The file of a cgroup's directory that lists its processes.
const PROCESSES: &str = "cgroup.procs";
/// How many processes of cgroups are looked for: for more than these there is no time before sampling begins
/// (`Session::expect`).
const MEMBERS_MAX: usize = 256;

/// Processes of cgroups and what is below them, some if there are many. Those that our pid namespace does not
/// see are listed as 0.
pub fn members(cgroups: &[Cgroup]) -> BTreeSet<u32> {
    let mut members = BTreeSet::new();
    let mut directories: Vec<PathBuf> =
        cgroups.iter().map(|cgroup| cgroup.directory.clone()).collect();
    while let Some(directory) = directories.pop()
        && members.len() < MEMBERS_MAX
    {
        let list = std::fs::read_to_string(directory.join(PROCESSES)).unwrap_or_default();
        let pids = list.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|&pid| pid != 0);
        members.extend(pids.take(MEMBERS_MAX - members.len()));
        directories.extend(directories_in(&directory));
    }
    members
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
        path.join(PROCESSES).exists().then(|| Cgroup {
            directory: path.to_owned(),
            inode: meta.ino(),
            controller: mount.controller.clone(),
        })
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
    if name.len() < PREFIX_MIN && is_hex(name) {
        return Err(crate::Exit::usage(format!(
            "--cgroup {name}: no cgroup has this name, and of a container's id at least \
             {PREFIX_MIN} digits are needed"
        )));
    }
    anyhow::bail!("no cgroup or container {name}")
}

/// Least digits of a container's id, and of its beginning that is given.
const ID_MIN: usize = 12;
const PREFIX_MIN: usize = 4;

fn directories_in(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
}

/// Directories named by a container id: `ID`, `docker-ID.scope`, `cri-containerd-ID.scope`,
/// `libpod-ID.scope`, or a plain name.
fn find_by_id(directory: &Path, prefix: &str, depth: usize, matches: &mut Vec<PathBuf>) {
    if depth > 12 || matches.len() > 1 {
        return;
    }
    let mut entries: Vec<PathBuf> = directories_in(directory).collect();
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
    let unit = name.strip_suffix(".scope").unwrap_or(name);
    let (kind, id) = unit.rsplit_once('-').unwrap_or(("", unit));
    // `libpod-conmon-ID.scope`, `crio-conmon-ID.scope`: podman's and CRI-O's monitor, beside its container.
    let is_monitor = kind == "conmon" || kind.ends_with("-conmon");
    id.len() >= ID_MIN
        && prefix.len() >= PREFIX_MIN
        && id.starts_with(prefix)
        && is_hex(id)
        && !is_monitor
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
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
        for engine in ["libpod", "crio"] {
            assert!(is_match(&format!("{engine}-{id}.scope"), "0123"));
            assert!(is_match(&format!("{engine}-{id}"), "0123"));
            assert!(!is_match(&format!("{engine}-conmon-{id}.scope"), "0123"));
            assert!(!is_match(&format!("{engine}-conmon-{id}"), "0123"));
        }
        assert!(is_match("libpod-conmon-0123.scope", "libpod-conmon-0123.scope"), "by its name");
    }

    /// Processes of a cgroup and of all below it, no more than are asked for; not those of one beside it.
    #[test]
    fn members_of_cgroups() {
        let root = std::env::temp_dir().join(format!("hotframe-members-{}", std::process::id()));
        let many: Vec<u32> = (1000..2000).collect();
        for (name, pids) in [("a", &[7, 0][..]), ("a/b/c", &[8]), ("z", &[9]), ("many", &many)] {
            let directory = root.join(name);
            std::fs::create_dir_all(&directory).expect("a directory");
            let list: Vec<String> = pids.iter().map(u32::to_string).collect();
            std::fs::write(directory.join(PROCESSES), list.join("\n")).expect("a list");
        }
        let of = |name: &str| {
            members(&[Cgroup { directory: root.join(name), inode: 1, controller: None }])
        };
        assert_eq!(of("a"), BTreeSet::from([7, 8]));
        assert_eq!(of("many").len(), MEMBERS_MAX);
        assert_eq!(of("gone"), BTreeSet::new());
        std::fs::remove_dir_all(root).expect("ours");
    }

    /// Too many cgroups, and too little of an id, are wrong usage and say what is allowed.
    #[test]
    fn cgroups_that_cannot_be() {
        let usage = |names: &[String]| {
            let cause = cgroups(names).expect_err("refused");
            assert_eq!(cause.downcast_ref::<crate::Exit>().map(|exit| exit.code), Some(2));
            format!("{cause:#}")
        };
        let many = vec!["box".to_owned(); abi::HF_MAX_CGROUPS as usize + 1];
        assert_eq!(usage(&many), "--cgroup: at most 64 cgroups");
        let mount = Mount { point: "/nonexistent".into(), controller: None };
        for (name, code) in [("3f2", Some(2)), ("3f2a", None), ("box", None)] {
            let cause = cgroup(name, std::slice::from_ref(&mount)).expect_err("there is none");
            assert_eq!(cause.downcast_ref::<crate::Exit>().map(|exit| exit.code), code, "{cause}");
        }
    }

    /// A thread that is not its process's first is no process, and whose it is is said.
    #[test]
    fn threads_are_not_processes() {
        let own = std::process::id();
        check_pids(&[own]).expect("a process");
        let (ended, wait) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            let link = std::fs::read_link("/proc/thread-self").expect("a link");
            let _ = tell.send(link);
            let _ = wait.recv();
        });
        let link = told.recv().expect("a link");
        let tid = link.file_name().and_then(|tid| tid.to_str()?.parse().ok());
        let cause = check_pids(&[tid.expect("a tid")]).expect_err("a thread").to_string();
        assert!(cause.contains(&format!("a thread of process {own} (")), "{cause}");
        assert!(cause.ends_with(&format!("give -p {own}")), "{cause}");
        drop(ended);
        other.join().expect("it ended");
    }

    /// Names are cut to what the kernel keeps.
    #[test]
    fn names() {
        let (table, n) = comms(&["a-very-long-thread-name".into()]).expect("valid");
        assert_eq!((&table[0][..15], table[0][15], n), (&b"a-very-long-thr"[..], 0, 1));
        assert!(comms(&vec!["x".into(); 17]).is_err());
    }
}
