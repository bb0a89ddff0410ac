//! Rows for x86-64 functions that nothing describes, by following what their code does to rsp.
//!
//! In: the code of one function. Out: the same rules that a compiler would have written, or `None`
//! where the code does what cannot be followed.
//!
//! # How it works
//! From the first instruction on, along all branches, the distance from the CFA is tracked of rsp
//! and of each general register that holds a copy of it, and where the caller's rbp was saved. A
//! branch target has the state of the branch. Code that only a computed jump reaches has the state
//! of that jump. If rsp is lost (aligned down) a register that still knows the CFA takes over.
//! Behind a call a frame pointer is believed before rsp: callees may pop their arguments (V8's do).
//! A function that pops its return address, drops its arguments and pushes it again is as at its
//! entry then; in between the return address is in a register. One that makes a frame in between
//! makes it for its caller (the prologue of V8's baseline code), which has none before. If the CFA
//! is lost on some path, the whole function is given up; one with a frame by rbp loses only the
//! rest of that path, which is its way out.
//!
//! # Sources
//! System V ABI, AMD64 supplement 1.0 §3.2; asm of glibc 2.36 and OpenSSL 3.0, whose call frame
//! information the tests compare with.
//!
//! # Cost
//! About 40 ns per instruction; each is decoded once. 5 bytes of scratch a byte of code, and a state an
//! instruction.

use iced_x86::{
    Code, Decoder, DecoderError, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory,
    Mnemonic, OpAccess, OpKind, Register,
};

use crate::cfi::{Arch, Cfa, Saved, Unwind};

/// Bytes of a function that is followed.
pub(crate) const MAX_CODE_BYTES: usize = 64 << 10;

/// DWARF numbers of the general registers, in the order of their encoding.
const DWARF: [u8; 16] = [0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15];
const RSP: usize = 4;
const RBP: usize = 5;
/// rbx, rsp, rbp and r12–r15 survive a call.
const CALLEE_SAVED: [bool; 16] = [
    false, false, false, true, true, true, false, false, false, false, false, false, true, true,
    true, true,
];

/// What is known before an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// CFA - register, by encoding.
    below: [Option<i32>; 16],
    /// Where the caller's rbp is, relative to the CFA.
    saved_rbp: Option<i32>,
    /// rbp is not the caller's any more.
    rbp_changed: bool,
    /// [`Arch::kept`], by encoding, and where the caller's is, relative to the CFA.
    kept: Option<usize>,
    saved_kept: Option<i32>,
    /// A call came before, or this is one.
    called: bool,
    /// The return address was popped into this register; nothing of the frame is left.
    ra_in: Option<usize>,
    /// How far rsp is from where it was then.
    since_pop: Option<i32>,
    /// A frame was made while it was.
    made_frame: bool,
    /// On top is the return address of a call within the function, to code that does away with it.
    over_call: bool,
    /// What is followed is described, too ([`follow_described`]).
    is_described: bool,
}

impl State {
    const ENTRY: Self = {
        let mut below = [None; 16];
        below[RSP] = Some(8);
        Self {
            below,
            saved_rbp: None,
            rbp_changed: false,
            kept: None,
            saved_kept: None,
            called: false,
            ra_in: None,
            since_pop: None,
            made_frame: false,
            over_call: false,
            is_described: false,
        }
    };

    /// At the start of a part of a function whose frame is found by rbp.
    const FRAMED: Self = {
        let mut below = [None; 16];
        below[RBP] = Some(16);
        Self { below, saved_rbp: Some(-16), rbp_changed: true, is_described: true, ..Self::ENTRY }
    };

    fn get(&self, register: usize) -> Option<i32> {
        self.below.get(register).copied().flatten()
    }

    fn set(&mut self, register: usize, below: Option<i32>) {
        if self.ra_in.is_some() {
            // Where rsp is now is where the caller will find it.
            if self.ra_in == Some(register) {
                self.ra_in = None;
                self.below = [None; 16];
            }
            self.rbp_changed |= register == RBP;
            self.since_pop = self.since_pop.filter(|_| register != RSP);
            return;
        }
        if let Some(slot) = self.below.get_mut(register) {
            *slot = below;
        }
        self.rbp_changed |= register == RBP;
    }

    fn move_sp(&mut self, by: i64) {
        if self.ra_in.is_some() {
            let since = self.since_pop.and_then(|since| i64::from(since).checked_sub(by));
            self.since_pop = since.and_then(|since| u16::try_from(since).ok()).map(i32::from);
            return;
        }
        let below = self.get(RSP).and_then(|below| {
            let below = i64::from(below).checked_sub(by)?;
            // Above the return address there is nothing of this function's.
            (8..1 << 30).contains(&below).then_some(below as i32)
        });
        self.set(RSP, below);
    }

    /// What holds on both ways to an instruction, if that is less than is known of it (a loop that
    /// pushes) and rbp still says where the frame is. Without rbp the way that was followed first
    /// counts: the other may come from behind a call that never returns.
    fn joined(&self, other: &State) -> Option<State> {
        let mut joined = *self;
        for (mine, theirs) in joined.below.iter_mut().zip(&other.below) {
            *mine = mine.filter(|below| *theirs == Some(*below));
        }
        joined.called |= other.called;
        joined.made_frame |= other.made_frame;
        let is_framed = joined.get(RBP).is_some() && self.saved_rbp == other.saved_rbp;
        (is_framed && joined != *self).then_some(joined)
    }

    /// Does rbp point at where the caller's is saved?
    fn has_frame(&self) -> bool {
        self.saved_rbp.is_some_and(|at| self.get(RBP) == at.checked_neg())
    }

    /// The return address was popped into a register.
    fn pop_return_address(&mut self, to: usize) {
        self.below = [None; 16];
        self.ra_in = Some(to);
        self.since_pop = Some(0);
    }

    /// It was pushed again: nothing lies between it and what the caller will find.
    fn push_return_address(&mut self) {
        self.below = State::ENTRY.below;
        self.ra_in = None;
    }

    /// rbp was loaded from there, relative to the CFA: it is the caller's again, or not known.
    fn load_rbp(&mut self, from: Option<i32>) {
        if from.is_some() && from == self.saved_rbp {
            self.below[RBP] = None;
            self.rbp_changed = false;
            self.saved_rbp = None;
        } else {
            self.set(RBP, None);
        }
    }

    fn unwind(&self, arch: Arch) -> Option<Unwind> {
        let same = if self.rbp_changed { Saved::Undefined } else { Saved::Same };
        if let Some(&reg) = self.ra_in.and_then(|register| DWARF.get(register)) {
            // What the caller will find is on top of the stack, but for what is being put there.
            let off = self.since_pop.filter(|_| !self.made_frame).unwrap_or(0);
            let cfa = Cfa::Reg { reg: arch.sp, off };
            return Some(Unwind { cfa, fp: same, ra: Saved::Reg(reg), kept: None });
        }
        let by_frame = (self.called || self.is_described) && self.has_frame();
        let order = if by_frame { [RBP, RSP] } else { [RSP, RBP] };
        let order = order.into_iter().chain(0..16);
        let (register, off) =
            order.into_iter().find_map(|register| Some((register, self.get(register)?)))?;
        let reg = *DWARF.get(register)?;
        let fp = match self.saved_rbp {
            Some(off) => Saved::At(off),
            None => same,
        };
        debug_assert_eq!(arch.sp, 7);
        Some(Unwind { cfa: Cfa::Reg { reg, off }, fp, ra: Saved::At(-8), kept: self.saved_kept })
    }
}

/// Does code begin with `mov [rsp], r64`? What is called so is no function: it returns to where its caller's caller
/// jumps (retpolines).
fn replaces_return_address(code: &[u8]) -> bool {
    matches!(*code, [0x48 | 0x4c, 0x89, modrm, 0x24, ..] if modrm & 0xc7 == 4)
}

/// The encoding of a 64-bit general register.
fn general(register: Register) -> Option<usize> {
    register.is_gpr64().then(|| register.number())
}

/// The DWARF number of a 64-bit general register.
pub(crate) fn dwarf(register: Register) -> Option<u8> {
    DWARF.get(general(register)?).copied()
}

/// Where the CFA is not known: not to be guessed at, since rbp may be the caller's.
const LOST: Unwind =
    Unwind { cfa: Cfa::Unsupported, fp: Saved::Undefined, ra: Saved::Unsupported, kept: None };

/// The rules of a function: (offset, rule), ascending. `None` rules are holes: bytes that no path
/// reaches.
pub(crate) fn follow(code: &[u8], arch: Arch) -> Option<Vec<(u32, Option<Unwind>)>> {
    follow_from(State::ENTRY, code, arch, &[], &mut None)
}

/// The same for code that is described, and not rightly: a function, or, with `is_framed`, a part
/// of one in which rbp leads to its frame from the start. `changes` are where described rules
/// begin, sorted: a call with one right behind it does not return. `None`: also where two paths
/// meet that do not agree. `None` rules are bytes that no path from the start reaches, or at which
/// the CFA is not known; what only other parts jump to is among them.
pub(crate) fn follow_described(
    code: &[u8],
    arch: Arch,
    is_framed: bool,
    changes: &[u32],
) -> Option<Vec<(u32, Option<Unwind>)>> {
    let begin = State { is_described: true, ..State::ENTRY };
    let begin = if is_framed { State::FRAMED } else { begin };
    let mut rules = follow_from(begin, code, arch, changes, &mut None)?;
    for (_, rule) in &mut rules {
        *rule = rule.filter(|unwind| *unwind != LOST);
    }
    Some(rules)
}

/// The same for a function of which only the start is known. `beyond` becomes the furthest offset behind
/// `code` at which it goes on: by a branch as part of itself (what jumps elsewhere with nothing on its
/// stack passes on to another function), or since `code` ends within its instructions. A call followed by
/// padding alone does not return.
pub(crate) fn follow_unsized(
    code: &[u8],
    arch: Arch,
    beyond: &mut Option<u64>,
) -> Option<Vec<(u32, Option<Unwind>)>> {
    let mut furthest = Some(0);
    let rules = follow_from(State::ENTRY, code, arch, &[], &mut furthest);
    *beyond = furthest.filter(|&to| to > 0);
    rules
}

/// Where the next function may begin behind `from`, of code at address `base`: at a multiple of 16
/// behind a return or a jump and padding.
pub(crate) fn next_start(code: &[u8], base: u64, from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let &opcode = code.get(at)?;
        let end = match opcode {
            0xc3 => at + 1,
            0xeb => at + 2,
            0xe9 => at + 5,
            _ => {
                at += 1;
                continue;
            }
        };
        at += 1;
        let padded = padding_end(code, base, end);
        if let Some(start) = padded.filter(|&start| start > from && start < code.len()) {
            return Some(start);
        }
    }
}

/// The next multiple of 16 from `from` on, if nothing but padding lies before it.
pub(crate) fn padding_end(code: &[u8], base: u64, from: usize) -> Option<usize> {
    let misplaced = base.wrapping_add(from as u64) & 15;
    if misplaced == 0 {
        return Some(from);
    }
    let end = from.checked_add(usize::try_from(16 - misplaced).ok()?)?;
    if !may_be_padding(code.get(from)) {
        return None;
    }
    let padding = code.get(from..end)?;
    if padding.iter().all(|&byte| byte == 0) {
        return Some(end);
    }
    let mut decoder = Decoder::new(64, padding, DecoderOptions::NONE);
    while decoder.can_decode() {
        if !is_padding(&decoder.decode()) {
            return None;
        }
    }
    Some(end)
}

fn is_padding(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Int3)
}

/// Can padding begin with this byte? What is decoded is what it is; this spares most of that.
fn may_be_padding(byte: Option<&u8>) -> bool {
    // Zeros; nop, with prefixes, of several bytes; int3.
    matches!(byte, Some(0 | 0x0f | 0x2e | 0x66 | 0x90 | 0xcc))
}

/// Bytes of padding at the start of `code`. Zeros (Free Pascal's) are instructions, too, with which no
/// function begins.
pub(crate) fn padding_bytes(code: &[u8]) -> usize {
    if !may_be_padding(code.first()) {
        return 0;
    }
    let zeros = code.iter().take_while(|&&byte| byte == 0).count();
    if zeros > 1 {
        return zeros;
    }
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let mut end = 0;
    while decoder.can_decode() && is_padding(&decoder.decode()) {
        end = decoder.position();
    }
    end
}

/// The rules of code that is entered in a state: see the callers.
fn follow_from(
    begin: State,
    code: &[u8],
    arch: Arch,
    changes: &[u32],
    beyond: &mut Option<u64>,
) -> Option<Vec<(u32, Option<Unwind>)>> {
    let kept = arch.kept.and_then(|kept| DWARF.iter().position(|&reg| reg == kept));
    let begin = State { kept, ..begin };
    let mut follower = Follower {
        code,
        arch,
        changes,
        beyond,
        decoder: Decoder::new(64, code, DecoderOptions::NONE),
        info: InstructionInfoFactory::new(),
        states: States::new(code.len()),
        work: vec![(0, begin)],
        computed: None,
        is_lost: false,
    };
    follower.follow_all()?;
    let Follower { states, is_lost, .. } = follower;
    if is_lost && !states.rows.iter().any(|row| row.state.has_frame()) {
        return None;
    }
    // Alignment may have the rule before it.
    let padding = if begin.is_described { 0 } else { 15 };
    Some(states.rules(arch, code.len() as u32, padding))
}

/// Goes along all paths through a function's code.
struct Follower<'a> {
    code: &'a [u8],
    arch: Arch,
    /// Where described rules begin: see [`follow_described`].
    changes: &'a [u32],
    /// How far behind `code` it goes on, if that is asked for: see [`follow_unsized`].
    beyond: &'a mut Option<u64>,
    decoder: Decoder<'a>,
    info: InstructionInfoFactory,
    states: States,
    /// Where paths begin that were not followed yet.
    work: Vec<(u32, State)>,
    /// Before the first computed jump.
    computed: Option<State>,
    /// On some path the CFA was lost.
    is_lost: bool,
}

impl Follower<'_> {
    /// `None`: the code cannot be followed.
    fn follow_all(&mut self) -> Option<()> {
        let mut hole = 0;
        loop {
            while let Some((from, state)) = self.work.pop() {
                self.follow_path(from, state)?;
            }
            // A jump table's targets: whatever nothing else reached.
            let Some(state) = self.computed else { break };
            let Some(at) = self.states.hole(hole, self.code, &mut self.decoder) else { break };
            self.work.push((at, state));
            // Up to there all is covered now.
            hole = at;
        }
        Some(())
    }

    /// Goes on until the path ends, or meets one that was followed and knows nothing less of the state.
    fn follow_path(&mut self, from: u32, mut state: State) -> Option<()> {
        if self.decoder.set_position(from as usize).is_err() {
            return Some(());
        }
        self.decoder.set_ip(u64::from(from));
        while self.decoder.can_decode() {
            let at = self.decoder.position() as u32;
            if let Some(known) = self.states.get(at) {
                if state.is_described && known.unwind(self.arch) != state.unwind(self.arch) {
                    return None;
                }
                match known.joined(&state) {
                    Some(joined) => state = joined,
                    None => break,
                }
            }
            let instruction = self.decoder.decode();
            if instruction.is_invalid() {
                // What looked like its end lies within an instruction.
                let is_cut = self.decoder.last_error() == DecoderError::NoMoreBytes;
                let furthest = self.beyond.as_mut().filter(|_| is_cut)?;
                *furthest = (*furthest).max(self.code.len() as u64);
                break;
            }
            // A return address is looked up one byte before: the row of its call.
            let is_call = instruction.is_call_near() || instruction.is_call_near_indirect();
            state.called |= is_call;
            self.states.insert(at, state, self.decoder.position() as u32);
            if state.unwind(self.arch).is_none() {
                self.is_lost = true;
                break;
            }
            if !self.pass(&mut state, &instruction)? {
                break;
            }
            // What looked like its end is the last byte of an instruction behind which it goes on.
            // A call there may be one that does not return.
            if let Some(furthest) =
                self.beyond.as_mut().filter(|_| !self.decoder.can_decode() && !is_call)
            {
                *furthest = (*furthest).max(self.code.len() as u64);
            }
        }
        Some(())
    }

    /// The effect of an instruction, which has just been decoded. Says whether the path goes on behind
    /// it; `None`: the code cannot be followed.
    fn pass(&mut self, state: &mut State, instruction: &Instruction) -> Option<bool> {
        Some(match instruction.flow_control() {
            FlowControl::Next if instruction.mnemonic() == Mnemonic::Hlt => false,
            FlowControl::Next => {
                step(state, instruction, &mut self.info);
                true
            }
            FlowControl::ConditionalBranch | FlowControl::XbeginXabortXend => {
                self.branch(state, instruction, true);
                true
            }
            FlowControl::UnconditionalBranch => {
                // Without anything on the stack it may be to another function.
                self.branch(state, instruction, state.get(RSP) != Some(8));
                false
            }
            FlowControl::IndirectBranch => {
                if state.ra_in.is_none() && !state.is_described {
                    self.computed.get_or_insert(*state);
                }
                false
            }
            FlowControl::Call | FlowControl::IndirectCall => self.call(state, instruction),
            // To where a data word says: not a function's way out.
            FlowControl::Return if state.ra_in.is_some() => return None,
            // Nor is what is pushed a return address: the code of another function followed a
            // call that does not return.
            FlowControl::Return
                if self.beyond.is_some()
                    && !state.over_call
                    && state.get(RSP).is_some_and(|below| below != 8) =>
            {
                return None;
            }
            FlowControl::Return | FlowControl::Interrupt | FlowControl::Exception => false,
        })
    }

    /// Takes note of a branch's target: one within the code begins a path, and behind its end there is
    /// more of the function if the branch is sure to stay in it.
    fn branch(&mut self, state: &State, instruction: &Instruction, stays: bool) {
        let target = instruction.near_branch_target();
        let is_within = (target as usize) < self.code.len();
        if let Some(furthest) = self.beyond.as_mut().filter(|_| !is_within && stays) {
            // A negative one is a jump backwards.
            *furthest = (*furthest).max(if target >> 63 == 0 { target } else { 0 });
        }
        if let Some(to) = u32::try_from(target).ok().filter(|_| is_within) {
            self.work.push((to, *state));
        }
    }

    /// The effect of a call; says whether it returns.
    fn call(&mut self, state: &mut State, instruction: &Instruction) -> bool {
        let behind = self.decoder.position();
        if instruction.is_call_near() && instruction.near_branch_target() == behind as u64 {
            // Only to learn the pc: its return address is popped.
            state.move_sp(-8);
            return true;
        }
        if instruction.mnemonic() == Mnemonic::Syscall {
            state.set(1, None);
            state.set(11, None);
            state.set(0, None);
            return true;
        }
        let to = instruction.near_branch_target();
        let called = usize::try_from(to).ok().and_then(|to| self.code.get(to..));
        if to > 0 && called.is_some_and(replaces_return_address) {
            let mut over = State { over_call: true, ..*state };
            over.move_sp(-8);
            self.work.push((to as u32, over));
        }
        if self.changes.binary_search(&(behind as u32)).is_ok() {
            return false;
        }
        let next = self.code.get(behind..).unwrap_or_default();
        if self.beyond.is_some() && padding_bytes(next) > 0 {
            return false;
        }
        for (register, kept) in CALLEE_SAVED.iter().enumerate() {
            if !kept {
                state.set(register, None);
            }
        }
        true
    }
}

/// What is known of each instruction that was met, by where it begins.
struct States {
    /// By offset of the code: the number of a row, plus one; 0: none.
    row_at: Vec<u32>,
    /// By offset: some instruction has this byte.
    is_covered: Vec<bool>,
    rows: Vec<Row>,
}

struct Row {
    state: State,
    /// Where the instruction ends.
    next: u32,
}

impl States {
    fn new(code_bytes: usize) -> States {
        States {
            row_at: vec![0; code_bytes],
            is_covered: vec![false; code_bytes],
            rows: Vec::with_capacity(code_bytes / 4),
        }
    }

    fn row(&self, at: u32) -> Option<usize> {
        (*self.row_at.get(at as usize)? as usize).checked_sub(1)
    }

    fn get(&self, at: u32) -> Option<&State> {
        self.rows.get(self.row(at)?).map(|row| &row.state)
    }

    fn insert(&mut self, at: u32, state: State, next: u32) {
        if let Some(row) = self.row(at).and_then(|row| self.rows.get_mut(row)) {
            *row = Row { state, next };
            return;
        }
        let Some(row_at) = self.row_at.get_mut(at as usize) else { return };
        self.rows.push(Row { state, next });
        *row_at = self.rows.len() as u32;
        if let Some(covered) = self.is_covered.get_mut(at as usize..next as usize) {
            covered.fill(true);
        }
    }

    /// All, with where each begins, ascending.
    fn in_order(&self) -> impl Iterator<Item = (u32, &Row)> {
        (0..self.row_at.len() as u32).filter_map(|at| Some((at, self.rows.get(self.row(at)?)?)))
    }

    /// The rules of a function of so many bytes. Up to `padding` bytes that no instruction covers go on
    /// with the rule before them.
    fn rules(&self, arch: Arch, code_bytes: u32, padding: u32) -> Vec<(u32, Option<Unwind>)> {
        let mut rules: Vec<(u32, Option<Unwind>)> = Vec::new();
        let mut end = 0;
        let makes_frame = self.rows.iter().any(|row| row.state.made_frame);
        for (at, row) in self.in_order() {
            if at > end + padding {
                rules.push((end, None));
            }
            let mut unwind = row.state.unwind(arch).unwrap_or(LOST);
            if makes_frame && !row.state.made_frame && unwind.fp == Saved::Same {
                unwind.fp = Saved::Bare;
            }
            let unwind = Some(unwind);
            if rules.last().is_none_or(|(_, last)| *last != unwind) {
                rules.push((at, unwind));
            }
            end = end.max(row.next);
        }
        if code_bytes > end + padding {
            rules.push((end, None));
        }
        rules
    }

    /// The first byte from `from` on that no instruction covers and that is not padding.
    fn hole(&self, from: u32, code: &[u8], decoder: &mut Decoder) -> Option<u32> {
        let mut at = from as usize;
        while at < code.len() {
            if self.is_covered.get(at) != Some(&false) {
                at += 1;
                continue;
            }
            let padding = padding_bytes(code.get(at..).unwrap_or_default());
            if padding == 0 {
                decoder.set_position(at).ok()?;
                // Data among the code ends the search.
                return (!decoder.decode().is_invalid()).then_some(at as u32);
            }
            at += padding;
        }
        None
    }
}

/// Operands of an instruction, as far as they can lead to the frame.
#[derive(Clone, Copy)]
struct Operands<'a>(&'a Instruction);

impl Operands<'_> {
    fn kind(self, n: u32) -> Option<OpKind> {
        (self.0.op_count() > n).then(|| self.0.op_kind(n))
    }

    /// A general register, by encoding.
    fn register(self, n: u32) -> Option<usize> {
        match self.kind(n) {
            Some(OpKind::Register) => general(self.0.op_register(n)),
            _ => None,
        }
    }

    /// Where [register + constant] is, relative to the CFA.
    fn place(self, n: u32, state: &State) -> Option<i32> {
        let is_plain =
            self.kind(n) == Some(OpKind::Memory) && self.0.memory_index() == Register::None;
        let base = general(self.0.memory_base()).filter(|_| is_plain)?;
        let off = self.0.memory_displacement64().cast_signed();
        i32::try_from(off.checked_sub(i64::from(state.get(base)?))?).ok()
    }

    fn constant(self, n: u32) -> Option<i64> {
        match self.kind(n) {
            Some(
                OpKind::Immediate8to64
                | OpKind::Immediate32to64
                | OpKind::Immediate64
                | OpKind::Immediate8
                | OpKind::Immediate32,
            ) => Some(self.0.immediate(n).cast_signed()),
            _ => None,
        }
    }
}

/// The effect of an instruction that falls through.
fn step(state: &mut State, instruction: &Instruction, info: &mut InstructionInfoFactory) {
    let operands = Operands(instruction);
    let is_known = match (instruction.mnemonic(), operands.register(0)) {
        (Mnemonic::Push, source) => {
            push(state, source, instruction.stack_pointer_increment());
            true
        }
        (Mnemonic::Pop, to) => pop(state, to, instruction.stack_pointer_increment()),
        (Mnemonic::Leave, _) => {
            let base = state.get(RBP);
            state.set(RSP, base);
            state.load_rbp(base.map(|below| -below));
            state.move_sp(8);
            true
        }
        (Mnemonic::Add | Mnemonic::Sub, Some(to)) => match operands.constant(1) {
            Some(constant) => {
                let is_sub = instruction.mnemonic() == Mnemonic::Sub;
                let by = if is_sub { constant.checked_neg() } else { Some(constant) };
                let below = state.get(to).map(i64::from).zip(by);
                let below =
                    below.and_then(|(below, by)| i32::try_from(below.checked_sub(by)?).ok());
                state.set(to, below.filter(|&below| to != RSP || below >= 8));
                true
            }
            None => false,
        },
        (Mnemonic::Lea, Some(to)) => {
            let below = operands.place(1, state).and_then(i32::checked_neg);
            state.set(to, below.filter(|&below| to != RSP || below >= 8));
            true
        }
        (Mnemonic::Mov, to) => mov(state, to, operands),
        _ if matches!(instruction.code(), Code::Pushfq) => {
            state.move_sp(-8);
            true
        }
        _ if matches!(instruction.code(), Code::Popfq) => {
            state.move_sp(8);
            true
        }
        _ => false,
    };
    if !is_known {
        forget_written(state, instruction, info);
    }
}

fn push(state: &mut State, source: Option<usize>, by: i32) {
    if source.is_some() && state.ra_in == source {
        state.push_return_address();
        return;
    }
    state.move_sp(i64::from(by));
    if source == Some(RBP) && !state.rbp_changed && state.saved_rbp.is_none() {
        state.saved_rbp = state.get(RSP).map(|below| -below);
    }
    if source.is_some() && source == state.kept && state.saved_kept.is_none() {
        state.saved_kept = state.get(RSP).map(|below| -below);
    }
}

/// Says whether that was all: a pop into rsp is not followed.
fn pop(state: &mut State, to: Option<usize>, by: i32) -> bool {
    let Some(to) = to else {
        state.move_sp(i64::from(by));
        return true;
    };
    if to == RSP {
        return false;
    }
    if to != RBP && state.get(RSP) == Some(8) && state.saved_rbp.is_none() {
        state.pop_return_address(to);
        return true;
    }
    // A compiler's way out, also where it is not known how far rsp had been moved.
    if to == RBP && state.is_described && state.get(RSP).is_none() && state.has_frame() {
        let base = state.get(RBP);
        state.set(RSP, base);
    }
    let from = state.get(RSP).map(|below| -below);
    if to == RBP {
        state.load_rbp(from);
    } else {
        state.set(to, None);
    }
    if Some(to) == state.kept && from == state.saved_kept {
        state.saved_kept = None;
    }
    state.move_sp(i64::from(by));
    true
}

/// Says whether that was all.
fn mov(state: &mut State, to: Option<usize>, operands: Operands<'_>) -> bool {
    match (to, operands.register(1)) {
        (Some(RBP), Some(RSP)) if state.ra_in.is_some() => {
            state.made_frame = true;
            state.rbp_changed = false;
        }
        (Some(to), Some(from)) => {
            let below = state.get(from);
            state.set(to, below);
        }
        (Some(RBP), None) => {
            let from = operands.place(1, state);
            state.load_rbp(from);
        }
        (Some(to), None) if Some(to) == state.kept => {
            if operands.place(1, state).is_some_and(|from| state.saved_kept == Some(from)) {
                state.saved_kept = None;
            }
            state.set(to, None);
        }
        (None, from) if state.kept.is_some() && from == state.kept => {
            let to = operands.place(0, state).filter(|&to| to < -8);
            state.saved_kept = state.saved_kept.or(to);
        }
        (None, Some(RBP)) if !state.rbp_changed => {
            if let Some(to) = operands.place(0, state).filter(|&to| to < -8) {
                state.saved_rbp = Some(to);
            }
        }
        _ => return false,
    }
    true
}

/// What an instruction does to registers that is not followed: what they held is not known any more.
fn forget_written(state: &mut State, instruction: &Instruction, info: &mut InstructionInfoFactory) {
    for used in info.info(instruction).used_registers() {
        let writes = matches!(
            used.access(),
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        );
        if let Some(register) = general(used.register().full_register()).filter(|_| writes) {
            state.set(register, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::Machine;

    /// A loop that pushes as often as a register says: the frame pointer alone holds from there on
    /// (V8's JSEntryTrampoline).
    #[test]
    fn a_loop_that_pushes() {
        let code = [
            0x55, 0x48, 0x89, 0xe5, // push rbp; mov rbp, rsp
            0x50, 0x48, 0xff, 0xc9, 0x75, 0xfa, // 1: push rax; dec rcx; jnz 1b
            0x48, 0x89, 0xec, 0x5d, 0xc3, // mov rsp, rbp; pop rbp; ret
        ];
        let at = |rules: &[(u32, u8, i32, Saved)], pc: u32| {
            rules.iter().rfind(|rule| rule.0 <= pc).map(|rule| (rule.1, rule.2))
        };
        let rules = rules(&code).expect("followed");
        for pc in [4, 5, 8, 10] {
            assert_eq!(at(&rules, pc), Some((6, 16)), "{pc}");
        }
        assert_eq!(at(&rules, 13), Some((7, 16)));
        assert_eq!(at(&rules, 14), Some((7, 8)));
    }

    /// The callee popped its arguments: rsp is not where it was, rbp is (V8's SortCompareUserFn).
    #[test]
    fn behind_a_call_the_frame_pointer_counts() {
        // push rbp; mov rbp,rsp; push rcx; call f; mov eax,0; mov rsp,rbp; pop rbp; ret
        let code = [
            0x55, 0x48, 0x89, 0xe5, 0x51, 0xe8, 0, 1, 0, 0, 0xb8, 0, 0, 0, 0, 0x48, 0x8b, 0xe5,
            0x5d, 0xc3,
        ];
        assert_eq!(
            rules(&code).unwrap(),
            [
                (0, 7, 8, Saved::Same),
                (1, 7, 16, Saved::At(-16)),
                (5, 6, 16, Saved::At(-16)),
                (19, 7, 8, Saved::Same),
            ]
        );
    }

    /// Arguments are dropped from under the return address (V8's CEntry), with and without a frame
    /// before: between pop and push the return address is in a register, then it is as at the entry.
    #[test]
    fn a_return_address_that_is_moved() {
        // push rbp; mov rbp,rsp; and rsp,-16; call *rbx; leave; pop rcx; lea rsp,[r15+8];
        // push rcx; ret
        let code = [
            0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xe4, 0xf0, 0xff, 0xd3, 0xc9, 0x59, 0x49, 0x8d,
            0x67, 0x08, 0x51, 0xc3,
        ];
        assert_eq!(
            rules(&code).unwrap(),
            [
                (0, 7, 8, Saved::Same),
                (1, 7, 16, Saved::At(-16)),
                (8, 6, 16, Saved::At(-16)),
                (11, 7, 8, Saved::Same),
                (12, IN_REG, 2, Saved::Same),
                (17, 7, 8, Saved::Same),
            ]
        );
        // pop rcx; push rax; push rcx; jmp *rdx; and nothing behind the jump is made up
        let code = [0x59, 0x50, 0x51, 0xff, 0xe2, 0x90, 0x90];
        let expect = [
            (0, 7, 8, Saved::Same),
            (1, IN_REG, 2, Saved::Same),
            (2, IN_REG + 8, 2, Saved::Same),
            (3, 7, 8, Saved::Same),
        ];
        assert_eq!(rules(&code).unwrap()[..4], expect);
    }

    /// A prologue out of line (V8's for baseline code): the caller has no frame until it is made.
    #[test]
    fn a_frame_that_is_made_for_the_caller() {
        // test edi,edi; je 1f; pop r15; push rbp; mov rbp,rsp; push rsi; push r15; ret;
        // 1: push rbp; mov rbp,rsp; leave; ret
        let code = [
            0x85, 0xff, 0x74, 0x0a, 0x41, 0x5f, 0x55, 0x48, 0x89, 0xe5, 0x56, 0x41, 0x57, 0xc3,
            0x55, 0x48, 0x89, 0xe5, 0xc9, 0xc3,
        ];
        assert_eq!(
            rules(&code).unwrap(),
            [
                (0, 7, 8, Saved::Bare),
                (6, IN_REG, 15, Saved::Bare),
                (7, IN_REG + 8, 15, Saved::Bare),
                (10, IN_REG, 15, Saved::Same),
                (13, 7, 8, Saved::Same),
                (14, 7, 8, Saved::Bare),
                (15, 7, 16, Saved::At(-16)),
                (19, 7, 8, Saved::Bare),
            ]
        );
    }

    /// Free Pascal pads with zeros, behind which the next function begins, and not what is in a jump
    /// table; what does not return is the last that is called before them.
    #[test]
    fn zeros_are_padding() {
        // push rbx; jmp *rax; 1: pop rbx; ret; zeros; 2: push rcx; call nowhere; zeros
        let mut code = [0; 32];
        code[..5].copy_from_slice(&[0x53, 0xff, 0xe0, 0x5b, 0xc3]);
        code[16..22].copy_from_slice(&[0x51, 0xe8, 0, 1, 0, 0]);
        assert_eq!(next_start(&code, 0, 0), Some(16));
        assert_eq!(padding_bytes(&code[5..]), 11);
        assert_eq!(
            unsized_rules(&code[..16]),
            (Some(vec![(0, 8), (1, 16), (4, 8)]), None),
            "what nothing but a computed jump reaches ends before the padding"
        );
        assert_eq!(unsized_rules(&code[16..]), (Some(vec![(0, 8), (1, 16)]), None));
    }

    /// A byte that is a return by itself, at the end of 16 bytes: the function goes on behind it.
    #[test]
    fn what_looks_like_an_end_within_an_instruction() {
        // push rbx; call f; lea rax, [rip]; mov rbx, rax (its last byte is 0xc3); pop rbx; ret
        let whole =
            [0x53, 0xe8, 0, 1, 0, 0, 0x48, 0x8d, 0x05, 0, 0, 0, 0, 0x48, 0x89, 0xc3, 0x5b, 0xc3];
        assert_eq!(next_start(&whole, 0, 0), Some(16));
        assert_eq!(unsized_rules(&whole[..16]).1, Some(16));
        assert_eq!(unsized_rules(&whole), (Some(vec![(0, 8), (1, 16), (17, 8)]), None));
        // sub rsp, 8; nop; mov ecx, 0x00c3…: cut within the instruction
        let cut = [0x48, 0x83, 0xec, 8, 0x0f, 0x1f, 0x44, 0, 0, 0x0f, 0x1f, 0x40, 0, 0xb9, 0, 0xc3];
        assert_eq!(next_start(&[&cut[..], &[0x90]].concat(), 0, 0), Some(16));
        assert_eq!(unsized_rules(&cut).1, Some(16));
    }

    /// push rbx; call what_does_not_return; the next function: pop rbx is not what it returns with.
    #[test]
    fn the_next_function_behind_a_call_that_does_not_return() {
        let code = [0x53, 0xe8, 0, 1, 0, 0, 0x31, 0xc0, 0xc3];
        assert_eq!(unsized_rules(&code).0, None);
    }

    /// (offset, bytes from the stack pointer to the CFA), and how far it goes on.
    fn unsized_rules(code: &[u8]) -> (Option<Vec<(u32, i32)>>, Option<u64>) {
        let mut beyond = None;
        let rules = follow_unsized(code, Arch::of(Machine::X86_64).unwrap(), &mut beyond);
        let each = |(at, unwind): (u32, Option<Unwind>)| match unwind {
            Some(Unwind { cfa: Cfa::Reg { reg: 7, off }, .. }) => Some((at, off)),
            None => None,
            other => panic!("{other:?}"),
        };
        (rules.map(|rules| rules.into_iter().filter_map(each).collect()), beyond)
    }

    /// And more stands for a rule that says that the CFA is the stack pointer, and so much, and
    /// the return address in the register that follows.
    const IN_REG: u8 = 128;

    fn rules(code: &[u8]) -> Option<Vec<(u32, u8, i32, Saved)>> {
        let rules = follow(code, Arch::of(Machine::X86_64).unwrap())?;
        let each = rules.into_iter().map(|(at, unwind)| match unwind {
            Some(Unwind { cfa: Cfa::Reg { reg: 7, off }, fp, ra: Saved::Reg(reg), .. }) => {
                (at, IN_REG + off as u8, reg.into(), fp)
            }
            Some(Unwind { cfa: Cfa::Reg { reg, off }, fp, .. }) => (at, reg, off, fp),
            other => panic!("{other:?}"),
        });
        Some(each.collect())
    }

    #[test]
    fn pushes_and_pops_with_an_early_way_out() {
        // test edi,edi; je out; push rbp; push rbx; sub rsp,8; add rsp,8; pop rbx; pop rbp;
        // out: ret
        let code = [
            0x85, 0xff, 0x74, 0x0c, 0x55, 0x53, 0x48, 0x83, 0xec, 0x08, 0x48, 0x83, 0xc4, 0x08,
            0x5b, 0x5d, 0xc3,
        ];
        assert_eq!(
            rules(&code).unwrap(),
            [
                (0, 7, 8, Saved::Same),
                (5, 7, 16, Saved::At(-16)),
                (6, 7, 24, Saved::At(-16)),
                (10, 7, 32, Saved::At(-16)),
                (14, 7, 24, Saved::At(-16)),
                (15, 7, 16, Saved::At(-16)),
                (16, 7, 8, Saved::Same),
            ]
        );
    }

    /// Where the caller's r12 is while a function has another value in it, if that is asked for.
    #[test]
    fn a_register_that_is_saved() {
        let arch = Arch::of(Machine::X86_64).unwrap();
        let kept = |code: &[u8], kept: Option<u8>| -> Vec<(u32, Option<i32>)> {
            let rules = follow(code, Arch { kept, ..arch }).unwrap();
            rules.into_iter().map(|(at, unwind)| (at, unwind.unwrap().kept)).collect()
        };
        // push rbx; push r12; mov r12, rdi; push r12; call f; pop rax; pop r12; pop rbx; ret
        let pushed = [
            0x53, 0x41, 0x54, 0x49, 0x89, 0xfc, 0x41, 0x54, 0xe8, 0, 1, 0, 0, 0x58, 0x41, 0x5c,
            0x5b, 0xc3,
        ];
        let there = Some(-24);
        let expect =
            [(0, None), (1, None), (3, there), (8, there), (14, there), (16, None), (17, None)];
        assert_eq!(kept(&pushed, Some(12)), expect);
        assert!(kept(&pushed, None).iter().all(|rule| rule.1.is_none()));
        // sub rsp, 24; mov [rsp+8], r12; mov r12, rdi; call f; mov r12, [rsp+8]; add rsp, 24; ret
        let stored = [
            0x48, 0x83, 0xec, 0x18, 0x4c, 0x89, 0x64, 0x24, 0x08, 0x49, 0x89, 0xfc, 0xe8, 0, 1, 0,
            0, 0x4c, 0x8b, 0x64, 0x24, 0x08, 0x48, 0x83, 0xc4, 0x18, 0xc3,
        ];
        assert_eq!(
            kept(&stored, Some(12)),
            [(0, None), (4, None), (9, there), (22, None), (26, None)]
        );
    }

    #[test]
    fn a_retpoline_writes_over_the_return_address_of_its_own_call() {
        let mut code = vec![
            0xe8, 0x0b, 0, 0, 0, // call 16
            0xf3, 0x90, // pause
            0x0f, 0xae, 0xe8, // lfence
            0xeb, 0xf9, // jmp 5
        ];
        code.resize(16, 0xcc);
        code.extend([0x4c, 0x89, 0x1c, 0x24, 0xc3]); // mov [rsp], r11; ret
        let expect = vec![(0, 7, 8, Saved::Same), (16, 7, 16, Saved::Same)];
        assert_eq!(rules(&code), Some(expect.clone()));
        let (rules, beyond) = unsized_rules(&code);
        assert_eq!((rules, beyond), (Some(vec![(0, 8), (16, 16)]), None));
        // A subroutine of its own returns to it.
        code.splice(16.., [0x48, 0x89, 0x1c, 0x25, 0, 0, 0, 0, 0xc3]);
        assert_ne!(self::rules(&code), Some(expect));
    }

    #[test]
    fn an_aligned_stack_is_followed_by_the_frame_pointer() {
        // push rbp; mov rbp,rsp; and rsp,-64; call *rax; leave; ret
        let code = [0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xe4, 0xc0, 0xff, 0xd0, 0xc9, 0xc3];
        assert_eq!(
            rules(&code).unwrap(),
            [
                (0, 7, 8, Saved::Same),
                (1, 7, 16, Saved::At(-16)),
                (8, 6, 16, Saved::At(-16)),
                (11, 7, 8, Saved::Same),
            ]
        );
    }

    #[test]
    fn a_lost_stack_pointer_gives_the_function_up() {
        // and rsp,-64; nop; ret
        assert_eq!(rules(&[0x48, 0x83, 0xe4, 0xc0, 0x90, 0xc3]), None);
        // mov rsp,rdi; ret
        assert_eq!(rules(&[0x48, 0x89, 0xfc, 0xc3]), None);
        // pop rax; ret: the return address itself
        assert_eq!(rules(&[0x58, 0xc3]), None);
        // not code
        assert_eq!(rules(&[0x06, 0x07]), None);
    }

    #[test]
    fn a_copy_in_another_register_takes_over() {
        // mov rax,rsp; and rsp,-32; nop; mov rsp,rax; ret
        let code = [0x48, 0x89, 0xe0, 0x48, 0x83, 0xe4, 0xe0, 0x90, 0x48, 0x89, 0xc4, 0xc3];
        let got = rules(&code).unwrap();
        assert_eq!(got[1], (7, 0, 8, Saved::Same));
        assert_eq!(got[2], (11, 7, 8, Saved::Same));
    }

    #[test]
    fn any_bytes_end() {
        let mut seed = 7u64;
        for len in 0..400 {
            let code: Vec<u8> = (0..len)
                .map(|_| {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    (seed >> 56) as u8
                })
                .collect();
            let _ = follow(&code, Arch::of(Machine::X86_64).unwrap());
        }
    }
}
