//! Samples for the screen: one thread records, one names, the screen never waits for either.
//!
//! In: options. Out: a [`Batch`] a second by a channel, or the reason why there are no more.

use super::model::{Batch, Frame, Function, LATER, LATER_KERNEL, Stack, WINDOW_MAX};
use crate::cli::Top as Options;
use crate::filter;
use crate::prepared::{Machine, Prepared};
use crate::record::{self, CPUS_NS};
use crate::sampler::{PASS, Sampler};
use crate::this_process::{self, now_ns};
use hotframe_abi as abi;
use hotframe_bpf::{Config, Fallbacks, Kernel};
use hotframe_core::files::FileId;
use hotframe_core::jit::Jit;
use hotframe_core::names::Names;
use hotframe_core::profile::{FRAME_UNNAMED, Kind};
use hotframe_core::recording::{Columns, Incarnation, Recording};
use hotframe_core::resolve::Source;
use hotframe_core::runtimes::Runtimes;
use hotframe_core::session::{AnnouncedSymbol, PATIENCE, Session};
use hotframe_core::tables::Tables;
use hotframe_frames::{Budget, FrameInfo, FunctionInfo};
use hotframe_jitmap::{Sources, Wanted};
use hotframe_runtime::Naming;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

/// Time that a batch covers.
const BATCH_NS: u64 = 1_000_000_000;
/// Words named before all names are forgotten and learnt anew: about 100 bytes each.
const WORDS_MAX: usize = 100_000;
/// Batches between two namings of what is new in one place, at most.
const WAIT_MAX: u64 = 8;
/// Samples that a caller's address is in before it is named unasked. Where code is compiled or loaded,
/// most addresses are in one sample only, and no line of the screen is about them.
const SAMPLES_MIN: u32 = 2;
/// Seconds that naming may lag behind before recording waits for it and samples are lost, counted.
const QUEUE: usize = 16;

/// What the screen hears.
pub enum News {
    /// A second's samples.
    Batch(Batch),
    /// There will be no more, and why.
    Failed(anyhow::Error),
}

/// A frame of generated code.
struct Generated {
    incarnation: Incarnation,
    word: abi::FrameWord,
    from: Arc<Sources>,
    wanted: Wanted,
}

/// A frame of a stack on its way to the namer.
enum RawFrame {
    /// To be named there.
    Word(abi::FrameWord),
    /// Named by its runtime: the frame of that number in the recorder's store.
    Known(u32),
}

/// Equal samples of a process.
struct RawStack {
    incarnation: Incarnation,
    comm: Arc<str>,
    /// Leaf first.
    frames: Vec<RawFrame>,
    n: u32,
    is_cut: bool,
}

/// A frame that its runtime named.
struct RuntimeFrame {
    number: u32,
    name: String,
    file: String,
    module: String,
    start_line: u32,
    line: u32,
    kind: u8,
    flags: u8,
}

/// A second's samples, the frames of static code unnamed.
struct Raw {
    stacks: Vec<RawStack>,
    /// The recorder's store is a new one: its numbers begin again.
    is_reset: bool,
    /// Frames that runtimes named and that were not sent before.
    runtime_frames: Vec<RuntimeFrame>,
    /// Files that were not sent before.
    sources: Vec<(FileId, Source)>,
    /// Frames of generated code that were not sent before, and what may name them.
    generated: Vec<Generated>,
    /// All of them, when some are new.
    announced: Option<BTreeMap<u64, AnnouncedSymbol>>,
    span_ns: u64,
    own_cpu_share: f64,
}

/// Frames without a name that are looked at: what stands for each.
type Shown = Arc<Mutex<Vec<u32>>>;

/// The two threads; dropping it ends them.
pub struct Feed {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    wanted: Shown,
    /// What comes.
    pub news: Option<Receiver<News>>,
}

/// What is learnt of files to make their rows, and what runtimes keep of processes, may each take so much.
const LEARNT_BYTES: usize = 4 << 20;

impl Feed {
    /// Starts recording. Returns when the first tick may come, or says why none will.
    pub fn start(options: &Options) -> anyhow::Result<Feed> {
        let machine = Machine::this()?;
        let Prepared { profile_bytes, cgroups, config, .. } =
            Prepared::of(&options.sampled, machine, Fallbacks::default())?;
        this_process::raise_descriptor_limit();
        // Stacks on one side, names on the other.
        let limit_bytes = profile_bytes / 2;
        let naming = options.names.naming();
        let stop = Arc::new(AtomicBool::new(false));
        let (raw_in, raw_out) = sync_channel(QUEUE);
        let (news_in, news) = mpsc::channel();
        let (ready_in, ready) = mpsc::channel();
        let recorder = {
            let (stop, pids, news) = (stop.clone(), options.sampled.pid.clone(), news_in.clone());
            std::thread::Builder::new().name("hf-record".into()).spawn(move || {
                let started = Recorder::start(&config, &pids, &cgroups, limit_bytes, naming);
                match started {
                    Ok(mut recorder) => {
                        let _ = ready_in.send(Ok(()));
                        if let Err(cause) = recorder.run(&stop, &raw_in) {
                            let _ = news.send(News::Failed(cause.into()));
                        }
                    }
                    Err(cause) => {
                        let _ = ready_in.send(Err(cause));
                    }
                }
            })?
        };
        let wanted = Shown::default();
        let shown = wanted.clone();
        let namer = std::thread::Builder::new().name("hf-name".into()).spawn(move || {
            let mut namer = Namer::new(limit_bytes);
            for raw in raw_out {
                let shown = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
                namer.shown = shown.into_iter().collect();
                if news_in.send(News::Batch(namer.name(raw))).is_err() {
                    break;
                }
            }
        })?;
        let threads = vec![recorder, namer];
        let feed = Feed { stop, threads, wanted, news: Some(news) };
        match ready.recv() {
            Ok(Ok(())) => Ok(feed),
            Ok(Err(cause)) => Err(record::explain(cause)),
            Err(_) => Err(anyhow::anyhow!("the recording thread ended at once")),
        }
    }
}

impl Feed {
    /// Says which frames without a name are looked at: these are named next, be they rare or not.
    pub fn show(&self, frames: Vec<u32>) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = frames;
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The namer ends when it has nobody to send to.
        self.news = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

struct Recorder {
    sampler: Sampler,
    limit_bytes: u64,
    budget: Budget,
    is_reset: bool,
    sent: HashSet<FileId>,
    /// Numbers of frames that runtimes named.
    sent_frames: HashSet<u32>,
    sent_generated: HashSet<(Incarnation, abi::FrameWord)>,
    n_announced: usize,
}

impl Recorder {
    fn start(
        config: &Config,
        pids: &[u32],
        cgroups: &[filter::Cgroup],
        limit_bytes: u64,
        naming: Naming,
    ) -> Result<Recorder, hotframe_bpf::Error> {
        let (kernel, memory, ring) = Kernel::load(config)?;
        for cgroup in cgroups {
            kernel.add_cgroup(cgroup.inode)?;
        }
        let expected = filter::expected(&kernel, pids, cgroups)?;
        let mut session = Session::new(Tables::new(Box::new(memory)), None);
        let budget = Budget::new(limit_bytes);
        session.recording = Recording::new(&budget);
        session.runtimes = Runtimes::new(&hotframe_registry::RUNTIMES).naming(naming);
        let mut sampler = Sampler::new(kernel, ring, session);
        sampler.expect(&expected);
        sampler.kernel.start(now_ns())?;
        Ok(Recorder {
            sampler,
            limit_bytes,
            budget,
            is_reset: false,
            sent: HashSet::new(),
            sent_frames: HashSet::new(),
            sent_generated: HashSet::new(),
            n_announced: 0,
        })
    }

    fn run(&mut self, stop: &AtomicBool, out: &SyncSender<Raw>) -> Result<(), hotframe_bpf::Error> {
        let mut began_ns = now_ns();
        let mut cpus_ns = began_ns + CPUS_NS;
        let mut own = own_cpu_seconds();
        let _priority = this_process::Priority::raise();
        while !stop.load(Ordering::Relaxed) {
            // Whoever waits for the end does not wait long.
            if let Err(cause) = self.sampler.wait(self.sampler.pause().min(PASS), None) {
                tracing::debug!(%cause, "waiting for events");
            }
            self.sampler.pass(Some(PATIENCE));
            self.sampler.session.forked.clear();
            self.sampler.take_ended();
            let now = now_ns();
            if now >= cpus_ns {
                cpus_ns = now + CPUS_NS;
                self.sampler.kernel.follow_cpus(true)?;
                self.sampler.session.files.cool(LEARNT_BYTES);
                self.sampler.session.runtimes.cool(LEARNT_BYTES as u64);
            }
            if now - began_ns >= BATCH_NS {
                let used = own_cpu_seconds();
                let raw = self.take(now - began_ns, used - own);
                (began_ns, own) = (now, used);
                if out.send(raw).is_err() {
                    break;
                }
            }
        }
        self.sampler.kernel.stop(now_ns());
        Ok(())
    }

    fn take(&mut self, span_ns: u64, own_cpu_seconds: f64) -> Raw {
        let is_reset = std::mem::take(&mut self.is_reset);
        let stacks = self.take_stacks();
        let mut sources = Vec::new();
        let words = stacks.iter().flat_map(|stack| &stack.frames);
        for frame in words {
            let RawFrame::Word(word) = frame else { continue };
            if word.kind() != abi::HF_FRAME_NATIVE || self.sent.contains(&word.file_id()) {
                continue;
            }
            if let Some(file) = self.sampler.session.files.get(word.file_id()) {
                self.sent.insert(word.file_id());
                sources.push((word.file_id(), Source::of(file)));
            }
        }
        let runtime_frames = self.runtime_frames(&stacks);
        let generated = self.generated(&stacks);
        // Half of the limit is a good time to begin anew: a sweep would change numbers, too.
        let store = &self.sampler.session.recording.store;
        let has_swept = store.counters().sweeps > 0;
        if has_swept || self.budget.used_bytes() > self.limit_bytes / 2 {
            self.budget = Budget::new(self.limit_bytes);
            self.sampler.session.recording = Recording::new(&self.budget);
            self.sent_frames.clear();
            self.is_reset = true;
        }
        let announced = &self.sampler.session.kernel_symbols;
        let is_new = announced.len() != self.n_announced;
        self.n_announced = announced.len();
        Raw {
            stacks,
            is_reset,
            runtime_frames,
            sources,
            generated,
            announced: is_new.then(|| announced.clone()),
            span_ns,
            own_cpu_share: own_cpu_seconds * 1e9 / span_ns.max(1) as f64,
        }
    }

    /// The samples since the last time, counted; the store keeps its stacks and names.
    fn take_stacks(&mut self) -> Vec<RawStack> {
        let recording = &mut self.sampler.session.recording;
        recording.store.settle();
        let samples: Columns = recording.take_samples();
        let mut comms: HashMap<u32, Arc<str>> = HashMap::new();
        let mut counts = HashMap::new();
        for ((&thread, &stack), &cut) in samples.thread.iter().zip(&samples.stack).zip(&samples.cut)
        {
            let process = recording.threads.get(thread as usize).map_or(0, |one| one.process);
            *counts.entry((process, stack, cut != abi::HF_CUT_NONE as u8)).or_insert(0) += 1;
        }
        let mut stacks = Vec::with_capacity(counts.len());
        for ((process, stack, is_cut), n) in counts {
            let Some(facts) = recording.processes.get(process as usize) else { continue };
            let mut frames = Vec::new();
            let mut at = recording.store.leaf(stack).unwrap_or_default();
            while at != 0 {
                let node = recording.store.node(at);
                match recording.store.word_at(node) {
                    Some(word) => frames.push(RawFrame::Word(abi::FrameWord(word))),
                    None => frames.extend(recording.store.numbers_of(node).map(RawFrame::Known)),
                }
                at = node.parent;
            }
            stacks.push(RawStack {
                incarnation: facts.incarnation,
                comm: (comms.entry(process))
                    .or_insert_with(|| crate::summary::clean(&facts.facts.comm, 16).into())
                    .clone(),
                frames,
                n,
                is_cut,
            });
        }
        stacks
    }

    fn runtime_frames(&mut self, stacks: &[RawStack]) -> Vec<RuntimeFrame> {
        let store = &self.sampler.session.recording.store;
        let mut new = Vec::new();
        for frame in stacks.iter().flat_map(|stack| &stack.frames) {
            let &RawFrame::Known(number) = frame else { continue };
            if !self.sent_frames.insert(number) {
                continue;
            }
            let frame = store.frame(number);
            let function = store.function(frame.function);
            new.push(RuntimeFrame {
                number,
                name: function.name.to_owned(),
                file: function.file.to_owned(),
                module: store.module(function.module).path.to_owned(),
                start_line: function.start_line,
                line: frame.line,
                kind: function.kind,
                flags: frame.flags,
            });
        }
        new
    }

    fn generated(&mut self, stacks: &[RawStack]) -> Vec<Generated> {
        if self.sampler.session.jit.is_full() {
            self.sampler.session.jit = Jit::default();
            self.sent_generated.clear();
        }
        let mut generated = Vec::new();
        for stack in stacks {
            let incarnation = stack.incarnation;
            for frame in &stack.frames {
                let &RawFrame::Word(word) = frame else { continue };
                if word.kind() != abi::HF_FRAME_USER_PC
                    || self.sent_generated.contains(&(incarnation, word))
                {
                    continue;
                }
                if let Some((from, wanted)) = self.sampler.session.jit.place(incarnation, word) {
                    self.sent_generated.insert((incarnation, word));
                    generated.push(Generated { incarnation, word, from: from.clone(), wanted });
                }
            }
        }
        generated
    }
}

/// User and system time of this process so far.
fn own_cpu_seconds() -> f64 {
    let (user, system) = this_process::cpu_seconds();
    user + system
}

/// What is read when something new in it is named: a file's symbols and debug information, some
/// of it to be unpacked first; for the kernel, `None`, all of its symbols.
type Place = Option<FileId>;

/// When a place is read again: at once at first, then less and less often, so that a build, where
/// new code is met each second, does not make it read the same file each second.
#[derive(Clone, Copy)]
struct Turn {
    /// The batch from which on.
    due: u64,
    /// Batches from then to the next.
    wait: u64,
}

fn place(word: abi::FrameWord) -> Option<Place> {
    match word.kind() {
        abi::HF_FRAME_KERNEL => Some(None),
        abi::HF_FRAME_NATIVE => Some(Some(word.file_id())),
        _ => None,
    }
}

/// A word that waits for its name: for the turn of its place, or until it is worth one.
struct Pending {
    /// What stands for it on the screen.
    later: u32,
    /// Samples that it is in.
    n: u32,
    /// It was the leaf of one.
    is_leaf: bool,
    /// The first and the last batch that has it.
    first: u64,
    last: u64,
}

/// Static code is the same in all processes, and so is its name.
fn owner(incarnation: Incarnation, word: abi::FrameWord) -> (Incarnation, abi::FrameWord) {
    match place(word) {
        Some(_) => (Incarnation { pid: 0, exec_id: 0, start_ns: 0 }, word),
        None => (incarnation, word),
    }
}

/// Turns frame words into what the screen shows.
struct Namer {
    names: Names,
    limit_bytes: u64,
    sources: HashMap<FileId, Source>,
    announced: BTreeMap<u64, AnnouncedSymbol>,
    /// Frames that runtimes named: the recorder's numbers, and all there is to know of them, since
    /// they are sent once.
    runtime_frames: HashMap<u32, RuntimeFrame>,
    /// Their numbers here.
    known: HashMap<u32, u32>,
    n_batches: u64,
    turns: HashMap<Place, Turn>,
    /// Words without a name yet.
    pending: HashMap<(Incarnation, abi::FrameWord), Pending>,
    /// What stands for those that are looked at.
    shown: HashSet<u32>,
    n_pending: u32,
    /// What stands for frames of files and of the kernel that have no name yet.
    unnamed: [u32; 2],
    n_functions: usize,
    n_frames: usize,
}

impl Namer {
    fn new(limit_bytes: u64) -> Namer {
        let mut names = Names::new(limit_bytes, None, record::ask_kernel);
        Namer {
            unnamed: unnamed(&mut names),
            names,
            limit_bytes,
            sources: HashMap::new(),
            announced: BTreeMap::new(),
            runtime_frames: HashMap::new(),
            known: HashMap::new(),
            n_batches: 0,
            turns: HashMap::new(),
            pending: HashMap::new(),
            shown: HashSet::new(),
            n_pending: 0,
            n_functions: 0,
            n_frames: 0,
        }
    }

    fn name(&mut self, raw: Raw) -> Batch {
        self.sources.extend(raw.sources);
        if let Some(announced) = raw.announced {
            self.announced = announced;
        }
        if raw.is_reset {
            self.runtime_frames.clear();
            self.known.clear();
        }
        self.runtime_frames.extend(raw.runtime_frames.into_iter().map(|one| (one.number, one)));
        let is_reset = self.names.len() > WORDS_MAX || self.names.is_full();
        if is_reset {
            self.names = Names::new(self.limit_bytes, None, record::ask_kernel);
            self.unnamed = unnamed(&mut self.names);
            self.known.clear();
            self.pending.clear();
            (self.n_functions, self.n_frames) = (0, 0);
        }
        let new = self.new_words(&raw.stacks);
        let is_read: HashSet<Place> = new.iter().filter_map(|(_, word)| place(*word)).collect();
        self.names.learn(new.into_iter(), &self.sources, &self.announced, true);
        for place in is_read {
            let turn = self.turns.entry(place).or_insert(Turn { due: 0, wait: 1 });
            turn.wait = (turn.wait * 2).min(WAIT_MAX);
            turn.due = self.n_batches + turn.wait;
        }
        self.learn_generated(raw.generated);
        self.names.learn_rest();
        let late = self.late();
        self.n_batches += 1;

        let mut stacks = Vec::with_capacity(raw.stacks.len());
        for stack in raw.stacks {
            let mut frames = Vec::with_capacity(stack.frames.len());
            for frame in stack.frames {
                match frame {
                    RawFrame::Word(word) => match self.pending.get(&owner(stack.incarnation, word))
                    {
                        Some(pending) => frames.push(pending.later),
                        None => frames.extend(self.names.frames(stack.incarnation, word)),
                    },
                    RawFrame::Known(number) => frames.extend(self.runtime_frame(number)),
                }
            }
            stacks.push(Stack {
                pid: stack.incarnation.pid,
                comm: stack.comm,
                frames: frames.into(),
                n: stack.n,
                is_cut: stack.is_cut,
            });
        }
        let (functions, frames) = self.new_names();
        Batch {
            span_ns: raw.span_ns,
            own_cpu_share: raw.own_cpu_share,
            stacks,
            is_reset,
            functions,
            frames,
            unnamed: self.unnamed,
            late,
        }
    }

    /// The words to name now: leaves, what comes again, and what is looked at, if it is the turn of
    /// their place. Others wait.
    fn new_words(&mut self, stacks: &[RawStack]) -> Vec<(Incarnation, abi::FrameWord)> {
        for stack in stacks {
            for (depth, frame) in stack.frames.iter().enumerate() {
                let &RawFrame::Word(word) = frame else { continue };
                let key = owner(stack.incarnation, word);
                if !self.pending.contains_key(&key) {
                    let frames = self.names.frames(key.0, word);
                    if !frames.is_empty() && frames != [self.unnamed[1]] {
                        continue;
                    }
                }
                let (number, first) = (&mut self.n_pending, self.n_batches);
                let pending = self.pending.entry(key).or_insert_with(|| {
                    *number = (*number + 1) % LATER_KERNEL;
                    let kernel = if word.kind() == abi::HF_FRAME_KERNEL { LATER_KERNEL } else { 0 };
                    let later = LATER | kernel | *number;
                    Pending { later, n: 0, is_leaf: false, first, last: first }
                });
                pending.n = pending.n.saturating_add(stack.n);
                pending.is_leaf |= depth == 0;
                pending.last = self.n_batches;
            }
        }
        let is_due = |word: abi::FrameWord| {
            let turn = place(word).and_then(|place| self.turns.get(&place));
            turn.is_none_or(|turn| self.n_batches >= turn.due)
        };
        let is_worth = |word: abi::FrameWord, pending: &Pending| {
            pending.is_leaf
                || pending.n >= SAMPLES_MIN
                || place(word).is_none()
                || self.shown.contains(&pending.later)
        };
        (self.pending.iter())
            .filter(|((_, word), pending)| is_worth(*word, pending) && is_due(*word))
            .map(|(&key, _)| key)
            .collect()
    }

    /// The names of words that waited, which they then no longer do. What no window shows any
    /// more does not wait either.
    fn late(&mut self) -> Vec<(u32, Box<[u32]>)> {
        let mut late = Vec::new();
        let oldest = self.n_batches.saturating_sub(WINDOW_MAX as u64);
        self.pending.retain(|&(incarnation, word), pending| {
            let frames = self.names.frames(incarnation, word);
            let is_named = !frames.is_empty() && frames != [self.unnamed[1]];
            if is_named && pending.first < self.n_batches {
                late.push((pending.later, frames.into()));
            }
            !is_named && (pending.last >= oldest || self.shown.contains(&pending.later))
        });
        late
    }

    /// The number here of a frame that its runtime named.
    fn runtime_frame(&mut self, number: u32) -> Option<u32> {
        if let Some(&known) = self.known.get(&number) {
            return Some(known);
        }
        let frame = self.runtime_frames.get(&number)?;
        let function = FunctionInfo {
            name: frame.name.as_bytes(),
            file: frame.file.as_bytes(),
            module_path: frame.module.as_bytes(),
            start_line: frame.start_line,
            kind: frame.kind,
            ..FunctionInfo::default()
        };
        let info = FrameInfo { function, line: frame.line, flags: frame.flags };
        let own = self.names.learn_frame(&[info])?;
        self.known.insert(number, own);
        Some(own)
    }

    /// Reads each map once for all that is new in it.
    fn learn_generated(&mut self, generated: Vec<Generated>) {
        let mut by_process: HashMap<Incarnation, Vec<Generated>> = HashMap::new();
        for one in generated {
            by_process.entry(one.incarnation).or_default().push(one);
        }
        for (incarnation, mut sought) in by_process {
            sought.sort_by_key(|one| one.wanted);
            let wanted: Vec<Wanted> = sought.iter().map(|one| one.wanted).collect();
            // The newest has all texts of the map.
            let newest = sought.iter().max_by_key(|one| one.wanted.last.text);
            let Some(from) = newest.map(|one| one.from.clone()) else { continue };
            let (names, report) = from.name(&wanted);
            for why in report.problems {
                tracing::debug!(pid = incarnation.pid, "generated code: {why}");
            }
            self.names.learn_generated(
                sought
                    .iter()
                    .zip(names)
                    .filter_map(|(one, name)| Some(((incarnation, one.word), name?))),
            );
        }
    }

    fn new_names(&mut self) -> (Vec<Function>, Vec<Frame>) {
        let store = self.names.store();
        let clean = crate::summary::clean;
        let last = |path: &str, width| clean(path.rsplit('/').next().unwrap_or(path), width);
        let functions = (self.n_functions..store.n_functions())
            .map(|number| {
                let function = store.function(number as u32);
                Function {
                    name: clean(function.name, 200),
                    module: last(store.module(function.module).path, 40),
                    file: last(function.file, 60),
                    kind: Kind::of(function.kind),
                }
            })
            .collect();
        let frames = (self.n_frames..store.n_frames())
            .map(|number| {
                let frame = store.frame(number as u32);
                Frame { function: frame.function, line: frame.line }
            })
            .collect();
        (self.n_functions, self.n_frames) = (store.n_functions(), store.n_frames());
        (functions, frames)
    }
}

/// The frames that stand for those without a name yet: of files, and of the kernel as
/// [`Names::frames`] gives it.
fn unnamed(names: &mut Names) -> [u32; 2] {
    let mut frame = |name: &[u8], kind: Kind| {
        let function = FunctionInfo { name, kind: kind as u8, ..FunctionInfo::default() };
        names.learn_frame(&[FrameInfo { function, line: 0, flags: FRAME_UNNAMED }])
    };
    [
        frame(b"[named in a moment]", Kind::Native).unwrap_or_default(),
        frame(b"[kernel: named in a moment]", Kind::Kernel).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second in which one stack of a process was sampled, of these addresses of the kernel.
    fn second(pid: u32, numbers: &[u64]) -> Raw {
        let kernel = |&number: &u64| {
            let kind = u64::from(abi::HF_FRAME_KERNEL) << abi::HF_FRAME_KIND_SHIFT;
            RawFrame::Word(abi::FrameWord(kind | number))
        };
        Raw {
            stacks: vec![RawStack {
                incarnation: Incarnation { pid, exec_id: 0, start_ns: 0 },
                comm: "app".into(),
                frames: numbers.iter().map(kernel).collect(),
                n: 1,
                is_cut: false,
            }],
            is_reset: false,
            runtime_frames: Vec::new(),
            sources: Vec::new(),
            generated: Vec::new(),
            announced: None,
            span_ns: BATCH_NS,
            own_cpu_share: 0.0,
        }
    }

    /// What is new in a place that was read a moment ago waits for its turn, and is named then.
    #[test]
    fn places_are_read_in_turn() {
        let second = |numbers: &[u64]| second(7, numbers);
        let mut namer = Namer::new(u64::MAX);
        let first = namer.name(second(&[1]));
        assert!(first.stacks[0].frames.iter().all(|frame| frame & LATER == 0));
        let waiting = namer.name(second(&[1, 2]));
        let later = waiting.stacks[0].frames[1];
        assert_eq!(waiting.stacks[0].frames[0], first.stacks[0].frames[0]);
        assert_eq!(later & !(LATER_KERNEL - 1), LATER | LATER_KERNEL);
        assert!(waiting.late.is_empty());
        // Two batches after it was read, it is read again.
        let named = namer.name(second(&[2]));
        assert_eq!(named.late, [(later, named.stacks[0].frames.clone())]);
        assert!(named.stacks[0].frames.iter().all(|frame| frame & LATER == 0));
        // Then only after four.
        let waits = |namer: &mut Namer, number| {
            namer.name(second(&[number])).stacks[0].frames[0] & LATER != 0
        };
        let turns: Vec<bool> = (3..8).map(|number| waits(&mut namer, number)).collect();
        assert_eq!(turns, [true, true, true, false, true]);
    }

    /// A caller's address that is in one sample waits until it is in another, or is looked at; one
    /// that no window shows any more is forgotten.
    #[test]
    fn rare_callers_wait() {
        let mut namer = Namer::new(u64::MAX);
        let is_later = |batch: &Batch, at: usize| batch.stacks[0].frames[at] & LATER != 0;
        let first = namer.name(second(1, &[1, 2, 3, 4]));
        assert_eq!([0, 1, 2, 3].map(|at| is_later(&first, at)), [false, true, true, true]);
        namer.shown.insert(first.stacks[0].frames[3]);
        // In another process it is the same address of the kernel.
        let batches: Vec<Batch> = (0..2).map(|_| namer.name(second(2, &[1, 2]))).collect();
        assert!(!is_later(&batches[1], 1));
        let late: Vec<u32> =
            (batches.iter().flat_map(|batch| &batch.late)).map(|one| one.0).collect();
        assert_eq!(late.len(), 2, "{late:?}");
        assert!([1, 3].iter().all(|&at| late.contains(&first.stacks[0].frames[at])));
        assert_eq!(namer.pending.len(), 1);
        for _ in 0..=WINDOW_MAX {
            namer.name(second(2, &[1]));
        }
        assert!(namer.pending.is_empty());
    }

    /// A batch counts equal stacks of a process once, tells new names once, and cut stacks apart.
    #[test]
    fn naming_a_second() {
        let note = u64::from(abi::HF_FRAME_NOTE) << abi::HF_FRAME_KIND_SHIFT;
        let word = |number| RawFrame::Word(abi::FrameWord(note | number));
        let runtime_frame = || RuntimeFrame {
            number: 5,
            name: "handle".to_owned(),
            file: "/srv/app.py".to_owned(),
            module: String::new(),
            start_line: 1,
            line: 3,
            kind: Kind::Cpython as u8,
            flags: 0,
        };
        let incarnation = Incarnation { pid: 7, exec_id: 0, start_ns: 0 };
        let second = |runtime_frames| {
            let stack =
                |frames, n, is_cut| RawStack { incarnation, comm: "app".into(), frames, n, is_cut };
            Raw {
                stacks: vec![
                    stack(vec![word(1), RawFrame::Known(5), word(2)], 2, false),
                    stack(vec![word(1)], 1, true),
                ],
                is_reset: false,
                runtime_frames,
                sources: Vec::new(),
                generated: Vec::new(),
                announced: None,
                span_ns: BATCH_NS,
                own_cpu_share: 0.0,
            }
        };
        let mut namer = Namer::new(u64::MAX);
        let batch = namer.name(second(vec![runtime_frame()]));
        let counts: Vec<(usize, u32, bool)> =
            batch.stacks.iter().map(|one| (one.frames.len(), one.n, one.is_cut)).collect();
        assert_eq!(counts, [(3, 2, false), (1, 1, true)]);
        assert!(batch.stacks.iter().all(|stack| stack.pid == 7));
        let frame = batch.frames[batch.stacks[0].frames[1] as usize];
        let function = &batch.functions[frame.function as usize];
        assert_eq!((&*function.name, &*function.file, frame.line), ("handle", "app.py", 3));
        let again = namer.name(second(Vec::new()));
        assert!(again.frames.is_empty());
        assert_eq!(again.stacks[0].frames, batch.stacks[0].frames);
    }
}
