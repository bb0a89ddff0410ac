// What a profile does not hold, because the file that it came from has no room for it.

import type { Profile } from "./payload";

export interface Lacks {
  times: boolean;
  threads: boolean;
  /** Neither modules nor source files. */
  places: boolean;
  books: boolean;
}

export function lacks(profile: Profile): Lacks {
  const { samples, threads, functions, stats } = profile;
  const none = (column: Uint32Array | Float64Array) => column.every((value) => value === 0);
  // hotframe's own recordings have books, also one without samples.
  const foreign = stats === null;
  return {
    times: foreign && none(samples.timeNs),
    threads: foreign && none(threads.tid),
    places: foreign && none(functions.module) && none(functions.file),
    books: foreign,
  };
}

/** In words; "" for a profile that has everything. */
export function lacksText({ times, threads, places, books }: Lacks): string {
  const missing = [
    times ? "times" : "", threads ? "threads" : "", places ? "modules and files" : "",
    books ? "books of whole and cut stacks" : "",
  ].filter((what) => what !== "");
  if (missing.length === 0) return "";
  const last = missing.pop()!;
  return `Hidden, as the file this came from holds no ${missing.length > 0 ? `${missing.join(", ")} or ` : ""}${last}`;
}
