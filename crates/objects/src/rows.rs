//! Unwind rows of a file, 64 KiB of its image at a time.
//!
//! In: an [`ElfFile`]. Out: [`Block`]s, as the kernel half walks them.
//!
//! # How it works
//! A block is the work of one request: text that is never sampled is never parsed. The sources, in
//! the order in which they are believed, each filling only what the ones before left open:
//!
//! 1. Go's function table for Go functions (`rows/go.rs`, from `gopclntab.rs`);
//! 2. `.eh_frame`, then `.debug_frame` (`rows/described.rs`, from `entries.rs` and `cfi.rs`); of a file that BOLT
//!    rewrote, where a prologue or an epilogue contradicts them, what the code does (`synth.rs`);
//! 3. the entry point, what begins a stack by its name, and by their code sigreturn trampolines, those that end a
//!    coroutine, and what a thread begins with (`rows/ends.rs`);
//! 4. functions that only a symbol knows (`rows/undescribed.rs`, from `functions.rs`): their code is
//!    followed (`synth.rs`), else a `HF_RULE_NONE` row says where they start;
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

mod described;
mod ends;
mod go;
pub(crate) mod growth;
mod packed;
#[cfg(test)]
mod tests;
mod undescribed;

use crate::Error;
use crate::cfi::{Arch, Unwind};
use crate::elf::{ElfFile, Machine};
use crate::entries::Entries;
use crate::exported;
use crate::framed;
use crate::functions::Functions;
use crate::gopclntab::GoTable;
use crate::read::{ReadAt, Window};
use crate::rules::{Rule, SideRules};
use hotframe_abi as abi;
use packed::Rows;

/// A gap up to this is padding between functions, which are aligned to 16.
const PADDING_BYTES: u64 = 15;
/// Calls of a block whose targets' entries are read (`follow_saved_registers`). ld.so has four.
const MAX_CALLS: usize = 256;

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
    /// Entries that contradict the code that they describe: their rules are what the code does.
    pub corrected: u32,
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
    /// Go's functions were asked for [`Arch::kept`].
    is_kept_known: bool,
    /// Read when a block first has text that nothing describes.
    functions: Option<Functions>,
    /// Read when a block first has much of it that says nothing of itself.
    signs: Option<framed::Signs>,
    /// A function of [`BEGIN_OWN_STACK`].
    begins_own_stack: Option<u64>,
    n_blocks: u32,
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
            is_kept_known: false,
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
            builder.is_rewritten = self.file.is_rewritten();
            let reader = self.file.reader();
            let mut foreign = Vec::new();
            if let Some(go) = &mut self.go {
                foreign = builder.add_go(&self.file, go)?;
                // Text that is not Go's may be what Go calls on another stack.
                let range = go.range();
                let has_other = !foreign.is_empty() || low < range.start || range.end < high;
                if has_other && !self.is_kept_known && self.arch.machine == Machine::X86_64 {
                    self.is_kept_known = true;
                    self.arch.kept = go::kept_register(&self.file, go, self.arch)?;
                    builder.arch.kept = self.arch.kept;
                }
            }
            if let Some(entries) = &mut self.eh_frame {
                builder.add_entries(&self.file, reader, entries)?;
            }
            if let Some(entries) = &mut self.debug_frame
                && !builder.is_full()
            {
                builder.add_entries(&self.file, reader, entries)?;
            }
            builder.add_foreign(&self.file, foreign)?;
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
    /// See [`ElfFile::is_rewritten`].
    is_rewritten: bool,
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
            is_rewritten: false,
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

    fn covers(&self, pc: u64) -> bool {
        let after = self.spans.partition_point(|span| span.start <= pc);
        let before = after.checked_sub(1).and_then(|at| self.spans.get(at));
        before.is_some_and(|span| pc < span.end)
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
