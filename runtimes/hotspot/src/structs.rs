//! `VMStructs`: what libjvm says of its own layout, for the serviceability agent and for us.
//!
//! In: a live process and where libjvm's tables are. Out: offsets of fields, addresses of static
//! ones, sizes of types.
//!
//! # How it works
//! The tables are arrays whose last entry has no names. The names are pointers that the dynamic
//! linker relocated, offsets of some builds are computed by static constructors: the file has zeros
//! where the process has values, so that the process is read.
//!
//! # Sources
//! `VMStructEntry`, `VMTypeEntry` and the exported `gHotSpotVM*` variables of
//! src/hotspot/share/runtime/vmStructs.{hpp,cpp} @ jdk-17+35.
//!
//! # Cost
//! Some 150 reads of a page, 10 KB kept until the layout is known.

use hotframe_objects::{ElfFile, ReadAt};
use hotframe_runtime::{Memory, Unusable, elf};
use std::collections::HashMap;

/// More entries than any version has (JDK 8 has some 2,400).
const ENTRIES_MAX: u64 = 16384;
/// Longest name, template types included.
const NAME_MAX_BYTES: usize = 512;
/// Entries are at most so long; theirs are 48 and 40 bytes.
const STRIDE_MAX_BYTES: u64 = 256;
/// All names together: 80 KB in JDK 25, no more than twice that in any.
const NAMES_MAX_BYTES: usize = 1 << 20;

/// ELF addresses of libjvm's variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    structs: Array<5>,
    types: Array<2>,
}

/// A table: the pointer to it, the distance of its entries, and where in one its columns are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Array<const N: usize> {
    pointer: u64,
    stride: u64,
    columns: [u64; N],
}

/// A field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Offset(u64),
    Static(u64),
}

/// The tables of one process.
#[derive(Debug, Default)]
pub struct VmStructs {
    fields: HashMap<Vec<u8>, Field>,
    types: HashMap<Vec<u8>, u64>,
}

impl Exported {
    #[cfg(test)]
    pub(crate) const NOWHERE: Exported = Exported {
        structs: Array { pointer: 0, stride: 0, columns: [0; 5] },
        types: Array { pointer: 0, stride: 0, columns: [0; 2] },
    };

    /// Variables and tables as libjvm has them, written from an address on.
    #[cfg(test)]
    pub(crate) fn written(
        at: u64,
        offsets: &[(&str, u64)],
        statics: &[(&str, u64)],
        sizes: &[(&str, u64)],
    ) -> (Exported, Vec<u8>) {
        /// Of the tables, behind the variables, and of the names behind those.
        const TABLES: u64 = 0x100;
        const NAMES: u64 = 0x4000;
        let (struct_bytes, type_bytes) = (40, 16);
        let (mut tables, mut names) = (Vec::new(), vec![0]);
        let mut name = |text: &str| {
            let address = at + NAMES + names.len() as u64;
            names.extend(text.bytes().chain([0]));
            address
        };
        let fields = offsets.iter().map(|field| (field, 0)).chain(statics.iter().map(|it| (it, 1)));
        for ((field, value), is_static) in fields {
            let (kind, field) = field.split_once('.').unwrap_or((field, ""));
            let (offset, address) = if is_static == 0 { (*value, 0) } else { (0, *value) };
            tables.extend([name(kind), name(field), is_static, offset, address]);
        }
        tables.extend([0; 5]);
        let types = at + TABLES + tables.len() as u64 * 8;
        sizes.iter().for_each(|(kind, size)| tables.extend([name(kind), *size]));
        tables.extend([0; 2]);
        let variables = [at + TABLES, struct_bytes, 0, 8, 16, 24, 32, types, type_bytes, 0, 8];
        let mut bytes = Vec::new();
        for (words, from) in [(variables.as_slice(), 0), (&tables, TABLES)] {
            bytes.resize(from as usize, 0);
            bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }
        assert!(bytes.len() as u64 <= NAMES);
        bytes.resize(NAMES as usize, 0);
        bytes.extend(names);
        // A name is read by pieces, of what may lie behind it, too.
        bytes.resize(bytes.len() + NAME_MAX_BYTES, 0);
        let slot = |n: u64| at + n * 8;
        let structs = Array {
            pointer: slot(0),
            stride: slot(1),
            columns: [slot(2), slot(3), slot(4), slot(5), slot(6)],
        };
        let types = Array { pointer: slot(7), stride: slot(8), columns: [slot(9), slot(10)] };
        (Exported { structs, types }, bytes)
    }

    /// Finds the variables in a file's dynamic symbols, or, where libjvm is linked into a program,
    /// in its others; `None` if some are missing.
    pub fn find<R: ReadAt>(file: &ElfFile<R>) -> Option<Exported> {
        let tables = [elf::Tables::Dynamic, elf::Tables::Static];
        tables.into_iter().find_map(|tables| Exported::find_in(file, tables))
    }

    fn find_in<R: ReadAt>(file: &ElfFile<R>, tables: elf::Tables) -> Option<Exported> {
        let found = elf::find(
            file,
            tables,
            [
                "gHotSpotVMStructs",
                "gHotSpotVMStructEntryArrayStride",
                "gHotSpotVMStructEntryTypeNameOffset",
                "gHotSpotVMStructEntryFieldNameOffset",
                "gHotSpotVMStructEntryIsStaticOffset",
                "gHotSpotVMStructEntryOffsetOffset",
                "gHotSpotVMStructEntryAddressOffset",
                "gHotSpotVMTypes",
                "gHotSpotVMTypeEntryArrayStride",
                "gHotSpotVMTypeEntryTypeNameOffset",
                "gHotSpotVMTypeEntrySizeOffset",
            ],
        );
        let at = |n: usize| found.get(n).copied().flatten().map(|symbol| symbol.address);
        Some(Exported {
            structs: Array {
                pointer: at(0)?,
                stride: at(1)?,
                columns: [at(2)?, at(3)?, at(4)?, at(5)?, at(6)?],
            },
            types: Array { pointer: at(7)?, stride: at(8)?, columns: [at(9)?, at(10)?] },
        })
    }

    /// Reads the tables of a process in which libjvm was moved by `bias`.
    ///
    /// # Errors
    /// [`Unusable::NotYet`] while they are not filled; unreadable memory.
    pub fn read(&self, memory: &Memory, bias: u64) -> Result<VmStructs, Unusable> {
        let mut all = VmStructs::default();
        let mut left_bytes = NAMES_MAX_BYTES;
        let mut name = |memory: &Memory, at| {
            let name = memory.c_string(at, NAME_MAX_BYTES)?;
            left_bytes = left_bytes.checked_sub(name.len())?;
            Some(name)
        };
        self.structs.entries(memory, bias, &mut |[kind, field, is_static, offset, address]| {
            let (mut name, field) = (name(memory, kind)?, name(memory, field)?);
            name.push(b'.');
            name.extend(field);
            let entry =
                if is_static as u32 != 0 { Field::Static(address) } else { Field::Offset(offset) };
            all.fields.insert(name, entry);
            Some(())
        })?;
        self.types.entries(memory, bias, &mut |[kind, size]| {
            all.types.insert(name(memory, kind)?, size);
            Some(())
        })?;
        Ok(all)
    }
}

impl<const N: usize> Array<N> {
    fn entries(
        &self,
        memory: &Memory,
        bias: u64,
        visit: &mut dyn FnMut([u64; N]) -> Option<()>,
    ) -> Result<(), Unusable> {
        let word = |address: u64| {
            let address = address.wrapping_add(bias);
            memory.u64(address).ok_or(Unusable::Read { address, len_bytes: 8 })
        };
        let start = word(self.pointer)?;
        let stride = word(self.stride)?;
        if start == 0 || stride == 0 {
            return Err(Unusable::NotYet("libjvm's tables are empty"));
        }
        let mut columns = [0; N];
        for (column, address) in columns.iter_mut().zip(self.columns) {
            *column = word(address)?;
        }
        if stride > STRIDE_MAX_BYTES
            || columns.iter().any(|&column| column.saturating_add(8) > stride)
        {
            return Err(Unusable::Unknown(format!("VMStructs with a stride of {stride}")));
        }
        for n in 0..ENTRIES_MAX {
            let address = start.wrapping_add(n * stride);
            let mut values = [0; N];
            for (value, column) in values.iter_mut().zip(columns) {
                let address = address.wrapping_add(column);
                *value = memory.u64(address).ok_or(Unusable::Read { address, len_bytes: 8 })?;
            }
            if values.first().is_none_or(|&name| name == 0) {
                return Ok(());
            }
            visit(values).ok_or(Unusable::Read { address, len_bytes: stride as usize })?;
        }
        Err(Unusable::Unknown("VMStructs without an end".into()))
    }
}

impl VmStructs {
    /// Offset of the first of these fields that is there (`Type.field`).
    pub fn offset(&self, names: &[&str]) -> Option<u64> {
        names.iter().find_map(|name| match self.fields.get(name.as_bytes()) {
            Some(Field::Offset(offset)) => Some(*offset),
            _ => None,
        })
    }

    /// Address of a static field.
    pub fn address(&self, name: &str) -> Option<u64> {
        match self.fields.get(name.as_bytes()) {
            Some(Field::Static(address)) if *address != 0 => Some(*address),
            _ => None,
        }
    }

    /// Bytes of a type; `None` also if its size says nothing.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.types.get(name.as_bytes()).copied().filter(|&size| size != 0)
    }

    /// Names and addresses of the static fields of a type.
    pub fn statics<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a [u8], u64)> + 'a {
        self.fields.iter().filter_map(move |(name, field)| {
            let name = name.strip_prefix(kind.as_bytes())?.strip_prefix(b".")?;
            match field {
                Field::Static(address) => Some((name, *address)),
                Field::Offset(_) => None,
            }
        })
    }

    #[cfg(test)]
    pub(crate) fn of(
        offsets: &[(&str, u64)],
        statics: &[(&str, u64)],
        sizes: &[(&str, u64)],
    ) -> VmStructs {
        let mut all = VmStructs::default();
        for (name, offset) in offsets {
            all.fields.insert(name.as_bytes().to_vec(), Field::Offset(*offset));
        }
        for (name, address) in statics {
            all.fields.insert(name.as_bytes().to_vec(), Field::Static(*address));
        }
        for (name, size) in sizes {
            all.types.insert(name.as_bytes().to_vec(), *size);
        }
        all
    }
}
