//! Maps as files: what is opened, and what is refused. Root is not needed.

use hotframe_jitmap::{Dump, Error, MAP_MAX_BYTES, PerfMap, Report, Seen, Sources, Wanted};
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
        Sleeper::of(child)
    }

    /// Without what an earlier process of that pid may have left.
    fn of(child: Child) -> Sleeper {
        let path = PathBuf::from(format!("/tmp/perf-{}.map", child.id()));
        let _ = std::fs::remove_file(&path);
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
    let why = sleeper.open().map(|_| ()).expect_err("refused");
    assert!(matches!(why, Error::Open { .. }));
    assert!(
        std::error::Error::source(&why).is_some(),
        "what prints the chain says the cause, once"
    );
    std::fs::write(&sleeper.path, "1000 10 a\n").expect("written");
    let map = sleeper.open().expect("a map");
    assert_eq!(map.len_bytes(), 10);
    let mut file = std::fs::OpenOptions::new().append(true).open(&sleeper.path).expect("opened");
    std::io::Write::write_all(&mut file, b"1000 10 b\n").expect("appended");
    assert_eq!(map.len_bytes(), 20);
    let _ = sleeper.child.kill();
    let _ = sleeper.child.wait();
    std::fs::remove_file(&sleeper.path).expect("removed");
    let wanted = [10, 20].map(|map_bytes| {
        let seen = Seen { map_bytes, ..Seen::default() };
        Wanted { address: 0x1008, first: seen, last: seen }
    });
    let names = map.name(&wanted, &mut Report::default()).expect("readable");
    let names: Vec<String> = names.into_iter().flatten().map(|named| named.name).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(matches!(sleeper.open(), Err(Error::Process { .. })));
}

/// Of a map that is larger than anybody's what lies in its first part names, and the rest is said.
#[test]
fn huge() {
    let sleeper = Sleeper::start();
    std::fs::write(&sleeper.path, "1000 10 a\n").expect("written");
    let file = std::fs::OpenOptions::new().write(true).open(&sleeper.path).expect("opened");
    // A hole: no disk is taken.
    file.set_len(MAP_MAX_BYTES + (1 << 20)).expect("extended");
    std::os::unix::fs::FileExt::write_all_at(&file, b"\n2000 10 b\n", MAP_MAX_BYTES)
        .expect("written");
    let map = sleeper.open().expect("a map");
    assert_eq!(map.len_bytes(), MAP_MAX_BYTES);
    let seen = Seen { map_bytes: MAP_MAX_BYTES, ..Seen::default() };
    let wanted = [0x1008, 0x2008].map(|address| Wanted { address, first: seen, last: seen });
    let mut report = Report::default();
    let names = map.name(&wanted, &mut report).expect("readable");
    let names: Vec<_> = names.into_iter().map(|named| named.map(|named| named.name)).collect();
    assert_eq!(names, [Some("a".to_owned()), None]);
    assert_eq!(report.unread_bytes, 1 << 20);
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

/// A map of a process that had the pid before names nothing of this one.
#[test]
fn stale() {
    let sleeper = Sleeper::start();
    std::fs::write(&sleeper.path, "1000 10 a\n").expect("written");
    let file = std::fs::OpenOptions::new().write(true).open(&sleeper.path).expect("opened");
    let before = std::time::SystemTime::now() - std::time::Duration::from_secs(5);
    file.set_modified(before).expect("made old");
    let why = sleeper.open().expect_err("not its own");
    assert!(matches!(why, Error::Stale { .. }) && why.is_absence(), "{why}");
    // Written to since: its own.
    file.set_modified(std::time::SystemTime::now()).expect("made young");
    assert!(sleeper.open().is_ok());
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

/// A program that maps a file of this name executable and waits: a JIT with a dump.
fn mapper(path: &std::path::Path) -> Option<Sleeper> {
    let script = "import mmap,sys,time\n\
        file = open(sys.argv[1], 'r+b')\n\
        kept = mmap.mmap(file.fileno(), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)\n\
        print('mapped', flush=True)\n\
        time.sleep(60)";
    let mut child = Command::new("python3")
        .args(["-c", script])
        .arg(path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .ok()?;
    let mut line = String::new();
    let out = child.stdout.take().expect("a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("read");
    assert_eq!(line, "mapped\n");
    Some(Sleeper::of(child))
}

/// A directory of this test's own.
fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("hotframe-jitmap-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a directory");
    path
}

/// A dump is found by its mapping, whatever its path has become; without one there is none.
#[test]
fn mapped_dumps() {
    let directory = scratch("mapped");
    let path = directory.join("jit-1.dump");
    std::fs::write(&path, [0; 4096]).expect("written");
    let Some(jit) = mapper(&path) else {
        eprintln!("mapped_dumps: SKIPPED: no python3");
        return;
    };
    assert!(Dump::open(std::process::id()).expect("readable").is_none());
    let pid = jit.child.id();
    assert!(Dump::open(pid).expect("openable").is_some());
    // Something else stands there now. Without the right to look at mappings it is refused, with it
    // the file is found all the same.
    std::fs::remove_file(&path).expect("removed");
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
    match Dump::open(pid) {
        Ok(dump) => assert!(dump.is_some()),
        Err(why) => assert!(matches!(why, Error::NotRegular { .. } | Error::Open { .. }), "{why}"),
    }
    // What is wrong with it comes with the names.
    let sources = Sources::open(pid).expect("a dump");
    let (names, report) = sources.name(&[]);
    assert!(names.is_empty());
    assert_eq!(report.problems, ["jitdump: no jitdump"]);
    drop(jit);
    std::fs::remove_dir_all(&directory).expect("removed");
}

/// A dump of somebody else's is not believed, and the map still counts.
#[test]
fn foreign_dump() {
    let directory = scratch("foreign");
    let path = directory.join("jit-2.dump");
    std::fs::write(&path, [0; 4096]).expect("written");
    let Some(jit) = mapper(&path) else {
        eprintln!("foreign_dump: SKIPPED: no python3");
        return;
    };
    let pid = jit.child.id();
    if std::os::unix::fs::chown(&path, Some(12345), None).is_ok() {
        let sources = Sources::open(pid);
        assert!(matches!(sources, Err(Error::ForeignOwner { owner: 12345, .. })), "{sources:?}");
        std::fs::write(&jit.path, "1000 10 a\n").expect("written");
        let sources = Sources::open(pid).expect("a map");
        let refused: Vec<&Error> = sources.refused().collect();
        assert!(matches!(refused[..], [Error::ForeignOwner { .. }]));
        assert_eq!(sources.map_length().bytes, 10);
    }
    drop(jit);
    std::fs::remove_dir_all(&directory).expect("removed");
}
