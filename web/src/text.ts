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
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; n >= 1024 && unit < units.length - 1; unit++) n /= 1024;
  return `${Number(n.toPrecision(3))}\u202f${units[unit]}`;
}

/** The last part of a path. */
export function base(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1) || path;
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
