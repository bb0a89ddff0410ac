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
//! of the time that it has taken so far, up to a second, for five whatever was wrong. What is unloaded
//! is taken back when the mappings that lack it are published. A frame is named from the memory of its
//! process, off the walk, before the pass that brought it ends, as long as the pass has time. When the
//! next pass should come is said by how long the processes have lived ([`Runtimes::look_at_ns`]).
//!
//! # Cost
//! A look at `.dynsym` a file. Attaching is the runtime's: some tens of reads. The kernel half gets a runtime's step
//! when the first process maps it, some 80 ms before it is needed, and keeps it, also if it is never started.

mod naming;
mod overlay;
mod recognised;
mod serving;

pub use naming::{Asker, Subject};
pub(crate) use overlay::overlay;
pub use recognised::{Recognised, recognise};

use crate::files::{FileId, Files};
use crate::processes::Process;
use crate::recording::Incarnation;
use crate::tables::{Table, Tables};
use crate::told::Told;
use hotframe_abi as abi;
use hotframe_objects::{ElfFile, ReadAt};
use hotframe_runtime::{Kept, Memory, Naming, Region, Runtime};
use serving::{Served, Serving, State, bias, report, reports};
use std::collections::HashMap;

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
            is_sampled: false,
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
        serving.refresh(&mut self.met, pid, process, files, tables, now_ns, true);
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
                    if serving.refresh(&mut self.met, pid, process, files, tables, now_ns, false)
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
                serving.served.iter().map(|served| served.look_at_ns(now_ns))
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
        if let Some(serving) = self.serving.get_mut(&incarnation.pid) {
            serving.incarnation.get_or_insert(incarnation);
            serving.is_sampled = true;
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

#[cfg(test)]
mod tests {
    use super::serving::{STARTING_PART, wait_ns};
    use super::*;
    use hotframe_runtime::{
        AHEAD, Attached, Executable, Frame, Layout, Outcome, RawFrame, Unusable, Why,
    };
    use std::sync::Arc;
    use std::time::Instant;

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
            is_sampled: false,
            replaced: Vec::new(),
        }
    }

    /// Of a file whose processes can be attached to.
    struct Laid;

    impl Layout for Laid {
        fn version(&self) -> String {
            "1".into()
        }

        fn attach(&self, _: &hotframe_runtime::Process<'_>) -> Result<Box<dyn Attached>, Unusable> {
            Ok(Box::new(Program::default()))
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
            &[1; 60_000]
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
        let subject = Subject { incarnation, process: processes.get(7), files: &files };
        let n = runtimes.resolve(&subject, &questions, until, &mut Takes);
        assert_eq!(n, questions.len());
        assert_eq!(*asked.lock().expect("a lock"), [14, 14, 3]);
    }

    /// A runtime that samples are taken of is told of the time ten times a second, one that waits once,
    /// but for a while after it was met: on a machine with hundreds of them few run.
    #[test]
    fn runtimes_that_wait_are_left_alone() {
        const MS: u64 = 1_000_000;
        let files = Files::default();
        let mut tables = Tables::new(Box::new(crate::tables::OwnMemory::new(1 << 20)));
        let mut processes = crate::processes::Processes::default();
        processes.entry(7);
        let mut looks = |age_ms: u64, is_sampled: bool| {
            let begin_ns = 100_000 * MS;
            let mut runtimes = Runtimes::default();
            let state = State::Attached { attached: Box::new(Program::default()), table: None };
            runtimes.serving.insert(7, serving(state, age_ms * MS, begin_ns));
            let mut seen = std::collections::BTreeSet::new();
            for pass in 0..1000 {
                if is_sampled {
                    runtimes.saw(Incarnation { pid: 7, start_ns: 0, exec_id: 0 });
                }
                let now_ns = begin_ns + pass * 10 * MS;
                runtimes.tick(now_ns, |pid| processes.get(pid), &files, &mut tables);
                seen.insert(runtimes.serving[&7].refreshed_ns);
            }
            seen.len()
        };
        assert_eq!(looks(60_000, true), 100);
        assert_eq!(looks(60_000, false), 10);
        // A sixteenth of the time each: log(10 s / 1.6 s) / log(17 / 16) after the first 16.
        assert!((40..=48).contains(&looks(0, false)), "{}", looks(0, false));
    }

    /// A runtime whose table finds no room says so, and gets one when there is room again.
    #[test]
    fn a_table_without_room_is_made_later() {
        const MS: u64 = 1_000_000;
        let files = Files::default();
        let mut tables = Tables::new(Box::new(crate::tables::OwnMemory::new(1 << 20)));
        let mut held = Vec::new();
        while let Some(table) = tables.add_table(1, &[1; 60_000]) {
            held.push(table);
        }
        let mut processes = crate::processes::Processes::default();
        processes.entry(7);
        let mut runtimes = Runtimes::default();
        let state = State::Attached { attached: Box::new(Program::default()), table: None };
        let mut waits = serving(state, 0, 100_000 * MS);
        waits.served[0].layout = Some(Arc::new(Laid));
        runtimes.serving.insert(7, waits);
        let mut after = |ms: u64, tables: &mut Tables| {
            let now_ns = (100_000 + ms) * MS;
            let changed = runtimes.tick(now_ns, |pid| processes.get(pid), &files, tables);
            (changed, runtimes.report()[0].problem.clone())
        };
        let no_room = "no room for its table within --memory".to_string();
        assert_eq!(after(100, &mut tables), (Vec::new(), no_room));
        tables.remove_table(held.remove(0));
        assert_eq!(after(200, &mut tables), (vec![7], String::new()));
        assert_eq!(after(300, &mut tables), (Vec::new(), String::new()));
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
