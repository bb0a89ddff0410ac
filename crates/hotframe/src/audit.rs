//! `--audit`: walks compared, frame by frame, with an unwinder that is not ours (framehop).
//!
//! In: a sample's registers, a copy of its stack and its words. Out: do they say the same? framehop
//! reads `.eh_frame` of the very files and shares no code or table with the kernel half.
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
//! # Sources
//! framehop 0.16 `src/x86_64/dwarf.rs` (what it evaluates), `src/unwinder.rs` (when it falls back).
//!
//! # Not handled
//! Code without `.eh_frame` and `.eh_frame_hdr` (JITs, Go, hand-written assembly), frames whose CFA
//! stands in a register other than the stack and frame pointer or in memory (signal frames).
//!
//! # Cost
//! About 10 µs a frame, and the unwind sections of each file in memory: at most
//! [`MAX_SECTION_BYTES`], the least recently used go first.

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{Error, ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder as _};
use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, LittleEndian, Operation,
    RegisterRule, UnwindContext, UnwindSection as _, X86_64,
};
use hotframe_abi as abi;
use hotframe_core::files::{FileId, Reader};
use hotframe_core::processes::Mapping;
use hotframe_core::session::{AuditCase, Auditor, Judgement};
use hotframe_frames::Raw;
use hotframe_objects::{ElfFile, Machine};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of `.eh_frame` and `.eh_frame_hdr` kept in memory.
const MAX_SECTION_BYTES: usize = 64 << 20;
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

/// The unwind sections of a file.
#[derive(Debug, Clone)]
struct Sections {
    eh_frame: Arc<[u8]>,
    eh_frame_at: Range<u64>,
    hdr: Arc<[u8]>,
    hdr_at: Range<u64>,
    text_at: Option<Range<u64>>,
    got_at: Option<Range<u64>>,
    image_base: u64,
}

impl Sections {
    fn read(elf: &ElfFile<Reader>) -> Option<Sections> {
        if elf.machine() != Machine::X86_64 {
            return None;
        }
        let at = |name: &str| {
            let section = elf.section(name)?;
            Some(section.addr..section.addr.checked_add(section.size)?)
        };
        let bytes = |name: &str| {
            let bytes = elf.section_bytes(elf.section(name)?, MAX_SECTION_BYTES as u64).ok()?;
            Some(Arc::<[u8]>::from(bytes))
        };
        Some(Sections {
            eh_frame: bytes(".eh_frame")?,
            eh_frame_at: at(".eh_frame")?,
            hdr: bytes(".eh_frame_hdr")?,
            hdr_at: at(".eh_frame_hdr")?,
            text_at: at(".text"),
            got_at: at(".got"),
            image_base: elf.image_base(),
        })
    }

    fn n_bytes(&self) -> usize {
        self.eh_frame.len() + self.hdr.len()
    }

    fn module(&self, range: Range<u64>, image: u64) -> Module<Arc<[u8]>> {
        let info = ExplicitModuleSectionInfo {
            base_svma: self.image_base,
            text_svma: self.text_at.clone(),
            got_svma: self.got_at.clone(),
            eh_frame_svma: Some(self.eh_frame_at.clone()),
            eh_frame: Some(self.eh_frame.clone()),
            eh_frame_hdr_svma: Some(self.hdr_at.clone()),
            eh_frame_hdr: Some(self.hdr.clone()),
            ..Default::default()
        };
        Module::new(String::new(), range, image, info)
    }

    /// Is there a rule for this address that framehop evaluates without a guess?
    fn is_judgeable(&self, svma: u64) -> Option<bool> {
        let bases = BaseAddresses::default()
            .set_eh_frame(self.eh_frame_at.start)
            .set_eh_frame_hdr(self.hdr_at.start)
            .set_text(self.text_at.as_ref().map_or(0, |at| at.start))
            .set_got(self.got_at.as_ref().map_or(0, |at| at.start));
        let hdr = EhFrameHdr::new(&self.hdr, LittleEndian).parse(&bases, 8).ok()?;
        let mut eh_frame = EhFrame::from(EndianSlice::new(&self.eh_frame, LittleEndian));
        eh_frame.set_address_size(8);
        let table = hdr.table()?;
        let fde = table
            .fde_for_address(&eh_frame, &bases, svma, |section, bases, offset| {
                section.cie_from_offset(bases, offset)
            })
            .ok()?;
        let mut context = UnwindContext::new();
        let row = fde.unwind_info_for_address(&eh_frame, &bases, &mut context, svma).ok()?;
        let known = |register| matches!(register, X86_64::RSP | X86_64::RBP | X86_64::RA);
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, .. } => known(*register),
            CfaRule::Expression(expression) => {
                let expression = expression.get(&eh_frame).ok()?;
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
    files: HashMap<FileId, (u64, Option<Arc<Sections>>)>,
    clock: u64,
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
            let Some(sections) = self.sections(id, elf) else {
                return (frames, End::NoJudge("no .eh_frame"));
            };
            let svma = lookup.wrapping_sub(image).wrapping_add(sections.image_base);
            if sections.is_judgeable(svma) != Some(true) {
                return (frames, End::NoJudge("no rule that framehop evaluates"));
            }
            let range = mapping.start..mapping.end;
            if !known.contains(&range) {
                unwinder.add_module(sections.module(range.clone(), image));
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

    fn sections(&mut self, id: FileId, elf: &ElfFile<Reader>) -> Option<Arc<Sections>> {
        self.clock += 1;
        if let Some((used, sections)) = self.files.get_mut(&id) {
            *used = self.clock;
            return sections.clone();
        }
        let sections = Sections::read(elf).map(Arc::new);
        self.files.insert(id, (self.clock, sections.clone()));
        while self.n_section_bytes() > MAX_SECTION_BYTES {
            let oldest = self.files.iter().min_by_key(|(_, (used, _))| *used).map(|(&id, _)| id);
            let Some(oldest) = oldest.filter(|&oldest| oldest != id) else { break };
            self.files.remove(&oldest);
        }
        sections
    }

    fn n_section_bytes(&self) -> usize {
        self.files.values().filter_map(|(_, sections)| Some(sections.as_ref()?.n_bytes())).sum()
    }
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
        let sections = Sections::read(files.get(id).and_then(|file| file.elf()).expect("ELF"));
        let sections = sections.expect("unwind sections");
        let bases = BaseAddresses::default().set_eh_frame(sections.eh_frame_at.start);
        let mut eh_frame = EhFrame::from(EndianSlice::new(&sections.eh_frame, LittleEndian));
        eh_frame.set_address_size(8);
        let mut entries = eh_frame.entries(&bases);
        let start = loop {
            match entries.next().expect("entries").expect("a function") {
                gimli::CieOrFde::Cie(_) => {}
                gimli::CieOrFde::Fde(partial) => {
                    let fde =
                        partial.parse(|section, bases, at| section.cie_from_offset(bases, at));
                    break fde.expect("an entry").initial_address();
                }
            }
        };
        (files, id, start - sections.image_base)
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
        let case = AuditCase {
            regs: &regs,
            stack: (STACK, &stack),
            words: &words,
            mappings: &[Mapping { start: START, end: START + 0x4000, pgoff: 0, file: id }],
            files: &files,
            cut,
        };
        assert_eq!(Judge::default().judge(&case), expect);
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
