//! Runtimes at work in a recorded process, by the code that serves one that runs.

use super::{RecordedProcess, Traced};
use crate::runtimes;
use hotframe_abi as abi;
use hotframe_objects::{ElfFile, ReadAt};
use hotframe_runtime::{Attached, Frame, KNOWN_WORDS, Known, Outcome, RawFrame, Runtime, Why};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// A runtime at work in a recorded process.
pub(super) struct Served {
    pub(super) runtime: &'static dyn Runtime,
    bias: u64,
    pub(super) attached: Box<dyn Attached>,
}

/// Functions that are known again, as the frame store knows them.
#[derive(Default)]
struct Remembered(RefCell<HashMap<[u64; KNOWN_WORDS], Frame>>);

impl Known for Remembered {
    fn find(&self, words: &[u64; KNOWN_WORDS]) -> Option<Frame> {
        self.0.borrow().get(words).cloned()
    }

    fn keep(&self, words: &[u64; KNOWN_WORDS], frame: &Frame) {
        self.0.borrow_mut().insert(*words, frame.clone());
    }
}

/// Runtimes at work in a recorded process.
pub(super) struct RecordedRuntimes<'a> {
    process: &'a RecordedProcess,
    files: &'a [Traced],
    pub(super) memory: hotframe_runtime::Memory,
    known: Remembered,
    pub(super) served: Vec<Served>,
    pub(super) problems: Vec<String>,
    pub(super) reads: Vec<u64>,
}

impl<'a> RecordedRuntimes<'a> {
    /// Those of the registry that a file of the process is.
    pub(super) fn attach(
        process: &'a RecordedProcess,
        registry: &[&'static dyn Runtime],
        files: &'a [Traced],
        ends_after: u64,
    ) -> RecordedRuntimes<'a> {
        let memory = match registry {
            [] => Vec::new(),
            _ => process.memory.clone(),
        };
        let mut all = RecordedRuntimes {
            process,
            files,
            memory: hotframe_runtime::Memory::recorded(memory),
            known: Remembered::default(),
            served: Vec::new(),
            problems: Vec::new(),
            reads: Vec::new(),
        };
        all.memory.end_after(ends_after);
        if registry.is_empty() {
            return all;
        }
        for (at, file) in files.iter().enumerate() {
            let Ok(elf) = ElfFile::open(file as &dyn ReadAt) else { continue };
            let mapping = process.mappings.iter().find(|mapping| mapping.file as usize == at + 1);
            let Some(mapping) = mapping else { continue };
            let Some(image) = elf.map_bias(mapping.start, mapping.pgoff) else { continue };
            let bias = image.wrapping_sub(elf.image_base());
            for recognised in runtimes::recognise(registry, &file.file.path, &elf) {
                let runtime = recognised.runtime;
                let attached = recognised.layout.and_then(|layout| {
                    all.with(bias, |view| layout.attach(view)).map_err(|why| why.to_string())
                });
                match attached {
                    Ok(attached) => all.served.push(Served { runtime, bias, attached }),
                    Err(why) => all.problems.push(format!("{}: {why}", runtime.name())),
                }
            }
        }
        all
    }

    fn with<T>(&self, bias: u64, f: impl FnOnce(&hotframe_runtime::Process<'_>) -> T) -> T {
        let make = || {
            let mappings = self.process.mappings.iter();
            let path = |file: u32| {
                let at = (file as usize).checked_sub(1);
                at.and_then(|at| self.files.get(at)).map(|file| file.file.path.clone())
            };
            mappings
                .map(|mapping| hotframe_runtime::Mapping {
                    start: mapping.start,
                    end: mapping.end,
                    pgoff: mapping.pgoff,
                    path: path(mapping.file).unwrap_or_default(),
                })
                .collect()
        };
        let open = |wanted: &hotframe_runtime::Mapping| {
            let mapping =
                self.process.mappings.iter().find(|mapping| mapping.start == wanted.start)?;
            let file = self.files.get((mapping.file as usize).checked_sub(1)?)?;
            Some(Arc::new(file.clone()) as Arc<dyn ReadAt + Send + Sync>)
        };
        f(&hotframe_runtime::Process {
            pid: 0,
            bias,
            memory: &self.memory,
            naming: hotframe_runtime::Naming::default(),
            known: &self.known,
            mappings: &hotframe_runtime::Mappings::new(&make),
            open: &open,
        })
    }

    /// Names the frames of runtimes among the words.
    pub(super) fn name(&mut self, words: &[u64]) -> Vec<Result<Vec<Frame>, Why>> {
        let mut all = Vec::new();
        let mut at = 0;
        while let Some(&head) = words.get(at) {
            let head = abi::FrameWord(head);
            let data = words.get(at + 1..at + 1 + head.n_data_words()).unwrap_or_default();
            at += 1 + head.n_data_words();
            if head.kind() != abi::HF_FRAME_DYNAMIC {
                continue;
            }
            let raw = RawFrame { head, data, told: None };
            let mut answer = Err(Why::ProcessGone);
            let before = self.memory.reads();
            let mut served = std::mem::take(&mut self.served);
            for served in served.iter_mut().filter(|one| one.runtime.id() == head.runtime()) {
                self.memory.forget();
                served.attached.read_ahead(&[raw], &self.memory);
                let mut frames = Vec::new();
                let outcome =
                    self.with(served.bias, |view| served.attached.resolve(&raw, view, &mut frames));
                match outcome {
                    Outcome::Named => {
                        answer = Ok(frames);
                        break;
                    }
                    Outcome::Unnamed(why) => answer = Err(why),
                }
            }
            self.served = served;
            all.push(answer);
            self.reads.push(self.memory.reads() - before);
        }
        all
    }
}
