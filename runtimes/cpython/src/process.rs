//! CPython in a process: from its interpreters to the table of the kernel half's step.
//!
//! In: a file's facts and a process that runs it. Out: regions, the table (`bpf/abi.h`), and who
//! resolves its frames.
//!
//! # How it works
//! `_PyRuntime` leads to the interpreters and they lead to thread states. A thread state knows its
//! thread's `pthread_self()`, which in glibc and musl is the thread pointer, so that the
//! thread-specific key of all thread states is found as the one that holds this state there
//! (`hotframe_runtime::tls`): no offset of the key, and no code, has to be known. From 3.12 on the
//! thread-local `_Py_tss_tstate` leads there too; it is empty while a thread has released the GIL, and
//! so it is only second. 3.15 has no such key but one more thread-local variable. These are found, by
//! symbols or without, as those that hold the state of the most threads.
//!
//! Up to 3.11 the key keeps leading to the first interpreter that a thread ran. Which one it runs now
//! stands where the state of the lock's holder does, and so that goes first.
//!
//! An interpreter that is finalised deletes its key, and the next one's has whatever number is free then
//! (`_PyGILState_Fini`, Python/pystate.c, up to 3.11; `_PyRuntimeState_Fini` @ v3.13.7): the
//! slot may hold another library's data, or, for nothing is cleared there (nptl/pthread_key_delete.c @
//! glibc-2.36), the state that is gone. Everything else that is found lies in the file's own data and in its
//! thread-local segment, and stays while the library is loaded. So when the step counts that a stack lacks
//! frames, or a frame is no code, it is checked that the places lead every thread to a state that there is,
//! and if one does not, all is found anew.
//!
//! What `PyCode_Type` says of its members goes before the version's own layout.

use crate::abi::{
    HF_CPYTHON_BLOCK_BYTES, HF_CPYTHON_COOKIE_WORDS, HF_CPYTHON_ENTRY, HF_CPYTHON_MAX_CHAINS,
    HF_CPYTHON_MAX_READS, HF_CPYTHON_ONE, HF_CPYTHON_SHIM, hf_cpython_chain, hf_cpython_gap,
    hf_cpython_proc,
};
use crate::layout::{Activation, Offsets, Position, Table, Waiting};
use crate::recognise::File;
use crate::resolve::{Resolver, code};
use hotframe_abi as abi;
use hotframe_objects::ElfFile;
use hotframe_runtime::{
    Attached, Frame, Layout, Memory, Outcome, Process, RawFrame, Region, Unusable, Why, tls,
};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zerocopy::{FromZeros as _, IntoBytes as _};

/// Interpreters and threads that are looked at to find the key.
const INTERPRETERS_MAX: usize = 16;
const THREADS_MAX: usize = 64;
/// The thread state stands in thread-local variables from 3.12 on (Python/pystate.c
/// `_Py_tss_tstate` @ v3.12.0).
const VARIABLES_SINCE: u8 = 12;
/// The version whose JIT compiler's code is entered by a shim whose bytes are known. 3.13's is another
/// (lib.rs, "Not handled"); 3.15's is called by a function of the file.
const WITH_SHIM: u8 = 14;
/// Pieces of anonymous code that are looked at.
const JITTED_MAX: usize = 512;
/// Members of `PyCode_Type` that are read; it has some 20.
const MEMBERS_MAX: u64 = 64;
/// `PyTypeObject.tp_members` where objects begin with two words; `PyMemberDef`: name, offset, its size
/// (Include/cpython/object.h and Include/structmember.h @ v3.6.15 to v3.13.0).
const TYPE_MEMBERS: u64 = 240;
/// `PyTypeObject.tp_flags` there, and the one of a type that is used (`Py_TPFLAGS_READY`,
/// Include/object.h @ v3.6.15 to v3.15.2).
const TYPE_FLAGS: u64 = 168;
const TYPE_READY: u64 = 1 << 12;
const MEMBER_OFFSET: u64 = 16;
const MEMBER_BYTES: u64 = 40;

/// A file, which its processes look at again.
pub(crate) struct Interpreter(Arc<File>);

impl Interpreter {
    pub(crate) fn of(file: File) -> Interpreter {
        Interpreter(Arc::new(file))
    }
}

impl Layout for Interpreter {
    fn version(&self) -> String {
        let file = &self.0;
        let mut text = format!("{}.{}", file.version.major, file.version.minor);
        if let Some(micro) = file.version.micro {
            text += &format!(".{micro}");
        }
        if file.is_guessed {
            text += " (guessed)";
        }
        text
    }

    fn attach(&self, process: &Process<'_>) -> Result<Box<dyn Attached>, Unusable> {
        let found = self.0.look_at(process)?;
        let mut attached = CPythonProcess::new(&self.0, process.bias, found);
        attached.look_for_jitted(process);
        Ok(Box::new(attached))
    }

    /// A table without a way to the thread's state: the step finds none, and counts that.
    fn stand_in(&self, process: &Process<'_>) -> Option<Box<dyn Attached>> {
        let mut table = hf_cpython_proc::new_zeroed();
        table.runtime = abi::HF_RUNTIME_CPYTHON;
        let resolver = Resolver::new(self.0.offsets.clone(), None);
        let found = Found { table, resolver, places: Vec::new() };
        Some(Box::new(CPythonProcess::new(&self.0, process.bias, found)))
    }
}

/// What is found in a process.
struct Found {
    table: hf_cpython_proc,
    resolver: Resolver,
    /// Ways from a thread pointer to the thread's state; that of the table's first chain that is not the
    /// lock's holder first.
    places: Vec<tls::Place>,
}

impl Found {
    /// Takes the type of code objects, which the step compares, if the type in the library is it: a program
    /// that was linked at a fixed address has a copy of its own, and the library's is never made ready. True
    /// if the table was without.
    fn take_code_type(&mut self, memory: &Memory) -> bool {
        let (at, off) = self.resolver.code_type();
        let flags = TYPE_FLAGS.wrapping_add(self.resolver.offsets.object_type).wrapping_sub(8);
        if at == 0
            || self.table.code_type != 0
            || memory.u64(at.wrapping_add(flags)).is_none_or(|flags| flags & TYPE_READY == 0)
        {
            return false;
        }
        (self.table.code_type, self.table.type_off) = (at, off);
        true
    }
}

impl File {
    fn look_at(&self, process: &Process<'_>) -> Result<Found, Unusable> {
        let memory = process.memory;
        let mut offsets = self.offsets.clone();
        let code_type = self.code_type.map(|at| at.wrapping_add(process.bias));
        if let Some(code_type) = code_type {
            // Objects without the lock begin with more.
            let members = TYPE_MEMBERS.wrapping_add(offsets.object_type).wrapping_sub(8);
            take_members(memory, code_type.wrapping_add(members), &mut offsets);
        }
        let states = self.thread_states(process, &offsets)?;
        let holder = self.holder(process, &offsets, &states);
        let places = self.thread_state_places(process, &offsets, &states)?;
        let resolver = Resolver::new(offsets, code_type);
        let table = self.table(process.bias, &resolver, holder, &places)?;
        let mut found = Found { table, resolver, places };
        found.take_code_type(memory);
        Ok(found)
    }

    fn regions(&self, bias: u64) -> Vec<Region> {
        let region = |part: &Range<u64>| Region {
            start: part.start.wrapping_add(bias),
            end: part.end.wrapping_add(bias),
        };
        self.parts.iter().map(region).collect()
    }

    /// Thread pointers with a state that the thread made.
    fn threads(&self, memory: &Memory, offsets: &Offsets, states: &[u64]) -> Vec<(u64, u64)> {
        states
            .iter()
            .filter_map(|&state| Some((memory.u64(state.wrapping_add(offsets.thread_id))?, state)))
            .filter(|(tp, _)| *tp != 0 && tp % 8 == 0)
            .collect()
    }

    /// Do these places lead every thread to a state that there is? An interpreter may have been finalised
    /// and another one begun, with a key of another number.
    fn lead(
        &self,
        process: &Process<'_>,
        offsets: &Offsets,
        places: &[tls::Place],
    ) -> Result<bool, Unusable> {
        let states = self.thread_states(process, offsets)?;
        let threads = self.threads(process.memory, offsets, &states);
        Ok(places.iter().enumerate().all(|(at, place)| {
            threads.iter().all(|&(tp, _)| match place.read(process.memory, tp) {
                // A thread that is gone. A thread-local variable is empty while the lock is released.
                None => true,
                Some(0) => at > 0,
                Some(state) => states.contains(&state),
            })
        }))
    }

    /// The ways from a thread pointer to the thread's state.
    fn thread_state_places(
        &self,
        process: &Process<'_>,
        offsets: &Offsets,
        states: &[u64],
    ) -> Result<Vec<tls::Place>, Unusable> {
        let memory = process.memory;
        let threads = self.threads(memory, offsets, states);
        let key = tls::key_holding(memory, &threads);
        let mut places: Vec<tls::Place> = key.into_iter().collect();
        if self.version.minor >= VARIABLES_SINCE {
            places.extend(self.thread_state_variables(process, &threads));
            places.dedup();
            places.truncate(HF_CPYTHON_MAX_CHAINS as usize);
        }
        if places.is_empty() {
            return Err(Unusable::NotYet("no thread holds its thread state"));
        }
        Ok(places)
    }

    /// The thread-local variables that hold the thread state: by its symbol the one of whoever has the
    /// lock, and what else is found to hold it, which from 3.15 on is one that stands for the key.
    fn thread_state_variables(
        &self,
        process: &Process<'_>,
        threads: &[(u64, u64)],
    ) -> Vec<tls::Place> {
        let (memory, mappings) = (process.memory, process.mappings);
        let Some(part) = self.parts.first() else { return Vec::new() };
        let at = part.start.wrapping_add(process.bias);
        let mapping = mappings.iter().find(|mapping| mapping.start <= at && at < mapping.end);
        let Some(Ok(elf)) = mapping.and_then(|mapping| (process.open)(mapping)).map(ElfFile::open)
        else {
            return Vec::new();
        };
        let is_musl = mappings.iter().any(|mapping| mapping.path.contains("/ld-musl-"));
        let module = tls::Module { bias: process.bias, is_musl };
        let n_max = HF_CPYTHON_MAX_CHAINS as usize;
        let mut places = tls::variables_holding(&elf, memory, module, threads, n_max);
        // Nobody may have the lock just now.
        let named = self.thread_state.and_then(|value| tls::variable(&elf, memory, module, value));
        places.extend(named.filter(|named| !places.contains(named)));
        places
    }

    /// Where the state of the thread that holds the lock stands, if one of these interpreters' or
    /// none is there now.
    fn holder(&self, process: &Process<'_>, offsets: &Offsets, states: &[u64]) -> Option<u64> {
        let memory = process.memory;
        let at = match (self.runtime, offsets.runtime_holder) {
            (Some(runtime), Some(offset)) => runtime.wrapping_add(offset),
            (Some(_), None) => return None,
            (None, _) => self.current?,
        };
        let at = at.wrapping_add(process.bias);
        let owner = |state: u64| memory.u64(state.wrapping_add(offsets.thread_interpreter));
        let state = memory.u64(at)?;
        let is_one = || {
            let interpreter = owner(state);
            interpreter.is_some() && states.iter().any(|&known| owner(known) == interpreter)
        };
        // Up to 3.9 a state is known for its thread's by who made it. Where one thread made several of
        // one interpreter, some are others', and nothing says which.
        let mut makers = HashSet::new();
        let is_told = offsets.thread_stack.is_some()
            || states.iter().all(|&known| {
                let maker = memory.u64(known.wrapping_add(offsets.thread_id));
                makers.insert((owner(known), maker))
            });
        (at != 0 && is_told && (state == 0 || is_one())).then_some(at)
    }

    /// Thread states of all interpreters, as far as they are consistent.
    fn thread_states(
        &self,
        process: &Process<'_>,
        offsets: &Offsets,
    ) -> Result<Vec<u64>, Unusable> {
        let memory = process.memory;
        let read = |at: u64| memory.u64(at).ok_or(Unusable::Read { address: at, len_bytes: 8 });
        let head = match (self.runtime, self.interpreters) {
            (Some(runtime), _) => {
                runtime.wrapping_add(process.bias).wrapping_add(offsets.runtime_interpreters)
            }
            (None, Some(interpreters)) => interpreters.wrapping_add(process.bias),
            // 3.6 without its static symbols: the state of whoever has the GIL.
            (None, None) => {
                let at = self.current.unwrap_or_default().wrapping_add(process.bias);
                let state = read(at)?;
                return if state == 0 {
                    Err(Unusable::NotYet("no thread runs Python"))
                } else {
                    Ok(vec![state])
                };
            }
        };
        let mut states = Vec::new();
        let mut seen = HashSet::new();
        let mut interpreter = read(head)?;
        if interpreter == 0 {
            return Err(Unusable::NotYet("there is no interpreter"));
        }
        while interpreter != 0 && seen.insert(interpreter) && seen.len() <= INTERPRETERS_MAX {
            let threads = interpreter.wrapping_add(offsets.interpreter_threads);
            let mut state = memory.u64(threads).unwrap_or_default();
            let mut n = 0;
            while state != 0 && n < THREADS_MAX && !states.contains(&state) {
                let owner = memory.u64(state.wrapping_add(offsets.thread_interpreter));
                if owner != Some(interpreter) {
                    break;
                }
                states.push(state);
                state = memory.u64(state.wrapping_add(offsets.thread_next)).unwrap_or_default();
                n += 1;
            }
            let next = interpreter.wrapping_add(offsets.interpreter_next);
            interpreter = memory.u64(next).unwrap_or_default();
        }
        if states.is_empty() {
            return Err(Unusable::NotYet("the interpreter has no thread"));
        }
        Ok(states)
    }

    fn table(
        &self,
        bias: u64,
        resolver: &Resolver,
        holder: Option<u64>,
        places: &[tls::Place],
    ) -> Result<hf_cpython_proc, Unusable> {
        let offsets = &resolver.offsets;
        let mut table = hf_cpython_proc::new_zeroed();
        table.runtime = abi::HF_RUNTIME_CPYTHON;
        table.activation = match offsets.activation {
            Activation::One => HF_CPYTHON_ONE,
            Activation::Entry => HF_CPYTHON_ENTRY,
            Activation::Shim => HF_CPYTHON_SHIM,
        };
        let ways = holder.map(|holder| (holder, &[][..])).into_iter();
        let ways = ways.chain(places.iter().map(|place| (0, place.offsets())));
        for (chain, (holder, reads)) in table.chains.iter_mut().zip(ways) {
            let reads: Vec<i32> = reads.iter().chain(&offsets.thread_frame).copied().collect();
            if reads.len() > HF_CPYTHON_MAX_READS as usize {
                return Err(Unusable::Unknown("too many reads to the thread state".into()));
            }
            *chain = hf_cpython_chain::new_zeroed();
            chain.holder = holder;
            chain.owner_off = offsets.thread_id as i32;
            chain.stack_off = offsets.thread_stack.unwrap_or_default();
            chain.n = reads.len() as u16;
            chain.n_to_state = (reads.len() - offsets.thread_frame.len()) as u32;
            for (slot, read) in chain.offsets.iter_mut().zip(reads) {
                *slot = read;
            }
        }
        let gaps = self.gaps.iter().map(|gap| (gap, 0));
        let gaps = gaps.chain(self.limbo.iter().map(|gap| (gap, 1)));
        for (slot, (gap, is_limbo)) in table.gaps.iter_mut().zip(gaps) {
            *slot = hf_cpython_gap {
                start: gap.start.wrapping_add(bias),
                bytes: (gap.end - gap.start) as u32,
                is_limbo,
            };
            table.n_gaps += 1;
        }
        table.frame_bytes = offsets.frame_bytes;
        table.code_bytes = resolver.code_bytes;
        if u32::from(offsets.frame_bytes) > crate::abi::HF_CPYTHON_BLOCK_BYTES
            || u32::from(resolver.code_bytes) > crate::abi::HF_CPYTHON_BLOCK_BYTES
        {
            return Err(Unusable::Unknown("frames or code objects above 256 bytes".into()));
        }
        table.code_off = offsets.frame_code;
        table.previous_off = offsets.frame_previous;
        table.position_off = offsets.frame_position;
        table.mark_off = offsets.frame_mark;
        table.mark = offsets.mark;
        table.skip_mark = offsets.skip_mark;
        table.position_is_int = (offsets.position != Position::Pointer).into();
        table.position_shift = (offsets.position == Position::Bytes).into();
        (table.first_line_off, table.name_off) = (
            offsets.code_firstlineno as u16,
            offsets.code_qualname.unwrap_or(offsets.code_name) as u16,
        );
        (table.file_off, table.lines_off) =
            (offsets.code_filename as u16, offsets.code_table as u16);
        table.bytecode_off = offsets.code_bytecode;
        (table.copies_off, table.copy_off) = (offsets.code_copies, offsets.frame_copy);
        table.cookie_offs = resolver.cookie_offs;
        match offsets.waiting {
            Waiting::Never => {}
            Waiting::Depth { generator, depth, state, code } => {
                (table.generator_off, table.depth_off, table.state_off) = (generator, depth, state);
                (table.text_off, table.text_bytes_off) = (code, offsets.bytes_data as u16);
            }
            Waiting::Cframe { owner, previous, frame } => {
                table.owner_off = owner;
                (table.cframe_previous_off, table.cframe_frame_off) = (previous, frame);
            }
        }
        table.gaps_at_leaf = self.gaps_at_leaf.into();
        table.has_jit = (self.version.minor == WITH_SHIM).into();
        self.take_interpreters(bias, offsets, &mut table);
        Ok(table)
    }

    /// Where the step looks for the interpreter that called another; before 3.12 nothing says which run of
    /// the loop a frame belongs to.
    fn take_interpreters(&self, bias: u64, offsets: &Offsets, table: &mut hf_cpython_proc) {
        let Some(runtime) = self.runtime.filter(|_| offsets.activation == Activation::Shim) else {
            return;
        };
        let in_block = |offset: u64| {
            let offset = u16::try_from(offset).ok()?;
            (u32::from(offset) + 8 <= HF_CPYTHON_BLOCK_BYTES).then_some(offset)
        };
        // The second read, if there is one, is of the first word there.
        let (first, is_behind) = match offsets.thread_frame[..] {
            [first] => (first, 0),
            [first, 0] => (first, 1),
            _ => return,
        };
        let (Some(next), Some(id), Some(frame)) =
            (in_block(offsets.thread_next), in_block(offsets.thread_id), in_block(first as u64))
        else {
            return;
        };
        (table.thread_next_off, table.thread_id_off, table.thread_frame_off) = (next, id, frame);
        table.frame_is_behind = is_behind;
        table.interpreter_next_off = offsets.interpreter_next as u32;
        table.interpreter_threads_off = offsets.interpreter_threads as u32;
        table.interpreters = runtime.wrapping_add(bias).wrapping_add(offsets.runtime_interpreters);
    }
}

/// Code objects' offsets, as their type lists them where `at` leads to.
fn take_members(memory: &Memory, at: u64, offsets: &mut Offsets) {
    let Some(members) = memory.u64(at).filter(|&members| members != 0) else { return };
    for n in 0..MEMBERS_MAX {
        let member = members.wrapping_add(n * MEMBER_BYTES);
        let Some(name) = memory.u64(member).filter(|&name| name != 0) else { break };
        let (Some(name), Some(offset)) =
            (memory.c_string(name, 64), memory.u64(member.wrapping_add(MEMBER_OFFSET)))
        else {
            break;
        };
        if offset > 240 {
            continue;
        }
        match name.as_slice() {
            b"co_argcount" => offsets.code_argcount = offset,
            b"co_firstlineno" => offsets.code_firstlineno = offset,
            b"co_names" => offsets.code_names = offset,
            b"co_filename" => offsets.code_filename = offset,
            b"co_name" => offsets.code_name = offset,
            b"co_qualname" => offsets.code_qualname = Some(offset),
            b"co_lnotab" if offsets.table == Table::Lnotab => offsets.code_table = offset,
            b"co_linetable" if offsets.table != Table::Lnotab => offsets.code_table = offset,
            _ => {}
        }
    }
}

/// Words of a code object that the cookie is made of.
pub(crate) type CookieOffs = [u16; HF_CPYTHON_COOKIE_WORDS as usize];

/// How long names are told of a process that was just met, and of one in which code was gone before
/// it was read.
const TELLS_FIRST: Duration = Duration::from_secs(5);
const TELLS_FOR: Duration = Duration::from_secs(60);

/// First and last wait before a process is looked at again in which stacks lack frames.
const LOOK_MIN: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_secs(1);

struct CPythonProcess {
    file: Arc<File>,
    /// The loop's, and code that the JIT compiler made.
    regions: Vec<Region>,
    n_loop: usize,
    /// Anonymous code that was looked at for the compiler's.
    anonymous: Vec<Region>,
    found: Found,
    /// Names are told until then.
    tells_until: Instant,
    /// Since it was looked at, stacks lacked frames, or had some that are none.
    is_doubted: bool,
    /// It is not looked at before, and the wait after that.
    look_at: Instant,
    wait: Duration,
}

impl CPythonProcess {
    fn new(file: &Arc<File>, bias: u64, mut found: Found) -> CPythonProcess {
        let now = Instant::now();
        found.table.tells = 1;
        let regions = file.regions(bias);
        CPythonProcess {
            file: file.clone(),
            n_loop: regions.len(),
            regions,
            anonymous: Vec::new(),
            found,
            tells_until: now + TELLS_FIRST,
            is_doubted: false,
            look_at: now,
            wait: LOOK_MIN,
        }
    }

    /// Where stacks lack frames the interpreter may be another one than that which was found: one that was
    /// finalised leaves its key's number to whoever asks next. True if it is.
    ///
    /// Stacks lack some in every process, seldom, and in some all the time: it is looked at ever more
    /// rarely then, and what was found is read first.
    fn look_again(&mut self, process: &Process<'_>) -> bool {
        let now = Instant::now();
        if !self.is_doubted || now < self.look_at || self.found.places.is_empty() {
            return false;
        }
        if now.duration_since(self.look_at) > LOOK_MAX {
            self.wait = LOOK_MIN;
        }
        self.look_at = now + self.wait;
        self.wait = (self.wait * 2).min(LOOK_MAX);
        // While there is no interpreter, or one that is beginning, it stays in doubt.
        let (offsets, places) = (&self.found.resolver.offsets, &self.found.places);
        let Ok(is_there) = self.file.lead(process, offsets, places) else { return false };
        if is_there {
            self.is_doubted = false;
            return false;
        }
        let Ok(found) = self.file.look_at(process) else { return false };
        self.is_doubted = false;
        if found.places == self.found.places {
            return false;
        }
        let tells = self.found.table.tells;
        self.found = found;
        self.found.table.tells = tells;
        self.tells_until = now + TELLS_FIRST;
        self.wait = LOOK_MIN;
        true
    }

    /// Takes what the JIT compiler made since. True if there is other code of its.
    fn look_for_jitted(&mut self, process: &Process<'_>) -> bool {
        if self.found.table.has_jit == 0 || !process.mappings.are_changed() {
            return false;
        }
        let anonymous = process.mappings.iter().filter(|mapping| mapping.path.is_empty());
        let anonymous: Vec<Region> = anonymous
            .map(|mapping| Region { start: mapping.start, end: mapping.end })
            .take(JITTED_MAX)
            .collect();
        if anonymous == self.anonymous {
            return false;
        }
        let before = self.regions.split_off(self.n_loop);
        self.regions.extend(
            anonymous.iter().filter(|region| {
                before.contains(region) || is_jitted(process.memory, region.start)
            }),
        );
        self.anonymous = anonymous;
        self.regions[self.n_loop..] != before
    }
}

/// Does code that the JIT compiler made begin here? It begins with its shim, whose only call follows
/// `mov r12, rdi; mov r13, rsi; mov r14, rdx` (Tools/jit/shim.c @ v3.14.0, as clang compiles it).
fn is_jitted(memory: &Memory, start: u64) -> bool {
    let words: Vec<u8> = (0..5)
        .filter_map(|n| memory.u64(start.wrapping_add(n * 8)))
        .flat_map(u64::to_le_bytes)
        .collect();
    let sign = [0x49, 0x89, 0xfc, 0x49, 0x89, 0xf5, 0x49, 0x89, 0xd6, 0xe8];
    words.windows(sign.len()).any(|bytes| bytes == sign)
}

impl Attached for CPythonProcess {
    fn regions(&self) -> &[Region] {
        &self.regions
    }

    fn table(&self) -> &[u8] {
        self.found.table.as_bytes()
    }

    fn refresh(&mut self, process: &Process<'_>) -> bool {
        let mut is_other = self.look_again(process) | self.look_for_jitted(process);
        let tells = u16::from(Instant::now() < self.tells_until);
        // It may have been found before its types were made ready.
        is_other |= tells != 0 && self.found.take_code_type(process.memory);
        std::mem::replace(&mut self.found.table.tells, tells) != tells || is_other
    }

    fn lost(&mut self) {
        self.is_doubted = true;
    }

    fn told_key(&self, raw: &RawFrame<'_>) -> Option<[u64; 2]> {
        Some([code(raw), raw.own()])
    }

    fn resolve(
        &mut self,
        raw: &RawFrame<'_>,
        process: &Process<'_>,
        frames: &mut Vec<Frame>,
    ) -> Outcome {
        match self.found.resolver.frame(raw, process.memory) {
            Ok(frame) => {
                frames.push(frame);
                Outcome::Named
            }
            Err(why) => {
                if why == Why::StalePointer {
                    self.tells_until = Instant::now() + TELLS_FOR;
                }
                let Some(frame) = self.found.resolver.of_told(raw) else {
                    // What is no code object may have been found where no thread's state is.
                    self.is_doubted = true;
                    return Outcome::Unnamed(why);
                };
                frames.push(frame);
                Outcome::Named
            }
        }
    }
}
