// The page: opens the payload, keeps the state, and lets the views show it.

import { books } from "./books";
import { functionChoices, processChoices, processLabel, threadChoices, threadLabel } from "./choices";
import { Chooser } from "./chooser";
import { el, place, swatch } from "./dom";
import { download, folded, svg } from "./export";
import { Flame } from "./flame";
import { lacks, lacksText, type Lacks } from "./lacks";
import { readPayload, unpack, type Profile } from "./payload";
import { chosenSamples, chosenThreads, hidden, meant, searchMask } from "./selection";
import { fromFragment, START, toFragment, VIEWS, type Filter, type State, type View } from "./state";
import { Strip } from "./strip";
import { Table } from "./table";
import { changeFill } from "./colour";
import { amount, base, count, duration, figureOf, matcher, share, shown } from "./text";
import { tipContent } from "./tip";
import { CallTree, Symbols, ViewTree, Weighed, type ViewNode } from "./tree";

const TITLES: Record<View, string> = {
  flame: "Flame graph", callers: "Callers", sandwich: "Sandwich", table: "Table", books: "Books",
};
const HINTS: Record<View, string> = {
  flame: "who calls what, callers at the root",
  callers: "functions by their own share, their callers behind them",
  sandwich: "one function: all its callers, all its callees",
  table: "all functions, sortable",
  books: "what is whole, what is cut and why, what it cost",
};
const KEYS: [string, string][] = [
  ["1 – 5", "flame graph, callers, sandwich, table, books"],
  ["/", "search; text, or /regular expression/; module: file: kind: before it look there"],
  ["n  N", "next, previous match"],
  ["← → ↑ ↓", "go from box to box, row to row"],
  ["Enter", "zoom to the box; open the row's sandwich"],
  ["Backspace  Home", "zoom out one step, all the way"],
  ["+  −", "zoom by width; also Ctrl + wheel"],
  ["m", "menu of the box: focus, hide, sandwich; also right click"],
  ["p  t  f", "choose a process, a thread, a function for the sandwich"],
  ["g  r  u", "group by process, collapse recursion, root up or down"],
  ["d", "dark or light"],
  ["Esc", "close, clear the search, then zoom out"],
];

class Page {
  private state: State = fromFragment(location.hash);
  private readonly symbols: Symbols;
  private readonly lacks: Lacks;
  private tree: CallTree | null = null;
  private weighed: Weighed | null = null;
  private views = new Map<string, ViewTree>();
  private structureKey = "";
  private weighKey = "";
  private mask: Uint8Array | null = null;
  private matchAt = -1;
  private dark = false;

  private readonly main = el("main");
  private readonly tabs = new Map<View, HTMLButtonElement>();
  private readonly search: HTMLInputElement;
  private readonly matched = el("output", { class: "matched" });
  private readonly options = new Map<"byProcess" | "collapse" | "upward", HTMLButtonElement>();
  private readonly chips = el("div", { class: "chips" });
  private readonly totals = el("div", { class: "totals" });
  private readonly legend = el("div", { class: "legend", "aria-label": "kinds" });
  private readonly status = el("div", { class: "status", role: "status", "aria-live": "polite" });
  private readonly tip = el("div", { class: "tip", role: "tooltip", hidden: true });
  private readonly menu = el("div", { class: "popover menu", popover: "auto", role: "menu" });
  private readonly help = el("div", { class: "popover help", popover: "auto" });
  private readonly processes: Chooser;
  private readonly threads: Chooser;
  private readonly functions: Chooser;
  private readonly strip: Strip;
  private readonly table: Table;
  private readonly flames: { flame: Flame; callers: Flame; above: Flame; below: Flame };
  private readonly sandwich: { element: HTMLElement; head: HTMLElement };
  private tipTimer = 0;

  constructor(
    private readonly profile: Profile,
    root: HTMLElement,
  ) {
    this.symbols = new Symbols(profile);
    this.lacks = lacks(profile);
    this.search = el("input", {
      type: "search", placeholder: "Search functions  /", "aria-label": "search functions", spellcheck: "false",
      input: () => this.set({ search: this.search.value }, "replace"),
      keydown: (event: KeyboardEvent) => {
        if (event.key === "Enter") this.nextMatch(event.shiftKey ? -1 : 1);
        else if (event.key === "Escape") {
          this.set({ search: "" });
          this.search.blur();
        } else return;
        event.preventDefault();
        event.stopPropagation();
      },
    });
    this.processes = new Chooser("process", () => processChoices(profile, this.state.range), (process) =>
      this.set({ process, thread: "", path: [] }));
    this.threads = new Chooser("thread", () => threadChoices(profile, this.state.process, this.state.range), (thread) => this.set({ thread, path: [] }));
    this.functions = new Chooser("function", () => functionChoices(profile, this.symbols, this.weighed!), (symbol) =>
      this.set({ view: "sandwich", symbol: Number(symbol), path: [] }));
    this.strip = new Strip(profile, (range) => this.set({ range, path: [] }), (strip) => this.set({ strip }));
    this.table = new Table(this.lacks.places, {
      sort: (sort) => {
        const { state } = this;
        this.set({ sort, ascending: state.sort === sort ? !state.ascending : false });
      },
      select: (symbol) => {
        this.state.symbol = symbol;
        this.table.choose(symbol);
        this.remember("replace");
      },
      open: (symbol) => this.set({ view: "sandwich", symbol, path: [] }),
      menu: (symbol, x, y) => this.openMenu(symbol, x, y),
    });
    const flame = (upward: boolean, label: string) => {
      const made: Flame = new Flame(upward, label, {
        hover: (node, x, y) => this.hover(made, node, x, y),
        select: (node) => this.describe(made, node),
        zoom: () => {
          if (made === this.flames.flame || made === this.flames.callers) {
            this.state.path = made.path;
            this.remember("replace");
          }
        },
        menu: (node, x, y) => this.openMenu(node.symbol, x, y),
      });
      return made;
    };
    this.flames = {
      flame: flame(true, "flame graph"),
      callers: flame(false, "callers"),
      above: flame(true, "callers of the function"),
      below: flame(false, "callees of the function"),
    };
    const head = el("div", { class: "sandwich-head" });
    this.sandwich = {
      head,
      element: el("div", { class: "sandwich" }, head,
        el("h3", {}, "Callers"), this.flames.above.element, el("h3", {}, "Callees"), this.flames.below.element),
    };
    this.build(root);
    this.theme(localTheme() ?? matchMedia("(prefers-color-scheme: dark)").matches);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
      if (localTheme() === null) this.theme(event.matches);
    });
    addEventListener("hashchange", () => {
      if (location.hash.slice(1) !== toFragment(this.state)) {
        this.state = fromFragment(location.hash);
        this.render();
      }
    });
    addEventListener("keydown", (event) => this.key(event));
    this.render();
  }

  /** Changes the state, the address and what is shown. */
  set(change: Partial<State>, history: "push" | "replace" = "push"): void {
    this.state = { ...this.state, ...change };
    this.remember(history);
    this.render();
  }

  private remember(history: "push" | "replace"): void {
    const fragment = toFragment(this.state);
    if (fragment === location.hash.slice(1)) return;
    const address = fragment === "" ? location.pathname + location.search : `#${fragment}`;
    try {
      if (history === "push") window.history.pushState(null, "", address);
      else window.history.replaceState(null, "", address);
    } catch {
      // A page without an address of its own (about:srcdoc, a limit on changes) keeps none.
    }
  }

  // -------------------------------------------------------------------------------------------
  // The frame of the page

  private build(root: HTMLElement): void {
    const { meta, samples } = this.profile;
    const fact = (text: string, title = "") => text === "" ? null : el("span", { class: "fact", title }, el("bdi", {}, text));
    const began = meta.start_unix_ns > 0
      ? new Date(meta.start_unix_ns / 1e6).toISOString().replace("T", " ").replace(/:\d\d\.\d+Z/, " UTC") : "";
    const { comparison } = this.profile;
    const sides = comparison === null ? "" : `${comparison.before.name} → ${comparison.after.name}`;
    document.title = (comparison === null ? [meta.host, began, "hotframe"] : [sides, "hotframe"]).filter((part) => part !== "").map(shown).join(" · ");
    const option = (key: "byProcess" | "collapse" | "upward", text: string, title: string) => {
      const button = el("button", {
        class: "toggle", title, click: () => this.set({ [key]: !this.state[key], path: [] }),
      }, text);
      this.options.set(key, button);
      return button;
    };
    const tab = (view: View, i: number) => {
      const button = el("button", {
        class: "tab", role: "tab", title: `${HINTS[view]} (${i + 1})`,
        click: () => this.set({ view, path: [] }),
      }, TITLES[view]);
      this.tabs.set(view, button);
      return button;
    };
    this.help.append(el("h2", {}, "Keys"), el("dl", {}, ...KEYS.flatMap(([keys, what]) =>
      [el("dt", {}, ...keys.split("  ").flatMap((key) => [el("kbd", {}, key), " "])), el("dd", {}, what)])));
    document.body.append(this.menu, this.help, this.tip);
    root.replaceChildren(
      el("header", {},
        el("strong", { class: "brand" }, "hotframe"),
        ...(comparison !== null ? [fact(shown(sides), "before → after")] : [
          fact(shown(meta.host), "host"), fact(began, "when the recording began"),
          fact(meta.duration_ns > 0 ? duration(meta.duration_ns) : "", "how long it took"),
          fact(meta.period_ns > 0 ? `${Math.round(1e9 / meta.period_ns)}\u202fHz` : "", "samples per second and CPU"),
          fact(meta.n_cpus > 0 ? `${meta.n_cpus} CPU${meta.n_cpus === 1 ? "" : "s"}` : ""),
          fact(shown(meta.command), "command"), fact(lacksText(this.lacks))]),
        this.totals,
        el("button", { class: "icon", title: "dark or light (d)", "aria-label": "dark or light", click: () => this.theme(!this.dark, true) }, "◐"),
        el("button", { class: "icon", title: "keys (?)", "aria-label": "keys", click: () => this.toggleHelp() }, "?")),
      el("nav", {},
        el("div", { class: "tabs", role: "tablist" }, ...VIEWS.filter((view) => this.has(view)).map(tab)),
        this.processes.button, this.lacks.threads ? "" : this.threads.button,
        el("div", { class: "search" }, this.search, this.matched,
          el("button", { class: "icon", title: "previous match (N)", "aria-label": "previous match", click: () => this.nextMatch(-1) }, "‹"),
          el("button", { class: "icon", title: "next match (n)", "aria-label": "next match", click: () => this.nextMatch(1) }, "›")),
        option("byProcess", "Processes", "first level: the processes (g)"),
        option("collapse", "Collapse", "draw recursion once (r)"),
        option("upward", "Root below", "the root at the bottom or at the top (u)"),
        el("button", { class: "toggle", title: "save this view", "aria-haspopup": "menu",
          click: (event: MouseEvent) => this.openExport(event.currentTarget as HTMLElement) }, "Save ▾")),
      samples.n > 0 && comparison === null && !this.lacks.times ? this.strip.element : "",
      this.chips, this.main,
      el("footer", {}, this.legend, this.status));
  }

  /** Whether the profile has what a view shows; two recordings have no books in common. */
  private has(view: View): boolean {
    return view !== "books" || (this.profile.comparison === null && !this.lacks.books);
  }

  private theme(dark: boolean, keep = false): void {
    this.dark = dark;
    document.documentElement.dataset["theme"] = dark ? "dark" : "light";
    if (keep) {
      try {
        localStorage.setItem("hotframe-theme", dark ? "dark" : "light");
      } catch {
        // Storage can be switched off; the choice then lasts as long as the page.
      }
    }
    for (const flame of Object.values(this.flames)) {
      flame.dark = dark;
      flame.redraw();
    }
    this.table.dark = dark;
    if (this.weighed !== null) this.render();
    this.strip.redraw();
  }

  // -------------------------------------------------------------------------------------------
  // State → what is shown

  private model(): Weighed {
    const { state, symbols } = this;
    const filters = state.filters;
    const structureKey = JSON.stringify([state.byProcess, state.collapse, filters.filter(({ op }) => op === "hide")]);
    if (this.tree === null || structureKey !== this.structureKey) {
      this.structureKey = structureKey;
      this.weighKey = "";
      this.tree = new CallTree(symbols, {
        byProcess: state.byProcess, collapse: state.collapse, hidden: hidden(symbols, filters),
      });
    }
    const focus = filters.filter(({ op }) => op === "focus");
    const weighKey = JSON.stringify([state.process, state.thread, state.range, focus]);
    if (this.weighed === null || weighKey !== this.weighKey) {
      this.weighKey = weighKey;
      this.weighed = new Weighed(this.tree, chosenSamples(this.profile, state), focus.map((filter) => meant(symbols, filter)));
      this.views.clear();
    }
    return this.weighed;
  }

  private view(key: string, make: () => ViewTree): ViewTree {
    let tree = this.views.get(key);
    if (tree === undefined) this.views.set(key, (tree = make()));
    return tree;
  }

  private render(): void {
    const { state } = this;
    if (!this.has(state.view)) state.view = "flame";
    // The two began at different times: a range of one says nothing of the other.
    if (this.profile.comparison !== null) state.range = null;
    const weighed = this.model();
    this.hideTip();
    this.showSearch(weighed);
    document.documentElement.dataset["view"] = state.view;
    for (const [view, button] of this.tabs) button.setAttribute("aria-selected", String(view === state.view));
    for (const [key, button] of this.options) button.setAttribute("aria-pressed", String(state[key]));
    this.processes.show(state.process, processLabel(this.profile, state.process));
    this.threads.show(state.thread, threadLabel(this.profile, state.thread));
    this.strip.show(state.strip, state.range, chosenThreads(this.profile, state.process, state.thread));
    this.showTotals(weighed);
    this.showChips();
    this.showLegend(weighed);
    this.flames.flame.upward = state.upward;
    this.status.textContent = "";

    const shows = (element: HTMLElement) => {
      if (this.main.firstChild !== element) this.main.replaceChildren(element);
    };
    if (weighed.sum === 0 && state.view !== "books") {
      const none = this.profile.samples.n === 0;
      shows(el("div", { class: "empty" },
        el("p", {}, none
          ? "The recording has no samples: nothing that it was to look at was running when it looked."
          : "No sample is in this selection."),
        none ? null : el("button", { class: "small", click: () => this.set({ process: "", thread: "", range: null, filters: [], path: [] }) },
          "Show all samples")));
      return;
    }
    if (state.view === "flame" || state.view === "callers") {
      const flame = this.flames[state.view];
      shows(flame.element);
      flame.search(this.mask);
      flame.show(this.view(state.view, () => ViewTree[state.view as "flame" | "callers"](weighed)), state.path);
    } else if (state.view === "sandwich") {
      const { self, total } = weighed.bySymbol();
      if (!(state.symbol >= 0 && state.symbol < this.symbols.length)) {
        // A function where there is one: a process's name has no callers.
        const some = self.subarray(0, this.symbols.functions.length);
        state.symbol = some.reduce((most, weight, s) => (weight > some[most]! ? s : most), 0);
      }
      this.functions.show("", shown(this.symbols.text(state.symbol)) || "(no name)");
      const { symbol } = state;
      const { head, element } = this.sandwich;
      head.replaceChildren(
        swatch(this.kindOf(symbol), this.dark),
        this.functions.button,
        ...([["total ", total], [" own ", self]] as const).flatMap(([name, weights]) => {
          const change = weighed.changes?.symbol(symbol, weights === self);
          return [el("span", { class: "quiet" }, name), change === undefined
            ? share(weights[symbol]!, weighed.sum) : `${weighed.changes!.text(change)}${change.real ? "" : ", within noise"}`];
        }),
        el("span", { class: "quiet hint" }, "f: another function; right click or m on any box: its own sandwich"));
      shows(element);
      for (const [flame, direction] of [[this.flames.above, "up"], [this.flames.below, "down"]] as const) {
        flame.search(this.mask);
        flame.show(this.view(`${direction} ${symbol}`, () => ViewTree.around(weighed, symbol, direction)));
      }
    } else if (state.view === "table") {
      shows(this.table.element);
      this.table.show(weighed, this.mask, state.sort, state.ascending, state.symbol);
    } else {
      this.main.replaceChildren(books(this.profile, (process) => this.set({ process, view: "flame", path: [] })));
    }
  }

  private kindOf(symbol: number): string {
    return this.symbols.kindName(symbol);
  }

  private showTotals(weighed: Weighed): void {
    const { samples, meta } = this.profile;
    let whole = 0;
    for (let i = 0; i < samples.n; i++) {
      if ((weighed.selected === null || weighed.selected[i] === 1) && samples.cut[i] === 0) whole += samples.weight[i]!;
    }
    let all = 0;
    let selected = 0;
    for (let i = 0; i < samples.n; i++) {
      all += samples.weight[i]!;
      if (weighed.selected === null || weighed.selected[i] === 1) selected += samples.weight[i]!;
    }
    const figure = (value: string, what: string, kind = "") =>
      el("span", { class: `total-figure ${kind}` }, el("b", {}, value), ` ${what}`);
    if (weighed.changes !== null) {
      const [before, after] = weighed.changes.sums;
      this.totals.replaceChildren(
        figure(figureOf(before, meta), `${shown(meta.value_type) || "samples"} before`),
        figure(figureOf(after, meta), "after"));
      return;
    }
    this.totals.replaceChildren(
      figure(figureOf(weighed.sum, meta), `${weighed.sum === all ? "" : `of ${figureOf(all, meta)} `}${shown(meta.value_type) || "samples"}`),
      meta.period_ns > 0 ? figure(duration(weighed.sum * meta.period_ns), "CPU", "spare") : "",
      this.lacks.books ? "" : figure(share(whole, selected), "whole"),
      this.lostShare() < 0.005 ? "" : el("span", { class: "total-figure warning", title: "samples that the kernel took and that never arrived: see the books" },
        el("b", {}, share(this.lostShare(), 1)), " lost"));
  }

  /** Of the samples taken, the share that was lost on the way; 0 where the file does not say it. */
  private lostShare(): number {
    const stats = this.profile.stats as { samples_taken?: unknown; samples_lost?: unknown } | null;
    const taken = Number(stats?.samples_taken ?? 0);
    const lost = Object.values((stats?.samples_lost ?? {}) as Record<string, unknown>).reduce<number>((sum, n) => sum + (Number(n) || 0), 0);
    return taken > 0 ? lost / taken : 0;
  }

  private showSearch(weighed: Weighed): void {
    const { search } = this.state;
    if (this.search.value !== search) this.search.value = search;
    const mask = searchMask(this.symbols, search, matcher);
    this.search.setAttribute("aria-invalid", String(mask instanceof Error));
    this.matchAt = -1;
    if (mask instanceof Error) {
      this.mask = null;
      this.matched.textContent = "not a valid expression";
      return;
    }
    this.mask = mask;
    this.matched.textContent = mask === null ? "" : share(weighed.matches(mask).weight, weighed.sum);
    this.matched.title = "share of the samples whose stack has a match";
  }

  private showChips(): void {
    const { state } = this;
    const chip = (text: string, remove: () => void) => el("span", { class: "chip" }, el("bdi", {}, text),
      el("button", { "aria-label": `remove: ${text}`, click: remove }, "×"));
    const chips = state.filters.map((filter) => chip(`${filter.op} ${filter.what} ${this.filterName(filter)}`, () =>
      this.set({ filters: state.filters.filter((other) => other !== filter), path: [] })));
    if (state.range !== null) {
      chips.unshift(chip(`${duration(state.range[0])} – ${duration(state.range[1])}`, () => this.set({ range: null, path: [] })));
    }
    this.chips.replaceChildren(...chips);
    if (chips.length > 1) {
      this.chips.append(el("button", { class: "small", click: () => this.set({ filters: [], range: null, path: [] }) }, "Clear all"));
    }
  }

  private filterName({ what, value }: Filter): string {
    const { modules, strings, meta } = this.profile;
    if (what === "kind") return meta.kinds[value] ?? "?";
    if (what === "module") return value < modules.n ? shown(base(strings.get(modules.path[value]!))) || "(none)" : "?";
    return value < this.symbols.length ? shown(this.symbols.text(value)) : "?";
  }

  private showLegend(weighed: Weighed): void {
    if (this.profile.comparison !== null) {
      this.legend.replaceChildren(el("span", { class: "key quiet" }, "share of the samples"), ...([
        [-4, "only before"], [-2, "less"], [0, "within noise"], [2, "more"], [4, "only after"],
      ] as const).map(([level, text]) => {
        const square = el("i", { class: "swatch" });
        square.style.background = changeFill(level, this.dark);
        return el("span", { class: "key" }, square, text);
      }), el("span", { class: "key quiet", title: "if nothing had changed, any colour at all would appear in at most 1 of 20 comparisons" },
        "width: mean of both shares"));
      return;
    }
    const { kinds } = this.profile.meta;
    const own = new Float64Array(kinds.length + 2);
    for (let node = 1; node < weighed.tree.n; node++) {
      own[this.symbols.kind[weighed.tree.symbol[node]!]!]! += weighed.self[node]!;
    }
    const present = new Set(this.symbols.kind);
    const order = kinds.map((_, kind) => kind).filter((kind) => present.has(kind)).sort((a, b) => own[b]! - own[a]!);
    // What an interpreter runs is never where a sample ends: there the stacks that hold it count.
    const figure = (kind: number) => {
      if (own[kind]! > 0) return { text: share(own[kind]!, weighed.sum), what: "of the samples end in" };
      const mask = Uint8Array.from(this.symbols.kind, (of) => (of === kind ? 1 : 0));
      return { text: share(weighed.matches(mask).weight, weighed.sum), what: "of the samples, and no sample's end, are in" };
    };
    this.legend.replaceChildren(...order.map((kind) => ({ kind, ...figure(kind) })).map(({ kind, text, what }) => el("button", {
      class: "key", title: `${text} ${what} ${kinds[kind]} code`,
      click: (event: MouseEvent) => {
        const edge = (event.currentTarget as HTMLElement).getBoundingClientRect();
        this.openKind(kind, edge.left, edge.top);
      },
    }, swatch(kinds[kind]!, this.dark), kinds[kind]!, el("span", { class: "quiet" }, own[kind]! > 0 ? text : `in ${text}`))));
    const cut = Uint8Array.from(this.symbols.kind, (kind) => (kind === this.symbols.cutKind ? 1 : 0));
    const { weight } = weighed.matches(cut);
    if (weight > 0) {
      this.legend.append(el("button", {
        class: "key", title: `${share(weight, weighed.sum)} of the stacks lack their outermost callers; the books say why`,
        click: () => this.has("books") && this.set({ view: "books", path: [] }),
      }, swatch("cut", this.dark), "cut", el("span", { class: "quiet" }, share(weight, weighed.sum))));
    }
  }

  // -------------------------------------------------------------------------------------------
  // Tooltip, status line, menus

  private hover(flame: Flame, node: ViewNode | null, x: number, y: number): void {
    clearTimeout(this.tipTimer);
    if (node === null) {
      this.tip.hidden = true;
      return;
    }
    if (this.tip.dataset["for"] !== nodeKey(node)) {
      this.tip.hidden = true;
      // Facts of a node may take some milliseconds: only for a pointer that rests.
      this.tipTimer = window.setTimeout(() => {
        const { profile, symbols, dark } = this;
        const down = flame !== this.flames.callers && flame !== this.flames.above;
        this.tip.replaceChildren(...tipContent({ profile, symbols, weighed: this.weighed!, flame, node, down, dark }));
        this.tip.dataset["for"] = nodeKey(node);
        this.tip.hidden = false;
        place(this.tip, x + 14, y + 18);
      }, 30);
    } else {
      this.tip.hidden = false;
      place(this.tip, x + 14, y + 18);
    }
  }

  private hideTip(): void {
    clearTimeout(this.tipTimer);
    this.tip.hidden = true;
    delete this.tip.dataset["for"];
  }

  private describe(flame: Flame, node: ViewNode | null): void {
    const { changes } = this.weighed!;
    if (changes !== null && node !== null) {
      const change = changes.of(flame.view!, node);
      this.status.textContent = node.symbol < 0 ? "all"
        : `${shown(this.symbols.text(node.symbol))} · ${changes.text(change)} · ${changes.verdict(change)}`;
      return;
    }
    this.status.textContent = node === null ? ""
      : `${node.symbol < 0 ? "all" : shown(this.symbols.text(node.symbol))} · ` +
        `${share(node.value, this.weighed!.sum)} · ${amount(node.value, this.profile.meta)}`;
  }

  private showMenu(items: ([string, () => void] | null)[], x: number, y: number): void {
    this.hideTip();
    const close = (action: () => void) => () => {
      this.menu.hidePopover();
      action();
    };
    this.menu.replaceChildren(...items.map((item) => item === null ? el("hr")
      : el("button", { role: "menuitem", click: close(item[1]) }, el("bdi", {}, item[0]))));
    this.menu.showPopover();
    place(this.menu, x, y);
    this.menu.querySelector("button")?.focus();
    this.menu.onkeydown = (event) => {
      const buttons = [...this.menu.querySelectorAll("button")];
      const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
      if (event.key === "ArrowDown") buttons[(at + 1) % buttons.length]?.focus();
      else if (event.key === "ArrowUp") buttons[(at + buttons.length - 1) % buttons.length]?.focus();
      else if (event.key !== "Escape") return void event.stopPropagation();
      if (event.key !== "Escape") event.preventDefault();
      event.stopPropagation();
    };
  }

  private filterItems(filter: Omit<Filter, "op">, noun: string): [string, () => void][] {
    return (["focus", "hide"] as const).map((op) => [
      `${op === "focus" ? "Only stacks with" : "Hide"} ${noun}`,
      () => this.set({ filters: [...this.state.filters, { ...filter, op }], path: [] }),
    ]);
  }

  private openMenu(symbol: number, x: number, y: number): void {
    const short = (text: string) => (text.length > 48 ? `${text.slice(0, 47)}…` : text);
    const name = shown(this.symbols.text(symbol));
    const copy: [string, () => void] = ["Copy the name", () => void navigator.clipboard?.writeText(this.symbols.text(symbol))];
    if (this.symbols.isCut(symbol)) {
      this.showMenu([["Why stacks are cut (books)", () => this.set({ view: "books", path: [] })], copy], x, y);
      return;
    }
    if (this.symbols.isLabel(symbol)) {
      this.showMenu([
        [`Only ${short(name)}`, () => this.set({ process: `c${this.symbols.name[symbol]}`, thread: "", path: [] })], copy,
      ], x, y);
      return;
    }
    const { functions } = this.profile;
    const f = this.symbols.functions[symbol]!;
    const module = functions.module[f]!;
    const kind = functions.kind[f]!;
    this.showMenu([
      ["Callers and callees (sandwich)", () => this.set({ view: "sandwich", symbol, path: [] })],
      ["Show in the table", () => this.set({ view: "table", symbol, path: [] })],
      copy, null,
      ...this.filterItems({ what: "function", value: symbol }, short(name)), null,
      ...(module === 0 ? [] : [...this.filterItems({ what: "module", value: module },
        `module ${short(this.filterName({ op: "hide", what: "module", value: module }))}`), null]),
      ...this.filterItems({ what: "kind", value: kind }, `${this.profile.meta.kinds[kind]} frames`),
    ], x, y);
  }

  private openKind(kind: number, x: number, y: number): void {
    const name = this.profile.meta.kinds[kind]!;
    this.showMenu([
      [`Search ${name}`, () => this.set({ search: `kind:/^${name}$/` })],
      ...this.filterItems({ what: "kind", value: kind }, `${name} frames`),
    ], x, y);
  }

  private openExport(button: HTMLElement): void {
    const edge = button.getBoundingClientRect();
    const graph = this.graph();
    const name = `hotframe-${this.state.view}`;
    const items: ([string, () => void] | null)[] = [];
    if (graph !== null) {
      items.push(["This graph as SVG", () => download(`${name}.svg`, "image/svg+xml", this.svg()!)]);
    }
    items.push(["This selection as folded stacks", () => download(`${name}.folded`, "text/plain", this.folded())]);
    items.push(["Copy a link to this view", () => void navigator.clipboard?.writeText(location.href)]);
    this.showMenu(items, edge.left, edge.bottom + 4);
  }

  /** The graph that keys and exports mean. */
  private graph(): Flame | null {
    const { view } = this.state;
    if (view === "flame" || view === "callers") return this.flames[view];
    if (view !== "sandwich") return null;
    return document.activeElement === this.flames.above.canvas ? this.flames.above : this.flames.below;
  }

  svg(): string | null {
    const graph = this.graph();
    if (graph === null || graph.view === null) return null;
    const process = processLabel(this.profile, this.state.process);
    const title = [TITLES[this.state.view], process === "all" ? "" : process,
      amount(this.weighed!.sum, this.profile.meta)].filter((part) => part !== "").join(" · ");
    return svg(graph, graph.view, graph.canvas.clientWidth, title, this.dark);
  }

  folded(): string {
    const zoomed = this.state.view === "flame" ? this.flames.flame.zoomNode : null;
    return folded(this.weighed!, zoomed !== null && zoomed.parent !== null ? zoomed : null);
  }

  // -------------------------------------------------------------------------------------------
  // Keys

  /** The list of functions hangs on the sandwich, which is therefore shown. */
  private openFunctions(): void {
    if (this.weighed === null || this.weighed.sum === 0) return;
    if (this.state.view !== "sandwich") this.set({ view: "sandwich", path: [] });
    this.functions.open();
  }

  private toggleHelp(): void {
    if (this.help.togglePopover()) place(this.help, innerWidth / 2 - this.help.offsetWidth / 2, 70);
  }

  private nextMatch(step: 1 | -1): void {
    const { state } = this;
    if (this.mask === null) return;
    if (state.view === "flame") {
      // All matches, heaviest first, also those too narrow to be drawn.
      const { nodes } = this.weighed!.matches(this.mask);
      const { total, tree } = this.weighed!;
      nodes.sort((a, b) => total[b]! - total[a]! || a - b);
      if (nodes.length === 0) return;
      this.matchAt = (this.matchAt + step + nodes.length + (this.matchAt < 0 && step < 0 ? 1 : 0)) % nodes.length;
      const path: number[] = [];
      for (let node = nodes[this.matchAt]!; node > 0; node = tree.parent[node]!) path.push(tree.symbol[node]!);
      const flame = this.flames.flame;
      flame.goTo(flame.view!.follow(path.reverse()));
      this.status.textContent = `match ${this.matchAt + 1} of ${count(nodes.length)} · ${this.status.textContent}`;
      return;
    }
    const graph = this.graph();
    if (graph === null) return;
    const boxes = graph.matches.sort((a, b) => b.width - a.width || a.row - b.row);
    if (boxes.length === 0) return;
    this.matchAt = (this.matchAt + step + boxes.length + (this.matchAt < 0 && step < 0 ? 1 : 0)) % boxes.length;
    graph.select(boxes[this.matchAt]!.node);
  }

  private key(event: KeyboardEvent): void {
    const target = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey || target.matches("input, textarea, [popover] *")) return;
    // The browser closes what is open, and that is all that Esc does then.
    if (event.key === "Escape" && document.querySelector(":popover-open") !== null) return;
    const { state } = this;
    const onButton = target.matches("button, summary");
    const graph = this.graph();
    const view = VIEWS[Number(event.key) - 1];
    const actions: Record<string, () => unknown> = {
      "/": () => this.search.focus(),
      n: () => this.nextMatch(1),
      N: () => this.nextMatch(-1),
      p: () => this.processes.open(),
      t: () => this.lacks.threads || this.threads.open(),
      f: () => this.openFunctions(),
      g: () => this.set({ byProcess: !state.byProcess, path: [] }),
      r: () => this.set({ collapse: !state.collapse, path: [] }),
      u: () => this.set({ upward: !state.upward }),
      d: () => this.theme(!this.dark, true),
      "?": () => this.toggleHelp(),
    };
    // What a key does is not done behind the list of keys.
    if (event.key !== "?" && (view !== undefined || Object.hasOwn(actions, event.key))) this.help.hidePopover();
    if (view !== undefined) this.set({ view, path: [] });
    else if (event.key === "Escape") {
      if (state.search !== "") this.set({ search: "" });
      else if (graph?.root) graph.zoom(graph.root);
    } else if (Object.hasOwn(actions, event.key)) actions[event.key]!();
    else if (onButton && (event.key === "Enter" || event.key === " ")) return;
    else if (state.view === "table" ? !this.table.key(event) : !graph?.key(event)) return;
    event.preventDefault();
  }

  /** For tests: what is drawn, by name and place on the page. */
  inspect(): { name: string; x: number; y: number; width: number; depth: number; value: number }[] {
    const graph = this.graph();
    if (graph === null) return [];
    const edge = graph.canvas.getBoundingClientRect();
    return graph.drawn().map(({ node, x, width, row }) => ({
      name: node.symbol < 0 ? "all" : this.symbols.text(node.symbol),
      x: edge.left + x, y: edge.top + graph.top(row), width, depth: row, value: node.value,
    }));
  }

  get drawMs(): readonly number[] {
    return this.graph()?.drawMs ?? [];
  }

  get current(): Readonly<State> {
    return this.state;
  }

  get names(): string[] {
    return this.table.names;
  }
}

function nodeKey(node: ViewNode): string {
  return `${node.depth} ${node.start} ${node.symbol} ${node.value}`;
}

function localTheme(): boolean | null {
  try {
    const kept = localStorage.getItem("hotframe-theme");
    return kept === null ? null : kept === "dark";
  } catch {
    return null;
  }
}

async function open(): Promise<void> {
  const root = document.getElementById("page")!;
  try {
    const element = document.getElementById("hotframe-payload");
    if (element === null) throw new Error("this page holds no profile");
    const times: Record<string, number> = { start: performance.now() };
    const bytes = await unpack(element.textContent ?? "");
    element.remove();
    times["unpacked"] = performance.now();
    const profile = readPayload(bytes);
    times["read"] = performance.now();
    const page = new Page(profile, root);
    times["shown"] = performance.now();
    Object.assign(window, { hotframe: { page, times, START } });
  } catch (error) {
    root.replaceChildren(el("p", { class: "empty" },
      `The profile in this page cannot be shown: ${error instanceof Error ? error.message : String(error)}`));
    console.error(error);
  }
}

void open();
