//! What a walk needs of a process, put where the kernel half and the native walk find it: its mappings, and the rows of
//! the text that it runs.
//!
//! In: a process whose mappings changed, or a pc that has no rows. Out: a blob of its mappings, with what
//! runtimes and JITs cover laid over them; a block of rows. Rows of an interpreter's own text are
//! loaded before a walk misses them.
//!
//! # Cost
//! A blob: its mappings once over. A block of 64 KiB of text: about 0.2 ms, once.

use super::Session;
use crate::files::State;
use crate::processes::{self, Mapping};
use crate::tables::without_file;
use hotframe_abi as abi;
use std::collections::BTreeSet;
use std::time::Instant;

/// How far from a runtime's code text is whose rows are loaded before a walk misses them: an interpreter's
/// library has 2 to 4 MiB of text, some 10 ms of rows.
const AHEAD_BYTES: u64 = 2 << 20;

impl Session {
    /// Gets ready for processes that are going to be sampled, as many as there is time for: what runs in
    /// them is known, and runtimes are attached to, before their first sample. A walk that has to wait for
    /// that is finished late, when a class that ran may be gone.
    pub fn expect(&mut self, pids: &BTreeSet<u32>, now_ns: u64, until: Instant) {
        for &pid in pids {
            if Instant::now() >= until {
                break;
            }
            self.processes.refresh(pid, now_ns, &mut self.files);
            self.publish(pid, now_ns);
        }
        self.load_ahead(until);
    }

    /// Publishes a process's mappings if they changed. False if there is nothing to publish or no
    /// room.
    pub(super) fn publish(&mut self, pid: u32, now_ns: u64) -> bool {
        self.processes.compare_copied(pid, now_ns, &mut self.files);
        let Some(process) = self.processes.get(pid) else {
            return false;
        };
        if process.blob.is_some() && !process.is_dirty {
            return true;
        }
        if process.mappings.is_empty() {
            return false;
        }
        let mut without_room = process.without_room;
        let mappings = process.mappings.clone();
        if self.registered.serves(pid) {
            // New memory is where new code lies.
            self.registered.look(pid, process, &mut self.files, &mut self.tables);
        }
        let mut entries = Vec::with_capacity(mappings.len());
        for mapping in mappings.iter() {
            let mut entry = without_file(mapping.start, mapping.end);
            if mapping.file != 0 {
                let id = self.files.open(mapping.file, pid, mapping.start, mapping.end);
                if let Some(image) = self
                    .files
                    .get(id)
                    .and_then(|file| file.elf()?.map_bias(mapping.start, mapping.pgoff))
                {
                    let n_blocks = match &self.files.get(id).map(|file| &file.state) {
                        Some(State::Open(source)) => source.n_blocks(),
                        _ => 0,
                    };
                    if let Some(off) = self.tables.add_file(id, n_blocks) {
                        entry.image = image;
                        entry.file_id = id;
                        entry.file_off = off;
                    }
                }
            }
            entries.push(entry);
        }
        if let Some(process) = self.processes.get(pid) {
            self.runtimes.publish(pid, process, &self.files, &mut self.tables, now_ns);
            self.runtimes.overlay(pid, &mut entries);
        }
        self.registered.overlay(pid, &mut entries, &self.files, &mut self.tables);
        without_room +=
            processes::fit(&mut entries, |entry| entry.file_id == 0 && entry.runtime_off == 0);
        self.processes.note_crowded(pid, without_room);
        let Some(blob) = self.tables.add_blob(&entries, self.runtimes.moment(pid)) else {
            return false;
        };
        let process = self.processes.entry(pid);
        let old = process.blob.replace(blob);
        process.is_dirty = false;
        self.tables.post(process.space_id, blob);
        if let Some(old) = old {
            self.tables.remove_blob(old);
        }
        self.runtimes.published(pid, &mut self.tables);
        true
    }

    /// Loads the rows around a pc. False if there is no room or no such mapping.
    pub(super) fn load_rows(&mut self, pid: u32, pc: u64) -> bool {
        let Some(process) = self.processes.get(pid) else {
            return false;
        };
        let Some(mapping) = process
            .mappings
            .iter()
            .find(|mapping| mapping.start <= pc && pc < mapping.end)
            .cloned()
        else {
            return false;
        };
        let registered = match mapping.file {
            0 => self.registered.file_at(pid, pc),
            _ => None,
        };
        let id = match registered {
            Some(id) => id,
            None => self.files.open(mapping.file, pid, mapping.start, mapping.end),
        };
        let Some(file) = self.files.get_mut(id) else {
            return false;
        };
        let State::Open(source) = &mut file.state else {
            return false;
        };
        let image = match registered {
            Some(_) => Some(source.file().image_base()),
            None => source.file().map_bias(mapping.start, mapping.pgoff),
        };
        let Some(image) = image else { return false };
        let offset = (pc - image) as u32;
        let number = offset >> abi::HF_BLOCK_SHIFT;
        if self.tables.has_block(id, offset) {
            return true;
        }
        file.is_warm = true;
        match source.block(number) {
            Ok(block) => {
                file.bad_fdes += u64::from(block.stats.bad_fdes);
                self.tables.add_block(id, number, &block.rows, &block.rules)
            }
            Err(why) => {
                tracing::debug!(path = file.path, "no rows: {}", crate::chain(&why));
                let bad = abi::hf_row { pc: 0, kind: abi::HF_RULE_BAD as u8, fp: 0, cfa: 0 };
                self.tables.add_block(id, number, &[bad], &[])
            }
        }
    }

    /// Loads the rows of what runs a runtime's code. A walk that misses rows is finished here, when
    /// the process has gone on, and so without the frames that a runtime keeps beside the stack: an
    /// interpreter's own text is where most of them would be missed.
    pub(super) fn load_ahead(&mut self, until: Instant) {
        for (pid, regions) in self.runtimes.take_attached() {
            let Some(process) = self.processes.get(pid) else { continue };
            for region in regions {
                let holds = |mapping: &&Mapping| {
                    mapping.file != 0 && mapping.start <= region.start && region.start < mapping.end
                };
                let Some(mapping) = process.mappings.iter().find(holds) else { continue };
                if self.was_ahead.insert(mapping.file) {
                    let from = region.start.saturating_sub(AHEAD_BYTES).max(mapping.start);
                    let to = region.end.saturating_add(AHEAD_BYTES).min(mapping.end);
                    self.ahead.push_back((pid, from, to));
                }
            }
        }
        while let Some((pid, from, to)) = self.ahead.pop_front() {
            // Rows that nobody missed must not drive out those that somebody did.
            if self.tables.is_pressed() || !self.load_rows(pid, from) {
                continue;
            }
            let last = to.saturating_sub(1);
            let next = from.saturating_add(u64::from(abi::HF_BLOCK_BYTES)).min(last);
            if from < last {
                self.ahead.push_front((pid, next, to));
            }
            if Instant::now() >= until {
                break;
            }
        }
        self.is_settling |= !self.ahead.is_empty();
    }

    /// Looks at processes in whose generated code a sample was taken that nothing covers.
    pub(super) fn look_for_registered(&mut self) {
        for pid in self.registered.take_wanted() {
            let Some(process) = self.processes.get(pid) else { continue };
            if self.registered.look(pid, process, &mut self.files, &mut self.tables) {
                self.processes.entry(pid).is_dirty = true;
                self.unpublished.insert(pid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sideband::{self, Event};
    use crate::tables::{OwnMemory, Tables};

    /// Of a process that maps more than fits it is said, once it is published.
    #[test]
    fn a_crowded_process() {
        let mut session = Session::new(Tables::new(Box::new(OwnMemory::new(1 << 20))), None);
        for number in 0..u64::from(abi::HF_MAX_MAPPINGS) + 3 {
            let event = Event::Mmap {
                pid: 7,
                start: number << 13,
                bytes: 4096,
                pgoff: 0,
                build_id: Vec::new(),
                inode: None,
                path: "//anon".into(),
            };
            session.event(sideband::Record { time_ns: 1, event });
        }
        assert_eq!(session.processes.problems().count(), 0);
        assert!(session.publish(7, 1));
        let told: Vec<(u32, String)> = session.processes.problems().collect();
        assert!(told.len() == 1 && told[0].0 == 7, "{told:?}");
        assert!(told[0].1.contains("8192 places: 3 found no room"), "{told:?}");
    }
}
