// The books: how many stacks are whole, why the others are cut, what would mend it, what the
// recording itself cost.

import { givenUp } from "./lacks";
import type { Profile } from "./payload";
import { bar, el } from "./dom";
import { base, bytes, count, duration, share, shown } from "./text";

/** What each reason of a cut means, and what a user can do. */
export const REASONS: Record<string, [meaning: string, mend: string]> = {
  no_unwind_info: ["the code has neither unwind tables nor frame pointers that check out",
    "build it with -fasynchronous-unwind-tables or -fno-omit-frame-pointer"],
  bad_unwind_info: ["the unwind tables at that address contradict themselves",
    "usually hand-written assembly with wrong CFI: report it to the project named by the leaf's module"],
  unknown_mapping: ["the address lies in no known mapping: generated code without a map",
    "start the runtime with its perf map (-XX:+DumpPerfMapAtExit, --perf-basic-prof, …)"],
  stale_map: ["the mapping changed and news of it had not yet arrived",
    "record for longer: this fades once a process stops loading code"],
  stack_unreadable: ["a page of the stack was not in memory", "lessen swapping; nothing to do if it is rare"],
  bad_return_address: ["what should be a return address points to no code",
    "build the leaf's module with unwind tables for its assembly"],
  zero_ra: ["a return address of zero before any known entry function",
    "the thread's start code lacks an undefined-return rule: harmless, the frames above it are whole"],
  too_deep: ["the stack has more frames than are walked", "look for endless recursion"],
  time: ["the walk ran out of its allotted steps", "lower the frequency or the depth of recursion"],
  budget: ["the byte budget had no room for unwind rows, for the stack, or for all frames of rare stacks when parts of a long recording were put together",
    "raise --memory"],
  process_gone: ["the process ended before its stack could be resolved",
    "record longer-lived processes, or raise --memory so that files stay loaded"],
};

type Json = Record<string, unknown>;
const object = (value: unknown): Json =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
const number = (value: unknown) => (typeof value === "number" ? value : null);
const text = (value: unknown) => (typeof value === "string" ? value : "");
const sum = (value: unknown) => Object.values(object(value)).reduce<number>((all, n) => all + (number(n) ?? 0), 0);

export function books(profile: Profile, chooseProcess: (key: string) => void): HTMLElement {
  const stats = object(profile.stats);
  const reasons = cutReasons(profile);
  return el("div", { class: "books-view", tabindex: "0" },
    cards(profile, stats),
    el("h2", {}, "Why stacks were cut"), whyCut(reasons, total(profile.processes.samples)),
    ...notKept(stats, profile.meta.duration_ns),
    ...languages(stats),
    el("h2", {}, "By process"), ...byProcess(profile, reasons, chooseProcess),
    el("h2", {}, "The recording"), facts(profile.meta),
    profile.stats === null ? null : el("details", {}, el("summary", {}, "All figures"),
      el("pre", {}, shownJson(profile.stats))));
}

function total(column: ArrayLike<number>): number {
  let all = 0;
  for (let i = 0; i < column.length; i++) all += column[i]!;
  return all;
}

interface CutReason { name: string; reason: number; total: number }

/** Reasons for which stacks were cut, most first. */
function cutReasons({ meta, processes }: Profile): CutReason[] {
  return meta.cuts.map((name, reason) => ({ name, reason, total: total(processes.cut[reason]!) }))
    .filter(({ total }) => total > 0).sort((a, b) => b.total - a.total);
}

/** A figure each of what the recording is worth, and of what it cost. */
function cards({ processes, meta }: Profile, stats: Json): HTMLElement {
  const card = (title: string, value: string | null, note: string) =>
    value === null ? null : el("div", { class: "card" },
      el("div", { class: "quiet" }, title), el("div", { class: "figure" }, value), el("div", { class: "quiet" }, note));
  const samples = total(processes.samples);
  const whole = total(processes.whole);
  let frames = 0;
  let named = 0;
  for (const kind of Object.values(object(stats["frames"]))) {
    frames += number(object(kind)["total"]) ?? 0;
    named += number(object(kind)["named"]) ?? 0;
  }
  const agent = object(stats["agent"]);
  const cpu = (number(agent["cpu_user_seconds"]) ?? 0) + (number(agent["cpu_system_seconds"]) ?? 0);
  const bpf = object(stats["bpf"]);
  const audit = object(stats["audit"]);
  const expected = number(stats["ticks_expected"]);
  const missed = number(stats["ticks_missed"]) ?? 0;
  const lost = sum(stats["samples_lost"]);
  const rss = number(agent["rss_peak_bytes"]);
  const maps = number(agent["map_bytes"]);
  // Both have their peaks at different times.
  const held = number(agent["held_peak_bytes"]) ?? (rss === null ? null : rss + (maps ?? 0));
  const wall = meta.duration_ns / 1e9;
  return el("div", { class: "cards" },
    card("Whole stacks", share(whole, samples), `${count(whole)} of ${count(samples)} samples`),
    card("Named frames", frames > 0 ? share(named, frames) : null, `${count(named)} of ${count(frames)}`),
    card("Ticks missed", expected === null ? null : share(missed, expected), `${count(missed)} of ${count(expected ?? 0)}`),
    card("Samples lost", stats["samples_lost"] === undefined ? null : count(lost),
      Object.entries(object(stats["samples_lost"])).filter(([, n]) => (number(n) ?? 0) > 0)
        .map(([reason, n]) => `${reason.replaceAll("_", " ")} ${count(number(n)!)}`).join(", ") || "between the kernel and the file"),
    card("Found by heuristics", number(stats["stacks_heuristic"]) === null ? null
      : share(number(stats["stacks_heuristic"])!, samples), "stacks with at least one such frame"),
    card("Profiler's CPU", cpu > 0 ? duration(cpu * 1e9) : null,
      `${share(cpu, wall * Math.max(meta.n_cpus, 1))} of ${meta.n_cpus} CPUs`),
    card("In the kernel", number(bpf["run_ns"]) === null ? null : duration(number(bpf["run_ns"])!),
      `${duration((number(bpf["run_ns"]) ?? 0) / Math.max(number(bpf["run_count"]) ?? 1, 1))} per run`),
    card("Profiler's memory", held === null ? null : bytes(held),
      number(agent["budget_bytes"]) === null ? "peak, kernel maps included" : `of ${bytes(number(agent["budget_bytes"])!)} allowed`),
    card("Audit", (number(audit["checked"]) ?? 0) > 0 ? share(number(audit["agreed"]) ?? 0, number(audit["checked"])!) : null,
      `${count(number(audit["checked"]) ?? 0)} stacks walked again by another unwinder`));
}

function whyCut(reasons: CutReason[], samples: number): HTMLElement {
  return reasons.length === 0 ? el("p", {}, "No stack was cut.") : el("table", { class: "books" },
    el("thead", {}, el("tr", {}, el("th", {}, "Cut because"), el("th", { class: "number" }, "Samples"),
      el("th", { class: "number" }, "Share"), el("th", {}, "Meaning"), el("th", {}, "What would mend it"))),
    el("tbody", {}, ...reasons.map(({ name, total }) => el("tr", {},
      el("td", {}, el("code", {}, name)), el("td", { class: "number" }, count(total)),
      el("td", { class: "number" }, share(total, samples)),
      el("td", {}, REASONS[name]?.[0] ?? ""), el("td", {}, REASONS[name]?.[1] ?? "")))));
}

/** The processes with the most samples. */
function byProcess({ processes, strings }: Profile, reasons: CutReason[], chooseProcess: (key: string) => void) {
  const order = Array.from({ length: processes.n }, (_, p) => p)
    .sort((a, b) => processes.samples[b]! - processes.samples[a]!);
  const rows = order.slice(0, 300).map((p) => el("tr", {},
    el("td", {}, el("button", { class: "link", click: () => chooseProcess(`p${p}`) },
      el("bdi", {}, shown(strings.get(processes.comm[p]!)) || "(no name)"))),
    el("td", { class: "number quiet" }, String(processes.pid[p])),
    el("td", { class: "number" }, count(processes.samples[p]!)),
    el("td", { class: "share" }, bar(processes.whole[p]! / Math.max(processes.samples[p]!, 1)),
      share(processes.whole[p]!, processes.samples[p]!)),
    ...reasons.map(({ reason }) => el("td", { class: "number" },
      processes.cut[reason]![p]! > 0 ? count(processes.cut[reason]![p]!) : "")),
    el("td", {}, el("bdi", { class: "path", title: shown(strings.get(processes.exe[p]!)) }, shown(base(strings.get(processes.exe[p]!))))),
    el("td", {}, el("bdi", { class: "path", title: shown(strings.get(processes.cgroup[p]!)) }, shown(strings.get(processes.cgroup[p]!))))));
  return [el("table", { class: "books" },
    el("thead", {}, el("tr", {}, el("th", {}, "Process"), el("th", { class: "number" }, "Pid"),
      el("th", { class: "number" }, "Samples"), el("th", {}, "Whole"),
      ...reasons.map(({ name }) => el("th", { class: "number" }, name.replaceAll("_", " "))),
      el("th", {}, "Executable"), el("th", {}, "cgroup"))),
    el("tbody", {}, ...rows)),
    order.length > rows.length ? el("p", { class: "quiet" }, `and ${count(order.length - rows.length)} with fewer samples`) : null];
}

/** Which runtimes were met, and whether their frames are there. */
function languages(stats: Json) {
  const runtimes = runtimesOf(stats["runtimes"]);
  const without = number(stats["stacks_without_runtime"]) ?? 0;
  return runtimes.length === 0 ? [] : [
    el("h2", {}, "Language runtimes"),
    el("table", { class: "books" },
      el("thead", {}, el("tr", {}, el("th", {}, "Runtime"), el("th", {}, "Version"),
        el("th", { class: "number" }, "Processes"), el("th", {}, "Served"), el("th", {}, "Pids"))),
      el("tbody", {}, ...runtimes.map(({ runtime, version, problem, pids }) => el("tr", {},
        el("td", {}, el("bdi", {}, shown(runtime))), el("td", {}, el("bdi", {}, shown(version))),
        el("td", { class: "number" }, count(pids.length)),
        el("td", {}, problem === "" ? "yes" : el("bdi", {}, `no: ${shown(problem)}`)),
        el("td", { class: "quiet" }, pids.slice(0, 6).join(", ") + (pids.length > 6 ? ", …" : "")))))),
    without === 0 ? null : el("p", { class: "quiet" },
      `${count(without)} ${without === 1 ? "stack lacks" : "stacks lack"} frames of their runtime: it was not yet known, is not served, or could not be read${reasonsOf(stats["stacks_without_runtime_by"])}.`),
  ];
}

/** What the memory limit took from the profile. */
function notKept(stats: Json, wallNs: number) {
  const { intervalNs, folded, byFunction, unread } = givenUp(stats);
  const gaveUp = [
    intervalNs > 0 ? `Samples of one thread and stack within ${intervalNs >= wallNs ? "the whole recording" : duration(intervalNs)} are shown as one with their weight.` : "",
    folded > 0 ? `${count(folded)} processes with few samples are shown as one for each command name.` : "",
    byFunction ? "Native and kernel code is shown by function, without lines." : "",
    unread > 0 ? `${count(unread)} samples could not be read back from disk.` : "",
  ].filter((what) => what !== "");
  return gaveUp.length === 0 ? [] : [
    el("h2", {}, "Given up to stay inside the memory limit"),
    el("ul", {}, ...gaveUp.map((what) => el("li", {}, what))),
    el("p", { class: "quiet" }, "With more --memory, a lower --frequency or a shorter recording it is kept."),
  ];
}

function facts(meta: Profile["meta"]): HTMLElement {
  const fact = (name: string, value: string) => value === "" ? [] : [el("dt", {}, name), el("dd", {}, el("bdi", {}, shown(value)))];
  return el("dl", {},
    ...fact("Command", meta.command), ...fact("Host", meta.host), ...fact("Kernel", `${meta.kernel} ${meta.arch}`.trim()),
    ...fact("Began", meta.start_unix_ns > 0 ? new Date(meta.start_unix_ns / 1e6).toISOString() : ""),
    ...fact("Took", meta.duration_ns > 0 ? duration(meta.duration_ns) : ""),
    ...fact("Written by", meta.producer));
}

interface RuntimeFact { runtime: string; version: string; problem: string; pids: number[] }

/** Runtimes that were met, processes of one kind together, most first. */
function runtimesOf(value: unknown): RuntimeFact[] {
  const groups = new Map<string, RuntimeFact>();
  for (const item of Array.isArray(value) ? value.map(object) : []) {
    const [runtime, version, problem] = [text(item["runtime"]), text(item["version"]), text(item["problem"])];
    const key = JSON.stringify([runtime, version, problem]);
    let group = groups.get(key);
    if (group === undefined) groups.set(key, (group = { runtime, version, problem, pids: [] }));
    group.pids.push(number(item["pid"]) ?? 0);
  }
  return [...groups.values()].sort((a, b) => b.pids.length - a.pids.length);
}

/** By runtime, most first: `: cpython 12 late, 3 no thread`; nothing where none is told. */
function reasonsOf(value: unknown): string {
  const told = Object.entries(object(value)).map(([runtime, reasons]) => {
    const counts = Object.entries(object(reasons)).map(([why, n]) => ({ why, n: number(n) ?? 0 }));
    counts.sort((a, b) => b.n - a.n);
    return `${shown(runtime)} ${counts.map(({ why, n }) => `${count(n)} ${shown(why.replaceAll("_", " "))}`).join(", ")}`;
  });
  return told.length === 0 ? "" : `: ${told.join("; ")}`;
}

function shownJson(value: unknown): string {
  return JSON.stringify(value, null, 2).split("\n").map(shown).join("\n");
}
