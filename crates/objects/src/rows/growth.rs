//! Where the stack of a goroutine goes on that is made larger.
//!
//! In: `runtime.morestack` of a Go binary for x86-64. Out: what of the runtime's structures has to be read to come from
//! the thread's stack, on which goroutines' are copied, to the goroutine's.
//!
//! # How it works
//! `morestack` notes pc, sp and the frame pointer of the function that wants more in its goroutine (`g.sched`), changes
//! to the stack of the thread's own goroutine (`m.g0`) and calls `newstack`. That one has the stack copied
//! (`copystack`), or gives the goroutine's turn to another one, which `m.curg` is then: only with a return address
//! behind the call of `copystack` the goroutine is the one that called. Offsets are those that the code has: of g in
//! thread-local storage and the members of `g.sched` in `morestack`, of `m.curg` in `systemstack`, which stands
//! before it.
//!
//! # Sources
//! runtime/asm_amd64.s (`morestack`, `systemstack`), runtime/stack.go (`newstack`, `copystack`), runtime/traceback.go
//! (`unwinder.resolveInternal`, which goes the same way) @ go1.18, go1.22, go1.26.

use super::code_at;
use crate::Error;
use crate::elf::ElfFile;
use crate::gopclntab::GoTable;
use crate::read::{ReadAt, Window};

/// What has to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Growth {
    /// Where g is in thread-local storage.
    pub(crate) g: i32,
    /// Where m has the goroutine that runs on it.
    pub(crate) curg: i32,
    /// Where g has the frame pointer that it noted.
    pub(crate) fp: i32,
    /// Image offset behind the call of `copystack` in `newstack`.
    pub(crate) newstack: u32,
}

/// Bytes of `morestack`, and of what stands between `systemstack` and it.
const MORESTACK_MAX_BYTES: usize = 512;
const BEFORE_MAX_BYTES: u64 = 2048;
/// Bytes of `newstack`: it has 2,000.
const NEWSTACK_MAX_BYTES: usize = 16 << 10;
/// A function that jumps to the one it is named for.
const WRAPPER_MAX_BYTES: usize = 32;

/// `mov 0x38(%rbx), %rsp`: the change of stacks.
const TO_G0: [u8; 4] = [0x48, 0x8b, 0x63, 0x38];

/// Bytes from the start of `morestack` to where it is on the other stack.
pub(super) fn change<R: ReadAt>(
    file: &ElfFile<R>,
    text: &mut Window,
    start: u64,
    end: u64,
) -> Result<Option<u64>, Error> {
    let len =
        usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX).min(MORESTACK_MAX_BYTES);
    let code = code_at(file, text, start, len)?;
    Ok(find(code, &TO_G0).map(|at| (at + TO_G0.len()) as u64))
}

/// What the code of `morestack` and around it says. `None`: it is another than is known.
pub(super) fn growth<R: ReadAt>(
    file: &ElfFile<R>,
    go: &mut GoTable,
    text: &mut Window,
    start: u64,
    changed: u64,
) -> Result<Option<Growth>, Error> {
    let before = usize::try_from(changed.saturating_sub(start)).unwrap_or(0);
    let mut code = [0; MORESTACK_MAX_BYTES];
    let held = code_at(file, text, start, before + 32)?;
    let Some(code) = code.get_mut(..held.len()) else { return Ok(None) };
    code.copy_from_slice(held);
    let Some((head, tail)) = code.split_at_checked(before) else { return Ok(None) };
    let Some((g, fp)) = of_morestack(head) else { return Ok(None) };
    let Some(called) = tail.iter().position(|&byte| byte == 0xe8) else { return Ok(None) };
    let Some(mut newstack) = target(tail, called, changed) else { return Ok(None) };

    let mut curg = None;
    let mut system = None;
    let reader = file.reader();
    go.functions(reader, start.saturating_sub(BEFORE_MAX_BYTES), start, |function| {
        system = Some(function).filter(|function| function.is_systemstack).or(system.take());
        Ok(())
    })?;
    if let Some(system) = system {
        let len = usize::try_from(system.end.saturating_sub(system.start)).unwrap_or(usize::MAX);
        let code = code_at(file, text, system.start, len.min(MORESTACK_MAX_BYTES))?;
        // `mov curg(%rbx), %rax`, and rbx is m.
        curg = find(code, &[0x48, 0x8b, 0x83]).and_then(|at| word(code, at + 3));
    }
    let Some(curg) = curg else { return Ok(None) };

    // By way of the function of Go's first calling convention, which only jumps to it.
    let Some(mut end) = go.end_of(reader, newstack)? else { return Ok(None) };
    let len = usize::try_from(end.saturating_sub(newstack)).unwrap_or(usize::MAX);
    if len <= WRAPPER_MAX_BYTES {
        let code = code_at(file, text, newstack, len)?;
        let jumped = code.iter().position(|&byte| byte == 0xe9);
        let Some(to) = jumped.and_then(|at| target(code, at, newstack)) else { return Ok(None) };
        let Some(to_end) = go.end_of(reader, to)? else { return Ok(None) };
        (newstack, end) = (to, to_end);
    }
    let len =
        usize::try_from(end.saturating_sub(newstack)).unwrap_or(usize::MAX).min(NEWSTACK_MAX_BYTES);
    let code = code_at(file, text, newstack, len)?.to_vec();
    // It comes late, behind what a broken stack is reported with.
    for at in (0..code.len()).rev().filter(|&at| code.get(at) == Some(&0xe8)) {
        if let Some(called) = target(&code, at, newstack)
            && go.range().contains(&called)
            && go.is_named(reader, called, b"runtime.copystack")?
        {
            let back = newstack.checked_add(at as u64 + 5);
            let back = back.and_then(|back| back.checked_sub(file.image_base()));
            let back = back.and_then(|back| u32::try_from(back).ok());
            return Ok(back.map(|newstack| Growth { g, curg, fp, newstack }));
        }
    }
    Ok(None)
}

/// Where g is in thread-local storage, and the frame pointer in it, if pc and sp are where they are looked for.
fn of_morestack(code: &[u8]) -> Option<(i32, i32)> {
    let g = match code {
        // mov %fs:g, %rdi or %rcx
        [0x64, 0x48, 0x8b, _, 0x25, ..] => word(code, 5)?,
        // mov $g, %rcx; mov %fs:(%rcx), %rdi
        [0x48, 0xc7, 0xc0..=0xc7, _, _, _, _, 0x64, 0x48, 0x8b, ..] => word(code, 3)?,
        _ => return None,
    };
    // mov %rax, at(g)
    let stores = |at: u8| {
        code.windows(4).any(|code| matches!(code, [0x48, 0x89, 0x40..=0x47, to] if *to == at))
    };
    // mov %rbp, at(g)
    let fp = code.windows(4).find_map(|code| match code {
        [0x48, 0x89, 0x68..=0x6f, at] => Some(i32::from(*at)),
        _ => None,
    })?;
    (stores(0x38) && stores(0x40)).then_some((g, fp))
}

fn find(code: &[u8], bytes: &[u8]) -> Option<usize> {
    code.windows(bytes.len()).position(|window| window == bytes)
}

fn word(code: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_le_bytes(*code.get(at..)?.first_chunk()?))
}

/// Where the call or jump at an offset of code goes.
fn target(code: &[u8], at: usize, start: u64) -> Option<u64> {
    start.checked_add(at as u64 + 5)?.checked_add_signed(word(code, at + 1)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head of `morestack` as Go 1.22 and 1.26 have it, and as position-independent files do; what is not it says
    /// nothing, cut anywhere.
    #[test]
    fn offsets_are_those_of_the_code() {
        let stores = |fp: u8| {
            [
                &[0x48, 0x8b, 0x5f, 0x30, 0x48, 0x8b, 0x04, 0x24][..], // mov 0x30(%rdi),%rbx; mov (%rsp),%rax
                &[0x48, 0x89, 0x47, 0x40],                             // mov %rax,0x40(%rdi)
                &[0x48, 0x8d, 0x44, 0x24, 0x08, 0x48, 0x89, 0x47, 0x38], // … mov %rax,0x38(%rdi)
                &[0x48, 0x89, 0x6f, fp],                               // mov %rbp,fp(%rdi)
            ]
            .concat()
        };
        let static_tls = [0x64, 0x48, 0x8b, 0x3c, 0x25, 0xf8, 0xff, 0xff, 0xff];
        let by_rcx = [0x48, 0xc7, 0xc1, 0xf0, 0xff, 0xff, 0xff, 0x64, 0x48, 0x8b, 0x39];
        let code = [&static_tls[..], &stores(0x60)].concat();
        assert_eq!(of_morestack(&code), Some((-8, 0x60)));
        assert_eq!(of_morestack(&[&by_rcx[..], &stores(0x68)].concat()), Some((-16, 0x68)));
        for len in 0..code.len() {
            assert_eq!(of_morestack(&code[..len]), None, "{len} bytes");
        }
        assert_eq!(of_morestack(&[&[0x90], &code[..]].concat()), None);
        let other = code.iter().map(|&byte| if byte == 0x38 { 0x30 } else { byte });
        assert_eq!(of_morestack(&other.collect::<Vec<_>>()), None, "sp is elsewhere");
    }

    #[test]
    fn calls_lead_where_they_say() {
        let call = [0x90, 0xe8, 0xfb, 0xff, 0xff, 0xff];
        assert_eq!(target(&call, 1, 0x1000), Some(0x1001));
        assert_eq!(target(&call[..5], 1, 0x1000), None);
        assert_eq!(target(&call, 1, u64::MAX), None);
    }
}
