//! OTLP → profile.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

use hotframe_core::profile::{
    FRAME_HEURISTIC, FRAME_INLINED, FRAME_UNNAMED, Frame, Function, Kind, Process, Profile,
};

use super::{ARCHS, KERNEL_FILE, NAME, key};
use crate::canonical::canonical;
use crate::error::excerpt;
use crate::gzip::inflate;
use crate::json::MAX_BYTES as MAX_JSON_BYTES;
use crate::tree::{base_name, unnamed};
use crate::wire::{Field, Reader};
use crate::{Assembler, At, Error, Fault, Limits, Row};

/// Reads a `ProfilesData` message, gzipped or not.
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

/// [`read_within`] of one of several sample types, `alloc_space` of a heap; `None` is CPU time where there is
/// any, else the last.
///
/// # Errors
/// Likewise; [`Fault::NoValue`] if the file has no such one.
pub fn read_value(bytes: &[u8], limits: &Limits, value: Option<&str>) -> Result<Profile, Error> {
    let bytes = inflate(NAME, bytes, limits)?;
    let file = Reader::new(NAME, &bytes);
    if bytes.is_empty() {
        return Err(file.fault(Fault::Empty));
    }
    let mut dictionary = Dictionary::new(limits);
    // Tables refer to each other: strings first, then what refers to them.
    for table in [5, 6, 1, 3, 2, 7] {
        file.each(|field| match field.number {
            2 => field.message()?.each(|entry| match entry.number == table {
                true => dictionary.entry(entry),
                false => Ok(()),
            }),
            _ => Ok(()),
        })?;
    }
    let mut resources = Vec::new();
    file.each(|field| match field.number {
        1 => {
            dictionary.room(resources.len(), "resources")?;
            resources.push(dictionary.resource(field.message()?)?);
            Ok(())
        }
        _ => Ok(()),
    })?;
    if resources.is_empty() {
        return Err(file.fault(Fault::Foreign {
            expected: "an OTLP ProfilesData message: it has no resource",
        }));
    }
    dictionary.samples(resources, value)
}

/// An attribute's value.
#[derive(Debug, Clone, PartialEq)]
enum Any<'a> {
    Text(Cow<'a, str>),
    Number(i64),
    Flag(bool),
    Other,
}

type Attribute<'a> = (Cow<'a, str>, Any<'a>);

struct Resource<'a> {
    attributes: Vec<Attribute<'a>>,
    profiles: Vec<Message<'a>>,
}

/// A Profile message, its samples not yet read.
struct Message<'a> {
    reader: Reader<'a>,
    sample_type: (Cow<'a, str>, Cow<'a, str>),
    period_unit: Cow<'a, str>,
    start_unix_ns: u64,
    duration_ns: u64,
    period: u64,
    attributes: Vec<u64>,
}

/// The type whose samples count: `samples` and `cpu` say the same, and others are no sum with them.
fn cpu_type<'r>(resource: &'r Resource) -> Option<&'r str> {
    (["samples", "cpu"].into_iter())
        .find(|name| resource.profiles.iter().any(|message| message.sample_type.0 == *name))
}

struct Dictionary<'a> {
    a: Assembler,
    limit: usize,
    strings: Vec<&'a [u8]>,
    attributes: Vec<Attribute<'a>>,
    /// Indices of modules.
    mappings: Vec<u32>,
    /// Name, system name, file (indices of our strings) and first line.
    functions: Vec<(u32, u32, u32, u32)>,
    /// Ranges of `frames`, innermost first.
    locations: Vec<(u32, u32)>,
    frames: Vec<u32>,
    stacks: Vec<Field<'a>>,
    /// Our node of a stack once it is needed.
    nodes: Vec<Option<u32>>,
    /// Room for the locations of one stack.
    open_stack: Vec<(u32, u32)>,
    scope: Option<String>,
}

fn index_fault(table: &'static str, index: u64) -> Fault {
    Fault::Index { table, index: index as i64 }
}

/// The entry that a field's index names.
fn entry<'t, T>(
    table: &'t [T],
    name: &'static str,
    index: u64,
    field: &Field,
) -> Result<&'t T, Error> {
    (usize::try_from(index).ok().and_then(|i| table.get(i)))
        .ok_or_else(|| field.fault(index_fault(name, index)))
}

impl<'a> Dictionary<'a> {
    fn new(limits: &Limits) -> Dictionary<'a> {
        Dictionary {
            a: Assembler::new(NAME, *limits),
            limit: limits.table_entries,
            strings: Vec::new(),
            attributes: Vec::new(),
            mappings: Vec::new(),
            functions: Vec::new(),
            locations: Vec::new(),
            frames: Vec::new(),
            stacks: Vec::new(),
            nodes: Vec::new(),
            open_stack: Vec::new(),
            scope: None,
        }
    }

    fn room(&self, have: usize, what: &'static str) -> Result<(), Error> {
        if have < self.limit {
            return Ok(());
        }
        Err(Error::TooLarge { format: NAME, what, limit: self.limit as u64 })
    }

    fn text(&self, index: &Field<'a>) -> Result<Cow<'a, str>, Error> {
        let bytes = entry(&self.strings, "the string table", index.uint()?, index)?;
        Ok(String::from_utf8_lossy(bytes))
    }

    /// The string that an index names, interned.
    fn string(&mut self, index: &Field<'a>) -> Result<u32, Error> {
        let text = self.text(index)?;
        Ok(self.a.string(&text))
    }

    /// Adds an entry of one of the tables.
    fn entry(&mut self, field: Field<'a>) -> Result<(), Error> {
        match field.number {
            1 => {
                self.room(self.mappings.len(), "mappings")?;
                let module = self.mapping(&field)?;
                self.mappings.push(module);
            }
            2 => {
                self.room(self.locations.len(), "locations")?;
                let start = self.frames.len() as u32;
                self.location(&field)?;
                self.locations.push((start, self.frames.len() as u32));
            }
            3 => {
                self.room(self.functions.len(), "functions")?;
                let (mut name, mut system_name, mut file, mut start_line) = (0, 0, 0, 0);
                field.message()?.each(|part| {
                    match part.number {
                        1 => name = self.string(&part)?,
                        2 => system_name = self.string(&part)?,
                        3 => file = self.string(&part)?,
                        4 => start_line = line_number(part.int()?),
                        _ => {}
                    }
                    Ok(())
                })?;
                if name == 0 && file == 0 {
                    name = system_name;
                }
                self.functions.push((name, system_name, file, start_line));
            }
            5 => {
                self.room(self.strings.len(), "strings")?;
                self.strings.push(field.bytes()?);
            }
            6 => {
                self.room(self.attributes.len(), "attributes")?;
                let attribute = self.key_value(field.message()?, false)?;
                self.attributes.push(attribute);
            }
            7 => {
                self.room(self.stacks.len(), "stacks")?;
                self.stacks.push(field);
                self.nodes.push(None);
            }
            _ => {}
        }
        Ok(())
    }

    /// A `KeyValue`, or a `KeyValueAndUnit`, whose key is an index always.
    fn key_value(&self, message: Reader<'a>, plain_key: bool) -> Result<Attribute<'a>, Error> {
        let (mut key, mut value) = (Cow::Borrowed(""), Any::Other);
        message.each(|part| {
            match part.number {
                1 if plain_key => key = part.text()?,
                1 => key = self.text(&part)?,
                2 => {
                    part.message()?.each(|part| {
                        value = match part.number {
                            1 => Any::Text(part.text()?),
                            2 => Any::Flag(part.uint()? != 0),
                            3 => Any::Number(part.int()?),
                            8 => Any::Text(self.text(&part)?),
                            _ => Any::Other,
                        };
                        Ok(())
                    })?;
                }
                3 if plain_key => key = self.text(&part)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok((key, value))
    }

    fn mapping(&mut self, field: &Field<'a>) -> Result<u32, Error> {
        let mut path = Cow::Borrowed("");
        let mut build_id = Cow::Borrowed("");
        field.message()?.each(|part| {
            match part.number {
                4 => path = self.text(&part)?,
                5 => part.uints(|index| {
                    let (key, value) =
                        entry(&self.attributes, "the attribute table", index, &part)?;
                    match value {
                        // Any other id (a hash of the file) serves if there is none of these.
                        Any::Text(text)
                            if matches!(&**key, key::BUILD_ID_GNU | key::BUILD_ID_GO)
                                || key.starts_with("process.executable.build_id")
                                    && build_id.is_empty() =>
                        {
                            build_id = text.clone();
                        }
                        _ => {}
                    }
                    Ok(())
                })?,
                _ => {}
            }
            Ok(())
        })?;
        if path == KERNEL_FILE.1 {
            path = Cow::Borrowed(KERNEL_FILE.0);
        }
        Ok(self.a.module(&path, &build_id))
    }

    fn location(&mut self, field: &Field<'a>) -> Result<(), Error> {
        let (mut module, mut address) = (0, 0);
        let mut lines = Vec::new();
        let mut kind = Kind::Native;
        let mut flags = 0;
        let mut file = None;
        field.message()?.each(|part| {
            match part.number {
                1 => module = *entry(&self.mappings, "the mapping table", part.uint()?, &part)?,
                2 => address = part.uint()?,
                3 => {
                    let mut line = ((0, 0, 0, 0), 0);
                    part.message()?.each(|part| {
                        match part.number {
                            1 => {
                                line.0 = *entry(
                                    &self.functions,
                                    "the function table",
                                    part.uint()?,
                                    &part,
                                )?
                            }
                            2 => line.1 = line_number(part.int()?),
                            _ => {}
                        }
                        Ok(())
                    })?;
                    lines.push(line);
                }
                4 => part.uints(|index| {
                    let (key, value) =
                        entry(&self.attributes, "the attribute table", index, &part)?;
                    match (&**key, value) {
                        (key::FRAME_TYPE, Any::Text(name)) => kind = kind_of(name),
                        (key::HEURISTIC, Any::Flag(true)) => flags |= FRAME_HEURISTIC,
                        (key::UNNAMED, Any::Flag(true)) => flags |= FRAME_UNNAMED,
                        (key::INLINED, Any::Flag(true)) => flags |= FRAME_INLINED,
                        (key::FILE, Any::Text(path)) => file = Some(path.clone()),
                        _ => {}
                    }
                    Ok(())
                })?,
                _ => {}
            }
            Ok(())
        })?;
        self.room(self.frames.len() + lines.len(), "lines of locations")?;
        if let (0, Some(path)) = (module, file) {
            module = self.a.module(&path, "");
        }
        if lines.is_empty() {
            let path = self.a.profile.modules[module as usize].path;
            let name = unnamed(self.a.profile.strings.get(path), address);
            lines.push(((self.a.string(&name), 0, 0, 0), 0));
            flags |= FRAME_UNNAMED;
        }
        let last = lines.len() - 1;
        for (i, ((name, system_name, file, start_line), line)) in lines.into_iter().enumerate() {
            let function =
                self.a.function(Function { name, system_name, file, start_line, module, kind });
            let inlined = if i < last { FRAME_INLINED } else { 0 };
            let frame = Frame { function, line, address, flags: flags | inlined };
            self.frames.push(self.a.frame(frame));
        }
        Ok(())
    }

    fn resource(&mut self, message: Reader<'a>) -> Result<Resource<'a>, Error> {
        let mut resource = Resource { attributes: Vec::new(), profiles: Vec::new() };
        message.each(|part| {
            match part.number {
                1 => part.message()?.each(|part| {
                    if part.number == 1 {
                        resource.attributes.push(self.key_value(part.message()?, true)?);
                    }
                    Ok(())
                })?,
                2 => part.message()?.each(|part| {
                    match part.number {
                        1 => {
                            let scope = scope(part.message()?)?;
                            self.scope.get_or_insert(scope);
                        }
                        2 => resource.profiles.push(self.profile(part.message()?)?),
                        _ => {}
                    }
                    Ok(())
                })?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(resource)
    }

    fn profile(&self, reader: Reader<'a>) -> Result<Message<'a>, Error> {
        let value_type = |field: Field<'a>| {
            let (mut kind, mut unit) = (Cow::Borrowed(""), Cow::Borrowed(""));
            field.message()?.each(|part| {
                match part.number {
                    1 => kind = self.text(&part)?,
                    2 => unit = self.text(&part)?,
                    _ => {}
                }
                Ok(())
            })?;
            Ok::<_, Error>((kind, unit))
        };
        let mut message = Message {
            reader,
            sample_type: ("".into(), "".into()),
            period_unit: "".into(),
            start_unix_ns: 0,
            duration_ns: 0,
            period: 0,
            attributes: Vec::new(),
        };
        reader.each(|part| {
            match part.number {
                1 => message.sample_type = value_type(part)?,
                3 => message.start_unix_ns = part.fixed64()?,
                4 => message.duration_ns = part.uint()?,
                5 => message.period_unit = value_type(part)?.1,
                6 => message.period = u64::try_from(part.int()?).unwrap_or(0),
                11 => part.uints(|index| {
                    entry(&self.attributes, "the attribute table", index, &part)?;
                    message.attributes.push(index);
                    Ok(())
                })?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(message)
    }

    /// Our node of a stack.
    fn node(&mut self, index: u64, field: &Field) -> Result<u32, Error> {
        let stack = *entry(&self.stacks, "the stack table", index, field)?;
        if let Some(node) = self.nodes[index as usize] {
            return Ok(node);
        }
        let mut locations = std::mem::take(&mut self.open_stack);
        locations.clear();
        stack.message()?.each(|part| match part.number {
            1 => part.uints(|index| {
                locations.push(*entry(&self.locations, "the location table", index, &part)?);
                Ok(())
            }),
            _ => Ok(()),
        })?;
        let frames = locations.iter().rev().flat_map(|&(start, end)| {
            self.frames[start as usize..end as usize].iter().rev().copied()
        });
        let node = self.a.stack(frames)?;
        self.open_stack = locations;
        self.nodes[index as usize] = Some(node);
        Ok(node)
    }

    /// Reads all samples; the profile.
    fn samples(
        mut self,
        resources: Vec<Resource<'a>>,
        wanted: Option<&str>,
    ) -> Result<Profile, Error> {
        let all = || resources.iter().flat_map(|resource| &resource.profiles);
        if let Some(wanted) = wanted
            && !all().any(|message| message.sample_type.0 == wanted)
        {
            let mut has: Vec<&str> = all().map(|message| &*message.sample_type.0).collect();
            has.sort_unstable();
            has.dedup();
            let fault = Fault::NoValue { wanted: excerpt(wanted), has: excerpt(&has.join(", ")) };
            return Err(Error::Content { format: NAME, at: At::Byte(0), fault });
        }
        let only_cpu = wanted.is_none() && resources.iter().any(|one| cpu_type(one).is_some());
        // Bytes and counts are no sum: without CPU time the last type counts, as in pprof.
        let mut last =
            all().filter(|message| wanted.is_none_or(|name| message.sample_type.0 == name));
        let last = last.next_back().map(|message| message.sample_type.clone()).unwrap_or_default();
        let is_taken = |resource: &Resource, message: &Message| match only_cpu {
            true => cpu_type(resource) == Some(&*message.sample_type.0),
            false => message.sample_type == last,
        };
        let taken = || {
            (resources.iter()).flat_map(|resource| {
                resource.profiles.iter().filter(|message| is_taken(resource, message))
            })
        };
        let start_unix_ns = taken().map(|message| message.start_unix_ns).min().unwrap_or(0);
        let end_unix_ns =
            taken().map(|message| message.start_unix_ns.saturating_add(message.duration_ns)).max();
        let meta = &mut self.a.profile.meta;
        meta.start_unix_ns = start_unix_ns;
        meta.duration_ns = end_unix_ns.unwrap_or(0).saturating_sub(start_unix_ns);
        meta.period_ns = taken()
            .filter(|message| message.period_unit == "nanoseconds")
            .map(|message| message.period)
            .next()
            .unwrap_or(0);
        let is_cpu = matches!(&*last.0, "" | "samples" | "cpu");
        let is_in_periods = last.1 == "nanoseconds" && meta.period_ns > 0;
        if !only_cpu && !is_cpu && !is_in_periods {
            meta.period_ns = 0;
            meta.value_type = last.0.clone().into_owned();
            meta.value_unit = last.1.clone().into_owned();
        }
        meta.producer = self.scope.take().unwrap_or_default();

        let mut has_books = false;
        for resource in &resources {
            self.host(&resource.attributes);
            let mut process = None;
            if resource.attributes.iter().any(|attribute| attribute.0 == key::PID) {
                process = Some(self.process(&resource.attributes));
            }
            let mut by_pid = HashMap::new();
            for message in &resource.profiles {
                for &index in &message.attributes {
                    has_books |= self.book(index as usize, process, message)?;
                }
                if !is_taken(resource, message) {
                    continue;
                }
                message.reader.each(|field| match field.number {
                    2 => {
                        let process =
                            *process.get_or_insert_with(|| self.process(&resource.attributes));
                        self.sample(&field, message, start_unix_ns, process, &mut by_pid)
                    }
                    _ => Ok(()),
                })?;
            }
        }
        if !has_books {
            self.a.count_processes();
        }
        canonical(&self.a.profile)
    }

    /// What a resource says of the host.
    fn host(&mut self, attributes: &[Attribute]) {
        let meta = &mut self.a.profile.meta;
        for (key, value) in attributes {
            let Any::Text(text) = value else { continue };
            match &**key {
                key::HOST => meta.host = text.to_string(),
                key::KERNEL => meta.kernel = text.to_string(),
                key::ARCH => {
                    let arch = ARCHS.iter().find(|arch| arch.1 == text);
                    meta.arch = arch.map_or(&**text, |arch| arch.0).to_owned();
                }
                _ => {}
            }
        }
    }

    fn process(&mut self, attributes: &[Attribute]) -> u32 {
        let mut process = Process::default();
        let mut other_name = 0;
        for (key, value) in attributes {
            match (&**key, value) {
                (key::PID, Any::Number(pid)) => process.pid = u32::try_from(*pid).unwrap_or(0),
                (key::EXE, Any::Text(text)) => process.exe = self.a.string(text),
                (key::CGROUP, Any::Text(text)) => process.cgroup = self.a.string(text),
                (key::COMM, Any::Text(text)) => process.comm = self.a.string(text),
                (key::EXE_NAME | "service.name", Any::Text(text)) => {
                    other_name = self.a.string(text)
                }
                _ => {}
            }
        }
        if !attributes.iter().any(|attribute| attribute.0 == key::COMM) {
            process.comm = other_name;
            if other_name == 0 {
                let name = base_name(self.a.profile.strings.get(process.exe)).to_owned();
                process.comm = self.a.string(&name);
            }
        }
        self.a.process(process)
    }

    /// Takes in an attribute of a Profile; whether it is a process's book.
    fn book(
        &mut self,
        index: usize,
        process: Option<u32>,
        message: &Message,
    ) -> Result<bool, Error> {
        let (key, value) = &self.attributes[index];
        let profile = &mut self.a.profile;
        match (&**key, value) {
            (key::STATS, Any::Text(text)) => {
                if text.len() > MAX_JSON_BYTES {
                    let (what, limit) = ("bytes of books", MAX_JSON_BYTES as u64);
                    return Err(Error::TooLarge { format: NAME, what, limit });
                }
                let value: &RawValue = serde_json::from_str(text).map_err(|cause| {
                    let cause = cause.to_string();
                    message.reader.fault(Fault::Json { what: key::STATS, cause })
                })?;
                profile.stats = match value.get() {
                    "null" => String::new(),
                    text => text.to_owned(),
                };
            }
            (key::COMMAND, Any::Text(text)) => profile.meta.command = text.to_string(),
            (key::CPUS, Any::Number(n)) => profile.meta.n_cpus = u32::try_from(*n).unwrap_or(0),
            (key, Any::Number(count)) => {
                let Some(process) = process.and_then(|p| profile.processes.get_mut(p as usize))
                else {
                    return Ok(false);
                };
                let count = *count as u64;
                let reason = key.strip_prefix(key::PROCESS_CUT).and_then(cut_of);
                match (key, reason) {
                    (key::PROCESS_SAMPLES, _) => process.samples = count,
                    (key::PROCESS_WHOLE, _) => process.whole = count,
                    (_, Some(reason)) => process.cut[reason as usize] = count,
                    _ => return Ok(false),
                }
                return Ok(true);
            }
            _ => {}
        }
        Ok(false)
    }

    fn sample(
        &mut self,
        field: &Field<'a>,
        message: &Message,
        start_unix_ns: u64,
        process: u32,
        by_pid: &mut HashMap<u32, u32>,
    ) -> Result<(), Error> {
        let (mut tid, mut cpu, mut cut) = (0, 0, 0);
        let mut process = process;
        let mut comm = self.a.profile.processes[process as usize].comm;
        let mut stack = 0;
        let mut stack_at = *field;
        let mut values = Vec::new();
        let mut stamps = Vec::new();
        field.message()?.each(|part| {
            match part.number {
                1 => (stack, stack_at) = (part.uint()?, part),
                2 => part.uints(|index| {
                    let (key, value) =
                        entry(&self.attributes, "the attribute table", index, &part)?;
                    match (&**key, value) {
                        (key::TID, Any::Number(n)) => tid = u32::try_from(*n).unwrap_or(0),
                        (key::TID, Any::Text(text)) => tid = text.parse().unwrap_or(0),
                        (key::CPU, Any::Number(n)) => cpu = u16::try_from(*n).unwrap_or(0),
                        (key::CUT, Any::Text(reason)) => cut = cut_of(reason).unwrap_or(0),
                        (key::THREAD, Any::Text(text)) => {
                            comm = self.a.profile.strings.intern(text)
                        }
                        (key::PID, Any::Number(pid)) => {
                            let pid = u32::try_from(*pid).unwrap_or(0);
                            let mut own = self.a.profile.processes[process as usize].clone();
                            own.pid = pid;
                            process = *by_pid.entry(pid).or_insert_with(|| self.a.process(own));
                        }
                        _ => {}
                    }
                    Ok(())
                })?,
                4 => part.uints(|value| {
                    values.push(value as i64);
                    Ok(())
                })?,
                5 => part.fixed64s(|stamp| {
                    stamps.push(stamp);
                    Ok(())
                })?,
                _ => {}
            }
            Ok(())
        })?;
        if !values.is_empty() && !stamps.is_empty() && values.len() != stamps.len() {
            let fault = Fault::ValueCount { found: values.len(), expected: stamps.len() };
            return Err(field.fault(fault));
        }
        let stack = match self.stacks.len() {
            0 => 0,
            _ => self.node(stack, &stack_at)?,
        };
        let thread = self.a.thread(process, tid, comm);
        let in_time =
            message.sample_type.1 == "nanoseconds" && message.period_unit == "nanoseconds";
        let divisor = if in_time { message.period.max(1) } else { 1 };
        let mut row = Row { time_ns: 0, thread, stack, cpu, cut, weight: 0 };
        for i in 0..values.len().max(stamps.len()) {
            let weight = match values.get(i) {
                None => 1,
                Some(&value) => {
                    u64::try_from(value).map_err(|_| field.fault(Fault::Negative { value }))?
                        / divisor
                }
            };
            let time_ns = stamps.get(i).map_or(0, |stamp| stamp.saturating_sub(start_unix_ns));
            if time_ns == row.time_ns {
                row.weight = row.weight.saturating_add(weight);
                continue;
            }
            if row.weight > 0 {
                self.a.sample(row)?;
            }
            row = Row { time_ns, weight, ..row };
        }
        if row.weight > 0 {
            self.a.sample(row)?;
        }
        Ok(())
    }
}

/// `name version` of a scope.
fn scope(message: Reader) -> Result<String, Error> {
    let mut parts = [Cow::Borrowed(""), Cow::Borrowed("")];
    message.each(|part| {
        match part.number {
            1 => parts[0] = part.text()?,
            2 => parts[1] = part.text()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(parts.join(" ").trim_end().to_owned())
}

fn cut_of(name: &str) -> Option<u8> {
    let at = hotframe_abi::CUT_NAMES.iter().position(|reason| *reason == name)?;
    u8::try_from(at).ok()
}

/// The kind of a `profile.frame.type`. The marker that the eBPF profiler puts where it gave up is
/// a note.
fn kind_of(name: &str) -> Kind {
    let known = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    known.unwrap_or(match name {
        "abort-marker" => Kind::Note,
        _ => Kind::Native,
    })
}

fn line_number(line: i64) -> u32 {
    u32::try_from(line).unwrap_or(0)
}
