//! Rows of functions that nothing describes: known by a symbol, by their section, or by nothing.
//! Their code is followed.

use super::{Builder, PADDING_BYTES, Span, disjoint};
use crate::Error;
use crate::cfi::Unwind;
use crate::elf::{ElfFile, Machine};
use crate::framed;
use crate::functions::Functions;
use crate::read::ReadAt;
use crate::rules::Rule;
use crate::synth;
use std::ops::Range;

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
/// Bytes of code followed for a block (`synth.rs`).
const MAX_DECODED_BYTES: usize = 256 << 10;

impl Builder {
    /// Functions that only a symbol knows.
    pub(super) fn add_functions<R: ReadAt>(
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
            let is_followed =
                self.follow_function(file, function.start, extent, &mut code, &mut decoded)?;
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

    /// Functions of which Go's table says no more than where they are.
    pub(super) fn add_foreign<R: ReadAt>(
        &mut self,
        file: &ElfFile<R>,
        functions: Vec<Range<u64>>,
    ) -> Result<(), Error> {
        let mut spans = Vec::new();
        let mut code = Vec::new();
        let mut decoded = 0;
        for Range { start, end } in functions {
            if self.covers(start) {
                continue;
            }
            let first = self.rules.len();
            self.follow_function(file, start, end - start, &mut code, &mut decoded)?;
            spans.push(Span { start, end, first, n: self.rules.len() - first });
        }
        self.fill(disjoint(spans));
        Ok(())
    }

    /// Adds the rules of one function; false: its code cannot be followed, and says where it starts alone.
    fn follow_function<R: ReadAt>(
        &mut self,
        file: &ElfFile<R>,
        start: u64,
        bytes: u64,
        code: &mut Vec<u8>,
        decoded: &mut usize,
    ) -> Result<bool, Error> {
        let first = self.rules.len();
        let size = usize::try_from(bytes).unwrap_or(usize::MAX);
        let follow = self.arch.machine == Machine::X86_64
            && (1..=synth::MAX_CODE_BYTES).contains(&size)
            && *decoded < MAX_DECODED_BYTES;
        if follow {
            *decoded += size;
            code.resize(size, 0);
            let got = file.read_vaddr(code, start)?;
            if let Some(rules) = synth::follow(code.get(..got).unwrap_or_default(), self.arch) {
                self.keep_followed(start, rules);
            }
        }
        let is_followed = self.rules.len() > first;
        if is_followed {
            self.stats.synthesised += 1;
        } else {
            self.stats.given_up += 1;
            self.rules.push((start, Rule::NONE_FUNCTION));
        }
        Ok(is_followed)
    }

    /// PLT stubs that nothing describes: lld writes no call frame information for them. A stub is
    /// entered by a call or a jump with nothing on the stack but the return address; the first one,
    /// to which the others pass on, with a number above it.
    pub(super) fn add_plt_stubs<R: ReadAt>(&mut self, file: &ElfFile<R>) -> Result<(), Error> {
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
    pub(super) fn add_unknown_functions<R: ReadAt>(
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
                // Behind a call that does not return, and padding, no return or jump says that another begins.
                if let Some(&(end, None)) = rules.last()
                    && let Some(next) = synth::padding_end(code, base, start + end as usize)
                    && next < limit
                {
                    limit = next;
                }
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
