#!/usr/bin/env python3
"""hotframe beside other profilers, on real loads (`make bench`).

In: a hotframe binary (HOTFRAME_BIN), the loads of `loads.py`, the profilers of `tools.py`.
Out: one table on stdout; every figure of every run as JSON in benches/peers/results/latest.json.

Each load runs without a profiler first, then under each profiler in turn, in the same run on the
same machine: compare the rows of one table, never two tables. All sample 97 times a second on
every CPU (a prime: one of the profilers takes no other frequency).

What is measured, the same way for all:
  first10  processor time of the profiler and its children, % of one CPU, in its first 10 s
  steady   the same from 10 s on, until the recording's end
  finish   processor seconds from there until the result is a file with names (perf: `perf script`)
  after    seconds by the clock from the recording's end until the profiler ends, its start
           included: its files are complete then (perf's have no names yet)
  BPF us   mean time of a run of its BPF programs (kernel.bpf_stats_enabled), and BPF % of one CPU.
           perf walks stacks in the kernel without BPF: that cost shows only in `load`
  RSS      VmHWM of its process, looked at until it ends; maps: `memlock` of its BPF maps
  samples  in its result; rooted: the share of these whose outermost frame is where a thread begins
           (_start, clone, a goroutine's end, a kernel thread's entry), by the names in its own
           output; named: the share of frames that have a name
  load     the load's throughput, % of its throughput without a profiler

Profilers of one runtime attach to the load's process, and run on that runtime's loads alone. py-spy
samples by the wall's clock. async-profiler is loaded into the JVM: its cost shows only in `load`. They
leave out what calls a program's code: `rooted` asks for its main module or method, or a thread's first.

hotframe's own books, where others have none:
  slice    the share of stacks that user space finished; missed: the share of ticks without a sample
  runtime  the share of frames that are a runtime's own; r named: how many of these have a name;
           without: the share of stacks that lack their runtime's frames
  audited  stacks that an independent unwinder walked too, in a run of its own; agreed: the share
           that is equal frame by frame

  LOADS=clang,idle TOOLS=hotframe,perf-fp SECONDS=30 ROUNDS=3 make bench
"""

import contextlib
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import loads
import measure
import tools

HERE = Path(__file__).resolve().parent


def chosen(variable, known):
    """The names of a comma-separated environment variable, all known ones when it is not set."""
    names = [name for name in os.environ.get(variable, "").split(",") if name]
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"{variable}: unknown {', '.join(unknown)}; known: {', '.join(known)}")
    return names or list(known)


def run_once(load, tool, seconds):
    """One recording of one load by one tool; None is the load alone."""
    scratch = measure.scratch()
    with load.running() as running:
        running.warm_up()
        if tool is None:
            began, before = time.monotonic(), running.progress()
            time.sleep(seconds)
            figures = {}
            span, after = time.monotonic() - began, running.progress()
        else:
            before = running.progress()
            figures, span, after = measure.recording(tool, seconds, scratch, running)
        if before is not None and after is not None:
            figures["throughput"] = (after - before) / span
    return figures


def audited(load, tool, seconds):
    """How far the stacks of a tool that can check itself are right; nothing for others."""
    if not hasattr(tool, "audit"):
        return {}
    with load.running() as running:
        running.warm_up()
        return tool.audit(seconds, measure.scratch())


def median_of(runs):
    """Figure by figure, the median over rounds."""
    keys = {key for run in runs for key in run if isinstance(run[key], (int, float))}
    merged = {key: statistics.median(run[key] for run in runs if key in run) for key in keys}
    failures = [run["error"] for run in runs if "error" in run]
    if failures:
        merged["error"] = failures[0]
    return merged


COLUMNS = [
    ("first10 %", "cpu_first10_percent", "{:.2f}"),
    ("steady %", "cpu_steady_percent", "{:.2f}"),
    ("finish s", "finish_cpu_seconds", "{:.2f}"),
    ("after s", "after_seconds", "{:.2f}"),
    ("BPF us", "bpf_us_per_run", "{:.1f}"),
    ("BPF %", "bpf_percent", "{:.2f}"),
    ("RSS MB", "rss_peak_mb", "{:.0f}"),
    ("maps MB", "map_mb", "{:.0f}"),
    ("samples", "samples", "{:.0f}"),
    ("rooted %", "rooted_percent", "{:.1f}"),
    ("cut %", "cut_percent", "{:.2f}"),
    ("named %", "named_percent", "{:.1f}"),
    ("load %", "load_percent", "{:.1f}"),
    ("slice %", "slice_percent", "{:.1f}"),
    ("missed %", "ticks_missed_percent", "{:.2f}"),
    ("runtime %", "runtime_percent", "{:.1f}"),
    ("r named %", "runtime_named_percent", "{:.2f}"),
    ("without %", "without_runtime_percent", "{:.2f}"),
    ("audited", "audited", "{:.0f}"),
    ("agreed %", "agreed_percent", "{:.2f}"),
]


def table(results):
    """The results as aligned text."""
    rows = [["load", "profiler"] + [title for title, _, _ in COLUMNS]]
    for load_name, by_tool in results.items():
        for tool_name, figures in by_tool.items():
            row = [load_name, tool_name]
            if "error" in figures:
                row.append(figures["error"])
            else:
                for _, key, form in COLUMNS:
                    row.append(form.format(figures[key]) if key in figures else "-")
            rows.append(row)
    widths = [
        max(len(row[column]) for row in rows if column < 2 or len(row) == len(rows[0]))
        for column in range(len(rows[0]))
    ]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def main():
    if os.geteuid() != 0:
        sys.exit("make bench needs root: it measures whole-system profilers")
    load_names = chosen("LOADS", loads.LOADS)
    tool_names = chosen("TOOLS", tools.TOOLS)
    seconds = float(os.environ.get("SECONDS_EACH") or 20)
    rounds = int(os.environ.get("ROUNDS") or 1)
    if seconds <= 10:
        print("SECONDS is not above 10: the column `steady` stays empty", file=sys.stderr)

    try:
        tools.install("bpftool", "bpftool")
    except tools.Unavailable as cause:
        print(f"the columns BPF us and BPF % stay empty: {cause}", file=sys.stderr)
    ready_tools = {}
    results = {name: {} for name in load_names}
    refused = {}
    for name in tool_names:
        try:
            ready_tools[name] = tools.TOOLS[name]().prepare()
        except tools.Unavailable as cause:
            refused[name] = f"not run: {cause}"
            print(f"{name}: {refused[name]}", file=sys.stderr)

    all_runs = []
    with measure.bpf_statistics():
        for load_name in load_names:
            load = loads.LOADS[load_name]()
            try:
                load.prepare()
            except loads.Unavailable as cause:
                results[load_name]["(load)"] = {"error": f"not run: {cause}"}
                continue
            fitting = {name: tool for name, tool in ready_tools.items()
                       if tool.runtime in (None, load.runtime)}
            runs = {name: [] for name in ["none", *fitting]}
            for number in range(rounds):
                # Another order each round: what drifts does not always fall on the same tool.
                order = list(fitting)
                order = order[number % max(len(order), 1):] + order[: number % max(len(order), 1)]
                for name in ["none", *order]:
                    print(f"{load_name}: {name}, round {number + 1}", file=sys.stderr)
                    try:
                        figures = run_once(load, fitting.get(name), seconds)
                    except (measure.Failed, loads.Unavailable) as cause:
                        figures = {"error": str(cause)}
                    runs[name].append(figures)
                    all_runs.append(
                        {"load": load_name, "tool": name, "round": number, "figures": figures}
                    )
            audits = {}
            for name, tool in fitting.items():
                with contextlib.suppress(loads.Unavailable):
                    audits[name] = audited(load, tool, seconds)
            baseline = median_of(runs["none"]).get("throughput")
            for name, of_tool in runs.items():
                figures = median_of(of_tool)
                if baseline and "throughput" in figures:
                    figures["load_percent"] = 100 * figures["throughput"] / baseline
                figures.update(audits.get(name, {}))
                results[load_name][name] = figures
            unfit = {name: f"not run: it knows {tool.runtime} alone"
                     for name, tool in ready_tools.items() if name not in fitting}
            for name, why in {**unfit, **refused}.items():
                results[load_name][name] = {"error": why}

    about = {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "seconds": seconds,
        "rounds": rounds,
        "versions": {name: tool.version() for name, tool in ready_tools.items()},
    }
    out = HERE / "results"
    out.mkdir(exist_ok=True)
    (out / "latest.json").write_text(
        json.dumps({"about": about, "results": results, "runs": all_runs}, indent=1) + "\n"
    )
    print(f"Linux {about['kernel']}, {about['cpus']} CPUs, {seconds:g} s a run, "
          f"median of {rounds}, 97 Hz")
    for name, version in about["versions"].items():
        print(f"  {name}: {version}")
    print(table(results))
    print(f"every figure: {out / 'latest.json'}")


if __name__ == "__main__":
    main()
