"""The profilers: how each is made ready, run, and its result judged.

One that cannot be had or will not build is named as such in the table, never left out silently.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from measure import Failed

HZ = 97
# perf names what it recorded for as long as this; on large stack copies it may take minutes.
PERF_SCRIPT_SECONDS = 120
CACHE = Path(os.environ.get("HOTFRAME_BENCH_CACHE") or
             Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hotframe-bench")

# Functions in which a thread's or a goroutine's stack begins: C's start-up code, the C libraries'
# thread entries, Go's runtime, the kernel's own. A stack that ends elsewhere lost its callers.
ROOTS = re.compile(
    r"^(_start|_dl_start_user|_dl_start|_rtld_global.*|(__)?clone3?|__GI___clone3?|thread_start|start_thread"
    r"|runtime\.(goexit|mstart|mcall|morestack|systemstack|rt0_go|gogo|asmcgocall|sigreturn.*)(\.abi0)?"
    r"|_rt0_amd64.*|ret_from_fork(_asm)?|entry_SYSCALL_64.*|asm_.*|secondary_startup.*|x86_64_start.*"
    r"|do_idle|cpu_startup_entry|kthread|start_secondary|rest_init)$"
)

# The kinds of frames that runtimes have of their own.
RUNTIME_KINDS = ("jvm", "cpython", "jit")


class Unavailable(Exception):
    """This profiler cannot run here; the text says why."""


def install(package, program):
    """Has a program from a Debian package, printing the command that installs it."""
    if shutil.which(program):
        return
    if not shutil.which("apt-get"):
        raise Unavailable(f"{program} is not installed")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update"],
                    ["apt-get", "install", "--yes", "--no-install-recommends", package]):
        print("+ " + " ".join(command), file=sys.stderr, flush=True)
        if os.environ.get("NO_INSTALL") == "1":
            raise Unavailable(f"{program} is not installed and NO_INSTALL=1")
        if subprocess.run(command, env=environment, stdout=sys.stderr).returncode:
            raise Unavailable(f"apt could not install {package}")


def cargo_install(crate, version, program):
    """Has a program of a crate, in the cache; the build's log stays beside it."""
    binary = CACHE / "bin" / program
    if binary.exists():
        return binary
    if os.environ.get("NO_INSTALL") == "1":
        raise Unavailable(f"{crate} is not built and NO_INSTALL=1")
    CACHE.mkdir(parents=True, exist_ok=True)
    log = CACHE / f"{crate}.log"
    command = ["cargo", "install", "--locked", "--root", str(CACHE), f"{crate}@{version}"]
    print("+ " + " ".join(command), file=sys.stderr, flush=True)
    # Not with our toolchain file or target directory: their build is their own.
    environment = {key: value for key, value in os.environ.items()
                   if key not in ("CARGO_TARGET_DIR", "RUSTFLAGS", "RUSTUP_TOOLCHAIN")}
    # Some link static libraries of the distribution and do not say where those are.
    shown = subprocess.run(["gcc", "-print-file-name=libelf.a"], capture_output=True, text=True)
    if os.path.isabs(shown.stdout.strip()):
        directory = os.path.realpath(os.path.dirname(shown.stdout.strip()))
        environment["RUSTFLAGS"] = f"-L native={directory}"
    with open(log, "wb") as out:
        code = subprocess.run(command, env=environment, cwd=CACHE, stdout=out, stderr=out)
    if code.returncode or not binary.exists():
        errors = [line for line in log.read_text(errors="replace").splitlines() if "error" in line]
        raise Unavailable(f"{crate} {version} does not build: {' '.join(errors[:1])[:120]} ({log})")
    return binary


def fetch_peer(name):
    """Has a profiler that knows one runtime, as the tests have it, in the cache."""
    script = Path(__file__).resolve().parents[2] / "scripts/fetch-peer.sh"
    CACHE.mkdir(parents=True, exist_ok=True)
    print(f"+ {script} {name} {CACHE}", file=sys.stderr, flush=True)
    fetched = subprocess.run([script, name, CACHE], stdout=subprocess.PIPE, text=True)
    if fetched.returncode:
        raise Unavailable(f"{name} could not be fetched, as is said above")
    return Path(fetched.stdout.strip())


def has_root(names):
    """Does a stack begin where a thread does? A stripped program's _start is known by what it calls."""
    if UNNAMED.match(names[0]):
        return len(names) > 1 and names[1].startswith("__libc_start_main")
    return bool(ROOTS.match(names[0]))


def judge_stacks(stacks, has_root=has_root):
    """Figures of [(frames outermost first, unnamed frames, samples)]."""
    samples = rooted = frames = named = 0
    for names, unnamed, count in stacks:
        samples += count
        frames += len(names) * count
        named += (len(names) - unnamed) * count
        if names and has_root(names):
            rooted += count
    figures = {"samples": samples}
    if samples:
        figures["rooted_percent"] = 100 * rooted / samples
    if frames:
        figures["named_percent"] = 100 * named / frames
    return figures


UNNAMED = re.compile(r"^(\[unknown\].*|\[?unknown\]?|0x[0-9a-f]+|<unknown>.*|\[\w+_Java(_frame)?\]"
                     r"|.*\+0x[0-9a-f]+|)$", re.I)

# What stands behind a name: the kind of code, or the file.
PLACE = re.compile(r"(_\[[kij]\]| \([^()]*\))$")


def read_folded(path, strip_comm=True):
    """Stacks of a folded file."""
    stacks = []
    for line in Path(path).read_text(errors="replace").splitlines():
        stack, _, count = line.rpartition(" ")
        if not count.isdigit():
            continue
        names = stack.split(";")
        names = names[1:] if strip_comm else names
        names = [PLACE.sub("", name) for name in names]
        unnamed = sum(1 for name in names if UNNAMED.match(name))
        stacks.append((names, unnamed, int(count)))
    return stacks


class Tool:
    """A profiler."""

    # Does it leave naming to a later program, whose processor time belongs to it?
    names_afterwards = False
    # Does it run in the load's own process?
    within_load = False
    # The kind of frames that it is for, if it serves no other loads.
    runtime = None

    def prepare(self):
        """Makes it ready, or raises Unavailable."""
        return self

    def environment(self):
        """The environment of its command."""
        return dict(os.environ)


class Hotframe(Tool):
    """Ours. Cut and named are its own books; samples and rooted are judged like the others'."""

    def prepare(self):
        self.binary = Path(os.environ.get("HOTFRAME_BIN") or
                           Path(__file__).resolve().parents[2] / "target/release/hotframe")
        if not self.binary.exists():
            raise Unavailable(f"{self.binary} is not built")
        return self

    def version(self):
        return first_line([self.binary, "--version"])

    def command(self, seconds, where, running):
        return [self.binary, "record", "-F", str(HZ), "-d", f"{seconds:g}", "--quiet",
                "-o", "out.folded", "--stats", "stats.json"]

    def audit(self, seconds, where):
        """A run of its own, not measured: stacks compared with an independent unwinder."""
        command = [self.binary, "record", "-F", "199", "-d", f"{seconds:g}", "--quiet",
                   "--audit", "1000000", "-o", "out.folded", "--stats", "stats.json"]
        if subprocess.run(command, cwd=where, capture_output=True).returncode:
            return {}
        audit = json.loads((where / "stats.json").read_text())["audit"]
        if not audit["checked"]:
            return {}
        return {"audited": audit["checked"],
                "agreed_percent": 100 * audit["agreed"] / audit["checked"]}

    def judge(self, where):
        figures = judge_stacks(read_folded(where / "out.folded"))
        stats = json.loads((where / "stats.json").read_text())
        emitted = stats["samples_emitted"]
        if emitted:
            figures["cut_percent"] = 100 * sum(stats["stacks_cut"].values()) / emitted
            figures["heuristic_percent"] = 100 * stats["stacks_heuristic"] / emitted
            figures["slice_percent"] = 100 * stats["stacks_from_slice"] / emitted
            figures["without_runtime_percent"] = 100 * stats["stacks_without_runtime"] / emitted
        total, named = frames_of(stats, stats["frames"])
        if total:
            figures["named_percent"] = 100 * named / total
        of_runtimes, named = frames_of(stats, RUNTIME_KINDS)
        if of_runtimes:
            figures["runtime_percent"] = 100 * of_runtimes / total
            figures["runtime_named_percent"] = 100 * named / of_runtimes
        figures["bpf_us_per_run_own_clock"] = (
            stats["bpf"]["run_ns"] / max(stats["bpf"]["run_count"], 1) / 1e3
        )
        figures["ticks_missed_percent"] = (
            100 * stats["ticks_missed"] / max(stats["ticks_expected"], 1)
        )
        figures["first_sample_seconds"] = stats["agent"]["first_sample_seconds"] or 0
        figures["map_mb"] = stats["agent"]["map_bytes"] / 1e6
        return figures


def frames_of(stats, kinds):
    """All frames of these kinds, and how many have a name."""
    counts = [stats["frames"][kind] for kind in kinds if kind in stats["frames"]]
    return sum(count["total"] for count in counts), sum(count["named"] for count in counts)


class Perf(Tool):
    """perf record, by frame pointers or by copies of the stack."""

    names_afterwards = True

    def __init__(self, call_graph):
        self.call_graph = call_graph

    def prepare(self):
        install("linux-perf", "perf")
        return self

    def version(self):
        return first_line(["perf", "--version"])

    def command(self, seconds, where, running):
        return ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(HZ), "-a", *self.call_graph,
                "-o", "perf.data", "--", "sleep", f"{seconds:g}"]

    def judge(self, where):
        # --no-inline: without it Debian's perf starts addr2line once per address.
        command = ["perf", "script", "-i", "perf.data", "--no-inline", "-F", "comm,pid,ip,sym"]
        with open(where / "script", "wb") as out:
            try:
                subprocess.run(command, stdout=out, stderr=subprocess.DEVNULL, cwd=where,
                               timeout=PERF_SCRIPT_SECONDS, check=True)
            except (subprocess.SubprocessError, OSError) as cause:
                raise Failed(f"perf script: {cause}") from cause
        figures = judge_stacks(read_perf_script(where / "script"))
        figures["data_mb"] = (where / "perf.data").stat().st_size / 1e6
        return figures


def read_perf_script(path):
    """Stacks of `perf script` text: a line of the thread, then frames leaf first, then a gap."""
    stacks, names = [], None
    with open(path, errors="replace") as lines:
        for line in lines:
            if not line.strip():
                if names is not None:
                    stacks.append((names[::-1], sum(1 for n in names if UNNAMED.match(n)), 1))
                names = None
            elif not line[0].isspace():
                names = []
            elif names is not None:
                _, _, name = line.strip().partition(" ")
                names.append(name)
    if names is not None:
        stacks.append((names[::-1], sum(1 for n in names if UNNAMED.match(n)), 1))
    return stacks


def with_tracefs(command):
    """A command that finds tracefs mounted, in a mount namespace of its own: the machine stays as it is.

    lightswitch looks for it below debugfs only (lightswitch-capabilities 0.3.2, system_info.rs).
    """
    mount = (
        "mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null;"
        "mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null;"
        "mount -t tracefs tracefs /sys/kernel/debug/tracing 2>/dev/null; exec \"$@\""
    )
    return ["unshare", "--mount", "sh", "-c", mount, "sh", *command]


class ProfileBee(Tool):
    """profile-bee with its own DWARF unwinding."""

    def prepare(self):
        self.binary = cargo_install("profile-bee", "0.3.13", "probee")
        return self

    def version(self):
        return "profile-bee 0.3.13 --dwarf"

    def command(self, seconds, where, running):
        return with_tracefs([self.binary, "--dwarf", "true", "-f", str(HZ), "-t", str(int(seconds * 1000)),
                             "--skip-idle", "-o", "out.folded"])

    def judge(self, where):
        return judge_stacks(read_folded(where / "out.folded"))


class Lightswitch(Tool):
    """lightswitch, writing pprof."""

    def prepare(self):
        self.binary = cargo_install("lightswitch", "0.7.0", "lightswitch")
        return self

    def version(self):
        return first_line([self.binary, "--version"])

    def command(self, seconds, where, running):
        return with_tracefs([self.binary, "--duration", str(int(seconds)), "--sample-freq", str(HZ),
                             "--profile-format", "pprof", "--profile-path", str(where), "--profile-name", "out.pb"])

    def judge(self, where):
        if not shutil.which("go"):
            return {}
        raw = subprocess.run(["go", "tool", "pprof", "-raw", where / "out.pb"],
                             capture_output=True, text=True)
        if raw.returncode:
            raise Failed(f"go tool pprof: {raw.stderr.strip()[:160]}")
        return judge_stacks(read_pprof_raw(raw.stdout))


def read_pprof_raw(text):
    """Stacks of `go tool pprof -raw` text."""
    section, samples, locations = None, [], {}
    current = None
    for line in text.splitlines():
        if line in ("Samples:", "Locations", "Mappings"):
            section = line
        elif section == "Samples:":
            match = re.match(r"\s*(\d+)(?:\s+\d+)*:((?:\s+\d+)+)\s*$", line)
            if match:
                samples.append((int(match[1]), [int(word) for word in match[2].split()]))
        elif section == "Locations":
            match = re.match(r"\s*(\d+): (0x[0-9a-f]+)?(?: M=\d+)?\s*(.*)$", line)
            if match:
                current = int(match[1])
                name = match[3]
            else:
                name = line.strip()
            # A location's further lines are its inlined callers.
            name = re.sub(r" \S*:\d+(:\d+)? s=.*$", "", name).strip()
            locations.setdefault(current, []).append(name)
    stacks = []
    for count, leaf_first in samples:
        names = [name for location in leaf_first for name in locations.get(location, [""])][::-1]
        stacks.append((names, sum(1 for name in names if UNNAMED.match(name)), count))
    return stacks


class PySpy(Tool):
    """py-spy on the load's process and its children: Python frames, alone or among native ones."""

    runtime = "cpython"

    def __init__(self, native):
        self.native = native

    def prepare(self):
        self.binary = fetch_peer("py-spy")
        return self

    def version(self):
        return " ".join([first_line([self.binary, "--version"]), *self.native])

    def command(self, seconds, where, running):
        return [self.binary, "record", "--pid", str(running.pid), "--subprocesses", *self.native,
                "--rate", str(HZ), "--duration", f"{seconds:.0f}", "--format", "raw", "-o", "out.folded"]

    def judge(self, where):
        # The outermost names are its processes.
        stacks = [([name for name in names if not name.startswith("process ")], unnamed, count)
                  for names, unnamed, count in read_folded(where / "out.folded", strip_comm=False)]
        return judge_stacks(stacks, self.has_root)

    @staticmethod
    def has_root(names):
        """It leaves out what calls the main module, and reads no symbols of a libc that keeps them elsewhere."""
        outermost = next((name for name in names if not UNNAMED.match(name)), "")
        return outermost in ("<module>", "Thread._bootstrap", "thread_run") or bool(ROOTS.match(outermost))


class AsyncProfiler(Tool):
    """async-profiler, which the load's JVM loads."""

    runtime = "jvm"
    within_load = True

    def prepare(self):
        install("default-jdk-headless", "jcmd")
        install("maven", "mvn")
        self.library = fetch_peer("async-profiler")
        return self

    def version(self):
        return self.library.parents[1].name

    def command(self, seconds, where, running):
        def load(action):
            # Quoted for jcmd, which else takes what is before the first "=" for an option of its own.
            arguments = f'"{action},collapsed,file={where}/out.folded"'
            return shlex.join(["jcmd", str(running.pid), "JVMTI.agent_load", str(self.library), arguments])

        start = f"start,event=cpu,interval={10**9 // HZ}"
        return ["sh", "-ec", f"{load(start)}; sleep {seconds:g}; {load('stop')}"]

    def judge(self, where):
        if not (where / "out.folded").exists():
            raise Failed(f"no profile: {(where / 'log').read_text().strip()[-160:]}")
        return judge_stacks(read_folded(where / "out.folded", strip_comm=False), self.has_root)

    @staticmethod
    def has_root(names):
        """It leaves out what calls main or a thread's `run`."""
        return names[0].endswith((".main", ".run")) or has_root(names)


def first_line(command):
    shown = subprocess.run(command, capture_output=True, text=True)
    return (shown.stdout or shown.stderr).strip().splitlines()[0]


TOOLS = {
    "hotframe": Hotframe,
    "perf-fp": lambda: Perf(["-g"]),
    "perf-dwarf": lambda: Perf(["--call-graph", "dwarf"]),
    "profile-bee": ProfileBee,
    "lightswitch": Lightswitch,
    "py-spy": lambda: PySpy([]),
    "py-spy-native": lambda: PySpy(["--native"]),
    "async-profiler": AsyncProfiler,
}
