//! Which files are a runtime's: each is looked at once, and only one that has a sign is asked about.
//!
//! In: an ELF file. Out: the runtimes that it is one of, each with what it says of itself or why it cannot be
//! used. Cost: the dynamic symbols' names, and the others' where those have no sign.

use hotframe_objects::{ElfFile, ReadAt};
use hotframe_runtime::{Executable, Layout, Runtime, elf};
use std::sync::Arc;

/// What a file was recognised as.
pub struct Recognised {
    /// The runtime.
    pub runtime: &'static dyn Runtime,
    /// What the file says of it, or why it cannot be used.
    pub layout: Result<Arc<dyn Layout>, String>,
}

/// Which of the registry's runtimes a file is. Their recognisers are asked only if it has a sign.
pub fn recognise(
    registry: &[&'static dyn Runtime],
    path: &str,
    elf: &ElfFile<&dyn ReadAt>,
) -> Vec<Recognised> {
    let mut found = Vec::new();
    let hits = with_signs(registry, elf);
    let executable = Executable { path, elf };
    for (&runtime, _) in registry.iter().zip(hits).filter(|(_, hit)| *hit) {
        let layout = match runtime.recognise(&executable) {
            Ok(None) => continue,
            Ok(Some(layout)) => {
                tracing::debug!(
                    path,
                    runtime = runtime.name(),
                    version = layout.version(),
                    "recognised"
                );
                Ok(layout)
            }
            Err(why) => {
                let why = crate::chain(&why);
                tracing::debug!(path, "{}: {why}", runtime.name());
                Err(why)
            }
        };
        found.push(Recognised { runtime, layout });
    }
    found
}

/// Which of the registry's runtimes have a sign in the file.
fn with_signs(registry: &[&'static dyn Runtime], file: &ElfFile<&dyn ReadAt>) -> Vec<bool> {
    let signs: Vec<_> = registry.iter().map(|runtime| runtime.signs()).collect();
    let mut hits: Vec<bool> = signs
        .iter()
        .map(|signs| signs.sections.iter().any(|name| file.section(name).is_some()))
        .collect();
    let wanted: Vec<&str> = signs.iter().flat_map(|signs| signs.symbols).copied().collect();
    let names = elf::Names::new(&wanted, &[]);
    for tables in [elf::Tables::Dynamic, elf::Tables::Static] {
        if hits.contains(&true) {
            break;
        }
        elf::symbols(file, tables, &names, &mut |name, _| {
            for (hit, signs) in hits.iter_mut().zip(&signs) {
                *hit |= signs.symbols.iter().any(|sign| sign.as_bytes() == name);
            }
            hits.contains(&false)
        });
    }
    hits
}
