//! pprof → profile.

use std::borrow::Cow;
use std::collections::HashSet;

use hotframe_core::profile::{
    FRAME_INLINED, FRAME_UNNAMED, Frame, Function, Kind, Process, Profile,
};

use super::NAME;
use crate::assemble::Map;
use crate::error::excerpt;
use crate::gzip::inflate;
use crate::tree::{base_name, unnamed};
use crate::wire::{Field, Reader};
use crate::{Assembler, Error, Fault, Limits, Row};

/// Reads a pprof file, gzipped or not.
///
/// # Errors
/// Those of [`Error`], but not [`Error::Write`].
pub fn read(bytes: &[u8]) -> Result<Profile, Error> {
    read_within(bytes, &Limits::default())
}

/// [`read`] within other limits.
///
/// # Errors
/// Likewise.
pub fn read_within(bytes: &[u8], limits: &Limits) -> Result<Profile, Error> {
    read_value(bytes, limits, None)
}

/// [`read_within`] of one of several values, `alloc_space` of a heap; `None` is the file's own choice.
///
/// # Errors
/// Likewise; [`Fault::NoValue`] if the file has no such one.
pub fn read_value(bytes: &[u8], limits: &Limits, value: Option<&str>) -> Result<Profile, Error> {
    let bytes = inflate(NAME, bytes, limits)?;
    let file = Reader::new(NAME, &bytes);
    if bytes.is_empty() {
        return Err(file.fault(Fault::Empty));
    }
    let mut tables = Tables {
        a: Assembler::new(NAME, *limits),
        limit: limits.table_entries,
        strings: Vec::new(),
        mappings: Map::default(),
        functions: Map::default(),
        locations: Map::default(),
        frames: Vec::new(),
        processes: Map::default(),
        default_comm: 0,
        label_values: Map::default(),
    };
    // Fields come in any order and refer to each other: strings first, then what refers to them.
    let mut head = Head::default();
    file.each(|field| tables.head(&mut head, field))?;
    tables.comments(&head);
    let value = head.value(&file, &tables, value)?;
    let meta = &mut tables.a.profile.meta;
    (meta.value_type, meta.value_unit) = value.what.clone();
    meta.period_ns = value.period_ns;
    file.each(|field| match field.number {
        3 => tables.mapping(field),
        _ => Ok(()),
    })?;
    file.each(|field| match field.number {
        5 => tables.function(field),
        _ => Ok(()),
    })?;
    file.each(|field| match field.number {
        4 => tables.location(field),
        _ => Ok(()),
    })?;
    file.each(|field| match field.number {
        2 => tables.sample(field, &value),
        _ => Ok(()),
    })?;
    tables.a.count_processes();
    Ok(tables.a.profile)
}

#[derive(Default)]
struct Head {
    /// Indices of strings: type and unit.
    types: Vec<(u64, u64)>,
    period_type: (u64, u64),
    period: i64,
    default_type: u64,
    /// Indices of strings.
    comments: Vec<u64>,
}

/// Which value of a sample counts, and by what it is divided.
struct ValueOf {
    index: usize,
    n_types: usize,
    divisor: u64,
    /// What it is, and its unit; "" for samples.
    what: (String, String),
    period_ns: u64,
}

impl Head {
    fn value(
        &self,
        file: &Reader,
        tables: &Tables,
        wanted: Option<&str>,
    ) -> Result<ValueOf, Error> {
        let text = |id: u64| {
            tables.text(id).ok_or_else(|| file.fault(index_fault("the string table", id)))
        };
        let mut names = Vec::new();
        for &(kind, unit) in &self.types {
            names.push((text(kind)?, text(unit)?));
        }
        let default = text(self.default_type)?;
        let period_unit = text(self.period_type.1)?;
        let wanted = match wanted {
            None => None,
            Some(wanted) => match names.iter().position(|name| name.0 == wanted) {
                Some(index) => Some(index),
                None => {
                    let has: Vec<&str> = names.iter().map(|name| &*name.0).collect();
                    let has = excerpt(&has.join(", "));
                    return Err(file.fault(Fault::NoValue { wanted: excerpt(wanted), has }));
                }
            },
        };
        let index = wanted
            .or_else(|| names.iter().position(|name| name.0 == "samples"))
            .or_else(|| names.iter().position(|name| !default.is_empty() && name.0 == default))
            .or(names.len().checked_sub(1));
        let Some(index) = index else {
            return Err(file.fault(Fault::NoSampleType));
        };
        let (what, unit) = &names[index];
        // Only of CPU time is the period that of a clock: a heap's is in bytes.
        let period_ns = match u64::try_from(self.period) {
            Ok(period) if period_unit == "nanoseconds" => period,
            _ => 0,
        };
        let by_period = unit == "nanoseconds" && period_ns > 0;
        let samples = by_period || what == "samples";
        Ok(ValueOf {
            index,
            n_types: names.len(),
            divisor: if by_period { period_ns } else { 1 },
            what: match samples {
                true => Default::default(),
                false => (what.clone().into_owned(), unit.clone().into_owned()),
            },
            period_ns: if samples { period_ns } else { 0 },
        })
    }
}

struct Tables<'a> {
    a: Assembler,
    limit: usize,
    strings: Vec<&'a [u8]>,
    /// By id: index of the module.
    mappings: Map<u64, u32>,
    /// By id: name, system name, file (indices of our strings), first line, kind if the file
    /// tells it.
    functions: Map<u64, (u32, u32, u32, u32, Option<Kind>)>,
    /// By id: range of `frames`, innermost first.
    locations: Map<u64, (u32, u32)>,
    frames: Vec<u32>,
    processes: Map<u32, u32>,
    default_comm: u32,
    /// By a label's key, both indices of strings: its values so far.
    label_values: Map<u64, HashSet<u64, foldhash::fast::RandomState>>,
}

fn index_fault(table: &'static str, index: u64) -> Fault {
    Fault::Index { table, index: index as i64 }
}

impl<'a> Tables<'a> {
    fn text(&self, id: u64) -> Option<Cow<'a, str>> {
        let id = usize::try_from(id).ok()?;
        match (self.strings.get(id), id) {
            (Some(bytes), _) => Some(String::from_utf8_lossy(bytes)),
            (None, 0) => Some("".into()),
            (None, _) => None,
        }
    }

    /// The string that a field names, interned.
    fn string(&mut self, field: &Field) -> Result<u32, Error> {
        let id = field.uint()?;
        let text = self.text(id).ok_or_else(|| field.fault(index_fault("the string table", id)))?;
        Ok(self.a.string(&text))
    }

    fn room(&self, have: usize, what: &'static str) -> Result<(), Error> {
        if have < self.limit {
            return Ok(());
        }
        Err(Error::TooLarge { format: NAME, what, limit: self.limit as u64 })
    }

    fn head(&mut self, head: &mut Head, field: Field<'a>) -> Result<(), Error> {
        let value_type = || -> Result<(u64, u64), Error> {
            let mut value_type = (0, 0);
            field.message()?.each(|part| {
                match part.number {
                    1 => value_type.0 = part.uint()?,
                    2 => value_type.1 = part.uint()?,
                    _ => {}
                }
                Ok(())
            })?;
            Ok(value_type)
        };
        match field.number {
            1 => {
                self.room(head.types.len(), "sample types")?;
                head.types.push(value_type()?);
            }
            6 => {
                self.room(self.strings.len(), "strings")?;
                self.strings.push(field.bytes()?);
            }
            9 => self.a.profile.meta.start_unix_ns = field.uint()?,
            10 => self.a.profile.meta.duration_ns = field.uint()?,
            11 => head.period_type = value_type()?,
            12 => {
                head.period = field.int()?;
            }
            13 => field.uints(|id| {
                self.room(head.comments.len(), "comments")?;
                head.comments.push(id);
                Ok(())
            })?,
            14 => head.default_type = field.uint()?,
            _ => {}
        }
        Ok(())
    }

    /// What comments say of the recording, where hotframe wrote them. Whatever else stands there is for people.
    fn comments(&mut self, head: &Head) {
        let mut texts: Vec<String> = Vec::new();
        for &id in &head.comments {
            texts.extend(self.text(id).map(Cow::into_owned));
        }
        let Some(producer) = texts.iter().find(|text| text.starts_with("hotframe ")) else {
            return;
        };
        for (key, value) in super::comments(&mut self.a.profile.meta) {
            let said = match key {
                "" => Some(producer.as_str()),
                _ => texts.iter().find_map(|text| text.strip_prefix(key)),
            };
            said.unwrap_or_default().clone_into(value);
        }
    }

    fn mapping(&mut self, field: Field<'a>) -> Result<(), Error> {
        self.room(self.mappings.len(), "mappings")?;
        let (mut id, mut path, mut build_id) = (0, 0, 0);
        field.message()?.each(|part| {
            match part.number {
                1 => id = part.uint()?,
                5 => path = self.string(&part)?,
                6 => build_id = self.string(&part)?,
                _ => {}
            }
            Ok(())
        })?;
        let path = self.a.profile.strings.get(path).to_owned();
        let build_id = self.a.profile.strings.get(build_id).to_owned();
        if self.mappings.is_empty() {
            self.default_comm = self.a.string(base_name(&path));
        }
        let module = self.a.module(&path, &build_id);
        unique(&mut self.mappings, "the mapping table", id, module, &field)
    }

    fn function(&mut self, field: Field<'a>) -> Result<(), Error> {
        self.room(self.functions.len(), "functions")?;
        let (mut id, mut name, mut system_name, mut file, mut start_line) = (0, 0, 0, 0, 0);
        field.message()?.each(|part| {
            match part.number {
                1 => id = part.uint()?,
                2 => name = self.string(&part)?,
                3 => system_name = self.string(&part)?,
                4 => file = self.string(&part)?,
                5 => start_line = line_number(part.int()?),
                _ => {}
            }
            Ok(())
        })?;
        if name == 0 {
            name = system_name;
        }
        let kind = kind_of_file(self.a.profile.strings.get(file));
        let function = (name, system_name, file, start_line, kind);
        unique(&mut self.functions, "the function table", id, function, &field)
    }

    fn location(&mut self, field: Field<'a>) -> Result<(), Error> {
        self.room(self.locations.len(), "locations")?;
        let (mut id, mut mapping, mut address) = (0, 0, 0);
        let mut lines: Vec<(u64, u32)> = Vec::new();
        field.message()?.each(|part| {
            match part.number {
                1 => id = part.uint()?,
                2 => mapping = part.uint()?,
                3 => address = part.uint()?,
                4 => {
                    let mut line = (0, 0);
                    part.message()?.each(|part| {
                        match part.number {
                            1 => line.0 = part.uint()?,
                            2 => line.1 = line_number(part.int()?),
                            _ => {}
                        }
                        Ok(())
                    })?;
                    lines.push(line);
                }
                _ => {}
            }
            Ok(())
        })?;
        let module = match mapping {
            0 => 0,
            id => *(self.mappings.get(&id))
                .ok_or_else(|| field.fault(index_fault("the mapping table", id)))?,
        };
        let path = self.a.profile.modules[module as usize].path;
        let path = self.a.profile.strings.get(path).to_owned();
        let placeholder = unnamed(&path, address);
        let start = self.frames.len() as u32;
        self.room(self.frames.len() + lines.len(), "lines of locations")?;
        if lines.is_empty() {
            let name = self.a.string(&placeholder);
            let kind = kind_of(None, &path);
            let function = self.a.function(Function {
                name,
                system_name: 0,
                file: 0,
                start_line: 0,
                module,
                kind,
            });
            let frame = Frame { function, line: 0, address, flags: FRAME_UNNAMED };
            self.frames.push(self.a.frame(frame));
        }
        for (i, &(function, line)) in lines.iter().enumerate() {
            let Some(&(name, system_name, file, start_line, kind)) = self.functions.get(&function)
            else {
                return Err(field.fault(index_fault("the function table", function)));
            };
            let kind = kind_of(kind, &path);
            let mut flags = if i + 1 < lines.len() { FRAME_INLINED } else { 0 };
            if self.a.profile.strings.get(name) == placeholder {
                flags |= FRAME_UNNAMED;
            }
            let function =
                self.a.function(Function { name, system_name, file, start_line, module, kind });
            self.frames.push(self.a.frame(Frame { function, line, address, flags }));
        }
        let range = (start, self.frames.len() as u32);
        unique(&mut self.locations, "the location table", id, range, &field)
    }

    fn sample(&mut self, field: Field<'a>, value: &ValueOf) -> Result<(), Error> {
        let mut ids = Vec::new();
        let mut values = Vec::new();
        let mut labels = Labels::default();
        field.message()?.each(|part| {
            match part.number {
                1 => part.uints(|id| {
                    ids.push(id);
                    Ok(())
                })?,
                2 => part.uints(|value| {
                    values.push(value as i64);
                    Ok(())
                })?,
                3 => {
                    let label = self.label(&part)?;
                    self.add_label(&mut labels, label);
                }
                _ => {}
            }
            Ok(())
        })?;
        if values.len() != value.n_types {
            let fault = Fault::ValueCount { found: values.len(), expected: value.n_types };
            return Err(field.fault(fault));
        }
        let Ok(weight) = u64::try_from(values[value.index]) else {
            return Err(field.fault(Fault::Negative { value: values[value.index] }));
        };
        let weight = weight / value.divisor;
        let mut locations = Vec::with_capacity(ids.len());
        for id in ids {
            let location = self.locations.get(&id);
            locations
                .push(*location.ok_or_else(|| field.fault(index_fault("the location table", id)))?);
        }
        let frames = locations.iter().rev().flat_map(|&(start, end)| {
            self.frames[start as usize..end as usize].iter().rev().copied()
        });
        let stack = self.a.stack(frames)?;
        if weight == 0 {
            return Ok(());
        }
        let thread = self.thread(labels)?;
        self.a.sample(Row { time_ns: 0, thread, stack, cpu: 0, cut: 0, weight })
    }

    /// Takes a label for what it says of the thread. Others than of ids and names, as Go's
    /// `pprof.Do` sets them, become part of the thread's name: so samples can be chosen by them.
    fn add_label(&mut self, labels: &mut Labels<'a>, label: Label<'a>) {
        let number = label.number.or_else(|| label.text.as_deref()?.parse().ok());
        match &*label.key {
            "pid" | "process_id" | "process id" => labels.pid = number.unwrap_or(0),
            "tid" | "thread_id" | "thread id" => labels.tid = number.unwrap_or(0),
            "comm" | "thread" | "thread_name" | "thread name" => labels.comm = label.text,
            // Of the leaf, which has it from its frame.
            "kind" => {}
            _ => {
                let Some(text) = label.text else { return };
                let values = self.label_values.entry(label.key_id).or_default();
                let is_full = values.len() >= LABEL_VALUES_MAX;
                // Each trace's own number tells no groups apart.
                let text = match is_full && !values.contains(&label.text_id) {
                    true => "…".into(),
                    false => {
                        values.insert(label.text_id);
                        text
                    }
                };
                labels.others.push((label.key, text));
            }
        }
    }

    fn thread(&mut self, mut labels: Labels) -> Result<u32, Error> {
        let Labels { pid, tid, comm, .. } = labels;
        let is_named = comm.is_some();
        let comm = match comm {
            Some(comm) => self.a.string(&comm),
            None => self.default_comm,
        };
        self.room(self.processes.len(), "processes")?;
        let process = *self.processes.entry(pid).or_insert_with(|| {
            let comm = if pid == 0 && self.default_comm != 0 { self.default_comm } else { comm };
            self.a.process(Process { pid, comm, ..Process::default() })
        });
        // Without ids each thread would be the first one.
        if tid == pid && pid != 0 && is_named {
            self.a.profile.processes[process as usize].comm = comm;
        }
        let mut name = comm;
        if !labels.others.is_empty() {
            labels.others.sort_unstable();
            let others = labels.others.iter().map(|(key, text)| format!("{key}={text}"));
            let comm = Some(self.a.profile.strings.get(comm)).filter(|comm| !comm.is_empty());
            let parts: Vec<String> = comm.map(str::to_owned).into_iter().chain(others).collect();
            name = self.a.string(&parts.join(" "));
        }
        Ok(self.a.thread(process, tid, name))
    }

    fn label(&self, field: &Field<'a>) -> Result<Label<'a>, Error> {
        let mut label = Label::default();
        let lookup = |id: u64, part: &Field| {
            self.text(id).ok_or_else(|| part.fault(index_fault("the string table", id)))
        };
        field.message()?.each(|part| {
            match part.number {
                1 => {
                    label.key_id = part.uint()?;
                    label.key = lookup(label.key_id, &part)?;
                }
                2 => {
                    label.text_id = part.uint()?;
                    label.text = Some(lookup(label.text_id, &part)?);
                }
                3 => label.number = u32::try_from(part.uint()?).ok(),
                _ => {}
            }
            Ok(())
        })?;
        Ok(label)
    }
}

/// So many values of a label are told apart; all others are one.
const LABEL_VALUES_MAX: usize = 256;

/// A label of a sample.
#[derive(Default)]
struct Label<'a> {
    key_id: u64,
    key: Cow<'a, str>,
    text_id: u64,
    text: Option<Cow<'a, str>>,
    number: Option<u32>,
}

/// What a sample's labels say of its thread.
#[derive(Default)]
struct Labels<'a> {
    pid: u32,
    tid: u32,
    comm: Option<Cow<'a, str>>,
    others: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// Adds an entry under an id that must be new and not 0.
fn unique<T>(
    table: &mut Map<u64, T>,
    name: &'static str,
    id: u64,
    value: T,
    field: &Field,
) -> Result<(), Error> {
    if id == 0 {
        return Err(field.fault(Fault::ZeroId { table: name }));
    }
    match table.insert(id, value) {
        None => Ok(()),
        Some(_) => Err(field.fault(Fault::Duplicate { table: name, id })),
    }
}

/// A line as ours: foreign ones are signed; what does not fit is unknown.
fn line_number(line: i64) -> u32 {
    u32::try_from(line).unwrap_or(0)
}

/// The kind that a source file's name tells.
fn kind_of_file(file: &str) -> Option<Kind> {
    let (_, extension) = base_name(file).rsplit_once('.')?;
    Kind::ALL.into_iter().find(|kind| kind.file_endings().contains(&extension))
}

/// The kind of code of a function in a mapping.
fn kind_of(of_file: Option<Kind>, mapping: &str) -> Kind {
    if mapping.starts_with("[kernel")
        || base_name(mapping).starts_with("vmlinux")
        || mapping.ends_with(".ko")
    {
        return Kind::Kernel;
    }
    of_file.unwrap_or(Kind::Native)
}
