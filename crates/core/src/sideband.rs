//! Decodes the side-band: perf's records of what processes do to their mappings and names.
//!
//! In: records of a perf ring, header included. Out: [`Record`], times on CLOCK_MONOTONIC, pids in
//! the namespace of whoever opened the event. Records this does not know are skipped.
//!
//! Source: enum perf_event_type in include/uapi/linux/perf_event.h @ v6.12.

/// `enum perf_event_type`, the records used here.
mod sys {
    pub const PERF_RECORD_LOST: u32 = 2;
    pub const PERF_RECORD_COMM: u32 = 3;
    pub const PERF_RECORD_EXIT: u32 = 4;
    pub const PERF_RECORD_FORK: u32 = 7;
    pub const PERF_RECORD_MMAP2: u32 = 10;
    pub const PERF_RECORD_KSYMBOL: u32 = 17;
}

/// Bytes that `sample_id_all` appends with TID, TIME and CPU.
const TRAILER_BYTES: usize = 24;
const MISC_COMM_EXEC: u16 = 1 << 13;
const MISC_MMAP_BUILD_ID: u16 = 1 << 14;

/// A side-band record with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// What happened.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An executable mapping came to be.
    Mmap {
        /// Process.
        pid: u32,
        /// First address.
        start: u64,
        /// Length in bytes.
        bytes: u64,
        /// File offset of the first byte.
        pgoff: u64,
        /// Build id of the file; empty when the kernel found none.
        build_id: Vec<u8>,
        /// Major and minor device and inode, when there is no build id.
        inode: Option<(u32, u32, u64)>,
        /// Path as the kernel gives it: `//anon`, `[vdso]`, `/usr/lib/x.so`, with ` (deleted)`.
        path: String,
    },
    /// A thread got a name; with `exec` its process got a new image.
    Comm {
        /// Process.
        pid: u32,
        /// Thread.
        tid: u32,
        /// The name is that of an exec.
        exec: bool,
        /// The name.
        comm: String,
    },
    /// A thread or process began.
    Fork {
        /// Process.
        pid: u32,
        /// Thread.
        tid: u32,
        /// Parent's process.
        parent_pid: u32,
    },
    /// A thread ended.
    Exit {
        /// Process.
        pid: u32,
        /// Thread.
        tid: u32,
    },
    /// A kernel symbol came or went (BPF programs, trampolines).
    Ksymbol {
        /// First address.
        start: u64,
        /// Length in bytes.
        bytes: u32,
        /// It went.
        gone: bool,
        /// Its name.
        name: String,
    },
    /// The ring was full: so many records are missing.
    Lost {
        /// How many.
        n: u64,
    },
}

/// Decodes one record; `None` for kinds this does not use and for records too short for their
/// kind.
pub fn decode(bytes: &[u8]) -> Option<Record> {
    let kind = u32_at(bytes, 0)?;
    let misc = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body_end = bytes.len().checked_sub(TRAILER_BYTES)?;
    let body = bytes.get(8..body_end)?;
    let time_ns = u64_at(bytes, body_end + 8)?;
    let event = match kind {
        sys::PERF_RECORD_MMAP2 => {
            let with_build_id = misc & MISC_MMAP_BUILD_ID != 0;
            let build_id_bytes = usize::from(*body.get(32)?).min(20);
            Event::Mmap {
                pid: u32_at(body, 0)?,
                start: u64_at(body, 8)?,
                bytes: u64_at(body, 16)?,
                pgoff: u64_at(body, 24)?,
                build_id: if with_build_id {
                    body.get(36..36 + build_id_bytes)?.to_vec()
                } else {
                    Vec::new()
                },
                inode: if with_build_id {
                    None
                } else {
                    Some((u32_at(body, 32)?, u32_at(body, 36)?, u64_at(body, 40)?))
                },
                path: text(body.get(64..)?),
            }
        }
        sys::PERF_RECORD_COMM => Event::Comm {
            pid: u32_at(body, 0)?,
            tid: u32_at(body, 4)?,
            exec: misc & MISC_COMM_EXEC != 0,
            comm: text(body.get(8..)?),
        },
        sys::PERF_RECORD_FORK => Event::Fork {
            pid: u32_at(body, 0)?,
            parent_pid: u32_at(body, 4)?,
            tid: u32_at(body, 8)?,
        },
        sys::PERF_RECORD_EXIT => Event::Exit { pid: u32_at(body, 0)?, tid: u32_at(body, 8)? },
        sys::PERF_RECORD_KSYMBOL => Event::Ksymbol {
            start: u64_at(body, 0)?,
            bytes: u32_at(body, 8)?,
            gone: body.get(14)? & 1 != 0,
            name: text(body.get(16..)?),
        },
        sys::PERF_RECORD_LOST => Event::Lost { n: u64_at(body, 8)? },
        _ => return None,
    };
    Some(Record { time_ns, event })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// A NUL-terminated text.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A COMM record of an exec, laid out by hand as the header describes it.
    #[test]
    fn comm_of_an_exec() {
        let mut bytes = Vec::new();
        bytes.extend(3u32.to_ne_bytes());
        bytes.extend((1u16 << 13).to_ne_bytes());
        bytes.extend(48u16.to_ne_bytes());
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend(8u32.to_ne_bytes());
        bytes.extend(b"cc1\0\0\0\0\0");
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend(8u32.to_ne_bytes());
        bytes.extend(99u64.to_ne_bytes());
        bytes.extend(1u32.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        assert_eq!(
            decode(&bytes),
            Some(Record {
                time_ns: 99,
                event: Event::Comm { pid: 7, tid: 8, exec: true, comm: "cc1".into() }
            })
        );
    }

    /// Every truncation of a record is refused or decoded, never a panic.
    #[test]
    fn short_records() {
        for kind in 0..24u32 {
            for len in 0..160usize {
                let mut bytes = vec![0xffu8; len];
                if len >= 8 {
                    bytes[..4].copy_from_slice(&kind.to_ne_bytes());
                    bytes[6..8].copy_from_slice(&(len as u16).to_ne_bytes());
                }
                let _ = decode(&bytes);
            }
        }
    }
}
