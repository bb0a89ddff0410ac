// What the choosers offer: processes, threads and functions of the selection, heaviest first, and what is chosen
// as it is shown. Costs one pass over the samples a list, when it is opened.

import type { Choice } from "./chooser";
import type { Profile } from "./payload";
import { chosenSamples, chosenThreads } from "./selection";
import type { State } from "./state";
import { base, count, shown } from "./text";
import type { Symbols, Weighed } from "./tree";

/** The entries of a list, and the weight of all. */
interface Choices { choices: Choice[]; whole: number }
interface Item { weight: number; comm: number; key: string; detail: string }

function weightsByThread(profile: Profile, range: State["range"]): Float64Array {
  const { samples, threads } = profile;
  const weights = new Float64Array(threads.n);
  const chosen = chosenSamples(profile, { process: "", thread: "", range });
  const { comparison } = profile;
  const scale = comparison === null ? [1, 1]
    : [comparison.before, comparison.after].map((side) => 1 / Math.max(1, side.samples));
  for (let i = 0; i < samples.n; i++) {
    if (chosen === null || chosen[i] === 1) {
      weights[samples.thread[i]!]! += samples.weight[i]! * scale[comparison === null ? 0 : comparison.side[i]!]!;
    }
  }
  return weights;
}

export function processChoices(profile: Profile, range: State["range"]): Choices {
  const { processes, threads, strings } = profile;
  const weights = new Float64Array(processes.n);
  let whole = 0;
  weightsByThread(profile, range).forEach((weight, t) => {
    weights[threads.process[t]!]! += weight;
    whole += weight;
  });
  const items = Array.from(weights, (weight, p) => ({
    weight, comm: processes.comm[p]!, key: `p${p}`,
    detail: [String(processes.pid[p]), base(strings.get(processes.exe[p]!))].filter((part) => part !== "").join(" · "),
  }));
  return { choices: [{ key: "", name: "all processes", detail: "", weight: whole, indent: false }, ...grouped(profile, items, "processes")], whole };
}

export function threadChoices(profile: Profile, process: string, range: State["range"]): Choices {
  const { threads } = profile;
  const inProcess = chosenThreads(profile, process, "");
  let whole = 0;
  const items: Item[] = [];
  weightsByThread(profile, range).forEach((weight, t) => {
    if (inProcess !== null && inProcess[t] === 0) return;
    whole += weight;
    items.push({ weight, comm: threads.comm[t]!, key: `t${t}`, detail: String(threads.tid[t]) });
  });
  return { choices: [{ key: "", name: "all threads", detail: "", weight: whole, indent: false }, ...grouped(profile, items, "threads")], whole };
}

/** Items heaviest first, those of one name below an entry for all of them. */
function grouped(profile: Profile, items: Item[], noun: string): Choice[] {
  const { strings } = profile;
  const groups = new Map<number, Item[]>();
  for (const item of items) {
    const group = groups.get(item.comm);
    if (group === undefined) groups.set(item.comm, [item]);
    else group.push(item);
  }
  return [...groups].map(([comm, group]) => ({
    comm, group: group.sort((a, b) => b.weight - a.weight), weight: group.reduce((sum, { weight }) => sum + weight, 0),
  })).sort((a, b) => b.weight - a.weight).flatMap(({ comm, group, weight }) => {
    const name = strings.get(comm) || "(no name)";
    // A single process is of one side only: there is nothing to compare it with.
    if (profile.comparison !== null) return [{ key: `c${comm}`, name, detail: "", weight, indent: false }];
    const single = group.length === 1;
    const each = group.map((item) => ({ key: item.key, name, detail: item.detail, weight: item.weight, indent: !single }));
    return single ? each
      : [{ key: `c${comm}`, name, detail: `${count(group.length)} ${noun}`, weight, indent: false }, ...each];
  });
}

/** Functions of the selection, those in most stacks first. */
export function functionChoices(profile: Profile, symbols: Symbols, weighed: Weighed): Choices {
  const { functions, modules, strings } = profile;
  const { total } = weighed.bySymbol();
  const choices: Choice[] = [];
  for (let s = 0; s < symbols.functions.length; s++) {
    if (total[s]! === 0) continue;
    const module = functions.module[symbols.functions[s]!]!;
    choices.push({ key: String(s), name: symbols.text(s) || "(no name)", weight: total[s]!, indent: false,
      detail: module < modules.n ? base(strings.get(modules.path[module]!)) : "" });
  }
  return { choices: choices.sort((a, b) => b.weight - a.weight), whole: weighed.sum };
}

export function processLabel(profile: Profile, process: string): string {
  const { processes, strings } = profile;
  const value = Number(process.slice(1));
  if (process[0] === "p" && value < processes.n) {
    return `${shown(strings.get(processes.comm[value]!))} ${processes.pid[value]}`;
  }
  return process === "" ? "all" : process[0] === "c" && value < strings.length ? shown(strings.get(value)) : "unknown";
}

export function threadLabel(profile: Profile, thread: string): string {
  const { threads, strings } = profile;
  const value = Number(thread.slice(1));
  if (thread[0] === "t" && value < threads.n) return `${shown(strings.get(threads.comm[value]!))} ${threads.tid[value]}`;
  return thread === "" ? "all" : thread[0] === "c" && value < strings.length ? shown(strings.get(value)) : "unknown";
}
