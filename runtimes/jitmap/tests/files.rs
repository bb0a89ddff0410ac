//! Maps as files: what is opened, and what is refused. Root is not needed.

use hotframe_jitmap::{Error, PerfMap, Wanted};
use std::path::PathBuf;
use std::process::{Child, Command};

/// A process that does nothing, and its map's path.
struct Sleeper {
    child: Child,
    path: PathBuf,
}

impl Sleeper {
    fn start() -> Sleeper {
        let child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let path = PathBuf::from(format!("/tmp/perf-{}.map", child.id()));
        Sleeper { child, path }
    }

    fn open(&self) -> Result<PerfMap, Error> {
        PerfMap::open(self.child.id())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// A map outlives its process and its name, and is seen growing.
#[test]
fn outlives_its_process() {
    let mut sleeper = Sleeper::start();
    assert!(matches!(sleeper.open(), Err(Error::Open { .. })));
    std::fs::write(&sleeper.path, "1000 10 a\n").expect("written");
    let map = sleeper.open().expect("a map");
    assert_eq!(map.len_bytes(), 10);
    let mut file = std::fs::OpenOptions::new().append(true).open(&sleeper.path).expect("opened");
    std::io::Write::write_all(&mut file, b"1000 10 b\n").expect("appended");
    assert_eq!(map.len_bytes(), 20);
    let _ = sleeper.child.kill();
    let _ = sleeper.child.wait();
    std::fs::remove_file(&sleeper.path).expect("removed");
    let wanted = [10, 20].map(|seen_bytes| Wanted { address: 0x1008, seen_bytes });
    let names = map.name(&wanted).expect("readable");
    assert_eq!(names, [Some("a".to_owned()), Some("b".to_owned())]);
    assert!(matches!(sleeper.open(), Err(Error::Process { .. })));
}

/// What was put there to hurt is refused at once: a link, a FIFO, a directory.
#[test]
fn traps() {
    let sleeper = Sleeper::start();
    std::os::unix::fs::symlink("/etc/passwd", &sleeper.path).expect("a link");
    assert!(matches!(sleeper.open(), Err(Error::Open { .. })));
    std::fs::remove_file(&sleeper.path).expect("removed");
    let made = Command::new("mkfifo").arg(&sleeper.path).status().expect("mkfifo");
    assert!(made.success());
    assert!(matches!(sleeper.open(), Err(Error::NotRegular { .. })));
    std::fs::remove_file(&sleeper.path).expect("removed");
    std::fs::create_dir(&sleeper.path).expect("a directory");
    assert!(matches!(sleeper.open(), Err(Error::NotRegular { .. })));
}

/// A map that belongs to neither the process's user nor root is not believed (as root only: others
/// cannot give files away).
#[test]
fn foreign_owner() {
    let sleeper = Sleeper::start();
    std::fs::write(&sleeper.path, "1000 10 a\n").expect("written");
    if std::os::unix::fs::chown(&sleeper.path, Some(12345), None).is_err() {
        return;
    }
    assert!(matches!(sleeper.open(), Err(Error::ForeignOwner { owner: 12345, .. })));
}
