//! How the kernel half follows code (`bpf/instructions.h`), compiled natively, beside another decoder: of
//! real code: this program's and the C library's, with its arithmetic on the x87.
#![cfg(target_arch = "x86_64")]
#![forbid(unsafe_code)]

use iced_x86::{
    Code, Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register,
};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// `enum hf_hotspot_instruction_kind`.
const JUMP: u32 = 3;
const CALL: u32 = 4;
const UNKNOWN: u32 = 5;

/// Longest instruction of the architecture, and one byte.
type Bytes = [u8; 16];

/// What the kernel half says: length, kind, by how many bytes it moves the stack pointer up, and how far above
/// it lies what it takes r13 from (-1: it does not).
fn followed(all: &[Bytes]) -> Vec<(usize, u32, i32, i32)> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("instructions");
    let built = Command::new("cc")
        .args(["-O1", "-w", "-I../../kernel/include", "-I.."])
        .args(["-o".as_ref(), program.as_os_str(), "tests/instructions.c".as_ref()])
        .current_dir(here)
        .status()
        .unwrap();
    assert!(built.success());
    let mut child =
        Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let code = all.concat();
    let writer = std::thread::spawn(move || stdin.write_all(&code).unwrap());
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).unwrap();
    let said = |line: &str| {
        let mut numbers = line.split(' ').map(|number| number.parse::<i64>().unwrap());
        let mut next = || numbers.next().unwrap();
        (next() as usize, next() as u32, next() as i32, next() as i32)
    };
    let said: Vec<_> = text.lines().map(said).collect();
    assert_eq!(said.len(), all.len());
    said
}

/// By how much an instruction moves the stack pointer up; `None`: that is not said by it alone.
fn moves(instruction: &Instruction) -> Option<i32> {
    let op0_is_sp =
        instruction.op0_kind() == OpKind::Register && instruction.op0_register() == Register::RSP;
    let imm = || match instruction.op1_kind() {
        OpKind::Immediate8to64 | OpKind::Immediate32to64 => Some(instruction.immediate(1) as i32),
        _ => None,
    };
    match instruction.mnemonic() {
        Mnemonic::Add if op0_is_sp => imm(),
        Mnemonic::Sub if op0_is_sp => imm().map(|by| -by),
        Mnemonic::Call => Some(0),
        // Into the stack pointer itself; of 16 bits.
        Mnemonic::Pop if op0_is_sp => None,
        Mnemonic::Push | Mnemonic::Pop | Mnemonic::Pushfq | Mnemonic::Popfq => {
            let by = instruction.stack_pointer_increment();
            (by.abs() == 8).then_some(by)
        }
        _ => {
            let mut factory = InstructionInfoFactory::new();
            let writes = factory.info(instruction).used_registers().iter().any(|used| {
                used.register().full_register() == Register::RSP
                    && !matches!(
                        used.access(),
                        OpAccess::Read | OpAccess::CondRead | OpAccess::None
                    )
            });
            (!writes).then_some(0)
        }
    }
}

/// From where on the stack r13 is taken, by `pop` or by a move with a displacement of a byte.
fn takes_r13(instruction: &Instruction) -> i32 {
    if instruction.op_count() == 0 || instruction.op0_register() != Register::R13 {
        return -1;
    }
    let is_stack = instruction.memory_base() == Register::RSP
        && instruction.memory_index() == Register::None
        && instruction.memory_displ_size() == 1;
    match instruction.code() {
        Code::Pop_r64 => 0,
        Code::Mov_r64_rm64 if is_stack => instruction.memory_displacement64() as i32,
        _ => -1,
    }
}

/// Compares, and returns how many are followed.
fn compare(all: &[Bytes]) -> usize {
    let mut n_followed = 0;
    for (bytes, (len, kind, up, r13_at)) in all.iter().zip(followed(all)) {
        if len == 0 || kind >= UNKNOWN {
            continue;
        }
        let instruction = Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE).decode();
        // Data between functions; and alloca, which generated code has not.
        if matches!(instruction.code(), Code::INVALID | Code::Sub_rm64_r64) {
            continue;
        }
        n_followed += 1;
        let what = format!("{:02x?} {:?}", &bytes[..instruction.len()], instruction.code());
        assert_eq!(len, instruction.len(), "{what}");
        assert_eq!(r13_at, takes_r13(&instruction), "{what}");
        match kind {
            JUMP => {
                let by = instruction.near_branch_target().wrapping_sub(len as u64);
                assert_eq!((up, instruction.mnemonic()), (by as i32, Mnemonic::Jmp), "{what}");
            }
            CALL => assert_eq!(instruction.mnemonic(), Mnemonic::Call, "{what}"),
            _ => assert_eq!(Some(up), moves(&instruction), "{what}"),
        }
    }
    n_followed
}

/// Instructions of a file's code, one after the other.
fn code_of(path: &Path, max: usize) -> Vec<Bytes> {
    let bytes = std::fs::read(path).unwrap();
    let file = hotframe_objects::ElfFile::open(&bytes[..]).unwrap();
    let text = file.section(".text").unwrap();
    let text = &bytes[text.offset as usize..][..text.size as usize];
    let mut decoder = Decoder::new(64, text, DecoderOptions::NONE);
    let mut all = Vec::new();
    while decoder.can_decode() && all.len() < max {
        let at = decoder.position();
        let _ = decoder.decode();
        let mut bytes = Bytes::default();
        let rest = &text[at..text.len().min(at + 16)];
        bytes[..rest.len()].copy_from_slice(rest);
        all.push(bytes);
    }
    all
}

/// Real code is followed nearly all of it, each instruction to its end, and the stack pointer with it.
#[test]
fn real_code() {
    let own = std::env::current_exe().unwrap();
    let library = |name: &str| Path::new("/lib/x86_64-linux-gnu").join(name);
    let libraries =
        ["libm.so.6", "libc.so.6"].map(library).into_iter().filter(|path| path.exists());
    for path in libraries.chain([own]) {
        let all = code_of(&path, 200_000);
        let n = compare(&all);
        println!("{}: {n} of {}", path.display(), all.len());
        assert!(n * 100 >= all.len() * 85, "{}: {n} of {}", path.display(), all.len());
    }
}
