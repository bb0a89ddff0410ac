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

/// What is known of all locations of a mapping.
#[derive(Clone, Copy)]
struct Has {
    functions: bool,
    files: bool,
    lines: bool,
    inlines: bool,
    used: bool,
}

fn write_message(profile: &Profile, options: Options, out: &mut impl Write) -> io::Result<()> {
    let mut file = File::new(out, &profile.strings);
    let meta = &profile.meta;
    let text = |id| profile.strings.get(id);

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
    file.flush()?;

    // Locations refer to mappings, so these are numbered now and written when it is known what
    // their locations have.
    let mapping_ids = number_mappings(profile);
    let mut has =
        vec![
            Has { functions: true, files: true, lines: true, inlines: false, used: false };
            profile.modules.len()
        ];

    let keys = ["pid", "tid", "comm", "kind"].map(|key| file.string(key));
    // Ids follow each other without a gap: a reader that adds functions of its own goes on behind
    // their number (`doLocalSymbolize` of google/pprof).
    let mut functions = vec![0u64; profile.functions.len()];
    let mut n_functions = 0;
    let mut locations = Locations::new(profile, |inlined, caller| {
        inlined.0.address == caller.0.address && inlined.1.module == caller.1.module
    });
    let mut ids = Vec::new();
    for (stack, thread, count) in aggregate(profile) {
        locations.of_stack(stack, &mut ids, |id, frames| {
            let mut location = Message::default();
            let physical = &profile.frames[frames[frames.len() - 1] as usize];
            let module = profile.functions[physical.function as usize].module;
            location.uint(1, u64::from(id));
            location.uint(2, mapping_ids[module as usize]);
            location.uint(3, physical.address);
            let has = &mut has[module as usize];
            has.used = true;
            let mut line = Message::default();
            let path = text(profile.modules[module as usize].path);
            if options.address_only && is_a_file(path) && physical.address != 0 {
                has.functions = false;
            } else {
                for &frame in frames {
                    let frame = &profile.frames[frame as usize];
                    let function = &profile.functions[frame.function as usize];
                    has.functions &= frame.flags & FRAME_UNNAMED == 0;
                    has.files &= function.file != 0;
                    has.lines &= frame.line != 0;
                    let id = &mut functions[frame.function as usize];
                    let is_new = *id == 0;
                    if is_new {
                        n_functions += 1;
                        *id = n_functions;
                    }
                    line.clear();
                    line.uint(1, *id);
                    line.uint(2, u64::from(frame.line));
                    location.message(4, &line);
                    if is_new {
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
                    }
                }
                has.inlines |= frames.len() > 1;
            }
            file.message.message(4, &location);
            file.flush()
        })?;

        let thread = &profile.threads[thread as usize];
        let pid = profile.processes[thread.process as usize].pid;
        let leaf = profile.walk(stack).next();
        let kind = leaf.map(|frame| {
            let function = profile.frames[frame as usize].function;
            profile.functions[function as usize].kind.name()
        });
        let mut sample = Message::default();
        sample.packed(1, ids.iter().map(|&id| u64::from(id)));
        let cpu_ns = (meta.period_ns > 0).then(|| count.saturating_mul(meta.period_ns));
        sample.packed(2, std::iter::once(count).chain(cpu_ns));
        // A profile without ids, as a foreign one, gets none.
        let mut id = |id: u32| if pid | thread.tid == 0 { 0 } else { file.string(&id.to_string()) };
        let labels = [
            id(pid),
            id(thread.tid),
            file.string_of(thread.comm),
            kind.map_or(0, |kind| file.string(kind)),
        ];
        for (key, value) in keys.into_iter().zip(labels) {
            if value != 0 {
                let mut label = Message::default();
                label.uint(1, key);
                label.uint(2, value);
                sample.message(3, &label);
            }
        }
        file.message.message(2, &sample);
        file.flush()?;
    }

    let mut by_id: Vec<_> = (mapping_ids.iter().enumerate()).filter(|(_, id)| **id != 0).collect();
    by_id.sort_by_key(|(_, id)| **id);
    for (module, &id) in by_id {
        let has = has[module];
        let module = &profile.modules[module];
        let path = file.string_of(module.path);
        let build_id = file.string_of(module.build_id);
        let named = has.used && has.functions;
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
