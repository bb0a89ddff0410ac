//! What is written comes back: all of it from a lossless format, what the format can say from
//! another.

mod common;

use common::{assert_same, dump};
use hotframe_core::profile::{Meta, Profile};
use hotframe_formats::{canonical, folded, otlp, perfscript, pprof, synthetic};

/// The one numbering is reached in one step, whatever the numbering before.
#[test]
fn canonical_is_one() {
    for profile in [synthetic::small(), some_thousand_stacks()] {
        let once = canonical(&profile).unwrap();
        assert_same(&canonical(&once).unwrap(), &once);
        let samples = &profile.samples;
        assert_eq!(sum(&once), sum(&profile));

        // The same samples in the opposite order of rows.
        let mut turned = profile.clone();
        turned.samples.time_ns = samples.time_ns.iter().rev().copied().collect();
        turned.samples.thread = samples.thread.iter().rev().copied().collect();
        turned.samples.stack = samples.stack.iter().rev().copied().collect();
        turned.samples.cpu = samples.cpu.iter().rev().copied().collect();
        turned.samples.cut = samples.cut.iter().rev().copied().collect();
        turned.samples.weight = samples.weight.iter().rev().copied().collect();
        assert_same(&canonical(&turned).unwrap(), &once);
    }
}

/// What a recording is built into has the one numbering already, so that a page of it needs no copy:
/// inlined calls, places without a name, frames that are one by what they show, threads of one
/// name and stacks that only differ in words that name the same.
#[test]
fn recordings_are_built_canonical() {
    use hotframe_abi as abi;
    use hotframe_core::recording::{Recording, Sample};
    use hotframe_core::resolve::{self, Sources};
    use hotframe_frames::{FrameInfo, FunctionInfo};
    use zerocopy::FromZeros as _;

    let kind = |kind: u32, number: u64| u64::from(kind) << abi::HF_FRAME_KIND_SHIFT | number;
    let note = |number: u64| kind(abi::HF_FRAME_NOTE, number);
    let mut recording = Recording::default();
    for i in (0..3000u64).rev() {
        let mut head = abi::hf_sample::new_zeroed();
        (head.weight, head.time_ns) = (1 + (i % 3) as u32, 1000 + i / 2);
        (head.tgid, head.cpu) = (1 + (i % 7) as u32, (i % 2) as u16);
        head.tid = head.tgid + (i % 2) as u32;
        head.comm[..4].copy_from_slice(if i % 5 == 0 { b"app1" } else { b"app2" });
        // The process's own address is the same function in all of them.
        let own = kind(abi::HF_FRAME_USER_PC, 64 * (i % 4));
        let words = [note(i % 90), own, note(i % 11), note(i % 3)];
        let hash = i % 90 * 1_000_000 + i % 44 * 1000 + i % 33;
        recording.add(&Sample { head: &head, words: &words, hash, cut: 0, cut_pc: 0 }, || {
            "/bin/app".into()
        });
    }
    for word in recording.store.unnamed_words(usize::MAX) {
        let number = word & 0xff;
        let name = format!("function {}", number % 40);
        let function = FunctionInfo { name: name.as_bytes(), ..FunctionInfo::default() };
        let caller = FunctionInfo { name: b"caller", file: b"a.c", ..function };
        let frame = FrameInfo { function, line: 0, flags: 0 };
        let inlined = [frame, FrameInfo { function: caller, line: 7, flags: 0 }];
        match number % 4 {
            0 => continue,
            1 => recording.store.name_word(word, &inlined),
            _ => recording.store.name_word(word, &[frame]),
        };
    }
    for (incarnation, word) in recording.store.unnamed_own_words() {
        let function = FunctionInfo { name: b"generated", ..FunctionInfo::default() };
        let frames = [FrameInfo { function, line: 0, flags: 0 }];
        recording.store.name_own_word(incarnation, word, &frames);
    }
    let (samples, n_nodes) = (recording.samples.time_ns.len(), recording.store.n_nodes());
    let profile = resolve::build(recording, &Sources::default(), Meta::default(), 1000);
    assert!(profile.is_canonical);
    assert_eq!(profile.samples.time_ns.len(), samples);
    assert!(profile.stacks.len() != n_nodes && profile.functions.len() > 20);
    assert_same(&canonical(&profile).unwrap(), &profile);
}

/// An OTLP file is lossless.
#[test]
fn otlp_keeps_everything() {
    for profile in [synthetic::small(), some_thousand_stacks()] {
        let mut bytes = Vec::new();
        otlp::write(&profile, otlp::Options::default(), &mut bytes).unwrap();
        assert_same(&otlp::read(&bytes).unwrap(), &canonical(&profile).unwrap());
    }
}

/// Weights so large that a stamp for each tick would not fit take the other shape, and come back.
#[test]
fn otlp_keeps_huge_weights() {
    let mut profile = synthetic::small();
    profile.samples.weight[0] = u32::MAX;
    let mut bytes = Vec::new();
    otlp::write(&profile, otlp::Options::default(), &mut bytes).unwrap();
    assert!(bytes.len() < 100_000);
    assert_same(&otlp::read(&bytes).unwrap(), &canonical(&profile).unwrap());
}

/// Folded text read and written again is the same text.
#[test]
fn folded_is_stable() {
    let text = |profile: &hotframe_core::profile::Profile| {
        let mut bytes = Vec::new();
        folded::write(profile, folded::Options::default(), &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    for profile in [synthetic::small(), some_thousand_stacks()] {
        let once = text(&profile);
        // In the order of bytes of the stacks, and no stack twice.
        let stacks: Vec<&str> = once.lines().map(|line| line.rsplit_once(' ').unwrap().0).collect();
        assert!(stacks.is_sorted_by(|left, right| left < right));
        let total: u64 = (once.lines())
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
            .sum();
        assert_eq!(total, sum(&profile));
        assert_eq!(text(&folded::read(once.as_bytes()).unwrap()), once);
    }
}

/// Names that begin alike, where what follows sorts before and behind the separator.
#[test]
fn folded_sorts_by_bytes() {
    let sorted = "a 1\na(b) 1\na(b);x 1\na:;x 1\na;a 1\na;a b 1\na;a;c 1\na;a<b>;c 1\na<b> 1\n";
    let mut turned: Vec<&str> = sorted.lines().rev().collect();
    turned.push("a;a 4");
    let mut bytes = Vec::new();
    let profile = folded::read(turned.join("\n").as_bytes()).unwrap();
    folded::write(&profile, folded::Options::default(), &mut bytes).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), sorted.replace("a;a 1", "a;a 5"));
}

/// A heap's bytes are no samples, and its period of bytes is no clock's; pages, OTLP and pprof keep
/// what they are. Of OTLP's several types one is taken, never their sum.
#[test]
fn values_that_are_no_samples() {
    use hotframe_formats::Format;
    let mut heap = folded::read(b"x;main;f 4096\nx;main;g 512\n").unwrap();
    heap.meta.value_type = "inuse_space".into();
    heap.meta.value_unit = "bytes".into();
    for format in [Format::Html, Format::Otlp, Format::Pprof] {
        let mut bytes = Vec::new();
        format.write(&heap, &mut bytes).unwrap();
        let read = format.read(&bytes).unwrap();
        let meta = &read.meta;
        assert_eq!((&*meta.value_type, &*meta.value_unit), ("inuse_space", "bytes"), "{format:?}");
        assert_eq!((meta.period_ns, sum(&read)), (0, 4608), "{format:?}");
    }

    // Of Go's heap: objects and bytes, one sampled in 524,288 bytes.
    let mut file = Vec::new();
    let mut message = |number: u8, content: &[u8]| {
        file.extend([number << 3 | 2, content.len() as u8]);
        file.extend(content);
    };
    message(1, &[8, 1, 16, 2]);
    message(1, &[8, 3, 16, 4]);
    message(2, &[10, 1, 1, 18, 3, 2, 0x80, 0x20]);
    message(4, &[8, 1, 24, 0x10]);
    for text in ["", "inuse_objects", "count", "inuse_space", "bytes", "space"] {
        message(6, text.as_bytes());
    }
    message(11, &[8, 5, 16, 4]);
    file.extend([12 << 3, 0x80, 0x80, 0x20]);
    let read = pprof::read(&file).unwrap();
    let meta = &read.meta;
    assert_eq!((&*meta.value_type, &*meta.value_unit), ("inuse_space", "bytes"));
    assert_eq!((meta.period_ns, sum(&read)), (0, 4096));
    let limits = hotframe_formats::Limits::default();
    let objects = pprof::read_value(&file, &limits, Some("inuse_objects")).unwrap();
    assert_eq!((&*objects.meta.value_type, sum(&objects)), ("inuse_objects", 2));
    let error = pprof::read_value(&file, &limits, Some("x")).unwrap_err().to_string();
    assert!(error.contains("inuse_objects, inuse_space"), "{error}");
}

/// Host, kernel and command of a recording come back from a pprof's comments; those of others are for people.
#[test]
fn pprof_says_of_which_recording_it_is() {
    let mut profile = synthetic::small();
    profile.meta.command = "hotframe record -p 7".into();
    profile.meta.arch.clear();
    let read = |profile: &Profile| {
        let mut bytes = Vec::new();
        pprof::write(profile, pprof::Options::default(), &mut bytes).unwrap();
        pprof::read(&bytes).unwrap().meta
    };
    let said = |meta: &Meta| {
        let Meta { producer, command, host, kernel, arch, .. } = meta.clone();
        [producer, command, host, kernel, arch]
    };
    assert!(!profile.meta.host.is_empty() && !profile.meta.kernel.is_empty());
    assert_eq!(said(&read(&profile)), said(&profile.meta));
    profile.meta.producer = "another profiler 1.0".into();
    assert_eq!(said(&read(&profile)), [""; 5].map(String::from));
}

/// A server's delays and allocations since its start, of which one stack has more than 2^48: a
/// coarser unit says them, little ones are still there, and two files of one value can be compared.
#[test]
fn values_beyond_three_days_and_256_tebibytes() {
    use hotframe_formats::{Format, units};
    let value = |kind: &str, unit: &str, weights: [u64; 4]| {
        let mut file = Vec::new();
        let message = |file: &mut Vec<u8>, number: u8, content: &[u8]| {
            file.extend([number << 3 | 2, content.len() as u8]);
            file.extend(content);
        };
        message(&mut file, 1, &[8, 1, 16, 2]);
        for mut weight in weights {
            let mut varint = Vec::new();
            while weight >= 0x80 {
                varint.push(weight as u8 | 0x80);
                weight >>= 7;
            }
            varint.push(weight as u8);
            let values = [&[10, 1, 1, 18, varint.len() as u8], &varint[..]].concat();
            message(&mut file, 2, &values);
        }
        message(&mut file, 4, &[8, 1, 24, 0x10]);
        for text in ["", kind, unit] {
            message(&mut file, 6, text.as_bytes());
        }
        pprof::read(&file)
    };
    // 5.75 hours of 20,000 goroutines that waited a second; a week; 300 years; 2 PiB.
    let hours = 20_700_000_000_000;
    let week = 604_800_000_000_000;
    let (age, pebi) = (9_000_000_000_000_000_000, 2 << 50);
    let little = [7, 1, 1];
    let of = |heavy| [heavy, little[0], little[1], little[2]];
    for (kind, given, weights, unit, wanted) in [
        ("delay", "nanoseconds", of(hours), "nanoseconds", hours + 9),
        ("delay", "nanoseconds", of(week), "microseconds", week / 1000 + 3),
        ("delay", "nanoseconds", of(age), "milliseconds", age / 1_000_000 + 3),
        ("alloc_space", "bytes", of(pebi), "kilobytes", pebi / 1024 + 3),
        // What came before the heavy one is said in its unit, too.
        ("delay", "nanoseconds", [1499, 1500, 1501, week], "microseconds", week / 1000 + 4),
    ] {
        let profile = value(kind, given, weights).unwrap();
        let counted: u64 = profile.processes.iter().map(|process| process.samples).sum();
        assert_eq!((&*profile.meta.value_unit, sum(&profile), counted), (unit, wanted, wanted));
        for format in [Format::Html, Format::Otlp, Format::Pprof] {
            let mut bytes = Vec::new();
            format.write(&profile, &mut bytes).unwrap();
            let read = format.read(&bytes).unwrap();
            assert_eq!((&*read.meta.value_unit, sum(&read)), (unit, wanted), "{format:?}");
        }
    }
    // Counts have no coarser unit.
    let error = value("objects", "count", of(1 << 50)).unwrap_err().to_string();
    assert!(error.contains("more than 281474976710656"), "{error}");

    let mut before = value("delay", "nanoseconds", of(hours)).unwrap();
    let mut after = value("delay", "nanoseconds", of(week)).unwrap();
    units::unify(&mut before, &mut after);
    assert_eq!(
        (&*before.meta.value_unit, &*after.meta.value_unit),
        ("microseconds", "microseconds")
    );
    assert_eq!((sum(&before), before.processes[0].samples), (hours / 1000, hours / 1000));
    let mut other = value("contentions", "nanoseconds", of(hours)).unwrap();
    units::unify(&mut after, &mut other);
    assert_eq!(&*other.meta.value_unit, "nanoseconds");
}

/// Of an OTLP file that has samples and their time, as a converted pprof, one is counted; any type may be
/// asked for.
#[test]
fn otlp_of_several_types() {
    let message =
        |number: u8, content: &[u8]| [&[number << 3 | 2, content.len() as u8], content].concat();
    // A Profile of a type and a unit (indices of strings), 10 ns a sample, with one value.
    let profile = |kind: u8, unit: u8, value: u8| {
        let value_type = message(1, &[8, kind, 16, unit]);
        let period_type = message(5, &[8, 3, 16, 4]);
        let sample = message(2, &message(4, &[value]));
        message(2, &[&value_type[..], &period_type, &sample, &[6 << 3, 10]].concat())
    };
    let strings = ["", "samples", "count", "cpu", "nanoseconds", "alloc_space", "bytes"];
    let strings: Vec<u8> = strings.iter().flat_map(|text| message(5, text.as_bytes())).collect();
    let profiles = [profile(1, 2, 3), profile(3, 4, 30), profile(5, 6, 99)].concat();
    let file = [message(1, &message(2, &profiles)), message(2, &strings)].concat();
    let limits = hotframe_formats::Limits::default();
    let read = |value| {
        otlp::read_value(&file, &limits, value).map(|profile| (sum(&profile), profile.meta))
    };
    for (value, expected) in [(None, 3), (Some("samples"), 3), (Some("cpu"), 3)] {
        let (sum, meta) = read(value).unwrap();
        assert_eq!((sum, &*meta.value_type, meta.period_ns), (expected, "", 10), "{value:?}");
    }
    let (sum, meta) = read(Some("alloc_space")).unwrap();
    assert_eq!((sum, &*meta.value_type, &*meta.value_unit), (99, "alloc_space", "bytes"));
    let error = read(Some("x")).unwrap_err().to_string();
    assert!(error.contains("alloc_space, cpu, samples"), "{error}");
}

/// Labels of other profilers: ids and names by the keys that they use, Go's `pprof.Do` as groups; what
/// each sample has of its own, as a trace's number, makes no thousands of them.
#[test]
fn labels_of_others() {
    let texts = ["", "samples", "count", "thread", "main", "thread id", "endpoint", "/a", "trace"];
    let ids: Vec<String> = (0..1000).map(|i| format!("t{i}")).collect();
    let text = |i: usize| texts.get(i).copied().unwrap_or_else(|| &ids[i - texts.len()]);
    let mut file = Vec::new();
    let mut message = |number: u8, content: &[u8]| {
        file.extend([number << 3 | 2, content.len() as u8]);
        file.extend(content);
    };
    message(1, &[8, 1, 16, 2]);
    message(4, &[8, 1, 24, 0x10]);
    (0..texts.len() + ids.len()).for_each(|i| message(6, text(i).as_bytes()));
    // thread=main, "thread id" the number 7, endpoint=/a.
    message(2, &[10, 1, 1, 18, 1, 3, 26, 4, 8, 3, 16, 4, 26, 4, 8, 5, 24, 7, 26, 4, 8, 6, 16, 7]);
    for i in texts.len()..texts.len() + ids.len() {
        let (low, high) = (i as u8 & 0x7f | 0x80, (i >> 7) as u8);
        message(2, &[10, 1, 1, 18, 1, 1, 26, 5, 8, 8, 16, low, high]);
    }
    let profile = pprof::read(&file).unwrap();
    let first = &profile.threads[0];
    assert_eq!((first.tid, profile.strings.get(first.comm)), (7, "main endpoint=/a"));
    // Of a file without a mapping; its first thread says what it is.
    assert_eq!(profile.strings.get(profile.processes[0].comm), "main");
    assert_eq!(profile.threads.len(), 1 + 256 + 1);
    let last = profile.threads.last().unwrap();
    assert_eq!(profile.strings.get(last.comm), "trace=…");
    assert_eq!(sum(&profile), 3 + 1000);
}

/// Counts with a fraction, as scripts that scale stacks write them: nothing is lost, and it is said.
#[test]
fn folded_fractions() {
    let profile = folded::read(b"x;a 0.4\nx;b 0.4\nx;a 1.5\nx;c 2\nx;d 0.7\n").unwrap();
    assert_eq!(profile.samples.weight, [400, 400, 1500, 2000, 700]);
    assert!(profile.meta.value_type.contains("thousandths"));
    let error = folded::read(b"x;a 0.0001\n").unwrap_err().to_string();
    assert!(error.contains("above 0"), "{error}");
    let error = folded::read(b"x;a 200000000000000000\n").unwrap_err().to_string();
    assert!(error.contains("counted in one sample"), "{error}");
    for bad in ["x;a -1", "x;a 1e3", "x;a 1.", "x;a .5", "x;a 1.x", "x;a NaN"] {
        let error = folded::read(bad.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{bad}: {error}");
    }
}

/// pprof keeps functions, lines, modules, threads and totals: the folded form before and after is
/// one, but for the kinds that pprof cannot say. Reading and writing settles after one round.
#[test]
fn pprof_keeps_what_it_can_say() {
    for profile in [synthetic::small(), some_thousand_stacks()] {
        let mut bytes = Vec::new();
        pprof::write(&profile, pprof::Options::default(), &mut bytes).unwrap();
        let read = pprof::read(&bytes).unwrap();
        let plain = |profile: &hotframe_core::profile::Profile| {
            let mut bytes = Vec::new();
            folded::write(profile, folded::Options { annotate: false }, &mut bytes).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(plain(&read), plain(&profile));
        assert_eq!(read.meta.period_ns, profile.meta.period_ns);
        let build_ids =
            |profile: &hotframe_core::profile::Profile| -> std::collections::BTreeSet<String> {
                (profile.modules.iter())
                    .map(|module| profile.strings.get(module.build_id).to_owned())
                    .collect()
            };
        assert_eq!(build_ids(&read), build_ids(&profile));
        let mut again = Vec::new();
        pprof::write(&read, pprof::Options::default(), &mut again).unwrap();
        let settled = pprof::read(&again).unwrap();
        assert_eq!(dump(&canonical(&settled).unwrap()), dump(&canonical(&read).unwrap()));
    }
}

/// From a lossy file to OTLP and back loses no more.
#[test]
fn otlp_of_a_profile_without_times() {
    let text = b"app;main;a 3\napp;main;b 4000000000\nsh 1\n";
    let profile = folded::read(text).unwrap();
    let mut bytes = Vec::new();
    otlp::write(&profile, otlp::Options::default(), &mut bytes).unwrap();
    assert!(bytes.len() < 2_000);
    assert_same(&otlp::read(&bytes).unwrap(), &canonical(&profile).unwrap());
}

fn sum(profile: &hotframe_core::profile::Profile) -> u64 {
    profile.samples.weight.iter().map(|&weight| u64::from(weight)).sum()
}

fn some_thousand_stacks() -> hotframe_core::profile::Profile {
    synthetic::large(&synthetic::Shape {
        processes: 7,
        threads: 3,
        stacks: 2_000,
        depth: 40,
        samples: 9_000,
    })
}

/// What `perf script` prints, as folded text.
#[test]
fn perf_script_reads() {
    let text = b"# a comment
clang 4711/4712 [003] 12.000001:   10101010 cpu-clock:pppH: 
\tffffffff81000010 do_syscall_64+0x10 ([kernel.kallsyms])
\t    7f0000001180 app::hash(int) (inlined)
\t    7f0000001180 app::run(int, g (*)(void))+0x4 (/usr/bin/a (deleted))
\t    7f0000009999 [unknown] (/usr/bin/a (deleted))

clang 4711/4712 [003] 12.010001:   10101010 cpu-clock:pppH: 
\t    7f0000001180 app::run(int, g (*)(void))+0x4 (/usr/bin/a (deleted))
  run.cc:12
";
    let profile = perfscript::read(text).unwrap();
    let mut folded = Vec::new();
    folded::write(&profile, folded::Options::default(), &mut folded).unwrap();
    assert_eq!(
        String::from_utf8(folded).unwrap(),
        "clang;a (deleted)+0x7f0000009999;app::run(int, g (*)(void));app::hash(int)_[i];do_syscall_64_[k] 1\n\
         clang;app::run(int, g (*)(void)) 1\n"
    );
    assert_eq!(profile.meta.period_ns, 10_101_010);
    assert_eq!(profile.samples.time_ns, [0, 10_000_000]);
    assert_eq!(profile.samples.cpu, [3, 3]);
    let error = perfscript::read(b"clang 1 1.0: x:\n\t 12 f (a)\n\nrubbish\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "perf script text, line 4: neither the head of a sample nor a frame: \"rubbish\""
    );
}
