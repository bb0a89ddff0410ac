//! `convert` and `view` as a person runs them: the finished binary over files and pipes.

use hotframe_formats::{Format, synthetic};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A directory that is gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path =
            std::env::temp_dir().join(format!("hotframe-stored-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Scratch(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The small profile in a format.
    fn profile(&self, name: &str, format: Format) -> PathBuf {
        let mut bytes = Vec::new();
        format.write(&synthetic::small(), &mut bytes).expect("written");
        self.file(name, &bytes)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("written");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn hotframe() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotframe"));
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    command
}

fn convert(from: &Path, to: &Path) -> Output {
    hotframe().arg("convert").args([from, to]).output().expect("runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A limit of the size of files is said, as a full disk is, and leaves nothing: the signal of it, of which
/// nobody is told, ended the program with a temporary file left.
#[test]
fn a_limit_of_file_sizes() {
    let scratch = Scratch::new("limit");
    let profile = scratch.profile("a.otlp", Format::Otlp);
    let script = "ulimit -f 1; exec \"$0\" convert --quiet \"$1\" \"$2\"";
    let page = scratch.path("a.html");
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_hotframe")])
        .args([&profile, &page])
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("File too large"), "{}", said(&output));
    let left = std::fs::read_dir(&scratch.0).expect("a directory").count();
    assert_eq!(left, 1, "the profile alone");
}

/// A lossless way round gives the page that the recording itself would have given, byte for byte.
#[test]
fn convert_is_lossless_where_it_can_be() {
    let scratch = Scratch::new("lossless");
    let direct = scratch.profile("direct.html", Format::Html);
    let otlp = scratch.profile("a.otlp", Format::Otlp);
    let page = scratch.path("a.html");
    let output = convert(&otlp, &page);
    assert!(output.status.success() && said(&output).is_empty(), "{output:?}");
    assert!(std::fs::read(&page).expect("there") == std::fs::read(&direct).expect("there"));
}

/// A reader that has seen enough, as `| head`, is no error.
#[test]
fn stdout_closes_early() {
    let scratch = Scratch::new("closed");
    let text: String = (0..100_000).map(|i| format!("x;function_{i} 1\n")).collect();
    let page = scratch.file("a.folded", text.as_bytes());
    let mut child = hotframe()
        .args(["convert", "--quiet", "--format", "folded"])
        .args([&page, Path::new("-")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut byte = [0];
    child.stdout.take().expect("piped").read_exact(&mut byte).expect("a byte");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// `--value` chooses among a pprof file's, says which there are, and is refused where there are none.
#[test]
fn convert_chooses_a_value() {
    let scratch = Scratch::new("value");
    let pprof = scratch.profile("a.pb.gz", Format::Pprof);
    let folded = scratch.profile("a.folded", Format::Folded);
    let with = |value: &str, path: &Path| {
        let mut command = hotframe();
        command.args(["convert", "--quiet", "--format", "folded", "--value", value]).arg(path);
        command.arg("-").output().expect("runs")
    };
    // Time is divided by its period: the same samples.
    assert_eq!(with("cpu", &pprof).stdout, with("samples", &pprof).stdout);
    let output = with("alloc_space", &pprof);
    assert!(said(&output).contains("samples, cpu"), "{output:?}");
    assert_eq!(output.status.code(), Some(1));
    let output = with("cpu", &folded);
    assert!(said(&output).contains("only pprof"), "{output:?}");
    assert_eq!(output.status.code(), Some(2));
}

/// Between all that can be read and written; what is lost is one line.
#[test]
fn convert_every_pair() {
    let scratch = Scratch::new("pairs");
    for from in Format::ALL.into_iter().filter(|format| format.reads() && format.writes()) {
        // A name that says nothing: the content does.
        let input = scratch.profile(&format!("in-{}", from.name()), from);
        for to in Format::ALL.into_iter().filter(|format| format.writes()) {
            let path = scratch.path(&format!("{}-to{}", from.name(), to.extensions()[0]));
            let output = convert(&input, &path);
            assert_eq!(output.status.code(), Some(0), "{from:?} to {to:?}: {}", said(&output));
            assert!(said(&output).lines().count() <= 1, "{}", said(&output));
            if from.lossless() {
                assert_eq!(said(&output).is_empty(), to.lossless(), "{}", said(&output));
            }
            assert!(std::fs::metadata(&path).expect("there").len() > 0);
        }
    }
}

/// A pipe on both sides: data on stdout, words on stderr.
#[test]
fn convert_in_a_pipe() {
    let text = b"cc;main;work_[i] 3\ncc;main 1\n";
    let mut child = hotframe()
        .args(["convert", "-", "-", "--format", "folded"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    child.stdin.take().expect("a pipe").write_all(text).expect("sent");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "cc;main 1\ncc;main;work_[i] 3\n");
}

/// What is wrong, in which file and where; exit 1, and no file is left.
#[test]
fn convert_says_what_is_wrong() {
    let scratch = Scratch::new("wrong");
    let page = scratch.profile("whole.html", Format::Html);
    let whole = std::fs::read(&page).expect("there");
    let mark = b"id=\"hotframe-payload\">";
    let payload = whole.windows(mark.len()).position(|bytes| bytes == mark).expect("a payload");
    let pprof = std::fs::read(scratch.profile("whole.pb.gz", Format::Pprof)).expect("there");
    let bomb = {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0; 1 << 20];
        for _ in 0..600 {
            packed.write_all(&zeros).expect("packed");
        }
        packed.finish().expect("packed")
    };
    let cases: &[(&str, &[u8], &str)] = &[
        ("empty.html", b"", "the file is empty"),
        ("cut.html", &whole[..payload + 100], "truncated"),
        ("cut.pb.gz", &pprof[..pprof.len() / 2], "decompressing pprof"),
        ("foreign.html", b"<html>hello</html>", "not a page that hotframe wrote"),
        ("foreign", b"hello, world\n", "not a profile that can be read"),
        ("bad.folded", b"main;work 3\nmain;work x\n", "line 2"),
        ("perf.data", b"PERFILE2\0\0\0\0", "perf script -i"),
        ("a.svg", b"<svg></svg>", "svg is written but not read"),
        ("bomb.pb.gz", &bomb, "more than"),
    ];
    for (name, bytes, expected) in cases {
        let input = scratch.file(name, bytes);
        let to = scratch.path("out.folded");
        let output = convert(&input, &to);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", said(&output));
        let said = said(&output);
        assert!(said.starts_with("hotframe: ") && said.lines().count() == 1, "{name}: {said}");
        assert!(said.contains(name) && said.contains(expected), "{name}: {said}");
        assert!(!to.exists(), "{name}");
    }
    let none = convert(&scratch.path("none.html"), &scratch.path("out.folded"));
    assert!(none.status.code() == Some(1) && said(&none).contains("No such file"));
    let directory = convert(&scratch.0, &scratch.path("out.folded"));
    assert!(directory.status.code() == Some(1) && said(&directory).contains("directory"));
    let usage = convert(&page, &scratch.path("out.txt"));
    assert!(usage.status.code() == Some(2) && said(&usage).contains(".speedscope.json"));
}

/// The address is on stdout, the page under it, Ctrl-C ends with 0.
#[test]
fn view_serves_until_interrupted() {
    let scratch = Scratch::new("view");
    let page = scratch.profile("a.html", Format::Html);
    let otlp = scratch.profile("b.otlp", Format::Otlp);
    let mut child = hotframe()
        .args(["view", "--quiet"])
        .args([&page, &otlp])
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let url = lines.next().expect("a line").expect("text");
    let get = |path: &str| get(&url, path);
    let list = String::from_utf8(get("")).expect("text");
    assert!(list.contains("a.html") && list.contains("b.otlp"), "{list}");
    let direct = std::fs::read(&page).expect("there");
    assert!(get("0") == direct && get("1") == direct);
    interrupt(&mut child);
}

/// The content at a path below a server's address.
fn get(url: &str, path: &str) -> Vec<u8> {
    let address = url.strip_prefix("http://").and_then(|rest| rest.strip_suffix('/'));
    let address = address.expect("an address");
    let mut stream = std::net::TcpStream::connect(address).expect("connected");
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    answer.split_off(at)
}

/// Ctrl-C, which is an orderly end.
fn interrupt(child: &mut Child) {
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("sent");
    assert_eq!(child.wait().expect("ends").code(), Some(0));
}

/// One bad file among several: said, nothing is served.
#[test]
fn view_refuses_a_bad_file() {
    let scratch = Scratch::new("bad");
    let good = scratch.profile("a.html", Format::Html);
    let bad = scratch.file("b.html", b"<html></html>");
    let output = hotframe().arg("view").args([&good, &bad]).output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty() && said(&output).contains("b.html"), "{}", said(&output));
}

/// A table on stdout, a page as a file; the page is not taken for one recording.
#[test]
fn diff_says_and_writes() {
    let scratch = Scratch::new("diff");
    let before = scratch.file("before.folded", b"x;main;f 5000\nx;main;g 5000\n");
    let after = scratch.file("after.folded", b"x;main;f 900\nx;main;g 500\nx;main;h 600\n");
    let page = scratch.path("diff.html");
    let run = |more: &[&Path]| {
        hotframe().arg("diff").args([&before, &after]).args(more).output().expect("runs")
    };
    let output = run(&[Path::new("-o"), &page]);
    assert!(output.status.success() && said(&output).is_empty(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let has = |wanted: &str| text.lines().any(|line| line == wanted);
    assert!(has("   +30.00    0.00 %   30.00 %  h"), "{text}");
    assert!(has("   -25.00   50.00 %   25.00 %  g"), "{text}");
    let main = text.lines().any(|line| line.ends_with("main"));
    assert!(!main, "three lines changed, none is left for noise: {text}");
    assert!(!text.contains('\x1b'), "no colours into a pipe");
    let read = convert(&page, &scratch.path("sum.folded"));
    assert_eq!(read.status.code(), Some(1));
    assert!(said(&read).contains("compares two recordings"), "{}", said(&read));
    let mut view = hotframe()
        .args(["view", "--quiet"])
        .arg(&page)
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut url = String::new();
    BufReader::new(view.stdout.take().expect("a pipe")).read_line(&mut url).expect("a line");
    let served = get(url.trim(), "");
    assert!(served == std::fs::read(&page).expect("there"), "view shows what diff wrote");
    interrupt(&mut view);
    let wrong = run(&[Path::new("-o"), &scratch.path("diff.svg")]);
    assert!(wrong.status.code() == Some(2) && said(&wrong).contains(".html only"));
    let empty = scratch.file("empty.folded", b"");
    let none = hotframe().arg("diff").args([&before, &empty]).output().expect("runs");
    assert!(none.status.code() == Some(1) && none.stdout.is_empty());
    assert!(said(&none).contains("empty.folded"), "{}", said(&none));
}
