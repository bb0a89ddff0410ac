//! Offsets: what of HotSpot's structures is read, and under which name each version publishes it.
//!
//! In: [`VmStructs`]. Out: [`Offsets`], checked for sense, believed of that process alone:
//! [`crate::recognise`] keeps equal ones once.
//!
//! # How it works
//! Every offset comes from libjvm itself. Versions differ in where a fact stands, so that each is
//! asked for by all of its names; what decides is which of them is there, never a version number.
//! The exception is UNSIGNED5, whose encoding changed at 20 and is published nowhere.
//!
//! # Versions
//! | change | at |
//! |---|---|
//! | one code heap → an array of them; absolute addresses in `CodeBlob` | 9 |
//! | a further slot in interpreter frames; `CompiledMethod` | 9 |
//! | `Symbol::_length` 16 → upper half of 32 bits → 16 beside a hash | 12, 16 |
//! | source file: `InstanceKlass` → `ConstantPool` | 15 |
//! | `GenericGrowableArray` → `GrowableArrayBase` | 16 |
//! | UNSIGNED5 without zero bytes | 20 |
//! | `ConstMethod::_flags` wrapped | 21 |
//! | `CompiledMethod` gone; offsets instead of addresses; debug information out of the code cache | 23 |
//! | metadata out of the code cache | 25 |
//! | `_deopt_handler_entry_offset`; a trailer behind the immutable data | 26 |
//!
//! 8, 11, 17, 21, 25, 26 and 27 were tried, and 28 before its release; the others follow vmStructs.cpp of
//! their tags (jdk8u @ 158bc0efd253, jdk-11+28, jdk-14+36, jdk-17+35, jdk-21+35, jdk-23+37, jdk-25+36). A
//! version above [`NEWEST`] is taken for the newest and marked as guessed.

use crate::continuations::Continuations;
use crate::flags::Flags;
use crate::structs::VmStructs;
use hotframe_runtime::{Memory, Unusable};

/// The newest version whose layout is known.
pub const NEWEST: u32 = 27;
/// No offset in an object is as great.
const OFFSET_MAX: u64 = 4096;

/// `java.lang.Object` among the classes that the VM knows, from 16 on and before.
const OBJECT_CLASS: [&str; 2] = [
    "vmClasses._klasses[static_cast<int>(vmClassID::Object_klass_knum)]",
    "SystemDictionary._well_known_klasses[SystemDictionary::Object_klass_knum]",
];

/// Where a code blob's code begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeBegin {
    /// An address at this offset.
    Address(u16),
    /// A 32-bit offset from the blob at this one.
    Offset(u16),
}

/// Where a method's verified entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// An address at this offset.
    Address(u16),
    /// A 16-bit offset from the begin of the code.
    CodeOffset(u16),
}

/// Where debug information is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DebugInfo {
    /// In the blob: `scopes_data` an address or an offset, the others offsets from the blob.
    InBlob {
        /// Metadata, 32-bit offset.
        metadata: u16,
        /// Scope data.
        scopes_data: CodeBegin,
        /// PcDescs, 32-bit offset.
        scopes_pcs: u16,
        /// Behind the PcDescs, 32-bit offset.
        dependencies: u16,
    },
    /// In memory of its own: address, length, 32-bit offsets in it.
    Immutable {
        /// `_immutable_data`.
        data: u16,
        /// `_immutable_data_size`.
        len: u16,
        /// `_scopes_pcs_offset`.
        scopes_pcs: u16,
        /// `_scopes_data_offset`.
        scopes_data: u16,
        /// Metadata.
        metadata: Metadata,
    },
}

/// Where the methods are that debug information names by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metadata {
    /// `_data_offset` and a 16-bit offset from there.
    InData {
        /// `CodeBlob::_data_offset`.
        data: u16,
        /// `nmethod::_metadata_offset`.
        metadata: u16,
    },
    /// Behind the relocations in the mutable data.
    Mutable {
        /// `CodeBlob::_mutable_data`.
        data: u16,
        /// `CodeBlob::_mutable_data_size`.
        len: u16,
        /// `CodeBlob::_relocation_size`.
        relocation: u16,
    },
}

/// Where a symbol's length is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SymbolLength {
    /// 16 bits.
    U16(u16),
    /// The upper half of 32 bits.
    Upper(u16),
}

/// Where a source file's name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceFile {
    /// An index in `ConstantPool`.
    Pool(u16),
    /// An index in `InstanceKlass`.
    Klass(u16),
    /// Not published.
    Unknown,
}

/// A variable that is not 0 once classes were redefined, or may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redefined {
    /// Relative to the bias.
    pub address: u64,
    /// 8: it counts; else 1.
    pub len_bytes: u64,
}

/// A libjvm's layout. Addresses of statics are relative to its bias.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // each is named for the field that it is the offset of
pub struct Offsets {
    pub major: u32,
    /// As the VM says it (`17.0.15+6-Debian-1deb12u1`).
    pub release: String,
    /// UNSIGNED5 without zero bytes.
    pub excludes_zero: bool,

    pub heaps: Heaps,
    pub heap_memory: u64,
    pub heap_segmap: u64,
    pub heap_shift: u64,
    pub space_low: u64,
    pub space_high: u64,
    pub space_low_boundary: u64,
    pub space_high_boundary: u64,

    pub block_bytes: u16,
    pub block_length: u16,
    pub block_used: u16,
    pub blob_name: u16,
    pub blob_size: u16,
    pub blob_frame_size: u16,
    pub blob_frame_complete: u16,
    /// It is 16 bits wide.
    pub frame_complete_is_short: bool,
    pub blob_bytes: u16,
    pub code_begin: CodeBegin,
    pub nmethod_compile_id: u16,
    pub nmethod_entry: Entry,
    /// Of the same kind as `code_begin`.
    pub nmethod_deopt: u16,
    pub nmethod_deopt_mh: Option<u16>,
    pub nmethod_orig_pc: u16,
    pub nmethod_method: u16,
    pub nmethod_state: u16,
    pub debug_info: DebugInfo,
    pub pc_desc_bytes: u64,
    pub pc_desc_pc: u64,
    pub pc_desc_scope: u64,

    pub interpreter: u64,
    pub queue_buffer: u64,
    pub queue_begin: u64,
    pub queue_end: u64,
    pub codelet_size: u64,
    pub codelet_description: u64,
    /// Words from the frame pointer down to the bytecode pointer.
    pub bcp_words: u16,

    pub method_const: u16,
    pub const_bytes: u16,
    pub const_constants: u16,
    pub const_flags: u16,
    pub const_code_size: u16,
    pub const_name: u16,
    pub const_signature: Option<u16>,
    pub pool_bytes: u16,
    pub pool_holder: u16,
    pub source_file: SourceFile,
    pub klass_name: u16,
    pub symbol_length: SymbolLength,
    pub symbol_body: u16,

    pub call_stub_return: Option<u64>,
    pub perf_start: Option<u64>,
    pub redefined: Option<Redefined>,
    pub continuations: Option<Continuations>,
    pub flags: Option<Flags>,
    /// The archive of classes; from 17 on it is published.
    pub archive_base: Option<u64>,
    pub archive_top: Option<u64>,
    /// Entries of stubs by name.
    pub stubs: Vec<(String, u64)>,

    /// Where the class `java.lang.Object` is, and its methods: by them it is tried whether names can
    /// be read (see [`crate::resolve`]).
    pub object_class: Option<u64>,
    pub class_methods: Option<ClassMethods>,
}

/// Where a class's methods are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassMethods {
    /// `InstanceKlass::_methods`.
    pub methods: u16,
    /// `Array<int>::_length`.
    pub len: u16,
    /// `Array<Method*>::_data`.
    pub data: u16,
}

/// Where the code heaps are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heaps {
    /// A pointer to the only one.
    One(u64),
    /// A pointer to a growable array of pointers.
    Array {
        /// The static.
        pointer: u64,
        /// Of its length.
        len: u64,
        /// Of the pointer to its first element.
        data: u64,
    },
}

/// What libjvm's tables say, as [`Offsets`] takes it.
struct Fields<'a> {
    structs: &'a VmStructs,
    bias: u64,
}

impl Fields<'_> {
    /// Offset of a field that every version has, under one of these names.
    fn small(&self, names: &[&str]) -> Result<u16, Unusable> {
        let offset = self
            .structs
            .offset(names)
            .ok_or_else(|| Unusable::Unknown(format!("no {}", names.join(", no "))))?;
        match u16::try_from(offset) {
            Ok(small) if offset < OFFSET_MAX => Ok(small),
            _ => Err(Unusable::Unknown(format!("{} at {offset}", names.join(", ")))),
        }
    }

    fn wide(&self, names: &[&str]) -> Result<u64, Unusable> {
        self.small(names).map(u64::from)
    }

    /// Of one that not every version has.
    fn maybe(&self, names: &[&str]) -> Option<u16> {
        self.small(names).ok()
    }

    /// Size of a type.
    fn bytes(&self, name: &str) -> Result<u16, Unusable> {
        self.structs
            .size(name)
            .filter(|&size| size < OFFSET_MAX)
            .map(|size| size as u16)
            .ok_or_else(|| Unusable::Unknown(format!("no size of {name}")))
    }

    /// ELF address of a static.
    fn fixed(&self, name: &str) -> Option<u64> {
        self.structs.address(name).map(|at| at.wrapping_sub(self.bias))
    }

    fn needed(&self, name: &str) -> Result<u64, Unusable> {
        self.fixed(name).ok_or_else(|| Unusable::Unknown(format!("no {name}")))
    }

    fn flags(&self) -> Option<Flags> {
        // In 8 to 10 the type is Flag.
        ["JVMFlag", "Flag"].into_iter().find_map(|of| {
            let field = |name| format!("{of}.{name}");
            Some(Flags {
                first: self.fixed(&field("flags"))?,
                n: self.fixed(&field("numFlags"))?,
                bytes: self.bytes(of).ok()?,
                name: self.maybe(&[&field("_name")])?,
                address: self.maybe(&[&field("_addr")])?,
            })
        })
    }

    fn heaps(&self) -> Result<Heaps, Unusable> {
        Ok(match self.fixed("CodeCache._heaps") {
            Some(pointer) => Heaps::Array {
                pointer,
                len: self.wide(&["GrowableArrayBase._len", "GenericGrowableArray._len"])?,
                data: self.wide(&["GrowableArray<int>._data"])?,
            },
            None => Heaps::One(self.needed("CodeCache._heap")?),
        })
    }

    fn code_begin(&self) -> Result<CodeBegin, Unusable> {
        Ok(match self.maybe(&["CodeBlob._code_begin"]) {
            Some(at) => CodeBegin::Address(at),
            None => CodeBegin::Offset(self.small(&["CodeBlob._code_offset"])?),
        })
    }

    fn nmethod_entry(&self) -> Result<Entry, Unusable> {
        Ok(if let Some(at) = self.maybe(&["nmethod._verified_entry_point"]) {
            Entry::Address(at)
        } else {
            Entry::CodeOffset(self.small(&["nmethod._verified_entry_offset"])?)
        })
    }

    /// Of the code to which a frame that is deoptimised returns, and of that for method handles.
    fn deopt_handlers(&self, code_begin: CodeBegin) -> Result<(u16, Option<u16>), Unusable> {
        Ok(match code_begin {
            CodeBegin::Address(_) => (
                self.small(&[
                    "CompiledMethod._deopt_handler_begin",
                    "nmethod._deopt_handler_begin",
                ])?,
                self.maybe(&[
                    "CompiledMethod._deopt_mh_handler_begin",
                    "nmethod._deopt_mh_handler_begin",
                ]),
            ),
            CodeBegin::Offset(_) => (
                self.small(&[
                    "nmethod._deopt_handler_offset",
                    "nmethod._deopt_handler_entry_offset",
                    "nmethod._deoptimize_offset",
                ])?,
                self.maybe(&["nmethod._deopt_mh_handler_offset", "nmethod._deoptimize_mh_offset"]),
            ),
        })
    }

    fn debug_info(&self) -> Result<DebugInfo, Unusable> {
        Ok(match self.maybe(&["nmethod._immutable_data"]) {
            Some(data) => DebugInfo::Immutable {
                data,
                len: self.small(&["nmethod._immutable_data_size"])?,
                scopes_pcs: self.small(&["nmethod._scopes_pcs_offset"])?,
                scopes_data: self.small(&["nmethod._scopes_data_offset"])?,
                metadata: match self.maybe(&["CodeBlob._mutable_data"]) {
                    Some(data) => Metadata::Mutable {
                        data,
                        len: self.small(&["CodeBlob._mutable_data_size"])?,
                        relocation: self.small(&["CodeBlob._relocation_size"])?,
                    },
                    None => Metadata::InData {
                        data: self.small(&["CodeBlob._data_offset"])?,
                        metadata: self.small(&["nmethod._metadata_offset"])?,
                    },
                },
            },
            None => DebugInfo::InBlob {
                metadata: self.small(&["nmethod._metadata_offset"])?,
                scopes_data: match self
                    .maybe(&["CompiledMethod._scopes_data_begin", "nmethod._scopes_data_begin"])
                {
                    Some(at) => CodeBegin::Address(at),
                    None => CodeBegin::Offset(self.small(&["nmethod._scopes_data_offset"])?),
                },
                scopes_pcs: self.small(&["nmethod._scopes_pcs_offset"])?,
                dependencies: self.small(&["nmethod._dependencies_offset"])?,
            },
        })
    }

    fn symbol_length(&self) -> Result<SymbolLength, Unusable> {
        Ok(match self.maybe(&["Symbol._length_and_refcount"]) {
            Some(at) => SymbolLength::Upper(at),
            None => SymbolLength::U16(self.small(&["Symbol._length"])?),
        })
    }

    fn source_file(&self) -> SourceFile {
        if let Some(at) = self.maybe(&["ConstantPool._source_file_name_index"]) {
            SourceFile::Pool(at)
        } else if let Some(at) = self.maybe(&["InstanceKlass._source_file_name_index"]) {
            SourceFile::Klass(at)
        } else {
            SourceFile::Unknown
        }
    }

    fn class_methods(&self) -> Option<ClassMethods> {
        Some(ClassMethods {
            methods: self.maybe(&["InstanceKlass._methods"])?,
            len: self.maybe(&["Array<int>._length"])?,
            data: self.maybe(&["Array<Method*>._data"])?,
        })
    }
}

impl Offsets {
    /// Derives them from libjvm's tables, and the version from the process.
    ///
    /// # Errors
    /// [`Unusable::NotYet`] while the VM does not know its version; [`Unusable::Unknown`] if a field
    /// is missing or absurd.
    pub fn new(structs: &VmStructs, memory: &Memory, bias: u64) -> Result<Offsets, Unusable> {
        let (major, release) = version(structs, memory)?;
        Offsets::of(structs, bias, major, release)
    }

    fn of(
        structs: &VmStructs,
        bias: u64,
        major: u32,
        release: String,
    ) -> Result<Offsets, Unusable> {
        let fields = Fields { structs, bias };
        let heaps = fields.heaps()?;
        let code_begin = fields.code_begin()?;
        let (nmethod_deopt, nmethod_deopt_mh) = fields.deopt_handlers(code_begin)?;
        let blob_frame_complete = fields.small(&["CodeBlob._frame_complete_offset"])?;
        let blob_header = fields.maybe(&["CodeBlob._header_size"]);
        let mut all = Offsets {
            major,
            release,
            excludes_zero: major >= 20,
            heaps,
            heap_memory: fields.wide(&["CodeHeap._memory"])?,
            heap_segmap: fields.wide(&["CodeHeap._segmap"])?,
            heap_shift: fields.wide(&["CodeHeap._log2_segment_size"])?,
            space_low: fields.wide(&["VirtualSpace._low"])?,
            space_high: fields.wide(&["VirtualSpace._high"])?,
            space_low_boundary: fields.wide(&["VirtualSpace._low_boundary"])?,
            space_high_boundary: fields.wide(&["VirtualSpace._high_boundary"])?,
            block_bytes: fields.bytes("HeapBlock")?,
            block_length: fields.small(&["HeapBlock::Header._length"])?,
            block_used: fields.small(&["HeapBlock::Header._used"])?,
            blob_name: fields.small(&["CodeBlob._name"])?,
            blob_size: fields.small(&["CodeBlob._size"])?,
            blob_frame_size: fields.small(&["CodeBlob._frame_size"])?,
            blob_frame_complete,
            // Beside a 16-bit header size it is 16 bits wide itself (JDK 23).
            frame_complete_is_short: blob_header.is_some_and(|at| at + 2 == blob_frame_complete),
            blob_bytes: fields.bytes("CodeBlob")?,
            code_begin,
            nmethod_compile_id: fields.small(&["nmethod._compile_id"])?,
            nmethod_entry: fields.nmethod_entry()?,
            nmethod_deopt,
            nmethod_deopt_mh,
            nmethod_orig_pc: fields.small(&["nmethod._orig_pc_offset"])?,
            nmethod_method: fields.small(&["nmethod._method", "CompiledMethod._method"])?,
            nmethod_state: fields.small(&["nmethod._state"])?,
            debug_info: fields.debug_info()?,
            pc_desc_bytes: fields.bytes("PcDesc")?.into(),
            pc_desc_pc: fields.wide(&["PcDesc._pc_offset"])?,
            pc_desc_scope: fields.wide(&["PcDesc._scope_decode_offset"])?,
            interpreter: fields.needed("AbstractInterpreter._code")?,
            queue_buffer: fields.wide(&["StubQueue._stub_buffer"])?,
            queue_begin: fields.wide(&["StubQueue._queue_begin"])?,
            queue_end: fields.wide(&["StubQueue._queue_end"])?,
            codelet_size: fields.wide(&["InterpreterCodelet._size"])?,
            codelet_description: fields.wide(&["InterpreterCodelet._description"])?,
            bcp_words: if major >= 9 { 8 } else { 7 },
            method_const: fields.small(&["Method._constMethod"])?,
            const_bytes: fields.bytes("ConstMethod")?,
            const_constants: fields.small(&["ConstMethod._constants"])?,
            const_flags: fields.small(&["ConstMethod._flags", "ConstMethod._flags._flags"])?,
            const_code_size: fields.small(&["ConstMethod._code_size"])?,
            const_name: fields.small(&["ConstMethod._name_index"])?,
            const_signature: fields.maybe(&["ConstMethod._signature_index"]),
            pool_bytes: fields.bytes("ConstantPool")?,
            pool_holder: fields.small(&["ConstantPool._pool_holder"])?,
            source_file: fields.source_file(),
            klass_name: fields.small(&["Klass._name"])?,
            symbol_length: fields.symbol_length()?,
            symbol_body: fields.small(&["Symbol._body", "Symbol._body[0]"])?,
            call_stub_return: fields.fixed("StubRoutines._call_stub_return_address"),
            perf_start: fields.fixed("PerfMemory._start"),
            // Whether they may be: in 17 with an agent that asked for it, in 25 always.
            redefined: fields
                .fixed("JvmtiExport._can_hotswap_or_post_breakpoint")
                .map(|address| Redefined { address, len_bytes: 1 }),
            continuations: None,
            flags: fields.flags(),
            archive_base: fields.fixed("MetaspaceObj._shared_metaspace_base"),
            archive_top: fields.fixed("MetaspaceObj._shared_metaspace_top"),
            stubs: structs
                .statics("StubRoutines")
                .filter_map(|(name, address)| {
                    let name = std::str::from_utf8(name).ok()?;
                    Some((name.to_owned(), address.wrapping_sub(bias)))
                })
                .collect(),
            object_class: OBJECT_CLASS.into_iter().find_map(|name| fields.fixed(name)),
            class_methods: fields.class_methods(),
        };
        // Tables are hashed: in which order they are gone through is each process's own.
        all.stubs.sort_unstable();
        all.check()?;
        Ok(all)
    }

    /// Some fields cannot be the first of their structure: zeros there are tables that were not
    /// filled so far.
    fn check(&self) -> Result<(), Unusable> {
        let cannot_be_zero = [
            ("Klass._name", self.klass_name),
            ("CodeBlob._frame_size", self.blob_frame_size),
            ("Method._constMethod", self.method_const),
            ("ConstMethod._constants", self.const_constants),
            ("ConstantPool._pool_holder", self.pool_holder),
            ("nmethod._compile_id", self.nmethod_compile_id),
        ];
        for (name, offset) in cannot_be_zero {
            if offset == 0 {
                return Err(Unusable::NotYet("libjvm has not computed its offsets"));
            }
            if offset % 2 != 0 {
                return Err(Unusable::Unknown(format!("{name} at {offset}")));
            }
        }
        if self.block_bytes == 0 || self.block_bytes > 64 {
            return Err(Unusable::Unknown(format!("HeapBlock of {} bytes", self.block_bytes)));
        }
        if self.block_used <= self.block_length || self.block_used >= self.block_bytes {
            return Err(Unusable::Unknown(format!(
                "HeapBlock::Header._used at {}",
                self.block_used
            )));
        }
        if self.pc_desc_bytes < 8 {
            return Err(Unusable::Unknown(format!("PcDesc of {} bytes", self.pc_desc_bytes)));
        }
        Ok(())
    }

    /// The version as users read it.
    pub fn version(&self) -> String {
        let guessed = if self.major > NEWEST { " (guessed)" } else { "" };
        format!("{}{guessed}", self.release)
    }
}

/// The feature release (8, 11, 17 …) and the text of the release.
fn version(structs: &VmStructs, memory: &Memory) -> Result<(u32, String), Unusable> {
    let not_yet = || Unusable::NotYet("the VM's version is not set");
    let text = ["Abstract_VM_Version._s_vm_release", "VM_Version._s_vm_release"]
        .iter()
        .find_map(|name| structs.address(name))
        .and_then(|at| memory.u64(at))
        .filter(|&at| at != 0)
        .and_then(|at| memory.c_string(at, 256))
        .ok_or_else(not_yet)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let major = ["Abstract_VM_Version._vm_major_version", "VM_Version._vm_major_version"]
        .iter()
        .find_map(|name| structs.address(name))
        .and_then(|at| memory.u32(at))
        .filter(|&major| major != 0);
    let of_text = || text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
    let major = major.or_else(of_text).ok_or_else(not_yet)?;
    // HotSpot Express numbered itself: 25 is JDK 8 (25.412-b08). What tells it from JDK 25, whose
    // builds may have such a text as well (25.0.1+8-b62.4), is its only code heap.
    let is_express = major == 25 && structs.address("CodeCache._heap").is_some();
    Ok((if is_express { 8 } else { major }, text))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Static fields that every version has, at addresses that tell them apart.
    pub(crate) const STATICS: [(&str, u64); 6] = [
        ("PerfMemory._start", 4096),
        ("CodeCache._heaps", 4104),
        ("AbstractInterpreter._code", 4112),
        ("StubRoutines._call_stub_return_address", 4120),
        ("Abstract_VM_Version._s_vm_release", 4128),
        ("Abstract_VM_Version._vm_major_version", 4136),
    ];

    /// As openjdk-17.0.15 publishes it.
    pub(crate) const JDK17_OFFSETS: [(&str, u64); 47] = [
        ("ConstantPool._pool_holder", 24),
        ("ConstantPool._source_file_name_index", 54),
        ("Klass._name", 24),
        ("Method._constMethod", 8),
        ("ConstMethod._constants", 8),
        ("ConstMethod._flags", 28),
        ("ConstMethod._code_size", 32),
        ("ConstMethod._name_index", 34),
        ("Symbol._length", 4),
        ("Symbol._body", 6),
        ("Symbol._body[0]", 6),
        ("VirtualSpace._low_boundary", 0),
        ("VirtualSpace._high_boundary", 8),
        ("VirtualSpace._low", 16),
        ("VirtualSpace._high", 24),
        ("GrowableArrayBase._len", 0),
        ("GrowableArray<int>._data", 8),
        ("CodeHeap._memory", 8),
        ("CodeHeap._segmap", 120),
        ("CodeHeap._log2_segment_size", 256),
        ("HeapBlock::Header._length", 0),
        ("HeapBlock::Header._used", 8),
        ("StubQueue._stub_buffer", 8),
        ("StubQueue._queue_begin", 24),
        ("StubQueue._queue_end", 28),
        ("InterpreterCodelet._size", 8),
        ("InterpreterCodelet._description", 0),
        ("PcDesc._pc_offset", 0),
        ("PcDesc._scope_decode_offset", 4),
        ("CodeBlob._name", 96),
        ("CodeBlob._size", 12),
        ("CodeBlob._header_size", 16),
        ("CodeBlob._frame_complete_offset", 20),
        ("CodeBlob._data_offset", 24),
        ("CodeBlob._frame_size", 28),
        ("CodeBlob._code_begin", 32),
        ("CompiledMethod._method", 112),
        ("CompiledMethod._scopes_data_begin", 120),
        ("CompiledMethod._deopt_handler_begin", 128),
        ("CompiledMethod._deopt_mh_handler_begin", 136),
        ("nmethod._state", 315),
        ("nmethod._orig_pc_offset", 300),
        ("nmethod._metadata_offset", 260),
        ("nmethod._scopes_pcs_offset", 268),
        ("nmethod._dependencies_offset", 272),
        ("nmethod._verified_entry_point", 224),
        ("nmethod._compile_id", 304),
    ];
    pub(crate) const JDK17_SIZES: [(&str, u64); 5] = [
        ("ConstantPool", 72),
        ("ConstMethod", 48),
        ("HeapBlock", 16),
        ("CodeBlob", 104),
        ("PcDesc", 16),
    ];

    /// With statics from 0x1000 on.
    pub(crate) fn jdk17() -> Offsets {
        let structs = VmStructs::of(&JDK17_OFFSETS, &STATICS, &JDK17_SIZES);
        Offsets::of(&structs, 0, 17, "17.0.15".into()).expect("all that is needed")
    }

    /// As temurin-25.0.3 publishes it.
    pub(crate) fn jdk25() -> Offsets {
        let offsets = [
            ("ConstantPool._pool_holder", 24),
            ("ConstantPool._source_file_name_index", 54),
            ("Klass._name", 24),
            ("Method._constMethod", 8),
            ("ConstMethod._constants", 8),
            ("ConstMethod._flags._flags", 28),
            ("ConstMethod._code_size", 34),
            ("ConstMethod._name_index", 36),
            ("Symbol._length", 4),
            ("Symbol._body", 6),
            ("Symbol._body[0]", 6),
            ("VirtualSpace._low_boundary", 0),
            ("VirtualSpace._high_boundary", 8),
            ("VirtualSpace._low", 16),
            ("VirtualSpace._high", 24),
            ("GrowableArrayBase._len", 0),
            ("GrowableArray<int>._data", 8),
            ("CodeHeap._memory", 0),
            ("CodeHeap._segmap", 112),
            ("CodeHeap._log2_segment_size", 248),
            ("HeapBlock::Header._length", 0),
            ("HeapBlock::Header._used", 4),
            ("StubQueue._stub_buffer", 8),
            ("StubQueue._queue_begin", 24),
            ("StubQueue._queue_end", 28),
            ("InterpreterCodelet._size", 8),
            ("InterpreterCodelet._description", 0),
            ("PcDesc._pc_offset", 0),
            ("PcDesc._scope_decode_offset", 4),
            ("CodeBlob._name", 8),
            ("CodeBlob._size", 24),
            ("CodeBlob._header_size", 52),
            ("CodeBlob._relocation_size", 28),
            ("CodeBlob._code_offset", 36),
            ("CodeBlob._frame_complete_offset", 54),
            ("CodeBlob._data_offset", 40),
            ("CodeBlob._frame_size", 44),
            ("CodeBlob._mutable_data", 16),
            ("CodeBlob._mutable_data_size", 48),
            ("nmethod._method", 80),
            ("nmethod._state", 219),
            ("nmethod._deopt_handler_offset", 176),
            ("nmethod._deopt_mh_handler_offset", 180),
            ("nmethod._orig_pc_offset", 208),
            ("nmethod._scopes_pcs_offset", 196),
            ("nmethod._scopes_data_offset", 200),
            ("nmethod._verified_entry_offset", 154),
            ("nmethod._immutable_data", 96),
            ("nmethod._immutable_data_size", 160),
            ("nmethod._compile_id", 212),
        ];
        let sizes = [
            ("ConstantPool", 72),
            ("ConstMethod", 56),
            ("HeapBlock", 8),
            ("CodeBlob", 64),
            ("PcDesc", 16),
        ];
        let structs = VmStructs::of(&offsets, &STATICS, &sizes);
        Offsets::of(&structs, 0, 25, "25.0.3".into()).expect("all that is needed")
    }

    /// The names that JDK 8 publishes (hotspot/src/share/vm/runtime/vmStructs.cpp @ jdk8u,
    /// 158bc0efd253). The numbers only tell the fields apart.
    pub(crate) fn jdk8() -> Offsets {
        let offsets = [
            ("ConstantPool._pool_holder", 24),
            ("InstanceKlass._source_file_name_index", 190),
            ("Klass._name", 16),
            ("Method._constMethod", 8),
            ("ConstMethod._constants", 8),
            ("ConstMethod._flags", 28),
            ("ConstMethod._code_size", 32),
            ("ConstMethod._name_index", 34),
            ("Symbol._length", 0),
            ("Symbol._refcount", 2),
            ("Symbol._identity_hash", 4),
            ("Symbol._body", 8),
            ("VirtualSpace._low_boundary", 0),
            ("VirtualSpace._high_boundary", 8),
            ("VirtualSpace._low", 16),
            ("VirtualSpace._high", 24),
            ("GenericGrowableArray._len", 0),
            ("GrowableArray<int>._data", 16),
            ("CodeHeap._memory", 0),
            ("CodeHeap._segmap", 96),
            ("CodeHeap._log2_segment_size", 200),
            ("HeapBlock::Header._length", 0),
            ("HeapBlock::Header._used", 8),
            ("StubQueue._stub_buffer", 8),
            ("StubQueue._queue_begin", 24),
            ("StubQueue._queue_end", 28),
            ("InterpreterCodelet._size", 0),
            ("InterpreterCodelet._description", 8),
            ("PcDesc._pc_offset", 0),
            ("PcDesc._scope_decode_offset", 4),
            ("CodeBlob._name", 8),
            ("CodeBlob._size", 16),
            ("CodeBlob._header_size", 20),
            ("CodeBlob._relocation_size", 24),
            ("CodeBlob._content_offset", 28),
            ("CodeBlob._code_offset", 32),
            ("CodeBlob._frame_complete_offset", 36),
            ("CodeBlob._data_offset", 40),
            ("CodeBlob._frame_size", 44),
            ("nmethod._method", 64),
            ("nmethod._state", 176),
            ("nmethod._deoptimize_offset", 124),
            ("nmethod._deoptimize_mh_offset", 128),
            ("nmethod._orig_pc_offset", 132),
            ("nmethod._metadata_offset", 140),
            ("nmethod._scopes_data_offset", 144),
            ("nmethod._scopes_pcs_offset", 148),
            ("nmethod._dependencies_offset", 152),
            ("nmethod._verified_entry_point", 112),
            ("nmethod._compile_id", 168),
        ];
        let statics = [
            ("PerfMemory._start", 4096),
            ("CodeCache._heap", 4104),
            ("AbstractInterpreter._code", 4112),
            ("StubRoutines._call_stub_return_address", 4120),
            ("Abstract_VM_Version._s_vm_release", 4128),
            ("Abstract_VM_Version._vm_major_version", 4136),
        ];
        let sizes = [
            ("ConstantPool", 80),
            ("ConstMethod", 48),
            ("HeapBlock", 16),
            ("CodeBlob", 64),
            ("PcDesc", 16),
        ];
        let structs = VmStructs::of(&offsets, &statics, &sizes);
        Offsets::of(&structs, 0, 8, "25.412-b08".into()).expect("all that is needed")
    }

    /// JDK 8: one heap, offsets from the blob, debug information in it, one slot less in interpreter
    /// frames, zero bytes in UNSIGNED5.
    #[test]
    fn jdk_8() {
        let old = jdk8();
        assert_eq!(old.heaps, Heaps::One(4104));
        assert_eq!(old.code_begin, CodeBegin::Offset(32));
        assert_eq!(old.nmethod_entry, Entry::Address(112));
        assert_eq!((old.nmethod_deopt, old.nmethod_deopt_mh), (124, Some(128)));
        let debug = DebugInfo::InBlob {
            metadata: 140,
            scopes_data: CodeBegin::Offset(144),
            scopes_pcs: 148,
            dependencies: 152,
        };
        assert_eq!(old.debug_info, debug);
        assert_eq!(old.source_file, SourceFile::Klass(190));
        assert_eq!(old.symbol_length, SymbolLength::U16(0));
        assert_eq!((old.bcp_words, old.excludes_zero), (7, false));
        assert!(!old.frame_complete_is_short);
        assert_eq!(old.version(), "25.412-b08");
    }

    /// Each finds its facts where its version has them.
    #[test]
    fn versions_differ_in_where_facts_stand() {
        let (old, new) = (jdk17(), jdk25());
        assert_eq!(old.code_begin, CodeBegin::Address(32));
        assert_eq!(new.code_begin, CodeBegin::Offset(36));
        assert!(matches!(old.debug_info, DebugInfo::InBlob { .. }));
        let mutable = Metadata::Mutable { data: 16, len: 48, relocation: 28 };
        assert!(
            matches!(new.debug_info, DebugInfo::Immutable { metadata, .. } if metadata == mutable)
        );
        assert!(new.frame_complete_is_short && !old.frame_complete_is_short);
        assert!(new.excludes_zero && !old.excludes_zero);
    }

    /// Offsets and sizes that no structure has are refused, whichever field they are of.
    #[test]
    fn absurd_offsets_are_refused() {
        let structs = VmStructs::of(
            &[("GrowableArrayBase._len", 0), ("GrowableArray<int>._data", u64::MAX)],
            &STATICS,
            &[],
        );
        assert!(matches!(
            Offsets::of(&structs, 0, 17, String::new()),
            Err(Unusable::Unknown(why)) if why.contains("_data at 18446744073709551615")
        ));
        let mut flag_first = jdk17();
        flag_first.block_used = flag_first.block_length;
        assert!(matches!(flag_first.check(), Err(Unusable::Unknown(_))));
        let mut flag_behind = jdk17();
        flag_behind.block_used = flag_behind.block_bytes;
        assert!(matches!(flag_behind.check(), Err(Unusable::Unknown(_))));
        let mut no_step = jdk17();
        no_step.pc_desc_bytes = 0;
        assert!(matches!(no_step.check(), Err(Unusable::Unknown(_))));
    }

    /// Zeros in offsets that cannot be zero mean that libjvm is being loaded.
    #[test]
    fn empty_tables_are_not_used() {
        let memory = Memory::recorded(Vec::new());
        let structs = VmStructs::of(&[], &[], &[]);
        assert!(matches!(Offsets::new(&structs, &memory, 0), Err(Unusable::NotYet(_))));
        assert!(matches!(
            Offsets::of(&structs, 0, 17, String::new()),
            Err(Unusable::Unknown(why)) if why.contains("CodeCache._heap")
        ));
    }

    /// JDK 8 calls itself 25, as JDK 25 does: the former has one code heap.
    #[test]
    fn versions() {
        let check = |text: &str, heaps: &str, expect| {
            let mut bytes = 100u64.to_le_bytes().to_vec();
            bytes.resize(92, 0);
            bytes.extend(text.as_bytes());
            bytes.resize(400, 0);
            let memory = Memory::recorded(vec![(8, bytes)]);
            let release = ("Abstract_VM_Version._s_vm_release", 8);
            let structs = VmStructs::of(&[], &[release, (heaps, 8)], &[]);
            assert_eq!(version(&structs, &memory).expect("a version").0, expect, "{text}");
        };
        check("25.412-b08", "CodeCache._heap", 8);
        check("25+36-LTS", "CodeCache._heaps", 25);
        check("25.0.1+8-b62.4", "CodeCache._heaps", 25);
        check("17.0.15+6-Debian-1deb12u1", "CodeCache._heaps", 17);
        check("11.0.13+8-LTS", "CodeCache._heaps", 11);
    }
}
