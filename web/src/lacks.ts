// What a profile does not hold: because the file that it came from has no room for it, or because
// the recording gave it up to stay inside its memory limit.

import type { Profile } from "./payload";

export interface Lacks {
  times: boolean;
  threads: boolean;
  /** Neither modules nor source files. */
  places: boolean;
  books: boolean;
  /** Samples were counted together over so much of the time that a strip would show nothing true. */
  merged: boolean;
}

/** A strip has at least so many points, or none is shown. */
const POINTS_MIN = 8;

/** What long recordings give up, from the profiler's own books. */
export function givenUp(stats: unknown): { intervalNs: number; folded: number; byFunction: boolean; unread: number } {
  const spilled = (stats as { spilled?: Record<string, unknown> | null } | null)?.spilled ?? {};
  const of = (key: string) => (typeof spilled[key] === "number" ? (spilled[key] as number) : 0);
  return { intervalNs: of("interval_ns"), folded: of("processes_folded"), byFunction: spilled["by_function"] === true,
    unread: of("samples_unread") };
}

export function lacks(profile: Profile): Lacks {
  const { samples, threads, functions, stats } = profile;
  const none = (column: Uint32Array | Float64Array) => column.every((value) => value === 0);
  // hotframe's own recordings have books, also one without samples.
  const foreign = stats === null;
  const merged = givenUp(stats).intervalNs * POINTS_MIN > profile.meta.duration_ns;
  return {
    times: merged || (foreign && none(samples.timeNs)),
    threads: foreign && none(threads.tid),
    places: foreign && none(functions.module) && none(functions.file),
    books: foreign,
    merged,
  };
}

/** In words; "" for a profile that has everything. */
export function lacksText({ times, threads, places, books, merged }: Lacks): string {
  if (merged) return "Times are hidden, as samples were counted together to stay inside the memory limit";
  const missing = [
    times ? "times" : "", threads ? "threads" : "", places ? "modules and files" : "",
    books ? "books of whole and cut stacks" : "",
  ].filter((what) => what !== "");
  if (missing.length === 0) return "";
  const last = missing.pop()!;
  return `Hidden, as the file this came from holds no ${missing.length > 0 ? `${missing.join(", ")} or ` : ""}${last}`;
}
