//! Where things are in CPython's structures, by version.
//!
//! In: a version, or the offsets that a file states of itself (`_Py_DebugOffsets`, from 3.13 on).
//! Out: [`Offsets`]. What can be checked against the process is (`process.rs`): the members of code
//! objects are listed by `PyCode_Type` itself.
//!
//! Every number is that of x86-64 and arm64 alike (LP64), release builds, and was computed by the
//! compiler (`offsetof`) from the headers of the tag given beside it.

/// Which Python frames belong to one run of the evaluation loop; twin of `HF_CPYTHON_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// One each.
    One,
    /// All up to the one whose mark says that it entered.
    Entry,
    /// All up to the loop's own, which is none.
    Shim,
}

/// How a frame says where it is in its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// An int: bytes.
    Bytes,
    /// An int: code units of two bytes.
    Units,
    /// A pointer into the code object.
    Pointer,
}

/// How a code object's lines are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// `co_lnotab`, up to 3.9.
    Lnotab,
    /// `co_linetable` of 3.10.
    Ranges,
    /// The location table, from 3.11 on.
    Locations,
}

/// How the frame of a generator is known that waits while an exception is thrown into another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// There are none, or they are no run's last in any case.
    Never,
    /// In a frame: `f_gen`, `f_stackdepth`, `f_state`; in a code object: `co_code`.
    Depth { generator: u16, depth: u16, state: u16, code: u16 },
    /// In a frame: `owner`; in `_PyCFrame`: `previous`, `current_frame`.
    Cframe { owner: u16, previous: u16, frame: u16 },
}

/// Offsets, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offsets {
    /// `_PyRuntimeState.interpreters.head`; 3.6 has a variable of its own.
    pub runtime_interpreters: u64,
    /// `_PyRuntimeState.gilstate.tstate_current`, up to 3.11: which interpreter a thread runs is not
    /// told by its key. 3.6 has a variable of its own.
    pub runtime_holder: Option<u64>,
    /// In a thread state: a pointer into the native frame of the loop that runs it (`cframe`); 3.10
    /// to 3.12.
    pub thread_stack: Option<u16>,
    /// `PyInterpreterState`: next, first thread.
    pub interpreter_next: u64,
    pub interpreter_threads: u64,
    /// `PyThreadState`.
    pub thread_next: u64,
    pub thread_interpreter: u64,
    pub thread_id: u64,
    /// From the thread state to its innermost frame: one or two reads.
    pub thread_frame: Vec<i32>,

    /// A frame: how much of it is read, and what is where.
    pub frame_bytes: u16,
    pub frame_code: u16,
    pub frame_previous: u16,
    pub frame_position: u16,
    pub position: Position,
    pub activation: Activation,
    /// The byte that ends an activation, and its value.
    pub frame_mark: u16,
    pub mark: u8,
    /// Value of a frame that is no Python frame and ends nothing; 0: there is none such.
    pub skip_mark: u8,

    /// A frame that no run of the loop is of; 3.10 and 3.11.
    pub waiting: Waiting,

    /// `PyCodeObject`. `code_bytecode` is where the bytecode begins in it, from 3.11 on.
    pub code_bytecode: u16,
    /// `co_tlbc`, and `tlbc_index` of a frame: threads' own copies of the bytecode (3.14 without the
    /// lock); zeros: there are none.
    pub code_copies: u16,
    pub frame_copy: u16,
    pub code_argcount: u64,
    pub code_flags: u64,
    pub code_firstlineno: u64,
    pub code_names: u64,
    pub code_filename: u64,
    pub code_name: u64,
    /// None before 3.11.
    pub code_qualname: Option<u64>,
    pub code_table: u64,
    pub table: Table,

    /// `sizeof(PyASCIIObject)`, `sizeof(PyCompactUnicodeObject)`: where characters follow.
    pub ascii_bytes: u64,
    pub compact_bytes: u64,
    pub unicode_length: u64,
    pub unicode_state: u64,
    /// Bit of `kind` in the state.
    pub unicode_kind_shift: u32,
    /// `PyBytesObject`: `ob_size`, `ob_sval`.
    pub bytes_size: u64,
    pub bytes_data: u64,
    /// `PyObject.ob_type`.
    pub object_type: u64,
}

/// The newest minor version whose layout is known.
pub(crate) const NEWEST_MINOR: u8 = 15;
/// The first that is.
pub(crate) const OLDEST_MINOR: u8 = 6;

/// Offsets of 3.`minor`, up to 3.12: later files state theirs.
pub(crate) fn known(minor: u8) -> Option<Offsets> {
    if !(OLDEST_MINOR..=12).contains(&minor) {
        return None;
    }
    // 3.7 @ v3.7.16 is what the others differ from.
    let mut offsets = Offsets {
        runtime_interpreters: 24,
        runtime_holder: Some(1480),
        thread_stack: None,
        interpreter_next: 0,
        interpreter_threads: 8,
        thread_next: 8,
        thread_interpreter: 16,
        thread_id: 176,
        thread_frame: vec![24],
        frame_bytes: 112,
        frame_code: 32,
        frame_previous: 24,
        frame_position: 104,
        position: Position::Bytes,
        activation: Activation::One,
        frame_mark: 0,
        mark: 0,
        skip_mark: 0,
        waiting: Waiting::Never,
        code_bytecode: 0,
        code_copies: 0,
        frame_copy: 0,
        code_argcount: 16,
        code_flags: 32,
        code_firstlineno: 36,
        code_names: 56,
        code_filename: 96,
        code_name: 104,
        code_qualname: None,
        code_table: 112,
        table: Table::Lnotab,
        ascii_bytes: 48,
        compact_bytes: 72,
        unicode_length: 16,
        unicode_state: 32,
        unicode_kind_shift: 2,
        bytes_size: 16,
        bytes_data: 32,
        object_type: 8,
    };
    if minor == 6 {
        // v3.6.15
        offsets.runtime_holder = None;
        offsets.thread_id = 152;
        offsets.frame_position = 120;
        offsets.frame_bytes = 128;
    }
    if minor >= 8 {
        // v3.8.18: co_posonlyargcount, and interpreters behind a mutex.
        offsets.runtime_interpreters = 32;
        offsets.runtime_holder = Some(1368);
        offsets.code_flags = 36;
        offsets.code_firstlineno = 40;
        offsets.code_names = 64;
        offsets.code_filename = 104;
        offsets.code_name = 112;
        offsets.code_table = 120;
    }
    if minor >= 9 {
        // v3.9.18, v3.10.13
        offsets.runtime_holder = Some(568);
    }
    if minor == 10 {
        // v3.10.13
        offsets.thread_stack = Some(48);
        offsets.frame_position = 96;
        offsets.position = Position::Units;
        offsets.waiting = Waiting::Depth { generator: 88, depth: 80, state: 108, code: 48 };
        offsets.table = Table::Ranges;
    }
    if minor >= 11 {
        // v3.11.7: frames of their own, beside frame objects.
        offsets.runtime_interpreters = 40;
        offsets.runtime_holder = Some(576);
        offsets.thread_stack = Some(56);
        offsets.interpreter_threads = 16;
        offsets.thread_id = 152;
        offsets.thread_frame = vec![56, 8];
        offsets.frame_bytes = 80;
        offsets.frame_previous = 48;
        offsets.frame_position = 56;
        offsets.position = Position::Pointer;
        offsets.activation = Activation::Entry;
        offsets.frame_mark = 68;
        offsets.mark = 1;
        offsets.waiting = Waiting::Cframe { owner: 69, previous: 16, frame: 8 };
        offsets.code_bytecode = 184;
        offsets.code_argcount = 56;
        offsets.code_flags = 48;
        offsets.code_firstlineno = 72;
        offsets.code_names = 32;
        offsets.code_filename = 112;
        offsets.code_name = 120;
        offsets.code_qualname = Some(128);
        offsets.code_table = 136;
        offsets.table = Table::Locations;
    }
    if minor == 12 {
        // v3.12.1: each interpreter has its lock, and the key leads to the one that runs; the loop's
        // own frame ends an activation (FRAME_OWNED_BY_CSTACK).
        offsets.runtime_holder = None;
        offsets.interpreter_threads = 72;
        offsets.thread_id = 136;
        offsets.thread_frame = vec![56, 0];
        offsets.frame_code = 0;
        offsets.frame_previous = 8;
        offsets.activation = Activation::Shim;
        offsets.waiting = Waiting::Never;
        offsets.frame_mark = 70;
        offsets.mark = 3;
        offsets.code_bytecode = 192;
        offsets.code_argcount = 52;
        offsets.code_firstlineno = 68;
        offsets.ascii_bytes = 40;
        offsets.compact_bytes = 56;
    }
    Some(offsets)
}

/// What `_Py_DebugOffsets` begins with.
pub(crate) const DEBUG_COOKIE: &[u8; 8] = b"xdebugpy";
/// Bytes of it that are read: 3.14 has some 700.
pub(crate) const DEBUG_OFFSETS_BYTES: usize = 1024;
/// No offset in a structure that is used here is beyond this: interpreters take 200 KB.
const OFFSET_MAX: u64 = 1 << 20;

/// A version number as CPython writes it: 0x030d00f0 is 3.13.0 final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    pub major: u8,
    pub minor: u8,
    /// Unknown before 3.11.
    pub micro: Option<u8>,
}

impl Version {
    pub(crate) fn of_hex(hex: u64) -> Version {
        Version {
            major: (hex >> 24) as u8,
            minor: (hex >> 16) as u8,
            micro: Some((hex >> 8) as u8),
        }
    }
}

/// Reads the offsets that a file from 3.13 on states of itself.
pub(crate) fn stated(bytes: &[u8]) -> Option<(Version, Offsets)> {
    let word = |at: usize| {
        let bytes = bytes.get(at * 8..at * 8 + 8)?.try_into().ok()?;
        Some(u64::from_le_bytes(bytes))
    };
    if bytes.get(..8)? != DEBUG_COOKIE {
        return None;
    }
    let version = Version::of_hex(word(1)?);
    if version.major != 3 || version.minor < 13 {
        return None;
    }
    let (is_14, is_15) = (version.minor >= 14, version.minor >= 15);
    let is_free_threaded = word(2)? != 0;
    // Structures follow one another; each begins with its size. What later versions inserted
    // is counted in.
    let runtime = 3;
    let interpreter = runtime + 3;
    let thread = interpreter + if is_14 { 16 } else { 13 };
    // From 3.15 on an exception's stack item follows, of one word without a size.
    let frame = thread + if is_15 { 17 } else { 9 };
    let code = frame + if is_14 { 8 } else { 6 };
    let object = code + if is_14 { 11 } else { 10 };
    let types = object + 2;
    let tuple = types + if is_15 { 8 } else { 4 };
    let list = tuple + 3;
    let set = list + 3;
    let dict = set + if is_14 { 4 } else { 0 };
    let float = dict + 3;
    let long = float + 2;
    let bytes_object = long + 3;
    let unicode = bytes_object + 3;
    let of = |at: usize| word(at).filter(|&offset| offset < OFFSET_MAX);
    let small = |at: usize| word(at).filter(|&offset| offset < 4096).map(|offset| offset as u16);
    // next, threads_head: behind them 3.14 has threads_main.
    let ascii_bytes = of(unicode + 3)?;
    let offsets = Offsets {
        runtime_interpreters: of(runtime + 2)?,
        runtime_holder: None,
        thread_stack: None,
        interpreter_next: of(interpreter + 2)?,
        interpreter_threads: of(interpreter + 3)?,
        thread_next: of(thread + 2)?,
        thread_interpreter: of(thread + 3)?,
        thread_frame: vec![of(thread + 4)? as i32],
        thread_id: of(thread + if is_15 { 8 } else { 5 })?,
        frame_bytes: small(frame)?,
        frame_previous: small(frame + 1)?,
        frame_code: small(frame + 2)?,
        frame_position: small(frame + 3)?,
        frame_mark: small(frame + 5)?,
        position: Position::Pointer,
        activation: Activation::Shim,
        mark: 3,
        // FRAME_OWNED_BY_CSTACK, which in 3.14 is not the loop's; 3.15 has none.
        skip_mark: if version.minor == 14 { 4 } else { 0 },
        waiting: Waiting::Never,
        code_filename: of(code + 1)?,
        code_name: of(code + 2)?,
        code_qualname: Some(of(code + 3)?),
        code_table: of(code + 4)?,
        code_firstlineno: of(code + 5)?,
        code_argcount: of(code + 6)?,
        code_bytecode: small(code + 9)?,
        code_copies: if is_14 && is_free_threaded { small(code + 10)? } else { 0 },
        frame_copy: if is_14 && is_free_threaded { small(frame + 7)? } else { 0 },
        // Before the first of the counts, behind exceptiontable (Include/cpython/code.h).
        code_flags: of(code + 6)?.checked_sub(4)?,
        code_names: of(object + 1)?.checked_add(24)?,
        table: Table::Locations,
        ascii_bytes,
        // utf8_length and utf8 follow.
        compact_bytes: ascii_bytes + 16,
        unicode_state: of(unicode + 1)?,
        unicode_length: of(unicode + 2)?,
        // `interned` has two bits, and from 3.14 on without the lock a byte.
        unicode_kind_shift: if is_14 && is_free_threaded { 8 } else { 2 },
        bytes_size: of(bytes_object + 1)?,
        bytes_data: of(bytes_object + 2)?,
        object_type: of(object + 1)?,
    };
    Some((version, offsets))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every version up to 3.12 is known, and what is read of a frame holds what is used of it.
    #[test]
    fn what_is_used_of_a_frame_is_read() {
        for minor in OLDEST_MINOR..=12 {
            let offsets = known(minor).expect("known");
            for at in
                [offsets.frame_code + 8, offsets.frame_previous + 8, offsets.frame_position + 4]
            {
                assert!(at <= offsets.frame_bytes, "3.{minor}: {at}");
            }
            assert!(offsets.frame_mark < offsets.frame_bytes);
        }
        assert_eq!(known(5), None);
        assert_eq!(known(13), None);
    }

    /// What 3.14.6 states of itself (python-build-standalone, x86-64), as far as it is used.
    #[test]
    fn offsets_of_3_14() {
        let words = [
            0, 316_616, 784, 808, 225_864, 7280, 7272, 7344, 7360, 7408, 7688, 7672, 7680, 16,
            7784, 0, 7800, 7792, 7992, 0, 832, 0, 8, 16, 72, 152, 160, 232, 32, 88, 8, 0, 56, 80,
            74, 64, 0, 216, 112, 120, 128, 136, 68, 52, 96, 104, 208, 0, 16, 8, 416, 24, 88, 168,
            40, 32, 16, 40, 24, 16, 200, 24, 40, 32, 48, 32, 40, 24, 16, 32, 16, 24, 40, 16, 32,
            64, 32, 16, 40, 264, 192,
        ];
        let mut bytes = DEBUG_COOKIE.to_vec();
        bytes.extend(0x030e_06f0_u64.to_le_bytes());
        words.iter().for_each(|word: &u64| bytes.extend(word.to_le_bytes()));
        let (version, offsets) = stated(&bytes).expect("known");
        assert_eq!(version, Version { major: 3, minor: 14, micro: Some(6) });
        let frame = [offsets.frame_code, offsets.frame_previous, offsets.frame_position];
        assert_eq!((frame, offsets.frame_mark, offsets.mark), ([0, 8, 56], 74, 3));
        assert_eq!((offsets.thread_frame.as_slice(), offsets.thread_id), (&[72][..], 152));
        assert_eq!((offsets.interpreter_next, offsets.interpreter_threads), (7272, 7344));
        let code = [offsets.code_filename, offsets.code_name, offsets.code_table];
        assert_eq!((code, offsets.code_bytecode), ([112, 120, 136], 208));
        assert_eq!((offsets.unicode_state, offsets.unicode_kind_shift), (32, 2));
        assert_eq!((offsets.ascii_bytes, offsets.compact_bytes), (40, 56));
        assert_eq!((offsets.bytes_size, offsets.bytes_data), (16, 32));
        bytes[16] = 1;
        assert_eq!(stated(&bytes).expect("known").1.unicode_kind_shift, 8);
    }

    /// What a file states is bounded before it is believed.
    #[test]
    fn absurd_offsets_are_refused() {
        let mut bytes = vec![0xff; DEBUG_OFFSETS_BYTES];
        bytes[..8].copy_from_slice(DEBUG_COOKIE);
        bytes[8..16].copy_from_slice(&0x030d_00f0_u64.to_le_bytes());
        assert_eq!(stated(&bytes), None);
        assert_eq!(stated(&bytes[..40]), None);
    }
}
