//! CPython: Python frames between native frames, with names and lines.
//!
//! In: files that hold the interpreter, processes that run it, and the frames that
//! `bpf/step.h` sends: a code object's address, a position in its bytecode, and a cookie. Out: the
//! regions and the table of the step, and one `Frame` per Python frame: qualified name, file, line.
//!
//! # How it works
//! A file is CPython if it defines the evaluation loop and the interpreter's state; its name does not
//! matter. Its version says how structures are laid out ([`layout`]); from 3.13 on it states that itself.
//! In a process the list of interpreters leads to a thread's state, and the thread-specific key that holds
//! this state in that thread is the one that leads there in every thread ([`process`]); up to 3.11 the
//! state of the lock's holder goes before it, which is that of the interpreter that runs. The kernel half
//! then finds a thread's innermost Python frame by itself, and each time that the walk comes through the
//! evaluation loop it emits the frames that this run of the loop has. In 3.10 and 3.11 frames of
//! generators that wait while an exception is thrown into another one stand between them, and have no run.
//! Where these end before the native stack does, another interpreter called the one that runs; from 3.12
//! on its frames are found in its own state, by a frame of the loop's that lies on the native stack. Code
//! that the JIT compiler made has no frame: 3.14's is followed by the shim that called it, whose bytes are
//! known; 3.15's by its frame pointers. Names and lines are read later ([`resolve`]), and only if the code
//! object is still what it was. Where stacks lack frames, or have some that are none, it is looked whether
//! the states are still there: an interpreter may have been finalised and another begun. In a process's
//! first five seconds, and for a minute after code was found gone, the step tells names with the sample:
//! `exec`, `eval` and templates make code that is collected at once.
//!
//! # Sources
//! Include/cpython/{code,frameobject,pystate,unicodeobject}.h, Include/internal/pycore_{frame,
//! interp,runtime,debug_offsets}.h, Python/ceval.c, Objects/{codeobject,lnotab_notes.txt,
//! locations.md} @ v3.6.15, v3.7.16, v3.8.18, v3.9.18, v3.10.13, v3.11.7, v3.12.1, v3.13.0, v3.14.0,
//! v3.15.2. Tools/jit/shim.c @ v3.14.0, and what clang makes of it.
//!
//! # Versions
//! 3.6 to 3.15 tested; 3.14 as python-build-standalone makes it (clang, one function an instruction,
//! without symbols), as Debian does (gcc, frame pointers, without symbols), and without the lock
//! (`--disable-gil`); newer ones are tried as the newest known, and marked so.
//!
//! # Not handled
//! Greenlets before 3.10 and from 3.13 on: between the switch of the native stack and that of the
//! thread's state, a few instructions, the frames of the greenlet that was left stand between the
//! native ones of the next (6 of 928 samples of a program that does nothing else). While an exception
//! is thrown into a generator that another one waits for: in 3.9, whose list of frames ends there, the
//! frames of all callers lack; in 3.10 for some instructions before and after, as with greenlets. A
//! build of 3.14 without optimisation: where a run of the loop ends. Qualified names
//! before 3.11, where code objects have none: the plain name is shown. Code that 3.14's JIT
//! compiler makes on arm64 or with a shim of other bytes than Debian's and
//! python-build-standalone's: its stacks may lack Python frames, and are not counted. So may those
//! of 3.13's (`PYTHON_JIT=1`): on x86-64 its pieces begin with a function of their own too,
//! `_ENTRY`, which the loop calls and in which they return (`GOTO_TIER_TWO`, Python/ceval_macros.h;
//! `jit_side_entry`, Python/jit.c; Tools/jit/trampoline.c @ v3.13.7), but in a convention that has
//! the stack of values in rbp and keeps no register (`ghccc`, Tools/jit/_targets.py @ v3.13.7). So
//! the loop's rbp is only where `_ENTRY` put it, and no build was at hand to know the bytes of
//! that; on arm64 there is no `_ENTRY`. What the native rules find there is a guess
//! (`stacks_heuristic`) or ends (`stacks_cut`). While 3.14's JIT compiler makes all code anew all the
//! time, as it does where several threads run and where what `sys.monitoring` is asked for changes, each
//! new mapping's first stacks lack their Python frames, and are counted (`late`): 13 to 18 % of those
//! of two programs that do nothing else. Names above some 110 characters, and lines of
//! functions above some 50, where code is gone before it is read. Interpreters that one thread runs
//! within each other: up to 3.11 the frames of the innermost and of the thread's first are there,
//! of the first alone while the lock is released. From 3.12 on all are there, but for what an
//! embedding program may do: where it goes back to a state within another interpreter's
//! (`PyThreadState_Swap`), the outer run's frames stand too far inside; from 3.13 on those of a
//! state that another thread made lack. Up to 3.9, where one thread made several states of one
//! interpreter (uWSGI's for its threads), a thread's first interpreter alone. Where an interpreter
//! was finalised and another begun, with a key of another number, stacks of up to a second: until
//! 3.11 those of what runs without the lock. All of these stacks are counted.
//!
//! # Cost
//! Recognising: one pass over the symbols and the evaluation loop's code, some milliseconds a file.
//! Attaching: some 20 reads, and a few for each thread where stacks lack frames, ten times a second
//! at first and then once. A new frame: 3 reads. A run of the loop of an interpreter that called
//! another: a read for each of its frames, two for each interpreter and one for each thread's
//! state, 1,024 a walk. A name that the step tells: 3 reads in the kernel and 512 bytes, once a
//! second and code object while it runs. Nothing is cached: the frame store is.
#![forbid(unsafe_code)]

#[allow(nonstandard_style, missing_docs)]
pub mod abi;
mod code;
mod handlers;
mod layout;
mod lines;
mod process;
mod recognise;
mod resolve;
mod text;

use hotframe_runtime::{Executable, Layout, Runtime, Signs, Unusable};
use std::sync::Arc;

/// The runtime, for the registry.
pub static RUNTIME: CPython = CPython;

/// CPython, 3.6 and later.
#[derive(Debug)]
pub struct CPython;

impl Runtime for CPython {
    fn id(&self) -> u32 {
        hotframe_abi::HF_RUNTIME_CPYTHON
    }

    fn name(&self) -> &'static str {
        "cpython"
    }

    fn title(&self) -> &'static str {
        "CPython"
    }

    fn is_beside_native(&self) -> bool {
        true
    }

    fn perf_map(&self) -> Option<&'static str> {
        Some("python3 -X perf … (3.12 or later)")
    }

    fn lost_names(&self) -> &'static [&'static str] {
        &abi::LOST_NAMES
    }

    fn signs(&self) -> Signs {
        Signs { symbols: &["_PyEval_EvalFrameDefault"], sections: &[".PyRuntime"] }
    }

    fn recognise(&self, file: &Executable<'_>) -> Result<Option<Arc<dyn Layout>>, Unusable> {
        let facts = recognise::recognise(file)?;
        Ok(facts.map(|facts| Arc::new(process::Interpreter::of(facts)) as Arc<dyn Layout>))
    }
}
