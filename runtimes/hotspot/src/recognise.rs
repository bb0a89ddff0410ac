//! Is a file libjvm? It is if it exports its layout; its name does not matter.
//!
//! OpenJ9 and native images of GraalVM export nothing of the kind: the former is not handled, the
//! latter is native code. A JVM without it is recognised by what every JVM exports to the class
//! library, so that its processes' report says why they have no Java frames.

use crate::continuations::Continuations;
use crate::layout::{Offsets, Redefined};
use crate::process;
use crate::structs::Exported;
use hotframe_runtime::elf::{self, Tables};
use hotframe_runtime::{Attached, Begun, Executable, Layout, Process, Runtime, Signs, Unusable};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The table of structures.
const LAYOUT: &str = "gHotSpotVMStructs";
/// A function that every JVM exports to the class library (share/include/jvm.h @ jdk-17+35).
const INTERFACE: &str = "JVM_FindLoadedClass";

/// How many times classes were redefined (`JvmtiExport` in share/prims/jvmtiExport.hpp @ jdk-17+35), and in
/// former versions whether they were. No table publishes it: it has a name only where libjvm has symbols.
const REDEFINED: [&str; 2] =
    ["_ZN11JvmtiExport19_redefinition_countE", "_ZN11JvmtiExport22_has_redefined_a_classE"];

/// The runtime.
#[derive(Debug, Clone, Copy)]
pub struct Hotspot;

/// A libjvm.
#[derive(Debug)]
struct Libjvm {
    exported: Exported,
    redefined: Option<Redefined>,
    continuations: Option<Continuations>,
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

    fn title(&self) -> &'static str {
        "HotSpot"
    }

    fn is_beside_native(&self) -> bool {
        false
    }

    fn perf_map(&self) -> Option<&'static str> {
        Some("jcmd PID Compiler.perfmap (JDK 17 or later)")
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
        let redefined = elf::find(file.elf, Tables::Static, REDEFINED).into_iter().flatten().next();
        let redefined = redefined
            .map(|symbol| Redefined { address: symbol.address, len_bytes: symbol.len_bytes });
        let continuations = Continuations::find(file.elf);
        Ok(Some(Arc::new(Libjvm { exported, redefined, continuations, known: Mutex::default() })))
    }
}

/// What a process said of its layout that could not be attached to.
struct Early {
    offsets: Arc<Offsets>,
    /// It was read when the VM had code heaps. Before that, while libjvm is loaded and its constructors
    /// run, its tables may be filled in part.
    is_final: bool,
    n_tries: u32,
}

impl Layout for Libjvm {
    fn version(&self) -> String {
        "unknown".into()
    }

    fn attach(&self, process: &Process<'_>) -> Result<Box<dyn Attached>, Unusable> {
        self.attach_again(process, &mut None)
    }

    /// Most of what attaching costs is to read the tables. By what they said it is seen whether the VM
    /// has code heaps now: until then they are read anew ever more rarely, then once, and not again.
    fn attach_again(
        &self,
        process: &Process<'_>,
        begun: &mut Begun,
    ) -> Result<Box<dyn Attached>, Unusable> {
        let early = begun.take().and_then(|early| early.downcast::<Early>().ok());
        let (mut n_tries, mut known) = (1, None);
        if let Some(mut early) = early {
            early.n_tries = early.n_tries.saturating_add(1);
            n_tries = early.n_tries;
            let why = match process::Jvm::attach(early.offsets.clone(), process) {
                Ok(jvm) if early.is_final => return Ok(Box::new(jvm)),
                Err(why) if matches!(why, Unusable::NotYet(_)) => Some(why),
                _ => None,
            };
            let has_heaps = process::has_heaps(&early.offsets, process);
            if let Some(why) = why
                && (early.is_final || !has_heaps && !n_tries.is_power_of_two())
            {
                *begun = Some(early);
                return Err(why);
            }
            known = has_heaps.then_some(early.offsets);
        }
        let structs = self.exported.read(process.memory, process.bias)?;
        let offsets = Offsets::new(&structs, process.memory, process.bias)?;
        let redefined = self.redefined.or(offsets.redefined);
        let offsets =
            self.shared(Offsets { redefined, continuations: self.continuations, ..offsets });
        let attached = process::Jvm::attach(offsets.clone(), process);
        if attached.is_err() {
            let is_final = known.is_some_and(|known| known == offsets);
            *begun = Some(Box::new(Early { offsets, is_final, n_tries }));
        }
        Ok(Box::new(attached?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::{JDK17_OFFSETS, JDK17_SIZES, STATICS, jdk17};
    use hotframe_runtime::memory::RECORDED_UNIT_BYTES;
    use hotframe_runtime::{Mapping, Mappings, Memory, Naming, NothingKnown};

    /// Processes that say the same share it, one that says something else keeps it to itself, and
    /// nothing is left of those that ended.
    #[test]
    fn shared_by_equality() {
        let libjvm = Libjvm {
            exported: Exported::NOWHERE,
            redefined: None,
            continuations: None,
            known: Mutex::default(),
        };
        let first = libjvm.shared(Offsets { klass_name: 32, ..jdk17() });
        let (a, b) = (libjvm.shared(jdk17()), libjvm.shared(jdk17()));
        assert_eq!((first.klass_name, a.klass_name), (32, 24));
        assert!(Arc::ptr_eq(&a, &b));
        drop((first, a, b));
        let last = libjvm.shared(jdk17());
        assert_eq!(libjvm.known.lock().expect("nobody panicked").len(), 1, "{last:?}");
    }

    /// Until a VM has code heaps its tables, which may be filled in part, are read ever more rarely; once
    /// when it has; and not again while it goes on to start.
    #[test]
    fn tables_are_not_read_at_each_try() {
        const TABLES: u64 = 0x10_0000;
        const HEAP: u64 = 0x2000;
        let mut partial = JDK17_OFFSETS;
        partial[2].1 = 16;
        let all = Exported::written(TABLES, &JDK17_OFFSETS, &STATICS, &JDK17_SIZES);
        let partial = Exported::written(TABLES, &partial, &STATICS, &JDK17_SIZES);
        let libjvm = Libjvm {
            exported: all.0,
            redefined: None,
            continuations: None,
            known: Mutex::default(),
        };
        let mut begun = None;
        // Tries once more: why that is in vain, and whether the tables were read for it.
        let mut again = |tables: &[u8], has_heaps: bool| {
            let mut low = vec![0; 0x2000];
            let mut put = |at: u64, word: u64| {
                low[at as usize - 0x1000..][..8].copy_from_slice(&word.to_le_bytes());
            };
            put(4128, 0x1800);
            put(0x1800, u64::from_le_bytes(*b"17.0.15\0"));
            if has_heaps {
                // The list, its one heap; from, to; what of it is committed; its segment map; 2^7.
                put(4104, 0x1900);
                put(0x1900, 1);
                put(0x1908, 0x1980);
                put(0x1980, HEAP);
                for (at, word) in
                    [(8, 1 << 32), (16, 5 << 30), (24, 1 << 32), (32, 5 << 30), (136, 3 << 32)]
                {
                    put(HEAP + at, word);
                }
                put(HEAP + 256, 7);
            }
            let memory = Memory::recorded(vec![(0x1000, low), (TABLES, tables.to_vec())]);
            let process = Process {
                pid: 1,
                bias: 0,
                memory: &memory,
                naming: Naming::default(),
                known: &NothingKnown,
                mappings: &Mappings::new(&Vec::new),
                open: &|_: &Mapping| None,
            };
            let why = match libjvm.attach_again(&process, &mut begun) {
                Ok(_) => String::new(),
                Err(why) => why.to_string(),
            };
            let first_name = (TABLES + 0x4001) / RECORDED_UNIT_BYTES;
            (why.replace("not started: ", ""), memory.touched().contains(&first_name))
        };
        let is = |got: (String, bool), why: &str, reads: bool| {
            assert_eq!((got.0.as_str(), got.1), (why, reads));
        };
        for n in 1..=9u32 {
            is(again(&partial.1, false), "no code heap", n.is_power_of_two());
        }
        is(again(&all.1, true), "no interpreter", true);
        is(again(&all.1, true), "no interpreter", true);
        for _ in 0..9 {
            is(again(&all.1, true), "no interpreter", false);
        }
        let early = begun.and_then(|early| early.downcast::<Early>().ok()).expect("it is kept");
        assert_eq!(early.offsets.klass_name, 24);
    }
}
