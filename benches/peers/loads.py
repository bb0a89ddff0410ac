"""The loads: real programs that run until stopped and count what they get done."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import measure
from tools import Unavailable, install

HERE = Path(__file__).resolve().parent
WORKLOADS = HERE.parents[1] / "testing/workloads"
CPUS = os.cpu_count() or 1


class Running:
    """A load that runs; the process of one that is a runtime's."""

    def __init__(self, progress=lambda: None, warm_up_seconds=3.0, pid=None):
        self.progress = progress
        self.warm_up_seconds = warm_up_seconds
        self.pid = pid

    def warm_up(self):
        """Waits until it does what it will go on doing."""
        time.sleep(self.warm_up_seconds)


@contextlib.contextmanager
def process_group(command, stop=signal.SIGKILL, **options):
    """A command in a process group of its own, ended with all its children."""
    options.setdefault("stdout", subprocess.DEVNULL)
    options.setdefault("stderr", subprocess.DEVNULL)
    process = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        for number in (stop, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def lines_of(path):
    with contextlib.suppress(OSError):
        return path.read_bytes().count(b"\n")
    return 0


def wait_until(happened, what):
    """Waits until something is so; raises Unavailable if it does not come to that."""
    until = time.monotonic() + 20
    while not happened():
        if time.monotonic() > until:
            raise Unavailable(f"{what} after 20 s")
        time.sleep(0.02)


def workload(name):
    """Builds one of testing/workloads."""
    out = measure.scratch()
    made = subprocess.run(["make", "-s", "-C", WORKLOADS, f"OUT={out}", name], capture_output=True,
                          text=True)
    if made.returncode:
        raise Unavailable(made.stderr.strip()[:160])
    return out / name


class Load:
    """A load; the class's first line says what it is."""

    # The kind of its frames, if it is one that only some profilers know.
    runtime = None

    def prepare(self):
        """Makes it ready, or raises Unavailable."""


class Compiling(Load):
    """A compiler, one job per CPU, over and over. `command`: what a job runs, its name being $0."""

    command = None

    @contextlib.contextmanager
    def running(self):
        done = self.dir / "done"
        done.write_text("")
        script = f"while {self.command}; do echo >>done; done"
        with contextlib.ExitStack() as stack:
            for job in range(CPUS):
                stack.enter_context(
                    process_group(["sh", "-c", script, f"job{job}"], cwd=self.dir))
            yield Running(lambda: lines_of(done), warm_up_seconds=5)


class Clang(Compiling):
    """clang compiles template-heavy C++."""

    command = "clang++ -std=c++17 -O2 -c heavy.cc -o $0.o"

    def prepare(self):
        install("clang", "clang++")
        self.dir = measure.scratch()
        source = ["#include <algorithm>", "#include <functional>", "#include <map>",
                  "#include <string>", "#include <variant>", "#include <vector>"]
        for n in range(2):
            source.append(
                f"template <int N> struct Tower{n} {{ using Below = Tower{n}<N - 1>; std::map<int, "
                f"std::vector<std::string>> rooms; Below below; int count() const {{ int sum = "
                f"below.count(); for (auto &[k, v] : rooms) sum += k + int(v.size()); return sum; }} }};\n"
                f"template <> struct Tower{n}<0> {{ int count() const {{ return {n}; }} }};\n"
                f"int build{n}() {{ Tower{n}<20> tower; return tower.count(); }}\n"
                f"void sort{n}(std::vector<std::variant<int, std::string>> &v) {{ "
                f"std::sort(v.begin(), v.end()); }}")
        (self.dir / "heavy.cc").write_text("\n".join(source) + "\n")


class Rustc(Compiling):
    """rustc compiles generic Rust: frames of half a megabyte."""

    command = "rustc --edition 2021 -O --crate-type lib rooms.rs -o lib$0.rlib"

    def prepare(self):
        if not shutil.which("rustc"):
            raise Unavailable("no rustc")
        self.dir = measure.scratch()
        source = ["use std::collections::BTreeMap;"]
        for n in range(40):
            source.append(
                f"#[derive(Debug, Clone, PartialEq, PartialOrd, Default)] pub struct Room{n}<T> {{ pub of: "
                f"BTreeMap<String, Vec<T>>, pub size: u{8 << n % 4} }}\n"
                f"pub fn sum{n}(rooms: &[Room{n}<f64>]) -> f64 {{ rooms.iter().filter(|room| room.size > {n})"
                f".flat_map(|room| room.of.iter().map(|(key, all)| key.len() as f64 + all.iter().rev()"
                f".take({n}).sum::<f64>())).fold(0.0, |a, b| a.max(b)) }}\n"
                f"pub fn show{n}(rooms: &[Room{n}<Option<u8>>]) -> String {{ rooms.iter().cloned()"
                f".map(|room| format!(\"{{room:?}}\")).collect::<Vec<_>>().join(\",\") }}")
        (self.dir / "rooms.rs").write_text("\n".join(source) + "\n")


class Postgres(Load):
    """PostgreSQL answers pgbench over a local socket."""

    def prepare(self):
        install("postgresql", "psql")
        install("postgresql", "pgbench")
        candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        self.bin = candidates[-1].parent if candidates else None
        if self.bin is None:
            found = shutil.which("postgres")
            if not found:
                raise Unavailable("no postgres binary")
            self.bin = Path(found).resolve().parent
        self.dir = measure.scratch()
        for directory in (self.dir, *self.dir.parents):
            # The server runs as another user, who must reach its data.
            if str(directory).startswith("/tmp") and directory != Path("/tmp"):
                directory.chmod(0o755)
        self.data = self.dir / "data"
        self.data.mkdir()
        shutil.chown(self.data, "nobody")
        shutil.chown(self.dir, "nobody")
        # initdb is not always beside the server that is on the PATH.
        initdb = self.bin / "initdb"
        if not initdb.exists():
            raise Unavailable(f"no initdb beside {self.bin}/postgres")
        self.as_nobody([initdb, "-D", self.data, "-U", "bench", "--auth=trust", "-N"])

    def as_nobody(self, command):
        done = subprocess.run(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
                               *command], capture_output=True, text=True, cwd=self.dir)
        if done.returncode:
            raise Unavailable(done.stderr.strip()[:160])

    @contextlib.contextmanager
    def running(self):
        client = ["-h", str(self.dir), "-U", "bench"]
        server = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
                  self.bin / "postgres", "-D", self.data, "-k", self.dir, "-h", "",
                  "-c", "fsync=off"]

        def transactions():
            query = "select sum(xact_commit) from pg_stat_database"
            shown = subprocess.run(["psql", *client, "-Atc", query, "postgres"],
                                   capture_output=True, text=True)
            return int(shown.stdout.strip() or 0)

        with process_group(server, stop=signal.SIGINT, cwd=self.dir):
            ask = ["psql", *client, "-c", "select 1", "postgres"]
            wait_until(lambda: subprocess.run(ask, capture_output=True).returncode == 0,
                       "PostgreSQL does not answer")
            subprocess.run(["pgbench", *client, "-q", "-i", "-s", "5", "postgres"],
                           capture_output=True)
            with process_group(["pgbench", *client, "-c", "4", "-T", "100000", "postgres"]):
                yield Running(transactions, warm_up_seconds=5)


class Ffmpeg(Load):
    """ffmpeg encodes a test picture with libx264: much hand-written assembly."""

    def prepare(self):
        install("ffmpeg", "ffmpeg")
        self.dir = measure.scratch()

    @contextlib.contextmanager
    def running(self):
        progress = self.dir / "progress"
        command = ["ffmpeg", "-nostdin", "-v", "error", "-progress", progress, "-f", "lavfi", "-i",
                   "testsrc2=size=1280x720:rate=30", "-c:v", "libx264", "-preset", "medium",
                   "-threads", str(CPUS), "-f", "null", "-"]

        def frames():
            seen = 0
            for line in progress.read_text().splitlines():
                if line.startswith("frame="):
                    seen = int(line.split("=")[1])
            return seen

        with process_group(command):
            yield Running(frames, warm_up_seconds=5)


class GoBuild(Load):
    """go builds its standard library from nothing, over and over.

    Its compiler is one that was built here: the one that comes with it has no DWARF, by which the
    audit's unwinder goes."""

    def prepare(self):
        install("golang-go", "go")
        self.dir = measure.scratch()
        self.local = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod"}
        root = Path(subprocess.check_output(["go", "env", "GOROOT"], text=True).strip())
        self.root = self.dir / "root"
        tools = next((root / "pkg" / "tool").glob("linux_*"))
        own_tools = self.root / tools.relative_to(root)
        own_tools.mkdir(parents=True)
        for original in [*root.iterdir(), *(root / "pkg").iterdir(), *tools.iterdir()]:
            link = self.root / original.relative_to(root)
            if not link.exists() and original.name != "compile":
                link.symlink_to(original)
        print("building a Go compiler with DWARF", file=sys.stderr)
        subprocess.run(["go", "build", "-o", own_tools / "compile", "cmd/compile"], check=True,
                       cwd=self.dir, env={**os.environ, **self.local})

    @contextlib.contextmanager
    def running(self):
        built = self.dir / "built"
        built.write_text("")
        script = 'while :; do rm -rf cache; go build -v -a std 2>>built; done'
        environment = {**os.environ, **self.local, "GOCACHE": str(self.dir / "cache"),
                       "GOROOT": str(self.root)}
        with process_group(["sh", "-c", script], cwd=self.dir, env=environment):
            yield Running(lambda: lines_of(built), warm_up_seconds=5)


class Shorts(Load):
    """Processes of 40 ms, one per CPU at a time, thousands of them."""

    def prepare(self):
        self.program = workload("shorts")

    @contextlib.contextmanager
    def running(self):
        def forks():
            for line in Path("/proc/stat").read_text().splitlines():
                if line.startswith("processes "):
                    return int(line.split()[1])
            return None

        with process_group([self.program, "0", str(CPUS)], stop=signal.SIGTERM):
            yield Running(forks)


class Mappings(Load):
    """2,000 idle processes of 300 executable mappings each."""

    def prepare(self):
        self.program = workload("idle")

    @contextlib.contextmanager
    def running(self):
        with process_group([self.program, "2000", "300"], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            yield Running()


class Idle(Load):
    """Nothing: the machine as it is."""

    @contextlib.contextmanager
    def running(self):
        yield Running()


class Program(Load):
    """A program of a runtime, which writes a line whenever it has done something."""

    warm_up_seconds = 5.0

    @contextlib.contextmanager
    def running(self):
        written = measure.scratch() / "written"
        with open(written, "wb") as out, process_group(self.command(), stop=signal.SIGTERM, stdout=out,
                                                       stderr=out) as process:
            wait_until(lambda: lines_of(written), "it has done nothing")
            yield Running(lambda: lines_of(written), self.warm_up_seconds, process.pid)


class Java(Program):
    """A program of testing/workloads/java in one JVM."""

    runtime = "jvm"

    def prepare(self):
        install("default-jdk-headless", "javac")
        self.dir = measure.scratch()
        made = subprocess.run(["javac", "-d", self.dir, self.source], capture_output=True, text=True)
        if made.returncode:
            raise Unavailable(made.stderr.strip()[:160])


class Jvm(Java):
    """A service and its clients in one JVM: HTTP, regular expressions, streams, XML, on all CPUs."""

    source = WORKLOADS / "java/Service.java"
    warm_up_seconds = 10.0

    def command(self):
        return ["java", "-cp", self.dir, "Service", str(CPUS)]


class Javac(Java):
    """javac in one JVM, over and over, from the JVM's start on: cold code that is being compiled."""

    source = WORKLOADS / "java/Compile.java"
    warm_up_seconds = 0.0

    def command(self):
        return ["java", "-cp", self.dir, "Compile", measure.scratch(), Jvm.source]


class Cpython(Program):
    """Python's standard library at work: JSON, text, SQL, graphs, source code; a process per CPU."""

    runtime = "cpython"

    def command(self):
        return [sys.executable, WORKLOADS / "python/daily.py", str(CPUS)]


LOADS = {
    "clang": Clang,
    "rustc": Rustc,
    "postgres": Postgres,
    "ffmpeg": Ffmpeg,
    "go-build": GoBuild,
    "jvm": Jvm,
    "javac": Javac,
    "cpython": Cpython,
    "shorts": Shorts,
    "mappings": Mappings,
    "idle": Idle,
}
