// How names and numbers are shown.

/** Control and direction-changing characters as visible escapes; all else as it is. */
export function shown(text: string): string {
  return text.replace(
    /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]/gu,
    (c) => `\\u{${c.codePointAt(0)!.toString(16)}}`,
  );
}

/** A count with thin spaces between groups of three. */
export function count(n: number): string {
  return Math.round(n).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** A share in per cent with three significant digits at most. */
export function share(part: number, whole: number): string {
  if (!(whole > 0)) return "0\u202f%";
  const percent = (100 * part) / whole;
  if (percent === 0) return "0\u202f%";
  if (percent < 0.01) return "<\u202f0.01\u202f%";
  return `${percent.toFixed(percent >= 99.95 ? 0 : percent >= 10 ? 1 : 2)}\u202f%`;
}

/** A time with its unit, three significant digits. */
export function duration(ns: number): string {
  const units: [string, number][] = [["s", 1e9], ["ms", 1e6], ["µs", 1e3], ["ns", 1]];
  const [unit, scale] = units.find(([, scale]) => ns >= scale) ?? ["ns", 1];
  const value = ns / scale;
  return `${value >= 1000 ? count(value) : Number(value.toPrecision(3))}\u202f${unit}`;
}

/** Bytes with a binary unit. */
export function bytes(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  for (; n >= 1024 && unit < units.length - 1; unit++) n /= 1024;
  return `${Number(n.toPrecision(3))}\u202f${units[unit]}`;
}

/** What weights are sums of, and its unit, as a profile's meta has them; "" for samples. */
export interface ValueType {
  value_type: string;
  value_unit: string;
}

/** A weight where what it is stands beside it. */
export function figureOf(n: number, { value_unit }: ValueType): string {
  const time = ["nanoseconds", "microseconds", "milliseconds", "seconds"].indexOf(value_unit);
  if (time >= 0) return duration(n * 1000 ** time);
  const memory = ["bytes", "kilobytes", "megabytes", "gigabytes"].indexOf(value_unit);
  return memory >= 0 ? bytes(n * 1024 ** memory) : value_unit === "" || value_unit === "count" ? count(n) : `${count(n)} ${shown(value_unit)}`;
}

/** A weight and what it is. */
export function amount(n: number, what: ValueType): string {
  const { value_type } = what;
  return `${figureOf(n, what)} ${value_type === "" ? `sample${n === 1 ? "" : "s"}` : shown(value_type)}`;
}

/** The last part of a path. */
export function base(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1) || path;
}

/** The last two parts of a path, which tell files apart. */
export function tail(path: string): string {
  const parts = path.split("/");
  return parts.length <= 3 ? path : `…/${parts.slice(-2).join("/")}`;
}

/** What matches a search, `/expression/` for a regular one; lower case matches any case. */
export function matcher(query: string): ((text: string) => boolean) | Error {
  const regular = /^\/(.+?)\/?$/.exec(query);
  const any = query === query.toLowerCase();
  if (regular === null) {
    const wanted = any ? query.toLowerCase() : query;
    return (text) => (any ? text.toLowerCase() : text).includes(wanted);
  }
  try {
    const expression = new RegExp(regular[1]!, any ? "iu" : "u");
    return (text) => expression.test(text);
  } catch (error) {
    return error as Error;
  }
}

/** Names longer than this have no shorter forms, and types nested deeper none of their own. */
const MAX_PARSED = 4096;
const MAX_NESTED = 3;

/**
 * Ever shorter forms of a function's name: without its arguments, without those of its types,
 * without its outermost qualifiers, one after the other. `dotted`: dots and slashes qualify too,
 * as in Java and Go; in C they are part of a name (`copy.part.0`).
 */
export function shorter(name: string, dotted: boolean, nested = 0): string[] {
  if (name.length > MAX_PARSED) return [];
  let depth = 0;
  let end = name.length;
  const cuts: number[] = [];
  // `<T as Trait>` at the start, and the arguments of types.
  let self = 0;
  const types: [start: number, end: number][] = [];
  for (let i = 0, open = 0; i < name.length; i++) {
    const c = name[i]!;
    if ("(<[{".includes(c)) {
      // Arguments follow the last name; a bracket at its start is part of it.
      if (depth === 0 && c === "(" && i > (cuts.at(-1) ?? 0) && end === name.length) end = i;
      if (depth++ === 0) open = i;
    } else if (")>]}".includes(c)) {
      if (c === ">" && name[i - 1] === "-") continue;
      // Brackets that do not pair (operator<) say that this is no plain name.
      if (--depth < 0) return [];
      if (depth === 0 && c === ">" && open === 0 && name.startsWith("::", i + 1)) self = i;
      else if (depth === 0 && c === ">" && open > 0) types.push([open + 1, i]);
    } else if (depth === 0 && c === ":" && name[i + 1] === ":") {
      cuts.push(i + 2);
      end = name.length;
      i++;
    } else if (depth === 0 && dotted && (c === "." || c === "/") && i + 1 < name.length) {
      // Dots before a slash are a host's: github.com/….
      if (c === "/") cuts.splice(0, cuts.length, ...cuts.filter((cut) => name[cut - 1] !== "."));
      cuts.push(i + 1);
      end = name.length;
    }
  }
  if (depth !== 0) return [];
  const forms = new Set<string>();
  const part = (from: number, before = "") => {
    forms.add(before + name.slice(from, end));
    let text = before;
    for (const [start, stop] of types) {
      if (start < from || stop > end) continue;
      text += `${name.slice(from, start)}…`;
      from = stop;
    }
    forms.add(text + name.slice(from, end));
  };
  part(0);
  if (self > 0 && nested < MAX_NESTED) {
    const type = name.slice(1, self).split(" as ")[0]!;
    part(self + 1, shorter(type, dotted, nested + 1).at(-1) ?? type);
  }
  for (const cut of cuts) {
    // What a closure is of says more than that it is one.
    if (cut < end && !/[{<(]/.test(name[cut]!)) part(cut);
  }
  return [...forms].filter((form) => form.length < name.length).sort((a, b) => b.length - a.length);
}
