//! Unwind rows of a file, 64 KiB of its image at a time.
//!
//! In: an [`ElfFile`]. Out: [`Block`]s, as the kernel half walks them.
//!
//! # How it works
//! A block is the work of one request: text that is never sampled is never parsed. The sources, in
//! the order in which they are believed, each filling only what the ones before left open:
//!
//! 1. Go's function table for Go functions (`gopclntab.rs`);
//! 2. `.eh_frame`, then `.debug_frame` (`entries.rs`, `cfi.rs`);
//! 3. the entry point, what begins a stack by its name, and by their code sigreturn trampolines, those that end a coroutine,
//!    and what a thread begins with;
//! 4. functions that only a symbol knows (`functions.rs`): their code is followed (`synth.rs`),
//!    else a `HF_RULE_NONE` row says where they start;
//! 5. PLT stubs, a section's worth of small functions;
//! 6. functions that nothing knows, in stripped assembly: found behind the end of the one before
//!    and followed; or, where a compiler kept frame pointers, told by those (`framed.rs`).
//!
//! Each gives spans: a range of addresses with its rows. Between two spans at most
//! [`PADDING_BYTES`] apart the earlier rule goes on, since alignment is never executed with
//! another one; a wider gap has a `HF_RULE_NONE` row.
//!
//! # Not handled
//! Image beyond 4 GiB ([`hotframe_abi::HF_MAX_BLOCKS`] blocks).
//!
//! # Cost
//! A block is some 20 reads and 50–100 µs; between blocks only windows (64 KiB) are held, and the
//! index of a scanned section, and the functions of `functions.rs` once a block asked for them.

use hotframe_abi as abi;

use crate::Error;
use crate::cfi::{Arch, Unwind};
use crate::cfi::{Cfa, Saved};
use crate::elf::{ElfFile, Machine};
use crate::entries::{Entries, Entry};
use crate::exported;
use crate::expr::Expr;
use crate::framed;
use crate::functions::Functions;
use crate::gopclntab::{GoTable, Kind};
use crate::read::{ReadAt, Window};
use crate::rules::{
    LEAVES_ITS_STACK_MAX_BYTES, Rule, SideRules, X86_SIGRETURN_BYTES, find_fiber_ends,
    find_sigreturn, find_thread_begins, is_sigreturn, leaves_its_stack,
};
use crate::synth;

/// A gap up to this is padding between functions, which are aligned to 16.
const PADDING_BYTES: u64 = 15;
/// Longest function that is followed when its symbol has no size.
const UNSIZED_MAX_BYTES: u64 = 16 << 10;
/// Bytes before a block in which the start of the function that reaches into it is looked for.
const LOOK_BACK_BYTES: u64 = 16 << 10;
/// Bytes of a gap in what is described whose functions may be too long for signs of their own.
const FRAMED_MIN_BYTES: u64 = 8 << 10;
/// How often, and for how many bytes, the code of a file is looked at for [`framed::Signs`].
const SIGNS_LOOKS: u64 = 16;
const SIGNS_BYTES: usize = 16 << 10;
/// Bytes of a PLT stub. (`.plt.got` has stubs of 8 in old binaries; each is a jump, as good in twos.)
const PLT_STUB_BYTES: usize = 16;
/// Bytes of entries run for a block. libLLVM's fullest block has 60 KB; beyond it entries are bad.
const MAX_BLOCK_WORK_BYTES: usize = 16 << 20;
/// Calls of a block whose targets' entries are read (`follow_saved_registers`). ld.so has four.
const MAX_CALLS: usize = 256;
/// Bytes of code followed for a block (`synth.rs`).
const MAX_DECODED_BYTES: usize = 256 << 10;

/// Functions that begin a stack whose callers' part is others' to write over: what their rows lead to
/// was the caller once, and no code, table or register says that it is not any more.
///
/// Greenlets (gevent, eventlet, SQLAlchemy, Playwright) take turns on one stack, of which each keeps its
/// own part (`StackState`, `slp_save_state`), from the call of this function on: it "never returns"
/// (src/greenlet/TUserGreenlet.cpp `UserGreenlet::g_initialstub` @ 3.5.6; src/greenlet/greenlet.cpp
/// `UserGreenlet::inner_bootstrap` @ 2.0.2, where it takes references). Before 2.0 its name is local.
const BEGIN_OWN_STACK: [&str; 2] = [
    "_ZN8greenlet12UserGreenlet15inner_bootstrapEP9_greenletP7_object",
    "_ZN8greenlet12UserGreenlet15inner_bootstrapERNS_4refs14_OwnedGreenletI9_greenletXadL_ZNS1_15\
     GreenletCheckerEPvEEEERNS1_14OwnedReferenceI7_objectXadL_ZNS1_11NoOpCheckerES4_EEEE",
];

/// What a block was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockStats {
    /// Frame description entries used.
    pub fdes: u32,
    /// Entries that could not be read: `HF_RULE_BAD` over their range.
    pub bad_fdes: u32,
    /// Rules that were read and that no rule of the ABI can say: `HF_RULE_BAD` rows.
    pub inexpressible: u32,
    /// Go functions used.
    pub go_functions: u32,
    /// Functions whose rows were synthesised from their code.
    pub synthesised: u32,
    /// Functions known by a symbol alone, whose code could not be followed.
    pub given_up: u32,
    /// Rows dropped since a block holds `HF_MAX_ROWS_PER_BLOCK`.
    pub truncated: u32,
}

/// The rows of 64 KiB of image.
#[derive(Debug, Default)]
pub struct Block {
    /// Sorted by pc, strictly increasing; the first one's pc is 0.
    pub rows: Vec<abi::hf_row>,
    /// What the rows of kind `HF_RULE_SIDE` point to.
    pub rules: Vec<abi::hf_rule>,
    /// What it was made of.
    pub stats: BlockStats,
}

/// Makes the rows of a file.
#[derive(Debug)]
pub struct RowSource<R> {
    file: ElfFile<R>,
    arch: Arch,
    eh_frame: Option<Entries>,
    debug_frame: Option<Entries>,
    go: Option<GoTable>,
    /// Read when a block first has text that nothing describes.
    functions: Option<Functions>,
    /// Read when a block first has much of it that says nothing of itself.
    signs: Option<framed::Signs>,
    /// A function of [`BEGIN_OWN_STACK`].
    begins_own_stack: Option<u64>,
    n_blocks: u32,
}

/// What says of a file's code as a whole whether it keeps frame pointers: a look here and there.
fn signs_of<R: ReadAt>(file: &ElfFile<R>) -> framed::Signs {
    let largest = file.sections().iter().filter(|section| section.is_code());
    let Some(text) = largest.max_by_key(|section| section.size) else {
        return framed::Signs::default();
    };
    let mut code = vec![0; SIGNS_BYTES];
    let mut all = framed::Signs::default();
    for n in 0..SIGNS_LOOKS {
        let at = text.addr.saturating_add(text.size / SIGNS_LOOKS * n);
        let within = usize::try_from(text.size / SIGNS_LOOKS).unwrap_or(usize::MAX);
        let wanted = code.get_mut(..within.min(SIGNS_BYTES)).unwrap_or_default();
        let got = file.read_vaddr(wanted, at).unwrap_or(0);
        all = all.and(framed::Signs::of(wanted.get(..got).unwrap_or_default()));
    }
    all
}

/// A range of addresses with its rules, which stand in [`Builder::rules`].
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u64,
    end: u64,
    first: usize,
    n: usize,
}

impl<R: ReadAt> RowSource<R> {
    /// Finds the sources of a file.
    ///
    /// # Errors
    /// [`Error::Machine`] for one whose registers are not known; [`Error::Read`]. A file without
    /// any unwind information is none: all its rows are `HF_RULE_NONE`.
    pub fn new(file: ElfFile<R>) -> Result<Self, Error> {
        let arch = Arch::of(file.machine()).ok_or(Error::Machine(file.machine()))?;
        let eh_frame = Entries::eh_frame(&file, arch)?;
        let go = GoTable::find(&file)?;
        // A damaged .debug_frame costs itself. Go's says what its table says.
        let debug_frame = match Entries::debug_frame(&file, arch) {
            _ if go.is_some() => None,
            Err(err @ Error::Read { .. }) => return Err(err),
            other => other.unwrap_or_default(),
        };
        let blocks = file.text_range().end.div_ceil(u64::from(abi::HF_BLOCK_BYTES));
        let n_blocks = blocks.min(u64::from(abi::HF_MAX_BLOCKS)) as u32;
        let mut begins_own_stack = None;
        for name in BEGIN_OWN_STACK {
            begins_own_stack = begins_own_stack.or(exported::function(&file, name)?);
        }
        Ok(Self {
            file,
            arch,
            eh_frame,
            debug_frame,
            go,
            functions: None,
            signs: None,
            begins_own_stack,
            n_blocks,
        })
    }

    /// The file.
    pub fn file(&self) -> &ElfFile<R> {
        &self.file
    }

    /// Number of blocks from the image base to the end of the last executable segment.
    pub fn n_blocks(&self) -> u32 {
        self.n_blocks
    }

    /// Bytes held on the heap between blocks.
    pub fn heap_bytes(&self) -> usize {
        let entries = [&self.eh_frame, &self.debug_frame];
        let entries: usize = entries.into_iter().flatten().map(Entries::heap_bytes).sum();
        let functions = self.functions.as_ref().map_or(0, Functions::heap_bytes);
        entries + functions + self.go.as_ref().map_or(0, GoTable::heap_bytes)
    }

    /// Gives back the buffers that only make the next block faster. Worth it when a file goes
    /// unsampled for a while.
    pub fn release(&mut self) {
        for entries in [&mut self.eh_frame, &mut self.debug_frame].into_iter().flatten() {
            entries.release();
        }
        if let Some(go) = &mut self.go {
            go.release();
        }
    }

    /// The extent of the function, or of the part of one, that unwind information says `vaddr` (an
    /// ELF address) lies in.
    pub fn extent_at(&mut self, vaddr: u64) -> Option<std::ops::Range<u64>> {
        let reader = self.file.reader();
        let mut found = Vec::new();
        for entries in [&mut self.eh_frame, &mut self.debug_frame].into_iter().flatten() {
            if !entries.find(reader, vaddr, vaddr.checked_add(1)?, &mut found).ok()? {
                entries.scan(reader).ok()?;
                found.clear();
                entries.find(reader, vaddr, vaddr.checked_add(1)?, &mut found).ok()?;
            }
            for entry in found.drain(..) {
                let extent = entries
                    .with_fde(reader, entry.offset, |fde, _| fde.start..fde.end)
                    .ok()
                    .flatten()
                    .filter(|extent| extent.contains(&vaddr));
                if extent.is_some() {
                    return extent;
                }
            }
        }
        None
    }

    /// The extents of functions, or of parts of them, that unwind information describes, sorted by where
    /// they begin; of the first `max` entries of each section.
    ///
    /// # Errors
    /// [`Error::Read`] if the file cannot be read any more.
    pub fn described(&mut self, max: usize) -> Result<Vec<std::ops::Range<u64>>, Error> {
        let reader = self.file.reader();
        let mut extents = Vec::new();
        for entries in [&mut self.eh_frame, &mut self.debug_frame].into_iter().flatten() {
            let mut found = Vec::new();
            if !entries.find(reader, 0, u64::MAX, &mut found)? {
                entries.scan(reader)?;
                found.clear();
                entries.find(reader, 0, u64::MAX, &mut found)?;
            }
            for entry in found.into_iter().take(max) {
                let extent = entries.with_fde(reader, entry.offset, |fde, _| fde.start..fde.end)?;
                extents.extend(extent.filter(|extent| extent.start < extent.end));
            }
        }
        extents.sort_unstable_by_key(|extent| (extent.start, extent.end));
        Ok(extents)
    }

    /// The rows of image bytes `[n << 16, (n + 1) << 16)`.
    ///
    /// # Errors
    /// [`Error::Read`] if the file cannot be read any more. Damaged contents are no error: they
    /// give `HF_RULE_BAD` rows. A block beyond [`Self::n_blocks`] has one `HF_RULE_NONE` row.
    pub fn block(&mut self, n: u32) -> Result<Block, Error> {
        let low = self.file.image_base().saturating_add(u64::from(n) << abi::HF_BLOCK_SHIFT);
        let high = low.saturating_add(u64::from(abi::HF_BLOCK_BYTES));
        let mut builder = Builder::new(self.arch, low, high);
        if n < self.n_blocks {
            let reader = self.file.reader();
            if let Some(go) = &mut self.go {
                builder.add_go(&self.file, go)?;
            }
            if let Some(entries) = &mut self.eh_frame {
                builder.add_entries(&self.file, reader, entries)?;
            }
            if let Some(entries) = &mut self.debug_frame
                && !builder.is_full()
            {
                builder.add_entries(&self.file, reader, entries)?;
            }
            builder.end_at_entry_point(&self.file)?;
            if let Some(function) = self.begins_own_stack {
                builder.end_at(function);
            }
            let gaps = builder.gaps(&self.file);
            if !gaps.is_empty() {
                builder.find_trampolines(&self.file, &gaps)?;
                if self.functions.is_none() {
                    let go = self.go.as_ref().map_or(0..0, GoTable::range);
                    let eh_frame = self.eh_frame.as_mut();
                    self.functions = Some(Functions::read(&self.file, eh_frame, go)?);
                }
                if let Some(functions) = &self.functions {
                    builder.add_functions(&self.file, functions)?;
                }
                if self.arch.machine == Machine::X86_64 {
                    builder.add_plt_stubs(&self.file)?;
                    builder.add_unknown_functions(&self.file, &mut self.signs)?;
                }
            }
        }
        Ok(builder.finish())
    }
}

struct Builder {
    arch: Arch,
    low: u64,
    high: u64,
    /// Sorted, disjoint.
    spans: Vec<Span>,
    rules: Vec<(u64, Rule)>,
    side: SideRules,
    stats: BlockStats,
    work_bytes: usize,
    /// Of the entry that was run last.
    in_registers: Vec<InRegister>,
    /// Calls that may still be followed.
    calls_left: usize,
}

/// Addresses at which a register that callees save is what the CFA is found by.
#[derive(Clone, Copy, Debug)]
struct InRegister {
    from: u64,
    to: u64,
    reg: u8,
    off: i32,
    unwind: Unwind,
}

impl Builder {
    fn new(arch: Arch, low: u64, high: u64) -> Self {
        Self {
            arch,
            low,
            high,
            spans: Vec::new(),
            rules: Vec::new(),
            side: SideRules::default(),
            stats: BlockStats::default(),
            work_bytes: 0,
            in_registers: Vec::new(),
            calls_left: MAX_CALLS,
        }
    }

    /// What spans may matter: a rule goes on over padding, from before the block into it and from
    /// its end to the next function.
    fn reach(&self) -> (u64, u64) {
        (self.low.saturating_sub(PADDING_BYTES + 1), self.high.saturating_add(PADDING_BYTES + 1))
    }

    /// No gap wider than padding is left.
    fn is_full(&self) -> bool {
        let mut end = self.low;
        for span in &self.spans {
            if span.start > end.saturating_add(PADDING_BYTES) {
                return false;
            }
            end = end.max(span.end);
        }
        end.saturating_add(PADDING_BYTES) >= self.high
    }

    /// Adds spans where there are none yet. `new` is sorted by start and disjoint.
    fn fill(&mut self, new: Vec<Span>) {
        if self.spans.is_empty() {
            self.spans = new;
            return;
        }
        let old = std::mem::take(&mut self.spans);
        let mut merged = Vec::with_capacity(old.len() + new.len());
        let mut kept = old.into_iter().peekable();
        let mut end = 0;
        for mut span in new {
            loop {
                span.start = span.start.max(end);
                // What is known and ends before this one starts.
                while let Some(known) = kept.next_if(|known| known.start <= span.start) {
                    end = known.end;
                    span.start = span.start.max(end);
                    merged.push(known);
                }
                if span.start >= span.end {
                    break;
                }
                let until = kept.peek().map_or(u64::MAX, |known| known.start).min(span.end);
                if until > span.start {
                    merged.push(Span { end: until, ..span });
                    end = until;
                }
                if until == span.end {
                    break;
                }
                span.start = until;
            }
        }
        merged.extend(kept);
        self.spans = merged;
    }

    fn add_entries<R: ReadAt>(
        &mut self,
        file: &ElfFile<R>,
        reader: &R,
        entries: &mut Entries,
    ) -> Result<(), Error> {
        if !self.try_add_entries(file, reader, entries)? {
            entries.scan(reader)?;
            self.try_add_entries(file, reader, entries)?;
        }
        Ok(())
    }

    /// Returns false, having added nothing, if the search table is not to be trusted.
    fn try_add_entries<R: ReadAt>(
        &mut self,
        file: &ElfFile<R>,
        reader: &R,
        entries: &mut Entries,
    ) -> Result<bool, Error> {
        let (low, high) = self.reach();
        let mut found: Vec<Entry> = Vec::new();
        if !entries.find(reader, low, high, &mut found)? {
            return Ok(false);
        }
        // An entry holds up to the start of the next one; of those that share a start the longest
        // is used (an empty function has an empty entry).
        let mut jobs: Vec<(Entry, u64)> = Vec::with_capacity(found.len());
        let mut next = high;
        let mut above = u64::MAX;
        for &entry in found.iter().rev() {
            if entry.start != above {
                next = if above == u64::MAX { high } else { above.min(high) };
                above = entry.start;
            }
            jobs.push((entry, next));
        }
        // In the order of the section, so that it is read once.
        jobs.sort_unstable_by_key(|(entry, _)| entry.offset);
        let stats = self.stats;
        let n_rules = self.rules.len();
        let mut spans = Vec::with_capacity(jobs.len());
        for (entry, until) in jobs {
            let first = self.rules.len();
            let end = if self.work_bytes > MAX_BLOCK_WORK_BYTES {
                None
            } else {
                match self.run(reader, entries, entry, (low, until))? {
                    Ran::Well(end) => {
                        self.stats.fdes += 1;
                        self.follow_saved_registers(file, entries, first)?;
                        Some(end)
                    }
                    Ran::Elsewhere if entries.uses_table() => {
                        self.stats = stats;
                        self.rules.truncate(n_rules);
                        return Ok(false);
                    }
                    Ran::Elsewhere | Ran::Badly(None) => None,
                    Ran::Badly(Some(end)) => {
                        self.stats.bad_fdes += 1;
                        self.rules.truncate(first);
                        self.rules.push((entry.start, Rule::BAD));
                        Some(end)
                    }
                }
            };
            let end = end.unwrap_or_else(|| {
                // Its extent is not known: it ends before the next function.
                self.stats.bad_fdes += 1;
                self.rules.truncate(first);
                self.rules.push((entry.start, Rule::BAD));
                until
            });
            let span = Span { start: entry.start, end, first, n: self.rules.len() - first };
            spans.push((span, until));
        }
        spans.sort_unstable_by_key(|(span, _)| (span.start, u64::MAX - span.end));
        spans.dedup_by_key(|(span, _)| span.start);
        let mut spans: Vec<Span> = spans
            .into_iter()
            .map(|(span, until)| Span { end: span.end.min(until), ..span })
            .filter(|span| span.start < span.end)
            .collect();
        self.begin_trampolines_early(file, &mut spans)?;
        self.fill(spans);
        Ok(true)
    }

    /// Runs an entry, keeping the rules of addresses in `clip`.
    fn run<R: ReadAt>(
        &mut self,
        reader: &R,
        entries: &mut Entries,
        entry: Entry,
        clip: (u64, u64),
    ) -> Result<Ran, Error> {
        let arch = self.arch;
        let (rules, side, stats) = (&mut self.rules, &mut self.side, &mut self.stats);
        let in_registers = &mut self.in_registers;
        in_registers.clear();
        let mut last: Option<Unwind> = None;
        let ran = entries.with_fde(reader, entry.offset, |fde, cie| {
            if fde.start != entry.start {
                return Ran::Elsewhere;
            }
            let done = fde.run(cie, arch, &mut |from, to, unwind| {
                if to <= clip.0 || from >= clip.1 {
                    return;
                }
                if last.as_ref() == Some(unwind) {
                    if let Some(before) = in_registers.last_mut().filter(|at| at.to == from) {
                        before.to = to;
                    }
                    return;
                }
                last = Some(*unwind);
                let rule = side.rule(unwind, cie.signal, arch);
                stats.inexpressible += u32::from(rule == Rule::BAD);
                rules.push((from, rule));
                if let Cfa::Reg { reg, off } = unwind.cfa
                    && arch.keeps(reg)
                    && in_registers.len() < MAX_CALLS
                {
                    in_registers.push(InRegister { from, to, reg, off, unwind: *unwind });
                }
            });
            match done {
                Some(()) => Ran::Well(fde.end),
                None => Ran::Badly(Some(fde.end)),
            }
        })?;
        self.work_bytes += entries.last_entry_bytes() + 64;
        Ok(ran.unwrap_or(Ran::Badly(None)))
    }

    /// The walk restores the frame pointer alone. Where a function keeps its CFA in another register
    /// that callees save (`_dl_runtime_resolve` of glibc: rbx), the register's value is where the
    /// callee put it, and the walk has the callee's CFA: it is the stack pointer after the call.
    /// So the last byte of each direct call, at which return addresses are looked up and no
    /// instruction begins, gets a rule of its own, by what the target's entry says of the
    /// register.
    ///
    /// In the few instructions of the target before it has saved the register such a rule reads a
    /// slot that was not written yet: the stack is then mostly cut.
    fn follow_saved_registers<R: ReadAt>(
        &mut self,
        file: &ElfFile<R>,
        entries: &mut Entries,
        first: usize,
    ) -> Result<(), Error> {
        let (arch, reader) = (self.arch, file.reader());
        for at in std::mem::take(&mut self.in_registers) {
            let mut code = vec![0; usize::try_from(at.to - at.from).unwrap_or(0).min(1 << 12)];
            let got = file.read_vaddr(&mut code, at.from)?;
            code.truncate(got);
            let mut calls = Vec::new();
            let decoder = iced_x86::Decoder::with_ip(64, &code, at.from, 0);
            for instruction in decoder {
                if instruction.flow_control() == iced_x86::FlowControl::Call {
                    calls.push((instruction.next_ip(), instruction.near_branch_target()));
                }
            }
            for (behind, target) in calls {
                self.calls_left = match self.calls_left.checked_sub(1) {
                    Some(left) => left,
                    None => break,
                };
                let Some(slot) = entries.saved_at(reader, target, at.reg)? else { continue };
                let cfa = Cfa::Expr(Expr::Deref { reg: arch.sp, off: slot, off2: at.off });
                let before = self.side.rule(&at.unwind, false, arch);
                let rule = self.side.rule(&Unwind { cfa, ..at.unwind }, false, arch);
                self.rules.push((behind - 1, rule));
                if behind < at.to {
                    self.rules.push((behind, before));
                }
            }
            if let Some(rules) = self.rules.get_mut(first..) {
                rules.sort_by_key(|(pc, _)| *pc);
            }
        }
        Ok(())
    }

    /// The pc in a sigreturn trampoline is where a handler returns to, and no call stands before
    /// it; the walk looks one byte back all the same. glibc's entries begin that byte early; where
    /// an entry begins at the trampoline itself, its span does so here. So does that of a function
    /// which [`leaves_its_stack`], and there the stack ends.
    fn begin_trampolines_early<R: ReadAt>(
        &mut self,
        file: &ElfFile<R>,
        spans: &mut [Span],
    ) -> Result<(), Error> {
        let mut previous: Option<usize> = None;
        let mut text = Window::default();
        for i in 0..spans.len() {
            let Some(span) = spans.get(i).copied() else {
                break;
            };
            let rule = self.rules.get(span.first).map(|(_, rule)| *rule);
            // arm64's trampoline is described as an ordinary frame; on x86-64 one may be that nobody
            // marked (assembly to which a script added entries, as musl's build does).
            let bytes = span.end - span.start;
            let may_return = rule == Some(Rule::sigreturn(self.arch))
                || match self.arch.machine {
                    Machine::Arm64 => bytes <= 64,
                    _ => X86_SIGRETURN_BYTES.contains(&bytes),
                };
            let may_leave = self.arch.machine == Machine::X86_64
                && span.n == 1
                && bytes <= LEAVES_ITS_STACK_MAX_BYTES
                && rule == Some(Rule::plain_sp(8));
            if may_return || may_leave {
                let code = code_at(file, &mut text, span.start, 16)?;
                let rule = if may_return && is_sigreturn(code, self.arch) {
                    Some(Rule::sigreturn(self.arch))
                } else if may_leave && leaves_its_stack(code) {
                    Some(Rule::END_WITHOUT_CALL)
                } else {
                    None
                };
                if let Some(rule) = rule {
                    let start = span.start.saturating_sub(1);
                    if let Some(slot) = self.rules.get_mut(span.first) {
                        *slot = (start, rule);
                    }
                    if let Some(span) = spans.get_mut(i) {
                        span.start = start;
                        span.n = 1;
                    }
                    if let Some(before) = previous.and_then(|at| spans.get_mut(at)) {
                        before.end = before.end.min(start);
                    }
                }
            }
            previous = Some(i);
        }
        Ok(())
    }

    /// The entry point has no caller, whatever its rows say: many libcs leave it undescribed.
    fn end_at_entry_point<R: ReadAt>(&mut self, file: &ElfFile<R>) -> Result<(), Error> {
        let entry = file.entry();
        if entry == 0 || entry < self.low.saturating_sub(128) || entry >= self.high {
            return Ok(());
        }
        let mut code = [0; 128];
        let got = file.read_vaddr(&mut code, entry)?;
        let code = code.get(..got).unwrap_or_default();
        // Linkers give a library without one the start of its text: a function like any other.
        if !file.is_program() && !begins_like_entry(code, self.arch) {
            return Ok(());
        }
        if self.end_at(entry) {
            return Ok(());
        }
        let n = bytes_to_jump(code, self.arch);
        let first = self.rules.len();
        self.rules.push((entry, Rule::END));
        self.fill(vec![Span { start: entry, end: entry.saturating_add(n), first, n: 1 }]);
        Ok(())
    }

    /// The stack ends in the function that starts here, if one that is described does.
    fn end_at(&mut self, start: u64) -> bool {
        let Some(span) = self.spans.iter_mut().find(|span| span.start == start) else {
            return false;
        };
        if let Some(first) = self.rules.get_mut(span.first) {
            first.1 = Rule::END;
        }
        span.n = 1;
        true
    }

    /// Text that no span covers, wider than padding, within the block.
    fn gaps<R: ReadAt>(&self, file: &ElfFile<R>) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let segments = file.executable_segments().take(64);
        for segment in segments {
            let mut from = segment.vaddr.max(self.low);
            let end = segment.vaddr.saturating_add(segment.filesz).min(self.high);
            for span in &self.spans {
                if span.start.min(end) > from.saturating_add(PADDING_BYTES) {
                    gaps.push((from, span.start.min(end)));
                }
                from = from.max(span.end);
            }
            if end > from.saturating_add(PADDING_BYTES) {
                gaps.push((from, end));
            }
        }
        gaps
    }

    /// Trampolines without call frame information (musl's, fibers'), and where its threads begin.
    fn find_trampolines<R: ReadAt>(
        &mut self,
        file: &ElfFile<R>,
        gaps: &[(u64, u64)],
    ) -> Result<(), Error> {
        let mut spans = Vec::new();
        let mut code = Vec::new();
        for &(from, to) in gaps.iter().take(4096) {
            code.resize(usize::try_from(to - from).unwrap_or(0).min(1 << 16), 0);
            let got = file.read_vaddr(&mut code, from)?;
            let code = code.get(..got).unwrap_or_default();
            for at in find_sigreturn(code, self.arch) {
                let start = from.saturating_add(at as u64);
                let first = self.rules.len();
                self.rules.push((start.saturating_sub(1), Rule::sigreturn(self.arch)));
                // Up to the system call, which does not return.
                let end = start.saturating_add(9);
                spans.push(Span { start: start.saturating_sub(1), end, first, n: 1 });
            }
            if self.arch.machine != Machine::X86_64 {
                continue;
            }
            for (at, end) in find_fiber_ends(code) {
                let (start, end) =
                    (from.saturating_add(at as u64), from.saturating_add(end as u64));
                let first = self.rules.len();
                // Its function has a name of its own, which covers the byte before it.
                self.rules.push((start.saturating_sub(1), Rule::END));
                spans.push(Span { start: start.saturating_sub(1), end, first, n: 1 });
            }
            for (at, end) in find_thread_begins(code) {
                let (start, end) =
                    (from.saturating_add(at as u64), from.saturating_add(end as u64));
                let first = self.rules.len();
                self.rules.push((start, Rule::END));
                spans.push(Span { start, end, first, n: 1 });
            }
        }
        self.fill(disjoint(spans));
        Ok(())
    }

    /// Functions that only a symbol knows.
    fn add_functions<R: ReadAt>(
        &mut self,
        file: &ElfFile<R>,
        functions: &Functions,
    ) -> Result<(), Error> {
        let (low, high) = self.reach();
        let mut spans = Vec::new();
        let mut code = Vec::new();
        let mut decoded = 0;
        let mut wanted = functions.around(low, high).peekable();
        while let Some(function) = wanted.next() {
            let next = wanted.peek().map_or(high, |next| next.start);
            let end = function.start.saturating_add(function.size);
            if (function.size > 0 && end <= low) || self.covers(function.start) {
                continue;
            }
            let first = self.rules.len();
            let extent = match function.size {
                0 => {
                    self.unsized_extent(file, function.start, wanted.peek().map(|next| next.start))
                }
                size => size,
            };
            let size = usize::try_from(extent).unwrap_or(usize::MAX);
            let follow = self.arch.machine == Machine::X86_64
                && (1..=synth::MAX_CODE_BYTES).contains(&size)
                && decoded < MAX_DECODED_BYTES;
            if follow {
                decoded += size;
                code.resize(size, 0);
                let got = file.read_vaddr(&mut code, function.start)?;
                if let Some(rules) = synth::follow(code.get(..got).unwrap_or_default(), self.arch) {
                    self.keep_followed(function.start, rules);
                }
            }
            let is_followed = self.rules.len() > first;
            if !is_followed {
                self.stats.given_up += 1;
                self.rules.push((function.start, Rule::NONE_FUNCTION));
            } else {
                self.stats.synthesised += 1;
            }
            let end = if function.size > 0 {
                end.min(next)
            } else if is_followed {
                function.start.saturating_add(extent)
            } else {
                // It says where a function starts, and no more.
                function.start.saturating_add(1)
            };
            let n = self.rules.len() - first;
            spans.push(Span { start: function.start, end, first, n });
        }
        self.fill(disjoint(spans));
        Ok(())
    }

    /// PLT stubs that nothing describes: lld writes no call frame information for them. A stub is
    /// entered by a call or a jump with nothing on the stack but the return address; the first one,
    /// to which the others pass on, with a number above it.
    fn add_plt_stubs<R: ReadAt>(&mut self, file: &ElfFile<R>) -> Result<(), Error> {
        let mut spans = Vec::new();
        for section in file.sections().iter().filter(|section| section.name.starts_with(".plt")) {
            let end = section.addr.saturating_add(section.size).min(self.high);
            let low = section.addr.max(self.low.saturating_sub(PLT_STUB_BYTES as u64));
            let skipped = low.saturating_sub(section.addr) / PLT_STUB_BYTES as u64;
            let mut at = section.addr.saturating_add(skipped * PLT_STUB_BYTES as u64);
            while at < end {
                let mut code = [0; PLT_STUB_BYTES];
                let got = file.read_vaddr(&mut code, at)?;
                let code = code.get(..got).unwrap_or_default();
                let first = self.rules.len();
                // push *GOT+8(%rip); jmp *GOT+16(%rip), or with bnd
                if code.starts_with(&[0xff, 0x35]) {
                    self.rules.push((at, Rule::plain_sp(16).heuristic()));
                    self.rules.push((at.saturating_add(6), Rule::plain_sp(24).heuristic()));
                } else if let Some(rules) = synth::follow(code, self.arch) {
                    self.keep_followed(at, rules);
                }
                let n = self.rules.len() - first;
                if n > 0 {
                    let end = at.saturating_add(PLT_STUB_BYTES as u64);
                    spans.push(Span { start: at, end, first, n });
                }
                at = at.saturating_add(PLT_STUB_BYTES as u64);
            }
        }
        self.fill(disjoint(spans));
        Ok(())
    }

    /// Functions of which nothing says where they begin, as the assembly of a stripped library: the
    /// first begins where what is described ends, each other behind the one before. In sections of
    /// code alone: segments hold headers and constants too.
    fn add_unknown_functions<R: ReadAt>(
        &mut self,
        file: &ElfFile<R>,
        signs: &mut Option<framed::Signs>,
    ) -> Result<(), Error> {
        let mut budget_bytes = MAX_DECODED_BYTES;
        for (from, to) in self.gaps(file) {
            let sections = file.sections().iter().filter(|section| section.is_code());
            for section in sections {
                let last = section.addr.saturating_add(section.size);
                let clipped = (from.max(section.addr), to.min(last));
                if clipped.0.saturating_add(PADDING_BYTES) < clipped.1 {
                    self.add_unknown_in(
                        file,
                        clipped,
                        (section.addr, last),
                        signs,
                        &mut budget_bytes,
                    )?;
                }
            }
        }
        Ok(())
    }

    /// The same in one gap of one section.
    fn add_unknown_in<R: ReadAt>(
        &mut self,
        file: &ElfFile<R>,
        (from, to): (u64, u64),
        (first, last): (u64, u64),
        signs: &mut Option<framed::Signs>,
        budget_bytes: &mut usize,
    ) -> Result<(), Error> {
        // At the block's edge a function may have begun before it, and may go on behind it.
        let back = if from == self.low { LOOK_BACK_BYTES.min(from - first) } else { 0 };
        let ahead = if to == self.high { UNSIZED_MAX_BYTES } else { 0 };
        let base = from - back;
        let until = to.saturating_add(ahead).min(last);
        let mut code = vec![0; usize::try_from(until - base).unwrap_or(0)];
        let got = file.read_vaddr(&mut code, base)?;
        let code = code.get(..got).unwrap_or_default();
        // A small gap is assembly, whatever the compiler was told.
        let keeps = framed::Signs::of(code).keeps_frame_pointers().or_else(|| {
            let is_large = to - from >= FRAMED_MIN_BYTES;
            let of_file = is_large.then(|| *signs.get_or_insert_with(|| signs_of(file)))?;
            of_file.keeps_frame_pointers()
        });
        if keeps == Some(true) {
            let code = code.get(..(to - base) as usize).unwrap_or(code);
            self.add_framed(file, code, base, from);
            return Ok(());
        }
        let mut at = if back > 0 { synth::next_start(code, base, 0) } else { Some(0) };
        let mut spans = Vec::new();
        while let Some(start) = at.filter(|&start| base.saturating_add(start as u64) < to) {
            let padding = synth::padding_bytes(code.get(start..).unwrap_or_default());
            if padding > 0 {
                at = start.checked_add(padding);
                continue;
            }
            let mut limit = synth::next_start(code, base, start).unwrap_or(code.len());
            let rules = loop {
                let window = code.get(start..limit).unwrap_or_default();
                let Some(left) = budget_bytes.checked_sub(window.len()) else {
                    self.fill(disjoint(spans));
                    return Ok(());
                };
                *budget_bytes = left;
                if window.len() > UNSIZED_MAX_BYTES as usize {
                    break None;
                }
                let mut beyond = None;
                let rules = synth::follow_unsized(window, self.arch, &mut beyond);
                let beyond = beyond.and_then(|beyond| usize::try_from(beyond).ok());
                match beyond.and_then(|beyond| start.checked_add(beyond)) {
                    // It goes on behind what looked like its end.
                    Some(beyond) if rules.is_some() && beyond < code.len() => {
                        limit = synth::next_start(code, base, beyond).unwrap_or(code.len());
                    }
                    _ => break rules,
                }
            };
            if let Some(rules) = rules {
                let first = self.rules.len();
                let function = base.saturating_add(start as u64);
                self.keep_followed(function, rules);
                self.stats.synthesised += 1;
                let n = self.rules.len() - first;
                let end = base.saturating_add(limit as u64);
                spans.push(Span { start: function, end, first, n });
            }
            at = Some(limit).filter(|&limit| limit > start);
        }
        self.fill(disjoint(spans));
        Ok(())
    }

    /// Code from `base` on that keeps frame pointers; what lies before `from` is others'.
    fn add_framed<R: ReadAt>(&mut self, file: &ElfFile<R>, code: &[u8], base: u64, from: u64) {
        let mut is_function = |address: u64| {
            let mut start = [0; 8];
            file.read_vaddr(&mut start, address).is_ok_and(|got| framed::is_prologue(&start[..got]))
        };
        let rules = framed::rules(code, base, self.arch, &mut is_function);
        let first = self.rules.len();
        let skipped = rules.partition_point(|(at, _)| base + u64::from(*at) <= from);
        let within = |(at, _): &(u32, Unwind)| (*at as usize) < code.len();
        for (at, unwind) in rules.into_iter().skip(skipped.saturating_sub(1)).filter(within) {
            let rule = self.side.rule(&unwind, false, self.arch).heuristic();
            self.rules.push((from.max(base + u64::from(at)), rule));
        }
        self.stats.synthesised += 1;
        let (n, end) = (self.rules.len() - first, base.saturating_add(code.len() as u64));
        self.fill(disjoint(vec![Span { start: from, end, first, n }]));
    }

    /// Keeps the rules of a function that was followed.
    fn keep_followed(&mut self, start: u64, rules: Vec<(u32, Option<Unwind>)>) {
        for (at, unwind) in rules {
            let rule = unwind
                .map_or(Rule::NONE, |unwind| self.side.rule(&unwind, false, self.arch).heuristic());
            self.rules.push((start.saturating_add(u64::from(at)), rule));
        }
    }

    /// How far a function may reach whose symbol does not say: to the next one, to the next text
    /// that anything describes, or to the end of its section.
    fn unsized_extent<R: ReadAt>(
        &self,
        file: &ElfFile<R>,
        start: u64,
        next_function: Option<u64>,
    ) -> u64 {
        let after = self.spans.partition_point(|span| span.start <= start);
        let section = file.sections().iter().find(|section| {
            section.addr != 0 && start >= section.addr && start - section.addr < section.size
        });
        let ends = [
            next_function,
            self.spans.get(after).map(|span| span.start),
            section.map(|section| section.addr.saturating_add(section.size)),
            Some(start.saturating_add(UNSIZED_MAX_BYTES)),
        ];
        ends.into_iter().flatten().min().unwrap_or(start).saturating_sub(start)
    }

    fn covers(&self, pc: u64) -> bool {
        let after = self.spans.partition_point(|span| span.start <= pc);
        let before = after.checked_sub(1).and_then(|at| self.spans.get(at));
        before.is_some_and(|span| pc < span.end)
    }

    /// Go functions, by their stack deltas.
    fn add_go<R: ReadAt>(&mut self, file: &ElfFile<R>, go: &mut GoTable) -> Result<(), Error> {
        let (low, high) = self.reach();
        let arch = self.arch;
        let mut spans: Vec<Span> = Vec::new();
        let mut text = Window::default();
        go.functions(file.reader(), low, high, |function| {
            self.stats.go_functions += 1;
            let first = self.rules.len();
            let mut start = function.start;
            let is_short = function.end - start <= 32;
            if is_short && is_sigreturn(code_at(file, &mut text, start, 16)?, arch) {
                // As in begin_trampolines_early.
                start = start.saturating_sub(1);
                self.rules.push((start, Rule::sigreturn(arch)));
                if let Some(before) = spans.last_mut() {
                    before.end = before.end.min(start);
                }
            } else if function.kind == Kind::Top {
                self.rules.push((start, Rule::END));
            } else if function.deltas.is_empty() {
                self.rules.push((start, Rule::NONE_FUNCTION));
            } else {
                let saves_fp = saves_frame_pointer(file, &mut text, arch, &function.deltas)?;
                for &(pc, delta) in &function.deltas {
                    let unwind = go_unwind(arch, delta, saves_fp, function.kind);
                    let rule = self.side.rule(&unwind, false, arch);
                    self.stats.inexpressible += u32::from(rule == Rule::BAD);
                    let rule = match arch.machine {
                        Machine::Arm64 => rule,
                        _ => rule.between_stacks(function.kind, delta),
                    };
                    self.rules.push((pc, rule));
                }
            }
            let n = self.rules.len() - first;
            spans.push(Span { start, end: function.end, first, n });
            Ok(())
        })?;
        self.fill(spans);
        Ok(())
    }

    fn finish(self) -> Block {
        let mut rows = Rows::new(self.low, self.high);
        let mut end = None;
        for span in &self.spans {
            let gap = end.map_or(u64::MAX, |end: u64| span.start.saturating_sub(end));
            if gap > PADDING_BYTES {
                rows.push(end.unwrap_or(0), Rule::NONE);
            }
            let rules = self.rules.get(span.first..span.first + span.n).unwrap_or_default();
            for &(pc, rule) in rules {
                if pc < span.end {
                    rows.push(pc.max(span.start), rule);
                }
            }
            end = Some(span.end);
        }
        if let Some(end) = end
            && self.high.saturating_sub(end) > PADDING_BYTES
        {
            rows.push(end, Rule::NONE);
        }
        let mut stats = self.stats;
        stats.truncated = rows.truncated;
        Block { rows: rows.rows, rules: self.side.into_rules(), stats }
    }
}

/// Sorts spans by start; one that begins within another is cut off the other's end.
fn disjoint(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| (span.start, u64::MAX - span.end));
    spans.dedup_by_key(|span| span.start);
    let starts: Vec<u64> = spans.iter().skip(1).map(|span| span.start).collect();
    for (span, next) in spans.iter_mut().zip(starts) {
        span.end = span.end.min(next);
    }
    spans
}

/// x86-64: whether a Go function saves rbp where its frame begins: `push %rbp`, or before Go 1.21
/// `mov %rbp, N(%rsp)` after the frame was made. Assembly with a frame of its own need not.
/// arm64: all functions with a frame do.
fn saves_frame_pointer<R: ReadAt>(
    file: &ElfFile<R>,
    text: &mut Window,
    arch: Arch,
    deltas: &[(u64, i32)],
) -> Result<bool, Error> {
    let Some(&(pc, delta)) = deltas.iter().find(|(_, delta)| *delta > 0) else {
        return Ok(false);
    };
    if arch.machine == Machine::Arm64 {
        return Ok(true);
    }
    let code = code_at(file, text, pc.saturating_sub(1), 9)?;
    let stored_at = match code {
        [0x55, ..] => return Ok(delta == 8),
        [_, 0x48, 0x89, 0x6c, 0x24, off, ..] => i32::from(off.cast_signed()),
        [_, 0x48, 0x89, 0xac, 0x24, a, b, c, d] => i32::from_le_bytes([*a, *b, *c, *d]),
        _ => return Ok(false),
    };
    Ok(stored_at == delta - 8)
}

/// Up to `len` bytes of code at an ELF virtual address, through a window.
fn code_at<'a, R: ReadAt>(
    file: &ElfFile<R>,
    text: &'a mut Window,
    vaddr: u64,
    len: usize,
) -> Result<&'a [u8], Error> {
    let Some((offset, available)) = file.file_range(vaddr) else { return Ok(&[]) };
    let code = text.get(file.reader(), offset, len)?;
    let n = usize::try_from(available).unwrap_or(usize::MAX).min(code.len());
    Ok(code.get(..n).unwrap_or_default())
}

/// The rules of a Go function where sp is `delta` bytes below its value at entry.
fn go_unwind(arch: Arch, delta: i32, saves_fp: bool, kind: Kind) -> Unwind {
    if arch.machine == Machine::Arm64 {
        // The return address is at sp, the frame pointer below it.
        let (fp, ra) = match delta {
            0 => (Saved::Same, Saved::Same),
            _ => (
                Saved::At(delta.saturating_neg().saturating_sub(8)),
                Saved::At(delta.saturating_neg()),
            ),
        };
        return Unwind { cfa: Cfa::Reg { reg: arch.sp, off: delta }, fp, ra };
    }
    let framed = saves_fp && delta >= 8;
    let cfa = match kind {
        // sp may be on another stack; rbp still points to its own slot.
        Kind::SetsSp | Kind::CallsBack | Kind::CallsOut if framed => {
            Cfa::Reg { reg: arch.fp, off: 16 }
        }
        _ => Cfa::Reg { reg: arch.sp, off: delta.saturating_add(8) },
    };
    Unwind { cfa, fp: if framed { Saved::At(-16) } else { Saved::Same }, ra: Saved::At(-8) }
}

enum Ran {
    /// Its end.
    Well(u64),
    /// Its end, if it is known.
    Badly(Option<u64>),
    /// It does not start where the index said.
    Elsewhere,
}

struct Rows {
    low: u64,
    high: u64,
    rows: Vec<abi::hf_row>,
    truncated: u32,
}

impl Rows {
    fn new(low: u64, high: u64) -> Self {
        Self { low, high, rows: vec![Rule::NONE.at(0)], truncated: 0 }
    }

    /// `pc` is not below that of the row before.
    fn push(&mut self, pc: u64, rule: Rule) {
        if pc >= self.high {
            return;
        }
        let same = |row: &abi::hf_row| {
            (row.kind, row.fp, row.cfa) == (rule.kind, rule.fp, rule.cfa)
                && !rule.is_function_start()
        };
        let Some(pc) = pc.checked_sub(self.low).and_then(|pc| u16::try_from(pc).ok()) else {
            // What holds where the block starts; a function that starts before it is not here.
            let rule = if rule.is_function_start() { Rule::NONE } else { rule };
            self.rows.clear();
            self.rows.push(rule.at(0));
            return;
        };
        if self.rows.last().is_some_and(|row| row.pc == pc) {
            self.rows.pop();
        }
        if self.rows.last().is_some_and(same) {
            return;
        }
        if self.rows.len() + 1 < abi::HF_MAX_ROWS_PER_BLOCK as usize {
            self.rows.push(rule.at(pc));
        } else {
            self.truncated += 1;
            if self.truncated == 1 {
                self.rows.push(Rule::BAD.at(pc));
            }
        }
    }
}

/// The first instructions of an entry point: the frame pointer is cleared or the initial stack
/// pointer, where the arguments are, becomes the first argument.
fn begins_like_entry(code: &[u8], arch: Arch) -> bool {
    match arch.machine {
        Machine::Arm64 => {
            let words = code.chunks_exact(4).take(3);
            words.into_iter().any(|word| {
                // mov x29, #0; mov x0, sp
                matches!(word, [0x1d, 0x00, 0x80, 0xd2] | [0xe0, 0x03, 0x00, 0x91])
            })
        }
        _ => {
            let code = code.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(code);
            // xor %ebp, %ebp, with and without REX; mov %rsp, %rdi
            [&[0x31, 0xed][..], &[0x48, 0x31, 0xed], &[0x48, 0x89, 0xe7]]
                .iter()
                .any(|start| code.starts_with(start))
        }
    }
}

/// How far straight-line code runs before it jumps or ends, that instruction included. It may call:
/// ld.so's entry code calls twice before it jumps to the program.
fn bytes_to_jump(code: &[u8], arch: Arch) -> u64 {
    use iced_x86::FlowControl::{Call, IndirectCall, Next};
    if arch.machine == Machine::Arm64 {
        let leaves = |word: &[u8]| {
            let word = word.try_into().map_or(0, u32::from_le_bytes);
            // b; br; ret; udf; brk
            word & 0xfc00_0000 == 0x1400_0000
                || word & 0xff9f_fc1f == 0xd61f_0000
                || word & 0xffff_0000 == 0
                || word & 0xffe0_001f == 0xd420_0000
        };
        let n = code.chunks_exact(4).position(leaves).map_or(code.len() / 4, |at| at + 1);
        return n as u64 * 4;
    }
    let mut decoder = iced_x86::Decoder::new(64, code, iced_x86::DecoderOptions::NONE);
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.is_invalid()
            || instruction.mnemonic() == iced_x86::Mnemonic::Hlt
            || !matches!(instruction.flow_control(), Next | Call | IndirectCall)
        {
            break;
        }
    }
    decoder.position() as u64
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
