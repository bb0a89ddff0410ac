// The table of functions, sortable; only the rows that can be seen exist.

import { changeFill } from "./colour";
import { bar, el, swatch } from "./dom";
import type { Column } from "./state";
import { amount, base, figureOf, share, shown, tail } from "./text";
import { symbolFacts } from "./facts";
import type { Weighed } from "./tree";

const ROW_PX = 23;
/** Lines of a function that are listed. */
const MAX_LINES = 200;

const COLUMNS: { column: Column; title: string; hint: string }[] = [
  { column: "self", title: "Self", hint: "samples in the function itself" },
  { column: "total", title: "Total", hint: "samples in it and in what it calls; recursion counts once" },
  { column: "name", title: "Function", hint: "" },
  { column: "kind", title: "Kind", hint: "" },
  { column: "file", title: "File", hint: "" },
  { column: "module", title: "Module", hint: "" },
];

export interface TableEvents {
  sort(column: Column): void;
  select(symbol: number): void;
  open(symbol: number): void;
  menu(symbol: number, x: number, y: number): void;
}

export class Table {
  readonly element: HTMLElement;
  readonly scroller: HTMLElement;
  private readonly head = el("div", { class: "row head", role: "row" });
  private readonly body = el("div", { class: "rows" });
  private readonly detail = el("aside", { class: "detail", "aria-label": "the chosen function" });
  private weighed: Weighed | null = null;
  private rows: number[] = [];
  private chosen = -1;
  dark = false;
  private texts: { module: (s: number) => string; file: (s: number) => string; kind: (s: number) => string } | null = null;

  constructor(
    /** Without the columns of files and modules. */
    bare: boolean,
    private readonly events: TableEvents,
  ) {
    this.scroller = el("div", { class: "scroller", tabindex: "0", role: "grid", "aria-label": "functions" },
      this.head, this.body);
    this.element = el("div", { class: bare ? "table bare" : "table" }, this.scroller, this.detail);
    this.scroller.addEventListener("scroll", () => this.fill());
    new ResizeObserver(() => this.fill()).observe(this.scroller);
    this.scroller.addEventListener("keydown", (event) => {
      if (!this.key(event)) return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  /** Keys of the table itself; true if the key was one. */
  key(event: KeyboardEvent): boolean {
    const at = this.rows.indexOf(this.chosen);
    const go = (to: number) => {
      const row = Math.max(0, Math.min(this.rows.length - 1, to));
      if (this.rows[row] === undefined) return;
      this.events.select(this.rows[row]);
      const top = row * ROW_PX;
      const { scrollTop, clientHeight } = this.scroller;
      if (top < scrollTop) this.scroller.scrollTop = top;
      else if (top + 2 * ROW_PX > scrollTop + clientHeight) this.scroller.scrollTop = top + 2 * ROW_PX - clientHeight;
    };
    const page = Math.floor(this.scroller.clientHeight / ROW_PX) - 1;
    switch (event.key) {
      case "ArrowDown": go(at + 1); return true;
      case "ArrowUp": go(at - 1); return true;
      case "PageDown": go(at + page); return true;
      case "PageUp": go(at - page); return true;
      case "Home": go(0); return true;
      case "End": go(this.rows.length - 1); return true;
      case "Enter": if (at >= 0) this.events.open(this.chosen); return at >= 0;
      case "ContextMenu": case "m": {
        if (at < 0) return false;
        const edge = this.body.getBoundingClientRect();
        this.events.menu(this.chosen, edge.left + 180, edge.top + (at + 1) * ROW_PX);
        return true;
      }
      default: return false;
    }
  }

  show(weighed: Weighed, mask: Uint8Array | null, sort: Column, ascending: boolean, chosen: number): void {
    this.weighed = weighed;
    const { symbols } = weighed.tree;
    const { functions, modules, strings, meta } = symbols.profile;
    const functionOf = (s: number) => symbols.functions[s]!;
    const texts = {
      module: (s: number) => strings.get(modules.path[functions.module[functionOf(s)]!]!),
      file: (s: number) => strings.get(functions.file[functionOf(s)]!),
      kind: (s: number) => meta.kinds[functions.kind[functionOf(s)]!]!,
    };
    this.texts = texts;
    const { self, total } = weighed.bySymbol();
    this.rows = [];
    for (let s = 0; s < symbols.functions.length; s++) {
      if (total[s]! > 0 && (mask === null || mask[s] === 1)) this.rows.push(s);
    }
    const sign = ascending ? -1 : 1;
    const { changes } = weighed;
    if (changes !== null && (sort === "self" || sort === "total")) {
      // What changed beyond noise first, the largest change first.
      const key = new Map(this.rows.map((s) => {
        const change = changes.symbol(s, sort === "self");
        const [before, after] = changes.shares(change);
        return [s, Math.abs(after - before) + (change.real ? 1 : 0)];
      }));
      this.rows.sort((a, b) => sign * (key.get(b)! - key.get(a)!) || a - b);
    } else if (sort === "self" || sort === "total") {
      const [first, second] = sort === "self" ? [self, total] : [total, self];
      this.rows.sort((a, b) => sign * (first[b]! - first[a]! || second[b]! - second[a]!) || a - b);
    } else {
      const text = sort === "name" ? (s: number) => symbols.text(s) : texts[sort];
      const key = new Map(this.rows.map((s) => [s, text(s)]));
      this.rows.sort((a, b) => {
        const x = key.get(a)!;
        const y = key.get(b)!;
        return x === y ? total[b]! - total[a]! : sign * (x < y ? -1 : 1);
      });
    }
    this.head.replaceChildren(...COLUMNS.map(({ column, title, hint }) => el("button", {
      class: `cell ${column}`, role: "columnheader", title: hint,
      "aria-sort": column !== sort ? "none" : ascending ? "ascending" : "descending",
      click: () => this.events.sort(column),
    }, title, changes !== null && (column === "self" || column === "total") ? el("span", { class: "quiet" }, " points") : null,
    column === sort ? el("span", { class: "caret" }, ascending !== (sort === "self" || sort === "total") ? "▼" : "▲") : null)));
    this.chosen = chosen;
    this.body.style.height = `${this.rows.length * ROW_PX}px`;
    this.fill();
    this.fillDetail();
  }

  choose(symbol: number): void {
    this.chosen = symbol;
    this.fill();
    this.fillDetail();
  }

  private fill(): void {
    const { weighed, texts } = this;
    if (weighed === null || texts === null) return;
    const { symbols } = weighed.tree;
    const { self, total } = weighed.bySymbol();
    // Bars are of the column's longest, so that they tell rows apart.
    const n = symbols.functions.length;
    const most = { self: maximum(self.subarray(0, n)), total: maximum(total.subarray(0, n)) };
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / ROW_PX) - 4);
    const last = Math.min(this.rows.length, first + Math.ceil(this.scroller.clientHeight / ROW_PX) + 8);
    const items: HTMLElement[] = [];
    for (let i = first; i < last; i++) {
      const s = this.rows[i]!;
      const row = el("div", {
        class: s === this.chosen ? "row chosen" : "row", role: "row", "aria-rowindex": String(i + 1),
        "aria-selected": String(s === this.chosen),
        click: () => this.events.select(s),
        dblclick: () => this.events.open(s),
        contextmenu: (event: MouseEvent) => {
          event.preventDefault();
          this.events.select(s);
          this.events.menu(s, event.clientX, event.clientY);
        },
      },
      ...([["self", self], ["total", total]] as const).map(([name, weights]) => {
        const { changes } = weighed;
        const shown = el("span", { class: `cell ${name}` }, bar(weights[s]! / Math.max(most[name], 1e-9)));
        if (changes === null) {
          shown.append(el("span", {}, share(weights[s]!, weighed.sum)), el("span", { class: "quiet" }, figureOf(weights[s]!, weighed.tree.symbols.profile.meta)));
        } else {
          const change = changes.symbol(s, name === "self");
          const [before, after] = changes.shares(change);
          const points = 100 * (after - before);
          const text = el("span", { class: change.real ? "" : "quiet" }, `${points < 0 ? "−" : "+"}${Math.abs(points).toFixed(2)}`);
          shown.title = `${share(before, 1)} → ${share(after, 1)}, ${changes.verdict(change)}`;
          const square = el("i", { class: "swatch" });
          square.style.background = changeFill(changes.level(change), this.dark);
          shown.append(text, square);
        }
        return shown;
      }),
      el("bdi", { class: "cell name", title: shown(symbols.text(s)) }, shown(symbols.text(s)) || "(no name)"),
      el("span", { class: "cell kind" }, swatch(texts.kind(s), this.dark), texts.kind(s)),
      el("bdi", { class: "cell file", title: shown(texts.file(s)) }, shown(tail(texts.file(s)))),
      el("bdi", { class: "cell module", title: shown(texts.module(s)) }, shown(base(texts.module(s)))));
      row.style.top = `${i * ROW_PX}px`;
      items.push(row);
    }
    this.body.replaceChildren(...items);
  }

  private fillDetail(): void {
    const { weighed, chosen } = this;
    const known = weighed !== null && chosen >= 0 && chosen < weighed.tree.symbols.functions.length;
    this.detail.hidden = !known;
    if (!known) return;
    const { symbols } = weighed.tree;
    const { functions, modules, strings } = symbols.profile;
    const f = symbols.functions[chosen]!;
    const facts = symbolFacts(weighed, chosen);
    const { self, total } = weighed.bySymbol();
    const system = strings.get(functions.systemName[f]!);
    const fact = (name: string, ...values: (Node | string)[]) =>
      [el("dt", {}, name), el("dd", {}, ...values)];
    const list = facts.modules.length > 0 ? facts.modules : [functions.module[f]!];
    this.detail.replaceChildren(
      el("h2", {}, el("bdi", {}, shown(symbols.text(chosen)))),
      el("p", {},
        el("button", { class: "small", click: () => this.events.open(chosen) }, "Callers and callees")),
      el("dl", {},
        ...([["Own", self], ["Total", total]] as const).flatMap(([name, weights]) => {
          const { changes } = weighed;
          if (changes === null) return fact(name, `${share(weights[chosen]!, weighed.sum)} · ${amount(weights[chosen]!, weighed.tree.symbols.profile.meta)}`);
          const change = changes.symbol(chosen, name === "Own");
          const [before, after] = changes.shares(change);
          return fact(name, `${share(before, 1)} → ${share(after, 1)}, ${changes.text(change)}, ${changes.verdict(change)}`);
        }),
        ...(functions.file[f] ? fact("File", el("bdi", {}, shown(strings.get(functions.file[f]!)))) : []),
        ...(system ? fact("Symbol", el("bdi", {}, shown(system))) : []),
        ...list.filter((m) => modules.path[m] !== 0).flatMap((m) => [
          ...fact("Module", el("bdi", {}, shown(strings.get(modules.path[m]!)))),
          ...(modules.buildId[m] ? fact("Build id", el("code", {}, shown(strings.get(modules.buildId[m]!)))) : []),
        ])),
      // A line's samples are not told apart by side.
      ...(weighed.changes === null && facts.lines.some(({ line }) => line > 0) ? [el("table", { class: "lines" },
        el("thead", {}, el("tr", {}, el("th", {}, "Line"), el("th", {}, "Self"), el("th", {}, "Total"))),
        el("tbody", {}, ...facts.lines.slice(0, MAX_LINES).map(({ line, self, total }) => el("tr", {},
          el("td", {}, line > 0 ? String(line) : "?"),
          el("td", {}, share(self, weighed.sum)),
          el("td", {}, share(total, weighed.sum))))))] : []));
  }

  get names(): string[] {
    return this.rows.map((s) => this.weighed!.tree.symbols.text(s));
  }
}

function maximum(values: Float64Array): number {
  return values.reduce((most, value) => Math.max(most, value), 0);
}
