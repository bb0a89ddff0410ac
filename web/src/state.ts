// What a reader has chosen, and its form in the address, so that a link restores a view.

export type View = "flame" | "callers" | "sandwich" | "table" | "books";
export const VIEWS: View[] = ["flame", "callers", "sandwich", "table", "books"];

export interface Filter {
  /** focus: only stacks with it; hide: without its frames. */
  op: "focus" | "hide";
  what: "function" | "module" | "kind";
  /** Symbol, index of a module or of a kind. */
  value: number;
}

export type Column = "self" | "total" | "name" | "kind" | "module" | "file";
const COLUMNS: Column[] = ["self", "total", "name", "kind", "module", "file"];

export interface State {
  view: View;
  /** "" all, "c7" those whose name is string 7, "p3" process 3. */
  process: string;
  /** "" all, "c7" those whose name is string 7, "t3" thread 3. */
  thread: string;
  /** Part of the recording, nanoseconds since its start; null: all of it. */
  range: [number, number] | null;
  search: string;
  filters: Filter[];
  byProcess: boolean;
  collapse: boolean;
  /** The root is at the bottom. */
  upward: boolean;
  /** Symbols from below the root to the zoomed node of the view. */
  path: number[];
  /** Function of the sandwich and of the table's lines; -1: none. */
  symbol: number;
  sort: Column;
  ascending: boolean;
  strip: "process" | "cpu";
}

export const START: Readonly<State> = {
  view: "flame",
  process: "",
  thread: "",
  range: null,
  search: "",
  filters: [],
  byProcess: true,
  collapse: false,
  upward: true,
  path: [],
  symbol: -1,
  sort: "self",
  ascending: false,
  strip: "process",
};

/** The state as the part of an address after `#`; "" for the state at the start. */
export function toFragment(state: State): string {
  const parts = new URLSearchParams();
  if (state.view !== START.view) parts.set("view", state.view);
  if (state.process) parts.set("process", state.process);
  if (state.thread) parts.set("thread", state.thread);
  if (state.range) parts.set("range", state.range.map((ns) => (ns / 1e6).toFixed(3)).join("-"));
  if (state.search) parts.set("search", state.search);
  for (const filter of state.filters) parts.append(filter.op, `${filter.what}.${filter.value}`);
  if (!state.byProcess) parts.set("grouped", "no");
  if (state.collapse) parts.set("collapse", "yes");
  if (!state.upward) parts.set("root", "top");
  if (state.path.length > 0) parts.set("zoom", state.path.join("."));
  if (state.symbol >= 0) parts.set("function", String(state.symbol));
  if (state.sort !== START.sort || state.ascending) {
    parts.set("sort", `${state.sort}${state.ascending ? ".up" : ""}`);
  }
  if (state.strip !== START.strip) parts.set("strip", state.strip);
  return parts.toString();
}

const natural = (text: string | undefined) =>
  text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : null;

/** The state of a fragment; what is not understood is as at the start. */
export function fromFragment(fragment: string): State {
  const parts = new URLSearchParams(fragment.replace(/^#/, ""));
  const text = (key: string) => parts.get(key) ?? "";
  const range = text("range").split("-").map((part) => Number(part || NaN) * 1e6);
  const filters: Filter[] = [];
  for (const [op, value] of parts) {
    const match = /^(function|module|kind)\.(\d{1,9})$/.exec(value);
    if (match && (op === "focus" || op === "hide")) {
      filters.push({ op, what: match[1] as Filter["what"], value: Number(match[2]) });
    }
  }
  const [sort, order] = text("sort").split(".");
  return {
    view: VIEWS.find((view) => view === text("view")) ?? START.view,
    process: /^[cp]\d{1,9}$/.test(text("process")) ? text("process") : "",
    thread: /^[ct]\d{1,9}$/.test(text("thread")) ? text("thread") : "",
    range: range.length === 2 && range[0]! < range[1]! ? [range[0]!, range[1]!] : null,
    search: text("search"),
    filters,
    byProcess: text("grouped") !== "no",
    collapse: text("collapse") === "yes",
    upward: text("root") !== "top",
    path: text("zoom").split(".").map(natural).filter((symbol) => symbol !== null),
    symbol: natural(text("function")) ?? -1,
    sort: COLUMNS.find((column) => column === sort) ?? START.sort,
    ascending: order === "up",
    strip: text("strip") === "cpu" ? "cpu" : "process",
  };
}
