//! What several tests share.
#![allow(dead_code)] // each test uses a part

use std::path::PathBuf;
use std::process::Command;

use hotframe_core::profile::Profile;

/// All that a profile holds, as text that differs when anything does.
pub fn dump(profile: &Profile) -> String {
    let strings: Vec<&str> = profile.strings.iter().collect();
    format!(
        "{:#?}\n{strings:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:?}\n{}",
        profile.meta,
        profile.modules,
        profile.functions,
        profile.frames,
        profile.stacks,
        profile.processes,
        profile.threads,
        profile.samples,
        profile.stats,
    )
}

/// Fails at the first line that differs.
pub fn assert_same(left: &Profile, right: &Profile) {
    let (left, right) = (dump(left), dump(right));
    for (i, (l, r)) in left.lines().zip(right.lines()).enumerate() {
        assert_eq!(l, r, "line {i} of the dump");
    }
    assert_eq!(left.len(), right.len());
}

/// A file of this test run.
pub fn scratch(name: &str, bytes: &[u8]) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(std::process::id().to_string());
    std::fs::create_dir_all(&folder).expect("a scratch folder");
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("a scratch file");
    path
}

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A command's standard output; its failure, with all that it said, is the test's.
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|cause| panic!("{command:?}: {cause}"));
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}
