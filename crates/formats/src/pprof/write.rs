//! Profile → pprof.

use std::collections::HashMap;
use std::io::{self, Write};

use flate2::{Compression, write::GzEncoder};
use hotframe_core::profile::{FRAME_UNNAMED, Profile, Strings};

use super::NAME;
use crate::Error;
use crate::tree::{Locations, aggregate};
use crate::wire::Message;

/// How to write.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Leaves the naming of code that lies in a file to the reader.
    pub address_only: bool,
}

/// Writes the gzipped message.
///
/// # Errors
/// [`Error::Write`].
pub fn write(profile: &Profile, options: Options, out: &mut impl Write) -> Result<(), Error> {
    let mut gzip = GzEncoder::new(out, Compression::default());
    write_message(profile, options, &mut gzip)
        .and_then(|()| gzip.try_finish())
        .map_err(Error::write(NAME))
}

fn write_message(profile: &Profile, options: Options, out: &mut impl Write) -> io::Result<()> {
    let mut file = File::new(out, &profile.strings);
    write_facts(&mut file, profile)?;
    let label_keys = ["pid", "tid", "comm", "kind"].map(|key| file.string(key));
    let mut code = Code::new(profile, options);
    let mut locations = Locations::new(profile, |inlined, caller| {
        inlined.0.address == caller.0.address && inlined.1.module == caller.1.module
    });
    let mut ids = Vec::new();
    for (stack, thread, count) in aggregate(profile) {
        locations
            .of_stack(stack, &mut ids, |id, frames| code.write_location(&mut file, id, frames))?;
        let labels = labels(&mut file, profile, stack, thread);
        write_sample(
            &mut file,
            &ids,
            count,
            profile.meta.period_ns,
            label_keys.into_iter().zip(labels),
        )?;
    }
    code.write_mappings(&mut file)
}

/// What the values mean, when and how it was recorded.
fn write_facts(file: &mut File<'_, impl Write>, profile: &Profile) -> io::Result<()> {
    let meta = &profile.meta;
    let (value, unit) = meta.value();
    file.value_type(1, value, unit);
    if meta.period_ns > 0 {
        file.value_type(1, "cpu", "nanoseconds");
        file.value_type(11, "cpu", "nanoseconds");
    }
    let default = if meta.period_ns > 0 { "cpu" } else { value };
    let default = file.string(default);
    let mut comments = Vec::new();
    for (key, value) in super::comments(&mut meta.clone()) {
        if !value.is_empty() {
            comments.push(file.string(&format!("{key}{value}")));
        }
    }
    file.message.uint(9, meta.start_unix_ns);
    file.message.uint(10, meta.duration_ns);
    file.message.uint(12, meta.period_ns);
    file.message.packed(13, comments.into_iter());
    file.message.uint(14, default);
    file.flush()
}

/// The string numbers of a stack's pid, tid, comm and kind; 0: it has none.
fn labels(file: &mut File<'_, impl Write>, profile: &Profile, stack: u32, thread: u32) -> [u64; 4] {
    let thread = &profile.threads[thread as usize];
    let pid = profile.processes[thread.process as usize].pid;
    let kind = profile.walk(stack).next().map(|leaf| {
        let function = profile.frames[leaf as usize].function;
        profile.functions[function as usize].kind.name()
    });
    // A profile without ids, as a foreign one, gets none.
    let mut id = |id: u32| if pid | thread.tid == 0 { 0 } else { file.string(&id.to_string()) };
    [id(pid), id(thread.tid), file.string_of(thread.comm), kind.map_or(0, |kind| file.string(kind))]
}

fn write_sample(
    file: &mut File<'_, impl Write>,
    locations: &[u32],
    count: u64,
    period_ns: u64,
    labels: impl IntoIterator<Item = (u64, u64)>,
) -> io::Result<()> {
    let mut sample = Message::default();
    sample.packed(1, locations.iter().map(|&id| u64::from(id)));
    let cpu_ns = (period_ns > 0).then(|| count.saturating_mul(period_ns));
    sample.packed(2, std::iter::once(count).chain(cpu_ns));
    for (key, value) in labels {
        if value != 0 {
            let mut label = Message::default();
            label.uint(1, key);
            label.uint(2, value);
            sample.message(3, &label);
        }
    }
    file.message.message(2, &sample);
    file.flush()
}

/// What is known of all locations of a mapping.
#[derive(Clone, Copy)]
struct Has {
    functions: bool,
    files: bool,
    lines: bool,
    inlines: bool,
    used: bool,
}

/// What has been written of locations, functions and mappings. Locations refer to mappings, so these
/// are numbered first and written last, when it is known what their locations have.
struct Code<'p> {
    profile: &'p Profile,
    options: Options,
    /// By module.
    mapping_ids: Vec<u64>,
    /// By module.
    has: Vec<Has>,
    /// By function; 0: not written yet. Ids follow each other without a gap: a reader that adds
    /// functions of its own goes on behind their number (`doLocalSymbolize` of google/pprof).
    function_ids: Vec<u64>,
    n_functions: u64,
}

impl<'p> Code<'p> {
    fn new(profile: &'p Profile, options: Options) -> Code<'p> {
        let has = Has { functions: true, files: true, lines: true, inlines: false, used: false };
        Code {
            profile,
            options,
            mapping_ids: number_mappings(profile),
            has: vec![has; profile.modules.len()],
            function_ids: vec![0; profile.functions.len()],
            n_functions: 0,
        }
    }

    /// Writes a location, of frames from the innermost inlined one to the physical one, behind the
    /// functions that it is the first to name.
    fn write_location(
        &mut self,
        file: &mut File<'_, impl Write>,
        id: u32,
        frames: &[u32],
    ) -> io::Result<()> {
        let profile = self.profile;
        let physical = &profile.frames[frames[frames.len() - 1] as usize];
        let module = profile.functions[physical.function as usize].module as usize;
        let mut location = Message::default();
        location.uint(1, u64::from(id));
        location.uint(2, self.mapping_ids[module]);
        location.uint(3, physical.address);
        let path = profile.strings.get(profile.modules[module].path);
        let mut has = Has { used: true, ..self.has[module] };
        if self.options.address_only && is_a_file(path) && physical.address != 0 {
            has.functions = false;
        } else {
            let mut line = Message::default();
            for &frame in frames {
                let frame = &profile.frames[frame as usize];
                has.functions &= frame.flags & FRAME_UNNAMED == 0;
                has.files &= profile.functions[frame.function as usize].file != 0;
                has.lines &= frame.line != 0;
                line.clear();
                line.uint(1, self.function(file, frame.function));
                line.uint(2, u64::from(frame.line));
                location.message(4, &line);
            }
            has.inlines |= frames.len() > 1;
        }
        self.has[module] = has;
        file.message.message(4, &location);
        file.flush()
    }

    /// The id of a function, which is written when it is first asked for.
    fn function(&mut self, file: &mut File<'_, impl Write>, function: u32) -> u64 {
        let id = &mut self.function_ids[function as usize];
        if *id != 0 {
            return *id;
        }
        self.n_functions += 1;
        *id = self.n_functions;
        let function = &self.profile.functions[function as usize];
        let name = file.string_of(function.name);
        let system_name = match function.system_name {
            0 => name,
            id => file.string_of(id),
        };
        let source = file.string_of(function.file);
        let mut entry = Message::default();
        entry.uint(1, *id);
        entry.uint(2, name);
        entry.uint(3, system_name);
        entry.uint(4, source);
        entry.uint(5, u64::from(function.start_line));
        file.message.message(5, &entry);
        *id
    }

    fn write_mappings(&self, file: &mut File<'_, impl Write>) -> io::Result<()> {
        let mut modules: Vec<usize> =
            (0..self.mapping_ids.len()).filter(|&module| self.mapping_ids[module] != 0).collect();
        modules.sort_by_key(|&module| self.mapping_ids[module]);
        for module in modules {
            let has = self.has[module];
            let named = has.used && has.functions;
            let id = self.mapping_ids[module];
            let module = &self.profile.modules[module];
            let path = file.string_of(module.path);
            let build_id = file.string_of(module.build_id);
            let mut mapping = Message::default();
            mapping.uint(1, id);
            mapping.uint(3, u64::MAX);
            mapping.uint(5, path);
            mapping.uint(6, build_id);
            mapping.uint(7, u64::from(named));
            mapping.uint(8, u64::from(named && has.files));
            mapping.uint(9, u64::from(named && has.lines));
            mapping.uint(10, u64::from(named && has.inlines));
            file.message.message(3, &mapping);
            file.flush()?;
        }
        Ok(())
    }
}

/// The reader finds a file by its path. The kernel's and the vDSO's are names in brackets, for which
/// it looks nowhere.
fn is_a_file(path: &str) -> bool {
    !path.is_empty() && !path.starts_with('[')
}

/// Ids of the mappings, by module: 1 is the executable with the most samples, then in order.
fn number_mappings(profile: &Profile) -> Vec<u64> {
    let mut samples: HashMap<u32, u64> = HashMap::new();
    for (i, &thread) in profile.samples.thread.iter().enumerate() {
        let process = profile.threads[thread as usize].process;
        let exe = profile.processes[process as usize].exe;
        *samples.entry(exe).or_default() += u64::from(profile.samples.weight[i]);
    }
    let main = (1..profile.modules.len()).max_by_key(|&i| {
        let samples = samples.get(&profile.modules[i].path).copied().unwrap_or(0);
        (samples, std::cmp::Reverse(i))
    });
    let mut next = 1;
    let mut ids = vec![0; profile.modules.len()];
    for i in main.into_iter().chain(1..profile.modules.len()) {
        if ids[i] == 0 {
            ids[i] = next;
            next += 1;
        }
    }
    ids
}

/// The message as it goes out: fields collect in `message`, strings go before what names them.
struct File<'w, W: Write> {
    out: &'w mut W,
    message: Message,
    of: &'w Strings,
    /// Numbers of the profile's strings; 0: none yet, but for the empty one.
    numbers: Vec<u32>,
    /// Strings that the profile does not have.
    others: HashMap<Box<str>, u32>,
    n_strings: u32,
}

impl<'w, W: Write> File<'w, W> {
    fn new(out: &'w mut W, of: &'w Strings) -> File<'w, W> {
        let mut message = Message::default();
        message.bytes_present(6, b"");
        let (numbers, others) = (vec![0; of.len()], HashMap::new());
        File { out, message, of, numbers, others, n_strings: 1 }
    }

    fn string(&mut self, text: &str) -> u64 {
        if let Some(id) = self.of.find(text) {
            return self.string_of(id);
        }
        if let Some(&number) = self.others.get(text) {
            return number.into();
        }
        self.others.insert(text.into(), self.n_strings);
        self.new_string(text)
    }

    /// One of the profile's.
    fn string_of(&mut self, id: u32) -> u64 {
        let known = self.numbers[id as usize];
        if known != 0 || id == 0 {
            return known.into();
        }
        self.numbers[id as usize] = self.n_strings;
        self.new_string(self.of.get(id))
    }

    fn new_string(&mut self, text: &str) -> u64 {
        self.message.bytes_present(6, text.as_bytes());
        self.n_strings += 1;
        (self.n_strings - 1).into()
    }

    fn value_type(&mut self, field: u32, kind: &str, unit: &str) {
        let mut message = Message::default();
        message.uint(1, self.string(kind));
        message.uint(2, self.string(unit));
        self.message.message(field, &message);
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(self.message.as_bytes())?;
        self.message.clear();
        Ok(())
    }
}
