//! HotSpot (OpenJDK and what is built from it): names and lines of interpreted and compiled Java.
//!
//! In: a process that maps libjvm, under whatever name; frames as `bpf/step.h` sends them. Out: the
//! code heaps and the table of offsets that the step reads; a [`hotframe_runtime::Frame`] for each
//! Java method of a frame, inlined ones included.
//!
//! # How it works
//! libjvm publishes its own layout ([`structs`], [`layout`]) and is recognised by that
//! ([`recognise`]). The step walks Java frames on the native stack and sends `Method*` or code blob,
//! a position, and a cookie ([`abi`]); [`resolve`] reads the names from the process at first sight:
//! the method's own, or, for compiled code, those of the debug information's scopes. A cookie that
//! does not fit any more makes a frame unnamed, never another one's: compile ids are not given
//! twice, and `Method*` counts only together with the number of classes that were unloaded. While
//! classes are being unloaded, samples wake the reader (at most once a millisecond), and the step
//! tells the name of each interpreted method that is not in the archive of classes, once in an epoch
//! (`struct hf_hotspot_name`): it names frames whose class is gone when they are read. With a walk
//! that is finished late goes the epoch of its sample.
//!
//! No agent, flag or restart of the JVM is needed.
//!
//! # Sources
//! src/hotspot @ jdk-17+35 and jdk-25+36: share/runtime/vmStructs.cpp, share/code/{codeBlob,nmethod,
//! scopeDesc,pcDesc,debugInfo,codeCache}.hpp, share/memory/heap.{hpp,cpp}, share/oops/{method,
//! constMethod,constantPool,klass,symbol}.hpp, share/interpreter/interpreter.hpp, cpu/x86/.
//!
//! # Versions
//! 8 to 27, see [`layout`]. 11, 17, 21 and 25 are recorded and run in the live suite, 8, 26 and 27
//! run in it (`make test-runtimes`). Later ones are tried as 27. Graal as the compiler, which the VM's flags
//! say ([`flags`]): 22.3 in 17 is recorded and run where its modules can be fetched.
//!
//! # Bad input
//! What libjvm says of itself is bounded before it is used: a stride, an offset or a size that no
//! version has makes the process one without Java frames, with the reason in its report; so does a
//! layout by which `java.lang.Object.hashCode` is not found. A process that ends or is replaced while
//! it is read leaves frames without names, not with others'. Each process's tables are read, and
//! believed of it alone: those who say the same share one copy.
//!
//! # Not handled
//! Frames of virtual threads in the heap with ZGC, Shenandoah or a libjvm without symbols, where a
//! frame of the barrier stands for them ([`continuations`]). While a thread gives up its carrier
//! its frames are in both places: they are shown twice where the leaf is doYield itself or where
//! the interpreter runs the method that called it, and the stack is cut otherwise. arm64: the step
//! leaves Java code to the native rules. Code that `jaotc` (9 to 16) compiled. Without
//! `-XX:+DebugNonSafepoints` a compiled leaf's line is that of the next safepoint or call that
//! execution comes to, or, where it returns before, of the last one. While classes are being
//! unloaded, interpreted frames of a walk that is finished late (native code met for the first
//! time) are named only if none was unloaded since, or their class was seen before, or is in the
//! archive; where classes were redefined, those of the archive alone. Compiled code of a class that
//! goes within a millisecond of its sample may stay unnamed, and so may a method whose class's name
//! is longer than 192 bytes. Frames that a deoptimisation has laid out and not filled in, some
//! microseconds each time, have no name.
//!
//! # Cost
//! Attaching some 200 reads and 2 ms, once a process. A frame that is new: two reads of a page, and
//! up to eight for each method in it. Kept are 16 bytes for each method that was seen, at most 256
//! KiB a process, and some 8 KiB for each layout that differs. Where classes were redefined (of a
//! libjvm without symbols: where they may be, which in 25 is always), the step reads five words
//! more of each interpreted method that is not in the archive. A name that the step tells: 16 reads
//! at most; eight names a walk, 4,096 a second and CPU; `told` and `told_refused` of `--stats`
//! count them.
#![forbid(unsafe_code)]

#[allow(missing_docs, non_camel_case_types, clippy::all)]
pub mod abi;
pub mod continuations;
mod course;
mod debug;
pub mod flags;
pub mod layout;
mod lines;
pub mod names;
mod places;
pub mod process;
pub mod recognise;
pub mod resolve;
pub mod structs;
mod stubs;
pub mod unsigned5;

/// HotSpot.
pub static RUNTIME: recognise::Hotspot = recognise::Hotspot;
