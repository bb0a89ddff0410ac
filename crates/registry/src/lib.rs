//! The language runtimes that hotframe knows, a line each: for the binary, and for the fuzz targets, which
//! damage the recorded processes of all of them.
#![forbid(unsafe_code)]

use hotframe_runtime::Runtime;

/// All of them, in the order in which a file is asked about.
pub static RUNTIMES: [&dyn Runtime; 2] = [&hotframe_cpython::RUNTIME, &hotframe_hotspot::RUNTIME];

/// That of an id (`HF_RUNTIME_*`).
pub fn by_id(id: u32) -> Option<&'static dyn Runtime> {
    RUNTIMES.into_iter().find(|runtime| runtime.id() == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotframe_core::profile::Kind;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// Each id of `enum hf_runtime` is a runtime, with a folder of its name that has a step, and a kind
    /// of frames; and what has a step is here.
    #[test]
    fn every_runtime_has_its_lines() {
        let folders = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtimes");
        let names: BTreeSet<String> = RUNTIMES.iter().map(|one| one.name().to_owned()).collect();
        let with_step: BTreeSet<String> = std::fs::read_dir(&folders)
            .expect("the runtimes' folder")
            .map(|folder| folder.expect("a folder"))
            .filter(|folder| folder.path().join("bpf/step.h").exists())
            .map(|folder| folder.file_name().into_string().expect("a plain name"))
            .collect();
        assert_eq!(names, with_step);
        let ids: BTreeSet<u32> = RUNTIMES.iter().map(|one| one.id()).collect();
        assert_eq!(ids, (1..hotframe_abi::HF_RUNTIME_COUNT).collect());
        assert_eq!(ids.len(), RUNTIMES.len());
        for id in ids {
            assert_ne!(Kind::of_runtime(id), Kind::Jit, "runtime {id} has no kind of frames");
        }
    }
}
