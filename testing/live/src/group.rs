//! Cgroups that tests put processes into.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A cgroup that is removed with the test.
pub struct Group(pub PathBuf);

impl Group {
    /// Makes one at a path.
    pub fn make(path: PathBuf) -> Group {
        fs::create_dir(&path).expect("a cgroup");
        Group(path)
    }

    /// One of our own in the unified hierarchy, if that is mounted; else says that the test is skipped.
    pub fn own(name: &str) -> Option<Group> {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        let root = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|fields| fields.get(2) == Some(&"cgroup2"))
            .and_then(|fields| fields.get(1).map(|path| PathBuf::from(*path)));
        let Some(root) = root else {
            crate::skipped("needs a mounted cgroup2");
            return None;
        };
        Some(Group::make(root.join(format!("hotframe-{name}-{}", std::process::id()))))
    }

    /// Moves a process into it.
    pub fn add(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("it moves");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A cgroup can go only when its last process has.
        let until = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
