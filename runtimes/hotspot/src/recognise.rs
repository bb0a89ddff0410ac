//! Is a file libjvm? It is if it exports its layout; its name does not matter.
//!
//! OpenJ9 and native images of GraalVM export nothing of the kind: the former is not handled, the
//! latter is native code. A JVM without it is recognised by what every JVM exports to the class
//! library, so that its processes' report says why they have no Java frames.

use crate::layout::Offsets;
use crate::process;
use crate::structs::Exported;
use hotframe_runtime::elf::{self, Tables};
use hotframe_runtime::{Attached, Executable, Layout, Process, Runtime, Signs, Unusable};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The table of structures.
const LAYOUT: &str = "gHotSpotVMStructs";
/// A function that every JVM exports to the class library (share/include/jvm.h @ jdk-17+35).
const INTERFACE: &str = "JVM_FindLoadedClass";

/// The runtime.
#[derive(Debug, Clone, Copy)]
pub struct Hotspot;

/// A libjvm.
#[derive(Debug)]
struct Libjvm {
    exported: Exported,
    /// Those of the processes that run it, to be shared by those that say the same.
    known: Mutex<Vec<Weak<Offsets>>>,
}

impl Libjvm {
    /// Offsets that a process said, as one that said the very same has them. What a process says is
    /// believed of itself alone: its owner may write what he likes into its memory.
    fn shared(&self, offsets: Offsets) -> Arc<Offsets> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|one| one.strong_count() > 0);
        let same = known.iter().filter_map(Weak::upgrade).find(|one| **one == offsets);
        same.unwrap_or_else(|| {
            let new = Arc::new(offsets);
            known.push(Arc::downgrade(&new));
            new
        })
    }
}

impl Runtime for Hotspot {
    fn id(&self) -> u32 {
        hotframe_abi::HF_RUNTIME_HOTSPOT
    }

    fn name(&self) -> &'static str {
        "hotspot"
    }

    fn signs(&self) -> Signs {
        Signs { symbols: &[LAYOUT, INTERFACE], sections: &[] }
    }

    fn recognise(&self, file: &Executable<'_>) -> Result<Option<Arc<dyn Layout>>, Unusable> {
        let Some(exported) = Exported::find(file.elf) else {
            let has = |tables, name| matches!(elf::find(file.elf, tables, [name]), [Some(_)]);
            if has(Tables::All, LAYOUT) {
                return Err(Unusable::Unknown("libjvm exports its layout in part only".into()));
            }
            // Not what a program has for itself: native images carry parts of the interface.
            if has(Tables::Dynamic, INTERFACE) {
                return Err(Unusable::Unknown(format!("a JVM that does not export {LAYOUT}")));
            }
            return Ok(None);
        };
        Ok(Some(Arc::new(Libjvm { exported, known: Mutex::default() })))
    }
}

impl Layout for Libjvm {
    fn version(&self) -> String {
        "unknown".into()
    }

    fn attach(&self, process: &Process<'_>) -> Result<Box<dyn Attached>, Unusable> {
        let structs = self.exported.read(process.memory, process.bias)?;
        let offsets = Offsets::new(&structs, process.memory, process.bias)?;
        Ok(Box::new(process::Jvm::attach(self.shared(offsets), process)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::jdk17;

    /// Processes that say the same share it, one that says something else keeps it to itself, and
    /// nothing is left of those that ended.
    #[test]
    fn shared_by_equality() {
        let libjvm = Libjvm { exported: Exported::NOWHERE, known: Mutex::default() };
        let first = libjvm.shared(Offsets { klass_name: 32, ..jdk17() });
        let (a, b) = (libjvm.shared(jdk17()), libjvm.shared(jdk17()));
        assert_eq!((first.klass_name, a.klass_name), (32, 24));
        assert!(Arc::ptr_eq(&a, &b));
        drop((first, a, b));
        let last = libjvm.shared(jdk17());
        assert_eq!(libjvm.known.lock().expect("nobody panicked").len(), 1, "{last:?}");
    }
}
