//! Other people's readers agree on one profile: ticks in all, of each thread, and of each
//! function self and total. Each says that it was skipped when its reader is not installed:
//! - `go tool pprof`: Go;
//! - the OTLP checker: HOTFRAME_PYTHON, a Python with `opentelemetry-proto` (1.45) and, for
//!   speedscope, `jsonschema`;
//! - the Firefox Profiler's and speedscope's: HOTFRAME_NODE_MODULES, a folder with
//!   `@firefox-devtools/profiler-cli` (0.10) and `speedscope` (1.25).

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use common::{output, root, scratch};
use hotframe_core::profile::Profile;
use hotframe_formats::{Format, folded, pprof, synthetic};
use serde_json::Value;

type Counts = BTreeMap<String, u64>;

/// What must agree.
#[derive(Debug, Default, PartialEq)]
struct Totals {
    ticks: u64,
    own: Counts,
    total: Counts,
}

/// The totals by the profile's own tables: the words of this test, not of a writer.
fn expected(profile: &Profile) -> (Totals, BTreeMap<(u32, u32, String), u64>) {
    let mut totals = Totals::default();
    let mut threads = BTreeMap::new();
    let samples = &profile.samples;
    for i in 0..samples.stack.len() {
        let weight = u64::from(samples.weight[i]);
        totals.ticks += weight;
        let thread = &profile.threads[samples.thread[i] as usize];
        let pid = profile.processes[thread.process as usize].pid;
        let key = (pid, thread.tid, profile.strings.get(thread.comm).to_owned());
        *threads.entry(key).or_default() += weight;
        let names: Vec<&str> = (profile.walk(samples.stack[i]))
            .map(|frame| {
                let function = profile.frames[frame as usize].function;
                profile.strings.get(profile.functions[function as usize].name)
            })
            .collect();
        if let Some(leaf) = names.first() {
            *totals.own.entry((*leaf).to_owned()).or_default() += weight;
        }
        for name in names.iter().collect::<BTreeSet<_>>() {
            *totals.total.entry((**name).to_owned()).or_default() += weight;
        }
    }
    (totals, threads)
}

/// One of everything, and many stacks; names plain enough for tools that print tables. And the
/// recording that HOTFRAME_PROFILE names.
fn profiles() -> Vec<Profile> {
    let recorded = std::env::var_os("HOTFRAME_PROFILE").map(|path| {
        let bytes = std::fs::read(path).expect("the recording that HOTFRAME_PROFILE names");
        Format::Html.read(&bytes).expect("a page")
    });
    if recorded.is_none() {
        println!("skipped: HOTFRAME_PROFILE names no recording");
    }
    let made = [
        synthetic::small(),
        synthetic::large(&synthetic::Shape {
            processes: 3,
            threads: 2,
            stacks: 400,
            depth: 30,
            samples: 3_000,
        }),
    ];
    made.into_iter().chain(recorded).collect()
}

fn write(format: Format, profile: &Profile, name: &str) -> PathBuf {
    let mut bytes = Vec::new();
    format.write(profile, &mut bytes).expect("writing into memory");
    scratch(name, &bytes)
}

fn tool(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        println!("skipped: {variable} is not set");
    }
    path
}

/// Folded text, added up.
#[test]
fn folded_agrees() {
    for profile in profiles() {
        let mut bytes = Vec::new();
        folded::write(&profile, folded::Options { annotate: false }, &mut bytes).unwrap();
        let mut totals = Totals::default();
        for line in String::from_utf8(bytes).unwrap().lines() {
            let (stack, count) = line.rsplit_once(' ').unwrap();
            let count: u64 = count.parse().unwrap();
            totals.ticks += count;
            let names: Vec<&str> = stack.split(';').skip(1).collect();
            if let Some(leaf) = names.last() {
                *totals.own.entry((*leaf).to_owned()).or_default() += count;
            }
            for name in names.into_iter().collect::<BTreeSet<_>>() {
                *totals.total.entry(name.to_owned()).or_default() += count;
            }
        }
        let (expected, _) = expected(&profile);
        assert_eq!(totals.ticks, expected.ticks);
        // Names that the format cannot hold are others there; all the rest agree.
        let odd = |name: &&String| {
            name.is_empty()
                || name.contains([';', '\u{2028}', '\u{2029}'])
                || name.contains(char::is_control)
        };
        for (name, count) in expected.own.iter().filter(|(name, _)| !odd(name)) {
            assert_eq!(totals.own.get(name), Some(count), "self of {name}");
        }
        for (name, count) in expected.total.iter().filter(|(name, _)| !odd(name)) {
            assert_eq!(totals.total.get(name), Some(count), "total of {name}");
        }
    }
}

/// `go tool pprof` reads our file: the sum, every thread's, and self and total of functions.
#[test]
fn go_tool_pprof_agrees() {
    if Command::new("go").arg("version").output().is_err() {
        println!("skipped: there is no go");
        return;
    }
    for profile in profiles() {
        let path = write(Format::Pprof, &profile, "go.pb.gz");
        let pprof = |options: &[&str]| {
            output(
                Command::new("go")
                    .args(["tool", "pprof", "-symbolize=none", "-sample_index=samples"])
                    .args(options)
                    .arg(&path),
            )
        };
        let (expected, threads) = expected(&profile);

        // Sample lines of -raw: `count nanoseconds: ids`, then the labels.
        let raw = pprof(&["-raw"]);
        let body = raw.split("samples/count").nth(1).unwrap().split("\nLocations").next().unwrap();
        let mut ticks = 0;
        for line in body.lines().skip(1) {
            let mut words = line.split_whitespace();
            let (Some(count), Some(ns)) = (words.next(), words.next()) else { continue };
            let (Ok(count), Some(Ok(ns))) =
                (count.parse::<u64>(), ns.strip_suffix(':').map(str::parse::<u64>))
            else {
                continue;
            };
            assert_eq!(ns, count * profile.meta.period_ns);
            ticks += count;
        }
        assert_eq!(ticks, expected.ticks);

        let mut by_tid: BTreeMap<u32, u64> = BTreeMap::new();
        for ((_, tid, _), count) in &threads {
            *by_tid.entry(*tid).or_default() += count;
        }
        for (tid, count) in by_tid {
            let traces = pprof(&["-raw", &format!("-tagfocus=tid=^{tid}$")]);
            let body =
                traces.split("samples/count").nth(1).unwrap().split("\nLocations").next().unwrap();
            let sum: u64 = (body.lines())
                .filter_map(|line| {
                    line.trim_start()
                        .split_once(' ')
                        .filter(|(_, rest)| rest.contains(": ") || rest.ends_with(':'))
                })
                .filter_map(|(count, _)| count.parse::<u64>().ok())
                .sum();
            assert_eq!(sum, count, "tid {tid}");
        }

        // flat flat% sum% cum cum% name
        let top = pprof(&["-top", "-nodecount=1000000", "-nodefraction=0", "-edgefraction=0"]);
        // pprof has a line for each function of a name: their shares add up, their totals do not.
        let mut functions: BTreeMap<&str, usize> = BTreeMap::new();
        for function in &profile.functions {
            *functions.entry(profile.strings.get(function.name)).or_default() += 1;
        }
        let mut own = Counts::new();
        let mut checked = 0;
        for line in top.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [flat, _, _, cum, _, name @ ..] = words.as_slice() else { continue };
            let (Ok(flat), Ok(cum)) = (flat.parse::<u64>(), cum.parse::<u64>()) else { continue };
            let name = name.join(" ").replace(" (inline)", "");
            let Some(total) = expected.total.get(&name) else { continue };
            if functions.get(&*name) == Some(&1) {
                assert_eq!(cum, *total, "total of {name}");
                checked += 1;
            }
            *own.entry(name).or_default() += flat;
        }
        for (name, flat) in own {
            assert_eq!(flat, expected.own.get(&name).copied().unwrap_or(0), "self of {name}");
        }
        assert!(checked * 10 >= expected.total.len() * 6, "{checked} of {}", expected.total.len());
    }
}

/// Addresses without names: `go tool pprof -symbolize=local` finds `main` of a binary by its ELF
/// virtual address.
#[test]
fn go_tool_pprof_names_addresses() {
    let has = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    if Command::new("go").arg("version").output().is_err() || !has("cc") || !has("nm") {
        println!("skipped: go, cc and nm are needed");
        return;
    }
    let source = scratch("named.c", b"int leaf_here(int x) { return x * 3; }\nint main(int c, char **v) { (void)v; return leaf_here(c); }\n");
    let binary = source.with_extension("bin");
    output(Command::new("cc").args(["-O0", "-g", "-o"]).arg(&binary).arg(&source));
    let symbols = output(Command::new("nm").arg(&binary));
    let address_of = |name: &str| {
        let line = symbols.lines().find(|line| line.ends_with(&format!(" {name}"))).unwrap();
        u64::from_str_radix(line.split_whitespace().next().unwrap(), 16).unwrap()
    };
    let mut a = hotframe_formats::Assembler::new("test", hotframe_formats::Limits::default());
    let module = a.module(binary.to_str().unwrap(), "");
    let mut stack = 0;
    for name in ["main", "leaf_here"] {
        let id = a.string("wrong name, not to be seen");
        let function = a.function(hotframe_core::profile::Function {
            name: id,
            system_name: 0,
            file: 0,
            start_line: 0,
            module,
            kind: hotframe_core::profile::Kind::Native,
        });
        let frame = a.frame(hotframe_core::profile::Frame {
            function,
            line: 0,
            address: address_of(name) + 5,
            flags: 0,
        });
        stack = a.node(stack, frame).unwrap();
    }
    let exe = a.string(binary.to_str().unwrap());
    let process = a.process(hotframe_core::profile::Process { pid: 1, exe, ..Default::default() });
    let thread = a.thread(process, 1, exe);
    a.sample(hotframe_formats::Row { time_ns: 0, thread, stack, cpu: 0, cut: 0, weight: 9 })
        .unwrap();
    let mut bytes = Vec::new();
    pprof::write(&a.profile, pprof::Options { address_only: true }, &mut bytes).unwrap();
    let path = scratch("addresses.pb.gz", &bytes);
    let top =
        output(Command::new("go").args(["tool", "pprof", "-symbolize=local", "-top"]).arg(&path));
    let has = |line: &str| {
        top.lines().any(|l| l.split_whitespace().collect::<Vec<_>>().join(" ") == line)
    };
    assert!(has("9 100% 100% 9 100% leaf_here"), "{top}");
    assert!(has("0 0% 100% 9 100% main"), "{top}");
}

/// The checker on PyPI's decoder accepts our OTLP and finds the same totals.
#[test]
fn otlp_checker_agrees() {
    let Some(python) = tool("HOTFRAME_PYTHON") else { return };
    for profile in profiles() {
        let path = write(Format::Otlp, &profile, "check.otlp");
        let json =
            output(Command::new(&python).arg(root().join("testing/otlp/check.py")).arg(&path));
        let found: Value = serde_json::from_str(&json).expect("the checker prints JSON");
        let counts = |key: &str| -> Counts {
            let map = found[key].as_object().expect("a map");
            map.iter().map(|(name, count)| (name.clone(), count.as_u64().unwrap())).collect()
        };
        let (expected, threads) = expected(&profile);
        let totals = Totals {
            ticks: found["ticks"].as_u64().unwrap(),
            own: counts("self"),
            total: counts("total"),
        };
        assert_eq!(totals, expected);
        let threads: Counts = (threads.into_iter())
            .map(|((pid, tid, comm), count)| (format!("{pid}/{tid}/{comm}"), count))
            .collect();
        assert_eq!(counts("threads"), threads);
    }
}

/// speedscope's schema holds, and what the schema cannot say: indices, lengths, sums.
#[test]
fn speedscope_agrees() {
    for profile in profiles() {
        let path = write(Format::Speedscope, &profile, "x.speedscope.json");
        let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let frames = file["shared"]["frames"].as_array().unwrap();
        let mut totals = Totals::default();
        for thread in file["profiles"].as_array().unwrap() {
            let samples = thread["samples"].as_array().unwrap();
            let weights = thread["weights"].as_array().unwrap();
            assert_eq!(samples.len(), weights.len());
            let mut sum = 0;
            for (stack, weight) in samples.iter().zip(weights) {
                let weight = weight.as_u64().unwrap();
                sum += weight;
                let ticks = weight / profile.meta.period_ns;
                let name = |frame: &Value| {
                    frames[frame.as_u64().unwrap() as usize]["name"].as_str().unwrap()
                };
                let names: Vec<&str> = stack.as_array().unwrap().iter().map(name).collect();
                totals.ticks += ticks;
                if let Some(leaf) = names.last() {
                    *totals.own.entry((*leaf).to_owned()).or_default() += ticks;
                }
                for name in names.into_iter().collect::<BTreeSet<_>>() {
                    *totals.total.entry(name.to_owned()).or_default() += ticks;
                }
            }
            assert_eq!(thread["endValue"].as_u64().unwrap(), sum);
        }
        assert_eq!(totals, expected(&profile).0);

        let (Some(python), Some(node)) = (tool("HOTFRAME_PYTHON"), tool("HOTFRAME_NODE_MODULES"))
        else {
            continue;
        };
        let schema = node.join("speedscope/dist/release/file-format-schema.json");
        let script = "import json,jsonschema,sys; jsonschema.validate(json.load(open(sys.argv[2])), json.load(open(sys.argv[1])))";
        output(Command::new(python).args(["-c", script]).arg(schema).arg(&path));
    }
}

/// The Firefox Profiler's own loader finds the same samples in each thread.
#[test]
fn firefox_profiler_agrees() {
    let Some(node_modules) = tool("HOTFRAME_NODE_MODULES") else { return };
    for (i, profile) in profiles().into_iter().enumerate() {
        let path = write(Format::Firefox, &profile, "x.firefox.json");
        let script = node_modules.join("@firefox-devtools/profiler-cli/dist/profiler-cli.js");
        let run = |arguments: &[&str]| {
            let mut command = Command::new("node");
            command.arg(&script).args(arguments);
            command
        };
        // The loader gives its daemon half a second to start, too little on a busy machine, and
        // advises to try again.
        let mut session = String::new();
        let loaded = (0..20).any(|attempt| {
            session = format!("hotframe-{}-{i}-{attempt}", std::process::id());
            let path = path.to_str().unwrap();
            let loaded =
                run(&["load", path, "--session", &session]).output().unwrap().status.success();
            if !loaded {
                std::thread::sleep(std::time::Duration::from_secs(2));
                let _ = run(&["stop", &session]).output();
            }
            loaded
        });
        assert!(loaded, "profiler-cli does not load {path:?}");
        let cli = |arguments: &[&str]| output(run(arguments).args(["--session", &session]));
        let mut totals = Totals::default();
        let (mut expected, threads) = expected(&profile);
        // The viewer leaves samples without a stack out of its sums.
        let samples = &profile.samples;
        expected.ticks -= (samples.stack.iter().zip(&samples.weight))
            .filter(|(stack, _)| **stack == 0)
            .map(|(_, weight)| u64::from(*weight))
            .sum::<u64>();
        let libraries: Vec<String> = (profile.modules.iter().skip(1))
            .map(|module| profile.strings.get(module.path))
            .map(|path| format!("{}!", path.rsplit('/').next().unwrap_or(path)))
            .collect();
        for thread in 0..threads.len() {
            let thread = format!("t-{thread}");
            let json = cli(&[
                "thread",
                "functions",
                "--json",
                "--include-idle",
                "--limit",
                "0",
                "--thread",
                &thread,
            ]);
            let found: Value = serde_json::from_str(&json).unwrap();
            for function in found["functions"].as_array().unwrap() {
                let name = function["nameWithLibrary"].as_str().unwrap();
                // `library!function`, where the function has a library.
                let library = libraries.iter().find_map(|library| name.strip_prefix(library));
                let name = library.unwrap_or(name);
                let samples = |field: &str| function[field].as_f64().unwrap() as u64;
                let (own, total) = (samples("selfSamples"), samples("totalSamples"));
                totals.ticks += own;
                for (count, into) in [(own, &mut totals.own), (total, &mut totals.total)] {
                    if count > 0 {
                        *into.entry(name.to_owned()).or_default() += count;
                    }
                }
            }
        }
        output(&mut run(&["stop", &session]));
        assert_eq!(totals, expected);
    }
}
