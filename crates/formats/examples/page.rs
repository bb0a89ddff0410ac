//! Writes the page of a made-up profile, for tests and pictures of the page.
//!
//! `page small` is the profile with one of everything; `page real` looks like a recording of a
//! build and a service (`page real speedscope` is it in that format), `page lossy` is the same from a file without times and modules, `page
//! comparison` two of these of which one has a slower part; `page large STACKS DEPTH` has that many distinct stacks. The page goes to
//! standard output.

use std::io::{self, BufWriter, Write};

use hotframe_abi::{HF_CUT_NO_UNWIND_INFO, HF_CUT_PROCESS_GONE, HF_CUT_UNKNOWN_MAPPING};
use hotframe_core::profile::{
    FRAME_INLINED, Frame, Function, Kind, Meta, Module, Process, Profile, StackNode, Thread,
};
use hotframe_formats::{Comparison, Format, html, synthetic};

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let profile = match words.as_slice() {
        ["small"] => synthetic::small(),
        ["real"] => real(),
        ["real", "speedscope"] => {
            let mut out = BufWriter::new(io::stdout().lock());
            Format::Speedscope.write(&real(), &mut out).map_err(io::Error::other)?;
            return out.flush();
        }
        ["lossy"] => {
            let mut text = Vec::new();
            Format::Folded.write(&real(), &mut text).map_err(io::Error::other)?;
            Format::Folded.read(&text).map_err(io::Error::other)?
        }
        ["comparison"] => {
            let (before, after) = (real(), changed(real()));
            let both = Comparison::new(("before.html", &before), ("after.html", &after));
            let both = both.map_err(io::Error::other)?;
            let mut out = BufWriter::new(io::stdout().lock());
            html::write_comparison(&both, &mut out)?;
            return out.flush();
        }
        ["large", stacks, depth] => {
            let number = |text: &str| text.parse().map_err(io::Error::other);
            let stacks = number(stacks)?;
            let depth = number(depth)?;
            let shape =
                synthetic::Shape { processes: 40, threads: 4, stacks, depth, samples: stacks * 2 };
            one_process_a_stack(synthetic::large(&shape), depth * 2 / 3)
        }
        _ => {
            return Err(io::Error::other(
                "usage: page small | real [speedscope] | lossy | comparison | large STACKS DEPTH",
            ));
        }
    };
    let mut out = BufWriter::new(io::stdout().lock());
    html::write(&profile, &mut out)?;
    out.flush()
}

/// The same with three times as many samples in and below `exec_simple_query`.
fn changed(mut profile: Profile) -> Profile {
    let slow: Vec<bool> = (0..profile.stacks.len() as u32)
        .map(|stack| {
            profile.walk(stack).any(|frame| {
                let function = profile.frames[frame as usize].function;
                let name = profile.functions[function as usize].name;
                profile.strings.get(name) == "exec_simple_query"
            })
        })
        .collect();
    let samples = &mut profile.samples;
    for (weight, &stack) in samples.weight.iter_mut().zip(&samples.stack) {
        if slow[stack as usize] {
            *weight *= 3;
        }
    }
    profile
}

/// Gives each stack to one process, as it is in life, by its frame at that depth.
fn one_process_a_stack(mut profile: Profile, depth: u32) -> Profile {
    let mut branches: Vec<(u32, u32)> = Vec::with_capacity(profile.stacks.len());
    for (i, stack) in profile.stacks.iter().enumerate() {
        let (above, branch) = branches.get(stack.parent as usize).copied().unwrap_or_default();
        branches.push((above + 1, if above < depth { i as u32 } else { branch }));
    }
    let n_threads = profile.threads.len() as u32 / profile.processes.len().max(1) as u32;
    for process in &mut profile.processes {
        (process.samples, process.whole) = (0, 0);
    }
    for (i, thread) in profile.samples.thread.iter_mut().enumerate() {
        let branch = branches[profile.samples.stack[i] as usize].1;
        let process = branch as usize % profile.processes.len();
        *thread = process as u32 * n_threads + i as u32 % n_threads;
        profile.processes[process].samples += 1;
        profile.processes[process].whole += 1;
    }
    profile
}

/// Calls, by indentation: `WEIGHT KIND NAME | FILE:LINE | MODULE`. A weight is how many samples
/// end there.
const CALLS: &str = include_str!("calls.txt");

/// A minute in the life of a developer's machine, drawn at random from `calls.txt`.
fn real() -> Profile {
    let mut profile = Profile {
        meta: Meta {
            start_unix_ns: 1_767_225_600_000_000_000,
            duration_ns: 10_000_000_000,
            period_ns: 10_101_010,
            host: "build-7.example".into(),
            kernel: "6.12.48".into(),
            arch: "x86_64".into(),
            command: "hotframe record -d 10 -o hotframe.html".into(),
            producer: "hotframe 0.1.0".into(),
            n_cpus: 4,
            ..Meta::default()
        },
        modules: vec![Module { path: 0, build_id: 0 }],
        stacks: vec![StackNode { parent: 0, frame: 0 }],
        ..Profile::default()
    };
    let mut leaves: Vec<(u32, u32, u32)> = Vec::new();
    let mut path: Vec<u32> = Vec::new();
    for line in CALLS.lines().filter(|line| !line.trim().is_empty()) {
        let depth = (line.len() - line.trim_start().len()) / 2;
        let mut parts = line.split('|').map(str::trim);
        let mut head = parts.next().unwrap_or_default().splitn(3, ' ');
        let weight: u32 = head.next().and_then(|text| text.parse().ok()).unwrap_or(0);
        let (kind, name) = (head.next().unwrap_or_default(), head.next().unwrap_or_default());
        if kind == "process" {
            let comm = profile.strings.intern(name);
            let exe = profile.strings.intern(parts.next().unwrap_or_default());
            let pid = 1200 + profile.processes.len() as u32 * 37;
            let cgroup = profile.strings.intern("/user.slice/user-1000.slice/session-2.scope");
            profile.processes.push(Process { pid, comm, exe, cgroup, ..Process::default() });
            for thread in 0..3 {
                let process = profile.processes.len() as u32 - 1;
                profile.threads.push(Thread { tid: pid + thread, comm, process });
            }
            path.clear();
            continue;
        }
        let (kind, inlined) = match kind.strip_suffix('+') {
            Some(kind) => (kind, FRAME_INLINED),
            None => (kind, 0),
        };
        let place = parts.next().unwrap_or_default();
        let (file, line) = place.rsplit_once(':').unwrap_or((place, "0"));
        let module = Module {
            path: profile.strings.intern(parts.next().unwrap_or_default()),
            build_id: profile.strings.intern("58749c528985eab03e6700ebc1469fa50aa41219"),
        };
        let function = Function {
            name: profile.strings.intern(name),
            system_name: 0,
            file: profile.strings.intern(file),
            start_line: 1,
            module: index(&mut profile.modules, module),
            kind: Kind::ALL.into_iter().find(|k| k.name() == kind).unwrap_or(Kind::Native),
        };
        let function = index(&mut profile.functions, function);
        path.truncate(depth.saturating_sub(1));
        for step in 0..3 {
            let line =
                line.parse().map_or(0, |line: u32| if line > 0 { line + step * 2 } else { 0 });
            let address = u64::from(function) * 256 + u64::from(step) * 16;
            let frame =
                index(&mut profile.frames, Frame { function, line, address, flags: inlined });
            let parent = path.last().copied().unwrap_or(0);
            profile.stacks.push(StackNode { parent, frame });
            let stack = profile.stacks.len() as u32 - 1;
            leaves.push((profile.processes.len() as u32 - 1, stack, weight / (step + 1)));
        }
        path.push(profile.stacks.len() as u32 - 3);
    }
    sample(&mut profile, &leaves);
    profile
}

fn index<T: PartialEq>(table: &mut Vec<T>, item: T) -> u32 {
    let at = table.iter().position(|known| *known == item).unwrap_or_else(|| {
        table.push(item);
        table.len() - 1
    });
    at as u32
}

fn sample(profile: &mut Profile, leaves: &[(u32, u32, u32)]) {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = move |n: u32| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        ((random >> 20) % u64::from(n.max(1))) as u32
    };
    let mut alone = std::collections::HashMap::new();
    let whole: u32 = leaves.iter().map(|(_, _, weight)| weight).sum();
    for tick in 0..990_u64 {
        for cpu in 0..4_u16 {
            // The machine rests between two bursts, and one CPU is half idle.
            let busy = if (380..520).contains(&tick) { 20 } else { 97 };
            if below(100) >= busy || (cpu == 3 && below(2) == 0) {
                continue;
            }
            let mut at = below(whole);
            let chosen = leaves.iter().find(|(_, _, weight)| {
                let here = at < *weight;
                at = at.saturating_sub(*weight);
                here
            });
            let Some(&(process, stack, _)) = chosen else {
                continue;
            };
            let cut = match below(400) {
                0..=4 => HF_CUT_NO_UNWIND_INFO as u8,
                5 | 6 => HF_CUT_UNKNOWN_MAPPING as u8,
                7 => HF_CUT_PROCESS_GONE as u8,
                _ => 0,
            };
            // A cut stack lacks its callers.
            let stack = match cut {
                0 => stack,
                _ => *alone.entry(stack).or_insert_with(|| {
                    let frame = profile.stacks[stack as usize].frame;
                    profile.stacks.push(StackNode { parent: 0, frame });
                    profile.stacks.len() as u32 - 1
                }),
            };
            profile.samples.time_ns.push(tick * 10_101_010 + u64::from(cpu) * 1_000);
            profile.samples.thread.push(process * 3 + below(3));
            profile.samples.stack.push(stack);
            profile.samples.cpu.push(cpu);
            profile.samples.cut.push(cut);
            profile.samples.weight.push(1);
            let process = &mut profile.processes[process as usize];
            process.samples += 1;
            if cut == 0 {
                process.whole += 1;
            } else {
                process.cut[usize::from(cut)] += 1;
            }
        }
    }
    let n = profile.samples.stack.len();
    profile.stats = serde_json::json!({
        "ticks_expected": n + 3, "ticks_missed": 3, "samples_lost": {"ring_full": 0},
        "samples_taken": n, "samples_emitted": n, "stacks_heuristic": 41,
        "frames": {"kernel": {"total": 9120, "named": 9120}, "native": {"total": 61200, "named": 61020}},
        "agent": {"cpu_user_seconds": 0.61, "cpu_system_seconds": 0.12, "rss_peak_bytes": 88_000_000_u64,
                  "map_bytes": 31_000_000_u64, "budget_bytes": 268_435_456_u64},
        "bpf": {"run_ns": 31_400_000, "run_count": n}, "audit": {"checked": 1000, "agreed": 998},
    })
    .to_string();
}
