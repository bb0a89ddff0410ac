//! Profile → OTLP.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::io::{self, Write};

use foldhash::fast::RandomState;
use hotframe_core::numbers::Numbers;
use hotframe_core::profile::{
    FRAME_HEURISTIC, FRAME_INLINED, FRAME_UNNAMED, Frame, Function, Process, Profile, Strings,
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

/// Writes one `ProfilesData` message, not compressed.
///
/// # Errors
/// [`Error::Write`].
pub fn write(profile: &Profile, options: Options, out: &mut impl Write) -> Result<(), Error> {
    let mut dictionary = Dictionary::new();
    let mut locations = Locations::new(profile, |inlined, caller| {
        let bits = |flags: u8| flags & !FRAME_INLINED;
        inlined.0.address == caller.0.address
            && inlined.1.module == caller.1.module
            && inlined.1.kind == caller.1.kind
            && bits(inlined.0.flags) == bits(caller.0.flags)
    });
    // Our locations' numbers are in order of meeting, the dictionary's by content.
    let mut location_ids = vec![0];
    let mut stack_ids: HashMap<u32, u64> = HashMap::from([(0, 0)]);

    let samples = &profile.samples;
    let meta = &profile.meta;
    let timed = meta.duration_ns > 0 || samples.time_ns.iter().any(|&time| time > 0);
    let ticks: u64 = samples.weight.iter().map(|&weight| u64::from(weight)).sum();
    let shape = match timed {
        false => Shape::Total,
        true if ticks <= 4 * samples.weight.len() as u64 + 1_000_000 => Shape::Stamps,
        true => Shape::StampsAndValues,
    };
    let end_ns = samples.time_ns.iter().max().map_or(0, |last| last + 1);

    let mut rows: Vec<u32> =
        (0..samples.stack.len() as u32).filter(|&i| samples.weight[i as usize] > 0).collect();
    let thread_of = |i: u32| &profile.threads[samples.thread[i as usize] as usize];
    let cpu_of = |i: usize| if options.cpu { samples.cpu[i] } else { 0 };
    let identity = |row: u32| {
        let (thread, i) = (thread_of(row), row as usize);
        (thread.process, samples.stack[i], thread.tid, thread.comm, cpu_of(i), samples.cut[i])
    };
    rows.sort_unstable_by_key(|&i| (identity(i), samples.time_ns[i as usize], i));
    let mut rows = rows.as_slice();

    let no_process = [Process::default()];
    let (processes, known) = match profile.processes.as_slice() {
        [] => (no_process.as_slice(), false),
        processes => (processes, true),
    };
    for (p, process) in processes.iter().enumerate() {
        let mut otlp = Message::default();
        let (value, unit) = meta.value();
        otlp.message(1, &value_type(&mut dictionary, value, unit));
        let n_rows = rows.partition_point(|&i| thread_of(i).process as usize <= p);
        let (own, rest) = rows.split_at(n_rows);
        rows = rest;
        let mut locations_of_stack = Vec::new();
        for same in own.chunk_by(|&i, &j| identity(i) == identity(j)) {
            let row = same[0];
            let i = row as usize;
            let stack = samples.stack[i];
            let stack_id = match stack_ids.get(&stack) {
                Some(&id) => id,
                None => {
                    locations.of_stack(stack, &mut locations_of_stack, |_, frames| {
                        location_ids.push(dictionary.location(profile, frames));
                        Ok::<(), Error>(())
                    })?;
                    let mut message = Message::default();
                    let ids = locations_of_stack.iter().map(|&id| location_ids[id as usize]);
                    message.packed(1, ids);
                    let id = dictionary.stacks.intern(message.as_bytes());
                    stack_ids.insert(stack, id);
                    id
                }
            };
            let thread = thread_of(row);
            let mut attributes = Vec::new();
            if known {
                attributes.push(dictionary.number(key::TID, u64::from(thread.tid)));
                let comm = profile.strings.get(thread.comm);
                attributes.push(dictionary.text(key::THREAD, comm));
            }
            if options.cpu && timed {
                attributes.push(dictionary.number(key::CPU, u64::from(samples.cpu[i])));
            }
            if let Some(reason) = cut_name(samples.cut[i]) {
                attributes.push(dictionary.text(key::CUT, reason));
            }
            let mut sample = Message::default();
            sample.uint(1, stack_id);
            sample.packed(2, attributes.into_iter());
            let weights = same.iter().map(|&i| u64::from(samples.weight[i as usize]));
            let stamps = (same.iter())
                .map(|&i| meta.start_unix_ns.saturating_add(samples.time_ns[i as usize]));
            match shape {
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
            otlp.message(2, &sample);
        }
        otlp.fixed64(3, meta.start_unix_ns);
        otlp.uint(4, if timed { meta.duration_ns.max(end_ns) } else { 0 });
        if meta.period_ns > 0 {
            otlp.message(5, &value_type(&mut dictionary, "cpu", "nanoseconds"));
            otlp.uint(6, meta.period_ns);
        }
        let mut attributes = Vec::new();
        if options.books && known {
            attributes.push(dictionary.number(key::PROCESS_SAMPLES, process.samples));
            attributes.push(dictionary.number(key::PROCESS_WHOLE, process.whole));
            for (reason, &count) in hotframe_abi::CUT_NAMES.iter().zip(&process.cut) {
                if count > 0 {
                    let name = format!("{}{reason}", key::PROCESS_CUT);
                    attributes.push(dictionary.number(&name, count));
                }
            }
        }
        if options.books && p == 0 {
            if !profile.stats.is_empty() {
                attributes.push(dictionary.text(key::STATS, &profile.stats));
            }
            if !meta.command.is_empty() {
                attributes.push(dictionary.text(key::COMMAND, &meta.command));
            }
            if meta.n_cpus > 0 {
                attributes.push(dictionary.number(key::CPUS, u64::from(meta.n_cpus)));
            }
        }
        otlp.packed(11, attributes.into_iter());

        let mut scope_profiles = Message::default();
        scope_profiles.message(1, &scope(&meta.producer));
        let mut resource_profiles = Message::default();
        resource_profiles.message(1, &resource(profile, known.then_some(process)));
        // The profile is the last field of what holds it, and that of the file's: it is not copied.
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
            out.write_all(bytes).map_err(Error::write(NAME))?;
        }
    }
    dictionary.write(out).map_err(Error::write(NAME))
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
