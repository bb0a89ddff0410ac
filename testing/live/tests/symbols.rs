//! Each place in which names may stand, alone: the same program, stripped, with its names in one
//! of them and in none of the others.
#![forbid(unsafe_code)]

use hotframe_live::{
    Recorder, Recording, Scratch, Workload, has_program, live, program, run, skipped,
};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const OUTER: [&str; 2] = ["main", "real_function"];
const INLINED: [&str; 5] = ["main", "real_function", "inlined_one", "inlined_two", "inlined_three"];

/// The program `inlines`, its names taken out into a file of their own.
struct Separated {
    scratch: Scratch,
    stripped: PathBuf,
    debug: PathBuf,
    build_id: String,
}

fn separated(original: &Path) -> Separated {
    let scratch = Scratch::new();
    let (stripped, debug) = (scratch.path("separated"), scratch.path("names.debug"));
    let path = Path::as_os_str;
    run("objcopy", ["--only-keep-debug".as_ref(), path(original), path(&debug)]);
    run("strip", ["-s".as_ref(), "-o".as_ref(), path(&stripped), path(original)]);
    let notes = run("readelf", ["-n".as_ref(), path(&stripped)]);
    let build_id = notes
        .lines()
        .find_map(|line| line.trim().strip_prefix("Build ID: "))
        .expect("gcc writes a build id")
        .to_owned();
    Separated { scratch, stripped, debug, build_id }
}

/// Records the stripped program with these variables in hotframe's environment.
fn recorded(separated: &Separated, environment: &[(&str, String)]) -> Recording {
    let workload = Workload::start(&separated.stripped, [""; 0]);
    let pid = workload.pid().to_string();
    let recording = Recorder::with(["-p", &pid, "-d", "2"], |command| {
        command.env_remove("DEBUGINFOD_URLS");
        for (key, value) in environment {
            command.env(key, value);
        }
    })
    .finish();
    assert_eq!(recording.code(), 0, "{}", recording.stderr);
    recording.assert_books();
    recording.stats().of("separated").assert_whole();
    recording
}

fn expect(recording: &Recording, path: &[&str]) {
    recording.folded.assert_path("separated", |_| true, path);
}

/// Without any names there are addresses in the module, not the names of something near.
#[test]
fn none() {
    live!();
    let separated = separated(&program!("inlines"));
    let recording = recorded(&separated, &[]);
    for stack in &recording.folded.stacks {
        let ours = stack.frames.iter().filter(|name| name.starts_with("separated+0x")).count();
        assert_eq!(ours, 3, "_start, main and real_function: {:?}", stack.frames);
    }
}

/// A compressed symbol table inside the file, as Fedora ships it.
#[test]
fn gnu_debugdata() {
    live!();
    if !has_program("xz") {
        skipped("needs xz");
        return;
    }
    let separated = separated(&program!("inlines"));
    let mini = separated.scratch.path("mini");
    let path = Path::as_os_str;
    run("objcopy", ["--strip-debug".as_ref(), path(&separated.debug), path(&mini)]);
    fs::remove_file(&separated.debug).expect("the names are elsewhere now");
    run("xz", [path(&mini)]);
    let section = format!(".gnu_debugdata={}.xz", mini.display());
    run("objcopy", ["--add-section".as_ref(), section.as_ref(), path(&separated.stripped)]);
    expect(&recorded(&separated, &[]), &OUTER);
}

/// A file beside the program, named by the program, in its own directory and in `.debug`.
#[test]
fn gnu_debuglink() {
    live!();
    for directory in ["", ".debug"] {
        let separated = separated(&program!("inlines"));
        let link = format!("--add-gnu-debuglink={}", separated.debug.display());
        run("objcopy", [link.as_ref(), separated.stripped.as_os_str()]);
        let place = separated.scratch.path(directory);
        fs::create_dir_all(&place).expect("a directory");
        let moved = place.join("names.debug");
        if moved != separated.debug {
            fs::rename(&separated.debug, &moved).expect("it moves");
        }
        expect(&recorded(&separated, &[]), &INLINED);
    }
}

/// A file that the link names but that belongs to another program is not believed.
#[test]
fn gnu_debuglink_of_another_program() {
    live!();
    let separated = separated(&program!("inlines"));
    let link = format!("--add-gnu-debuglink={}", separated.debug.display());
    run("objcopy", [link.as_ref(), separated.stripped.as_os_str()]);
    let other = program!("recursion");
    run("objcopy", ["--only-keep-debug".as_ref(), other.as_os_str(), separated.debug.as_os_str()]);
    let recording = recorded(&separated, &[]);
    for wrong in ["even", "odd", "floor_of_it", "main"] {
        assert_eq!(recording.folded.samples(|stack| stack.has(wrong)), 0, "{wrong}");
    }
}

/// The distribution's tree of build ids.
#[test]
fn build_id_tree() {
    live!();
    struct Installed(PathBuf);
    impl Drop for Installed {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
            // The directories go only if this test made them.
            let mut parent = self.0.parent();
            while let Some(dir) = parent.filter(|dir| dir.starts_with("/usr/lib/debug")) {
                if fs::remove_dir(dir).is_err() {
                    break;
                }
                parent = dir.parent();
            }
        }
    }
    let separated = separated(&program!("inlines"));
    let (first, rest) = separated.build_id.split_at(2);
    let place = PathBuf::from(format!("/usr/lib/debug/.build-id/{first}/{rest}.debug"));
    fs::create_dir_all(place.parent().expect("a parent")).expect("directories");
    let installed = Installed(place);
    fs::rename(&separated.debug, &installed.0)
        .or_else(|_| fs::copy(&separated.debug, &installed.0).map(|_| ()))
        .expect("it is installed");
    let _ = fs::remove_file(&separated.debug);
    expect(&recorded(&separated, &[]), &INLINED);
}

/// Serves one build id's debug file as a debuginfod does, in eight pieces with a pause before each; counts
/// the requests.
fn debuginfod(build_id: &str, debug: Vec<u8>, pause: Duration) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let wanted = format!("/buildid/{build_id}/debuginfo");
    let served = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&served);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = Vec::new();
            let mut bytes = [0; 1024];
            while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                match stream.read(&mut bytes) {
                    Ok(0) | Err(_) => break,
                    Ok(n) => request.extend_from_slice(&bytes[..n]),
                }
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let body: &[u8] = if request.split(' ').nth(1) == Some(&wanted) {
                counter.fetch_add(1, Ordering::Relaxed);
                &debug
            } else {
                b""
            };
            let status = if body.is_empty() { "404 Not Found" } else { "200 OK" };
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            for piece in body.chunks(body.len().div_ceil(8).max(1)) {
                std::thread::sleep(pause);
                let _ = stream.write_all(piece);
            }
        }
    });
    (url, served)
}

/// A debuginfod server, asked only when the variable names it.
#[test]
fn debuginfod_server() {
    live!();
    let separated = separated(&program!("inlines"));
    let debug = fs::read(&separated.debug).expect("the names");
    fs::remove_file(&separated.debug).expect("only the server has them now");
    let (url, served) = debuginfod(&separated.build_id, debug, Duration::ZERO);
    let cache = separated.scratch.path("cache").display().to_string();
    let environment = [("DEBUGINFOD_URLS", url), ("DEBUGINFOD_CACHE_PATH", cache)];
    expect(&recorded(&separated, &environment), &INLINED);
    let asked = served.load(Ordering::Relaxed);
    assert!(asked > 0);
    // The second time the names come from the cache.
    expect(&recorded(&separated, &environment), &INLINED);
    assert_eq!(served.load(Ordering::Relaxed), asked);
    // Without the variable nobody is asked.
    let recording = recorded(&separated, &environment[1..]);
    assert_eq!(recording.folded.samples(|stack| stack.has("inlined_three")), 0);
    assert_eq!(served.load(Ordering::Relaxed), asked);
}

/// A server that is not there costs the names, not the recording.
#[test]
fn debuginfod_server_that_is_not_there() {
    live!();
    let separated = separated(&program!("inlines"));
    fs::remove_file(&separated.debug).expect("nobody has the names");
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let cache = separated.scratch.path("cache").display().to_string();
    let environment =
        [("DEBUGINFOD_URLS", format!("http://{port}")), ("DEBUGINFOD_CACHE_PATH", cache)];
    let recording = recorded(&separated, &environment);
    assert!(recording.folded.of("separated") > 0);
}

/// A slow server is waited for as long as it goes on.
#[test]
fn debuginfod_server_that_is_slow() {
    live!();
    let separated = separated(&program!("inlines"));
    let debug = fs::read(&separated.debug).expect("the names");
    fs::remove_file(&separated.debug).expect("only the server has them now");
    let (url, _) = debuginfod(&separated.build_id, debug, Duration::from_millis(400));
    let cache = separated.scratch.path("cache").display().to_string();
    let environment = [
        ("DEBUGINFOD_URLS", url),
        ("DEBUGINFOD_CACHE_PATH", cache),
        ("DEBUGINFOD_TIMEOUT", "2".to_owned()),
    ];
    expect(&recorded(&separated, &environment), &INLINED);
}

/// A server that takes connections and never answers costs its wait once, not once a file.
#[test]
fn debuginfod_server_that_never_answers() {
    live!();
    let separated = separated(&program!("inlines"));
    fs::remove_file(&separated.debug).expect("nobody has the names");
    // Whoever connects waits in its queue.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let cache = separated.scratch.path("cache").display().to_string();
    let mut environment = vec![("DEBUGINFOD_URLS", url), ("DEBUGINFOD_CACHE_PATH", cache)];
    // By default, and as the variable says.
    for most in [30, 15] {
        let began = Instant::now();
        let recording = recorded(&separated, &environment);
        assert!(began.elapsed() < Duration::from_secs(most), "{:?}", began.elapsed());
        assert!(recording.folded.of("separated") > 0);
        let problems = recording.stats().0["problems"].to_string();
        assert_eq!(problems.matches("this server is asked no more").count(), 1, "{problems}");
        environment.push(("DEBUGINFOD_TIMEOUT", "1".to_owned()));
    }
}

/// A process that died during the recording keeps its names.
#[test]
fn a_process_that_died_keeps_its_names() {
    live!();
    let recursion = program!("recursion");
    let scratch = Scratch::new();
    let copy = scratch.path("shortlived");
    fs::copy(&recursion, &copy).expect("a copy");
    let mut recorder = Recorder::start(["-d", "4"]);
    recorder.wait_until_sampling();
    let workload = Workload::start(&copy, ["2"]);
    std::thread::sleep(std::time::Duration::from_secs(1));
    drop(workload);
    let recording = recorder.finish();
    recording.assert_books();
    recording.folded.assert_path(
        "shortlived",
        |stack| stack.has("floor_of_it"),
        &["main", "even", "odd", "floor_of_it"],
    );
    let process = recording.stats().of("shortlived");
    println!("{} of {} whole", process.whole, process.samples);
    assert!(process.whole + 1 >= process.samples, "{process:?}");
}

/// Of a pprof file, as Go's reader prints it: how often each place (file, address) stands in a
/// sample's stack, and the function that the place's code belongs to; none: it has no name.
fn places(file: &Path, symbolize: &str) -> BTreeMap<(String, u64), (u64, Option<String>)> {
    let raw = run(
        "go",
        ["tool", "pprof", "-raw", &format!("-symbolize={symbolize}"), &file.display().to_string()],
    );
    let after = |title: &'static str| raw.lines().skip_while(move |line| *line != title).skip(1);
    let files: BTreeMap<u64, String> = after("Mappings")
        .filter_map(|line| {
            let (id, rest) = line.trim().split_once(": ")?;
            Some((id.parse().ok()?, rest.split(' ').nth(1)?.to_owned()))
        })
        .collect();
    // `ID: 0xADDRESS M=MAPPING FUNCTION FILE:LINE:COLUMN s=LINE`, and a line for each caller that it
    // was inlined into.
    let mut by_id: BTreeMap<u64, (String, u64, Option<String>)> = BTreeMap::new();
    let mut last = 0;
    for line in after("Locations").take_while(|line| *line != "Mappings") {
        let mut words = line.split_whitespace();
        let head = words.clone().next().and_then(|word| word.strip_suffix(':')?.parse().ok());
        let Some(id) = head else {
            if let Some((.., function)) = by_id.get_mut(&last) {
                *function = words.next().map(str::to_owned);
            }
            continue;
        };
        let address = words.nth(1).and_then(|word| word.strip_prefix("0x"));
        let address = address.and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let mapping = words.next().and_then(|word| word.strip_prefix("M=")?.parse().ok());
        let file = mapping.and_then(|mapping: u64| files.get(&mapping).cloned());
        let function = words.next().map(str::to_owned);
        by_id.insert(id, (file.unwrap_or_default(), address.unwrap_or(0), function));
        last = id;
    }
    let mut places = BTreeMap::new();
    for line in raw.lines().take_while(|line| *line != "Locations") {
        let Some((counts, ids)) = line.split_once(": ") else { continue };
        let count = counts.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
        let Some(count) = count else { continue };
        for id in ids.split_whitespace() {
            let known = id.parse().ok().and_then(|id: u64| by_id.get(&id));
            let (file, address, function) = known.unwrap_or_else(|| panic!("no location: {line}"));
            let place: &mut (u64, Option<String>) =
                places.entry((file.clone(), *address)).or_default();
            place.0 += count;
            place.1.clone_from(function);
        }
    }
    places
}

/// Go's pprof, naming an address-only export by itself, finds what we find: by DWARF in a
/// position-independent C program and by Go's own tables. It reads no symbol tables and expands no
/// inlining, so that the functions compared are those of the code itself. Kernel frames, for which it
/// has no file, bring their names.
#[test]
fn go_pprof_finds_the_same_names() {
    live!();
    if !has_program("go") {
        skipped("needs go, for `go tool pprof`");
        return;
    }
    let programs = [program!("inlines"), program!("debuggable"), program!("gostacks")];
    let workloads: Vec<Workload> =
        programs.iter().map(|program| Workload::start(program, [""; 0])).collect();
    let syscalls = Workload::start(&program!("syscalls"), [""; 0]);
    let scratch = Scratch::new();
    let [page, bare, named] =
        ["named.html", "bare.pb.gz", "named.pb.gz"].map(|name| scratch.path(name));
    let recording = Recorder::with(["-F", "499", "-d", "3", "--address-only", "-o"], |command| {
        command.arg(&bare).arg("-o").arg(&page);
        for workload in workloads.iter().chain([&syscalls]) {
            command.args(["-p", &workload.pid().to_string()]);
        }
    })
    .finish();
    assert_eq!(recording.code(), 0, "{}", recording.stderr);
    run(
        &hotframe_live::hotframe().display().to_string(),
        ["convert".as_ref(), page.as_os_str(), named.as_os_str()],
    );
    let bare = places(&bare, "local");
    let named = places(&named, "none");
    for program in &programs {
        let (mut all, mut same) = (0, 0);
        for ((file, address), (count, theirs)) in &bare {
            if Path::new(file) != program {
                continue;
            }
            let ours = named.get(&(file.clone(), *address)).and_then(|(_, name)| name.as_ref());
            // The C library's start-up code has a symbol and no DWARF.
            if theirs.is_none() && ours.is_some_and(|name| name == "_start") {
                continue;
            }
            all += count;
            same += if theirs.is_some() && theirs.as_ref() == ours { *count } else { 0 };
        }
        assert!(all > 100, "{}: {all} frames in {bare:?}", program.display());
        assert!(same * 1000 >= all * 999, "{}: {same} of {all} agree: {bare:?}", program.display());
    }
    let kernel: Vec<_> = bare.iter().filter(|((file, _), _)| file.starts_with('[')).collect();
    assert!(kernel.iter().any(|((file, _), _)| file == "[kernel.kallsyms]"), "{bare:?}");
    for (place, (_, name)) in kernel {
        assert!(name.is_some(), "{place:x?} came without a name");
    }
}
