//! JVMs that say nothing of themselves, are changed, held or killed: nobody else notices.

use crate::jvm::*;
use hotframe_live::{
    Folded, Recorder, Recording, Scratch, Stack, has_program, hold, is_held, live, program, record,
    run, send, skipped,
};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A JDK that is another one but for its libjvm, a copy without `.symtab`, in which `change` changes
/// what is exported.
fn with_libjvm(
    home: &Path,
    scratch: &Scratch,
    name: &str,
    change: impl FnOnce(&mut Vec<u8>),
) -> PathBuf {
    let copy = scratch.path(name);
    fs::create_dir_all(copy.join("lib/server")).expect("a folder");
    fs::create_dir_all(copy.join("bin")).expect("a folder");
    // The launcher and libjvm look for the rest of the JDK around themselves.
    for name in ["bin/java", "lib/server/libjvm.so"] {
        fs::copy(home.join(name), copy.join(name)).expect("a copy");
    }
    for folder in ["", "lib", "lib/server"] {
        for entry in fs::read_dir(home.join(folder)).expect("a JDK").flatten() {
            let to = copy.join(folder).join(entry.file_name());
            if !to.exists() {
                symlink(entry.path(), to).expect("a link");
            }
        }
    }
    let libjvm = copy.join("lib/server/libjvm.so");
    run("strip", [&libjvm]);
    let mut bytes = fs::read(&libjvm).expect("libjvm");
    change(&mut bytes);
    fs::write(&libjvm, bytes).expect("libjvm is written");
    copy
}

/// Files with one build id are taken for one: makes it another one.
fn change_build_id(file: &mut [u8]) {
    /// Lengths of name and id, `NT_GNU_BUILD_ID`, name.
    const NOTE: [u8; 16] = *b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
    let note = file.windows(NOTE.len()).position(|bytes| bytes == NOTE).expect("a build id");
    file[note + NOTE.len()] ^= 0xff;
}

/// Names exported symbols anew for whoever reads a file by its sections; the dynamic linker goes by
/// segments and finds them.
fn rename_exports(file: &mut Vec<u8>, from: &[u8], to: &[u8]) {
    /// `SHT_DYNSYM`.
    const DYNSYM: u64 = 11;
    let word = |file: &[u8], at: usize, n: usize| {
        file[at..at + n].iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte))
    };
    let (table, size, n) = (word(file, 0x28, 8), word(file, 0x3a, 2), word(file, 0x3c, 2));
    let header = |n: u64| (table + n * size) as usize;
    let symbols = (0..n).find(|&n| word(file, header(n) + 4, 4) == DYNSYM).expect(".dynsym");
    let names = header(word(file, header(symbols) + 0x28, 4));
    let (offset, len) = (word(file, names + 0x18, 8) as usize, word(file, names + 0x20, 8));
    let mut copy = file[offset..offset + len as usize].to_vec();
    assert_eq!(from.len(), to.len());
    let mut renamed = 0;
    for at in 0..copy.len().saturating_sub(from.len()) {
        if copy[at..].starts_with(from) {
            copy[at..at + to.len()].copy_from_slice(to);
            renamed += 1;
        }
    }
    assert!(renamed > 0, "nothing has such a name");
    let end = file.len() as u64;
    file[names + 0x18..names + 0x20].copy_from_slice(&end.to_le_bytes());
    file.extend(copy);
}

/// What goes wrong in another process does not show in this one: its stacks are whole, and those of
/// `method`, which is its alone, are named.
fn check_unaffected(jvm: &Jvm, recording: &Recording, method: &str) {
    let stats = recording.stats();
    assert_eq!(problem(stats, jvm.pid()), "");
    let process = process_of(stats, jvm.pid());
    // While the rows of its files are being loaded so many of its stacks are finished as there is
    // room for; the others' rows are loaded at the same time.
    let budget = process.cut["budget"];
    assert!(budget * 20 <= process.samples, "{process:?}");
    let cut = process.cut_samples() - budget;
    assert!(cut * 100 <= process.samples || cut <= 2, "{process:?}");
    let of_it = |stack: &Stack| stack.has(method);
    let samples = recording.folded.samples(of_it);
    assert!(samples >= 20, "{samples} samples of {method}:\n{}", recording.folded.summary());
    let unnamed = recording.folded.samples(|stack| {
        of_it(stack) && stack.frames.iter().any(|name| name.starts_with("[unnamed"))
    });
    assert_eq!(unnamed, 0, "samples of {method} with unnamed frames");
}

/// A JVM whose frames cannot be found is cut where Java begins, for a reason that is counted; the
/// threads of the VM, and the native callees of Java, are as they are.
fn check_unusable(jvm: &Jvm, recording: &Recording, why: &str) {
    let stats = recording.stats();
    let said = problem(stats, jvm.pid());
    assert!(said.contains(why), "{said:?} does not say {why:?}");
    let process = process_of(stats, jvm.pid());
    assert!(process.samples >= 20, "{process:?}");
    assert!(process.cut["no_unwind_info"] > 0, "{process:?}");
    assert_eq!(process.cut["no_unwind_info"], process.cut_samples(), "{process:?}");
    // Threads that run no Java.
    let vm = ["C1 Comp", "C2 Comp", "VM Thread", "GC Thread", "G1 "];
    let (mut of_vm, mut natives) = (0, 0);
    for stack in &recording.folded.stacks {
        if stack.has("Truth$Osr.loop") || stack.has("Truth.round") {
            continue;
        }
        if vm.iter().any(|prefix| stack.comm.starts_with(prefix)) {
            of_vm += stack.count;
            assert!(stack.frames[0].contains("clone"), "{why}: it is whole: {stack:?}");
        }
        // What Java called has its callees.
        let of_java = |name: &String| name.starts_with("Java_java_util_zip_Deflater_deflateB");
        if let Some(at) = stack.frames.iter().position(of_java) {
            natives += stack.count;
            // JNI's functions are libjvm's, whose symbols may be missing.
            let callee = stack.frames.get(at + 1);
            let is_known = |name: &String| {
                name == "deflate" || ["jni_", "libjvm.so+"].iter().any(|it| name.starts_with(it))
            };
            assert!(callee.is_none_or(is_known), "{stack:?}");
        }
    }
    assert!(of_vm > 0 || natives > 0, "{why}:\n{}", recording.folded.summary());
}

/// A libjvm without `.symtab`: what it publishes is in `.dynsym`, and all is as ever.
#[test]
fn libjvm_without_symbols() {
    live!(beside);
    let scratch = Scratch::new();
    let stripped: Vec<PathBuf> = (0..)
        .zip(copyable_homes())
        .map(|(n, home)| {
            // By its version: wheels have it one folder above.
            let mut names = home.iter().rev().map(|name| name.to_string_lossy());
            let name = names.find(|name| name != "java-runtime").unwrap_or_default();
            with_libjvm(&home, &scratch, &format!("{n}-{name}-stripped"), |_| {})
        })
        .collect();
    check_homes(&stripped, &[&[]], &LASTING, 6, Some(995));
}

/// A libjvm that does not say how it is laid out, or in part only: said, and nobody else notices.
#[test]
fn libjvm_without_tables() {
    live!(beside);
    let scratch = Scratch::new();
    let Some(home) = copyable_homes().into_iter().next().filter(|_| classes(&scratch).is_some())
    else {
        return;
    };
    let sections = ["native", "churn", "inline"];
    for (name, from, to, why) in [
        ("none", "gHotSpot", "xHotSpot", "does not export gHotSpotVMStructs"),
        ("part", "gHotSpotVMTypeEntrySizeOffset", "xHotSpotVMTypeEntrySizeOffset", "in part only"),
    ] {
        let broken = with_libjvm(&home, &scratch, name, |file| {
            change_build_id(file);
            rename_exports(file, from.as_bytes(), to.as_bytes());
        });
        for mode in [&["-Xint"][..], &[]] {
            let args = [mode, &["Truth"], &sections].concat();
            let other = Jvm::start(&home, &scratch, &["Truth", "osr"]);
            let jvm = Jvm::start(&broken, &scratch, &args);
            let recording = record_two(&jvm, &other, 5);
            check_unusable(&jvm, &recording, why);
            check_unaffected(&other, &recording, "Truth$Osr.loop");
        }
    }
}

fn record_two(jvm: &Jvm, other: &Jvm, seconds: u32) -> Recording {
    let (a, b) = (jvm.pid().to_string(), other.pid().to_string());
    record(["-p", &a, "-p", &b, "-d", &seconds.to_string()])
}

/// Where a variable of a JVM's libjvm is in its memory.
fn variable(jvm: &Jvm, home: &Path, name: &str) -> u64 {
    let symbols = run("nm", ["-D".as_ref(), home.join("lib/server/libjvm.so").as_os_str()]);
    let line = symbols.lines().find(|line| line.split(['@', ' ']).any(|word| word == name));
    let line = line.unwrap_or_else(|| panic!("libjvm has no {name}"));
    let address = u64::from_str_radix(line.split(' ').next().unwrap_or_default(), 16);
    let maps = fs::read_to_string(format!("/proc/{}/maps", jvm.pid())).expect("its mappings");
    let first = maps.lines().find(|line| line.ends_with("libjvm.so")).expect("it maps libjvm");
    let start = first.split('-').next().unwrap_or_default();
    u64::from_str_radix(start, 16).expect("an address") + address.expect("an address")
}

/// Where the offset of a field is that libjvm publishes: what a JVM's memory says of the entry.
fn published_offset(jvm: &Jvm, home: &Path, memory: &File, kind: &str, field: &str) -> u64 {
    let word = |at: u64| {
        let mut bytes = [0; 8];
        memory.read_exact_at(&mut bytes, at).expect("its memory");
        u64::from_le_bytes(bytes)
    };
    let is_text = |at: u64, text: &str| {
        let mut bytes = vec![0; text.len() + 1];
        memory.read_exact_at(&mut bytes, at).is_ok() && bytes == [text.as_bytes(), b"\0"].concat()
    };
    let of = |name: &str| word(variable(jvm, home, name));
    let (first, stride) = (of("gHotSpotVMStructs"), of("gHotSpotVMStructEntryArrayStride"));
    let kind_at = of("gHotSpotVMStructEntryTypeNameOffset");
    let field_at = of("gHotSpotVMStructEntryFieldNameOffset");
    let offset_at = of("gHotSpotVMStructEntryOffsetOffset");
    (0..4096)
        .map(|n| first + n * stride)
        .take_while(|&entry| word(entry + kind_at) != 0)
        .find(|entry| {
            is_text(word(entry + kind_at), kind) && is_text(word(entry + field_at), field)
        })
        .map(|entry| entry + offset_at)
        .unwrap_or_else(|| panic!("libjvm does not publish {kind}.{field}"))
}

/// `VMStructs` that a process overwrote with zero, with absurd strides, and with offsets that lead to
/// something else: it has no Java frames, and says so; another one of the same file has all of its
/// own, named right.
#[test]
fn overwritten_tables() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    if !has_program("nm") {
        return skipped("needs nm");
    }
    let Some(home) = copyable_homes().into_iter().next() else { return };
    let start = |sections: &[&str]| {
        let jvm = Jvm::start(&home, &scratch, sections);
        let path = format!("/proc/{}/mem", jvm.pid());
        let memory = File::options().read(true).write(true).open(path);
        (jvm, memory.expect("its memory"))
    };
    // Which of two is looked at first is not known: one that is met on either side of the untouched one.
    let (first, first_memory) = start(&["Truth", "native", "churn", "inline"]);
    let other = Jvm::start(
        &home,
        &scratch,
        &["Truth", "osr", "inline", "recursion", "lambdas", "megamorphic"],
    );
    let (last, last_memory) = start(&["Truth", "native", "churn", "inline"]);
    let truth = Truth::parse(&other.said);
    let stride = |jvm: &Jvm, _: &File| variable(jvm, &home, "gHotSpotVMStructEntryArrayStride");
    let class_name =
        |jvm: &Jvm, memory: &File| published_offset(jvm, &home, memory, "Klass", "_name");
    let method =
        |jvm: &Jvm, memory: &File| published_offset(jvm, &home, memory, "Method", "_constMethod");
    let pools = |jvm: &Jvm, memory: &File| {
        published_offset(jvm, &home, memory, "ConstMethod", "_constants")
    };
    let untrue = "java.lang.Object.hashCode is not where";
    type Place<'a> = &'a dyn Fn(&Jvm, &File) -> u64;
    for (what, place, value, why) in [
        ("class name", &class_name as Place<'_>, 32u64, untrue),
        ("method", &method, 16, untrue),
        ("constants", &pools, 16, untrue),
        ("stride", &stride, 0, "libjvm's tables are empty"),
        ("stride", &stride, 8, "a stride of 8"),
        ("stride", &stride, 1 << 40, "a stride of 1099511627776"),
        ("stride", &stride, u64::MAX, "a stride of 18446744073709551615"),
    ] {
        let mut restore = Vec::new();
        for (jvm, memory) in [(&first, &first_memory), (&last, &last_memory)] {
            let at = place(jvm, memory);
            let mut before = [0; 8];
            memory.read_exact_at(&mut before, at).expect("its memory");
            memory.write_all_at(&value.to_le_bytes(), at).expect("written");
            restore.push((memory, at, before));
        }
        let pids = [&first, &other, &last].map(|jvm| jvm.pid().to_string());
        let [a, b, c] = pids.each_ref().map(String::as_str);
        let recording = record(["-p", a, "-p", b, "-p", c, "-d", "4"]);
        for (memory, at, before) in restore {
            memory.write_all_at(&before, at).expect("written");
        }
        check_unusable(&first, &recording, why);
        check_unusable(&last, &recording, why);
        check_unaffected(&other, &recording, "Truth.round");
        let samples = truth.check(&recording.folded, what);
        let java = recording.stats().count("frames.jvm.total");
        let named = recording.stats().count("frames.jvm.named");
        assert!(is_share(named, java, 995), "{what} {value}: {named} of {java} are named");
        println!("{what} {value}: {samples} samples of Java, {named} of {java} frames named");
    }
}

/// JVMs that end, or become another program, in the middle of whatever is done with them: what is
/// unnamed says why, the next program has its own stacks, and nobody else notices.
#[test]
fn gone_in_the_middle() {
    // Its own process's children are recorded.
    live!();
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let (later, next) = (program!("execlater.so"), program!("recursion"));
    for home in copyable_homes() {
        let other = Jvm::start(&home, &scratch, &["Truth", "osr"]);
        let sections = ["Truth", "inline", "lambdas", "megamorphic", "exceptions"];
        let dying = Jvm::start(&home, &scratch, &sections);
        let sign = scratch.path("now");
        let changing = Jvm::start_with(&home, &scratch, &sections, |command| {
            command.env("LD_PRELOAD", &later).env("EXEC_LATER", &next).env("EXEC_WHEN", &sign);
        });
        let truth = Truth::parse(&changing.said);
        let mut args = vec!["-F".to_owned(), "499".into(), "-d".into(), "8".into()];
        for jvm in [&other, &dying, &changing] {
            args.extend(["-p".to_owned(), jvm.pid().to_string()]);
        }
        // Those that start later are this one's children.
        args.extend(["-p".to_owned(), std::process::id().to_string()]);
        let mut recorder = Recorder::start(args);
        recorder.wait_until_sampling();
        std::thread::sleep(Duration::from_millis(700));
        send("KILL", dying.pid().into());
        File::create(&sign).expect("a sign");
        for after_ms in [120, 200, 300, 450, 700, 1000] {
            let short = Jvm::spawn(&home, &scratch, &sections, |_| {});
            std::thread::sleep(Duration::from_millis(after_ms));
            drop(short);
        }
        let recording = recorder.finish();
        fs::remove_file(&sign).expect("a sign");
        assert_eq!(recording.code(), 0, "{}", recording.stderr);
        recording.assert_books();
        let what = home.display();
        // Only whole names and reasons, no wrong neighbour.
        let reasons = recording.folded.unnamed();
        for stack in &recording.folded.stacks {
            // An unnamed frame hides a call.
            let is_ours =
                |name: &&String| name.starts_with("Truth") || name.starts_with("[unnamed");
            let ours: Vec<&String> = stack.frames.iter().filter(is_ours).collect();
            for two in ours.windows(2).filter(|_| stack.comm != "recursion") {
                // What another one does, and what happens once, at the start, was not said.
                let unsaid = ["Osr", "<clinit>", "isOurs", "nameOf"];
                let is_unsaid =
                    two.iter().any(|name| unsaid.iter().any(|part| name.contains(part)));
                assert!(is_unsaid || truth.allows(two[0], two[1]), "{what}: {stack:?}");
            }
            if stack.comm == "recursion" {
                assert!(ours.is_empty(), "{what}: Java in another program: {stack:?}");
            }
        }
        let mut path = vec!["main"];
        path.extend(["even", "odd", "even", "odd", "even", "odd", "floor_of_it"]);
        let running = |stack: &Stack| stack.has("floor_of_it");
        recording.folded.assert_path("recursion", running, &path);
        check_unaffected(&other, &recording, "Truth$Osr.loop");
        let stats = recording.stats();
        for jvm in [&dying, &changing] {
            assert_eq!(problem(stats, jvm.pid()), "", "it was served as long as it was there");
        }
        println!(
            "{what} gone: {} samples, {} whole, {} of {} Java frames named, unnamed: {reasons:?}",
            stats.count("samples_emitted"),
            stats.count("stacks_whole"),
            stats.count("frames.jvm.named"),
            stats.count("frames.jvm.total"),
        );
    }
}

/// A debugger that holds a JVM, before it is first seen and while it is sampled: nothing waits for
/// it, and it is as ever when it goes on.
#[test]
fn held_by_a_debugger() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    if !has_program("gdb") {
        return skipped("needs gdb");
    }
    for home in homes() {
        let other = Jvm::start(&home, &scratch, &["Truth", "osr"]);
        let sections = ["Truth", "inline", "lambdas", "megamorphic", "exceptions"];
        let held = Jvm::start(&home, &scratch, &sections);
        let truth = Truth::parse(&held.said);
        // Once over the start of the recording, once in its middle.
        let mut first = hold(held.pid(), 2);
        let (a, b) = (held.pid().to_string(), other.pid().to_string());
        let mut recorder = Recorder::start(["-p", &a, "-p", &b, "-d", "9"]);
        recorder.wait_until_sampling();
        assert!(is_held(held.pid()), "it is held while it is first looked at");
        first.wait().expect("gdb ends");
        std::thread::sleep(Duration::from_secs(2));
        hold(held.pid(), 2).wait().expect("gdb ends");
        let recording = recorder.finish();
        assert_eq!(recording.code(), 0, "{}", recording.stderr);
        recording.assert_books();
        let what = home.display().to_string();
        let stats = recording.stats();
        assert_eq!(problem(stats, held.pid()), "", "{what}");
        let (it, rest) = (process_of(stats, held.pid()), process_of(stats, other.pid()));
        println!(
            "{what} held: {} of {} samples whole, the other's {}",
            it.whole, it.samples, rest.samples
        );
        let cut = it.cut_samples();
        assert!(it.samples >= 20 && (cut * 100 <= it.samples || cut <= 2), "{what}: {it:?}");
        check_unaffected(&other, &recording, "Truth$Osr.loop");
        let of_held = recording.folded.stacks.iter().filter(|stack| !stack.has("Truth$Osr.loop"));
        let of_held = Folded { stacks: of_held.cloned().collect() };
        assert!(truth.check(&of_held, &what) >= 20, "{what}: {}", of_held.summary());
        let (named, total) = (stats.count("frames.jvm.named"), stats.count("frames.jvm.total"));
        assert!(is_share(named, total, 995), "{what}: {named} of {total} are named");
    }
}
