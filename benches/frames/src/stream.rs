//! Streams of frames to measure with: generated ones, and captures.
//!
//! A stream is what the store sees of a machine: frames with their names, and the order in which
//! processes meet them. Generators are deterministic.

use std::collections::HashMap;
use std::io::{BufRead, Write};

use hotframe_frames::capture::{Event, Name, Reader, Writer};
use hotframe_frames::{FrameInfo, FunctionInfo, ProcessKey};

/// One frame of a stream: whose it is, its words, and its names.
#[derive(Debug, Default)]
pub struct FrameDef {
    pub process: u32,
    pub words: Vec<u64>,
    pub names: Vec<NameDef>,
    /// Per name: the 128-bit file id and the address or line by which the peer knows it.
    pub peer_keys: Vec<[u64; 3]>,
    /// Per name: process, words and place in the chain; one for all processes in static code.
    pub raw_keys: Vec<[u64; 3]>,
}

/// A name; texts by number.
#[derive(Debug, Clone, Copy)]
pub struct NameDef {
    pub name: u32,
    pub file: u32,
    pub start_line: u32,
    pub line: u32,
    pub kind: u8,
}

/// A frame with all that a look-up of its innermost name needs, in one piece: what is measured is
/// the look-up, not the way to its key.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    pub process: u32,
    n_words: u32,
    words: [u64; 4],
    pub raw_key: [u64; 3],
    pub peer_key: [u64; 3],
}

impl Probe {
    pub fn words(&self) -> &[u64] {
        &self.words[..self.n_words as usize]
    }
}

impl FrameDef {
    /// `None` for a frame of more words than any stream has, or without a name.
    pub fn probe(&self) -> Option<Probe> {
        let mut words = [0; 4];
        words.get_mut(..self.words.len())?.copy_from_slice(&self.words);
        Some(Probe {
            process: self.process,
            n_words: self.words.len() as u32,
            words,
            raw_key: *self.raw_keys.first()?,
            peer_key: *self.peer_keys.first()?,
        })
    }
}

/// What happens, in order.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Meet(u32),
    Exit(u32),
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Stream {
    pub name: String,
    pub texts: Vec<Box<[u8]>>,
    pub processes: Vec<ProcessKey>,
    pub frames: Vec<FrameDef>,
    pub steps: Vec<Step>,
    /// The process that generates code for ever, where one does: others are counted apart.
    pub hog: Option<u32>,
    /// It was recorded from real programs.
    pub is_recorded: bool,
    interned: HashMap<Box<[u8]>, u32>,
}

impl Stream {
    fn named(name: &str) -> Stream {
        Stream { name: name.to_owned(), texts: vec![Box::default()], ..Stream::default() }
    }

    pub fn text(&self, number: u32) -> &[u8] {
        self.texts.get(number as usize).map_or(&[], |text| text)
    }

    pub fn info(&self, name: &NameDef) -> FrameInfo<'_> {
        FrameInfo {
            function: FunctionInfo {
                name: self.text(name.name),
                file: self.text(name.file),
                start_line: name.start_line,
                kind: name.kind,
                ..FunctionInfo::default()
            },
            line: name.line,
            flags: 0,
        }
    }

    fn intern(&mut self, text: &str) -> u32 {
        if let Some(&id) = self.interned.get(text.as_bytes()) {
            return id;
        }
        let id = self.texts.len() as u32;
        self.texts.push(text.as_bytes().into());
        self.interned.insert(text.as_bytes().into(), id);
        id
    }

    fn process(&mut self, tgid: u32) -> u32 {
        self.processes.push(ProcessKey { tgid, start_ns: self.processes.len() as u64, exec_id: 0 });
        self.processes.len() as u32 - 1
    }

    fn frame(&mut self, process: u32, words: Vec<u64>, names: Vec<NameDef>) -> u32 {
        let is_static = words.first().is_some_and(|word| word >> 60 != 3);
        let peer_keys = names
            .iter()
            .map(|name| {
                if is_static {
                    // A file's id, and the offset in it.
                    [words[0] >> 32 & 0xff_ffff, 7, words[0] & 0xffff_ffff]
                } else {
                    // Each function had a file id of its own: a hash of what it is.
                    [
                        u64::from(name.name) << 32 | u64::from(name.file),
                        name.start_line.into(),
                        name.line.into(),
                    ]
                }
            })
            .collect();
        let owner = if is_static { 0 } else { u64::from(process) + 1 };
        let raw_keys = (0..names.len() as u64)
            .map(|i| {
                let rest = words.iter().skip(2).fold(0u64, |hash, &word| {
                    (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
                });
                [owner << 16 | i, words.get(1).or(words.first()).copied().unwrap_or(0), rest]
            })
            .collect();
        self.frames.push(FrameDef { process, words, names, peer_keys, raw_keys });
        self.frames.len() as u32 - 1
    }

    /// Distinct functions that the stream's frames name.
    pub fn n_functions(&self) -> usize {
        let names = self.frames.iter().flat_map(|frame| &frame.names);
        let set: std::collections::HashSet<_> =
            names.map(|n| (n.name, n.file, n.start_line, n.kind)).collect();
        set.len()
    }

    /// Distinct frames by value.
    pub fn n_value_frames(&self) -> usize {
        let names = self.frames.iter().flat_map(|frame| &frame.names);
        let set: std::collections::HashSet<_> =
            names.map(|n| (n.name, n.file, n.start_line, n.kind, n.line)).collect();
        set.len()
    }

    /// Bytes of the distinct texts.
    pub fn text_bytes(&self) -> usize {
        let used: std::collections::HashSet<u32> =
            self.frames.iter().flat_map(|f| &f.names).flat_map(|n| [n.name, n.file]).collect();
        used.iter().map(|&text| self.text(text).len()).sum()
    }

    /// The stream of a capture: every sample meets its stack's frames from the outermost inwards.
    pub fn from_capture(name: &str, from: impl BufRead) -> anyhow::Result<Stream> {
        let mut stream = Stream { is_recorded: true, ..Stream::named(name) };
        let mut stacks: Vec<Box<[u32]>> = Vec::new();
        for event in Reader::new(from)? {
            match event? {
                Event::Text(bytes) => stream.texts.push(bytes),
                Event::Process(key) => stream.processes.push(key),
                Event::Exit(process) => stream.steps.push(Step::Exit(process)),
                Event::Frame { process, words, names } => {
                    let text = |text: Option<u32>| text.map_or(0, |text| text + 1);
                    let mut names: Vec<NameDef> = names
                        .iter()
                        .map(|n| NameDef {
                            name: text(n.name),
                            file: text(n.file),
                            start_line: n.start_line,
                            line: n.line,
                            kind: n.kind,
                        })
                        .collect();
                    if names.is_empty() {
                        names.push(NameDef { name: 0, file: 0, start_line: 0, line: 0, kind: 0 });
                    }
                    stream.frame(process, words.into(), names);
                }
                Event::Stack { frames, .. } => stacks.push(frames),
                Event::Sample { stack, .. } => {
                    let frames = stacks.get(stack as usize).map_or(&[][..], |frames| frames);
                    stream.steps.extend(frames.iter().rev().map(|&frame| Step::Meet(frame)));
                }
            }
        }
        Ok(stream)
    }
}

/// Writes the first `n` samples of a capture and what they need, in the order in which they need
/// it. Stacks are numbered instead of hashed, which says as much in a capture and packs better.
pub fn shorten<W: Write>(from: impl BufRead, n: usize, to: W) -> anyhow::Result<W> {
    let mut out = Writer::new(to)?;
    let (mut texts, mut frames, mut stacks) = (Vec::new(), Vec::new(), Vec::new());
    let mut numbers: [HashMap<u32, u32>; 3] = Default::default();
    let mut samples = 0;
    for event in Reader::new(from)? {
        let event = event?;
        match event {
            Event::Text(text) => texts.push(text),
            Event::Frame { process, words, names } => frames.push((process, words, names)),
            Event::Stack { process, frames, .. } => stacks.push((process, frames)),
            Event::Process(_) | Event::Exit(_) => out.write(&event)?,
            Event::Sample { after_ns, stack } => {
                let [of_texts, of_frames, of_stacks] = &mut numbers;
                if !of_stacks.contains_key(&stack) {
                    let Some((process, its_frames)) = stacks.get(stack as usize) else { continue };
                    for &frame in its_frames {
                        if of_frames.contains_key(&frame) {
                            continue;
                        }
                        let Some((process, words, names)) = frames.get(frame as usize) else {
                            continue;
                        };
                        let mut text = |text: Option<u32>| -> anyhow::Result<Option<u32>> {
                            let Some(text) = text else { return Ok(None) };
                            if !of_texts.contains_key(&text)
                                && let Some(bytes) = texts.get(text as usize)
                            {
                                out.write(&Event::Text(bytes.clone()))?;
                                of_texts.insert(text, of_texts.len() as u32);
                            }
                            Ok(of_texts.get(&text).copied())
                        };
                        let mut kept = Vec::new();
                        for name in names {
                            kept.push(Name {
                                name: text(name.name)?,
                                system_name: text(name.system_name)?,
                                file: text(name.file)?,
                                module_path: text(name.module_path)?,
                                module_build_id: text(name.module_build_id)?,
                                ..*name
                            });
                        }
                        let (process, words) = (*process, words.clone());
                        out.write(&Event::Frame { process, words, names: kept.into() })?;
                        of_frames.insert(frame, of_frames.len() as u32);
                    }
                    let renumbered =
                        its_frames.iter().filter_map(|frame| of_frames.get(frame).copied());
                    let hash = of_stacks.len() as u64 + 1;
                    let frames = renumbered.collect();
                    out.write(&Event::Stack { process: *process, hash, frames })?;
                    of_stacks.insert(stack, of_stacks.len() as u32);
                }
                let stack = of_stacks.get(&stack).copied().unwrap_or_default();
                out.write(&Event::Sample { after_ns, stack })?;
                samples += 1;
                if samples == n {
                    break;
                }
            }
        }
    }
    Ok(out.finish()?)
}

/// A deterministic source of numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// A rank below `n`, log-uniform: Zipf's law with exponent 1 in its continuous form. Ranks are
    /// scattered, so that neighbours in rank are not neighbours in number.
    fn zipf(&mut self, n: u64) -> u64 {
        let unit = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        let rank = ((n as f64 + 1.0).powf(unit) - 1.0) as u64;
        rank.min(n - 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 | 1) % n
    }
}

fn native(file: u64, offset: u64) -> Vec<u64> {
    vec![1 << 60 | (file & 0xff_ffff) << 32 | (offset & 0xffff_ffff)]
}

fn dynamic(pointer: u64, cookie: u64, position: u64) -> Vec<u64> {
    vec![3 << 60 | 1 << 48 | 3 << 40, pointer, cookie, position]
}

/// Every generated stream, in the order of the table.
pub fn generate(name: &str) -> Option<Stream> {
    Some(match name {
        "workers-200" => workers(200),
        "build" => build(),
        "lambdas" => lambdas(),
        "scan" => scan(),
        "zipf" => zipf(),
        "churn" => churn(),
        _ => return None,
    })
}

/// Names of the generated streams.
pub const GENERATED: [&str; 6] = ["workers-200", "build", "lambdas", "scan", "zipf", "churn"];

/// `n` identical workers, forked: equal functions at equal addresses.
fn workers(n: u64) -> Stream {
    let mut stream = Stream::named("workers-200");
    let mut random = Random(2);
    const FUNCTIONS: u64 = 2_000;
    let mut frames = Vec::new();
    for worker in 0..n {
        let process = stream.process(worker as u32 + 10);
        let own: Vec<u32> = (0..FUNCTIONS)
            .map(|i| {
                let name = NameDef {
                    name: stream.intern(&format!("handlers.module_{}.function_{i}", i / 30)),
                    file: stream.intern(&format!("/srv/app/handlers/module_{}.py", i / 30)),
                    start_line: (i % 30 * 20) as u32,
                    line: (i % 30 * 20 + 3) as u32,
                    kind: 5,
                };
                stream.frame(process, dynamic(0x7f11_0000 + i * 192, i, 3), vec![name])
            })
            .collect();
        frames.push(own);
    }
    for _ in 0..1_000_000 {
        let own = &frames[random.below(n) as usize];
        stream.steps.push(Step::Meet(own[random.zipf(FUNCTIONS) as usize]));
    }
    stream
}

/// A machine that builds software: 3,000 short processes of 60 programs and libraries.
fn build() -> Stream {
    let mut stream = Stream::named("build");
    let mut random = Random(3);
    const PLACES: u64 = 120_000;
    let first = stream.process(1);
    let frames: Vec<u32> = (0..PLACES)
        .map(|i| {
            let function = i / 5;
            let name = NameDef {
                name: stream.intern(&format!(
                    "clang::Sema::CheckFunctionCall{function}(clang::FunctionDecl*, unsigned)"
                )),
                file: stream.intern(&format!("/build/clang/lib/Sema/Sema{}.cpp", function / 200)),
                start_line: (function % 200 * 30) as u32,
                line: (function % 200 * 30 + i % 5 * 3) as u32,
                kind: 1,
            };
            stream.frame(first, native(i % 60, i * 16), vec![name])
        })
        .collect();
    for _ in 0..3_000 {
        let process = stream.process(100);
        for _ in 0..1_000 {
            stream.steps.push(Step::Meet(frames[random.zipf(PLACES) as usize]));
        }
        stream.steps.push(Step::Exit(process));
    }
    stream
}

/// One process meets 1,000,000 lambdas once each, among twenty that go about their work.
fn lambdas() -> Stream {
    let mut stream = Stream::named("lambdas");
    let mut random = Random(4);
    let hog = stream.process(1);
    stream.hog = Some(hog);
    let mut others = Vec::new();
    const FUNCTIONS: u64 = 1_000;
    for worker in 0..20u64 {
        let process = stream.process(worker as u32 + 10);
        for i in 0..FUNCTIONS {
            let name = NameDef {
                name: stream.intern(&format!("service{worker}.Component.method{i}")),
                file: stream.intern(&format!("Component{worker}.java")),
                start_line: i as u32,
                line: i as u32,
                kind: 4,
            };
            others.push(stream.frame(process, dynamic(0x1000 + i * 64, i, 0), vec![name]));
        }
    }
    let file = stream.intern("Generated.java");
    for i in 0..1_000_000u64 {
        let name = NameDef {
            name: stream
                .intern(&format!("com.example.Generated$$Lambda/0x{:016x}.apply", i * 1032)),
            file,
            start_line: 1,
            line: 1,
            kind: 4,
        };
        let frame = stream.frame(hog, dynamic(0x7f00_0000_0000 + i * 64, i, 0), vec![name]);
        stream.steps.push(Step::Meet(frame));
        let other = others[random.zipf(others.len() as u64) as usize];
        stream.steps.push(Step::Meet(other));
    }
    stream
}

fn flat(stream: &mut Stream, process: u32, i: u64, n_files: u64) -> u32 {
    let name = NameDef {
        name: stream.intern(&format!("namespace{}::Class{}::function{i}(int)", i / 500, i / 10)),
        file: stream.intern(&format!("/src/project/dir{}/file{}.cpp", i / 5_000, i / 100)),
        start_line: (i % 100 * 10) as u32,
        line: (i % 100 * 10 + 2) as u32,
        kind: 1,
    };
    let words = if i.is_multiple_of(2) {
        native(i % n_files, i * 16)
    } else {
        dynamic(0x5500_0000_0000 + i * 48, i, 0)
    };
    stream.frame(process, words, vec![name])
}

/// Half of all steps meet a frame of 20,000 hot ones, half a frame that never comes again.
fn scan() -> Stream {
    let mut stream = Stream::named("scan");
    let mut random = Random(5);
    let process = stream.process(1);
    let hot: Vec<u32> = (0..20_000).map(|i| flat(&mut stream, process, i, 50)).collect();
    for i in 0..500_000 {
        let once = flat(&mut stream, process, 20_000 + i, 50);
        stream.steps.push(Step::Meet(once));
        stream.steps.push(Step::Meet(hot[random.zipf(hot.len() as u64) as usize]));
    }
    stream
}

/// 10^6 frames by Zipf's law.
fn zipf() -> Stream {
    let mut stream = Stream::named("zipf");
    let mut random = Random(6);
    let process = stream.process(1);
    let frames: Vec<u32> = (0..1_000_000).map(|i| flat(&mut stream, process, i, 200)).collect();
    for _ in 0..1_000_000 {
        stream.steps.push(Step::Meet(frames[random.zipf(frames.len() as u64) as usize]));
    }
    stream
}

/// Twenty seconds of 1,000 new processes a second, each a script of 40 functions out of 800.
fn churn() -> Stream {
    let mut stream = Stream::named("churn");
    let mut random = Random(7);
    let mut living = std::collections::VecDeque::new();
    for i in 0..20_000u32 {
        let process = stream.process(1_000 + i % 30_000);
        let from = random.zipf(760);
        let own: Vec<u32> = (from..from + 40)
            .map(|i| {
                let name = NameDef {
                    name: stream.intern(&format!("tool.commands.step_{i}")),
                    file: stream.intern(&format!("/usr/lib/tool/commands/part_{}.py", i / 20)),
                    start_line: i as u32,
                    line: i as u32 + 1,
                    kind: 5,
                };
                stream.frame(process, dynamic(0x7f22_0000 + i * 192, i, 1), vec![name])
            })
            .collect();
        for _ in 0..50 {
            stream.steps.push(Step::Meet(own[random.below(40) as usize]));
        }
        living.push_back(process);
        if living.len() > 100
            && let Some(ended) = living.pop_front()
        {
            stream.steps.push(Step::Exit(ended));
        }
    }
    stream
}
