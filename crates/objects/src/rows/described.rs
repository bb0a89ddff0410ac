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
}

enum Ran {
    /// Its end.
    Well(u64),
    /// Its end, if it is known.
    Badly(Option<u64>),
    /// It does not start where the index said.
    Elsewhere,
}
