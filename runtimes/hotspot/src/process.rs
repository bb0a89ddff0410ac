//! A JVM: its code heaps, the table that the step reads, and what of both changes.
//!
//! In: a process and its libjvm's [`Offsets`]. Out: regions (the reserved ranges of the code heaps,
//! which never move) and `struct hf_hotspot_proc`.
//!
//! # How it works
//! The interpreter is one queue of codelets with descriptions. In those of method entries the
//! return address and rbp are pushed by one sequence of instructions; behind the `leave` of a
//! return the frame is gone before the jump: both are looked for in the code, once, so that the
//! step knows for each address where the return address is. The codelet by which deoptimisations
//! enter is what frames return to that they have not filled in yet. What is missing at attach (a
//! JVM that is starting) is looked for again when time has passed.
//!
//! # Sources
//! `CodeCache`, `CodeHeap`, `HeapBlock` (share/code/codeCache.hpp, share/memory/heap.hpp);
//! `StubQueue`, `InterpreterCodelet` (share/code/stubs.hpp, share/interpreter/interpreter.hpp);
//! `generate_fixed_frame`, `remove_activation` (cpu/x86/templateInterpreterGenerator_x86.cpp,
//! interp_masm_x86.cpp); `PerfDataEntry` (share/runtime/perfMemory.hpp), all @ jdk-17+35.

use crate::abi;
use crate::layout::{CodeBegin, Entry, Heaps, Offsets, SourceFile, SymbolLength};
use crate::resolve::Resolver;
use hotframe_abi as shared;
use hotframe_runtime::{
    Attached, Frame, Kept, Memory, Outcome, Process, RawFrame, Region, Unusable,
};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zerocopy::{FromZeros as _, IntoBytes as _};

/// Codelets: one for each bytecode and some fifty more.
const CODELETS_MAX: usize = 2048;
/// Code of the interpreter: 100 KB, 250 KB in debug builds.
const INTERPRETER_MAX_BYTES: u64 = 4 << 20;
/// Blobs that are looked at for the names of the kinds.
const BLOBS_MAX: usize = 4096;
/// Memory of performance counters (`-XX:PerfDataMemorySize`, 32 KiB).
const PERF_ENTRIES_MAX: u32 = 4096;
/// Collections that unload classes are minutes apart in a JVM that has time: for so long after one
/// samples are urgent.
const UNLOADS_FOR: Duration = Duration::from_secs(60);
/// A walk is finished later than its sample by less than this.
const QUIET_AFTER: Duration = Duration::from_secs(2);
/// Heaps are not larger (`CODE_CACHE_SIZE_LIMIT`, share/utilities/globalDefinitions.hpp).
const CODE_CACHE_MAX_BYTES: u64 = 2 << 30;

/// A heap of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heap {
    pub low: u64,
    /// Of what is committed.
    pub committed_end: u64,
    pub end: u64,
    pub segmap: u64,
    pub shift: u32,
}

impl Heap {
    pub(crate) fn has(&self, address: u64) -> bool {
        address >= self.low && address < self.end
    }
}

/// A JVM.
pub struct Jvm {
    offsets: Arc<Offsets>,
    bias: u64,
    heaps: Vec<Heap>,
    regions: Vec<Region>,
    table: abi::hf_hotspot_proc,
    resolver: Resolver,
    /// What virtual threads have in the heap was looked for when there were any.
    has_chunks_read: bool,
    /// End of the queue of codelets when it was read.
    queue_end: u32,
    /// The number of unloaded classes when it was looked at last, and since when it is the same.
    unloaded: Option<(u32, Instant)>,
}

impl Jvm {
    /// Takes up a process.
    ///
    /// # Errors
    /// [`Unusable::NotYet`] until it has code heaps and an interpreter.
    pub fn attach(offsets: Arc<Offsets>, process: &Process<'_>) -> Result<Jvm, Unusable> {
        let heaps = heaps(&offsets, process.memory, process.bias)?;
        let regions = heaps.iter().map(|heap| Region { start: heap.low, end: heap.end }).collect();
        let mut jvm = Jvm {
            resolver: Resolver::new(offsets.clone(), process.bias),
            bias: process.bias,
            table: base_table(&offsets, &heaps)?,
            heaps,
            regions,
            offsets,
            has_chunks_read: false,
            queue_end: 0,
            unloaded: None,
        };
        jvm.resolver.naming = process.naming;
        jvm.look(process.memory)?;
        jvm.resolver.try_names(process.memory)?;
        // Last, since a VM that begins is tried again and again. It has its options before any code.
        if let Some(flags) = jvm.offsets.flags {
            let names = ["UseJVMCICompiler", "DebugNonSafepoints"];
            let [has_jvmci, debugs_all] = flags.are_on(names, process.memory, process.bias);
            if has_jvmci == Some(true) {
                jvm.table.flags |= abi::HF_HOTSPOT_JVMCI;
            }
            jvm.resolver.debugs_all = debugs_all == Some(true);
        }
        Ok(jvm)
    }

    /// Looks for all that a JVM that starts may not have. True if the table changed.
    fn look(&mut self, memory: &Memory) -> Result<bool, Unusable> {
        let mut changed = false;
        let queue = Queue::read(&self.offsets, memory, self.bias)?;
        if queue.end != self.queue_end || self.table.n_ranges == 0 {
            let interpreter = queue.interpreter(&self.offsets, memory)?;
            let Range { start, end } = interpreter.code;
            (self.table.interpreter_start, self.table.interpreter_end) = (start, end);
            let Range { start, end } = interpreter.unfilled;
            (self.table.unfilled_start, self.table.unfilled_end) = (start, end);
            self.table.n_ranges = interpreter.ranges.len() as u32;
            for (slot, range) in self.table.ranges.iter_mut().zip(interpreter.ranges) {
                *slot = range;
            }
            self.queue_end = queue.end;
            changed = true;
        }
        if self.table.epoch_addr == 0
            && let Some(at) = unloaded_classes(&self.offsets, memory, self.bias)
        {
            self.table.epoch_addr = at;
            self.resolver.epoch_addr = at;
            changed = true;
        }
        if self.resolver.archive.is_empty() {
            self.resolver.archive = archive(&self.offsets, memory, self.bias);
            let Range { start, end } = self.resolver.archive;
            changed |= start != end;
            (self.table.archive_start, self.table.archive_end) = (start, end);
        }
        changed |= self.look_at_continuations(memory);
        changed |= self.look_at_unloading(memory);
        changed |= self.look_at_redefining(memory);
        if self.table.name_nmethod == 0
            || self.table.name_native == 0
            || self.table.name_vtable == 0
        {
            changed |= self.find_names(memory);
        }
        Ok(changed)
    }

    /// Where virtual threads' frames are in the heap, once any ran. True if that is known now.
    fn look_at_continuations(&mut self, memory: &Memory) -> bool {
        let (Some(continuations), Some(flags)) = (self.offsets.continuations, self.offsets.flags)
        else {
            return false;
        };
        if self.has_chunks_read || !continuations.has_begun(memory, self.bias) {
            return false;
        }
        self.has_chunks_read = true;
        let Some((chunks, is_wide)) = continuations.read(flags, memory, self.bias) else {
            return false;
        };
        self.table.chunks = chunks;
        if is_wide {
            self.table.flags |= abi::HF_HOTSPOT_WIDE_OOPS;
        }
        true
    }

    /// Whether classes are being unloaded: then the reader is woken to name what was sampled while
    /// it is there; or whether none were, so that what is read late is what it was. True if that
    /// changed.
    fn look_at_unloading(&mut self, memory: &Memory) -> bool {
        if self.table.epoch_addr == 0 {
            return false;
        }
        let Some(now) = self.resolver.epoch(memory) else { return false };
        let known = self.unloaded.filter(|(known, _)| *known == now);
        let since = known.map_or_else(Instant::now, |(_, since)| since);
        self.unloaded = Some((now, since));
        let is_first = now == 0;
        let mut flags = self.table.flags & !(abi::HF_HOTSPOT_UNLOADS | abi::HF_HOTSPOT_QUIET);
        // One that has unloaded some before does so again.
        if !is_first && since.elapsed() < UNLOADS_FOR {
            flags |= abi::HF_HOTSPOT_UNLOADS;
        }
        let mut epoch = 0;
        if is_first || since.elapsed() >= QUIET_AFTER {
            flags |= abi::HF_HOTSPOT_QUIET;
            epoch = now.into();
        }
        let before = (self.table.flags, self.table.epoch_quiet);
        (self.table.flags, self.table.epoch_quiet) = (flags, epoch);
        before != (flags, epoch)
    }

    /// Whether classes were redefined: from then on a method's memory alone does not say which it is. True
    /// if that changed.
    fn look_at_redefining(&mut self, memory: &Memory) -> bool {
        let were_not = self.table.flags & abi::HF_HOTSPOT_REDEFINES == 0;
        let Some(redefined) = self.offsets.redefined.filter(|_| were_not) else { return false };
        let at = redefined.address.wrapping_add(self.bias);
        let now = match redefined.len_bytes {
            8 => memory.u64(at),
            _ => memory.u8(at).map(u64::from),
        };
        let begins = now.is_some_and(|now| now != 0);
        if begins {
            self.table.flags |= abi::HF_HOTSPOT_REDEFINES;
            self.resolver.redefines = true;
        }
        begins
    }

    /// Where the names of the kinds of blobs are, and the stubs of virtual threads: by a walk of the
    /// heaps' blocks.
    fn find_names(&mut self, memory: &Memory) -> bool {
        let before = (
            self.table.name_nmethod,
            self.table.name_native,
            self.table.name_vtable,
            self.table.continuation_start,
        );
        let mut known: Vec<u64> = Vec::new();
        for heap in &self.heaps {
            let high = self.offsets.space_high_of(memory, self.bias, heap.low);
            let mut at = heap.low;
            let end = high.unwrap_or(heap.committed_end).min(heap.end);
            for _ in 0..BLOBS_MAX {
                let Some((blob, len)) = self
                    .block(memory, heap, at)
                    .filter(|(_, len)| *len != 0 && at.checked_add(*len).is_some_and(|n| n <= end))
                else {
                    break;
                };
                if let Some(blob) = blob
                    && let Some(name) = memory.u64(blob + u64::from(self.offsets.blob_name))
                    && !known.contains(&name)
                {
                    known.push(name);
                    match memory.c_string(name, 64).unwrap_or_default().as_slice() {
                        b"nmethod" => self.table.name_nmethod = name,
                        b"native nmethod" => self.table.name_native = name,
                        b"vtable chunks" => self.table.name_vtable = name,
                        text if text.windows(12).any(|part| part == b"continuation") => {
                            self.table.continuation_start = blob;
                            self.table.continuation_end = at + len;
                        }
                        _ => {}
                    }
                }
                at += len;
            }
        }
        before
            != (
                self.table.name_nmethod,
                self.table.name_native,
                self.table.name_vtable,
                self.table.continuation_start,
            )
    }

    /// The block at an address: its blob, if it is in use, and its length.
    fn block(&self, memory: &Memory, heap: &Heap, at: u64) -> Option<(Option<u64>, u64)> {
        let o = &self.offsets;
        let segments = memory.u64(at + u64::from(o.block_length))?;
        // 64 bits wide up to JDK 22, 32 later: the flag follows it.
        let segments =
            if o.block_used - o.block_length < 8 { segments & 0xffff_ffff } else { segments };
        let len = segments.checked_shl(heap.shift)?;
        let is_used = memory.u8(at + u64::from(o.block_used))? != 0;
        Some((is_used.then_some(at + u64::from(o.block_bytes)), len))
    }
}

impl Offsets {
    /// The end of what a heap has committed, read anew.
    fn space_high_of(&self, memory: &Memory, bias: u64, low: u64) -> Option<u64> {
        let heaps = heaps(self, memory, bias).ok()?;
        heaps.iter().find(|heap| heap.low == low).map(|heap| heap.committed_end)
    }
}

impl Attached for Jvm {
    fn version(&self) -> Option<String> {
        Some(self.offsets.version())
    }

    fn regions(&self) -> &[Region] {
        &self.regions
    }

    fn table(&self) -> &[u8] {
        self.table.as_bytes()
    }

    fn refresh(&mut self, process: &Process<'_>) -> bool {
        self.look(process.memory).unwrap_or(false)
    }

    fn has_moment(&self) -> bool {
        self.table.epoch_addr != 0
    }

    fn kept(&self) -> Kept {
        self.resolver.kept()
    }

    fn forget(&mut self) {
        self.resolver.forget();
    }

    fn told_key(&self, raw: &RawFrame<'_>) -> Option<[u64; 2]> {
        Some([raw.word(0), raw.own() & u64::from(abi::HF_HOTSPOT_COOKIE_MASK)])
    }

    fn alike(&self, raw: &RawFrame<'_>) -> Option<[u64; 2]> {
        self.resolver.alike(raw)
    }

    fn read_ahead(&self, frames: &[RawFrame<'_>], memory: &Memory) {
        self.resolver.read_ahead(frames, &self.heaps, memory);
    }

    fn resolve(
        &mut self,
        raw: &RawFrame<'_>,
        process: &Process<'_>,
        frames: &mut Vec<Frame>,
    ) -> Outcome {
        self.resolver.resolve(raw, process, &self.heaps, frames)
    }
}

fn read(memory: &Memory, address: u64) -> Result<u64, Unusable> {
    memory.u64(address).ok_or(Unusable::Read { address, len_bytes: 8 })
}

/// Has a process code heaps? Then its VM runs.
pub(crate) fn has_heaps(offsets: &Offsets, process: &Process<'_>) -> bool {
    heaps(offsets, process.memory, process.bias).is_ok()
}

/// Finds the code heaps.
fn heaps(o: &Offsets, memory: &Memory, bias: u64) -> Result<Vec<Heap>, Unusable> {
    let not_yet = Unusable::NotYet("no code heap");
    let pointers = match o.heaps {
        Heaps::One(pointer) => vec![read(memory, pointer.wrapping_add(bias))?],
        Heaps::Array { pointer, len, data } => {
            let array = read(memory, pointer.wrapping_add(bias))?;
            if array == 0 {
                return Err(not_yet);
            }
            let n = read(memory, array.wrapping_add(len))? as u32;
            let data = read(memory, array.wrapping_add(data))?;
            if n > abi::HF_HOTSPOT_MAX_HEAPS {
                return Err(Unusable::Unknown(format!("{n} code heaps")));
            }
            (0..u64::from(n))
                .map(|n| read(memory, data.wrapping_add(n * 8)))
                .collect::<Result<Vec<_>, _>>()?
        }
    };
    let mut heaps = Vec::new();
    for pointer in pointers {
        if pointer == 0 {
            return Err(not_yet);
        }
        let space = pointer.wrapping_add(o.heap_memory);
        let heap = Heap {
            low: read(memory, space.wrapping_add(o.space_low_boundary))?,
            end: read(memory, space.wrapping_add(o.space_high_boundary))?,
            committed_end: read(memory, space.wrapping_add(o.space_high))?,
            segmap: read(memory, pointer.wrapping_add(o.heap_segmap).wrapping_add(o.space_low))?,
            shift: read(memory, pointer.wrapping_add(o.heap_shift))? as u32,
        };
        if heap.low == 0 || heap.segmap == 0 {
            return Err(not_yet);
        }
        if heap.end <= heap.low
            || heap.end - heap.low > CODE_CACHE_MAX_BYTES
            || heap.end >> 47 != 0
            || !(4..=16).contains(&heap.shift)
        {
            return Err(Unusable::Unknown(format!("a code heap {heap:x?}")));
        }
        heaps.push(heap);
    }
    if heaps.is_empty() {
        return Err(not_yet);
    }
    heaps.sort_by_key(|heap| heap.low);
    if heaps.windows(2).any(|two| two[0].end > two[1].low) {
        return Err(Unusable::Unknown("code heaps that overlap".into()));
    }
    Ok(heaps)
}

/// The table without what may be missing in a JVM that starts.
fn base_table(o: &Offsets, heaps: &[Heap]) -> Result<abi::hf_hotspot_proc, Unusable> {
    let mut table = abi::hf_hotspot_proc::new_zeroed();
    table.runtime = shared::HF_RUNTIME_HOTSPOT;
    table.n_heaps = heaps.len() as u32;
    for (slot, heap) in table.heaps.iter_mut().zip(heaps) {
        slot.low = heap.low;
        slot.end = heap.end;
        slot.segmap = heap.segmap;
        slot.shift = heap.shift;
    }
    table.code_low = heaps.first().map_or(0, |heap| heap.low);
    table.code_end = heaps.last().map_or(0, |heap| heap.end);
    table.block_bytes = o.block_bytes;
    table.block_used = o.block_used;
    table.blob_name = o.blob_name;
    table.blob_size = o.blob_size;
    table.blob_frame_size = o.blob_frame_size;
    table.blob_frame_complete = o.blob_frame_complete;
    table.blob_compile_id = o.nmethod_compile_id;
    table.blob_orig_pc = o.nmethod_orig_pc;
    table.blob_deopt = o.nmethod_deopt;
    table.blob_deopt_mh = o.nmethod_deopt_mh.unwrap_or(abi::HF_HOTSPOT_NO_FIELD as u16);
    table.blob_code = match o.code_begin {
        CodeBegin::Address(at) => {
            table.flags |= abi::HF_HOTSPOT_CODE_ADDRESS;
            at
        }
        CodeBegin::Offset(at) => at,
    };
    table.blob_entry = match o.nmethod_entry {
        Entry::Address(at) => {
            table.flags |= abi::HF_HOTSPOT_ENTRY_ADDRESS;
            at
        }
        Entry::CodeOffset(at) => at,
    };
    if o.frame_complete_is_short {
        table.flags |= abi::HF_HOTSPOT_COMPLETE_I16;
    }
    // From 9 on stubs that use no x87 compute these (stubGenerator_x86_64_*.cpp).
    if o.major < 9 {
        table.flags |= abi::HF_HOTSPOT_X87;
    }
    let fields = [
        table.blob_name,
        table.blob_size,
        table.blob_frame_size,
        table.blob_frame_complete,
        table.blob_compile_id,
        table.blob_orig_pc,
        table.blob_deopt,
        o.nmethod_deopt_mh.unwrap_or(0),
        table.blob_code,
        table.blob_entry,
    ];
    let last = fields.iter().copied().max().unwrap_or(0);
    table.read_bytes = o.block_bytes + last + 8;
    table.head_bytes = o.block_bytes + o.blob_bytes;
    if u32::from(table.read_bytes.max(table.head_bytes)) > abi::HF_HOTSPOT_MAX_BLOB_BYTES {
        return Err(Unusable::Unknown(format!("a code blob with a field at {last}")));
    }
    table.method_const = o.method_const;
    table.const_bytes = o.const_bytes;
    table.const_code_size = o.const_code_size;
    table.bcp_words = o.bcp_words;
    table.const_constants = o.const_constants;
    table.const_name = o.const_name;
    table.const_flags = o.const_flags;
    table.pool_bytes = o.pool_bytes;
    table.pool_holder = o.pool_holder;
    let none = abi::HF_HOTSPOT_NO_FIELD as u16;
    (table.pool_source, table.klass_source) = match o.source_file {
        SourceFile::Pool(at) => (at, none),
        SourceFile::Klass(at) => (none, at),
        SourceFile::Unknown => (none, none),
    };
    table.klass_name = o.klass_name;
    table.symbol_length = match o.symbol_length {
        SymbolLength::U16(at) => at,
        // Little-endian.
        SymbolLength::Upper(at) => at + 2,
    };
    table.symbol_body = o.symbol_body;
    Ok(table)
}

/// The interpreter's code.
struct Interpreter {
    code: Range<u64>,
    /// In which the frame does not stand.
    ranges: Vec<abi::hf_hotspot_range>,
    /// Where a deoptimisation enters, relative to the code: what its frames return to until they are
    /// filled in. Empty: not found.
    unfilled: Range<u32>,
}

/// The interpreter's codelets.
struct Queue {
    buffer: u64,
    begin: u32,
    end: u32,
}

impl Queue {
    fn read(o: &Offsets, memory: &Memory, bias: u64) -> Result<Queue, Unusable> {
        let not_yet = Unusable::NotYet("no interpreter");
        let queue = read(memory, o.interpreter.wrapping_add(bias))?;
        if queue == 0 {
            return Err(not_yet);
        }
        let found = Queue {
            buffer: read(memory, queue.wrapping_add(o.queue_buffer))?,
            begin: read(memory, queue.wrapping_add(o.queue_begin))? as u32,
            end: read(memory, queue.wrapping_add(o.queue_end))? as u32,
        };
        if found.buffer == 0 || found.end <= found.begin {
            return Err(not_yet);
        }
        if u64::from(found.end) > INTERPRETER_MAX_BYTES {
            return Err(Unusable::Unknown(format!("an interpreter of {} bytes", found.end)));
        }
        Ok(found)
    }

    fn interpreter(&self, o: &Offsets, memory: &Memory) -> Result<Interpreter, Unusable> {
        let start = self.buffer.wrapping_add(self.begin.into());
        let end = start.saturating_add((self.end - self.begin).into());
        let code = memory
            .bytes(start, end - start, INTERPRETER_MAX_BYTES as usize)
            .ok_or(Unusable::Read { address: start, len_bytes: (end - start) as usize })?;
        let (mut ranges, mut unfilled) = (Vec::new(), 0..0);
        let mut at = 0;
        for _ in 0..CODELETS_MAX {
            let word = |offset: u64, n: usize| -> Option<u64> {
                let bytes = code.get(at..)?.get(offset as usize..)?.get(..n)?;
                Some(bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)))
            };
            let (Some(size), Some(description)) =
                (word(o.codelet_size, 4), word(o.codelet_description, 8))
            else {
                break;
            };
            let Some(codelet) = code.get(at..at.saturating_add(size as usize)) else { break };
            if codelet.is_empty() {
                break;
            }
            let text = memory.c_string(description, 256).unwrap_or_default();
            if text.windows(18).any(|part| part == b"method entry point") {
                ranges.push(entry(codelet, at as u32));
            }
            if text == b"deoptimization entry points" {
                unfilled = at as u32..(at + codelet.len()) as u32;
            }
            exits(codelet, at as u32, &mut ranges);
            hands_on(codelet, at as u32, &mut ranges);
            at += codelet.len();
        }
        ranges.sort_by_key(|range| range.start);
        // An exit lies in the entry of a native method: the entry is split around it.
        let mut split: Vec<abi::hf_hotspot_range> = Vec::new();
        for range in ranges {
            let mut rest = None;
            if let Some(last) = split.last_mut().filter(|last| last.end > range.start) {
                if last.end > range.end && last.kind == abi::HF_HOTSPOT_ENTRY as u8 {
                    let mut behind = copy(last);
                    behind.start = range.end;
                    rest = Some(behind);
                }
                last.end = range.start;
            }
            split.push(range);
            split.extend(rest);
        }
        split.retain(|range| range.start < range.end);
        if split.is_empty() {
            return Err(Unusable::NotYet("the interpreter has no method entries"));
        }
        if split.len() > abi::HF_HOTSPOT_MAX_RANGES as usize {
            return Err(Unusable::Unknown(format!("an interpreter with {} exits", split.len())));
        }
        Ok(Interpreter { code: start..end, ranges: split, unfilled })
    }
}

fn copy(range: &abi::hf_hotspot_range) -> abi::hf_hotspot_range {
    abi::hf_hotspot_range {
        start: range.start,
        end: range.end,
        at: range.at,
        kind: range.kind,
        ra_reg: range.ra_reg,
        sp_reg: range.sp_reg,
        reserved: 0,
    }
}

/// A method entry, and where in it the frame begins: push rax; push rbp; mov rbp, rsp; push r13.
fn entry(codelet: &[u8], start: u32) -> abi::hf_hotspot_range {
    const FRAME: [u8; 7] = [0x50, 0x55, 0x48, 0x8b, 0xec, 0x41, 0x55];
    let at = codelet.windows(FRAME.len()).position(|code| code == FRAME);
    abi::hf_hotspot_range {
        start,
        end: start + codelet.len() as u32,
        at: at.map_or(0, |at| start + at as u32),
        kind: abi::HF_HOTSPOT_ENTRY as u8,
        ra_reg: 0,
        sp_reg: 0,
        reserved: 0,
    }
}

/// DWARF numbers by the processor's (rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 …).
const DWARF: [u8; 16] = [0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15];

/// Returns: leave; …; pop ra; mov rsp, sender; …; jmp ra.
fn exits(codelet: &[u8], start: u32, ranges: &mut Vec<abi::hf_hotspot_range>) {
    /// Between the parts there is at most a store or a compare and a store.
    const GAP_MAX_BYTES: usize = 40;
    let mut from = 0;
    while let Some(leave) = codelet.get(from..).and_then(|c| c.iter().position(|&b| b == 0xc9)) {
        let leave = from + leave;
        from = leave + 1;
        let behind = &codelet[from..codelet.len().min(from + 2 * GAP_MAX_BYTES)];
        for pop in 0..behind.len().min(GAP_MAX_BYTES / 2) {
            let (register, len) = match behind[pop..] {
                [byte @ 0x58..=0x5f, ..] => (byte - 0x58, 1),
                [0x41, byte @ 0x58..=0x5f, ..] => (byte - 0x58 + 8, 2),
                _ => continue,
            };
            let sender = match behind.get(pop + len..pop + len + 3) {
                Some([0x48, 0x8b, byte @ 0xe0..=0xe7]) => byte - 0xe0,
                Some([0x49, 0x8b, byte @ 0xe0..=0xe7]) => byte - 0xe0 + 8,
                _ => continue,
            };
            let jump: &[u8] = if register < 8 {
                &[0xff, 0xe0 + register]
            } else {
                &[0x41, 0xff, 0xe0 + register - 8]
            };
            let rest = &behind[pop + len + 3..];
            let Some(at) = rest.windows(jump.len()).position(|code| code == jump) else { continue };
            let end = from + pop + len + 3 + at + jump.len();
            ranges.push(abi::hf_hotspot_range {
                start: start + from as u32,
                end: start + end as u32,
                at: start + (from + pop) as u32,
                kind: abi::HF_HOTSPOT_EXIT as u8,
                ra_reg: DWARF[usize::from(register)],
                sp_reg: DWARF[usize::from(sender)],
                reserved: 0,
            });
            from = end;
            break;
        }
    }
}

/// Where an exception is handed on: [sub rsp, 8; call; add rsp, 8; jmp]; call; mov rbx, rax; pop rdx; pop rax;
/// jmp rbx.
fn hands_on(codelet: &[u8], start: u32, ranges: &mut Vec<abi::hf_hotspot_range>) {
    const BEHIND: [u8; 7] = [0x48, 0x8b, 0xd8, 0x5a, 0x58, 0xff, 0xe3];
    const ADD_RSP_8: [u8; 4] = [0x48, 0x83, 0xc4, 0x08];
    /// A call by way of a register and a jump over it.
    const BETWEEN_MAX_BYTES: usize = 18;
    for (behind, _) in codelet.windows(BEHIND.len()).enumerate().filter(|(_, c)| *c == BEHIND) {
        let from = behind.saturating_sub(ADD_RSP_8.len() + BETWEEN_MAX_BYTES);
        let before = &codelet[from..behind];
        let Some(add) = before.windows(ADD_RSP_8.len()).rposition(|code| code == ADD_RSP_8) else {
            continue;
        };
        ranges.push(abi::hf_hotspot_range {
            start: start + (from + add) as u32,
            end: start + behind as u32 + 4, // mov rbx, rax; pop rdx
            at: start + (from + add + ADD_RSP_8.len()) as u32,
            kind: abi::HF_HOTSPOT_HANDS_ON as u8,
            ra_reg: 0,
            sp_reg: 0,
            reserved: 0,
        });
    }
}

/// The archive of classes that was mapped at start (CDS): what lies in it is never anything else.
fn archive(o: &Offsets, memory: &Memory, bias: u64) -> Range<u64> {
    let word = |at: Option<u64>| memory.u64(at?.wrapping_add(bias));
    match (word(o.archive_base), word(o.archive_top)) {
        (Some(base), Some(top)) if base < top && top >> 47 == 0 => base..top,
        _ => 0..0,
    }
}

/// Where the number of unloaded classes is: a counter of the VM's shared performance memory.
fn unloaded_classes(o: &Offsets, memory: &Memory, bias: u64) -> Option<u64> {
    const NAME: &[u8] = b"java.cls.unloadedClasses";
    /// In `PerfDataPrologue`: magic, and where and how many entries are.
    const MAGIC: [u8; 4] = [0xca, 0xfe, 0xc0, 0xc0];
    const ENTRY_OFFSET: u64 = 24;
    const N_ENTRIES: u64 = 28;
    /// In `PerfDataEntry`: lengths and offsets from its begin.
    const NAME_OFFSET: u64 = 4;
    const DATA_OFFSET: u64 = 16;
    let start = memory.u64(o.perf_start?.wrapping_add(bias)).filter(|&start| start != 0)?;
    let mut magic = [0; 4];
    if !memory.read(start, &mut magic) || magic != MAGIC {
        return None;
    }
    let n = memory.u32(start.wrapping_add(N_ENTRIES))?.min(PERF_ENTRIES_MAX);
    let mut at = start.wrapping_add(memory.u32(start.wrapping_add(ENTRY_OFFSET))?.into());
    for _ in 0..n {
        let len = memory.u32(at).filter(|&len| len != 0)?;
        let name = at.wrapping_add(memory.u32(at.wrapping_add(NAME_OFFSET))?.into());
        if memory.bytes(name, NAME.len() as u64 + 1, 64)?.strip_suffix(b"\0") == Some(NAME) {
            let data = at.wrapping_add(memory.u32(at.wrapping_add(DATA_OFFSET))?.into());
            return data.is_multiple_of(8).then_some(data);
        }
        at = at.checked_add(u64::from(len))?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code of `ireturn` of jdk-17.0.15 and jdk-25 behind its `leave`, as objdump shows it.
    #[test]
    fn exits_are_found() {
        let check = |code: &[u8], expect: &[(u32, u32, u32, u8, u8)]| {
            let mut ranges = Vec::new();
            exits(code, 1000, &mut ranges);
            let got: Vec<_> = ranges
                .iter()
                .map(|range| (range.start, range.at, range.end, range.ra_reg, range.sp_reg))
                .collect();
            assert_eq!(got, expect, "{code:x?}");
        };
        check(
            &[0x90, 0xc9, 0x41, 0x5d, 0x48, 0x8b, 0xe3, 0x41, 0xff, 0xe5, 0x90],
            &[(1002, 1002, 1010, 13, 3)],
        );
        check(
            &[
                0xc9, 0x41, 0xc6, 0x87, 0xbe, 0x03, 0x00, 0x00, 0x00, 0x41, 0x5d, 0x48, 0x8b, 0xe3,
                0x49, 0x3b, 0xa7, 0x20, 0x06, 0x00, 0x00, 0x72, 0x0b, 0x49, 0xc7, 0x87, 0x20, 0x06,
                0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x41, 0xff, 0xe5,
            ],
            &[(1001, 1009, 1037, 13, 3)],
        );
        // leave; pop rdi; mov rsp, rdx; jmp rdi (native entries)
        check(&[0xc9, 0x5f, 0x48, 0x8b, 0xe2, 0xff, 0xe7], &[(1001, 1001, 1007, 5, 1)]);
        check(&[0xc9, 0xc3, 0x5f, 0x48, 0x8b], &[]);
        check(&[0xc9], &[]);
    }

    /// Where the interpreter hands an exception on: JDK 17's code.
    #[test]
    fn where_exceptions_are_handed_on_is_found() {
        let code = [
            0x50, 0x52, 0x48, 0x8b, 0xf2, 0x49, 0x8b, 0xff, 0xf7, 0xc4, 0x0f, 0x00, 0x00, 0x00,
            0x0f, 0x84, 0x12, 0x00, 0x00, 0x00, 0x48, 0x83, 0xec, 0x08, 0xe8, 0xa4, 0x0a, 0xfa,
            0x15, 0x48, 0x83, 0xc4, 0x08, 0xe9, 0x05, 0x00, 0x00, 0x00, 0xe8, 0x96, 0x0a, 0xfa,
            0x15, 0x48, 0x8b, 0xd8, 0x5a, 0x58, 0xff, 0xe3,
        ];
        let found = |code: &[u8]| -> Vec<_> {
            let mut ranges = Vec::new();
            hands_on(code, 1000, &mut ranges);
            ranges.iter().map(|range| (range.start, range.at, range.end)).collect()
        };
        assert_eq!(found(&code), [(1029, 1033, 1047)]);
        assert_eq!(found(&code[..49]), []);
        assert_eq!(found(&code[33..]), []);
    }

    /// Where the frame begins in a method entry.
    #[test]
    fn entries_are_found() {
        let code = [0x7f, 0xf7, 0x50, 0x55, 0x48, 0x8b, 0xec, 0x41, 0x55, 0x68];
        assert_eq!(entry(&code, 64).at, 66);
        assert_eq!(entry(&code[..8], 64).at, 0);
    }
}
