//! Language runtimes at work: which files are theirs, which processes they serve, who names a frame.
//!
//! In: files as they are opened, processes as their mappings are published, and the frames that the
//! steps of runtimes sent. Out: regions and tables for the kernel half, and named frames. What a
//! runtime is and does stands in `hotframe-runtime`; nothing here knows one by name.
//!
//! # How it works
//! A file is looked at once, when it is opened: only one whose symbols or sections have a runtime's
//! signs is asked about. A process is attached to when its mappings are published, so that its
//! first sample already finds the regions; while a runtime is starting it is tried again after a part
//! of the time that it has taken so far, up to [`WAIT_MAX_NS`], for [`LOADING_NS`] whatever was wrong. What is unloaded
//! is taken back when the mappings that lack it are published. A frame is named from the memory of its
//! process, off the walk, before the pass that brought it ends, as long as the pass has time. When the
//! next pass should come is said by how long the processes have lived ([`Runtimes::look_at_ns`]).
//!
//! # Cost
//! A look at `.dynsym` a file. Attaching is the runtime's: some tens of reads. The kernel half gets a runtime's step
//! when the first process maps it, some 80 ms before it is needed, and keeps it, also if it is never started.

use crate::files::{FileId, Files};
use crate::processes::{Mapping, Process};
use crate::recording::Incarnation;
use crate::tables::{Table, Tables, without_file};
use crate::told::Told;
use hotframe_abi as abi;
use hotframe_objects::{ElfFile, ReadAt};
use hotframe_runtime::{
    AHEAD, Attached, Begun, Executable, Frame, KNOWN_WORDS, Kept, Known, Layout, Memory, Naming,
    NothingKnown, Outcome, RawFrame, Region, Runtime, Unusable, Why, elf,
};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// Least and longest wait before a runtime that is starting is tried again, and the longest before the frames
/// of one that is not old are taken.
const WAIT_MIN_NS: u64 = 2_000_000;
const WAIT_MAX_NS: u64 = 1_000_000_000;
/// What has taken so long may be expected to take as long again: who looks after a part of that is late
/// by no more than the part, and looks only as often as the logarithm of the time grows.
const STARTING_PART: u64 = 8;
/// Likewise of what may end, with the names of what it ran. Where such processes come and go all the time,
/// passes come as often as the least wait says: it is that of new frames.
const LIVING_PART: u64 = 16;
const LIVING_MIN_NS: u64 = 10_000_000;
/// How long after a file was met in a process nothing that is found there is final.
const LOADING_NS: u64 = 5_000_000_000;
/// A runtime is told of the time at most so often, to look for what changes without a mapping.
const REFRESH_NS: u64 = 100_000_000;
/// Processes of the same program that are asked for a name besides the frame's own.
const RELATIVES_MAX: usize = 3;

/// Opens the file behind a mapping.
type OpenMapping<'a> =
    dyn Fn(&hotframe_runtime::Mapping) -> Option<Arc<dyn ReadAt + Send + Sync>> + 'a;

/// What a file was recognised as.
pub struct Recognised {
    /// The runtime.
    pub runtime: &'static dyn Runtime,
    /// What the file says of it, or why it cannot be used.
    pub layout: Result<Arc<dyn Layout>, String>,
}

/// Which of the registry's runtimes a file is. Their recognisers are asked only if it has a sign.
pub fn recognise(
    registry: &[&'static dyn Runtime],
    path: &str,
    elf: &ElfFile<&dyn ReadAt>,
) -> Vec<Recognised> {
    let mut found = Vec::new();
    let hits = with_signs(registry, elf);
    let executable = Executable { path, elf };
    for (&runtime, _) in registry.iter().zip(hits).filter(|(_, hit)| *hit) {
        let layout = match runtime.recognise(&executable) {
            Ok(None) => continue,
            Ok(Some(layout)) => {
                tracing::debug!(
                    path,
                    runtime = runtime.name(),
                    version = layout.version(),
                    "recognised"
                );
                Ok(layout)
            }
            Err(why) => {
                let why = crate::chain(&why);
                tracing::debug!(path, "{}: {why}", runtime.name());
                Err(why)
            }
        };
        found.push(Recognised { runtime, layout });
    }
    found
}

/// A runtime in a process.
struct Served {
    runtime: &'static dyn Runtime,
    /// `None`: the file was recognised but cannot be used.
    layout: Option<Arc<dyn Layout>>,
    file: FileId,
    bias: u64,
    /// When it was first seen there.
    met_ns: u64,
    state: State,
    /// Until it is attached, if ever: what counts the stacks that lack its frames.
    stand_in: Option<StandIn>,
}

struct StandIn {
    attached: Box<dyn Attached>,
    table: Option<Table>,
}

impl Served {
    /// Where the runtime's step is called, and with which table.
    fn regions(&self) -> Option<(&[Region], &Table)> {
        match &self.state {
            State::Attached { attached, table } => Some((attached.regions(), table.as_ref()?)),
            _ => {
                let StandIn { attached, table } = self.stand_in.as_ref()?;
                Some((attached.regions(), table.as_ref()?))
            }
        }
    }

    fn kept(&self) -> Kept {
        match &self.state {
            State::Attached { attached, .. } => attached.kept(),
            _ => Kept::default(),
        }
    }

    fn into_tables(self) -> impl Iterator<Item = Table> {
        let own = match self.state {
            State::Attached { table, .. } => table,
            _ => None,
        };
        own.into_iter().chain(self.stand_in.and_then(|stand_in| stand_in.table))
    }
}

enum State {
    /// Not so far: when it is tried again.
    Starting {
        due_ns: u64,
        why: String,
        begun: Begun,
    },
    Attached {
        attached: Box<dyn Attached>,
        table: Option<Table>,
    },
    Unusable(String),
}

/// A process with runtimes.
struct Serving {
    /// `Process::image`: another one is another program.
    image: u64,
    /// Known from its first sample on.
    incarnation: Option<Incarnation>,
    memory: Memory,
    naming: Naming,
    served: Vec<Served>,
    refreshed_ns: u64,
    /// Tables that the blob published last may still name.
    replaced: Vec<Table>,
}

/// Who asks for the names of a process's frames, and keeps them.
pub trait Asker {
    /// Takes a question's index and its frames, innermost first, or why there are none.
    fn answer(&mut self, at: usize, named: Result<&[Frame], Why>);

    /// Answers a question by another frame of the process, if that is known: whether it is.
    fn answer_alike(&mut self, at: usize, words: &[u64]) -> bool;

    /// The function that was kept under these words: see [`Known`].
    fn find(&mut self, words: &[u64]) -> Option<Frame>;

    /// Keeps one.
    fn keep(&mut self, words: &[u64], frame: &Frame);
}

/// What the asker keeps for a runtime.
struct KnownTo<'a, 'b> {
    asker: &'a RefCell<&'b mut dyn Asker>,
    runtime: u32,
}

impl KnownTo<'_, '_> {
    /// A dynamic frame's words, of which a step sends none: it says of no frame that it has so many.
    fn words(&self, key: &[u64; KNOWN_WORDS]) -> [u64; KNOWN_WORDS + 2] {
        const MARK: u64 = u64::MAX;
        let n_data = KNOWN_WORDS as u64 + 1;
        let head = u64::from(abi::HF_FRAME_DYNAMIC) << abi::HF_FRAME_KIND_SHIFT
            | u64::from(self.runtime) << abi::HF_FRAME_RUNTIME_SHIFT
            | n_data << abi::HF_FRAME_N_DATA_SHIFT;
        let [a, b, c, d] = *key;
        [head, a, b, c, d, MARK]
    }
}

impl Known for KnownTo<'_, '_> {
    fn find(&self, key: &[u64; KNOWN_WORDS]) -> Option<Frame> {
        self.asker.borrow_mut().find(&self.words(key))
    }

    fn keep(&self, key: &[u64; KNOWN_WORDS], frame: &Frame) {
        self.asker.borrow_mut().keep(&self.words(key), frame);
    }
}

/// What is known beside a frame's process.
struct Around<'a, 't> {
    told: &'a dyn Fn([u64; 2]) -> Option<&'t [u8]>,
    known: &'a dyn Known,
    mappings: &'a hotframe_runtime::Mappings<'a>,
    open: &'a OpenMapping<'a>,
}

impl Serving {
    fn is_attached(&self) -> bool {
        self.served.iter().any(|served| matches!(served.state, State::Attached { .. }))
    }

    /// A frame that was named before and has the same names.
    fn alike(&self, raw: &RawFrame<'_>) -> Option<[u64; 2]> {
        let mut of = self.served.iter().filter(|served| served.runtime.id() == raw.head.runtime());
        of.find_map(|served| match &served.state {
            State::Attached { attached, .. } => attached.alike(raw),
            _ => None,
        })
    }

    /// Reads what these frames are named from, as far as several of them can be read at once.
    fn read_ahead<'f>(&self, frames: impl Iterator<Item = RawFrame<'f>>) {
        let frames: Vec<RawFrame<'f>> = frames.filter(|raw| self.alike(raw).is_none()).collect();
        for served in &self.served {
            let State::Attached { attached, .. } = &served.state else { continue };
            let of = |raw: &&RawFrame<'f>| raw.head.runtime() == served.runtime.id();
            let its: Vec<RawFrame<'f>> = frames.iter().filter(of).copied().collect();
            if !its.is_empty() {
                attached.read_ahead(&its, &self.memory);
            }
        }
    }

    /// Names a frame: appends to `frames`, which is emptied first. `told` finds what its step told
    /// by a key.
    fn resolve(
        &mut self,
        pid: u32,
        raw: &RawFrame<'_>,
        around: &Around<'_, '_>,
        frames: &mut Vec<Frame>,
    ) -> Outcome {
        let &Around { told, known, mappings, open } = around;
        let mut outcome = Outcome::Unnamed(Why::ProcessGone);
        frames.clear();
        // Two of a kind in one process (interpreters in two libraries): the one that can.
        for served in &mut self.served {
            let State::Attached { attached, .. } = &mut served.state else { continue };
            if served.runtime.id() != raw.head.runtime() {
                continue;
            }
            let view = hotframe_runtime::Process {
                pid,
                bias: served.bias,
                memory: &self.memory,
                naming: self.naming,
                known,
                mappings,
                open,
            };
            let told = attached.told_key(raw).and_then(told);
            outcome = attached.resolve(&RawFrame { told, ..*raw }, &view, frames);
            if outcome == Outcome::Named {
                break;
            }
            frames.clear();
        }
        outcome
    }
}

/// What became of a runtime in a process: a line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The process.
    pub pid: u32,
    /// Name of the runtime.
    pub runtime: &'static str,
    /// Its version, as the file says it; empty: the file cannot be used.
    pub version: String,
    /// Why it is not served; empty: it is.
    pub problem: String,
}

/// All runtimes and whom they serve.
#[derive(Default)]
pub struct Runtimes {
    registry: &'static [&'static dyn Runtime],
    naming: Naming,
    files: HashMap<FileId, Vec<Recognised>>,
    serving: HashMap<u32, Serving>,
    met: Met,
    /// Those that the kernel half is without, and whether their processes have to be told.
    refused: u32,
    is_newly_refused: bool,
    told: Told,
    gone: Vec<Report>,
    /// What runtimes took out of what they kept, of processes that are forgotten.
    evictions_gone: u64,
    /// Tables of processes that are forgotten.
    orphans: Vec<Table>,
}

/// What attaching to processes led to.
#[derive(Default)]
struct Met {
    /// Bits `1 << HF_RUNTIME_*` of those that serve or served a process, or may soon.
    wanted: u32,
    /// Processes and the regions there, since this was last taken.
    attached: Vec<(u32, Vec<Region>)>,
}

impl std::fmt::Debug for Runtimes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtimes").field("wanted", &self.met.wanted).finish_non_exhaustive()
    }
}

/// Lines of the report that are kept of processes that ended.
const GONE_MAX: usize = 1024;

impl Runtimes {
    /// Those of a registry; nobody is served.
    pub fn new(registry: &'static [&'static dyn Runtime]) -> Runtimes {
        Runtimes { registry, ..Runtimes::default() }
    }

    /// Names are written like this.
    #[must_use]
    pub fn naming(self, naming: Naming) -> Runtimes {
        Runtimes { naming, ..self }
    }

    /// The kernel half has not the steps of these runtimes: their code is left to the native rules.
    pub fn refuse(&mut self, mask: u32) {
        self.is_newly_refused |= mask & !self.refused != 0;
        self.refused |= mask;
    }

    /// Bytes of heap that what is known of files takes: an entry for each file that was ever opened.
    pub fn heap_bytes(&self) -> usize {
        let known = self.files.values().map(|found| found.capacity() * size_of::<Recognised>());
        self.files.capacity() * size_of::<(FileId, Vec<Recognised>)>() + known.sum::<usize>()
    }

    /// What runtimes keep of what they read in the processes that are attached to.
    pub fn kept(&self) -> Kept {
        let mut all = Kept { evictions: self.evictions_gone, ..Kept::default() };
        for served in self.serving.values().flat_map(|serving| &serving.served) {
            all += served.kept();
        }
        all
    }

    /// Has runtimes give back what they keep, of the process first that has most, until it is no more than
    /// `room_bytes` in all: each has a bound, and a machine may run hundreds. Returned is what they keep then.
    pub fn cool(&mut self, room_bytes: u64) -> Kept {
        let kept = self.kept();
        let mut bytes = kept.bytes;
        while bytes > room_bytes {
            let all = self.serving.values_mut().flat_map(|serving| &mut serving.served);
            let Some(most) = all.max_by_key(|served| served.kept().bytes) else { break };
            let before = most.kept().bytes;
            if let State::Attached { attached, .. } = &mut most.state {
                attached.forget();
            }
            let given_back = before.saturating_sub(most.kept().bytes);
            if given_back == 0 {
                break;
            }
            bytes -= given_back;
        }
        // Counting takes a look at each table: once, but where something went.
        if bytes == kept.bytes { kept } else { self.kept() }
    }

    /// What steps told beside their frames, as far as it is kept.
    pub fn kept_told(&self) -> Kept {
        self.told.kept()
    }

    /// Bits `1 << HF_RUNTIME_*` of the steps that the kernel half needs.
    pub fn wanted(&self) -> u32 {
        self.met.wanted
    }

    /// Looks at a file that was opened. Once: the answer is kept.
    fn recognise(&mut self, id: FileId, files: &Files) {
        if self.registry.is_empty() || self.files.contains_key(&id) {
            return;
        }
        let Some(file) = files.get(id) else { return };
        let Some(reader) = file.reader() else { return };
        let found = match ElfFile::open(reader as &dyn ReadAt) {
            Ok(elf) => recognise(self.registry, &file.path, &elf),
            Err(_) => Vec::new(),
        };
        self.files.insert(id, found);
    }

    /// A process's mappings are about to be published: attaches what its files call for and tells
    /// those that are attached.
    pub fn publish(
        &mut self,
        pid: u32,
        process: &Process,
        files: &Files,
        tables: &mut Tables,
        now_ns: u64,
    ) {
        if self.registry.is_empty() {
            return;
        }
        let mut calls: Vec<(FileId, u64)> = Vec::new();
        for mapping in process.mappings.iter().filter(|mapping| mapping.file != 0) {
            let id = files.actual(mapping.file);
            self.recognise(id, files);
            if self.files.get(&id).is_none_or(Vec::is_empty)
                || calls.iter().any(|(known, _)| *known == id)
            {
                continue;
            }
            let Some(bias) = bias(files, id, mapping) else { continue };
            calls.push((id, bias));
        }
        if self.serving.get(&pid).is_some_and(|serving| serving.image != process.image) {
            self.forget(pid);
        }
        self.drop_unloaded(pid, process, files);
        if calls.is_empty() {
            return;
        }
        let serving = self.serving.entry(pid).or_insert_with(|| Serving {
            image: process.image,
            incarnation: None,
            memory: Memory::of(pid),
            naming: self.naming,
            served: Vec::new(),
            refreshed_ns: 0,
            replaced: Vec::new(),
        });
        for (id, bias) in calls {
            for recognised in self.files.get(&id).into_iter().flatten() {
                let is_known = |served: &Served| {
                    (served.file, served.bias) == (id, bias)
                        && served.runtime.id() == recognised.runtime.id()
                };
                if !serving.served.iter().any(is_known) {
                    // One that cannot be used is kept for the report alone.
                    let state = match &recognised.layout {
                        Ok(_) => State::Starting { due_ns: 0, why: String::new(), begun: None },
                        Err(why) => State::Unusable(why.clone()),
                    };
                    serving.served.push(Served {
                        runtime: recognised.runtime,
                        layout: recognised.layout.as_ref().ok().cloned(),
                        file: id,
                        bias,
                        met_ns: now_ns,
                        state,
                        stand_in: None,
                    });
                }
            }
        }
        refresh(&mut self.met, pid, serving, process, files, tables, now_ns, true);
    }

    /// Takes back what serves a file that the process has not mapped any more (`dlclose`), or not there:
    /// it may have been loaded again in between.
    fn drop_unloaded(&mut self, pid: u32, process: &Process, files: &Files) {
        let Some(serving) = self.serving.get_mut(&pid).filter(|_| process.is_complete) else {
            return;
        };
        let mut mapped: Vec<(FileId, Option<u64>)> = Vec::new();
        for mapping in process.mappings.iter().filter(|mapping| mapping.file != 0) {
            let id = files.actual(mapping.file);
            if serving.served.iter().any(|served| served.file == id) {
                mapped.push((id, bias(files, id, mapping)));
            }
        }
        let is_unloaded = |served: &mut Served| {
            !mapped
                .iter()
                .any(|&(id, bias)| id == served.file && bias.is_none_or(|bias| bias == served.bias))
        };
        let unloaded: Vec<Served> = serving.served.extract_if(.., is_unloaded).collect();
        for served in unloaded {
            if self.gone.len() < GONE_MAX {
                self.gone.push(report(pid, &served));
            }
            self.evictions_gone += served.kept().evictions;
            serving.replaced.extend(served.into_tables());
        }
    }

    /// Tries again what was starting, and tells all of the time. Returns processes whose regions or
    /// tables changed: they have to be published anew.
    pub fn tick<'p>(
        &mut self,
        now_ns: u64,
        process: impl Fn(u32) -> Option<&'p Process>,
        files: &Files,
        tables: &mut Tables,
    ) -> Vec<u32> {
        let mut changed = Vec::new();
        let mut gone = Vec::new();
        let is_newly_refused = std::mem::take(&mut self.is_newly_refused);
        for (&pid, serving) in &mut self.serving {
            match process(pid).filter(|process| process.image == serving.image) {
                Some(process) => {
                    if refresh(&mut self.met, pid, serving, process, files, tables, now_ns, false)
                        || is_newly_refused
                    {
                        changed.push(pid);
                    }
                }
                None => gone.push(pid),
            }
        }
        for pid in gone {
            self.forget(pid);
        }
        changed
    }

    /// When the next pass should come, whatever else happens: for a runtime that is starting, which is tried
    /// again then, and for a process that was met not long ago, which may end as soon, with the names of
    /// the frames that were sampled meanwhile. Of processes that are there, and last for long: never.
    pub fn look_at_ns<'p>(&self, now_ns: u64, process: impl Fn(u32) -> Option<&'p Process>) -> u64 {
        let is_there = |pid| process(pid).is_some_and(|process| process.exited_ns.is_none());
        let looks =
            self.serving.iter().filter(|(pid, _)| is_there(**pid)).flat_map(|(_, serving)| {
                serving.served.iter().map(|served| match &served.state {
                    State::Starting { due_ns, .. } => *due_ns,
                    State::Attached { .. } => match wait_ns(served.met_ns, now_ns, LIVING_PART) {
                        WAIT_MAX_NS => u64::MAX,
                        wait_ns => now_ns.saturating_add(wait_ns.max(LIVING_MIN_NS)),
                    },
                    State::Unusable(_) => u64::MAX,
                })
            });
        looks.min().unwrap_or(u64::MAX)
    }

    /// Processes that a runtime was attached to since this was last asked, and its regions.
    pub fn take_attached(&mut self) -> Vec<(u32, Vec<Region>)> {
        std::mem::take(&mut self.met.attached)
    }

    /// A process's mappings were published: nothing names its former tables any more.
    pub fn published(&mut self, pid: u32, tables: &mut Tables) {
        if let Some(serving) = self.serving.get_mut(&pid) {
            serving.replaced.drain(..).for_each(|table| tables.remove_table(table));
        }
    }

    /// Frees the tables of processes that are forgotten. Their blobs have to be gone.
    pub fn sweep(&mut self, tables: &mut Tables) {
        self.orphans.drain(..).for_each(|table| tables.remove_table(table));
    }

    fn forget(&mut self, pid: u32) {
        let Some(serving) = self.serving.remove(&pid) else { return };
        if self.gone.len() < GONE_MAX {
            self.gone.extend(reports(pid, &serving));
        }
        self.evictions_gone +=
            serving.served.iter().map(|served| served.kept().evictions).sum::<u64>();
        self.orphans.extend(serving.replaced);
        self.orphans.extend(serving.served.into_iter().flat_map(Served::into_tables));
    }

    /// A sample says which program a process runs.
    pub fn saw(&mut self, incarnation: Incarnation) {
        if let Some(serving) = self.serving.get_mut(&incarnation.pid)
            && serving.incarnation.is_none()
        {
            serving.incarnation = Some(incarnation);
        }
    }

    /// A runtime's name, and why frames of it may be missing.
    pub fn losses_of(&self, id: u32) -> (&'static str, &'static [&'static str]) {
        let runtime = self.registry.iter().find(|runtime| runtime.id() == id);
        runtime.map_or(("unknown", &[]), |runtime| (runtime.name(), runtime.lost_names()))
    }

    /// A step in the kernel half counted that a stack of the process lacks its frames.
    pub fn lost(&mut self, pid: u32) {
        let Some(serving) = self.serving.get_mut(&pid) else { return };
        for served in &mut serving.served {
            if let State::Attached { attached, .. } = &mut served.state {
                attached.lost();
            }
        }
    }

    /// Gives the parts of a process's mappings that belong to runtimes to them. `entries` are
    /// sorted, and stay so.
    pub fn overlay(&self, pid: u32, entries: &mut Vec<abi::hf_mapping>) {
        let Some(serving) = self.serving.get(&pid) else { return };
        for served in &serving.served {
            if self.refused & 1 << served.runtime.id() != 0 {
                continue;
            }
            if let Some((regions, table)) = served.regions() {
                regions.iter().for_each(|region| overlay(entries, *region, table.off));
            }
        }
    }

    /// The table whose step is asked before a slice of a process is sent; 0: none.
    pub fn moment(&self, pid: u32) -> u32 {
        let Some(serving) = self.serving.get(&pid) else { return 0 };
        let of = |served: &Served| match &served.state {
            State::Attached { attached, table: Some(table) } if attached.has_moment() => {
                Some(table.off)
            }
            _ => None,
        };
        serving.served.iter().find_map(of).unwrap_or_default()
    }

    /// What a step told beside its frames.
    pub fn told(&mut self, head: &abi::hf_told, record: &[u8]) {
        self.told.add(head, record);
    }

    /// Does a process have a runtime at work? One that inherited its regions by a fork has none
    /// until its mappings are published.
    pub fn serves(&self, pid: u32) -> bool {
        self.serving.contains_key(&pid)
    }

    /// Names frames of one process, as long as there is time; returns how many were looked at.
    pub fn resolve(
        &mut self,
        incarnation: Incarnation,
        questions: &[&[u64]],
        process: Option<&Process>,
        files: &Files,
        until: Instant,
        asker: &mut dyn Asker,
    ) -> usize {
        let own = self.serving.get(&incarnation.pid).filter(|serving| {
            // Another program now has the pid.
            serving.incarnation.is_none_or(|served| served == incarnation)
        });
        let image = process.map(|process| process.image).or(own.map(|serving| serving.image));
        // What was forked from the same program has the same objects at the same addresses, and may
        // live longer: each name is checked against the frame by whoever gives it.
        let relatives = self.serving.iter().filter(|(pid, serving)| {
            **pid != incarnation.pid && image == Some(serving.image) && serving.is_attached()
        });
        let mut pids: Vec<u32> = relatives.map(|(&pid, _)| pid).collect();
        // The parent first: others are its children too, and may be gone as well.
        let parent = process.map_or(0, |process| process.parent);
        pids.sort_unstable_by_key(|&pid| (pid != parent, pid));
        pids.truncate(RELATIVES_MAX);
        let is_served = own.is_some();
        if is_served {
            pids.insert(0, incarnation.pid);
        }
        let Some(process) = process.filter(|_| !pids.is_empty()) else {
            (0..questions.len()).for_each(|at| asker.answer(at, Err(Why::ProcessGone)));
            return questions.len();
        };
        let make = || view_mappings(process, files);
        let mappings = hotframe_runtime::Mappings::new(&make);
        let open = |mapping: &hotframe_runtime::Mapping| open_mapping(process, files, mapping);
        let mut frames = Vec::new();
        let asker = RefCell::new(asker);
        let mut n_asked = questions.len();
        self.forget_pages(&pids);
        for (at, words) in questions.iter().enumerate() {
            if at > 0 && Instant::now() >= until {
                n_asked = at;
                break;
            }
            if at % AHEAD == 0
                && let Some(own) = self.serving.get(&incarnation.pid).filter(|_| is_served)
            {
                own.read_ahead(questions.iter().skip(at).take(AHEAD).map(|words| raw(words)));
            }
            let raw = raw(words);
            let own = self.serving.get(&incarnation.pid).filter(|_| is_served);
            if let Some(words) = own.and_then(|serving| serving.alike(&raw))
                && asker.borrow_mut().answer_alike(at, &words)
            {
                continue;
            }
            // Of the frame's own process, whoever names it.
            let (runtime, store) = (raw.head.runtime(), &self.told);
            let known = KnownTo { asker: &asker, runtime };
            let was_told = Cell::new(false);
            let mut ask = |uses_told: bool| {
                let told = |frame| {
                    let record = store.find(incarnation, runtime, frame);
                    was_told.set(was_told.get() || record.is_some());
                    record.filter(|_| uses_told)
                };
                ask_in_turn(&mut self.serving, &pids, |pid, serving| {
                    // What a relative has is not this one's.
                    let known: &dyn Known =
                        if pid == incarnation.pid { &known } else { &NothingKnown };
                    let (told, mappings, open) = (&told, &mappings, &open);
                    let around = Around { told, known, mappings, open };
                    serving.resolve(pid, &raw, &around, &mut frames)
                })
            };
            // What was told has only the beginning of a table of lines: a relative that can be read
            // knows all of it, and is asked first.
            let has_relatives = pids.len() > 1;
            let mut outcome = ask(!has_relatives);
            if has_relatives && outcome != Outcome::Named && was_told.get() {
                outcome = ask(true);
            }
            asker.borrow_mut().answer(
                at,
                match outcome {
                    Outcome::Named if !frames.is_empty() => Ok(&frames),
                    Outcome::Named => Err(Why::Unsupported),
                    Outcome::Unnamed(why) => Err(why),
                },
            );
        }
        self.forget_pages(&pids);
        n_asked
    }

    /// What was read for frames that were asked before is not believed: it may be old. All of one asking
    /// were sampled before anything is read for it, and who names them looks past the cache in the end,
    /// so that a page that was read for another of them is of the time in between.
    fn forget_pages(&self, pids: &[u32]) {
        pids.iter().filter_map(|pid| self.serving.get(pid)).for_each(|it| it.memory.forget());
    }

    /// What became of each runtime of each process.
    pub fn report(&self) -> Vec<Report> {
        let mut all = self.gone.clone();
        for (&pid, serving) in &self.serving {
            all.extend(reports(pid, serving));
        }
        all.sort_by_key(|report| (report.pid, report.runtime));
        all
    }
}

/// A frame as the kernel half sent it.
fn raw(words: &[u64]) -> RawFrame<'_> {
    let (head, data) = words.split_first().map_or((0, &[][..]), |(&head, data)| (head, data));
    RawFrame { head: abi::FrameWord(head), data, told: None }
}

/// The answer of the first process that names a frame, else that of the first that is served: its
/// own process's reason is the one that counts.
fn ask_in_turn(
    serving: &mut HashMap<u32, Serving>,
    pids: &[u32],
    mut name: impl FnMut(u32, &mut Serving) -> Outcome,
) -> Outcome {
    let mut first = None;
    for &pid in pids {
        let Some(answer) = serving.get_mut(&pid).map(|serving| name(pid, serving)) else {
            continue;
        };
        if answer == Outcome::Named {
            return answer;
        }
        first = first.or(Some(answer));
    }
    first.unwrap_or(Outcome::Unnamed(Why::ProcessGone))
}

fn reports(pid: u32, serving: &Serving) -> impl Iterator<Item = Report> + '_ {
    serving.served.iter().map(move |served| report(pid, served))
}

fn report(pid: u32, served: &Served) -> Report {
    Report {
        pid,
        runtime: served.runtime.name(),
        version: match (&served.state, &served.layout) {
            (State::Attached { attached, .. }, Some(layout)) => {
                attached.version().unwrap_or_else(|| layout.version())
            }
            (_, layout) => layout.as_ref().map_or_else(String::new, |layout| layout.version()),
        },
        problem: match &served.state {
            State::Attached { .. } => String::new(),
            State::Starting { why, .. } => why.clone(),
            State::Unusable(why) => why.clone(),
        },
    }
}

/// A part of the time since, but not less or more than is sensible.
fn wait_ns(since_ns: u64, now_ns: u64, part: u64) -> u64 {
    (now_ns.saturating_sub(since_ns) / part).clamp(WAIT_MIN_NS, WAIT_MAX_NS)
}

/// Brings a process's runtimes up to date. True if regions or tables changed.
#[allow(clippy::too_many_arguments)]
fn refresh(
    met: &mut Met,
    pid: u32,
    serving: &mut Serving,
    process: &Process,
    files: &Files,
    tables: &mut Tables,
    now_ns: u64,
    mappings_changed: bool,
) -> bool {
    let is_due = mappings_changed || now_ns.saturating_sub(serving.refreshed_ns) >= REFRESH_NS;
    let is_starting = serving
        .served
        .iter()
        .any(|served| matches!(&served.state, State::Starting { due_ns, .. } if *due_ns <= now_ns));
    if !is_due && !is_starting {
        return false;
    }
    serving.refreshed_ns = now_ns;
    serving.memory.forget();
    let make = || view_mappings(process, files);
    let mappings = hotframe_runtime::Mappings::new(&make).changed(mappings_changed);
    let open = |mapping: &hotframe_runtime::Mapping| open_mapping(process, files, mapping);
    let mut changed = false;
    for served in &mut serving.served {
        let Some(layout) = &served.layout else { continue };
        let view = hotframe_runtime::Process {
            pid,
            bias: served.bias,
            memory: &serving.memory,
            naming: serving.naming,
            known: &NothingKnown,
            mappings: &mappings,
            open: &open,
        };
        match &mut served.state {
            State::Unusable(_) => {}
            State::Attached { attached, table } => {
                if attached.refresh(&view) {
                    let old = std::mem::replace(
                        table,
                        tables.add_table(served.runtime.id(), attached.table()),
                    );
                    serving.replaced.extend(old);
                    changed = true;
                }
            }
            State::Starting { due_ns, why, begun } => {
                // The steps take some time to load: a runtime that starts has it.
                met.wanted |= 1 << served.runtime.id();
                // New mappings are what a starting runtime waits for, but a storm of them is not.
                if now_ns < *due_ns {
                    continue;
                }
                match layout.attach_again(&view, begun) {
                    Ok(attached) => {
                        tracing::debug!(
                            pid,
                            runtime = served.runtime.name(),
                            regions = attached.regions().len(),
                            "attached"
                        );
                        met.attached.push((pid, attached.regions().to_vec()));
                        let table = tables.add_table(served.runtime.id(), attached.table());
                        served.state = State::Attached { attached, table };
                        let stand_in = served.stand_in.take();
                        serving.replaced.extend(stand_in.and_then(|stand_in| stand_in.table));
                        changed = true;
                        continue;
                    }
                    // The loader maps all of a file in one piece before it lays each part over its
                    // place: what is read of its data meanwhile may be anything.
                    Err(cause)
                        if matches!(cause, Unusable::NotYet(_) | Unusable::Read { .. })
                            || now_ns.saturating_sub(served.met_ns) < LOADING_NS =>
                    {
                        *why = crate::chain(&cause);
                        tracing::debug!(pid, "{}: {why}", served.runtime.name());
                        *due_ns = now_ns + wait_ns(served.met_ns, now_ns, STARTING_PART);
                    }
                    Err(cause) => {
                        let why = crate::chain(&cause);
                        tracing::debug!(pid, "{}: {why}", served.runtime.name());
                        served.state = State::Unusable(why);
                    }
                }
                if served.stand_in.is_none()
                    && let Some(attached) = layout.stand_in(&view)
                {
                    let table = tables.add_table(served.runtime.id(), attached.table());
                    served.stand_in = Some(StandIn { attached, table });
                    changed = true;
                }
            }
        }
    }
    changed
}

/// What is added to a file's addresses where this mapping is of it.
fn bias(files: &Files, id: FileId, mapping: &Mapping) -> Option<u64> {
    let elf = files.get(id)?.elf()?;
    Some(elf.map_bias(mapping.start, mapping.pgoff)?.wrapping_sub(elf.image_base()))
}

fn view_mappings(process: &Process, files: &Files) -> Vec<hotframe_runtime::Mapping> {
    let path = |mapping: &Mapping| match files.get(mapping.file) {
        Some(file) if mapping.file != 0 => file.path.clone(),
        _ => String::new(),
    };
    process
        .mappings
        .iter()
        .map(|mapping| hotframe_runtime::Mapping {
            start: mapping.start,
            end: mapping.end,
            pgoff: mapping.pgoff,
            path: path(mapping),
        })
        .collect()
}

fn open_mapping(
    process: &Process,
    files: &Files,
    wanted: &hotframe_runtime::Mapping,
) -> Option<Arc<dyn ReadAt + Send + Sync>> {
    let mapping = process.mappings.iter().find(|mapping| mapping.start == wanted.start)?;
    Some(Arc::new(files.get(mapping.file)?.reader()?.clone()))
}

/// Which of the registry's runtimes have a sign in the file.
fn with_signs(registry: &[&'static dyn Runtime], file: &ElfFile<&dyn ReadAt>) -> Vec<bool> {
    let signs: Vec<_> = registry.iter().map(|runtime| runtime.signs()).collect();
    let mut hits: Vec<bool> = signs
        .iter()
        .map(|signs| signs.sections.iter().any(|name| file.section(name).is_some()))
        .collect();
    let wanted: Vec<&str> = signs.iter().flat_map(|signs| signs.symbols).copied().collect();
    let names = elf::Names::new(&wanted, &[]);
    for tables in [elf::Tables::Dynamic, elf::Tables::Static] {
        if hits.contains(&true) {
            break;
        }
        elf::symbols(file, tables, &names, &mut |name, _| {
            for (hit, signs) in hits.iter_mut().zip(&signs) {
                *hit |= signs.symbols.iter().any(|sign| sign.as_bytes() == name);
            }
            hits.contains(&false)
        });
    }
    hits
}

/// Puts a region over sorted mappings: what it covers of them gets the table, what it covers of
/// nothing becomes anonymous code of its own. There may be more of them afterwards than fit a blob.
pub(crate) fn overlay(entries: &mut Vec<abi::hf_mapping>, region: Region, table_off: u32) {
    if region.start >= region.end {
        return;
    }
    let mut out = Vec::with_capacity(entries.len() + 3);
    let mut at = region.start;
    let gap = |out: &mut Vec<abi::hf_mapping>, start: u64, end: u64| {
        if start < end {
            out.push(abi::hf_mapping { runtime_off: table_off, ..without_file(start, end) });
        }
    };
    for entry in entries.drain(..) {
        if entry.end <= region.start {
            out.push(entry);
            continue;
        }
        if entry.start >= region.end {
            gap(&mut out, at, region.end);
            at = at.max(region.end);
            out.push(entry);
            continue;
        }
        gap(&mut out, at, entry.start.min(region.end));
        if entry.start < region.start {
            out.push(abi::hf_mapping { end: region.start, ..entry });
        }
        let (start, end) = (entry.start.max(region.start), entry.end.min(region.end));
        let image = if entry.file_id == 0 { start } else { entry.image };
        out.push(abi::hf_mapping { start, end, image, runtime_off: table_off, ..entry });
        if entry.end > region.end {
            let image = if entry.file_id == 0 { region.end } else { entry.image };
            out.push(abi::hf_mapping { start: region.end, image, ..entry });
        }
        at = at.max(end);
    }
    gap(&mut out, at, region.end);
    // Mappings that overlap, as those of a damaged recording may, would leave their pieces out of order.
    out.sort_by_key(|entry| entry.start);
    *entries = out;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(start: u64, end: u64, file_id: u32) -> abi::hf_mapping {
        let image = if file_id == 0 { start } else { 0x100 };
        abi::hf_mapping {
            start,
            end,
            image,
            file_id,
            file_off: file_id,
            runtime_off: 0,
            reserved: 0,
        }
    }

    fn check(entries: &[abi::hf_mapping], region: (u64, u64), expect: &[(u64, u64, u32, u32)]) {
        let mut entries = entries.to_vec();
        overlay(&mut entries, Region { start: region.0, end: region.1 }, 7);
        let got: Vec<_> = entries
            .iter()
            .map(|entry| (entry.start, entry.end, entry.file_id, entry.runtime_off))
            .collect();
        assert_eq!(got, expect);
        for entry in &entries {
            assert_eq!(entry.image, if entry.file_id == 0 { entry.start } else { 0x100 });
        }
    }

    /// A region takes its part of a mapping, the rest stays; where nothing is mapped it stands
    /// for itself.
    #[test]
    fn regions_take_their_part() {
        let file = mapping(0x1000, 0x5000, 1);
        check(
            &[file],
            (0x2000, 0x3000),
            &[(0x1000, 0x2000, 1, 0), (0x2000, 0x3000, 1, 7), (0x3000, 0x5000, 1, 0)],
        );
        check(&[file], (0x1000, 0x5000), &[(0x1000, 0x5000, 1, 7)]);
        let two =
            [mapping(0x1000, 0x2000, 0), mapping(0x4000, 0x6000, 0), mapping(0x9000, 0xa000, 2)];
        check(
            &two,
            (0x800, 0x8000),
            &[
                (0x800, 0x1000, 0, 7),
                (0x1000, 0x2000, 0, 7),
                (0x2000, 0x4000, 0, 7),
                (0x4000, 0x6000, 0, 7),
                (0x6000, 0x8000, 0, 7),
                (0x9000, 0xa000, 2, 0),
            ],
        );
        check(&[], (0x1000, 0x2000), &[(0x1000, 0x2000, 0, 7)]);
        // Such as no process has: it stays sorted.
        let overlapping = [mapping(0x1000, 0x9000, 1), mapping(0x1800, 0x2000, 1)];
        let pieces = [
            (0x1000, 0x2000, 1, 0),
            (0x1800, 0x2000, 1, 0),
            (0x2000, 0x3000, 1, 7),
            (0x3000, 0x9000, 1, 0),
        ];
        check(&overlapping, (0x2000, 0x3000), &pieces);
        check(&[file], (0x3000, 0x3000), &[(0x1000, 0x5000, 1, 0)]);
        check(&[file], (0x6000, 0x7000), &[(0x1000, 0x5000, 1, 0), (0x6000, 0x7000, 0, 7)]);
        check(&[file], (0x100, 0x200), &[(0x100, 0x200, 0, 7), (0x1000, 0x5000, 1, 0)]);
    }

    struct Nothing;

    impl Runtime for Nothing {
        fn id(&self) -> u32 {
            1
        }

        fn name(&self) -> &'static str {
            "nothing"
        }

        fn title(&self) -> &'static str {
            "Nothing"
        }

        fn is_beside_native(&self) -> bool {
            false
        }

        fn perf_map(&self) -> Option<&'static str> {
            None
        }

        fn signs(&self) -> hotframe_runtime::Signs {
            hotframe_runtime::Signs { symbols: &[], sections: &[] }
        }

        fn recognise(&self, _: &Executable<'_>) -> Result<Option<Arc<dyn Layout>>, Unusable> {
            Ok(None)
        }
    }

    fn serving(state: State, age_ns: u64, now_ns: u64) -> Serving {
        let served = Served {
            runtime: &Nothing,
            layout: None,
            file: 1,
            bias: 0,
            met_ns: now_ns - age_ns,
            state,
            stand_in: None,
        };
        Serving {
            image: 0,
            incarnation: None,
            memory: Memory::recorded(Vec::new()),
            naming: Naming::default(),
            served: vec![served],
            refreshed_ns: 0,
            replaced: Vec::new(),
        }
    }

    /// A program whose frames are named by a word each; those with a 0 are known by another.
    #[derive(Default)]
    struct Program {
        /// Words of the frames that were read ahead for and not yet named.
        read: std::sync::Mutex<Vec<u64>>,
        /// How many frames each time.
        asked: Arc<std::sync::Mutex<Vec<usize>>>,
        /// Bytes that are kept of it; 1 is not given back.
        kept_bytes: u64,
    }

    impl Attached for Program {
        fn regions(&self) -> &[Region] {
            &[]
        }

        fn table(&self) -> &[u8] {
            &[]
        }

        fn kept(&self) -> Kept {
            Kept { bytes: self.kept_bytes, ..Kept::default() }
        }

        fn forget(&mut self) {
            self.kept_bytes &= u64::from(self.kept_bytes == 1);
        }

        fn alike(&self, raw: &RawFrame<'_>) -> Option<[u64; 2]> {
            (raw.word(0) == 0).then_some([0, 0])
        }

        fn read_ahead(&self, frames: &[RawFrame<'_>], _: &Memory) {
            let mut read = self.read.lock().expect("a lock");
            assert!(read.is_empty(), "{read:?} were read and not asked for");
            read.extend(frames.iter().map(|raw| raw.word(0)));
            self.asked.lock().expect("a lock").push(frames.len());
        }

        fn resolve(
            &mut self,
            raw: &RawFrame<'_>,
            _: &hotframe_runtime::Process<'_>,
            _: &mut Vec<Frame>,
        ) -> Outcome {
            let mut read = self.read.lock().expect("a lock");
            assert_eq!((!read.is_empty()).then(|| read.remove(0)), Some(raw.word(0)));
            Outcome::Unnamed(Why::Unsupported)
        }
    }

    /// What runtimes keep of all processes has a bound: those that keep most begin anew.
    #[test]
    fn runtimes_keep_no_more_than_they_may() {
        let mut runtimes = Runtimes::default();
        for (pid, bytes) in [(1, 40), (2, 100), (3, 70), (4, 1)] {
            let program = Program { kept_bytes: bytes, ..Program::default() };
            let state = State::Attached { attached: Box::new(program), table: None };
            runtimes.serving.insert(pid, serving(state, 0, 1));
        }
        let mut after = |room_bytes| {
            let kept = runtimes.cool(room_bytes);
            assert_eq!(kept, runtimes.kept());
            kept.bytes
        };
        assert_eq!([211, 210, 111, 110, 0].map(&mut after), [211, 111, 111, 41, 1]);
    }

    struct Takes;

    impl Asker for Takes {
        fn answer(&mut self, _: usize, _: Result<&[Frame], Why>) {}

        fn answer_alike(&mut self, _: usize, _: &[u64]) -> bool {
            true
        }

        fn find(&mut self, _: &[u64]) -> Option<Frame> {
            None
        }

        fn keep(&mut self, _: &[u64], _: &Frame) {}
    }

    /// What frames are named from is read for [`AHEAD`] of them together, once for each, and not for those
    /// that are known by another.
    #[test]
    fn frames_are_read_ahead_for() {
        let program = Program::default();
        let asked = program.asked.clone();
        let mut runtimes = Runtimes::default();
        let state = State::Attached { attached: Box::new(program), table: None };
        runtimes.serving.insert(7, serving(state, 0, 1));
        let mut processes = crate::processes::Processes::default();
        processes.entry(7);
        let head = u64::from(abi::HF_FRAME_DYNAMIC) << abi::HF_FRAME_KIND_SHIFT
            | 1 << abi::HF_FRAME_RUNTIME_SHIFT
            | 1 << abi::HF_FRAME_N_DATA_SHIFT;
        let words: Vec<[u64; 2]> = (0..AHEAD as u64 * 2 + 3).map(|n| [head, n % 9]).collect();
        let questions: Vec<&[u64]> = words.iter().map(|words| &words[..]).collect();
        let incarnation = Incarnation { pid: 7, start_ns: 0, exec_id: 0 };
        let until = Instant::now() + std::time::Duration::from_secs(60);
        let files = Files::default();
        let n =
            runtimes.resolve(incarnation, &questions, processes.get(7), &files, until, &mut Takes);
        assert_eq!(n, questions.len());
        assert_eq!(*asked.lock().expect("a lock"), [14, 14, 3]);
    }

    /// The next pass comes when a runtime that starts is due, or after a part of what a process has lived;
    /// not for one that ended, and for an old one as if there were none.
    #[test]
    fn looks_follow_the_age() {
        const MS: u64 = 1_000_000;
        let attached = || State::Attached { attached: Box::new(Program::default()), table: None };
        let check = |state: State, age_ns: u64, has_ended: bool, expect: u64| {
            let now_ns = 100_000 * MS;
            let mut runtimes = Runtimes::default();
            runtimes.serving.insert(7, serving(state, age_ns, now_ns));
            let mut processes = crate::processes::Processes::default();
            processes.entry(7).exited_ns = has_ended.then_some(1);
            let look_ns = runtimes.look_at_ns(now_ns, |pid| processes.get(pid));
            let after_ns = if look_ns == u64::MAX { u64::MAX } else { look_ns - now_ns };
            assert_eq!(after_ns, expect, "{age_ns} ns");
        };
        check(attached(), 0, false, 10 * MS);
        check(attached(), 320 * MS, false, 20 * MS);
        check(attached(), 320 * MS, true, u64::MAX);
        check(attached(), 20_000 * MS, false, u64::MAX);
        let due_ns = 100_003 * MS;
        let starting = || State::Starting { due_ns, why: String::new(), begun: None };
        check(starting(), 50 * MS, false, 3 * MS);
        check(starting(), 50 * MS, true, u64::MAX);
        check(State::Unusable(String::new()), 0, false, u64::MAX);
        // It is tried again after a part of the time that it takes, within bounds.
        for (age_ms, wait_ms) in [(0, 2), (80, 10), (4000, 500), (60_000, 1000)] {
            assert_eq!(wait_ns(0, age_ms * MS, STARTING_PART), wait_ms * MS);
        }
    }
}
