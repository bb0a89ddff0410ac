// What the tooltip says of the box under the pointer: names, places, and its shares of what is selected.

import { REASONS } from "./books";
import type { Changes } from "./change";
import { el, swatch } from "./dom";
import { nodeFacts } from "./facts";
import type { Flame } from "./flame";
import type { Profile } from "./payload";
import { amount, duration, figureOf, share, shown } from "./text";
import type { Symbols, ViewNode, Weighed } from "./tree";

/** A box, and what is asked of it. */
export interface Pointed {
  profile: Profile;
  symbols: Symbols;
  weighed: Weighed;
  flame: Flame;
  node: ViewNode;
  /** Callees lie beyond the box, not callers: its own share and its caller's say something. */
  down: boolean;
  dark: boolean;
}

export function tipContent(of: Pointed): HTMLElement[] {
  const { profile, symbols, weighed, flame, node, down, dark } = of;
  const { functions, modules, strings, meta } = profile;
  const time = (weight: number) => (meta.period_ns > 0 ? ` · ${duration(weight * meta.period_ns)}` : "");
  const line = (name: string, ...value: (Node | string | null)[]) => el("div", { class: "tip-line" },
    el("span", { class: "quiet" }, name), el("span", {}, ...value));
  const weight = (name: string, value: number) => line(name,
    el("b", {}, share(value, weighed.sum)), ` · ${amount(value, meta)}${time(value)}`);
  if (weighed.changes !== null) return changeContent(weighed.changes, of, line);
  const parent = node.parent !== null && node.parent.parent !== null ? node.parent.value : 0;
  const ofParent = parent > 0 ? [line("Of caller", share(node.value, parent))] : [];
  const { symbol } = node;
  if (symbol < 0) {
    return [el("div", { class: "tip-name" }, "all"), weight("Total", node.value)];
  }
  const name = el("div", { class: "tip-name" }, swatch(symbols.kindName(symbol), dark),
    el("bdi", {}, shown(symbols.text(symbol)) || "(no name)"));
  const inView = down
    ? [weight("Total", node.value), weight("Own", flame.own(node)), ...ofParent]
    : [weight("Here", node.value)];
  if (symbols.isCut(symbol)) {
    const [meaning, mend] = REASONS[meta.cuts[symbols.name[symbol]!]!] ?? ["", ""];
    return [name, line("Meaning", `what follows lacks its callers: ${meaning}`), line("Mend", mend), ...inView];
  }
  if (symbols.isLabel(symbol)) return [name, line("Process", ""), ...inView];
  const facts = nodeFacts(weighed, node);
  const f = symbols.functions[symbol]!;
  const { self, total } = weighed.bySymbol();
  const flags = [facts.inlined ? "inlined" : "", facts.heuristic ? "found by a heuristic" : "", facts.unnamed ? "no symbol" : ""]
    .filter((flag) => flag !== "").join(", ");
  const file = strings.get(functions.file[f]!);
  const lines = facts.lines.filter(({ line }) => line > 0);
  const where = lines.slice(0, 3).map((fact) => {
    const part = down && lines.length > 1 ? ` (${share(fact.total, node.value)})` : "";
    return `${fact.line}${part}`;
  }).join(", ") + (lines.length > 3 ? ", …" : "");
  const module = facts.modules[0] ?? functions.module[f]!;
  const buildId = modules.n > module ? strings.get(modules.buildId[module]!) : "";
  const path = modules.n > module ? strings.get(modules.path[module]!) : "";
  return [
    name,
    ...(file !== "" ? [line("File", el("bdi", { class: "path" }, `${shown(file)}${where === "" ? "" : `:${where}`}`))] : []),
    ...(path !== "" ? [line("Module", el("bdi", { class: "path" }, shown(path)))] : []),
    ...(buildId !== "" ? [line("Build id", el("code", {}, shown(buildId)))] : []),
    line("Kind", symbols.kindName(symbol), flags === "" ? "" : `, ${flags}`),
    ...inView,
    line("Function", `total ${share(total[symbol]!, weighed.sum)}, own ${share(self[symbol]!, weighed.sum)}`),
  ];
}

function changeContent(
  changes: Changes, { profile, symbols, flame, node }: Pointed,
  line: (name: string, ...value: (Node | string | null)[]) => HTMLElement,
): HTMLElement[] {
  const { functions, modules, strings, meta } = profile;
  const { symbol } = node;
  const change = changes.of(flame.view!, node);
  const weight = (name: string, value: number, sum: number) =>
    line(name, el("b", {}, share(value, sum)), ` · ${figureOf(value, meta)} of ${amount(sum, meta)}`);
  const whole = symbol < 0;
  const f = whole || symbols.isLabel(symbol) ? null : symbols.functions[symbol]!;
  const path = f === null || functions.module[f]! >= modules.n ? "" : strings.get(modules.path[functions.module[f]!]!);
  const file = f === null ? "" : strings.get(functions.file[f]!);
  return [
    el("div", { class: "tip-name" }, el("bdi", {}, whole ? "all" : shown(symbols.text(symbol)) || "(no name)")),
    ...(file !== "" ? [line("File", el("bdi", { class: "path" }, shown(file)))] : []),
    ...(path !== "" ? [line("Module", el("bdi", { class: "path" }, shown(path)))] : []),
    weight("Before", change.before, changes.sums[0]),
    weight("After", change.after, changes.sums[1]),
    ...(whole ? [] : [line("Change", el("b", {}, changes.text(change)), ` · ${changes.verdict(change)}`)]),
  ];
}
