// Two recordings side by side: what of each fell on a node, and whether that changed.
//
// Widths in a comparison are the mean of a node's two shares, so that what only one recording has
// is there to be seen. Counts and tests here are of the samples themselves, each side by itself.

import { BLOCKS, bound, fisher, welch } from "./significance";
import type { ViewNode, ViewTree, Weighed } from "./tree";
import type { Comparison } from "./payload";

export interface Change {
  /** Samples of each side. */
  before: number;
  after: number;
  /** Chance of a difference as large, if nothing changed. */
  p: number;
  /** It is no noise. */
  real: boolean;
}

/** Steps of colour to each side. */
export const LEVELS = 4;

export class Changes {
  /** Samples of each side in the selection. */
  readonly sums: [number, number] = [0, 0];
  private readonly all: [Float64Array, Float64Array] = [new Float64Array(BLOCKS), new Float64Array(BLOCKS)];
  private readonly block: Uint8Array;
  /** Samples in the order of their nodes, depth first; those of node n from `first[enter[n]]`. */
  private readonly order: Int32Array;
  private readonly first: Int32Array;
  private readonly enter: Int32Array;
  private readonly leave: Int32Array;
  private readonly known = new WeakMap<ViewNode, Change>();
  private readonly ofSymbol = new Map<string, Change>();
  private graphBound: number | null = null;
  private tableBound: number | null = null;
  private nodesOf: Map<number, number[]> | null = null;

  constructor(
    private readonly weighed: Weighed,
    private readonly comparison: Comparison,
  ) {
    const { tree, counted } = weighed;
    const { samples } = tree.symbols.profile;
    const durations = [comparison.before.duration_ns, comparison.after.duration_ns];
    this.block = new Uint8Array(samples.n);
    for (let i = 0; i < samples.n; i++) {
      const side = comparison.side[i]!;
      this.block[i] = Math.min(BLOCKS - 1, Math.floor((samples.timeNs[i]! * BLOCKS) / Math.max(1, durations[side]!)));
      if (counted[tree.ofSample[i]!] === 1 && (weighed.selected === null || weighed.selected[i] === 1)) {
        this.sums[side]! += samples.weight[i]!;
        this.all[side]![this.block[i]!]! += samples.weight[i]!;
      }
    }
    this.enter = new Int32Array(tree.n);
    this.leave = new Int32Array(tree.n);
    let step = 0;
    for (let node = 0; node >= 0;) {
      this.enter[node] = step++;
      let next = tree.firstChild[node]!;
      while (next === 0) {
        this.leave[node] = step;
        if (node === 0) break;
        next = tree.nextSibling[node]!;
        if (next === 0) node = tree.parent[node]!;
      }
      node = next === 0 ? -1 : next;
    }
    this.first = new Int32Array(tree.n + 1);
    const place = (i: number) => this.enter[tree.placeNode[tree.ofSample[i]!]!]!;
    const inside = (i: number) => counted[tree.ofSample[i]!] === 1 && (weighed.selected === null || weighed.selected[i] === 1);
    for (let i = 0; i < samples.n; i++) if (inside(i)) this.first[place(i) + 1]!++;
    for (let at = 0; at < tree.n; at++) this.first[at + 1]! += this.first[at]!;
    this.order = new Int32Array(this.first[tree.n]!);
    const next = this.first.slice();
    for (let i = 0; i < samples.n; i++) if (inside(i)) this.order[next[place(i)]!++] = i;
  }

  /** What fell on (`own`) or at and below these nodes, none of which is below another. */
  private test(nodes: ArrayLike<number>, own: boolean, limit: number): Change {
    const { samples } = this.weighed.tree.symbols.profile;
    const { side, before, after } = this.comparison;
    const hits: [Float64Array, Float64Array] = [new Float64Array(BLOCKS), new Float64Array(BLOCKS)];
    const sums = [0, 0];
    for (let n = 0; n < nodes.length; n++) {
      const enter = this.enter[nodes[n]!]!;
      const to = this.first[own ? enter + 1 : this.leave[nodes[n]!]!]!;
      for (let at = this.first[enter]!; at < to; at++) {
        const i = this.order[at]!;
        hits[side[i]!]![this.block[i]!]! += samples.weight[i]!;
        sums[side[i]!]! += samples.weight[i]!;
      }
    }
    let p = fisher(sums[0]!, this.sums[0], sums[1]!, this.sums[1]);
    if (p <= limit && before.times && after.times) {
      p = Math.max(p, welch(hits[0], this.all[0], hits[1], this.all[1]));
    }
    return { before: sums[0]!, after: sums[1]!, p, real: p <= limit };
  }

  /** Of a node of a graph. The tests are those of all nodes of the call tree. */
  of(view: ViewTree, node: ViewNode): Change {
    let change = this.known.get(node);
    if (change === undefined) {
      if (this.graphBound === null) {
        const { tree } = this.weighed;
        const totals: number[] = [];
        const sum = this.weights();
        for (let n = 1; n < tree.n; n++) {
          const hits = sum[this.leave[n]!]! - sum[this.enter[n]!]!;
          if (hits > 0) totals.push(hits);
        }
        this.graphBound = bound(totals, ...this.sums);
      }
      change = this.test(node.origins, view.ownOrigins, this.graphBound);
      this.known.set(node, change);
    }
    return change;
  }

  /** Own samples of a node of the call tree. */
  own(node: number): { before: number; after: number } {
    return this.test([node], true, 0);
  }

  /** Running sum of weights in the order of nodes. */
  private weights(): Float64Array {
    const { samples } = this.weighed.tree.symbols.profile;
    const sum = new Float64Array(this.first.length);
    for (let at = 0; at + 1 < this.first.length; at++) {
      sum[at + 1] = sum[at]!;
      for (let i = this.first[at]!; i < this.first[at + 1]!; i++) sum[at + 1]! += samples.weight[this.order[i]!]!;
    }
    return sum;
  }

  /** Of a function: its own samples, or those at and below it. */
  symbol(symbol: number, own: boolean): Change {
    const key = `${symbol} ${own}`;
    let change = this.ofSymbol.get(key);
    if (change === undefined) {
      const { tree } = this.weighed;
      if (this.nodesOf === null) {
        this.nodesOf = new Map();
        for (let n = 1; n < tree.n; n++) {
          const nodes = this.nodesOf.get(tree.symbol[n]!);
          if (nodes === undefined) this.nodesOf.set(tree.symbol[n]!, [n]);
          else nodes.push(n);
        }
      }
      if (this.tableBound === null) {
        this.tableBound = 0;
        const hits: number[] = [];
        for (const s of this.nodesOf.keys()) {
          if (tree.symbols.isLabel(s)) continue;
          for (const own of [true, false]) {
            const { before, after } = this.test(this.nodes(s, own), own, 0);
            if (before + after > 0) hits.push(before + after);
          }
        }
        this.tableBound = bound(hits, ...this.sums);
      }
      change = this.test(this.nodes(symbol, own), own, this.tableBound);
      this.ofSymbol.set(key, change);
    }
    return change;
  }

  /** All nodes of a function, or only those that are not below another of it. */
  private nodes(symbol: number, own: boolean): number[] {
    const nodes = this.nodesOf!.get(symbol) ?? [];
    if (own) return nodes;
    // Depth first: a node below another comes behind it, before that one is left.
    const sorted = [...nodes].sort((a, b) => this.enter[a]! - this.enter[b]!);
    let end = -1;
    return sorted.filter((n) => {
      if (this.enter[n]! < end) return false;
      end = this.leave[n]!;
      return true;
    });
  }

  /** The shares of both sides. */
  shares(change: Change): [number, number] {
    return [change.before / Math.max(1, this.sums[0]), change.after / Math.max(1, this.sums[1])];
  }

  /** −LEVELS (only before) … 0 (noise) … LEVELS (only after). */
  level(change: Change): number {
    if (!change.real) return 0;
    const [before, after] = this.shares(change);
    const relative = (after - before) / (after + before);
    // Steps at a factor of 1.25, 2 and 5.
    const size = Math.abs(relative);
    return Math.sign(relative) * (size > 0.667 ? 4 : size > 0.333 ? 3 : size > 0.111 ? 2 : 1);
  }

  /** In words: "+1.23 points (×1.5)". */
  text(change: Change): string {
    const [before, after] = this.shares(change);
    const points = 100 * (after - before);
    const sign = points < 0 ? "−" : "+";
    const factor = before === 0 ? " (new)" : after === 0 ? " (gone)" : ` (×${(after / before).toPrecision(3)})`;
    return `${sign}${Math.abs(points).toFixed(2)} points${factor}`;
  }

  /** Whether it counts, in words. */
  verdict(change: Change): string {
    // Bytes and delays do not come one by one, as samples do.
    if (this.weighed.tree.symbols.profile.meta.value_type !== "") return "no samples: whether it is noise is not known";
    const p = change.p < 1e-6 ? "p < 10⁻⁶" : `p = ${change.p.toPrecision(2)}`;
    return change.real ? p : `within noise, ${p}`;
  }
}
