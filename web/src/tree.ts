// The merged call tree: stacks whose frames are the same functions become one node.
//
// A profile's stacks differ by line and address; a reader's differ by function. `CallTree.build`
// merges them once per structure (hidden functions, collapsed recursion, grouping by process);
// `weigh` then counts a selection of samples, which is cheap enough for every drag of the time
// strip. All of it is typed arrays in which a parent comes before its children, so that totals
// are one pass backwards and "is below a match" is one pass forwards.

import { Changes } from "./change";
import type { Profile } from "./payload";

/**
 * Functions as nodes know them: name, file and kind. Beyond them, one per process name, and one per
 * reason for which stacks are cut: what stands where their callers are missing.
 */
export class Symbols {
  /** Symbol of each of the profile's functions. */
  readonly ofFunction: Uint32Array;
  /** A function that each symbol stands for. */
  readonly functions: number[] = [];
  /** Symbols of process names, by string index. */
  private readonly ofComm = new Map<number, number>();
  /** String index of each symbol's name; of a cut its reason. */
  readonly name: number[] = [];
  /** Kind of each symbol; `processKind` for process names, `cutKind` for cuts. */
  readonly kind: number[] = [];
  readonly processKind: number;
  readonly cutKind: number;
  /** Symbol of each reason of `meta.cuts`; -1 where no stack is cut for it. */
  readonly ofCut: Int32Array;

  constructor(readonly profile: Profile) {
    const { functions, strings, meta } = profile;
    const kinds = meta.kinds.length + 1;
    this.processKind = meta.kinds.length;
    this.cutKind = meta.kinds.length + 1;
    this.ofFunction = new Uint32Array(functions.n);
    const known = new Map<number, number>();
    for (let f = 0; f < functions.n; f++) {
      const kind = functions.kind[f]!;
      const key = (functions.name[f]! * strings.length + functions.file[f]!) * kinds + kind;
      let symbol = known.get(key);
      if (symbol === undefined) {
        symbol = this.name.length;
        known.set(key, symbol);
        this.name.push(functions.name[f]!);
        this.kind.push(kind);
        this.functions.push(f);
      }
      this.ofFunction[f] = symbol;
    }
    for (let p = 0; p < profile.processes.n; p++) {
      const comm = profile.processes.comm[p]!;
      if (!this.ofComm.has(comm)) {
        this.ofComm.set(comm, this.name.length);
        this.name.push(comm);
        this.kind.push(this.processKind);
      }
    }
    this.ofCut = new Int32Array(meta.cuts.length).fill(-1);
    for (let i = 0; i < profile.samples.n; i++) {
      const reason = profile.samples.cut[i]!;
      if (reason !== 0 && this.ofCut[reason] === -1) {
        this.ofCut[reason] = this.name.length;
        this.name.push(reason);
        this.kind.push(this.cutKind);
      }
    }
  }

  get length(): number {
    return this.name.length;
  }

  process(comm: number): number {
    return this.ofComm.get(comm)!;
  }

  /** A process's name or a cut: no function. */
  isLabel(symbol: number): boolean {
    return symbol >= this.functions.length;
  }

  isCut(symbol: number): boolean {
    return this.kind[symbol] === this.cutKind;
  }

  text(symbol: number): string {
    const { strings, meta } = this.profile;
    return this.isCut(symbol) ? `[cut: ${meta.cuts[this.name[symbol]!]!.replaceAll("_", " ")}]` : strings.get(this.name[symbol]!);
  }

  /** Name of a symbol's kind. */
  kindName(symbol: number): string {
    const kind = this.kind[symbol]!;
    return this.profile.meta.kinds[kind] ?? (kind === this.cutKind ? "cut" : "process");
  }
}

export interface Structure {
  /** A first level of process names. */
  byProcess: boolean;
  /** Repetitions of up to `MAX_PERIOD` functions on end are drawn once. */
  collapse: boolean;
  /** Functions left out, a byte each; their callees move up. */
  hidden: Uint8Array | null;
}

/** Longest cycle of mutual recursion that collapses. */
const MAX_PERIOD = 8;

/** Int32Array that grows. */
class Ints {
  data: Int32Array;
  length = 0;

  constructor(capacity: number) {
    this.data = new Int32Array(Math.max(16, capacity));
  }

  push(value: number): number {
    if (this.length === this.data.length) {
      const data = new Int32Array(this.data.length * 2);
      data.set(this.data);
      this.data = data;
    }
    this.data[this.length] = value;
    return this.length++;
  }

  done(): Int32Array {
    return this.data.subarray(0, this.length);
  }
}

/** Open addressing from a pair of numbers to the entry that has both in its columns. */
class Pairs {
  private table = new Int32Array(1024);
  private n = 0;

  constructor(
    private readonly a: Ints,
    private readonly b: Ints,
  ) {}

  /** Where the entry with this pair is, or would be. */
  private slot(a: number, b: number): number {
    const mask = this.table.length - 1;
    const left = this.a.data;
    const right = this.b.data;
    let slot = Math.imul(a, 0x9e3779b1) ^ Math.imul(b, 0x85ebca6b);
    slot = (slot ^ (slot >>> 15)) & mask;
    for (let entry; (entry = this.table[slot]!) !== 0; slot = (slot + 1) & mask) {
      if (left[entry] === a && right[entry] === b) break;
    }
    return slot;
  }

  /** The entry, or 0. */
  get(a: number, b: number): number {
    return this.table[this.slot(a, b)]!;
  }

  add(entry: number): void {
    if (++this.n * 2 > this.table.length) {
      const old = this.table;
      this.table = new Int32Array(old.length * 2);
      for (const entry of old) {
        if (entry !== 0) this.table[this.slot(this.a.data[entry]!, this.b.data[entry]!)] = entry;
      }
    }
    this.table[this.slot(this.a.data[entry]!, this.b.data[entry]!)] = entry;
  }
}

/** Children that are looked through one by one before they are looked up. */
const MAX_SCANNED = 8;

/** Nodes while they are made; most have few children, which lie close in memory. */
class Nodes {
  readonly parent: Ints;
  readonly symbol: Ints;
  readonly firstChild: Ints;
  readonly nextSibling: Ints;
  private readonly many: Pairs;

  constructor(capacity: number) {
    this.parent = new Ints(capacity);
    this.symbol = new Ints(capacity);
    this.firstChild = new Ints(capacity);
    this.nextSibling = new Ints(capacity);
    this.many = new Pairs(this.parent, this.symbol);
    this.push(-1, -1);
  }

  private push(parent: number, symbol: number): number {
    this.firstChild.push(0);
    this.nextSibling.push(0);
    this.symbol.push(symbol);
    return this.parent.push(parent);
  }

  /** The child of a node with this symbol, new or known. */
  child(parent: number, symbol: number): number {
    const symbols = this.symbol.data;
    const next = this.nextSibling.data;
    const first = this.firstChild.data[parent]!;
    let scanned = 0;
    let at = first;
    for (; at !== 0 && scanned < MAX_SCANNED; scanned++) {
      if (symbols[at] === symbol) return at;
      at = next[at]!;
    }
    if (at !== 0) {
      const known = this.many.get(parent, symbol);
      if (known !== 0) return known;
    }
    // The newest comes first; what it pushes out of the scanned ones is looked up from now on.
    const node = this.push(parent, symbol);
    this.nextSibling.data[node] = first;
    this.firstChild.data[parent] = node;
    if (scanned === MAX_SCANNED) {
      let pushed = node;
      for (let i = 0; i < MAX_SCANNED; i++) pushed = this.nextSibling.data[pushed]!;
      this.many.add(pushed);
    }
    return node;
  }
}

export class CallTree {
  /** Nodes; 0 is the root, -1 its parent. */
  readonly n: number;
  readonly parent: Int32Array;
  readonly symbol: Int32Array;
  readonly firstChild: Int32Array;
  readonly nextSibling: Int32Array;
  /** Places: a stack of one group; several make a node. 0 is the root's. */
  readonly nPlaces: number;
  readonly placeParent: Int32Array;
  readonly placeStack: Int32Array;
  readonly placeNode: Int32Array;
  /** Place of each sample. */
  readonly ofSample: Int32Array;

  constructor(
    readonly symbols: Symbols,
    structure: Structure,
  ) {
    const { profile } = symbols;
    const { functions, stacks, frames, samples, threads, processes } = profile;
    const nodes = new Nodes(stacks.n + 64);
    /** The ancestor that a symbol below `parent` repeats, or -1. */
    const repeated = (parent: number, symbol: number) => {
      const up = nodes.parent.data;
      const symbolOf = nodes.symbol.data;
      // `back` is the candidate: as many steps above the new frame as the period is long.
      for (let period = 1, back = parent; period <= MAX_PERIOD && back > 0; period++) {
        if (symbolOf[back] === symbol) {
          let a = parent;
          let b = up[back]!;
          let same = 1;
          for (; same < period && b > 0 && symbolOf[a] === symbolOf[b]; same++) {
            a = up[a]!;
            b = up[b]!;
          }
          if (same === period) return back;
        }
        back = up[back]!;
      }
      return -1;
    };

    const capacity = stacks.n + 64;
    const place = {
      parent: new Ints(capacity), stack: new Ints(capacity), group: new Ints(capacity), node: new Ints(capacity),
    };
    const newPlace = (parent: number, stack: number, group: number, node: number) => {
      place.parent.push(parent);
      place.stack.push(stack);
      place.group.push(group);
      return place.node.push(node);
    };
    newPlace(-1, 0, -1, 0);
    // Most stacks belong to one group: its place stands in an array, others are looked up.
    const first = new Int32Array(stacks.n);
    const others = new Pairs(place.group, place.stack);
    const find = (group: number, stack: number) => {
      const at = first[stack]!;
      return at === 0 ? 0 : place.group.data[at] === group ? at : others.get(group, stack);
    };
    const keep = (at: number, stack: number) => {
      if (first[stack] === 0) first[stack] = at;
      else others.add(at);
      return at;
    };
    const chain: number[] = [];
    // What was left out further in is said there: the callers are not what is missing.
    const note = profile.meta.kinds.indexOf("note");
    const saysWhy = new Uint8Array(stacks.n);
    for (let stack = 1; stack < stacks.n; stack++) {
      const parent = stacks.parent[stack]!;
      const isNote = parent !== 0 && functions.kind[frames.function[stacks.frame[stack]!]!] === note;
      saysWhy[stack] = isNote ? 1 : saysWhy[parent]!;
    }
    /** Groups: of the samples of one process name that are whole, or whose callers are cut for one reason. */
    const cuts = Math.max(1, profile.meta.cuts.length);
    const rootOf = (group: number) => {
      const process = Math.floor(group / cuts);
      const node = structure.byProcess ? nodes.child(0, process) : 0;
      // A stack without its callers begins somewhere: it must not look as if the process began there.
      const cut = symbols.ofCut[group % cuts] ?? -1;
      return cut >= 0 ? nodes.child(node, cut) : node;
    };
    const placeOf = (group: number, stack: number) => {
      chain.length = 0;
      let at = find(group, stack);
      while (at === 0 && stack !== 0) {
        chain.push(stack);
        stack = stacks.parent[stack]!;
        at = find(group, stack);
      }
      // The group's own root.
      if (at === 0) at = keep(newPlace(0, 0, group, rootOf(group)), 0);
      while (chain.length > 0) {
        stack = chain.pop()!;
        const above = place.node.data[at]!;
        const f = frames.function[stacks.frame[stack]!]!;
        let node = above;
        if (structure.hidden === null || structure.hidden[f] === 0) {
          const symbol = symbols.ofFunction[f]!;
          const again = structure.collapse ? repeated(above, symbol) : -1;
          node = again > 0 ? again : nodes.child(above, symbol);
        }
        at = keep(newPlace(at, stack, group, node), stack);
      }
      return at;
    };

    const groupOfThread = new Int32Array(threads.n);
    if (structure.byProcess) {
      for (let t = 0; t < threads.n; t++) {
        groupOfThread[t] = symbols.process(processes.comm[threads.process[t]!]!);
      }
    }
    this.ofSample = new Int32Array(samples.n);
    for (let i = 0; i < samples.n; i++) {
      const stack = samples.stack[i]!;
      const cut = saysWhy[stack] === 1 ? 0 : samples.cut[i]!;
      this.ofSample[i] = placeOf(groupOfThread[samples.thread[i]!]! * cuts + cut, stack);
    }

    this.n = nodes.parent.length;
    this.parent = nodes.parent.done();
    this.symbol = nodes.symbol.done();
    this.firstChild = nodes.firstChild.done();
    this.nextSibling = nodes.nextSibling.done();
    this.nPlaces = place.node.length;
    this.placeParent = place.parent.done();
    this.placeStack = place.stack.done();
    this.placeNode = place.node.done();
  }
}

/**
 * The tree with the weights of one selection of samples. All weights are samples (ticks); in a
 * comparison the sides are scaled to equal sums first, so that a weight is the mean of two shares.
 */
export class Weighed {
  readonly self: Float64Array;
  readonly total: Float64Array;
  readonly sum: number;
  private placeTotals: Float64Array | null = null;
  private symbolWeights: { self: Float64Array; total: Float64Array } | null = null;

  /**
   * `selected`: a byte per sample, or null for all.
   * `focus`: for each, a byte per function; a stack counts if it has one of each.
   */
  constructor(
    readonly tree: CallTree,
    readonly selected: Uint8Array | null,
    focus: Uint8Array[],
  ) {
    const { samples, stacks, frames, comparison } = tree.symbols.profile;
    this.counted = new Uint8Array(tree.nPlaces).fill(1);
    for (const wanted of focus) {
      const has = new Uint8Array(tree.nPlaces);
      for (let p = 1; p < tree.nPlaces; p++) {
        const stack = tree.placeStack[p]!;
        if (has[tree.placeParent[p]!] === 1) has[p] = 1;
        else if (stack !== 0) has[p] = wanted[frames.function[stacks.frame[stack]!]!]!;
        if (has[p] === 0) this.counted[p] = 0;
      }
      this.counted[0] = 0;
    }
    this.changes = comparison === null ? null : new Changes(this, comparison);
    const sums = this.changes?.sums ?? [1, 1];
    const scale = this.changes === null ? [1, 1] : sums.map((sum) => (sum > 0 ? (sums[0]! + sums[1]!) / 2 / sum : 0));
    const placeSelf = new Float64Array(tree.nPlaces);
    for (let i = 0; i < samples.n; i++) {
      const place = tree.ofSample[i]!;
      if (this.counted[place] === 1 && (selected === null || selected[i] === 1)) {
        placeSelf[place]! += comparison === null ? samples.weight[i]! : samples.weight[i]! * scale[comparison.side[i]!]!;
      }
    }
    this.self = new Float64Array(tree.n);
    for (let p = 0; p < tree.nPlaces; p++) {
      this.self[tree.placeNode[p]!]! += placeSelf[p]!;
    }
    this.total = this.self.slice();
    for (let node = tree.n - 1; node > 0; node--) {
      this.total[tree.parent[node]!]! += this.total[node]!;
    }
    this.sum = this.total[0]!;
    this.placeSelf = placeSelf;
  }

  readonly placeSelf: Float64Array;
  /** A byte per place: it has one function of each focus. */
  readonly counted: Uint8Array;
  /** Of a comparison: the two sides, each by itself. */
  readonly changes: Changes | null;

  /** Weight at or below each place. */
  placeTotal(): Float64Array {
    if (this.placeTotals === null) {
      const totals = this.placeSelf.slice();
      for (let p = totals.length - 1; p > 0; p--) {
        totals[this.tree.placeParent[p]!]! += totals[p]!;
      }
      this.placeTotals = totals;
    }
    return this.placeTotals;
  }

  /** Own and total weight of every symbol; recursion counts once. */
  bySymbol(): { self: Float64Array; total: Float64Array } {
    if (this.symbolWeights !== null) return this.symbolWeights;
    const { tree } = this;
    const self = new Float64Array(tree.symbols.length);
    const total = new Float64Array(tree.symbols.length);
    // Depth first, with how often each symbol is on the path.
    const onPath = new Int32Array(tree.symbols.length);
    let node = tree.firstChild[0]!;
    while (node > 0) {
      let next = 0;
      if (this.total[node]! > 0) {
        const symbol = tree.symbol[node]!;
        self[symbol]! += this.self[node]!;
        if (onPath[symbol]!++ === 0) total[symbol]! += this.total[node]!;
        next = tree.firstChild[node]!;
        if (next === 0) onPath[symbol]!--;
      }
      if (next === 0) {
        while (node > 0 && (next = tree.nextSibling[node]!) === 0) {
          node = tree.parent[node]!;
          if (node > 0) onPath[tree.symbol[node]!]!--;
        }
      }
      node = next;
    }
    this.symbolWeights = { self, total };
    return this.symbolWeights;
  }

  /** Outermost nodes of matching symbols, and the share of samples at or below them. */
  matches(mask: Uint8Array): { nodes: number[]; weight: number } {
    const { tree } = this;
    const below = new Uint8Array(tree.n);
    const nodes: number[] = [];
    let weight = 0;
    for (let node = 1; node < tree.n; node++) {
      if (below[tree.parent[node]!] === 1) {
        below[node] = 1;
      } else if (mask[tree.symbol[node]!] === 1) {
        below[node] = 1;
        if (this.total[node]! > 0) {
          nodes.push(node);
          weight += this.total[node]!;
        }
      }
    }
    return { nodes, weight };
  }
}

/** A node of a view: where it lies and what it stands for. */
export interface ViewNode {
  readonly symbol: number;
  readonly parent: ViewNode | null;
  readonly depth: number;
  /** Left edge and width, in samples. */
  start: number;
  readonly value: number;
  /** Nodes of the call tree that it stands for, with the weight of each. */
  readonly nodes: ArrayLike<number>;
  readonly weights: ArrayLike<number>;
  /** Nodes of the call tree whose samples it counts. */
  readonly origins: ArrayLike<number>;
  /** Heaviest first; null until asked for. */
  children: ViewNode[] | null;
}

/**
 * A tree as a view draws it, made level by level when a level is first seen: callees below
 * ("down") or callers ("up") of a set of nodes.
 */
export class ViewTree {
  readonly root: ViewNode;

  constructor(
    readonly weighed: Weighed,
    readonly direction: "down" | "up",
    nodes: ArrayLike<number>,
    weights: ArrayLike<number>,
    symbol = -1,
    /** Only the own samples of origins count, not those below them. */
    readonly ownOrigins = false,
  ) {
    let value = 0;
    for (let i = 0; i < weights.length; i++) value += weights[i]!;
    this.root = { symbol, parent: null, depth: 0, start: 0, value, nodes, weights, origins: nodes, children: null };
  }

  /** The flame graph: everything, callers outside. */
  static flame(weighed: Weighed): ViewTree {
    return new ViewTree(weighed, "down", [0], [weighed.sum]);
  }

  /** Functions by own weight, then their callers. */
  static callers(weighed: Weighed): ViewTree {
    const nodes: number[] = [];
    for (let node = 1; node < weighed.tree.n; node++) if (weighed.self[node]! > 0) nodes.push(node);
    const tree = new ViewTree(weighed, "up", nodes, nodes.map((node) => weighed.self[node]!), -1, true);
    tree.root.children = tree.group(tree.root, tree.root.nodes, tree.root.weights, tree.root.origins);
    return tree;
  }

  /** One function with all its callers or all its callees. */
  static around(weighed: Weighed, symbol: number, direction: "down" | "up"): ViewTree {
    const mask = new Uint8Array(weighed.tree.symbols.length);
    mask[symbol] = 1;
    const { nodes } = weighed.matches(mask);
    const weights = nodes.map((node) => weighed.total[node]!);
    return new ViewTree(weighed, direction, nodes, weights, symbol);
  }

  children(of: ViewNode): ViewNode[] {
    if (of.children !== null) return of.children;
    const { tree, total } = this.weighed;
    const nodes: number[] = [];
    const weights: number[] = [];
    const origins: number[] = this.direction === "up" ? [] : nodes;
    for (let i = 0; i < of.nodes.length; i++) {
      const node = of.nodes[i]!;
      if (this.direction === "up") {
        const parent = tree.parent[node]!;
        if (parent > 0) {
          nodes.push(parent);
          weights.push(of.weights[i]!);
          origins.push(of.origins[i]!);
        }
      } else {
        for (let c = tree.firstChild[node]!; c !== 0; c = tree.nextSibling[c]!) {
          if (total[c]! > 0) {
            nodes.push(c);
            weights.push(total[c]!);
          }
        }
      }
    }
    of.children = this.group(of, nodes, weights, origins);
    return of.children;
  }

  private group(of: ViewNode, nodes: ArrayLike<number>, weights: ArrayLike<number>, origins: ArrayLike<number>): ViewNode[] {
    const symbolOf = this.weighed.tree.symbol;
    interface Group { symbol: number; value: number; nodes: number[]; weights: number[]; origins: number[] }
    const groups = new Map<number, Group>();
    for (let i = 0; i < nodes.length; i++) {
      const symbol = symbolOf[nodes[i]!]!;
      const group = groups.get(symbol);
      if (group === undefined) {
        const ofGroup = [nodes[i]!];
        groups.set(symbol, {
          symbol, value: weights[i]!, nodes: ofGroup, weights: [weights[i]!],
          origins: origins === nodes ? ofGroup : [origins[i]!],
        });
      } else {
        group.nodes.push(nodes[i]!);
        if (origins !== nodes) group.origins.push(origins[i]!);
        group.weights.push(weights[i]!);
        group.value += weights[i]!;
      }
    }
    const sorted = [...groups.values()].sort((a, b) => b.value - a.value || a.symbol - b.symbol);
    let start = of.start;
    return sorted.map((group) => {
      const node = { ...group, parent: of, depth: of.depth + 1, start, children: null };
      start += group.value;
      return node;
    });
  }

  /** Own weight of a node: what is not in its children. */
  own(node: ViewNode): number {
    return node.value - this.children(node).reduce((sum, child) => sum + child.value, 0);
  }

  /** The node at the end of a path of symbols from the root, as far as it exists. */
  follow(path: number[]): ViewNode {
    let at = this.root;
    for (const symbol of path) {
      const next = this.children(at).find((child) => child.symbol === symbol);
      if (next === undefined) break;
      at = next;
    }
    return at;
  }
}

/** Symbols from below the root to a node. */
export function pathOf(node: ViewNode): number[] {
  const path: number[] = [];
  for (let at: ViewNode | null = node; at !== null && at.parent !== null; at = at.parent) {
    path.push(at.symbol);
  }
  return path.reverse();
}
