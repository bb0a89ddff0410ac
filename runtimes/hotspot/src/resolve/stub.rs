//! Frames of code that is no method: stubs, adapters and intrinsics, by the names that HotSpot gives them.
//!
//! In: a frame in a blob, with a cookie of its name's address. Out: one internal frame with the blob's name; of
//! `StubRoutines`, in which there are many, the routine's own, from the list that HotSpot keeps of them
//! (`../stubs.rs`). The blob's name is looked at again after all else was read.
//!
//! # Cost
//! Three reads. The list: one search of libjvm's symbols and one pass over it for each blob that holds such stubs.

use super::{Resolver, blob_and_pc};
use crate::abi;
use crate::stubs::{self, Stub};
use hotframe_objects::ElfFile;
use hotframe_runtime::{Frame, Process, RawFrame, Why};

#[derive(Default)]
pub(super) struct Stubs {
    /// ELF address of the list; `None`: not looked for so far.
    list: Option<Option<u64>>,
    all: Vec<Stub>,
    /// Blobs that were there when the list was read.
    blobs: Vec<u64>,
}

impl Resolver {
    pub(super) fn stub(
        &mut self,
        raw: &RawFrame<'_>,
        process: &Process<'_>,
        frames: &mut Vec<Frame>,
    ) -> Result<(), Why> {
        let memory = process.memory;
        let (blob, pc) = blob_and_pc(raw);
        let cookie = (raw.word(0) >> abi::HF_HOTSPOT_COOKIE_SHIFT) as u32;
        let address = memory.u64(blob + u64::from(self.offsets.blob_name)).ok_or(
            if self.epoch(memory).is_none() { Why::ProcessGone } else { Why::StalePointer },
        )?;
        if address as u32 & abi::HF_HOTSPOT_COOKIE_MASK != cookie {
            return Err(Why::StalePointer);
        }
        let text = memory.c_string(address, 128).ok_or(Why::StalePointer)?;
        if text.is_empty() || !text.iter().all(|byte| (b' '..0x7f).contains(byte)) {
            return Err(Why::StalePointer);
        }
        let lookup = pc.wrapping_sub(raw.head.call_offset());
        let name = if text.starts_with(b"StubRoutines") {
            self.routine(process, blob, lookup).unwrap_or(text)
        } else {
            match text.as_slice() {
                b"vtable chunks" => b"vtable stub".to_vec(),
                _ => text,
            }
        };
        // What could not be read meanwhile made the name a coarser one.
        let mut still = [0; 8];
        if !memory.read_fresh(blob + u64::from(self.offsets.blob_name), &mut still) {
            return Err(Why::ProcessGone);
        }
        if u64::from_le_bytes(still) != address {
            return Err(Why::StalePointer);
        }
        frames.push(Frame { name, is_internal: true, ..Frame::default() });
        Ok(())
    }

    /// The name of the stub at a pc.
    fn routine(&mut self, process: &Process<'_>, blob: u64, pc: u64) -> Option<Vec<u8>> {
        let bias = self.bias;
        // The one that is in every stack is published: the list takes a search of the symbols.
        if let Some(at) = self.offsets.call_stub_return
            && process.memory.u64(at.wrapping_add(bias)) == pc.checked_add(1)
        {
            return Some(b"StubRoutines::call_stub".to_vec());
        }
        let list = *self.stubs.list.get_or_insert_with(|| {
            process.mappings.iter().filter(|mapping| mapping.start >= bias).find_map(|mapping| {
                let file = (process.open)(mapping)?;
                let elf = ElfFile::open(&*file).ok()?;
                let image = elf.map_bias(mapping.start, mapping.pgoff)?;
                (image.wrapping_sub(elf.image_base()) == bias).then(|| stubs::find_list(&elf))?
            })
        });
        if let Some(list) = list
            && !self.stubs.blobs.contains(&blob)
        {
            self.stubs.all = stubs::read_list(process.memory, list.wrapping_add(bias));
            self.stubs.blobs.push(blob);
        }
        stubs::find(&self.stubs.all, pc).map(|stub| stub.name.clone())
    }
}
