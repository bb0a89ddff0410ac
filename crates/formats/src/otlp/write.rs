//! Profile → OTLP.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::BuildHasher as _;
use std::io::{self, Write};

use foldhash::fast::RandomState;
use hotframe_core::numbers::Numbers;
use hotframe_core::profile::{
    FRAME_HEURISTIC, FRAME_INLINED, FRAME_UNNAMED, Frame, Function, Process, Profile, Samples,
    Strings, Thread,
};

use super::{ARCHS, KERNEL_FILE, NAME, key};
use crate::Error;
use crate::tree::{Locations, base_name, unnamed};
use crate::wire::{Head, Message};

/// What to write beside stacks, times and threads.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The CPU of each sample: multiplies Samples by up to the number of CPUs.
    pub cpu: bool,
    /// The books and the command line.
    pub books: bool,
}

impl Default for Options {
    /// All: the file is lossless.
    fn default() -> Options {
        Options { cpu: true, books: true }
    }
}

/// Writes one `ProfilesData` message, not compressed.
///
/// # Errors
/// [`Error::Write`].
pub fn write(profile: &Profile, options: Options, out: &mut impl Write) -> Result<(), Error> {
    let all = Rows::new(profile, options);
    let rows = all.in_order();
    let mut rows = rows.as_slice();
    let mut dictionary = Dictionary::new();
    let mut stacks = Stacks::new(profile);

    let no_process = [Process::default()];
    let (processes, known) = match profile.processes.as_slice() {
        [] => (no_process.as_slice(), false),
        processes => (processes, true),
    };
    for (p, process) in processes.iter().enumerate() {
        let n_rows = rows.partition_point(|&row| all.thread(row).process as usize <= p);
        let (own, rest) = rows.split_at(n_rows);
        rows = rest;

        let mut otlp = Message::default();
        let (value, unit) = profile.meta.value();
        otlp.message(1, &value_type(&mut dictionary, value, unit));
        for same in own.chunk_by(|&a, &b| all.identity(a) == all.identity(b)) {
            let stack = all.of.stack[same[0] as usize];
            let stack = stacks.number(&mut dictionary, stack);
            otlp.message(2, &all.message(&mut dictionary, stack, same, known));
        }
        otlp.fixed64(3, profile.meta.start_unix_ns);
        otlp.uint(4, all.duration_ns());
        if profile.meta.period_ns > 0 {
            otlp.message(5, &value_type(&mut dictionary, "cpu", "nanoseconds"));
            otlp.uint(6, profile.meta.period_ns);
        }
        let mut attributes = Vec::new();
        if options.books && known {
            attributes.extend(process_books(&mut dictionary, process));
        }
        if options.books && p == 0 {
            attributes.extend(recording_books(&mut dictionary, profile));
        }
        otlp.packed(11, attributes.into_iter());
        write_resource_profiles(profile, known.then_some(process), &otlp, out)
            .map_err(Error::write(NAME))?;
    }
    dictionary.write(out).map_err(Error::write(NAME))
}

/// What a Sample holds; one shape for a file.
#[derive(Clone, Copy)]
enum Shape {
    /// A time stamp for each tick.
    Stamps,
    /// A time stamp for each row and its weight, where stamps for each tick would fill memory.
    StampsAndValues,
    /// The sum, as there are no times.
    Total,
}

/// Rows of the profile's samples, and the Sample messages that they become: one of all rows that
/// differ in nothing but time and weight.
struct Rows<'p> {
    profile: &'p Profile,
    of: &'p Samples,
    /// The CPU of each is written.
    cpu: bool,
    shape: Shape,
}

impl<'p> Rows<'p> {
    fn new(profile: &'p Profile, options: Options) -> Rows<'p> {
        let of = &profile.samples;
        let timed = profile.meta.duration_ns > 0 || of.time_ns.iter().any(|&time| time > 0);
        let ticks: u64 = of.weight.iter().map(|&weight| u64::from(weight)).sum();
        let shape = match timed {
            false => Shape::Total,
            true if ticks <= 4 * of.weight.len() as u64 + 1_000_000 => Shape::Stamps,
            true => Shape::StampsAndValues,
        };
        Rows { profile, of, cpu: options.cpu, shape }
    }

    /// Process by process, rows that one Sample holds behind each other, by time.
    fn in_order(&self) -> Vec<u32> {
        let n_rows = self.of.stack.len() as u32;
        let mut rows: Vec<u32> =
            (0..n_rows).filter(|&row| self.of.weight[row as usize] > 0).collect();
        rows.sort_unstable_by_key(|&row| (self.identity(row), self.of.time_ns[row as usize], row));
        rows
    }

    fn thread(&self, row: u32) -> &'p Thread {
        &self.profile.threads[self.of.thread[row as usize] as usize]
    }

    /// What rows of one Sample have in common; the process comes first.
    fn identity(&self, row: u32) -> impl Ord + use<> {
        let (thread, i) = (self.thread(row), row as usize);
        let cpu = if self.cpu { self.of.cpu[i] } else { 0 };
        (thread.process, self.of.stack[i], thread.tid, thread.comm, cpu, self.of.cut[i])
    }

    fn duration_ns(&self) -> u64 {
        let end_ns = self.of.time_ns.iter().max().map_or(0, |last| last + 1);
        match self.shape {
            Shape::Total => 0,
            Shape::Stamps | Shape::StampsAndValues => self.profile.meta.duration_ns.max(end_ns),
        }
    }

    /// The Sample of rows with one [`Rows::identity`]. `has_threads`: processes and threads are
    /// known.
    fn message(
        &self,
        dictionary: &mut Dictionary,
        stack: u64,
        rows: &[u32],
        has_threads: bool,
    ) -> Message {
        let mut sample = Message::default();
        sample.uint(1, stack);
        sample.packed(2, self.attributes(dictionary, rows[0], has_threads).into_iter());
        let start_ns = self.profile.meta.start_unix_ns;
        let weights = rows.iter().map(|&row| u64::from(self.of.weight[row as usize]));
        let stamps = rows.iter().map(|&row| start_ns.saturating_add(self.of.time_ns[row as usize]));
        match self.shape {
            Shape::Total => sample.packed(4, std::iter::once(weights.sum())),
            Shape::StampsAndValues => {
                sample.packed(4, weights);
                sample.packed_fixed64(5, stamps);
            }
            Shape::Stamps => {
                let stamps: Vec<u64> = (stamps.zip(weights))
                    .flat_map(|(stamp, weight)| std::iter::repeat_n(stamp, weight as usize))
                    .collect();
                sample.packed_fixed64(5, stamps.into_iter());
            }
        }
        sample
    }

    fn attributes(&self, dictionary: &mut Dictionary, row: u32, has_threads: bool) -> Vec<u64> {
        let mut attributes = Vec::new();
        if has_threads {
            let thread = self.thread(row);
            attributes.push(dictionary.number(key::TID, u64::from(thread.tid)));
            let comm = self.profile.strings.get(thread.comm);
            attributes.push(dictionary.text(key::THREAD, comm));
        }
        if self.cpu && !matches!(self.shape, Shape::Total) {
            attributes.push(dictionary.number(key::CPU, u64::from(self.of.cpu[row as usize])));
        }
        if let Some(reason) = cut_name(self.of.cut[row as usize]) {
            attributes.push(dictionary.text(key::CUT, reason));
        }
        attributes
    }
}

/// Numbers of stacks in the dictionary, into which a stack comes when its number is first asked for.
struct Stacks<'p> {
    profile: &'p Profile,
    locations: Locations<'p>,
    /// By the number that [`Locations`] gave: those are in order of meeting, the dictionary's by
    /// content.
    location_ids: Vec<u64>,
    stack_ids: HashMap<u32, u64>,
    /// The locations of one stack.
    scratch: Vec<u32>,
}

impl<'p> Stacks<'p> {
    fn new(profile: &'p Profile) -> Stacks<'p> {
        let locations = Locations::new(profile, |inlined, caller| {
            let bits = |flags: u8| flags & !FRAME_INLINED;
            inlined.0.address == caller.0.address
                && inlined.1.module == caller.1.module
                && inlined.1.kind == caller.1.kind
                && bits(inlined.0.flags) == bits(caller.0.flags)
        });
        Stacks {
            profile,
            locations,
            location_ids: vec![0],
            stack_ids: HashMap::from([(0, 0)]),
            scratch: Vec::new(),
        }
    }

    fn number(&mut self, dictionary: &mut Dictionary, stack: u32) -> u64 {
        if let Some(&id) = self.stack_ids.get(&stack) {
            return id;
        }
        let Stacks { profile, locations, location_ids, stack_ids, scratch } = self;
        let Ok(()) = locations.of_stack(stack, scratch, |_, frames| {
            location_ids.push(dictionary.location(profile, frames));
            Ok::<(), Infallible>(())
        });
        let mut message = Message::default();
        message.packed(1, scratch.iter().map(|&id| location_ids[id as usize]));
        let id = dictionary.stacks.intern(message.as_bytes());
        stack_ids.insert(stack, id);
        id
    }
}

/// Attributes of a process's profile: how many of its stacks are whole, and why others are not.
fn process_books(dictionary: &mut Dictionary, process: &Process) -> Vec<u64> {
    let mut attributes = vec![
        dictionary.number(key::PROCESS_SAMPLES, process.samples),
        dictionary.number(key::PROCESS_WHOLE, process.whole),
    ];
    for (reason, &count) in hotframe_abi::CUT_NAMES.iter().zip(&process.cut) {
        if count > 0 {
            let name = format!("{}{reason}", key::PROCESS_CUT);
            attributes.push(dictionary.number(&name, count));
        }
    }
    attributes
}

/// Attributes of the first profile that are the whole recording's.
fn recording_books(dictionary: &mut Dictionary, profile: &Profile) -> Vec<u64> {
    let mut attributes = Vec::new();
    if !profile.stats.is_empty() {
        attributes.push(dictionary.text(key::STATS, &profile.stats));
    }
    if !profile.meta.command.is_empty() {
        attributes.push(dictionary.text(key::COMMAND, &profile.meta.command));
    }
    if profile.meta.n_cpus > 0 {
        attributes.push(dictionary.number(key::CPUS, u64::from(profile.meta.n_cpus)));
    }
    attributes
}

/// Writes a process's profile within its scope and resource. It is the last field of what holds it,
/// and that of the file's: it is not copied.
fn write_resource_profiles(
    profile: &Profile,
    process: Option<&Process>,
    otlp: &Message,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut scope_profiles = Message::default();
    scope_profiles.message(1, &scope(&profile.meta.producer));
    let mut resource_profiles = Message::default();
    resource_profiles.message(1, &resource(profile, process));
    let profile_head = Head::new(2, otlp.as_bytes().len());
    let scope_len = scope_profiles.as_bytes().len() + profile_head.whole_len();
    let scope_head = Head::new(2, scope_len);
    let resource_len = resource_profiles.as_bytes().len() + scope_head.whole_len();
    for bytes in [
        Head::new(1, resource_len).as_bytes(),
        resource_profiles.as_bytes(),
        scope_head.as_bytes(),
        scope_profiles.as_bytes(),
        profile_head.as_bytes(),
        otlp.as_bytes(),
    ] {
        out.write_all(bytes)?;
    }
    Ok(())
}

fn cut_name(cut: u8) -> Option<&'static str> {
    match cut {
        0 => None,
        cut => hotframe_abi::CUT_NAMES.get(cut as usize).copied(),
    }
}

fn value_type(dictionary: &mut Dictionary, kind: &str, unit: &str) -> Message {
    let mut message = Message::default();
    message.uint(1, dictionary.string(kind));
    message.uint(2, dictionary.string(unit));
    message
}

/// `hotframe 1.2.3` is the scope's name and version.
fn scope(producer: &str) -> Message {
    let (name, version) = producer.split_once(' ').unwrap_or((producer, ""));
    let mut message = Message::default();
    message.text(1, name);
    message.text(2, version);
    message
}

fn resource(profile: &Profile, process: Option<&Process>) -> Message {
    let meta = &profile.meta;
    let mut message = Message::default();
    let mut add = |key: &str, value: Message| {
        let mut attribute = Message::default();
        attribute.text(1, key);
        attribute.message(2, &value);
        message.message(1, &attribute);
    };
    if let Some(process) = process {
        let (exe, cgroup) = (profile.strings.get(process.exe), profile.strings.get(process.cgroup));
        add(key::PID, any_number(u64::from(process.pid)));
        if !exe.is_empty() {
            add(key::EXE, any_text(exe));
            add(key::EXE_NAME, any_text(base_name(exe)));
        }
        if !cgroup.is_empty() {
            add(key::CGROUP, any_text(cgroup));
        }
        if let Some(id) = container_id(cgroup) {
            add(key::CONTAINER, any_text(id));
        }
        add(key::COMM, any_text(profile.strings.get(process.comm)));
    }
    if !meta.host.is_empty() {
        add(key::HOST, any_text(&meta.host));
    }
    if !meta.arch.is_empty() {
        let arch = ARCHS.iter().find(|arch| arch.0 == meta.arch);
        add(key::ARCH, any_text(arch.map_or(&meta.arch, |arch| arch.1)));
    }
    add(key::OS, any_text("linux"));
    if !meta.kernel.is_empty() {
        add(key::KERNEL, any_text(&meta.kernel));
    }
    message
}

/// The container that a cgroup path names: its last run of 64 lower-case hex digits, as Docker,
/// containerd, CRI-O and Podman have it.
fn container_id(cgroup: &str) -> Option<&str> {
    cgroup.rsplit(|c: char| !matches!(c, '0'..='9' | 'a'..='f')).find(|id| id.len() == 64)
}

fn any_text(text: &str) -> Message {
    let mut message = Message::default();
    message.bytes_present(1, text.as_bytes());
    message
}

fn any_number(number: u64) -> Message {
    let mut message = Message::default();
    message.int_present(3, number as i64);
    message
}

/// A table whose entries are told apart by their encoding; entry 0 is the empty one.
struct Table {
    bytes: Vec<u8>,
    /// Where each entry ends.
    ends: Vec<usize>,
    numbers: Numbers,
    hasher: RandomState,
}

impl Table {
    fn new() -> Table {
        Table {
            bytes: Vec::new(),
            ends: vec![0],
            numbers: Numbers::default(),
            hasher: RandomState::default(),
        }
    }

    fn intern(&mut self, entry: &[u8]) -> u64 {
        if entry.is_empty() {
            return 0;
        }
        let hash = self.hasher.hash_one(entry);
        if let Some(known) = self.numbers.find(hash, |id| self.entry(id) == entry) {
            return known.into();
        }
        let new = self.ends.len() as u32;
        self.bytes.extend_from_slice(entry);
        self.ends.push(self.bytes.len());
        let Table { bytes, ends, numbers, hasher } = self;
        numbers.insert(hash, new, |id| hasher.hash_one(entry_of(bytes, ends, id)));
        new.into()
    }

    fn entry(&self, id: u32) -> &[u8] {
        entry_of(&self.bytes, &self.ends, id)
    }

    fn entries(&self) -> impl Iterator<Item = &[u8]> + Clone {
        (0..self.ends.len() as u32).map(|id| self.entry(id))
    }
}

fn entry_of<'a>(bytes: &'a [u8], ends: &[usize], id: u32) -> &'a [u8] {
    let begin = if id == 0 { 0 } else { ends[id as usize - 1] };
    &bytes[begin..ends[id as usize]]
}

/// The tables that all resources share. Field numbers are those of `ProfilesDictionary`.
struct Dictionary {
    mappings: Table,
    locations: Table,
    functions: Table,
    strings: Strings,
    attributes: Table,
    stacks: Table,
}

impl Dictionary {
    fn new() -> Dictionary {
        Dictionary {
            mappings: Table::new(),
            locations: Table::new(),
            functions: Table::new(),
            strings: Strings::default(),
            attributes: Table::new(),
            stacks: Table::new(),
        }
    }

    fn string(&mut self, text: &str) -> u64 {
        self.strings.intern(text).into()
    }

    fn attribute(&mut self, key: &str, value: &Message) -> u64 {
        let mut message = Message::default();
        message.uint(1, self.string(key));
        message.message(2, value);
        self.attributes.intern(message.as_bytes())
    }

    fn text(&mut self, key: &str, text: &str) -> u64 {
        self.attribute(key, &any_text(text))
    }

    fn number(&mut self, key: &str, number: u64) -> u64 {
        self.attribute(key, &any_number(number))
    }

    fn flag(&mut self, key: &str) -> u64 {
        let mut value = Message::default();
        value.int_present(2, 1);
        self.attribute(key, &value)
    }

    /// A location from its frames, innermost first.
    fn location(&mut self, profile: &Profile, frames: &[u32]) -> u64 {
        let text = |id| profile.strings.get(id);
        let of = |id: u32| -> (&Frame, &Function) {
            let frame = &profile.frames[id as usize];
            (frame, &profile.functions[frame.function as usize])
        };
        let (frame, function) = of(frames[frames.len() - 1]);
        let module = &profile.modules[function.module as usize];
        let (path, build_id) = (text(module.path), text(module.build_id));
        let usual_name = frame.flags & (FRAME_UNNAMED | FRAME_INLINED) == FRAME_UNNAMED
            && frames.len() == 1
            && frame.line == 0
            && (function.system_name, function.file, function.start_line) == (0, 0, 0)
            && frame.address != 0
            && text(function.name) == unnamed(path, frame.address);

        let mut attributes = vec![self.text(key::FRAME_TYPE, function.kind.name())];
        let mut message = Message::default();
        if function.module != 0 && !build_id.is_empty() {
            message.uint(1, self.mapping(path, build_id));
        } else if !path.is_empty() {
            attributes.push(self.text(key::FILE, path));
        }
        message.uint(2, frame.address);
        if !usual_name {
            for &frame in frames {
                let (frame, function) = of(frame);
                let mut line = Message::default();
                line.uint(1, self.function(profile, function));
                line.uint(2, u64::from(frame.line));
                message.message(3, &line);
            }
            if frame.flags & FRAME_UNNAMED != 0 {
                attributes.push(self.flag(key::UNNAMED));
            }
        }
        if frame.flags & FRAME_HEURISTIC != 0 {
            attributes.push(self.flag(key::HEURISTIC));
        }
        if frame.flags & FRAME_INLINED != 0 {
            attributes.push(self.flag(key::INLINED));
        }
        message.packed(4, attributes.into_iter());
        self.locations.intern(message.as_bytes())
    }

    fn mapping(&mut self, path: &str, build_id: &str) -> u64 {
        let path = if path == KERNEL_FILE.0 { KERNEL_FILE.1 } else { path };
        let hex = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
        let key = match build_id.bytes().all(hex) {
            true => key::BUILD_ID_GNU,
            false => key::BUILD_ID_GO,
        };
        let attribute = self.text(key, build_id);
        let mut message = Message::default();
        message.uint(4, self.string(path));
        message.packed(5, std::iter::once(attribute));
        self.mappings.intern(message.as_bytes())
    }

    /// A function; one without any name is called `[unknown]`, as it must have one.
    fn function(&mut self, profile: &Profile, function: &Function) -> u64 {
        let text = |id| profile.strings.get(id);
        let mut message = Message::default();
        let name = match (function.name, function.system_name, function.file) {
            (0, 0, 0) => "[unknown]",
            (name, _, _) => text(name),
        };
        message.uint(1, self.string(name));
        message.uint(2, self.string(text(function.system_name)));
        message.uint(3, self.string(text(function.file)));
        message.uint(4, u64::from(function.start_line));
        self.functions.intern(message.as_bytes())
    }

    /// Writes it as field 2 of the file, without a second copy of it.
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        // The one link: none.
        let none: &[u8] = &[];
        let fields = || {
            (self.mappings.entries().map(|entry| (1, entry)))
                .chain(self.locations.entries().map(|entry| (2, entry)))
                .chain(self.functions.entries().map(|entry| (3, entry)))
                .chain(std::iter::once((4, none)))
                .chain(self.attributes.entries().map(|entry| (6, entry)))
                .chain(self.stacks.entries().map(|entry| (7, entry)))
                .chain(self.strings.iter().map(|text| (5, text.as_bytes())))
        };
        let len = fields().map(|(field, bytes)| Head::new(field, bytes.len()).whole_len()).sum();
        out.write_all(Head::new(2, len).as_bytes())?;
        fields().try_for_each(|(field, bytes)| {
            out.write_all(Head::new(field, bytes.len()).as_bytes())?;
            out.write_all(bytes)
        })
    }
}
