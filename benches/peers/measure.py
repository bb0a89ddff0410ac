"""Measures a profiler from outside, the same way for every one."""

import atexit
import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
STEADY_FROM_SECONDS = 10


class Failed(Exception):
    """A profiler did not do its work; the text says how."""


def scratch():
    """A directory for one run's files, removed at exit with all others."""
    if not hasattr(scratch, "root"):
        scratch.root = tempfile.TemporaryDirectory(prefix="hotframe-bench-")
    return Path(tempfile.mkdtemp(dir=scratch.root.name))


@contextlib.contextmanager
def bpf_statistics():
    """Has the kernel count the run time of BPF programs; leaves the setting as it was."""
    setting = Path("/proc/sys/kernel/bpf_stats_enabled")
    before = setting.read_text()
    setting.write_text("1")
    try:
        yield
    finally:
        setting.write_text(before)


def bpf_programs():
    """{id: (run_time_ns, run_cnt)} of all BPF programs loaded, by bpftool."""
    if not shutil.which("bpftool"):
        return {}
    shown = subprocess.run(["bpftool", "--json", "prog", "show"], capture_output=True, text=True)
    if shown.returncode:
        return {}
    return {
        program["id"]: (program.get("run_time_ns", 0), program.get("run_cnt", 0))
        for program in json.loads(shown.stdout)
    }


def descendants(pid):
    """The process and all below it."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, queue = [], [pid]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += children.get(pid, [])
    return found


def cpu_seconds(pids):
    """Processor time of these processes and of the children they have waited for."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(field) for field in fields[11:15])
    return total * TICK_SECONDS


# Where a group of processes has its processor time counted in nanoseconds: cgroup v1's cpuacct, v2's cpu.
CPU_GROUPS = [
    (Path("/sys/fs/cgroup/cpuacct"), "cpuacct.usage", lambda text: int(text) / 1e9),
    (Path("/sys/fs/cgroup"), "cpu.stat", lambda text: int(text.split()[1]) / 1e6),
]


class CpuGroup:
    """A cgroup of a profiler's own: its processor time and that of all that it starts, exact, where
    /proc counts in hundredths of a second. Where there is none, /proc is what is left."""

    def __init__(self):
        self.path = None
        for base, name, parse in CPU_GROUPS:
            path = base / f"hotframe-bench-{os.getpid()}-{time.monotonic_ns()}"
            try:
                path.mkdir()
            except OSError:
                continue
            if (path / name).exists():
                self.path, self.usage, self.parse = path, path / name, parse
                atexit.register(self.remove)
                return
            path.rmdir()

    def enter(self):
        """Called in the child, before it becomes the profiler."""
        if self.path:
            (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def seconds(self, pids):
        """Processor time so far."""
        return self.parse(self.usage.read_text()) if self.path else cpu_seconds(pids)

    def remove(self):
        """Once the profiler has ended."""
        if self.path:
            with contextlib.suppress(OSError):
                self.path.rmdir()
            atexit.unregister(self.remove)
            self.path = None


def status_bytes(pid, key):
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def map_bytes(pids):
    """Memory of the BPF maps that these processes hold, each map once, as the kernel counts it."""
    maps = {}
    for pid in pids:
        try:
            fds = os.listdir(f"/proc/{pid}/fdinfo")
        except OSError:
            continue
        for fd in fds:
            try:
                info = Path(f"/proc/{pid}/fdinfo/{fd}").read_text()
            except OSError:
                continue
            fields = dict(
                line.split(":", 1) for line in info.splitlines() if ":" in line
            )
            if "map_id" in fields:
                maps[fields["map_id"].strip()] = int(fields.get("memlock", "0"))
    return sum(maps.values())


class Watch(threading.Thread):
    """Follows a running profiler: peaks, and processor time at 10 s and at the recording's end."""

    def __init__(self, pid, group, others, seconds, progress):
        super().__init__(daemon=True)
        self.pid = pid
        self.group = group
        self.others = others
        self.seconds = seconds
        self.progress = progress
        self.progress_at_end = None
        self.done = threading.Event()
        self.rss = self.maps = 0
        self.cpu_at_10 = self.cpu_at_end = None
        self.programs = {}

    def run(self):
        began = time.monotonic()
        next_look = 0.0
        while not self.done.is_set():
            elapsed = time.monotonic() - began
            marks = [STEADY_FROM_SECONDS] if self.cpu_at_10 is None else []
            marks += [self.seconds] if self.cpu_at_end is None else []
            due = [mark for mark in marks if elapsed >= mark]
            if elapsed >= next_look or due:
                pids = descendants(self.pid)
                if self.cpu_at_10 is None and elapsed >= STEADY_FROM_SECONDS:
                    self.cpu_at_10 = (elapsed, self.group.seconds(pids))
                if self.cpu_at_end is None and elapsed >= self.seconds:
                    self.cpu_at_end = (elapsed, self.group.seconds(pids))
                    self.progress_at_end = (time.monotonic() - began, self.progress())
                self.rss = max([self.rss] + [status_bytes(pid, "VmHWM") for pid in pids])
                self.maps = max(self.maps, map_bytes(pids))
                for program, counts in bpf_programs().items():
                    if program not in self.others:
                        self.programs[program] = counts
                next_look = elapsed + 1.0
            # The most that it ever held: what its last 50 ms add is missed, and no more.
            self.rss = max(self.rss, status_bytes(self.pid, "VmHWM"))
            self.done.wait(0.05)


def recording(tool, seconds, where, running):
    """Runs a profiler for some seconds on a load that runs. Returns its figures and, as it stood when the recording
    ended and the writing of its result began, the seconds passed and the load's progress."""
    others = set(bpf_programs())
    group = CpuGroup()
    with open(where / "log", "wb") as log:
        process = subprocess.Popen(
            tool.command(seconds, where, running), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            cwd=where, env=tool.environment(), preexec_fn=group.enter,
        )
    watch = Watch(process.pid, group, others, seconds, running.progress)
    began = time.monotonic()
    watch.start()
    try:
        # Exact user and system time of it and of all that it waited for, at its end.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        watch.done.set()
        watch.join()
    elapsed = time.monotonic() - began
    if process.returncode:
        tail = (where / "log").read_text(errors="replace").strip().splitlines()[-1:]
        code = process.returncode
        how = f"exit {code}" if code > 0 else signal.Signals(-code).name
        raise Failed(f"{how}: {' '.join(tail)[:160]}")
    total = group.seconds([]) if group.path else usage.ru_utime + usage.ru_stime
    group.remove()
    # Not ru_maxrss: it begins with what this program held when it forked.
    figures = {
        "cpu_seconds": total,
        "elapsed_seconds": elapsed,
        "after_seconds": max(elapsed - seconds, 0),
        "rss_peak_mb": watch.rss / 1e6,
        "map_mb": watch.maps / 1e6,
    }
    if watch.cpu_at_10:
        at, cpu = watch.cpu_at_10
        figures["cpu_first10_percent"] = 100 * cpu / at
    else:
        figures["cpu_first10_percent"] = 100 * total / elapsed
    # One that ended in time had nothing to finish.
    cpu_at_end = watch.cpu_at_end or (elapsed, total)
    if watch.cpu_at_10 and cpu_at_end[0] > watch.cpu_at_10[0]:
        span = cpu_at_end[0] - watch.cpu_at_10[0]
        figures["cpu_steady_percent"] = 100 * (cpu_at_end[1] - watch.cpu_at_10[1]) / span
    figures["finish_cpu_seconds"] = max(total - cpu_at_end[1], 0)
    run_ns = sum(ns for ns, _ in watch.programs.values())
    # Side-band programs run too; the sampler is the one that took the most time.
    sampler = max(watch.programs.values(), default=(0, 0))
    if run_ns:
        figures["bpf_percent"] = 100 * run_ns / 1e9 / min(elapsed, seconds)
        figures["bpf_us_per_run"] = sampler[0] / max(sampler[1], 1) / 1e3
    if tool.within_load:
        # What started it costs nothing worth telling; what it costs shows only in the load.
        figures = {"after_seconds": figures["after_seconds"]}
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    span, after_progress = watch.progress_at_end or (elapsed, running.progress())
    figures.update(tool.judge(where))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if tool.names_afterwards:
        spent = after.ru_utime + after.ru_stime - began.ru_utime - began.ru_stime
        figures["finish_cpu_seconds"] = figures.get("finish_cpu_seconds", 0) + spent
    return figures, span, after_progress
