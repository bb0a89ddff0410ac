//! Rows of what a call frame section describes (`.eh_frame`, `.debug_frame`).

use super::{Builder, InRegister, MAX_CALLS, Span, code_at};
use crate::Error;
use crate::cfi::{Cfa, Unwind};
use crate::elf::{ElfFile, Machine};
use crate::entries::{Entries, Entry};
use crate::expr::Expr;
use crate::read::{ReadAt, Window};
use crate::rules::{
    LEAVES_ITS_STACK_MAX_BYTES, Rule, X86_SIGRETURN_BYTES, is_sigreturn, leaves_its_stack,
};
use crate::synth;

/// Bytes of entries run for a block. libLLVM's fullest block has 60 KB; beyond it entries are bad.
const MAX_BLOCK_WORK_BYTES: usize = 16 << 20;

impl Builder {
    pub(super) fn add_entries<R: ReadAt>(
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
        let mut code = Vec::new();
        for (entry, until) in jobs {
            let first = self.rules.len();
            let end = if self.work_bytes > MAX_BLOCK_WORK_BYTES {
                None
            } else {
                match self.run(reader, entries, entry, (low, until))? {
                    Ran::Well { end, begin } => {
                        self.stats.fdes += 1;
                        if self.is_rewritten && self.in_registers.is_empty() {
                            let end = end.min(until);
                            let extent = Span { start: entry.start, end, first, n: 0 };
                            self.correct(file, &mut code, extent, begin)?;
                        }
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
        let mut begin = Rule::NONE;
        let is_rewritten = self.is_rewritten;
        let ran = entries.with_fde(reader, entry.offset, |fde, cie| {
            if fde.start != entry.start {
                return Ran::Elsewhere;
            }
            let done = fde.run(cie, arch, &mut |from, to, unwind| {
                if is_rewritten && from == fde.start && arch.machine == Machine::X86_64 {
                    begin = side.rule(unwind, cie.signal, arch);
                }
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
                Some(()) => Ran::Well { end: fde.end, begin },
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
                // That slot may not be written yet: what leads to another stack is not believed.
                let rule = self.side.rule(&Unwind { cfa, ..at.unwind }, false, arch);
                self.rules.push((behind - 1, rule.on_one_stack()));
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

    /// Corrects what an entry says of code that was put into other code after its tables had been made: BOLT,
    /// which standalone builds of CPython go through, copies functions into their callers together with
    /// their prologues and epilogues, of which the caller's entry then says nothing. At the jump behind such
    /// an epilogue rbp is the caller's, and so would be the frame that the entry has found by it: the
    /// caller's caller follows, and nothing is missing.
    ///
    /// What a prologue or an epilogue shows to be wrong is followed from its start (`synth.rs`). Where that
    /// tells something else it is believed, as heuristic. `block` is the block's text, once it was read: entries are
    /// not in the order of their functions.
    fn correct<R: ReadAt>(
        &mut self,
        file: &ElfFile<R>,
        block: &mut Vec<u8>,
        entry: Span,
        begin: Rule,
    ) -> Result<(), Error> {
        let is_framed = begin == FRAMED;
        if !is_framed && begin != Rule::plain_sp(8) {
            return Ok(());
        }
        let bytes = usize::try_from(entry.end.saturating_sub(entry.start)).unwrap_or(usize::MAX);
        if bytes > synth::MAX_CODE_BYTES {
            return Ok(());
        }
        let described = self.rules.get(entry.first..).unwrap_or_default();
        // No prologue fits before the frame: a cold part (below), of which there are many.
        let frame = described.iter().find(|(pc, rule)| *pc > entry.start && *rule == FRAMED);
        if !is_framed && frame.is_some_and(|(pc, _)| pc - entry.start < 4) {
            return Ok(());
        }
        if block.is_empty() {
            block.resize(usize::try_from(self.high - self.low).unwrap_or(0), 0);
            file.read_vaddr(block, self.low)?;
        }
        let from = entry.start.checked_sub(self.low).and_then(|at| usize::try_from(at).ok());
        let within = from.and_then(|from| block.get(from..from.checked_add(bytes)?));
        let mut own = Vec::new();
        let code = match within {
            Some(code) => code,
            None => {
                own.resize(bytes, 0);
                let got = file.read_vaddr(&mut own, entry.start)?;
                own.get(..got).unwrap_or_default()
            }
        };
        if !contradicts(code, entry.start, described) {
            return Ok(());
        }
        self.work_bytes += bytes;
        let changes = described.iter().filter_map(|&(pc, _)| {
            pc.checked_sub(entry.start).and_then(|at| u32::try_from(at).ok())
        });
        let changes: Vec<u32> = changes.collect();
        let followed = synth::follow_described(code, self.arch, is_framed, &changes);
        let Some(followed) = followed else {
            return Ok(());
        };
        let followed: Vec<(u64, Option<Rule>)> = followed
            .into_iter()
            .map(|(at, unwind)| {
                let rule = unwind.map(|unwind| self.side.rule(&unwind, false, self.arch));
                (entry.start + u64::from(at), rule.filter(|rule| *rule != Rule::BAD))
            })
            .collect();
        let described = self.rules.split_off(entry.first);
        let Some(&(first, _)) = described.first() else { return Ok(()) };
        let clip_end = self.reach().1;
        let mut pcs: Vec<u64> = described.iter().map(|(pc, _)| *pc).collect();
        pcs.extend(followed.iter().map(|(pc, _)| *pc).filter(|pc| (first..clip_end).contains(pc)));
        pcs.sort_unstable();
        pcs.dedup();
        let pairs = pcs.into_iter().filter_map(|pc| {
            Some((pc, rule_at(&described, pc)?, rule_at(&followed, pc).flatten()))
        });
        let pairs: Vec<(u64, Rule, Option<Rule>)> = pairs.collect();
        let is_wrong = pairs.iter().any(|&(_, described, followed)| {
            followed == Some(Rule::plain_sp(8)) && described == FRAMED
                || followed == Some(FRAMED) && described.is_sp(8)
        });
        // A compiler's cold part may be described from the byte before it on, as what calls led to.
        let mut changed = pairs.iter().skip_while(|(_, rule, _)| *rule == begin);
        let begins_well = changed.next().is_none_or(|&(_, rule, followed)| followed == Some(rule));
        if !is_wrong || !begins_well {
            self.rules.extend(described);
            return Ok(());
        }
        self.stats.corrected += 1;
        for (pc, described, followed) in pairs {
            let other = followed.filter(|rule| *rule != described).map(Rule::heuristic);
            self.rules.push((pc, other.unwrap_or(described)));
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
}

/// The rule of a function with a frame that it finds by rbp.
const FRAMED: Rule = Rule::framed(16, -2);

/// The last value at or before `pc`; sorted.
fn rule_at<T: Copy>(rules: &[(u64, T)], pc: u64) -> Option<T> {
    let after = rules.partition_point(|(at, _)| *at <= pc);
    rules.get(after.checked_sub(1)?).map(|(_, rule)| *rule)
}

/// Does a prologue or an epilogue not go with the rules there? What looks like one may lie within other
/// instructions.
fn contradicts(code: &[u8], start: u64, rules: &[(u64, Rule)]) -> bool {
    // A frame that was given up is there again, behind what goes on to it.
    let reappears = rules.windows(2).any(|pair| match *pair {
        [(_, before), (pc, FRAMED)] if before.is_sp(8) => {
            let at = pc.checked_sub(start).and_then(|at| usize::try_from(at).ok());
            at.and_then(|at| code.get(..at)).is_some_and(|before| !ends_a_path(before))
        }
        _ => false,
    });
    let both = |pc| Some((rule_at(rules, pc)?, rule_at(rules, pc + 1)?));
    reappears
        || memchr::memchr2_iter(PUSH_RBP, POP_RBP, code).any(|at| {
            let next = code.get(at + 1..).unwrap_or_default();
            let pc = start + at as u64;
            if code.get(at) == Some(&POP_RBP) {
                // ret or jmp
                matches!(next, [0xc3 | 0xe9 | 0xeb | 0xff, ..] | [0x40..=0x4f, 0xff, ..])
                    && both(pc).is_some_and(|(_, after)| after == FRAMED)
            } else {
                // mov rbp, rsp
                (next.starts_with(&[0x48, 0x89, 0xe5]) || next.starts_with(&[0x48, 0x8b, 0xec]))
                    && both(pc).is_some_and(|(before, after)| {
                        before == FRAMED || before.is_sp(8) && after.is_sp(8)
                    })
            }
        })
}

/// May code end with a return, a jump, or a call of what does not return?
fn ends_a_path(code: &[u8]) -> bool {
    let from_end = |n: usize| code.len().checked_sub(n).and_then(|at| code.get(at..));
    matches!(from_end(1), Some([0xc3]))
        || matches!(from_end(2), Some([0xeb, _] | [0xff, 0xe0..=0xe7] | [0x0f, 0x0b]))
        || matches!(from_end(3), Some([0x41, 0xff, 0xe0..=0xe7]))
        || matches!(from_end(5), Some([0xe8 | 0xe9, ..]))
        || matches!(from_end(7), Some([0xff, 0x24, ..]))
}

const PUSH_RBP: u8 = 0x55;
const POP_RBP: u8 = 0x5d;

enum Ran {
    /// Its end, and the rule at its start.
    Well { end: u64, begin: Rule },
    /// Its end, if it is known.
    Badly(Option<u64>),
    /// It does not start where the index said.
    Elsewhere,
}
