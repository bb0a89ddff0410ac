//! Flags of a VM, by its own table of them.
//!
//! In: where the table is, and a process. Out: whether flags are on. A name is compared in place, so that a
//! look at all 1,400 costs one reading of libjvm's names (some 20 pages), once a process.
//!
//! # Sources
//! `JVMFlag` in runtime/flags/jvmFlag.hpp and its fields in runtime/vmStructs.cpp @ jdk-17+35 and jdk-25+36;
//! before JDK 11 it is `Flag` (runtime/globals.hpp @ jdk8u).

use hotframe_runtime::Memory;

/// More flags than any version has.
const FLAGS_MAX: u64 = 4096;

/// Where the table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    /// Statics, relative to the bias: a pointer to the first one, and how many there are.
    pub first: u64,
    /// See `first`.
    pub n: u64,
    /// Bytes of a flag, and where in it its name and the address of its value are.
    pub bytes: u16,
    /// See `bytes`.
    pub name: u16,
    /// See `bytes`.
    pub address: u16,
}

impl Flags {
    /// Which flags of two values are on, by one pass over all. `None`: there is none of this name, or it cannot
    /// be read.
    pub(crate) fn are_on<const N: usize>(
        &self,
        names: [&str; N],
        memory: &Memory,
        bias: u64,
    ) -> [Option<bool>; N] {
        let mut found = [None; N];
        let (Some(first), Some(n)) =
            (memory.u64(self.first.wrapping_add(bias)), memory.u64(self.n.wrapping_add(bias)))
        else {
            return found;
        };
        let longest = names.iter().map(|name| name.len()).max().unwrap_or(0);
        let field = |flag: u64, at: u16| memory.u64(flag.wrapping_add(at.into()));
        for flag in (0..n.min(FLAGS_MAX)).map(|at| first.wrapping_add(at * u64::from(self.bytes))) {
            let name = field(flag, self.name).filter(|&at| at != 0);
            let Some(name) = name.and_then(|at| memory.c_string(at, longest + 1)) else { continue };
            let Some(at) = names.iter().position(|wanted| name == wanted.as_bytes()) else {
                continue;
            };
            let value = field(flag, self.address).and_then(|at| memory.u8(at));
            if let Some(found) = found.get_mut(at) {
                *found = value.map(|value| value != 0);
            }
            if found.iter().all(Option::is_some) {
                break;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a table with a sentinel, a flag by its whole name; and nothing of one that is not there.
    #[test]
    fn flags_by_name() {
        let mut bytes = vec![0; 0x300];
        let mut put = |at: usize, text: &[u8]| bytes[at..at + text.len()].copy_from_slice(text);
        put(0x00, &0x1010_u64.to_le_bytes());
        put(0x08, &4_u64.to_le_bytes());
        for (at, name, value) in [(0x10, 0x1100_u64, 0x1200_u64), (0x28, 0x1120, 0x1201)] {
            put(at, &value.to_le_bytes());
            put(at + 8, &name.to_le_bytes());
        }
        put(0x40, &0x1202_u64.to_le_bytes());
        put(0x48, &0x1140_u64.to_le_bytes());
        put(0x100, b"UseIt\0");
        put(0x120, b"UseItNot\0");
        put(0x140, b"Use\0");
        put(0x200, &[1, 0, 1]);
        let flags = Flags { first: 0, n: 8, bytes: 24, name: 8, address: 0 };
        let memory = Memory::recorded(vec![(0x1000, bytes)]);
        let names = ["UseIt", "UseItNot", "Use"];
        let on = [Some(true), Some(false), Some(true)];
        assert_eq!(flags.are_on(names, &memory, 0x1000), on);
        assert_eq!(names.map(|name| flags.are_on([name], &memory, 0x1000)), on.map(|on| [on]));
        assert_eq!(flags.are_on(["UseI"], &memory, 0x1000), [None]);
        assert_eq!(flags.are_on(["UseIt"], &memory, 0x2000), [None]);
    }
}
