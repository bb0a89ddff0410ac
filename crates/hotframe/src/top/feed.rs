//! Samples for the screen: one thread records, one names, the screen never waits for either.
//!
//! In: options. Out: a [`Batch`] a second by a channel, or the reason why there are no more.

use super::model::{Batch, Frame, Function, Stack};
use crate::cli::Top as Options;
use crate::filter;
use crate::record::{self, CPUS_NS, now_ns};
use hotframe_abi as abi;
use hotframe_bpf::ring::Ring;
use hotframe_bpf::{Config, Fallbacks, Kernel};
use hotframe_core::files::FileId;
use hotframe_core::jit::Jit;
use hotframe_core::names::Names;
use hotframe_core::recording::{Incarnation, Recording};
use hotframe_core::resolve::Source;
use hotframe_core::runtimes::Runtimes;
use hotframe_core::session::{AnnouncedSymbol, Session};
use hotframe_core::tables::Tables;
use hotframe_jitmap::{PerfMap, Wanted};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use zerocopy::FromZeros as _;

/// Longest time between two passes.
const PASS_MS: u16 = 100;
/// Time that a batch covers.
const BATCH_NS: u64 = 1_000_000_000;
/// Words named before all names are forgotten and learnt anew: about 100 bytes each.
const WORDS_MAX: usize = 100_000;
/// Batches between two namings of kernel frames, at most.
const KERNEL_WAIT_MAX: u64 = 8;
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
    map: Arc<PerfMap>,
    wanted: Wanted,
}

/// A second's samples, unnamed.
struct Raw {
    recording: Recording,
    /// Files that were not sent before.
    sources: Vec<(FileId, Source)>,
    /// Frames of generated code that were not sent before, and what may name them.
    generated: Vec<Generated>,
    /// All of them, when some are new.
    announced: Option<BTreeMap<u64, AnnouncedSymbol>>,
    span_ns: u64,
    own_cpu_share: f64,
}

/// The two threads; dropping it ends them.
pub struct Feed {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// What comes.
    pub news: Option<Receiver<News>>,
}

impl Feed {
    /// Starts recording. Returns when the first tick may come, or says why none will.
    pub fn start(options: &Options) -> anyhow::Result<Feed> {
        let n_cpus = hotframe_bpf::events::online_cpus()?.len() as u64;
        let (_, shares) = record::memory_shares(&options.memory, n_cpus, options.frequency)?;
        let (comms, n_comms) = filter::comms(&options.comm)?;
        filter::check_pids(&options.pid)?;
        record::raise_descriptor_limit();
        let mut settings = abi::hf_config::new_zeroed();
        settings.ns_inum = record::own_pid_namespace();
        settings.n_comms = n_comms;
        settings.comms = comms;
        settings.filter_pids = (!options.pid.is_empty()).into();
        settings.max_frames = abi::HF_MAX_FRAMES;
        settings.time_cap_ns = record::TIME_CAP_NS;
        settings.slice_bytes_per_s = record::SLICE_BYTES_PER_S;
        let config = Config {
            hz: options.frequency,
            memory_bytes: shares.tables,
            ring_bytes: shares.ring,
            sideband_pages: shares.sideband_pages,
            settings,
            force: Fallbacks::default(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let (raw_in, raw_out) = sync_channel(QUEUE);
        let (news_in, news) = mpsc::channel();
        let (ready_in, ready) = mpsc::channel();
        let recorder = {
            let (stop, pids, news) = (stop.clone(), options.pid.clone(), news_in.clone());
            std::thread::Builder::new().name("hf-record".into()).spawn(move || {
                let started = Recorder::start(&config, &pids, shares.profile as usize);
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
        let namer = std::thread::Builder::new().name("hf-name".into()).spawn(move || {
            let mut namer = Namer::new();
            for raw in raw_out {
                if news_in.send(News::Batch(namer.name(raw))).is_err() {
                    break;
                }
            }
        })?;
        let feed = Feed { stop, threads: vec![recorder, namer], news: Some(news) };
        match ready.recv() {
            Ok(Ok(())) => Ok(feed),
            Ok(Err(cause)) => Err(record::explain(cause)),
            Err(_) => Err(anyhow::anyhow!("the recording thread ended at once")),
        }
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
    kernel: Kernel,
    ring: Ring,
    session: Session,
    limit_bytes: usize,
    sent: HashSet<FileId>,
    sent_generated: HashSet<(Incarnation, abi::FrameWord)>,
    n_announced: usize,
}

impl Recorder {
    fn start(
        config: &Config,
        pids: &[u32],
        limit_bytes: usize,
    ) -> Result<Recorder, hotframe_bpf::Error> {
        let (mut kernel, memory, ring) = Kernel::load(config)?;
        if !pids.is_empty() {
            filter::add_with_descendants(&kernel, pids)?;
        }
        kernel.start()?;
        let mut session = Session::new(Tables::new(Box::new(memory)), None);
        session.recording.limit_bytes = limit_bytes;
        session.runtimes = Runtimes::new(crate::registry::RUNTIMES);
        Ok(Recorder {
            kernel,
            ring,
            session,
            limit_bytes,
            sent: HashSet::new(),
            sent_generated: HashSet::new(),
            n_announced: 0,
        })
    }

    fn run(&mut self, stop: &AtomicBool, out: &SyncSender<Raw>) -> Result<(), hotframe_bpf::Error> {
        let mut began_ns = now_ns();
        let mut cpus_ns = began_ns + CPUS_NS;
        let mut own = own_cpu_seconds();
        while !stop.load(Ordering::Relaxed) {
            self.wait();
            self.pass();
            let now = now_ns();
            if now >= cpus_ns {
                cpus_ns = now + CPUS_NS;
                self.kernel.follow_cpus(true)?;
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
        self.kernel.stop();
        Ok(())
    }

    /// Until something wants attention, or it is time.
    fn wait(&mut self) {
        let mut fds: Vec<BorrowedFd<'_>> =
            self.kernel.sidebands().iter().map(|ring| ring.as_fd()).collect();
        fds.push(self.ring.as_fd());
        let mut fds: Vec<PollFd<'_>> =
            fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let _ = nix::poll::poll(&mut fds, PollTimeout::from(PASS_MS));
    }

    /// As `record` does: side-band records first, then the ring up to where it stood before them.
    fn pass(&mut self) {
        let until = self.ring.producer();
        let session = &mut self.session;
        for ring in self.kernel.sidebands() {
            ring.drain(|record| session.sideband(record));
        }
        self.ring.drain(until, |record| session.record(record));
        session.end_pass(now_ns());
        record::enable_runtimes(&mut self.kernel, session);
        session.forked.clear();
        for pid in std::mem::take(&mut session.exited) {
            self.kernel.remove_pid(pid);
        }
    }

    fn take(&mut self, span_ns: u64, own_cpu_seconds: f64) -> Raw {
        let recording = std::mem::take(&mut self.session.recording);
        self.session.recording.limit_bytes = self.limit_bytes;
        let mut sources = Vec::new();
        for node in recording.nodes.iter().skip(1) {
            let word = node.word();
            if word.kind() != abi::HF_FRAME_NATIVE || self.sent.contains(&word.file_id()) {
                continue;
            }
            if let Some(file) = self.session.files.get(word.file_id()) {
                self.sent.insert(word.file_id());
                sources.push((word.file_id(), Source::of(file)));
            }
        }
        let generated = self.generated(&recording);
        let announced = &self.session.kernel_symbols;
        let is_new = announced.len() != self.n_announced;
        self.n_announced = announced.len();
        Raw {
            recording,
            sources,
            generated,
            announced: is_new.then(|| announced.clone()),
            span_ns,
            own_cpu_share: own_cpu_seconds * 1e9 / span_ns.max(1) as f64,
        }
    }
}

impl Recorder {
    fn generated(&mut self, recording: &Recording) -> Vec<Generated> {
        if self.session.jit.is_full() {
            self.session.jit = Jit::default();
            self.sent_generated.clear();
        }
        let mut generated = Vec::new();
        for (&thread, &leaf) in recording.samples.thread.iter().zip(&recording.samples.stack) {
            let Some(incarnation) = incarnation_of(recording, thread) else { continue };
            for word in words(recording, leaf) {
                if word.kind() != abi::HF_FRAME_USER_PC
                    || self.sent_generated.contains(&(incarnation, word))
                {
                    continue;
                }
                if let Some((map, wanted)) = self.session.jit.place(incarnation, word) {
                    self.sent_generated.insert((incarnation, word));
                    generated.push(Generated { incarnation, word, map: map.clone(), wanted });
                }
            }
        }
        generated
    }
}

/// Frame words of a stack, leaf first.
fn words(recording: &Recording, leaf: u32) -> impl Iterator<Item = abi::FrameWord> + '_ {
    let mut at = leaf;
    std::iter::from_fn(move || {
        let node = recording.nodes.get(at as usize).filter(|_| at != 0)?;
        at = node.parent;
        Some(node.word())
    })
}

fn incarnation_of(recording: &Recording, thread: u32) -> Option<Incarnation> {
    let process = recording.threads.get(thread as usize)?.process;
    Some(recording.processes.get(process as usize)?.incarnation)
}

/// User and system time of this process so far.
fn own_cpu_seconds() -> f64 {
    let (user, system) = record::cpu_seconds();
    user + system
}

/// Turns frame words into what the screen shows.
struct Namer {
    names: Names,
    sources: HashMap<FileId, Source>,
    announced: BTreeMap<u64, AnnouncedSymbol>,
    n_batches: u64,
    /// The batch from which on new kernel frames are named.
    kernel_due: u64,
    /// Batches between two namings of kernel frames.
    kernel_wait: u64,
    n_functions: usize,
    n_frames: usize,
}

impl Namer {
    fn new() -> Namer {
        Namer {
            names: Names::new(None),
            sources: HashMap::new(),
            announced: BTreeMap::new(),
            n_batches: 0,
            kernel_due: 0,
            kernel_wait: 1,
            n_functions: 0,
            n_frames: 0,
        }
    }

    fn name(&mut self, raw: Raw) -> Batch {
        self.sources.extend(raw.sources);
        if let Some(announced) = raw.announced {
            self.announced = announced;
        }
        let is_reset = self.names.len() > WORDS_MAX;
        if is_reset {
            self.names = Names::new(None);
            (self.n_functions, self.n_frames) = (0, 0);
        }
        let recording = raw.recording;
        let all = recording.nodes.iter().skip(1).map(|node| node.word());
        let is_due = self.n_batches >= self.kernel_due;
        let n_kernel = self.names.learn(all, &self.sources, &self.announced, is_due);
        if is_due && n_kernel > 0 {
            self.kernel_wait = (self.kernel_wait * 2).min(KERNEL_WAIT_MAX);
            self.kernel_due = self.n_batches + self.kernel_wait;
        }
        self.n_batches += 1;
        self.learn_generated(raw.generated);

        let comms: Vec<Arc<str>> = recording
            .processes
            .iter()
            .map(|process| crate::summary::clean(&process.facts.comm, 16).into())
            .collect();
        let mut counts: HashMap<(u32, u32, bool), u32> = HashMap::new();
        let samples = &recording.samples;
        for ((&thread, &stack), &cut) in samples.thread.iter().zip(&samples.stack).zip(&samples.cut)
        {
            let process = recording.threads.get(thread as usize).map_or(0, |one| one.process);
            *counts.entry((process, stack, cut != abi::HF_CUT_NONE as u8)).or_default() += 1;
        }
        let mut stacks = Vec::with_capacity(counts.len());
        for ((process, leaf, is_cut), n) in counts {
            let Some(incarnation) =
                recording.processes.get(process as usize).map(|process| process.incarnation)
            else {
                continue;
            };
            let mut frames = Vec::new();
            for word in words(&recording, leaf) {
                frames.extend_from_slice(self.names.frames(incarnation, word));
            }
            stacks.push(Stack {
                pid: incarnation.pid,
                comm: comms.get(process as usize).cloned().unwrap_or_default(),
                frames: frames.into(),
                n,
                is_cut,
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
        }
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
            let Some(map) = sought.first().map(|one| one.map.clone()) else { continue };
            match map.name(&wanted) {
                Ok(names) => self.names.learn_generated(
                    sought
                        .iter()
                        .zip(names)
                        .filter_map(|(one, name)| Some(((incarnation, one.word), name?))),
                ),
                Err(why) => tracing::debug!(pid = incarnation.pid, "perf map: {why}"),
            }
        }
    }

    fn new_names(&mut self) -> (Vec<Function>, Vec<Frame>) {
        let profile = self.names.profile();
        let text = |id, width| crate::summary::clean(profile.strings.get(id), width);
        let functions = profile.functions.get(self.n_functions..).unwrap_or_default();
        let functions = functions
            .iter()
            .map(|function| {
                let module = profile
                    .modules
                    .get(function.module as usize)
                    .map_or("", |module| profile.strings.get(module.path));
                let module = module.rsplit('/').next().unwrap_or(module);
                let file = profile.strings.get(function.file);
                let file = file.rsplit('/').next().unwrap_or(file);
                Function {
                    name: text(function.name, 200),
                    module: crate::summary::clean(module, 40),
                    file: crate::summary::clean(file, 60),
                    kind: function.kind,
                }
            })
            .collect();
        let frames = profile.frames.get(self.n_frames..).unwrap_or_default();
        let frames = frames
            .iter()
            .map(|frame| Frame { function: frame.function, line: frame.line })
            .collect();
        (self.n_functions, self.n_frames) = (profile.functions.len(), profile.frames.len());
        (functions, frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch counts equal stacks of a process once, tells new names once, and cut stacks apart.
    #[test]
    fn naming_a_second() {
        use hotframe_core::recording::Sample;
        let note = u64::from(abi::HF_FRAME_NOTE) << abi::HF_FRAME_KIND_SHIFT;
        let mut head = abi::hf_sample::new_zeroed();
        head.weight = 1;
        head.tgid = 7;
        let second = || {
            let mut recording = Recording::default();
            for (words, hash, cut) in [([note | 1, note | 2], 1, 0), ([note | 1, note | 2], 1, 0)] {
                let sample = Sample { head: &head, words: &words, hash, cut, cut_pc: 0 };
                recording.add(&sample, String::new);
            }
            let sample = Sample { head: &head, words: &[note | 1], hash: 2, cut: 1, cut_pc: 0 };
            recording.add(&sample, String::new);
            Raw {
                recording,
                sources: Vec::new(),
                generated: Vec::new(),
                announced: None,
                span_ns: BATCH_NS,
                own_cpu_share: 0.0,
            }
        };
        let mut namer = Namer::new();
        let batch = namer.name(second());
        let mut counts: Vec<(usize, u32, bool)> =
            batch.stacks.iter().map(|one| (one.frames.len(), one.n, one.is_cut)).collect();
        counts.sort_unstable();
        assert_eq!(counts, [(1, 1, true), (2, 2, false)]);
        assert!(batch.stacks.iter().all(|stack| stack.pid == 7));
        assert!(!batch.frames.is_empty());
        assert!(namer.name(second()).frames.is_empty());
    }
}
