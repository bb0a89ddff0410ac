//! Frames of a profiler: identities, names and stacks of every process on a machine, inside one
//! byte budget.
//!
//! In: stacks as runs of 64-bit words (see [`frames`]) with the kernel's hash of each, and names
//! from resolvers, later. Out: a [`StackId`] a sample, and at export every stack with functions,
//! files and lines.
//!
//! # How it works
//! Identity is by value and shared: the same function in 200 processes, recompiled or moved, is
//! one row. A frame in static code is a *place*, a word that is equal in all processes and whose
//! names the file can give again at any time. A frame in dynamic code is known by (incarnation,
//! words); its first sight reserves it and asks a [`Question`], and the stack waits beside the
//! tree until the [answer](Store::answer) comes, so that the tree holds values only. Stacks are
//! a hash-consed tree. Nothing expires by time: [`Store::sweep`] frees what no stack and no cache
//! refers to.
//!
//! Everything is charged to a [`Budget`] before it is allocated. When a charge is refused, cold
//! names of static code and what dead processes left go first, then cold dynamic entries of live
//! processes; what still finds no room becomes a frame that says so. One process may not hold more
//! than its share.
//!
//! ```
//! use hotframe_frames::{Budget, Config, FrameInfo, FunctionInfo, ProcessKey, Store};
//!
//! let budget = Budget::new(8 << 20);
//! let mut store = Store::new(&budget, Config::default());
//! let process = store.incarnation(ProcessKey { tgid: 42, start_ns: 7, exec_id: 0 });
//!
//! // A dynamic frame (kind 3, two data words) called from static code (kind 1, file 9).
//! let words = [3 << 60 | 2 << 40, 0x7f00_1000, 17, 1 << 60 | 9 << 32 | 0x1234];
//! let stack = store.record(process, 0xfeed, &words);
//!
//! for question in store.take_questions(100) {
//!     let function = FunctionInfo { name: b"main", file: b"app.py", ..Default::default() };
//!     store.answer(question.id, &[FrameInfo { function, line: 17, flags: 0 }]);
//! }
//! for word in store.unnamed_words(100) {
//!     let function = FunctionInfo { name: b"eval", file: b"ceval.c", ..Default::default() };
//!     store.name_word(word, &[FrameInfo { function, line: 3, flags: 0 }]);
//! }
//! assert_eq!(store.known_stack(process, 0xfeed), Some(stack));
//! let names: Vec<&str> = store
//!     .stack(stack)
//!     .map(|frame| frame.frame.map_or("?", |frame| store.function(frame.function).name))
//!     .collect();
//! assert_eq!(names, ["main", "eval"]);
//! ```
//!
//! # Threads
//! One thread owns the store, usually the one that reads samples, so that a known stack takes no
//! lock. Questions and answers are plain data to be sent to resolvers and back. A [`Budget`] is
//! shared by any number of threads.
//!
//! # Not handled
//! Columns of source positions; lines and first lines beyond 2^24 - 1 (kept as unknown, counted).
//!
//! # Cost
//! Texts' own bytes and one or two more each, 21 bytes a function, 8 its first frame and 15 each one
//! after it, 15 a node, 19 a stack, 23 a place, 23 a (process, dynamic frame). A known frame: one or
//! two cache misses; a known stack: two. A new frame with a new name: a quarter of a microsecond. A
//! sweep: time in proportion to what is held, and one bit and a half a row while it lasts.
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod budget;
mod by_key;
pub mod capture;
mod column;
mod dynamic;
mod hash;
mod index;
mod marks;
mod names;
mod places;
mod recent;
mod refs;
mod stacks;
mod store;
mod strings;
mod text;
mod tombstones;
mod wire;

pub use budget::{Budget, Charge, Held, Owner, Refused};
pub use dynamic::{Incarnation, ProcessKey};
pub use names::{
    Frame, FrameInfo, Function, FunctionInfo, HEURISTIC, INLINED, MAX_CHAIN, MAX_LINE, Module,
    UNNAMED,
};
pub use store::{
    Config, Counters, Graft, Node, PendingId, Question, Report, StackFrame, StackId, Store, Why,
};
pub use text::MAX_TEXT_BYTES;
pub use wire::{Raw, frames, group, naming_order};
