//! `--audit`: walks compared, frame by frame, with an unwinder that is not ours (framehop).
//!
//! In: a sample's registers, a copy of its stack and its words. Out: do they say the same? framehop
//! reads `.eh_frame` or `.debug_frame` of the very files and shares no code or table with the kernel half.
//!
//! # How it works
//! Both begin at the same registers. Frames are compared until one ends. framehop's end counts as
//! such only if a rule says so (undefined return address) or the caller's address is 0; where the
//! copy of the stack ends before the root, the frames before it are what is judged.
//!
//! framehop guesses where it knows no rule, and does not say so. A guess is no judge: each rule is
//! looked up first, by gimli, and where framehop would have to guess the stack is not judged, unless
//! it differed before that.
//!
//! Go has its functions in `.debug_frame`, by which nobody unwinds: hotframe goes by the table that
//! Go itself uses, so that the two are independent. What DWARF cannot say is which functions leave
//! the stack that they were called on (`runtime.systemstack`): those are asked from Go's table, and
//! not judged.
//!
//! # Sources
//! framehop 0.16 `src/x86_64/dwarf.rs` (what it evaluates), `src/unwinder.rs` (when it falls back).
//! LSB 5.0, "Exception Frames" (the sections), of whose search table the form is read that linkers
//! write (bfd/elf-eh-frame.c `_bfd_elf_write_section_eh_frame_hdr` @ binutils 2.40;
//! lld/ELF/SyntheticSections.cpp `EhFrameHeader` @ 14).
//!
//! # Not handled
//! Code without `.eh_frame` and `.eh_frame_hdr`, and without `.debug_frame` (JITs, stripped Go,
//! hand-written assembly), code that BOLT has rewritten where we did not go by its tables, frames
//! whose CFA stands in a register other than the stack and frame pointer or in memory (signal
//! frames).
//!
//! # Cost
//! Some 20 µs a frame, and the entries of functions that were met: at most [`KEPT_MAX_BYTES`].
//! Unwind sections are 7 MB in a compiler, so framehop is given one entry at a time, in a section
//! of its own. A `.debug_frame` has no search table and may be compressed: at most
//! [`HELD_MAX_BYTES`] of them are held, with an index.

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{Error, ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder as _};
use gimli::{
    BaseAddresses, CfaRule, CieOrFde, DebugFrame, EhFrame, EndianSlice, LittleEndian, Operation,
    RegisterRule, UnwindContext, UnwindSection, X86_64,
};
use hotframe_abi as abi;
use hotframe_core::files::{FileId, Reader};
use hotframe_core::processes::Mapping;
use hotframe_core::session::{AuditCase, Auditor, Judgement};
use hotframe_frames::Raw;
use hotframe_objects::{ElfFile, GoStack, Machine, Section, go_stack};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of entries kept from sample to sample; those of a compiler's functions are met anew when it is full.
const KEPT_MAX_BYTES: usize = 1 << 20;
/// Bytes of an entry: the longest are 2,000.
const ENTRY_MAX_BYTES: u32 = 64 << 10;
/// Bytes of `.debug_frame`s and their indexes kept from sample to sample; that of Go's compiler takes 1.5 MB.
const HELD_MAX_BYTES: usize = 4 << 20;
/// Disagreements that are logged in full.
const MAX_LOGGED: u32 = 32;

/// An auditor, or `None` on machines it cannot judge.
pub fn auditor(n_samples: u32) -> Option<Auditor> {
    if !cfg!(target_arch = "x86_64") {
        return None;
    }
    let mut judge = Judge::default();
    let mut left = n_samples;
    Some(Box::new(move |case| {
        if left == 0 {
            return None;
        }
        let verdict = judge.judge(case);
        left -= u32::from(!matches!(verdict, Judgement::NotJudged(_)));
        Some(verdict)
    }))
}

/// A `.debug_frame`: where the entry of a function is, by its ELF address.
struct Held {
    bytes: Vec<u8>,
    index: Vec<(u64, u32)>,
}

impl Held {
    fn read(elf: &ElfFile<Reader>) -> Option<Held> {
        let bytes = elf.section_bytes(elf.section(".debug_frame")?, HELD_MAX_BYTES as u64 / 2);
        let bytes = bytes.ok()?;
        let bases = BaseAddresses::default();
        let section = debug_frame(&bytes);
        let mut entries = section.entries(&bases);
        let mut index = Vec::new();
        while let Ok(Some(entry)) = entries.next() {
            if let CieOrFde::Fde(partial) = entry
                && let Ok(fde) = partial.parse(DebugFrame::cie_from_offset)
            {
                index.push((fde.initial_address(), u32::try_from(fde.offset()).ok()?));
            }
        }
        index.sort_unstable();
        index.shrink_to_fit();
        let held = Held { bytes, index };
        (held.len() <= HELD_MAX_BYTES).then_some(held)
    }

    fn len(&self) -> usize {
        self.bytes.capacity() + self.index.capacity() * size_of::<(u64, u32)>()
    }

    /// An entry or a CIE with its length.
    fn bytes_at(&self, at: usize) -> Option<&[u8]> {
        let rest = self.bytes.get(at..)?;
        let n = u32::from_le_bytes(*rest.first_chunk()?);
        rest.get(..4 + n as usize).filter(|_| (4..=ENTRY_MAX_BYTES).contains(&n))
    }
}

fn debug_frame(bytes: &[u8]) -> DebugFrame<EndianSlice<'_, LittleEndian>> {
    let mut section = DebugFrame::from(EndianSlice::new(bytes, LittleEndian));
    section.set_address_size(8);
    section
}

/// The entry of a function, behind a copy of its CIE: an `.eh_frame` of its own, or a `.debug_frame`. In the first the
/// entry is at its own address, from which its pointers count.
#[derive(Debug)]
struct Entry {
    bytes: Arc<[u8]>,
    is_debug: bool,
    stack: GoStack,
    /// The ELF address of this section.
    at: u64,
    /// ELF addresses that it describes.
    extent: Range<u64>,
    text_at: Option<u64>,
    got_at: Option<u64>,
    image_base: u64,
}

impl Entry {
    /// That of the function at an ELF address, in `.eh_frame`.
    fn find(elf: &ElfFile<Reader>, svma: u64) -> Option<Entry> {
        if elf.machine() != Machine::X86_64 {
            return None;
        }
        let section = elf.section(".eh_frame")?;
        let fde_at = search(elf, elf.section(".eh_frame_hdr")?, svma)?;
        let mut fde = entry_bytes(elf, section, fde_at)?;
        let pointer_at = fde_at.checked_add(4)?;
        let pointer = u32::from_le_bytes(*fde.get(4..)?.first_chunk()?);
        let mut bytes = entry_bytes(elf, section, pointer_at.checked_sub(pointer.into())?)?;
        let at = fde_at.checked_sub(bytes.len() as u64)?;
        fde.get_mut(4..8)?.copy_from_slice(&(bytes.len() as u32 + 4).to_le_bytes());
        bytes.extend(fde);
        // Where a section ends.
        bytes.extend([0; 4]);
        let address = |name: &str| Some(elf.section(name)?.addr);
        let entry = Entry {
            bytes: bytes.into(),
            is_debug: false,
            stack: GoStack::GoesOn,
            at,
            extent: 0..0,
            text_at: address(".text"),
            got_at: address(".got"),
            image_base: elf.image_base(),
        };
        entry.with_extent(svma)
    }

    /// That of the function at an ELF address, in `.debug_frame`.
    fn find_held(elf: &ElfFile<Reader>, held: &Held, svma: u64) -> Option<Entry> {
        if elf.machine() != Machine::X86_64 {
            return None;
        }
        let index = held.index.partition_point(|&(start, _)| start <= svma).checked_sub(1)?;
        let mut fde = held.bytes_at(held.index.get(index)?.1 as usize)?.to_vec();
        let cie_at = u32::from_le_bytes(*fde.get(4..)?.first_chunk()?);
        // The CIE is the section's first.
        fde.get_mut(4..8)?.fill(0);
        let bytes = [held.bytes_at(cie_at as usize)?, &fde].concat();
        let entry = Entry {
            bytes: bytes.into(),
            is_debug: true,
            stack: go_stack(elf, svma).ok()?.unwrap_or(GoStack::GoesOn),
            at: 0,
            extent: 0..0,
            text_at: None,
            got_at: None,
            image_base: elf.image_base(),
        };
        entry.with_extent(svma)
    }

    fn with_extent(mut self, svma: u64) -> Option<Entry> {
        self.extent = if self.is_debug {
            extent_in(&debug_frame(&self.bytes), &self.bases(), svma)?
        } else {
            extent_in(&self.eh_frame(), &self.bases(), svma)?
        };
        Some(self)
    }

    fn eh_frame(&self) -> EhFrame<EndianSlice<'_, LittleEndian>> {
        let mut section = EhFrame::from(EndianSlice::new(&self.bytes, LittleEndian));
        section.set_address_size(8);
        section
    }

    fn bases(&self) -> BaseAddresses {
        BaseAddresses::default()
            .set_eh_frame(self.at)
            .set_text(self.text_at.unwrap_or(0))
            .set_got(self.got_at.unwrap_or(0))
    }

    /// What framehop takes it for: a module of this function alone. `image` is where the file's image base is.
    fn module(&self, range: Range<u64>, image: u64) -> Module<Arc<[u8]>> {
        let from = |at: Option<u64>| at.map(|at| at..at.saturating_add(1));
        let bytes = |is_debug| (self.is_debug == is_debug).then(|| self.bytes.clone());
        let info = ExplicitModuleSectionInfo {
            base_svma: self.image_base,
            text_svma: from(self.text_at),
            got_svma: from(self.got_at),
            eh_frame_svma: Some(self.at..self.at.saturating_add(self.bytes.len() as u64)),
            eh_frame: bytes(false),
            debug_frame: bytes(true),
            ..Default::default()
        };
        Module::new(String::new(), range, image, info)
    }

    /// Is there a rule for this address that framehop evaluates without a guess?
    fn is_judgeable(&self, svma: u64) -> bool {
        let judgeable = if self.is_debug {
            judgeable_in(&debug_frame(&self.bytes), &self.bases(), svma)
        } else {
            judgeable_in(&self.eh_frame(), &self.bases(), svma)
        };
        self.stack == GoStack::GoesOn && judgeable == Some(true)
    }
}

/// The ELF addresses that the entry of an address describes.
fn extent_in<'a, S: UnwindSection<EndianSlice<'a, LittleEndian>>>(
    section: &S,
    bases: &BaseAddresses,
    svma: u64,
) -> Option<Range<u64>> {
    let fde = section.fde_for_address(bases, svma, S::cie_from_offset).ok()?;
    Some(fde.initial_address()..fde.initial_address().checked_add(fde.len())?)
}

/// Is there a rule for this address that framehop evaluates without a guess?
fn judgeable_in<'a, S: UnwindSection<EndianSlice<'a, LittleEndian>>>(
    section: &S,
    bases: &BaseAddresses,
    svma: u64,
) -> Option<bool> {
    let fde = section.fde_for_address(bases, svma, S::cie_from_offset).ok()?;
    let mut context = UnwindContext::new();
    let row = fde.unwind_info_for_address(section, bases, &mut context, svma).ok()?;
    let known = |register| matches!(register, X86_64::RSP | X86_64::RBP | X86_64::RA);
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, .. } => known(*register),
        CfaRule::Expression(expression) => {
            let expression = expression.get(section).ok()?;
            let mut operations = expression.operations(fde.cie().encoding());
            loop {
                match operations.next().ok()? {
                    None => break true,
                    Some(Operation::Deref { .. }) => break false,
                    Some(Operation::RegisterOffset { register, .. }) if !known(register) => {
                        break false;
                    }
                    Some(_) => {}
                }
            }
        }
    };
    let plain = |register| {
        !matches!(
            row.register(register),
            Some(
                RegisterRule::Expression(_)
                    | RegisterRule::ValExpression(_)
                    | RegisterRule::Register(_)
            )
        )
    };
    Some(cfa && plain(X86_64::RA) && plain(X86_64::RBP))
}

/// The address of the entry that the search table has for an address.
fn search(elf: &ElfFile<Reader>, hdr: &Section, svma: u64) -> Option<u64> {
    // Version 1; where `.eh_frame` is, in 4 bytes; how many, as u32; both of each as i32 from here.
    const FORM: [(u8, u8); 4] = [(0xff, 1), (0x07, 0x03), (0xff, 0x03), (0xff, 0x3b)];
    let mut head = [0; 12];
    read(elf, hdr, hdr.addr, &mut head)?;
    if !FORM.iter().zip(head).all(|((mask, is), byte)| byte & mask == *is) {
        return None;
    }
    let n = u64::from(u32::from_le_bytes(*head.last_chunk::<4>()?)).min(hdr.size / 8);
    let of = |at: u64| {
        let mut both = [0; 8];
        read(elf, hdr, hdr.addr.checked_add(at.checked_mul(8)? + 12)?, &mut both)?;
        let address =
            |bytes: [u8; 4]| hdr.addr.checked_add_signed(i32::from_le_bytes(bytes).into());
        Some((address(*both.first_chunk()?)?, address(*both.last_chunk()?)?))
    };
    let (mut low, mut high) = (0, n);
    while low < high {
        let mid = low + (high - low) / 2;
        if of(mid)?.0 <= svma {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    Some(of(low.checked_sub(1)?)?.1)
}

/// An entry or a CIE with its length, at an ELF address.
fn entry_bytes(elf: &ElfFile<Reader>, section: &Section, at: u64) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    read(elf, section, at, &mut length)?;
    let n = u32::from_le_bytes(length);
    let mut bytes = vec![0; 4 + n as usize * usize::from((4..=ENTRY_MAX_BYTES).contains(&n))];
    read(elf, section, at, &mut bytes)?;
    (bytes.len() > 4).then_some(bytes)
}

/// Fills `into` from a section, at an ELF address.
fn read(elf: &ElfFile<Reader>, section: &Section, at: u64, into: &mut [u8]) -> Option<()> {
    use hotframe_objects::ReadAt as _;
    let within = at.checked_sub(section.addr)?;
    section.size.checked_sub(within)?.checked_sub(into.len() as u64)?;
    let n = elf.reader().read_at(into, section.offset.checked_add(within)?).ok()?;
    (n == into.len()).then_some(())
}

/// How framehop's walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// A rule said so.
    Root,
    /// The copy of the stack ended.
    CopyEnds,
    /// framehop refused to go on.
    Refused(Error),
    /// framehop would have to guess.
    NoJudge(&'static str),
}

/// Where a frame is, as both sides can say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    file: FileId,
    offset: u32,
}

#[derive(Default)]
struct Judge {
    /// By file and ELF address; `None`: there is none.
    entries: HashMap<(FileId, u64), Option<Arc<Entry>>>,
    kept_bytes: usize,
    /// `.debug_frame`s; `None`: there is none that can be held.
    held: HashMap<FileId, Option<Held>>,
    held_bytes: usize,
    cache: CacheX86_64,
    n_logged: u32,
}

impl Judge {
    fn judge(&mut self, case: &AuditCase<'_>) -> Judgement {
        let (theirs, end) = self.walk(case);
        let ours: Vec<Option<Place>> = native(case.words).collect();
        let n = theirs.len().min(ours.len());
        let differs = (0..n).find(|&at| ours[at] != Some(theirs[at].1));
        let whole = u32::from(case.cut) == abi::HF_CUT_NONE;
        let agrees = |agrees| if agrees { Judgement::Agrees } else { Judgement::Differs };
        let verdict = match (differs, end) {
            // BOLT's tables do not describe all of its code, and framehop has no others.
            (Some(at), _) if case.is_heuristic && is_rewritten(case, &theirs, at) => {
                Judgement::NotJudged("code that BOLT has rewritten")
            }
            (Some(_), _) => Judgement::Differs,
            (None, End::NoJudge(why)) => Judgement::NotJudged(why),
            // They end where we end, or we were cut and say so.
            (None, End::Root) => {
                agrees(ours.len() == theirs.len() || !whole && ours.len() < theirs.len())
            }
            (None, End::CopyEnds) => agrees(ours.len() >= theirs.len() || !whole),
            (None, End::Refused(Error::ReturnAddressIsNull)) => agrees(ours.len() <= theirs.len()),
            (None, End::Refused(_)) => Judgement::NotJudged("framehop goes no further"),
        };
        match verdict {
            Judgement::Differs if self.n_logged < MAX_LOGGED => {
                self.n_logged += 1;
                log_disagreement(case, &theirs, end, differs.unwrap_or(n));
            }
            Judgement::NotJudged(_) => {
                let last = name(case, ours.last().copied().flatten());
                let (at, of, cut) = (theirs.len(), ours.len(), case.cut);
                tracing::trace!(?end, at, of, cut, last, "not judged");
            }
            _ => {}
        }
        verdict
    }

    /// framehop's frames, leaf first, each with its process address.
    fn walk(&mut self, case: &AuditCase<'_>) -> (Vec<(u64, Place)>, End) {
        let mut unwinder: UnwinderX86_64<Arc<[u8]>> = UnwinderX86_64::new();
        let mut known: Vec<Range<u64>> = Vec::new();
        let mut frames = Vec::new();
        let pc = case.regs[abi::HF_X86_PC as usize];
        let sp = case.regs[abi::HF_X86_RSP as usize];
        let mut regs = UnwindRegsX86_64::new(pc, sp, case.regs[abi::HF_X86_RBP as usize]);
        let mut address = FrameAddress::from_instruction_pointer(pc);
        for _ in 0..=case.words.len() {
            let lookup = address.address_for_lookup();
            let Some(mapping) = mapping_of(case.mappings, lookup) else {
                return (frames, End::NoJudge("no mapping"));
            };
            let id = case.files.actual(mapping.file);
            let Some(elf) = case.files.get(id).and_then(|file| file.elf()) else {
                let is_file = mapping.file != 0;
                return (frames, End::NoJudge(if is_file { "no file" } else { "generated code" }));
            };
            let Some(image) = elf.map_bias(mapping.start, mapping.pgoff) else {
                return (frames, End::NoJudge("no segment"));
            };
            let offset = address.address().wrapping_sub(image) as u32;
            frames.push((address.address(), Place { file: id, offset }));
            let base = image.wrapping_sub(elf.image_base());
            let svma = lookup.wrapping_sub(base);
            let Some(entry) = self.entry(id, elf, svma) else {
                return (frames, End::NoJudge("no call frame information"));
            };
            if entry.stack == GoStack::Ends {
                return (frames, End::Root);
            }
            if !entry.is_judgeable(svma) {
                return (frames, End::NoJudge("no rule that framehop evaluates"));
            }
            let range = entry.extent.start.wrapping_add(base)..entry.extent.end.wrapping_add(base);
            if !known.contains(&range) {
                unwinder.add_module(entry.module(range.clone(), image));
                known.push(range);
            }
            let mut left_copy = false;
            let mut read = |addr: u64| {
                let value = addr
                    .checked_sub(case.stack.0)
                    .and_then(|at| usize::try_from(at).ok())
                    .and_then(|at| case.stack.1.get(at..at.checked_add(8)?)?.try_into().ok())
                    .map(u64::from_le_bytes);
                left_copy |= value.is_none();
                value.ok_or(())
            };
            let step = unwinder.unwind_frame(address, &mut regs, &mut self.cache, &mut read);
            // What it did after a failed read was a guess.
            if left_copy {
                return (frames, End::CopyEnds);
            }
            match step.map(|caller| caller.map(FrameAddress::from_return_address)) {
                Ok(Some(Some(caller))) => address = caller,
                Ok(Some(None)) => return (frames, End::Refused(Error::ReturnAddressIsNull)),
                Ok(None) => return (frames, End::Root),
                Err(cause) => return (frames, End::Refused(cause)),
            }
        }
        // One frame more than ours is enough to know.
        (frames, End::CopyEnds)
    }

    fn entry(&mut self, id: FileId, elf: &ElfFile<Reader>, svma: u64) -> Option<Arc<Entry>> {
        if let Some(entry) = self.entries.get(&(id, svma)) {
            return entry.clone();
        }
        let entry =
            Entry::find(elf, svma).or_else(|| Entry::find_held(elf, self.held(id, elf)?, svma));
        let entry = entry.map(Arc::new);
        let bytes = entry.as_ref().map_or(0, |entry| size_of::<Entry>() + entry.bytes.len());
        // With what the map takes.
        self.kept_bytes += bytes + 64;
        if self.kept_bytes > KEPT_MAX_BYTES {
            self.entries.clear();
            self.kept_bytes = bytes + 64;
        }
        self.entries.insert((id, svma), entry.clone());
        entry
    }

    /// The file's `.debug_frame`.
    fn held(&mut self, id: FileId, elf: &ElfFile<Reader>) -> Option<&Held> {
        if !self.held.contains_key(&id) {
            let held = Held::read(elf);
            let bytes = held.as_ref().map_or(0, Held::len);
            // With what the map takes.
            self.held_bytes += bytes + 128;
            if self.held_bytes > HELD_MAX_BYTES {
                self.held.clear();
                self.held_bytes = bytes + 128;
            }
            self.held.insert(id, held);
        }
        self.held.get(&id)?.as_ref()
    }
}

/// Is the frame by whose rule the frame `at` was found in a file of which BOLT's tables say what its code contradicts?
fn is_rewritten(case: &AuditCase<'_>, theirs: &[(u64, Place)], at: usize) -> bool {
    let from = at.checked_sub(1).and_then(|from| theirs.get(from));
    let file = from.and_then(|(_, place)| case.files.get(place.file));
    file.and_then(|file| file.elf()).is_some_and(ElfFile::is_rewritten)
}

fn mapping_of(mappings: &[Mapping], addr: u64) -> Option<&Mapping> {
    let at = mappings.partition_point(|mapping| mapping.start <= addr).checked_sub(1)?;
    mappings.get(at).filter(|mapping| addr < mapping.end)
}

/// The native frames of a stack, as an unwinder that knows no runtime meets them: an interpreter's stand
/// beside those of its code, and code that was generated stands for itself, as no file's.
fn native(words: &[u64]) -> impl Iterator<Item = Option<Place>> {
    hotframe_frames::frames(words).filter_map(|frame| match frame {
        Raw::Static(word) | Raw::Own(word) => Some(place(word)),
        Raw::Dynamic(words) => {
            let id = words.first().map(|&head| abi::FrameWord(head).runtime());
            let runtime = id.and_then(hotframe_registry::by_id);
            (!runtime.is_some_and(|runtime| runtime.is_beside_native())).then_some(None)
        }
    })
}

fn place(word: u64) -> Option<Place> {
    let word = abi::FrameWord(word);
    (word.kind() == abi::HF_FRAME_NATIVE)
        .then(|| Place { file: word.file_id(), offset: word.image_offset() })
}

fn name(case: &AuditCase<'_>, place: Option<Place>) -> String {
    let Some(place) = place else { return "-".to_owned() };
    let path = case.files.get(place.file).map_or("?", |file| file.path.as_str());
    format!("{path}+{:#x}", place.offset)
}

fn log_disagreement(case: &AuditCase<'_>, theirs: &[(u64, Place)], end: End, at: usize) {
    tracing::debug!(
        at,
        cut = case.cut,
        ?end,
        ours = case.words.len(),
        theirs = theirs.len(),
        pc = format!("{:#x}", case.regs[abi::HF_X86_PC as usize]),
        sp = format!("{:#x}", case.regs[abi::HF_X86_RSP as usize]),
        "walks differ"
    );
    for frame in at.saturating_sub(2)..(at + 2).min(theirs.len().max(case.words.len())) {
        let ours = case.words.get(frame).and_then(|&word| place(word));
        let theirs = theirs.get(frame).map(|&(_, place)| place);
        tracing::debug!(
            frame,
            ours = name(case, ours),
            theirs = name(case, theirs),
            "walks differ"
        );
    }
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use super::*;
    use hotframe_core::files::{Files, Identity};

    const START: u64 = 0x7f00_0000_0000;
    const STACK: u64 = 0x7fff_0000_0000;

    /// The vDSO as the only file, and a function of it: at its start the CFA is rsp + 8.
    fn vdso() -> (Files, FileId, u64) {
        let mut files = Files::default();
        let id = files.intern(Identity::Vdso, "[vdso]", std::process::id());
        assert_eq!(files.open(id, std::process::id(), 0, 0), id);
        let elf = files.get(id).and_then(|file| file.elf()).expect("ELF");
        let hdr = elf.section(".eh_frame_hdr").expect("a search table");
        let mut first = [0; 4];
        read(elf, hdr, hdr.addr + 12, &mut first).expect("an entry");
        let start = hdr.addr.wrapping_add_signed(i32::from_le_bytes(first).into());
        let base = elf.image_base();
        (files, id, start - base)
    }

    /// Judges a walk of three frames, each called from the start of one function; `change` may
    /// spoil what we say.
    fn check(change: impl Fn(&mut Vec<u64>, &mut u8, &mut Vec<u8>), expect: Judgement) {
        let (files, id, function) = vdso();
        let mut regs = [0; abi::HF_NREGS as usize];
        regs[abi::HF_X86_PC as usize] = START + function;
        regs[abi::HF_X86_RSP as usize] = STACK;
        let caller = START + function + 1;
        let mut stack: Vec<u8> =
            [caller, caller, 0].into_iter().flat_map(u64::to_le_bytes).collect();
        let word = |flags: u32, offset: u64| {
            u64::from(abi::HF_FRAME_NATIVE) << abi::HF_FRAME_KIND_SHIFT
                | u64::from(flags) << abi::HF_FRAME_FLAGS_SHIFT
                | u64::from(id) << abi::HF_FRAME_FILE_SHIFT
                | offset
        };
        let again = word(abi::HF_FRAME_RETURN_ADDR, function + 1);
        let (mut words, mut cut) =
            (vec![word(0, function), again, again], abi::HF_CUT_ZERO_RA as u8);
        change(&mut words, &mut cut, &mut stack);
        // A guess is no excuse: of a file that BOLT has not rewritten the tables are right.
        for is_heuristic in [false, true] {
            let case = AuditCase {
                regs: &regs,
                stack: (STACK, &stack),
                words: &words,
                mappings: &[Mapping { start: START, end: START + 0x4000, pgoff: 0, file: id }],
                files: &files,
                cut,
                is_heuristic,
            };
            assert_eq!(Judge::default().judge(&case), expect);
        }
    }

    /// Of a file no more is kept than the entries of functions that were met, and of these no more than there is
    /// room for: unwind sections of compilers are 7 MB each.
    #[test]
    fn what_is_kept_is_bounded() {
        let (files, id, function) = vdso();
        let elf = files.get(id).and_then(|file| file.elf()).expect("ELF");
        let mut judge = Judge::default();
        let n = 2 * KEPT_MAX_BYTES / size_of::<Entry>();
        for number in 0..n as u64 {
            // As if of so many files.
            let entry = judge.entry(number as FileId, elf, elf.image_base() + function);
            let entry = entry.expect("an entry");
            assert!(entry.bytes.len() < 1024, "{}", entry.bytes.len());
            assert!(judge.kept_bytes <= KEPT_MAX_BYTES && judge.entries.len() < n / 2);
        }
        let extent = Entry::find(elf, elf.image_base() + function).expect("an entry").extent;
        assert_eq!(extent.start, elf.image_base() + function);
        assert!(Entry::find(elf, extent.start - 1).is_none(), "it is the first function");
        assert!(Entry::find(elf, u64::MAX).is_none());
    }

    /// What is right agrees, also where the copy of the stack ends first; each wrong frame, a
    /// missing and an added one differ.
    #[test]
    fn judges() {
        let whole = abi::HF_CUT_NONE as u8;
        check(|_, _, _| {}, Judgement::Agrees);
        check(|_, _, stack| stack.truncate(8), Judgement::Agrees);
        for at in 0..3 {
            check(|words, _, _| words[at] += 1, Judgement::Differs);
            check(|words, _, _| words[at] ^= 1 << abi::HF_FRAME_FILE_SHIFT, Judgement::Differs);
        }
        check(|words, cut, _| (words.truncate(2), *cut = whole).1, Judgement::Differs);
        check(|words, _, _| words.push(words[2]), Judgement::Differs);
        // A frame short, but it says so.
        check(|words, _, _| words.truncate(2), Judgement::Agrees);
        // An interpreter's frame stands between native ones; another runtime's in the place of one.
        let dynamic = |runtime: u32| {
            let head = u64::from(abi::HF_FRAME_DYNAMIC) << abi::HF_FRAME_KIND_SHIFT
                | u64::from(runtime) << abi::HF_FRAME_RUNTIME_SHIFT
                | 1 << abi::HF_FRAME_N_DATA_SHIFT;
            [head, 7]
        };
        for at in 0..=3 {
            check(
                |words, _, _| drop(words.splice(at..at, dynamic(abi::HF_RUNTIME_CPYTHON))),
                Judgement::Agrees,
            );
        }
        check(
            |words, _, _| drop(words.splice(1..2, dynamic(abi::HF_RUNTIME_HOTSPOT))),
            Judgement::Differs,
        );
        // Ours left known code, and theirs cannot follow.
        check(
            |_, _, stack| stack[8..16].copy_from_slice(&4096_u64.to_le_bytes()),
            Judgement::NotJudged("no mapping"),
        );
    }
}
