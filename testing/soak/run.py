#!/usr/bin/env python3
"""Does `--memory` hold? Records churn for a long time and looks from outside.

In: the binary (HOTFRAME_BIN), how long (SECONDS_SOAK, 1800), how often (HZ, 997), the limit (MEMORY,
60M), how nice the load is (NICE, 0; hotframe itself is as it always is), a load of the benchmark's
instead of churn (LOAD, `clang`), where to keep the books (KEEP). Out: one line a minute, a
summary, and with PLOT=FILE.svg the curve. The exit code is 0 only if resident memory and maps
together never passed the limit, as the kernel counts them.

Load: processes that start, fault in their libraries and end; a compiler; a program that works on. What
is looked at: VmRSS of hotframe twice a second, twenty times while it names and writes, VmHWM at its
end, and the maps' bytes from its own books, without those that are mapped and so in VmRSS already.
Where hotframe can have a memory cgroup of its own (v1 or v2), also what that is charged beside the
page cache: heap, maps, rings, programs and whatever else the kernel holds for it; not its code.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "benches" / "peers"))
import loads  # noqa: E402

MIB = 1 << 20


def size(text):
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    digits = text.rstrip("iB")
    return int(float(digits[:-1]) * units[digits[-1]]) if digits[-1] in units else int(digits)


def status(pid):
    fields = {}
    try:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if value.strip().endswith("kB"):
                fields[name] = int(value.split()[0]) << 10
    except OSError:
        pass
    return fields


def mapped(pid):
    """Bytes of BPF maps and perf rings among the resident pages: the maps' own sum has them too."""
    total, is_one = 0, False
    try:
        for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
            if line.startswith("Rss:"):
                total += is_one * int(line.split()[1]) << 10
            elif "-" in line.split(" ", 1)[0]:
                is_one = line.endswith(("bpf-map", "[perf_event]"))
    except OSError:
        pass
    return total


def own_cgroup():
    """A memory cgroup for hotframe alone, and how to read what it is charged without its cache."""
    for base, procs in (
        ("/sys/fs/cgroup/memory", "cgroup.procs"),
        ("/sys/fs/cgroup/unified", "cgroup.procs"),
        ("/sys/fs/cgroup", "cgroup.procs"),
    ):
        path = pathlib.Path(base) / f"hotframe-soak-{os.getpid()}"
        try:
            path.mkdir()
        except OSError:
            continue
        if (path / "memory.stat").exists():
            return path
        path.rmdir()
    return None


def charged(cgroup):
    stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    if "anon" in stat:  # v2
        return sum(int(stat.get(name, 0)) for name in ("anon", "kernel", "shmem"))
    kernel = cgroup / "memory.kmem.usage_in_bytes"
    return int(stat["rss"]) + (int(kernel.read_text()) if kernel.exists() else 0)


CHURN = r"""
while :; do
	i=0
	while [ $i -lt 20 ]; do /bin/true; ls / >/dev/null; i=$((i + 1)); done
	cc -O1 -c "$1" -o "$2" 2>/dev/null
	head -c 300000 "$3" | gzip -c >/dev/null
done
"""

SOURCE = "#include <stdio.h>\n" + "\n".join(
    f"int f{i}(int x) {{ return x * {i} + (x >> {i % 7}); }}" for i in range(300)
)


def thinned(points, most=450):
    """The highest point of each of so many intervals: a plot is no wider."""
    last = points[-1][0]
    highest = {}
    for at, value in points:
        slot = int(at / max(last, 1) * most)
        highest[slot] = max(highest.get(slot, (at, value)), (at, value), key=lambda point: point[1])
    return list(highest.values())


def plot(path, points, limit):
    width, height = 900, 300
    last = max(points[-1][0], 1)
    top = max(limit, max(both for _, both in points)) * 1.1
    at = lambda x, y: f"{40 + x / last * (width - 60):.1f},{height - 30 - y / top * (height - 50):.1f}"
    line = " ".join(at(x, y) for x, y in thinned(points))
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        f' font-size="12"><rect width="{width}" height="{height}" fill="white"/>'
        f'<polyline fill="none" stroke="#c00" stroke-dasharray="6 4" points="{at(0, limit)} {at(last, limit)}"/>'
        f'<polyline fill="none" stroke="#06c" stroke-width="1.5" points="{line}"/>'
        f'<text x="44" y="16">resident memory and maps, MiB; dashed: the limit of {limit / MIB:.0f}</text>'
        f'<text x="{width - 60}" y="{height - 10}">{last:.0f} s</text>'
        f'<text x="4" y="{height - 26}">0</text><text x="4" y="24">{top / MIB:.0f}</text></svg>\n'
    )


@contextlib.contextmanager
def churn(scratch, binary):
    """A shell per CPU that starts processes, compiles and packs."""
    source = scratch / "churn.c"
    source.write_text(SOURCE)
    shells = [
        subprocess.Popen(
            ["nice", "-n", os.environ.get("NICE") or "0", "sh", "-c", CHURN, "churn"]
            + [str(source), str(scratch / f"{i}.o"), binary],
            start_new_session=True,
        )
        for i in range(2)
    ]
    try:
        yield
    finally:
        for shell in shells:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()


def chosen_load(scratch, binary):
    name = os.environ.get("LOAD")
    if not name:
        return churn(scratch, binary)
    if name not in loads.LOADS:
        sys.exit(f"LOAD: unknown {name}; known: {', '.join(loads.LOADS)}")
    load = loads.LOADS[name]()
    load.prepare()
    return load.running()


def main():
    with contextlib.ExitStack() as stack:
        soak(stack)


def soak(stack):
    binary = os.environ["HOTFRAME_BIN"]
    seconds = float(os.environ.get("SECONDS_SOAK") or 1800)
    limit_text = os.environ.get("MEMORY") or "60M"
    limit = size(limit_text)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="hotframe-soak-"))
    stack.enter_context(chosen_load(scratch, binary))
    cgroup = own_cgroup()

    def enter():
        if cgroup:
            (cgroup / "cgroup.procs").write_text(str(os.getpid()))

    stats = scratch / "stats.json"
    command = [binary, "record", "-q", "-F", os.environ.get("HZ") or "997", "-d", str(seconds)]
    command += ["--memory", limit_text, "--stats", str(stats)]
    command += ["-o", str(scratch / "soak.html"), "-o", str(scratch / "soak.pb.gz")]
    agent = subprocess.Popen(command, preexec_fn=enter)
    points, peak_charged, peak_rss, began, said = [], 0, 0, time.monotonic(), 0
    twice = 0
    try:
        while agent.poll() is None:
            now = time.monotonic() - began
            fields = status(agent.pid)
            peak_rss = max(peak_rss, fields.get("VmHWM", 0))
            if "VmRSS" in fields:
                points.append((now, fields["VmRSS"]))
            if cgroup:
                peak_charged = max(peak_charged, charged(cgroup))
            if now < seconds and (twice == 0 or now - said >= 60):
                twice = mapped(agent.pid)
            if now - said >= 60 and points:
                said = now
                print(f"{now:6.0f} s  {points[-1][1] / MIB:6.1f} MiB resident", flush=True)
            time.sleep(0.5 if now < seconds else 0.05)
    finally:
        stack.close()
        if agent.poll() is None:
            agent.kill()
            agent.wait()
        if cgroup:
            for _ in range(50):
                try:
                    cgroup.rmdir()
                    break
                except OSError:
                    time.sleep(0.1)
    if agent.returncode != 0:
        sys.exit(f"hotframe ended with {agent.returncode}")
    books = json.loads(stats.read_text())
    maps = books["agent"]["map_bytes"]
    while_recording = max(rss for at, rss in points if at <= seconds)
    # Maps are given back before naming begins: then resident memory stands alone.
    most = max(while_recording + maps - twice, peak_rss)
    print(f"recorded            {seconds:.0f} s, {books['samples_emitted']} samples")
    print(f"processes           {len(books['processes'])} listed")
    print(f"spilled             {json.dumps(books['spilled'])}")
    cut = {reason: n for reason, n in books["stacks_cut"].items() if n}
    print(f"stacks              {books['stacks_whole']} whole, cut {json.dumps(cut)}")
    print(f"samples lost        {json.dumps(books['samples_lost'])}")
    print(f"resident at most    {peak_rss / MIB:.1f} MiB; {while_recording / MIB:.1f} while recording")
    print(f"maps and rings      {maps / MIB:.1f} MiB, of them mapped {twice / MIB:.1f}")
    if cgroup:
        print(f"charged to cgroup   {peak_charged / MIB:.1f} MiB at most, its page cache not counted")
    print(f"most of both        {most / MIB:.1f} of {limit / MIB:.1f} MiB")
    user, system = books["agent"]["cpu_user_seconds"], books["agent"]["cpu_system_seconds"]
    bpf = books["bpf"]["run_ns"] / 1e9
    print(f"CPU                 {user + system:.1f} s, and {bpf:.1f} s in the kernel's programs")
    if os.environ.get("PLOT"):
        # Maps are held as long as it records.
        both = [(at, rss + (maps - twice if at <= seconds else 0)) for at, rss in points]
        plot(pathlib.Path(os.environ["PLOT"]), both, limit)
    if os.environ.get("KEEP"):
        shutil.copy(stats, os.environ["KEEP"])
    shutil.rmtree(scratch, ignore_errors=True)
    if max(most, peak_charged) > limit:
        sys.exit("the limit was passed")


main()
