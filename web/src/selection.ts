// Which samples a reader has chosen, and what filters do to functions.

import type { Profile } from "./payload";
import type { Filter, State } from "./state";
import type { Symbols } from "./tree";

/** A byte per thread: it is chosen; null for all. */
export function chosenThreads(profile: Profile, process: string, thread: string): Uint8Array | null {
  if (process === "" && thread === "") return null;
  const { threads, processes } = profile;
  const number = (text: string) => Number(text.slice(1));
  return Uint8Array.from({ length: threads.n }, (_, t) => {
    const p = threads.process[t]!;
    const inProcess = process === "" ||
      (process[0] === "c" ? processes.comm[p] === number(process) : p === number(process));
    const inThread = thread === "" ||
      (thread[0] === "c" ? threads.comm[t] === number(thread) : t === number(thread));
    return inProcess && inThread ? 1 : 0;
  });
}

/** A byte per sample: it is chosen; null for all. */
export function chosenSamples(
  profile: Profile,
  state: Pick<State, "process" | "thread" | "range">,
): Uint8Array | null {
  const threads = chosenThreads(profile, state.process, state.thread);
  const { range } = state;
  if (threads === null && range === null) return null;
  const { samples } = profile;
  const chosen = new Uint8Array(samples.n);
  for (let i = 0; i < samples.n; i++) {
    const time = samples.timeNs[i]!;
    if ((threads === null || threads[samples.thread[i]!] === 1) &&
        (range === null || (time >= range[0] && time < range[1]))) {
      chosen[i] = 1;
    }
  }
  return chosen;
}

/** A byte per function of the profile: the filter means it. */
export function meant(symbols: Symbols, filter: Filter): Uint8Array {
  const { functions } = symbols.profile;
  const column = { function: symbols.ofFunction, module: functions.module, kind: functions.kind }[filter.what];
  return Uint8Array.from({ length: functions.n }, (_, f) => (column[f] === filter.value ? 1 : 0));
}

/** All functions that are hidden; null if none is. */
export function hidden(symbols: Symbols, filters: Filter[]): Uint8Array | null {
  const masks = filters.filter((filter) => filter.op === "hide").map((filter) => meant(symbols, filter));
  if (masks.length === 0) return null;
  return masks.reduce((all, mask) => all.map((bit, f) => bit | mask[f]!));
}

/** What a search means: fields of a function that a prefix names, else its name. */
export function searchMask(
  symbols: Symbols,
  query: string,
  matcher: (query: string) => ((text: string) => boolean) | Error,
): Uint8Array | null | Error {
  if (query === "") return null;
  const [, field, rest] = /^(?:(module|file|kind):)?(.*)$/su.exec(query)!;
  const matches = matcher(rest!);
  if (matches instanceof Error) return matches;
  const mask = new Uint8Array(symbols.length);
  const { functions, modules, strings, meta } = symbols.profile;
  if (field === undefined) {
    for (let s = 0; s < mask.length; s++) mask[s] = matches(symbols.text(s)) ? 1 : 0;
    return mask;
  }
  const text = (f: number) =>
    field === "module" ? strings.get(modules.path[functions.module[f]!]!)
      : field === "file" ? strings.get(functions.file[f]!)
        : meta.kinds[functions.kind[f]!]!;
  for (let f = 0; f < functions.n; f++) if (matches(text(f))) mask[symbols.ofFunction[f]!] = 1;
  return mask;
}
