//! A method's names and where its lines are, read from its `ConstMethod` and its pool of constants.
//!
//! In: the address of a `Method*`. Out: its name as Java writes it, its file, its class, and its line table's
//! place. Nothing here says whether it is still that method: the caller does (`../resolve.rs`).
//!
//! # Cost
//! Some twenty fields; of those that are asked together, what each begins with was read ahead.

use super::Resolver;
use crate::layout::{Offsets, SourceFile, SymbolLength};
use crate::lines::Lines;
use crate::names;
use hotframe_runtime::Memory;

/// What is read of a method.
pub(super) struct Names {
    /// Its class, and a hash of that (see [`super::Seen`]).
    pub(super) holder: u64,
    pub(super) holder_hash: u32,
    pub(super) name: Vec<u8>,
    pub(super) file: Vec<u8>,
}

/// Where a method's names are: its `ConstMethod` and constants, and which of them is its name.
pub(super) struct Head {
    pub(super) constant: u64,
    pub(super) pool: u64,
    pub(super) name: u16,
    pub(super) lines: Lines,
}

impl Resolver {
    /// Reads where a method's names and lines are.
    pub(super) fn head(&self, memory: &Memory, address: u64) -> Option<Head> {
        /// `ConstMethod::_has_linenumber_table`, in all versions.
        const HAS_LINES: u64 = 1;
        let o = &*self.offsets;
        if address == 0 || !address.is_multiple_of(8) {
            return None;
        }
        let constant = memory.u64(address.wrapping_add(o.method_const.into()))?;
        let field = |at: u16| memory.u16(constant.wrapping_add(at.into())).map(u64::from);
        let pool = memory.u64(constant.wrapping_add(o.const_constants.into()))?;
        let lines = (field(o.const_flags)? & HAS_LINES != 0)
            .then_some(constant.wrapping_add(u64::from(o.const_bytes) + field(o.const_code_size)?));
        let name = memory.u16(constant.wrapping_add(o.const_name.into()))?;
        Some(Head { constant, pool, name, lines: Lines(lines) })
    }

    /// Reads a method's names.
    pub(super) fn names(&self, memory: &Memory, head: &Head) -> Option<Names> {
        let o = &*self.offsets;
        let &Head { constant, pool, .. } = head;
        let field = |at: u16| memory.u16(constant.wrapping_add(at.into())).map(u64::from);
        let symbol_at = |index: u64| {
            // Low bits of old versions' slots are flags.
            symbol(o, memory, memory.u64(slot(o, pool, index))? & !3)
        };
        let at_name = slot(o, pool, head.name.into());
        let at_holder = pool.wrapping_add(o.pool_holder.into());
        memory.prefetch(&[at_name, at_holder]);
        let holder = memory.u64(at_holder)?;
        memory.prefetch(&[memory.u64(at_name)? & !3, holder.wrapping_add(o.klass_name.into())]);
        let own = symbol_at(head.name.into())?;
        let class = symbol(o, memory, memory.u64(holder.wrapping_add(o.klass_name.into()))?)?;
        if own.is_empty() || class.is_empty() {
            return None;
        }
        let source = match o.source_file {
            SourceFile::Pool(at) => memory.u16(pool.wrapping_add(at.into())),
            SourceFile::Klass(at) => memory.u16(holder.wrapping_add(at.into())),
            SourceFile::Unknown => None,
        };
        let file = source
            .filter(|&index| index != 0)
            .and_then(|index| symbol_at(index.into()))
            .unwrap_or_default();
        let holder_hash = hash(&class) ^ hash(&pool.to_le_bytes());
        let signature = o.const_signature.filter(|_| self.naming.java_signatures);
        let signature = signature.and_then(|at| symbol_at(field(at)?));
        let name = names::method(&class, &own, signature.as_deref(), self.naming);
        Some(Names { holder, holder_hash, name, file })
    }
}

/// Where a pool of constants has one of them.
pub(super) fn slot(o: &Offsets, pool: u64, index: u64) -> u64 {
    pool.wrapping_add(u64::from(o.pool_bytes) + index * 8)
}

/// Reads a symbol's text.
pub(super) fn symbol(o: &Offsets, memory: &Memory, address: u64) -> Option<Vec<u8>> {
    if address == 0 || !address.is_multiple_of(8) {
        return None;
    }
    let len = match o.symbol_length {
        SymbolLength::U16(at) => memory.u16(address.wrapping_add(at.into()))?,
        SymbolLength::Upper(at) => (memory.u32(address.wrapping_add(at.into()))? >> 16) as u16,
    };
    memory.bytes(address.wrapping_add(o.symbol_body.into()), len.into(), 1 << 16)
}

/// FNV-1a (Fowler, Noll, Vo), folded.
pub(super) fn hash(bytes: &[u8]) -> u32 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    (hash ^ hash >> 32) as u32
}
