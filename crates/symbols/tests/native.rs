//! Native code on fixtures that the tests build: against addr2line, nm, objdump and go tool, and by
//! each route to debug information with the others absent. A missing tool skips its test, and says so.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hotframe_symbols::{Context, Debuginfod, Kind, NamedFrame, Report, symbolize};

const CPP: &str = r#"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>
static inline int inner(int a) { return a * 3 + rand(); }
static inline int middle(int a) { return inner(a) + inner(a + 1); }
__attribute__((noinline)) int outer(int a) { return middle(a) ^ middle(a * 2); }
int main(int argc, char **argv) {
  std::vector<int> v;
  std::map<std::string, int> m;
  for (int i = 0; i < 100; i++) { v.push_back(outer(i)); m[std::to_string(i)] = argc; }
  std::sort(v.begin(), v.end(), [](int a, int b) { return a > b; });
  printf("%d %d\n", v[3], (int)m.size());
}
"#;

const C: &str = "
#include <stdio.h>
static __attribute__((noinline)) int hidden(int a) { return printf(\"%d\", a) + a; }
__attribute__((noinline)) int shown(int a) { return hidden(a) * 3; }
int main(int argc, char **argv) { return shown(argc) & 1; }
";

fn have(tools: &[&str]) -> bool {
    tools.iter().all(|tool| {
        let version = if *tool == "go" { "version" } else { "--version" };
        let found = Command::new(tool).arg(version).output().is_ok();
        if !found {
            println!("skipped: {tool} is not here");
        }
        found
    })
}

fn scratch(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    directory
}

#[track_caller]
fn run(directory: &Path, line: &str) -> String {
    let output = Command::new("sh").arg("-c").arg(line).current_dir(directory).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `tool` with addresses on stdin.
fn ask(line: &str, addresses: &[u64]) -> String {
    let mut child = Command::new("sh")
        .args(["-c", line])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text: String = addresses.iter().map(|a| format!("{a:x}\n")).collect();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    writer.join().unwrap().unwrap();
    assert!(child.wait().unwrap().success());
    out
}

fn name_with(
    path: &Path,
    context: &Context,
    addresses: &[u64],
) -> (BTreeMap<u64, Vec<NamedFrame>>, Report) {
    let file = File::open(path).unwrap();
    let mut named = BTreeMap::new();
    let report = symbolize(&file, context, addresses, &mut |index, frames| {
        let before = named.insert(addresses[index], frames.to_vec());
        assert!(before.is_none(), "an address is reported once");
    });
    assert_eq!(report.n_named, named.len());
    (named, report)
}

/// Only what `path` itself has.
fn alone(path: &Path) -> Context {
    let mut context = Context::new(path);
    context.debug_directories.clear();
    context
}

fn name(path: &Path, addresses: &[u64]) -> BTreeMap<u64, Vec<NamedFrame>> {
    let (named, report) = name_with(path, &alone(path), addresses);
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    named
}

/// Begin and end of a section.
fn section(path: &Path, name: &str) -> (u64, u64) {
    let table = run(Path::new("/"), &format!("readelf -SW {}", path.display()));
    let fields = table
        .lines()
        .filter_map(|l| Some(l.split_once(']')?.1.split_whitespace().collect::<Vec<_>>()))
        .find(|f| f.first() == Some(&name))
        .unwrap();
    let hex = |at: usize| u64::from_str_radix(fields[at], 16).unwrap();
    (hex(2), hex(2) + hex(4))
}

/// Symbols of code by `nm -S`: begin, end, name; a label's end is its begin.
fn functions(path: &Path) -> Vec<(u64, u64, String)> {
    run(Path::new("/"), &format!("nm -S --defined-only {}", path.display()))
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (begin, size, kind, name) = match fields[..] {
                [begin, size, kind, name] => (begin, size, kind, name),
                [begin, kind, name] => (begin, "0", kind, name),
                _ => return None,
            };
            let hex = |t| u64::from_str_radix(t, 16).unwrap();
            "tTwWi".contains(kind).then(|| (hex(begin), hex(begin) + hex(size), name.to_owned()))
        })
        .collect()
}

/// A named address lies in a symbol of nm's, and one in a sized symbol is named.
#[track_caller]
fn check_covered(functions: &[(u64, u64, String)], address: u64, named: Option<&NamedFrame>) {
    let covered = functions.iter().any(|&(b, e, _)| (b..e).contains(&address));
    match named {
        None => assert!(!covered, "{address:#x} is not named"),
        Some(frame) if !covered => {
            let label =
                |(b, e, n): &(u64, u64, String)| b == e && *b <= address && *n == frame.system_name;
            assert!(functions.iter().any(label), "{address:#x} is named {}", frame.system_name);
        }
        Some(_) => {}
    }
}

/// What `addr2line -a -i -f` says: linkage name and line of each frame.
fn addr2line(path: &Path, addresses: &[u64]) -> BTreeMap<u64, Vec<(String, u32)>> {
    let text = ask(&format!("addr2line -a -i -f -e {}", path.display()), addresses);
    let mut frames: BTreeMap<u64, Vec<(String, u32)>> = BTreeMap::new();
    let mut here = 0;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(address) = line.strip_prefix("0x") {
            here = u64::from_str_radix(address, 16).unwrap();
            continue;
        }
        let place = lines.next().unwrap();
        let number = place.split_whitespace().next().unwrap().rsplit(':').next().unwrap();
        frames.entry(here).or_default().push((line.to_owned(), number.parse().unwrap_or(0)));
    }
    frames
}

/// Every byte of text: the same functions and lines as binutils, inlined calls included; and where
/// we say nothing, nm has no symbol.
#[test]
fn inlined_calls_and_lines_agree_with_addr2line() {
    if !have(&["g++", "addr2line", "nm", "readelf"]) {
        return;
    }
    let directory = scratch("addr2line");
    fs::write(directory.join("a.cc"), CPP).unwrap();
    for (at, flags) in
        ["-gdwarf-5", "-gdwarf-4", "-g -gz", "-g -flto", "-g -O1 -no-pie"].into_iter().enumerate()
    {
        run(&directory, &format!("g++ -O2 {flags} a.cc -o a{at}"));
        let path = directory.join(format!("a{at}"));
        let (begin, end) = section(&path, ".text");
        let addresses: Vec<u64> = (begin..end).collect();
        let ours = name(&path, &addresses);
        let theirs = addr2line(&path, &addresses);
        let functions = functions(&path);
        let (mut n, mut n_same, mut deepest) = (0, 0, 0);
        for &address in &addresses {
            check_covered(&functions, address, ours.get(&address).and_then(|f| f.last()));
            let Some(frames) = ours.get(&address) else { continue };
            let last = frames.len() - 1;
            let frames: Vec<(String, u32)> = frames
                .iter()
                .enumerate()
                .map(|(i, f)| {
                    assert_eq!(f.inlined, i < last);
                    (f.system_name.clone(), f.line)
                })
                .collect();
            let expect = &theirs[&address];
            let lines = |f: &[(String, u32)]| f.iter().map(|f| f.1).collect::<Vec<_>>();
            assert_eq!(lines(&frames), lines(expect), "{flags}: {address:#x}");
            n += 1;
            // binutils names some constructors of the standard library by their plain name, and
            // `main.cold` by the symbol or the function, as it happens.
            n_same += usize::from(frames == *expect);
            deepest = deepest.max(frames.len());
        }
        assert!(n > 2000 && deepest > 5, "{flags}: {n} addresses, {deepest} deep");
        assert!(n_same * 100 > n * 75, "{flags}: {n_same} of {n}");
    }
}

/// Without debug information each address of a function has that function's name, and no other has.
#[test]
fn symbols_cover_what_nm_says() {
    if !have(&["gcc", "nm", "readelf"]) {
        return;
    }
    let directory = scratch("symtab");
    fs::write(directory.join("a.c"), C).unwrap();
    run(&directory, "gcc -O2 a.c -o a && gcc -O2 -rdynamic a.c -o d && strip -o stripped d");
    for (file, unstripped, hidden) in [("a", "a", true), ("stripped", "d", false)] {
        let path = directory.join(file);
        let (begin, end) = section(&path, ".text");
        let addresses: Vec<u64> = (begin..end).collect();
        let ours = name(&path, &addresses);
        let functions = functions(&directory.join(unstripped));
        for &address in &addresses {
            let frame = ours.get(&address).map(|frames| &frames[0]);
            if hidden {
                check_covered(&functions, address, frame);
            }
            if let Some(frame) = frame {
                let begins =
                    |(b, _, n): &(u64, u64, String)| *b <= address && *n == frame.system_name;
                assert!(functions.iter().any(begins), "{address:#x}");
            }
        }
        let names: Vec<&str> = ours.values().map(|f| f[0].name.as_str()).collect();
        assert!(names.contains(&"shown") && names.contains(&"main"));
        assert_eq!(names.contains(&"hidden"), hidden);
    }
}

/// A label without size reaches to the next symbol, and no further; once the local symbols are gone
/// nobody knows what comes after a label.
#[test]
fn labels_end_at_the_next_symbol_and_never_name_a_hole() {
    if !have(&["gcc", "strip", "nm"]) {
        return;
    }
    let directory = scratch("labels");
    let source = "
    .text
    .globl first
first:
    nop; nop; nop; nop
    .globl sized
    .type sized, @function
sized:
    nop; nop; ret
    .size sized, .-sized
    nop; nop; nop; nop
local:
    nop; nop
    .data
    .globl datum
datum: .long 1
";
    fs::write(directory.join("a.s"), source).unwrap();
    run(
        &directory,
        "gcc -shared -nostdlib a.s -o a.so && strip -x -o x.so a.so && strip -o s.so a.so",
    );
    let (begin, end) = section(&directory.join("a.so"), ".text");
    let addresses: Vec<u64> = (begin..end + 8).collect();
    let text = |file: &str| -> String {
        let named = name(&directory.join(file), &addresses);
        addresses
            .iter()
            .map(|a| named.get(a).map_or('.', |f| f[0].name.chars().next().unwrap()))
            .collect()
    };
    assert_eq!(text("a.so"), "ffffsss....ll........");
    assert_eq!(text("x.so"), "....sss..............");
    assert_eq!(text("s.so"), "....sss..............");
}

/// Stubs have the names that objdump prints.
#[test]
fn plt_stubs_are_named_as_objdump_does() {
    if !have(&["gcc", "objdump"]) {
        return;
    }
    let directory = scratch("plt");
    fs::write(directory.join("a.c"), C).unwrap();
    for (file, flags) in
        [("lazy", ""), ("now", "-Wl,-z,now"), ("ibt", "-fcf-protection -Wl,-z,ibtplt")]
    {
        run(&directory, &format!("gcc -O2 {flags} a.c -o {file} && strip {file}"));
        let path = directory.join(file);
        let listing = run(&directory, &format!("objdump -d {file}"));
        let mut n = 0;
        for line in listing.lines() {
            let Some((address, rest)) = line.split_once(" <") else { continue };
            let (Ok(address), Some(expect)) =
                (u64::from_str_radix(address, 16), rest.strip_suffix("@plt>:"))
            else {
                continue;
            };
            let ours = name(&path, &[address + 4]);
            assert_eq!(ours[&(address + 4)][0].name, format!("{expect}@plt"));
            n += 1;
        }
        assert!(n > 0, "{file}: objdump shows no stub");
    }
}

/// A stripped file and its debug file, apart.
struct Separate {
    directory: PathBuf,
    stripped: PathBuf,
    debug: PathBuf,
    build_id: String,
    address: u64,
}

fn separate(name: &str, flags: &str) -> Option<Separate> {
    if !have(&["gcc", "objcopy", "nm", "readelf"]) {
        return None;
    }
    let directory = scratch(name);
    fs::write(directory.join("a.c"), C).unwrap();
    run(
        &directory,
        &format!(
            "gcc -O2 -g {flags} a.c -o full && objcopy --only-keep-debug full full.debug && \
             objcopy --strip-all full a"
        ),
    );
    let (begin, ..) =
        functions(&directory.join("full")).into_iter().find(|f| f.2 == "hidden").unwrap();
    let notes = run(&directory, "readelf -n full");
    let build_id =
        notes.split("Build ID: ").nth(1).map_or("", |t| t.split_whitespace().next().unwrap());
    let (stripped, debug) = (directory.join("a"), directory.join("full.debug"));
    Some(Separate { build_id: build_id.to_owned(), directory, stripped, debug, address: begin + 1 })
}

impl Separate {
    fn by_build_id(&self, tree: &Path) {
        let (head, tail) = self.build_id.split_at(2);
        let place = tree.join(".build-id").join(head);
        fs::create_dir_all(&place).unwrap();
        fs::copy(&self.debug, place.join(format!("{tail}.debug"))).unwrap();
    }

    #[track_caller]
    fn check(&self, context: &Context, with_lines: Option<bool>) {
        let (named, report) = name_with(&self.stripped, context, &[self.address]);
        let got = named.get(&self.address).map(|f| (f[0].name.as_str(), f[0].line > 0));
        assert_eq!(got, with_lines.map(|lines| ("hidden", lines)), "{:?}", report.problems);
    }
}

#[test]
fn a_debug_file_is_found_by_build_id() {
    let Some(files) = separate("build-id", "-Wl,--build-id") else { return };
    files.check(&alone(&files.stripped), None);
    let tree = files.directory.join("usr-lib-debug");
    files.by_build_id(&tree);
    let mut context = alone(&files.stripped);
    context.debug_directories.push(tree.clone());
    files.check(&context, Some(true));
    // Inside the root of a process's mount namespace, where links are relative to that root.
    let root = files.directory.join("root");
    fs::create_dir_all(root.join("real")).unwrap();
    std::os::unix::fs::symlink("/real", root.join("debug")).unwrap();
    files.by_build_id(&root.join("real"));
    context.debug_directories = vec![PathBuf::from("/debug")];
    files.check(&context, None);
    context.root = Some(root);
    files.check(&context, Some(true));
}

#[test]
fn a_debug_file_of_another_build_is_refused() {
    let Some(files) = separate("other-build", "-Wl,--build-id") else { return };
    let tree = files.directory.join("tree");
    files.by_build_id(&tree);
    run(&files.directory, "gcc -O1 -g -Wl,--build-id a.c -o other");
    let (head, tail) = files.build_id.split_at(2);
    let place = tree.join(".build-id").join(head).join(format!("{tail}.debug"));
    fs::copy(files.directory.join("other"), place).unwrap();
    let mut context = alone(&files.stripped);
    context.debug_directories.push(tree);
    files.check(&context, None);
}

/// Beside the file, in `.debug` beside it, and in the tree under the file's directory; by CRC, as
/// there is no build id.
#[test]
fn a_debug_file_is_found_by_its_link() {
    let Some(files) = separate("link", "-Wl,--build-id=none") else { return };
    run(&files.directory, "objcopy --add-gnu-debuglink=full.debug a");
    let context = alone(&files.stripped);
    files.check(&context, Some(true));
    run(&files.directory, "mkdir .debug && mv full.debug .debug/");
    files.check(&context, Some(true));
    run(&files.directory, "mkdir -p tree/app && mv .debug/full.debug tree/app/");
    let mut context = alone(Path::new("/app/a"));
    files.check(&context, None);
    context.debug_directories.push(files.directory.join("tree"));
    files.check(&context, Some(true));
    // One byte more, and the checksum is another.
    let place = files.directory.join("tree/app/full.debug");
    File::options().append(true).open(place).unwrap().write_all(b"x").unwrap();
    files.check(&context, None);
}

#[test]
fn minidebuginfo_names_what_dynsym_does_not() {
    if !have(&["xz"]) {
        return;
    }
    let Some(files) = separate("mini", "") else { return };
    run(
        &files.directory,
        "objcopy -S --remove-section .gdb_index --remove-section .comment --keep-symbol=hidden \
         full.debug mini && xz -k mini && objcopy --add-section .gnu_debugdata=mini.xz a",
    );
    files.check(&alone(&files.stripped), Some(false));
}

/// A server of our own: what it is asked, what it answers, and that the second time nobody asks.
#[test]
fn a_debug_file_is_fetched_once() {
    let Some(files) = separate("debuginfod", "-Wl,--build-id") else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let body = fs::read(&files.debug).unwrap();
    let server = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in [None, Some(body)] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                request.push(byte[0]);
            }
            let request = String::from_utf8(request).unwrap();
            asked.push(request.split_whitespace().nth(1).unwrap().to_owned());
            let (status, body) = answer.map_or(("404 Not Found", Vec::new()), |b| ("200 OK", b));
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            )
            .unwrap();
            stream.write_all(&body).unwrap();
        }
        asked
    });
    let mut context = alone(&files.stripped);
    let mut service = Debuginfod::new(vec![url], files.directory.join("cache-a"));
    service.max_bytes = 1 << 20;
    context.debuginfod = Some(service.clone());
    files.check(&context, None);
    // The miss is remembered.
    files.check(&context, None);
    service.cache = files.directory.join("cache-b");
    context.debuginfod = Some(service);
    files.check(&context, Some(true));
    let asked = server.join().unwrap();
    let expect = format!("/buildid/{}/debuginfo", files.build_id);
    assert_eq!(asked, [expect.clone(), expect]);
    // Nobody listens any more.
    files.check(&context, Some(true));
    let left = fs::read_dir(files.directory.join("cache-b").join(&files.build_id)).unwrap().count();
    assert_eq!(left, 1, "nothing half-written stays");
}

/// Functions, inlined calls and files of split DWARF, as those of DWARF in one piece.
#[test]
fn split_dwarf_names_what_whole_dwarf_does() {
    if !have(&["g++", "readelf"]) {
        return;
    }
    let directory = scratch("split");
    fs::write(directory.join("a.cc"), CPP).unwrap();
    for version in [4, 5] {
        let flags = format!("-O2 -gdwarf-{version}");
        run(
            &directory,
            &format!("g++ {flags} a.cc -o whole && g++ {flags} -gsplit-dwarf a.cc -o split"),
        );
        let frames = |file: &str| {
            let path = directory.join(file);
            let (begin, end) = section(&path, ".text");
            name(&path, &(begin..end).collect::<Vec<_>>())
        };
        let whole = frames("whole");
        assert!(whole.values().any(|f| f.len() > 5 && f[0].file.is_some()));
        assert_eq!(frames("split"), whole, "version {version}");
    }
}

#[test]
fn rust_functions_are_rust_and_without_hash() {
    if !have(&["rustc", "readelf", "nm"]) {
        return;
    }
    let directory = scratch("rust");
    let source = "
#[inline(never)] fn leaf<T: std::fmt::Debug>(t: T) -> usize { format!(\"{t:?}\").len() }
mod deep { #[inline(always)] pub fn inlined(n: usize) -> usize { super::leaf(n) + 1 } }
fn main() { std::process::exit(deep::inlined(std::env::args().count()) as i32 & 1) }
";
    fs::write(directory.join("a.rs"), source).unwrap();
    for mangling in ["", "-Csymbol-mangling-version=v0"] {
        run(&directory, &format!("rustc -O -g {mangling} a.rs -o a"));
        let path = directory.join("a");
        let (begin, end) = section(&path, ".text");
        let addresses: Vec<u64> = (begin..end).step_by(3).collect();
        let ours = name(&path, &addresses);
        let find = |name: &str| ours.values().flatten().find(|f| f.name == name).unwrap();
        let inlined = find("a::deep::inlined");
        assert!(inlined.inlined && inlined.kind == Kind::Rust && inlined.start_line == 3);
        assert!(inlined.file.as_deref().unwrap().ends_with("/a.rs"));
        assert_eq!(find("a::main").kind, Kind::Rust);
        assert!(ours.values().flatten().any(|f| f.name.starts_with("a::leaf")));
        assert!(!ours.values().flatten().any(|f| f.name.contains("17h")));
    }
}

/// Function, file, line.
type GoFrame = (String, String, u32);

/// The test program prints what the runtime itself says of its stack, inlined calls included.
#[test]
fn go_agrees_with_its_runtime_and_its_tool() {
    if !have(&["go", "nm", "readelf"]) {
        return;
    }
    let directory = scratch("go");
    let source = r#"package main

import (
	"fmt"
	"os"
	"runtime"
)

func a(i int) int { return b(i) + 1 }
func b(i int) int { return c(i) * 2 }
func c(i int) int { return record(i) }

//go:noinline
func outer(i int) int { return a(i) + a(i+1) }

//go:noinline
func record(i int) int {
	pcs := make([]uintptr, 20)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		inlined := f.Func == nil
		fmt.Printf("%x %s %s %d %v\n", f.PC-load(), f.Function, f.File, f.Line, inlined)
		if !more || f.Function == "main.outer" {
			return i
		}
	}
}

func load() uintptr {
	if len(os.Args) < 2 {
		return 0
	}
	var linked uintptr
	fmt.Sscanf(os.Args[1], "%x", &linked)
	return runtime.FuncForPC(mainPC()).Entry() - linked
}

func mainPC() uintptr {
	pcs := make([]uintptr, 20)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	for {
		f, more := frames.Next()
		if f.Function == "main.main" || !more {
			return f.PC
		}
	}
}

func main() { outer(len(os.Args)) }
"#;
    fs::write(directory.join("main.go"), source).unwrap();
    fs::write(directory.join("go.mod"), "module fixture\ngo 1.20\n").unwrap();
    for (at, flags) in
        ["", "-buildmode=pie", "-ldflags=-linkmode=external -buildmode=pie"].into_iter().enumerate()
    {
        if flags.contains("external") && !have(&["gcc"]) {
            continue;
        }
        let flags = flags.replace("-ldflags=-linkmode=external", "-ldflags='-linkmode=external'");
        run(
            &directory,
            &format!(
                "export GOFLAGS=-mod=mod GOCACHE=$PWD/../go-cache; go build {flags} -o g{at} . && \
                 strip -o s{at} g{at}"
            ),
        );
        let path = directory.join(format!("g{at}"));
        let main = functions(&path).into_iter().find(|f| f.2 == "main.main").unwrap().0;
        let printed = run(&directory, &format!("./g{at} {main:x}"));
        let mut stacks: Vec<(u64, Vec<GoFrame>)> = Vec::new();
        let mut fresh = true;
        for line in printed.lines() {
            let f: Vec<&str> = line.split(' ').collect();
            if fresh {
                stacks.push((u64::from_str_radix(f[0], 16).unwrap(), Vec::new()));
            }
            let frame = (f[1].to_owned(), f[2].to_owned(), f[3].parse().unwrap());
            stacks.last_mut().unwrap().1.push(frame);
            fresh = f[4] == "false";
        }
        assert!(stacks.iter().filter(|s| s.1.len() == 4).count() >= 2, "{printed}");
        for file in ["g", "s"] {
            let path = directory.join(format!("{file}{at}"));
            for (address, expect) in &stacks {
                let frames = name(&path, &[*address]).remove(address).unwrap();
                assert!(frames.iter().all(|f| f.kind == Kind::Go));
                let got: Vec<GoFrame> = frames
                    .iter()
                    .map(|f| (f.name.clone(), f.file.as_deref().unwrap().to_owned(), f.line))
                    .collect();
                assert_eq!(got, *expect, "{file}{at} {address:#x}");
            }
        }
        // Innermost line and outermost function of some thousand places.
        let (begin, end) = section(&path, ".text");
        let addresses: Vec<u64> = (begin..end).step_by(211).collect();
        let tool = ask(&format!("go tool addr2line {}", path.display()), &addresses);
        let tool: Vec<&str> = tool.lines().collect();
        let ours = name(&path, &addresses);
        for (address, theirs) in addresses.iter().zip(tool.chunks_exact(2)) {
            let Some(frames) = ours.get(address) else { continue };
            if frames[0].kind != Kind::Go || theirs[1].ends_with(":-1") || theirs[0] == "?" {
                continue;
            }
            let place = format!("{}:{}", frames[0].file.as_deref().unwrap_or("?"), frames[0].line);
            assert_eq!(
                (frames.last().unwrap().name.as_str(), place.as_str()),
                (theirs[0], theirs[1])
            );
        }
        assert!(ours.values().filter(|f| f[0].kind == Kind::Go).count() > 1000);
    }
}

/// Damaged at any place, a file costs names, never a panic or more than the time it was given.
#[test]
fn damaged_files_cost_names_only() {
    if !have(&["g++", "readelf"]) {
        return;
    }
    let directory = scratch("damaged");
    fs::write(directory.join("a.cc"), CPP).unwrap();
    run(&directory, "g++ -O2 -g a.cc -o a");
    let whole = fs::read(directory.join("a")).unwrap();
    let path = directory.join("damaged");
    let (begin, end) = section(&directory.join("a"), ".text");
    let addresses: Vec<u64> = (begin..end).step_by(61).collect();
    let mut context = alone(&path);
    context.time_max = std::time::Duration::from_secs(2);
    let mut seed = 1u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize % below
    };
    for round in 0..150 {
        let mut bytes = whole.clone();
        if round % 5 == 0 {
            bytes.truncate(random(whole.len()));
        } else {
            for _ in 0..1 << (round % 9) {
                let at = random(bytes.len());
                bytes[at] = random(256) as u8;
            }
        }
        fs::write(&path, &bytes).unwrap();
        let begin = std::time::Instant::now();
        name_with(&path, &context, &addresses);
        assert!(begin.elapsed() < std::time::Duration::from_secs(6), "round {round}");
    }
}
