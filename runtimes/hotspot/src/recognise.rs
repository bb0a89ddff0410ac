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
use std::sync::{Arc, OnceLock};

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
    /// From the first process that had them filled.
    offsets: OnceLock<Arc<Offsets>>,
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
        Ok(Some(Arc::new(Libjvm { exported, offsets: OnceLock::new() })))
    }
}

impl Layout for Libjvm {
    fn version(&self) -> String {
        self.offsets.get().map_or_else(|| "not known before it runs".into(), |o| o.version())
    }

    fn attach(&self, process: &Process<'_>) -> Result<Box<dyn Attached>, Unusable> {
        let offsets = match self.offsets.get() {
            Some(offsets) => offsets.clone(),
            None => {
                let structs = self.exported.read(process.memory, process.bias)?;
                let offsets = Arc::new(Offsets::new(&structs, process.memory, process.bias)?);
                self.offsets.get_or_init(|| offsets).clone()
            }
        };
        Ok(Box::new(process::Jvm::attach(offsets, process)?))
    }
}
