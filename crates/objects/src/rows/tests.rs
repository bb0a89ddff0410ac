//! Rows of files that are made up: each rule of unwind tables by itself, what is not believed, and its bounds.

use super::*;

const TEXT: u64 = 0x1000;
const EH_FRAME: u64 = 0x3000;
const X86: u16 = 62;
const ARM: u16 = 183;

/// An ELF file from its parts: text at 0x1000, `.eh_frame` at 0x3000 without a search table, and
/// functions as symbols.
struct Image {
    machine: u16,
    text: Vec<u8>,
    eh_frame: Vec<u8>,
    functions: Vec<(u64, u64)>,
    /// `.text` and `.plt`, where there are any.
    text_section: Option<(u64, u64)>,
    plt_section: Option<(u64, u64)>,
    entry: u64,
    file_type: u16,
    is_rewritten: bool,
}

impl Image {
    fn new(machine: u16) -> Self {
        let text = vec![0x90; 0x1000];
        Self {
            machine,
            text,
            eh_frame: vec![],
            functions: vec![],
            text_section: None,
            plt_section: None,
            entry: 0,
            file_type: 3,
            is_rewritten: false,
        }
    }

    fn cie(&mut self, augmentation: &[u8], data: &[u8], instructions: &[u8]) -> u64 {
        let at = self.eh_frame.len() as u64;
        let ra = if self.machine == X86 { 16 } else { 30 };
        let mut contents = vec![0, 0, 0, 0, 1];
        contents.extend(augmentation);
        // code alignment 1, data alignment -8
        contents.extend([0, 1, 0x78, ra]);
        if augmentation.starts_with(b"z") {
            contents.push(data.len() as u8);
            contents.extend(data);
        }
        contents.extend(instructions);
        self.eh_frame.extend((contents.len() as u32).to_le_bytes());
        self.eh_frame.extend(contents);
        at
    }

    /// Its pointers are absolute.
    fn fde(&mut self, cie: u64, start: u64, size: u64, instructions: &[u8]) {
        let at = self.eh_frame.len() as u64;
        let mut contents = ((at + 4 - cie) as u32).to_le_bytes().to_vec();
        contents.extend(start.to_le_bytes());
        contents.extend(size.to_le_bytes());
        contents.push(0);
        contents.extend(instructions);
        self.eh_frame.extend((contents.len() as u32).to_le_bytes());
        self.eh_frame.extend(contents);
    }

    fn code(&mut self, at: u64, code: &[u8]) {
        let at = (at - TEXT) as usize;
        self.text[at..at + code.len()].copy_from_slice(code);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0; 0x5000];
        let mut put = |at: u64, bytes: &[u8]| {
            out[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        put(16, &self.file_type.to_le_bytes());
        put(18, &self.machine.to_le_bytes());
        put(24, &self.entry.to_le_bytes());
        put(32, &64u64.to_le_bytes());
        put(40, &0x4000u64.to_le_bytes());
        put(54, &56u16.to_le_bytes());
        put(56, &1u16.to_le_bytes());
        put(58, &64u16.to_le_bytes());
        put(60, &6u16.to_le_bytes());
        put(62, &3u16.to_le_bytes());
        // One segment, read and execute, the file as it is.
        put(64, &1u32.to_le_bytes());
        put(68, &5u32.to_le_bytes());
        put(96, &0x3000u64.to_le_bytes());
        put(104, &0x3000u64.to_le_bytes());
        put(TEXT, &self.text);
        put(EH_FRAME, &self.eh_frame);
        let mut symbols = vec![0; 24];
        for &(start, size) in &self.functions {
            symbols.extend([0, 0, 0, 0, 0x12, 0, 1, 0]);
            symbols.extend(start.to_le_bytes());
            symbols.extend(size.to_le_bytes());
        }
        put(0x2000, &symbols);
        let names = b"\0.eh_frame\0.symtab\0.text\0.plt\0.bolt.org.text\0";
        put(0x4200, names);
        let mut section = |i: u64, name: u32, kind: u32, flags: u64, at: u64, size: u64| {
            let head = 0x4000 + i * 64;
            put(head, &name.to_le_bytes());
            put(head + 4, &kind.to_le_bytes());
            put(head + 8, &flags.to_le_bytes());
            put(head + 16, &at.to_le_bytes());
            put(head + 24, &at.to_le_bytes());
            put(head + 32, &size.to_le_bytes());
        };
        section(1, 1, 1, 2, EH_FRAME, self.eh_frame.len() as u64);
        section(2, 11, 2, 0, 0x2000, symbols.len() as u64);
        section(3, 0, 3, 0, 0x4200, names.len() as u64);
        for (i, name, place) in [(4, 19, self.text_section), (5, 25, self.plt_section)] {
            if let Some((at, size)) = place {
                section(i, name, 1, 6, at, size);
            }
        }
        if self.is_rewritten {
            section(4, 30, 1, 6, 0x100, 0x10);
        }
        out
    }

    fn block(&self) -> Block {
        let mut source = RowSource::new(ElfFile::open(self.bytes()).unwrap()).unwrap();
        assert_eq!(source.n_blocks(), 1);
        source.block(0).unwrap()
    }

    /// (pc, kind, fp, cfa) from the text on.
    fn rows(&self) -> Vec<(u64, u32, i8, i32)> {
        let block = self.block();
        assert_eq!(block.rows[0].pc, 0);
        assert!(block.rows.windows(2).all(|pair| pair[0].pc < pair[1].pc));
        let rows = block.rows.iter().skip(1);
        rows.map(|row| (u64::from(row.pc), u32::from(row.kind), row.fp, row.cfa)).collect()
    }
}

/// `DW_CFA_def_cfa rsp+8; DW_CFA_offset rip, 1`
const X86_INITIAL: &[u8] = &[0x0c, 7, 8, 0x90, 1];

#[test]
fn gaps_padding_and_equal_neighbours() {
    let mut image = Image::new(X86);
    let cie = image.cie(b"zR", &[0], X86_INITIAL);
    // push %rbp at the first byte, described; then one padding of 4, one gap of 32, one neighbour.
    image.fde(cie, 0x1000, 0x1c, &[0x41, 0x0e, 16, 0x86, 2]);
    image.fde(cie, 0x1020, 0x10, &[]);
    image.fde(cie, 0x1050, 0x10, &[]);
    image.fde(cie, 0x1060, 0x10, &[]);
    assert_eq!(
        image.rows(),
        [
            (0x1000, abi::HF_RULE_SP, 0, 8),
            (0x1001, abi::HF_RULE_SP, -2, 16),
            (0x1020, abi::HF_RULE_SP, 0, 8),
            (0x1030, abi::HF_RULE_NONE, 0, 0),
            (0x1050, abi::HF_RULE_SP, 0, 8),
            (0x1070, abi::HF_RULE_NONE, 0, 0),
        ]
    );
}

#[test]
fn a_bad_entry_costs_itself() {
    let mut image = Image::new(X86);
    let cie = image.cie(b"zR", &[0], X86_INITIAL);
    let strange = image.cie(b"zRx", &[0, 0], X86_INITIAL);
    let tagged = image.cie(b"zRBG", &[0], X86_INITIAL);
    image.fde(cie, 0x1000, 0x10, &[]);
    // An unknown instruction.
    image.fde(cie, 0x1010, 0x10, &[0x41, 0x3f]);
    image.fde(cie, 0x1020, 0x10, &[0x0e, 24]);
    // An unknown letter: where it stands is not known, since the CIE is not.
    image.fde(strange, 0x1030, 0x10, &[]);
    image.fde(tagged, 0x1040, 0x10, &[]);
    // Cut short; nested saves without an end are no fault.
    image.fde(cie, 0x1050, 0x10, &[0x0c, 7]);
    image.fde(cie, 0x1060, 0x10, &[0x0a, 0x0a, 0x0a, 0x0e, 64, 0x41, 0x0b, 0x41, 0x0b, 0x0b]);
    let rows = image.rows();
    assert_eq!(
        rows,
        [
            (0x1000, abi::HF_RULE_SP, 0, 8),
            (0x1010, abi::HF_RULE_BAD, 0, 0),
            (0x1020, abi::HF_RULE_SP, 0, 24),
            // The gap that the unreadable entry left.
            (0x1030, abi::HF_RULE_NONE, 0, 0),
            (0x1040, abi::HF_RULE_SP, 0, 8),
            (0x1050, abi::HF_RULE_BAD, 0, 0),
            (0x1060, abi::HF_RULE_SP, 0, 64),
            (0x1061, abi::HF_RULE_SP, 0, 8),
            (0x1070, abi::HF_RULE_NONE, 0, 0),
        ]
    );
    assert_eq!(image.block().stats.bad_fdes, 2);
}

/// A function that BOLT put into its caller, whose entry knows nothing of the prologue and the epilogue: as
/// python-build-standalone's CPython 3.14.6 has its instructions.
#[test]
fn an_entry_that_the_code_contradicts() {
    let mut image = Image::new(X86);
    image.is_rewritten = true;
    let cie = image.cie(b"zR", &[0], X86_INITIAL);
    let code = [
        0x55, 0x48, 0x89, 0xe5, // 0x1000: push rbp; mov rbp, rsp
        0x5d, 0x83, 0xf8, 0x01, // 0x1004: pop rbp; cmp eax, 1
        0x75, 0x08, // 0x1008: jne 0x1012
        0x55, 0x48, 0x89, 0xe5, // 0x100a: push rbp; mov rbp, rsp
        0x90, 0x5d, 0xff, 0xe0, // 0x100e: nop; pop rbp; jmp rax
        0xff, 0xe1, // 0x1012: jmp rcx
    ];
    let described = [
        0x41, 0x0e, 16, 0x86, 2, // 0x1001: rsp + 16, rbp at CFA - 16
        0x43, 0x0d, 6, // 0x1004: rbp + 16
        0x41, 0x0c, 7, 8, // 0x1005: rsp + 8
        0x45, 0x0c, 6, 16, // 0x100a: rbp + 16
        0x48, 0x0c, 7, 8, // 0x1012: rsp + 8
    ];
    image.code(0x1000, &code);
    image.fde(cie, 0x1000, code.len() as u64, &described);
    // What only begins where a cold part does: its entry begins a byte early, with the caller's rule.
    let cold = [
        0x90, 0x8b, 0x5d, 0xeb, // 0x1040: nop; mov ebx, [rbp - 0x15]
        0x48, 0x8d, 0x65, 0xf8, // 0x1044: lea rsp, [rbp - 8]
        0x5b, 0x5d, 0xc3, // 0x1048: pop rbx; pop rbp; ret
    ];
    image.code(0x1040, &cold);
    image.fde(cie, 0x1040, 11, &[0x41, 0x0c, 6, 16, 0x86, 2, 0x49, 0x0c, 7, 8]);
    const SP: u32 = abi::HF_RULE_SP;
    const FP: u32 = abi::HF_RULE_FP;
    const GUESS: u32 = abi::HF_RULE_HEURISTIC;
    assert_eq!(
        image.rows(),
        [
            (0x1000, SP, 0, 8),
            (0x1001, SP, -2, 16),
            (0x1004, FP, -2, 16),
            // rbp was given back.
            (0x1005, SP | GUESS, 0, 8),
            (0x100b, SP | GUESS, -2, 16),
            (0x100e, FP, -2, 16),
            (0x1010, SP | GUESS, 0, 8),
            (0x1014, abi::HF_RULE_NONE, 0, 0),
            (0x1040, SP, 0, 8),
            (0x1041, FP, -2, 16),
            (0x104a, SP, -2, 8),
            (0x104b, abi::HF_RULE_NONE, 0, 0),
        ]
    );
    assert_eq!(image.block().stats.corrected, 1);
    // Compilers' entries are believed.
    image.is_rewritten = false;
    assert_eq!(image.block().stats.corrected, 0);
    assert!(image.rows().iter().all(|row| row.1 & GUESS == 0));
    // In agreement with its code nothing of it is a guess.
    let mut image = Image::new(X86);
    image.is_rewritten = true;
    let cie = image.cie(b"zR", &[0], X86_INITIAL);
    image.code(0x1000, &[0x55, 0x48, 0x89, 0xe5, 0x5d, 0xff, 0xe0]);
    image.fde(cie, 0x1000, 7, &[0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6, 0x41, 0x0c, 7, 8]);
    assert!(image.rows().iter().all(|row| row.1 & GUESS == 0));
    assert_eq!(image.block().stats.corrected, 0);
}

/// glibc's `__longjmp` says where it goes on: in registers, its own stack pointer among them. What else depends on the
/// CFA cannot be said at once with that, and the CFA counts.
#[test]
fn a_stack_pointer_in_a_register() {
    let mut image = Image::new(X86);
    let cie = image.cie(b"zR", &[0], X86_INITIAL);
    // CFA = rdi; rsp in r8, rbp in r9, rip in rdx; then as at entry.
    let leap = [0x0a, 0x44, 0x0c, 5, 0, 0x09, 7, 8, 0x09, 6, 9, 0x09, 16, 1, 0x44, 0x0b];
    image.fde(cie, 0x1000, 0x10, &leap);
    // rsp in r8, and the return address beside the CFA; rsp as ever again.
    image.fde(cie, 0x1010, 0x10, &[0x09, 7, 8, 0x44, 0x09, 16, 1, 0x44, 0xc7]);
    let block = image.block();
    let kinds: Vec<(u16, u32, i8, i32)> =
        block.rows.iter().skip(1).map(|r| (r.pc, u32::from(r.kind), r.fp, r.cfa)).collect();
    assert_eq!(
        kinds,
        [
            (0x1000, abi::HF_RULE_SP, 0, 8),
            (0x1004, abi::HF_RULE_SIDE, 0, 0),
            (0x1008, abi::HF_RULE_SP, 0, 8),
            (0x1014, abi::HF_RULE_SIDE, 0, 1),
            (0x1018, abi::HF_RULE_SIDE, 0, 2),
            (0x1020, abi::HF_RULE_NONE, 0, 0),
        ]
    );
    let reg = abi::HF_OP_REG as u8;
    let [leap, by_register, plain] = &block.rules[..] else { panic!("{:?}", block.rules) };
    assert_eq!((leap.cfa_op, leap.cfa_reg, leap.cfa_off), (reg, 8, 0));
    assert_eq!((leap.fp_op, leap.fp_reg, leap.ra_op, leap.ra_reg), (reg, 9, reg, 1));
    assert_eq!((by_register.cfa_reg, by_register.ra_op, by_register.ra_reg), (8, reg, 1));
    assert_eq!((plain.cfa_reg, plain.cfa_off), (7, 8));
}

/// OCaml 5 calls C on the thread's stack, from fibers that may lie above or below it: by what sp leads to, once or twice,
/// or by a register that callees save.
#[test]
fn a_cfa_on_another_stack() {
    let mut image = Image::new(X86);
    let cie = image.cie(b"zR", &[0], X86_INITIAL);
    // caml_c_call: *(rsp + 8) + 8; caml_runstack: *(*(rsp + 56) + 0) + 8
    image.fde(cie, 0x1000, 0x10, &[0x0f, 5, 0x77, 8, 0x06, 0x23, 8]);
    image.fde(cie, 0x1010, 0x10, &[0x0f, 8, 0x77, 56, 0x06, 0x23, 0, 0x06, 0x23, 8]);
    // rbx + 24; that leads elsewhere, and the other offsets alike; r10 + 24: gcc's, on one stack.
    image.fde(cie, 0x1020, 0x10, &[0x0c, 3, 24]);
    image.fde(cie, 0x1030, 0x10, &[0x0f, 8, 0x77, 56, 0x06, 0x23, 16, 0x06, 0x23, 8]);
    image.fde(cie, 0x1040, 0x10, &[0x0c, 10, 24]);
    const SIDE: u32 = abi::HF_RULE_SIDE;
    const NEW: u32 = abi::HF_RULE_NEW_STACK;
    let block = image.block();
    let kinds: Vec<(u16, u32, i32)> =
        block.rows.iter().skip(1).map(|r| (r.pc, u32::from(r.kind), r.cfa)).collect();
    assert_eq!(
        kinds,
        [
            (0x1000, SIDE | NEW, 0),
            (0x1010, SIDE | NEW, 1),
            (0x1020, SIDE | NEW, 2),
            (0x1030, SIDE | NEW, 3),
            (0x1040, SIDE, 4),
            (0x1050, abi::HF_RULE_NONE, 0),
        ]
    );
    let (once, twice) = (abi::HF_OP_DEREF as u8, abi::HF_OP_DEREF_TWICE as u8);
    let cfa: Vec<_> = block.rules[..4]
        .iter()
        .map(|r| (r.cfa_op, r.cfa_reg, r.cfa_off, r.cfa_mid, r.cfa_off2))
        .collect();
    assert_eq!(
        cfa,
        [
            (once, 7, 8, 0, 8),
            (twice, 7, 56, 0, 8),
            (abi::HF_OP_REG as u8, 3, 24, 0, 0),
            (twice, 7, 56, 16, 8),
        ]
    );
}

#[test]
fn rules_that_do_not_fit_a_row() {
    let mut image = Image::new(X86);
    let cie = image.cie(b"zR", &[0], X86_INITIAL);
    // CFA = r10 + 0, rbp at *(rbp + 0): gcc's realigned frame
    image.fde(cie, 0x1000, 0x10, &[0x0c, 10, 0, 0x10, 6, 2, 0x76, 0]);
    // CFA = *(rbp - 8) + 0
    image.fde(cie, 0x1010, 0x10, &[0x0f, 3, 0x76, 0x78, 0x06]);
    // The return address in rdi (vfork), rbp undefined, rbp 2000 bytes below the CFA.
    image.fde(cie, 0x1020, 0x10, &[0x09, 16, 5]);
    image.fde(cie, 0x1030, 0x10, &[0x07, 6]);
    image.fde(cie, 0x1040, 0x10, &[0x86, 0xfa, 0x01]);
    // Undefined: the outermost.
    image.fde(cie, 0x1050, 0x10, &[0x07, 16]);
    // Two registers in one address.
    image.fde(cie, 0x1060, 0x10, &[0x0f, 5, 0x77, 0, 0x79, 0, 0x22]);
    let block = image.block();
    let kinds: Vec<(u16, u32, i8, i32)> =
        block.rows.iter().skip(1).map(|r| (r.pc, u32::from(r.kind), r.fp, r.cfa)).collect();
    assert_eq!(
        kinds,
        [
            (0x1000, abi::HF_RULE_SIDE, 0, 0),
            (0x1010, abi::HF_RULE_SIDE, 0, 1),
            (0x1020, abi::HF_RULE_SIDE, 0, 2),
            (0x1030, abi::HF_RULE_SP, 127, 8),
            (0x1040, abi::HF_RULE_SIDE, 0, 3),
            (0x1050, abi::HF_RULE_END, 0, 0),
            (0x1060, abi::HF_RULE_BAD, 0, 0),
            (0x1070, abi::HF_RULE_NONE, 0, 0),
        ]
    );
    assert_eq!(block.stats.inexpressible, 1);
    let of = |i: usize| {
        let rule = &block.rules[i];
        let ops = (rule.cfa_op, rule.fp_op, rule.ra_op).into();
        let [cfa, fp, ra]: [u8; 3] = ops;
        let regs = [rule.cfa_reg, rule.fp_reg, rule.ra_reg];
        let offs = [rule.cfa_off, rule.fp_off, rule.ra_off];
        ([u32::from(cfa), u32::from(fp), u32::from(ra)], regs, offs)
    };
    use abi::{HF_OP_CFA_DEREF, HF_OP_DEREF, HF_OP_REG, HF_OP_SAME};
    assert_eq!(of(0), ([HF_OP_REG, HF_OP_DEREF, HF_OP_CFA_DEREF], [10, 6, 0], [0, 0, -8]));
    assert_eq!(of(1), ([HF_OP_DEREF, HF_OP_SAME, HF_OP_CFA_DEREF], [6, 0, 0], [-8, 0, -8]));
    assert_eq!(of(2), ([HF_OP_REG, HF_OP_SAME, HF_OP_REG], [7, 0, 5], [8, 0, 0]));
    assert_eq!(of(3), ([HF_OP_REG, HF_OP_CFA_DEREF, HF_OP_CFA_DEREF], [7, 0, 0], [8, -2000, -8]));
}

#[test]
fn arm64_rules() {
    let mut image = Image::new(ARM);
    // CFA = sp
    let cie = image.cie(b"zR", &[0], &[0x0c, 31, 0]);
    // paciasp; stp x29, x30, [sp, #-32]!; mov x29, sp: x29 at CFA - 32, x30 at CFA - 24
    image.fde(cie, 0x1000, 0x20, &[0x44, 0x2d, 0x44, 0x0e, 32, 0x9d, 4, 0x9e, 3, 0x44, 0x0d, 29]);
    // x30 alone, then apart from x29
    image.fde(cie, 0x1020, 0x10, &[0x44, 0x0e, 16, 0x9e, 2]);
    image.fde(cie, 0x1030, 0x10, &[0x0e, 32, 0x9d, 4, 0x9e, 1]);
    // A signal trampoline: its code tells, and it begins one byte early.
    image.fde(cie, 0x1080, 0x8, &[]);
    image.code(0x1080, &[0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4]);
    let rows = image.rows();
    const IN_LR: u32 = abi::HF_RULE_SP | abi::HF_RULE_RA_IN_LR;
    assert_eq!(
        rows,
        [
            (0x1000, IN_LR, 0, 0),
            (0x1008, abi::HF_RULE_SP, -4, 32),
            (0x100c, abi::HF_RULE_FP, -4, 32),
            (0x1020, IN_LR, 0, 0),
            (0x1024, abi::HF_RULE_SIDE, 0, 0),
            (0x1030, abi::HF_RULE_SIDE, 0, 1),
            (0x1040, abi::HF_RULE_NONE, 0, 0),
            (0x107f, abi::HF_RULE_SIGNAL, 0, 304),
            (0x1088, abi::HF_RULE_NONE, 0, 0),
        ]
    );
    let rule = image.block().rules[1];
    assert_eq!((rule.cfa_reg, rule.cfa_off, rule.fp_off, rule.ra_off), (31, 32, -32, -8));
}

/// Assembly of a stripped file: each function begins behind the end of the one before, and what looks
/// like an end is none if the function branches behind it.
#[test]
fn functions_that_nothing_knows() {
    let mut image = Image::new(X86);
    let cie = image.cie(b"zR", &[0], X86_INITIAL);
    image.fde(cie, 0x1000, 0x10, &[]);
    // push %rbx; sub $0x1000, %rsp; test %eax, %eax; je 0x1040; add $0x1000, %rsp; pop %rbx; ret
    image.code(0x1010, &[0x53, 0x48, 0x81, 0xec, 0, 0x10, 0, 0, 0x85, 0xc0, 0x74, 0x24]);
    image.code(0x101c, &[0x48, 0x81, 0xc4, 0, 0x10, 0, 0, 0x5b, 0xc3]);
    // 0x1040: nop; jmp 0x101c
    image.code(0x1040, &[0x90, 0xeb, 0xd9]);
    // push %rax; call nowhere; ud2: what calls last does not return into the padding.
    image.code(0x1050, &[0x50, 0xe8, 0, 0x10, 0, 0]);
    // and $-64, %rsp; ret: lost
    image.code(0x1080, &[0x48, 0x83, 0xe4, 0xc0, 0xc3]);
    image.text_section = Some((0x1000, 0x100));
    const SYNTHESISED: u32 = abi::HF_RULE_SP | abi::HF_RULE_HEURISTIC;
    assert_eq!(
        image.rows(),
        [
            (0x1000, abi::HF_RULE_SP, 0, 8),
            (0x1010, SYNTHESISED, 0, 8),
            (0x1011, SYNTHESISED, 0, 16),
            (0x1018, SYNTHESISED, 0, 0x1010),
            (0x1023, SYNTHESISED, 0, 16),
            (0x1024, SYNTHESISED, 0, 8),
            (0x1025, abi::HF_RULE_NONE, 0, 0),
            (0x1040, SYNTHESISED, 0, 0x1010),
            // Padding goes on with the rule before it.
            (0x1050, SYNTHESISED, 0, 8),
            (0x1051, SYNTHESISED, 0, 16),
            (0x1056, abi::HF_RULE_NONE, 0, 0),
        ]
    );
    // Without a section that says what is code there may be anything.
    image.text_section = None;
    assert_eq!(image.rows().last().map(|row| (row.0, row.1)), Some((0x1010, abi::HF_RULE_NONE)));
}

/// The stubs that lld writes, for which it writes no tables.
#[test]
fn plt_stubs_without_tables() {
    let mut image = Image::new(X86);
    let cie = image.cie(b"zR", &[0], X86_INITIAL);
    image.fde(cie, 0x1000, 0x10, &[]);
    // push GOT+8(%rip); jmp *GOT+16(%rip); nopl
    image.code(0x1100, &[0xff, 0x35, 0, 0, 0, 0, 0xff, 0x25, 0, 0, 0, 0, 0x0f, 0x1f, 0x40, 0]);
    for (n, at) in [0x1110, 0x1120].into_iter().enumerate() {
        // jmp *GOT(%rip); push $n; jmp 0x1100
        image.code(at, &[0xff, 0x25, 0, 0, 0, 0, 0x68, n as u8, 0, 0, 0, 0xe9, 0, 0, 0, 0]);
    }
    image.plt_section = Some((0x1100, 0x30));
    const SYNTHESISED: u32 = abi::HF_RULE_SP | abi::HF_RULE_HEURISTIC;
    assert_eq!(
        image.rows()[1..],
        [
            (0x1010, abi::HF_RULE_NONE, 0, 0),
            (0x1100, SYNTHESISED, 0, 16),
            (0x1106, SYNTHESISED, 0, 24),
            (0x1110, SYNTHESISED, 0, 8),
            (0x111b, SYNTHESISED, 0, 16),
            (0x1120, SYNTHESISED, 0, 8),
            (0x112b, SYNTHESISED, 0, 16),
            (0x1130, abi::HF_RULE_NONE, 0, 0),
        ]
    );
}

#[test]
fn functions_that_only_a_symbol_knows() {
    let mut image = Image::new(X86);
    // push %rbx; pop %rbx; ret
    image.code(0x1100, &[0x53, 0x5b, 0xc3]);
    // and $-64, %rsp; nop; ret: lost
    image.code(0x1200, &[0x48, 0x83, 0xe4, 0xc0, 0x90, 0xc3]);
    // mov $15, %rax; syscall, without a symbol (musl)
    image.code(0x1300, &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05]);
    image.functions = vec![(0x1100, 3), (0x1200, 6), (0x1280, 0)];
    const SYNTHESISED: u32 = abi::HF_RULE_SP | abi::HF_RULE_HEURISTIC;
    assert_eq!(
        image.rows(),
        [
            (0x1100, SYNTHESISED, 0, 8),
            (0x1101, SYNTHESISED, 0, 16),
            (0x1102, SYNTHESISED, 0, 8),
            (0x1103, abi::HF_RULE_NONE, 0, 0),
            (0x1200, abi::HF_RULE_NONE, 0, 1),
            (0x1206, abi::HF_RULE_NONE, 0, 0),
            // Without a size it reaches to what comes next.
            (0x1280, SYNTHESISED, 0, 8),
            (0x12ff, abi::HF_RULE_SIGNAL, 0, 40),
            (0x1309, abi::HF_RULE_NONE, 0, 0),
        ]
    );
    let stats = image.block().stats;
    assert_eq!((stats.synthesised, stats.given_up), (2, 1));
}

#[test]
fn the_entry_point_ends_the_stack_if_it_is_one() {
    let mut image = Image::new(X86);
    let cie = image.cie(b"zR", &[0], X86_INITIAL);
    image.fde(cie, 0x1000, 0x20, &[0x44, 0x0e, 16]);
    image.entry = 0x1000;
    // A library's first function is none.
    assert_eq!(image.rows()[0], (0x1000, abi::HF_RULE_SP, 0, 8));
    image.file_type = 2;
    let whole = [(0x1000, abi::HF_RULE_END, 0, 0), (0x1020, abi::HF_RULE_NONE, 0, 0)];
    assert_eq!(image.rows(), whole);
    // Undescribed: xor %ebp, %ebp; mov %rsp, %rdi; call; hlt
    image.file_type = 3;
    image.entry = 0x1100;
    image.code(0x1100, &[0x31, 0xed, 0x48, 0x89, 0xe7, 0xe8, 0, 0, 0, 0, 0xf4]);
    assert_eq!(image.rows()[3..], [(0x1100, abi::HF_RULE_END, 0, 0), (0x110b, 0, 0, 0)]);
}

/// What an entry claims costs nothing beyond its bytes, and each block is as small as its text.
#[test]
fn hostile_entries_cost_bounded_time() {
    let begin = std::time::Instant::now();
    let mut image = Image::new(X86);
    let cie = image.cie(b"zR", &[0], X86_INITIAL);
    // Overlaps, wrapping ends, the whole address space, zero lengths, and CIEs that are FDEs.
    for i in 0..40 {
        image.fde(cie, 0x1000 + i, u64::MAX - 0x2000, &[0x41, 0x0e, 16]);
        image.fde(cie, 0x1000, 0, &[]);
        image.fde(cie, u64::MAX - i, 1 << 63, &[]);
        image.fde(cie + i, 0x1800, 0x10, &[0x01]);
    }
    let rows = image.rows();
    assert!(rows.len() < 200, "{rows:?}");
    let bytes = image.bytes();
    let mut source = RowSource::new(ElfFile::open(bytes.clone()).unwrap()).unwrap();
    assert!(source.heap_bytes() < 1 << 20);
    assert_eq!(source.block(u32::MAX).unwrap().rows.len(), 1);
    // Every byte of the headers, and of the entries, as large and as small as it gets.
    for at in (0..120).chain(EH_FRAME as usize..EH_FRAME as usize + 400).chain(0x4000..0x4100) {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            let Ok(file) = ElfFile::open(damaged) else { continue };
            file.map_bias(0x7f00_0000_0000, 0x1000);
            let Ok(mut source) = RowSource::new(file) else { continue };
            assert!(source.n_blocks() <= abi::HF_MAX_BLOCKS);
            assert!(source.heap_bytes() < 4 << 20);
            for n in [0, source.n_blocks() / 2, source.n_blocks().saturating_sub(1)] {
                let block = source.block(n).unwrap();
                assert_eq!(block.rows[0].pc, 0);
                assert!(block.rows.windows(2).all(|pair| pair[0].pc < pair[1].pc));
                assert!(block.rows.len() <= abi::HF_MAX_ROWS_PER_BLOCK as usize);
            }
        }
    }
    // Truncated anywhere.
    for len in (0..bytes.len()).step_by(61) {
        if let Ok(file) = ElfFile::open(bytes[..len].to_vec())
            && let Ok(mut source) = RowSource::new(file)
        {
            source.block(0).unwrap();
        }
    }
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}

/// A row per byte is more than a block holds.
#[test]
fn a_block_holds_no_more_rows_than_it_may() {
    let mut rows = Rows::new(0x10000, 0x20000);
    for pc in 0..0x10000u64 {
        rows.push(0x10000 + pc, Rule::plain(1, pc as i32, 0));
    }
    assert_eq!(rows.rows.len(), abi::HF_MAX_ROWS_PER_BLOCK as usize);
    assert_eq!(rows.rows.last().map(|row| u32::from(row.kind)), Some(abi::HF_RULE_BAD));
    assert!(rows.truncated > 0);
}

/// A `.debug_frame` that is compressed by zstd (binutils 2.40 and later, `ld.lld`), as by zlib.
#[test]
fn compressed_sections() {
    let mut image = Image::new(X86);
    // Elf64_Chdr: the method is zstd, 9 bytes, alignment 8.
    image.eh_frame = [&[2, 0, 0, 0, 0, 0, 0, 0, 9], &[0; 7][..], &[8], &[0; 7]].concat();
    // RFC 8878: magic, one segment of 9 bytes, one block that is the last, stored as it is.
    image.eh_frame.extend([0x28, 0xb5, 0x2f, 0xfd, 0x20, 9, 9 << 3 | 1, 0, 0]);
    image.eh_frame.extend(*b"stored it");
    let read = |bytes: Vec<u8>, cap| {
        let file = ElfFile::open(bytes).unwrap();
        let section = file.section(".eh_frame").unwrap().clone();
        assert!(section.is_compressed());
        file.section_bytes(&section, cap)
    };
    let mut bytes = image.bytes();
    bytes[0x4000 + 64 + 9] |= 0x08; // SHF_COMPRESSED
    assert_eq!(read(bytes.clone(), 64).unwrap(), b"stored it");
    assert!(matches!(read(bytes.clone(), 8), Err(Error::TooLarge { .. })));
    bytes[EH_FRAME as usize + 24] ^= 1; // its magic
    assert!(matches!(read(bytes.clone(), 64), Err(Error::Compression { method: 2 })));
    bytes[EH_FRAME as usize] = 3;
    assert!(matches!(read(bytes, 64), Err(Error::Compression { method: 3 })));
}

/// A function keeps its CFA in rbx, as glibc's `_dl_runtime_resolve` does: behind its call the walk
/// finds rbx where the callee saved it, from the callee's CFA, which is the stack pointer there.
#[test]
fn a_cfa_in_a_register_that_the_callee_saves() {
    let mut image = Image::new(X86);
    let cie = image.cie(b"zR", &[0], X86_INITIAL);
    // At 0x1008 call 0x1100, at 0x1010 call 0x1200, at 0x1018 call *%rax.
    image.code(0x1008, &[0xe8, 0xf3, 0, 0, 0]);
    image.code(0x1010, &[0xe8, 0xeb, 1, 0, 0]);
    image.code(0x1018, &[0xff, 0xd0]);
    // CFA = rbx + 56
    image.fde(cie, 0x1000, 0x20, &[0x0c, 3, 56]);
    // Pushes rbp, then rbx: at CFA - 24.
    image.fde(cie, 0x1100, 0x10, &[0x41, 0x0e, 16, 0x86, 2, 0x41, 0x0e, 24, 0x83, 3]);
    // Leaves rbx alone.
    image.fde(cie, 0x1200, 0x10, &[0x41, 0x0e, 16]);
    let block = image.block();
    let row_at = |pc: u16| {
        let row = block.rows.iter().rev().find(|row| row.pc <= pc).unwrap();
        let rule = &block.rules[row.cfa as usize];
        let is_kept = u32::from(rule.cfa_op) == abi::HF_OP_REG;
        // The slot may not be written yet, and leads to no other stack.
        let kind = abi::HF_RULE_SIDE | if is_kept { abi::HF_RULE_NEW_STACK } else { 0 };
        assert_eq!(u32::from(row.kind), kind, "{pc:#x}");
        (u32::from(rule.cfa_op), rule.cfa_reg, rule.cfa_off, rule.cfa_off2, rule.ra_off)
    };
    let own = (abi::HF_OP_REG, 3, 56, 0, -8);
    assert_eq!(row_at(0x100c), (abi::HF_OP_DEREF, 7, -24, 56, -8));
    // Wherever an instruction begins, and behind calls of which nothing is known, it is rbx itself.
    for pc in [0x1000, 0x1008, 0x100d, 0x1010, 0x1014, 0x1019] {
        assert_eq!(row_at(pc), own, "{pc:#x}");
    }
}

/// A trampoline that its entry does not mark as a signal frame is one all the same, from the byte
/// before it on.
#[test]
fn unmarked_signal_trampolines() {
    for code in
        [&[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05][..], &[0xb8, 0x0f, 0, 0, 0, 0x0f, 5]]
    {
        let mut image = Image::new(X86);
        let cie = image.cie(b"zR", &[0], X86_INITIAL);
        image.fde(cie, 0x1000, 0x10, &[]);
        image.code(0x1010, code);
        image.fde(cie, 0x1010, code.len() as u64, &[]);
        assert_eq!(
            image.rows()[..2],
            [(0x1000, abi::HF_RULE_SP, 0, 8), (0x100f, abi::HF_RULE_SIGNAL, 0, 40)]
        );
    }
}

/// A function that leaves the stack it was entered with ends a coroutine's, from the byte before it
/// on; one that moves its own stack, and a part of one that ends by its frame pointer, do not.
#[test]
fn what_leaves_its_stack_ends_it() {
    let rows = |code: &[u8], instructions: &[u8]| {
        let mut image = Image::new(X86);
        let cie = image.cie(b"zR", &[0], X86_INITIAL);
        image.fde(cie, 0x1000, 0x10, &[]);
        image.code(0x1010, code);
        image.fde(cie, 0x1010, 26, instructions);
        image.rows()
    };
    let end = [(0x1000, abi::HF_RULE_SP, 0, 8), (0x100f, abi::HF_RULE_END, 0, 1)];
    // mov %rbx, %rsp; mov (%rsp), %rdi; the same behind endbr64; mov %r12, %rsp
    assert_eq!(rows(&[0x48, 0x89, 0xdc, 0x48, 0x8b, 0x3c, 0x24], &[])[..2], end);
    assert_eq!(rows(&[0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x89, 0xdc], &[])[..2], end);
    assert_eq!(rows(&[0x4c, 0x89, 0xe4], &[])[..2], end);
    // mov %rbp, %rsp; mov %rsp, %rbx; and rows that know of a frame
    let none = (0x102a, abi::HF_RULE_NONE, 0, 0);
    assert_eq!(rows(&[0x48, 0x89, 0xec], &[])[1], none);
    assert_eq!(rows(&[0x48, 0x89, 0xe3], &[])[1], none);
    assert_eq!(rows(&[0x48, 0x89, 0xdc], &[0x0e, 16])[1].2, 0);
    assert_ne!(rows(&[0x48, 0x89, 0xdc], &[0x0e, 16])[1].1, abi::HF_RULE_END);
}

/// What its rows say of the caller is not believed in a function whose stack is its own; its
/// neighbours' is.
#[test]
fn what_begins_a_stack_of_its_own_ends_it() {
    let mut image = Image::new(X86);
    let cie = image.cie(b"zR", &[0], X86_INITIAL);
    image.fde(cie, 0x1000, 0x20, &[0x44, 0x0e, 16]);
    image.fde(cie, 0x1020, 0x20, &[0x44, 0x0e, 24]);
    let mut source = RowSource::new(ElfFile::open(image.bytes()).unwrap()).unwrap();
    source.begins_own_stack = Some(0x1000);
    let block = source.block(0).unwrap();
    let rows: Vec<_> =
        block.rows.iter().map(|row| (row.pc, u32::from(row.kind), row.cfa)).collect();
    assert_eq!(
        rows[1..4],
        [
            (0x1000, abi::HF_RULE_END, 0),
            (0x1020, abi::HF_RULE_SP, 8),
            (0x1024, abi::HF_RULE_SP, 24),
        ]
    );
}

/// Boost.Context's make_fcontext: where a fiber's function was made to return to, its stack ends; the
/// function itself returns as any does.
#[test]
fn a_fiber_ends_where_it_would_return_to() {
    let mut image = Image::new(X86);
    let cie = image.cie(b"zR", &[0], X86_INITIAL);
    image.fde(cie, 0x1000, 0x10, &[]);
    // mov %rdi, %rax; ret; push %rbp; jmp *%rbx; xor %rdi, %rdi; call; hlt
    image.code(0x1100, &[0x48, 0x89, 0xf8, 0xc3, 0x55, 0xff, 0xe3]);
    image.code(0x1107, &[0x48, 0x31, 0xff, 0xe8, 0, 0, 0, 0, 0xf4]);
    image.functions = vec![(0x1100, 0x10)];
    let rule = |image: &Image, pc: u64| {
        let rows = image.rows();
        rows.into_iter().rev().find(|row| row.0 <= pc).map(|(_, kind, _, cfa)| (kind, cfa))
    };
    const SYNTHESISED: u32 = abi::HF_RULE_SP | abi::HF_RULE_HEURISTIC;
    assert_eq!(rule(&image, 0x1103), Some((SYNTHESISED, 8)));
    // A return address is looked up a byte before.
    assert_eq!(rule(&image, 0x1106), Some((abi::HF_RULE_END, 0)));
    assert_eq!(rule(&image, 0x110f), Some((abi::HF_RULE_END, 0)));
    assert_ne!(rule(&image, 0x1110), Some((abi::HF_RULE_END, 0)));
    // Without its symbol, as in a stripped program; and a jump behind which other code goes on.
    image.functions.clear();
    assert_eq!(rule(&image, 0x1106), Some((abi::HF_RULE_END, 0)));
    image.code(0x1107, &[0x48, 0x31, 0xff, 0xc3]);
    assert_ne!(rule(&image, 0x1106), Some((abi::HF_RULE_END, 0)));
}

/// Behind a call that does not return, and padding, the next function begins: no return or jump stands before it.
#[test]
fn a_function_behind_a_call_that_does_not_return() {
    let mut image = Image::new(X86);
    let cie = image.cie(b"zR", &[0], X86_INITIAL);
    image.fde(cie, 0x1000, 0x10, &[]);
    // push %rbx; test %eax, %eax; je 1f; pop %rbx; ret; 1: call nowhere; nop; nop; nop; nop
    image.code(0x1010, &[0x53, 0x85, 0xc0, 0x74, 0x02, 0x5b, 0xc3, 0xe8, 0, 0x10, 0, 0]);
    image.code(0x101c, &[0x90; 4]);
    // push %rbp; push %rbx; sub $0x100, %rsp; add $0x100, %rsp; pop %rbx; pop %rbp; ret
    image.code(0x1020, &[0x55, 0x53, 0x48, 0x81, 0xec, 0, 1, 0, 0, 0x48, 0x81, 0xc4, 0, 1, 0, 0]);
    image.code(0x1030, &[0x5b, 0x5d, 0xc3]);
    image.text_section = Some((0x1000, 0x100));
    let rows = image.rows();
    let cfa = |pc: u64| {
        let row = rows.iter().rev().find(|row| row.0 <= pc);
        row.map(|&(_, kind, _, cfa)| (kind, cfa))
    };
    const SYNTHESISED: u32 = abi::HF_RULE_SP | abi::HF_RULE_HEURISTIC;
    for (pc, off) in [(0x1017, 16), (0x1020, 8), (0x1022, 24), (0x1029, 0x118), (0x1031, 16)] {
        assert_eq!(cfa(pc), Some((SYNTHESISED, off)), "{pc:#x}");
    }
}

/// musl's clone: the child's way has no caller, also in a stripped program; the parent's has.
#[test]
fn a_thread_begins_where_the_frame_pointer_is_cleared() {
    // xor %eax, %eax; mov $56, %al; …; syscall; test %eax, %eax; jne 1f; xor %ebp, %ebp; pop %rdi;
    // call *%r9; mov %eax, %edi; xor %eax, %eax; mov $60, %al; syscall; hlt; 1: ret
    let clone = [
        0x31, 0xc0, 0xb0, 0x38, 0x49, 0x89, 0xfb, 0x48, 0x89, 0xd7, 0x0f, 0x05, 0x85, 0xc0, 0x75,
        0x0f, 0x31, 0xed, 0x5f, 0x41, 0xff, 0xd1, 0x89, 0xc7, 0x31, 0xc0, 0xb0, 0x3c, 0x0f, 0x05,
        0xf4, 0xc3,
    ];
    let mut image = Image::new(X86);
    let cie = image.cie(b"zR", &[0], X86_INITIAL);
    image.fde(cie, 0x1000, 0x10, &[]);
    image.code(0x1101, &clone);
    image.functions = vec![(0x1101, 0x20)];
    let rule = |image: &Image, pc: u64| {
        let rows = image.rows();
        rows.into_iter().rev().find(|row| row.0 <= pc).map(|(_, kind, _, cfa)| (kind, cfa))
    };
    const END: Option<(u32, i32)> = Some((abi::HF_RULE_END, 0));
    for pc in [0x1101, 0x110b, 0x110f, 0x1120] {
        assert_ne!(rule(&image, pc), END, "{pc:#x}");
    }
    for pc in [0x1111, 0x1113, 0x1116, 0x111f] {
        assert_eq!(rule(&image, pc), END, "{pc:#x}");
    }
    image.functions.clear();
    assert_eq!(rule(&image, 0x1116), END);
    // What keeps its caller's frame pointer, what does not come from a system call, what goes on.
    for (at, byte) in [(16, 0x90), (10, 0x90), (30, 0xc3)] {
        let mut other = clone;
        other[at] = byte;
        image.code(0x1101, &other);
        assert_ne!(rule(&image, 0x1116), END, "{at}");
    }
}
