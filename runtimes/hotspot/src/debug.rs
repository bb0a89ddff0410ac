//! Compiled code's debug information: from a pc to the methods that it belongs to.
//!
//! In: a compilation's blob in the process's memory, and a pc in it. Out: methods and bytecode
//! indices, innermost first.
//!
//! # How it works
//! `PcDesc`s, sorted by offset, lead to scopes: records of a method, a bytecode index and the scope
//! that it is inlined in. A return address has a `PcDesc` of its own, if what is called may stop
//! there. An interrupted pc belongs to the first one that execution comes to from there: the code
//! is followed to find it (`course.rs`).
//!
//! # Sources
//! `PcDesc`, `ScopeDesc::decode_body`, `nmethod::scopes_pcs_begin` (share/code) @ jdk-17+35 and jdk-25+36.

use crate::course;
use crate::layout::{CodeBegin, DebugInfo, Metadata, Offsets};
use crate::unsigned5::Reader;
use hotframe_runtime::Memory;
use hotframe_runtime::memory::PAGE_BYTES;
use std::ops::Range;

/// Scopes of one pc: C2 inlines some 15 deep (`MaxInlineLevel`), C1 9.
const SCOPES_MAX: usize = 128;
/// Bytes of a scope's head: three UNSIGNED5.
const SCOPE_BYTES: usize = 15;
/// Debug information of a method larger than this is not believed.
const DEBUG_MAX_BYTES: u64 = 64 << 20;
/// Jumps that are followed to the next record.
const HOPS_MAX: usize = 8;
/// Code between two records that is followed; unrolled loops have some hundred bytes.
const RUN_MAX_BYTES: usize = 4096;

/// What a record of debug information says of a pc.
pub(crate) struct Place {
    /// `None`: there is none, and the method is known alone.
    pub scope: Option<u32>,
    /// Only the outermost method of that scope is meant.
    pub is_outermost: bool,
    /// The offsets that the same is so for, if they are of no return addresses.
    pub offsets: Range<u32>,
}

impl Place {
    pub(crate) fn of(scope: u32, offset: u32) -> Place {
        Place { scope: Some(scope), is_outermost: false, offsets: offset..offset.saturating_add(1) }
    }
}

/// Where a compiled method's debug information is.
pub(crate) struct Debug {
    pcs: u64,
    pcs_end: u64,
    scopes: u64,
    scopes_end: u64,
    metadata: u64,
    metadata_end: u64,
}

impl Debug {
    pub(crate) fn find(o: &Offsets, memory: &Memory, blob: u64) -> Option<Debug> {
        let field = |at: u16| memory.u32(blob + u64::from(at)).map(u64::from);
        let pointer = |at: u16| memory.u64(blob + u64::from(at));
        let debug = match o.debug_info {
            DebugInfo::InBlob { metadata, scopes_data, scopes_pcs, dependencies } => {
                let scopes = match scopes_data {
                    CodeBegin::Address(at) => pointer(at)?,
                    CodeBegin::Offset(at) => blob + field(at)?,
                };
                let pcs = blob + field(scopes_pcs)?;
                Debug {
                    pcs,
                    pcs_end: blob + field(dependencies)?,
                    scopes,
                    scopes_end: pcs,
                    metadata: blob + field(metadata)?,
                    metadata_end: scopes,
                }
            }
            DebugInfo::Immutable { data, len, scopes_pcs, scopes_data, metadata } => {
                let start = pointer(data)?;
                let scopes = start.checked_add(field(scopes_data)?)?;
                let (metadata, metadata_end) = match metadata {
                    Metadata::InData { data, metadata } => {
                        let start = blob + field(data)?;
                        let at = memory.u16(blob + u64::from(metadata))?;
                        (start + u64::from(at), blob + field(o.blob_size)?)
                    }
                    Metadata::Mutable { data, len, relocation } => {
                        let start = pointer(data)?;
                        (start.checked_add(field(relocation)?)?, start.checked_add(field(len)?)?)
                    }
                };
                Debug {
                    pcs: start.checked_add(field(scopes_pcs)?)?,
                    pcs_end: scopes,
                    scopes,
                    scopes_end: start.checked_add(field(len)?)?,
                    metadata,
                    metadata_end,
                }
            }
        };
        let is_range = |start: u64, end: u64| start <= end && end - start <= DEBUG_MAX_BYTES;
        (is_range(debug.pcs, debug.pcs_end)
            && is_range(debug.scopes, debug.scopes_end)
            && is_range(debug.metadata, debug.metadata_end))
        .then_some(debug)
    }

    /// The scope of a return address. A call that is no safepoint (of an intrinsic's stub) has a record only if
    /// all that is not one has (`of_all`, as with DebugNonSafepoints): the first one behind it, which is
    /// where the scope ends that it has with what follows (`NonSafepointEmitter` in share/opto/output.cpp @
    /// jdk-17+35).
    pub(crate) fn called(
        &self,
        o: &Offsets,
        memory: &Memory,
        of_all: bool,
        offset: u32,
    ) -> Option<u32> {
        let index = self.first_from(o, memory, offset)?;
        let is_its_own = of_all || self.pc(o, memory, index)? == offset;
        is_its_own.then(|| self.scope(o, memory, index))?
    }

    /// The scope of an interrupted pc: that of the record that execution comes to.
    pub(crate) fn interrupted(
        &self,
        o: &Offsets,
        memory: &Memory,
        begin: u64,
        offset: u32,
    ) -> Option<Place> {
        self.followed(o, memory, begin, offset).or_else(|| {
            // The first by its address that ends behind it.
            let index = self.first_from(o, memory, offset.checked_add(1)?)?;
            Some(Place::of(self.scope(o, memory, index)?, offset))
        })
    }

    /// The same, if the code can be followed.
    fn followed(&self, o: &Offsets, memory: &Memory, begin: u64, offset: u32) -> Option<Place> {
        let (mut at, mut offsets) = (offset, None);
        let mut met = [None; HOPS_MAX];
        for hop in 0..HOPS_MAX {
            let mut index = self.first_from(o, memory, at)?;
            let (mut run, mut end) = self.run(o, memory, begin, index, at)?;
            let is_behind_last = Some(run.start) == self.before(o, memory, index);
            let pc = self.pc(o, memory, index)?;
            if pc == at && end == (course::End::Record { is_call: true }) {
                index += 1;
                (run, end) = self.run(o, memory, begin, index, at)?;
                run = run.start..run.end.min(at.checked_add(1)?);
            } else if pc == at {
                run = at..at.checked_add(1)?;
            } else if run.start < at && is_behind_last {
                // That one may be the former record's own.
                run.start += 1;
            }
            let offsets = offsets.get_or_insert(run);
            match end {
                course::End::Record { .. } => {
                    let scope = Some(self.scope(o, memory, index)?);
                    return Some(Place { scope, offsets: offsets.clone(), is_outermost: false });
                }
                course::End::Return => {
                    // It belongs to the method that all is inlined in. Its line is that of the record
                    // before, or of what stands behind.
                    let last = index.checked_sub(1).filter(|_| is_behind_last);
                    let scope = last.and_then(|last| self.scope(o, memory, last));
                    let scope = scope.or_else(|| self.scope(o, memory, index));
                    return Some(Place { scope, offsets: offsets.clone(), is_outermost: true });
                }
                course::End::Jump(to) => at = to,
                course::End::Branch { to, next } => {
                    at = if met.contains(&Some(to)) { next } else { to };
                    *met.get_mut(hop)? = Some(to);
                }
                course::End::Unknown => return None,
            }
        }
        None
    }

    /// The run of instructions that `at` lies in, which is not behind a record nor before the one before.
    fn run(
        &self,
        o: &Offsets,
        memory: &Memory,
        begin: u64,
        index: u64,
        at: u32,
    ) -> Option<(Range<u32>, course::End)> {
        let start = self.before(o, memory, index).unwrap_or(0);
        let len = self.pc(o, memory, index)?.checked_sub(start)?;
        let code = memory.bytes(begin.checked_add(start.into())?, len.into(), RUN_MAX_BYTES)?;
        Some(course::run(&code, start, at))
    }

    /// The first record at or behind an offset.
    fn first_from(&self, o: &Offsets, memory: &Memory, offset: u32) -> Option<u64> {
        let n = (self.pcs_end - self.pcs) / o.pc_desc_bytes;
        let (mut low, mut high) = (0, n);
        while low < high {
            let middle = low + (high - low) / 2;
            // The first one's offset is -1.
            if (self.pc(o, memory, middle)? as i32) < offset as i32 {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (low < n).then_some(low)
    }

    /// The offset of the record before one; `None`: it is the first that has one.
    fn before(&self, o: &Offsets, memory: &Memory, index: u64) -> Option<u32> {
        self.pc(o, memory, index.checked_sub(1)?).filter(|&pc| pc as i32 >= 0)
    }

    fn pc(&self, o: &Offsets, memory: &Memory, index: u64) -> Option<u32> {
        self.word(o, memory, index, o.pc_desc_pc)
    }

    fn scope(&self, o: &Offsets, memory: &Memory, index: u64) -> Option<u32> {
        self.word(o, memory, index, o.pc_desc_scope).filter(|&scope| scope != 0)
    }

    fn word(&self, o: &Offsets, memory: &Memory, index: u64, field: u64) -> Option<u32> {
        let at = self.pcs.checked_add(index.checked_mul(o.pc_desc_bytes)?)?.checked_add(field)?;
        memory.u32(at).filter(|_| at < self.pcs_end)
    }

    /// Methods and bytecode indices of a scope and those that it is inlined in, innermost first; with
    /// `is_outermost` the last of them alone. `None`: the chain does not end, or not where it should.
    pub(crate) fn methods(
        &self,
        o: &Offsets,
        memory: &Memory,
        mut scope: u32,
        is_outermost: bool,
    ) -> Option<Vec<(u64, u32)>> {
        let mut methods = Vec::new();
        for _ in 0..SCOPES_MAX {
            let record = self.record(memory, scope)?;
            let mut reader = Reader::new(&record, o.excludes_zero);
            let sender = reader.unsigned()?;
            let index = reader.unsigned()?;
            let bci = reader.unsigned()?.wrapping_sub(1);
            if !is_outermost || sender == 0 {
                let slot = self.metadata.checked_add(u64::from(index.checked_sub(1)?) * 8)?;
                methods.push((memory.u64(slot).filter(|_| slot < self.metadata_end)?, bci));
            }
            if sender == 0 {
                return Some(methods);
            }
            if sender >= scope {
                return None;
            }
            scope = sender;
        }
        None
    }

    /// Addresses on the pages that a search for a scope reads: of small tables all, of others where it
    /// begins.
    pub(crate) fn pages(&self, to: &mut Vec<u64>) {
        const SMALL_BYTES: u64 = 2 * PAGE_BYTES;
        to.push(self.metadata);
        for (start, end) in [(self.pcs, self.pcs_end), (self.scopes, self.scopes_end)] {
            if start == end {
            } else if end - start <= SMALL_BYTES {
                to.extend([start, start + (end - start) / 2, end - 1]);
            } else if start == self.pcs {
                to.push(start + (end - start) / 2);
            }
        }
    }

    /// The head of a scope's record.
    fn record(&self, memory: &Memory, scope: u32) -> Option<Vec<u8>> {
        let start = self.scopes.checked_add(u64::from(scope))?;
        let len = self.scopes_end.checked_sub(start)?.min(SCOPE_BYTES as u64);
        memory.bytes(start, len, SCOPE_BYTES)
    }
}
