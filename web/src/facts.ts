// What is known of a function or a node beyond its name: lines, modules, flags, weights.

import { FRAME_HEURISTIC, FRAME_INLINED, FRAME_UNNAMED } from "./payload";
import type { CallTree, ViewNode, Weighed } from "./tree";

export interface LineFact {
  line: number;
  self: number;
  total: number;
}

export interface Facts {
  /** Heaviest first. */
  lines: LineFact[];
  /** Indices of modules, heaviest first. */
  modules: number[];
  inlined: boolean;
  heuristic: boolean;
  unnamed: boolean;
}

/** Places of each node, made once per tree. */
const placesOfNode = new WeakMap<CallTree, { start: Int32Array; places: Int32Array }>();

function placesOf(tree: CallTree): { start: Int32Array; places: Int32Array } {
  let known = placesOfNode.get(tree);
  if (known === undefined) {
    const start = new Int32Array(tree.n + 1);
    for (let p = 0; p < tree.nPlaces; p++) start[tree.placeNode[p]! + 1]!++;
    for (let node = 0; node < tree.n; node++) start[node + 1]! += start[node]!;
    const next = start.slice(0, tree.n);
    const places = new Int32Array(tree.nPlaces);
    for (let p = 0; p < tree.nPlaces; p++) places[next[tree.placeNode[p]!]!++] = p;
    placesOfNode.set(tree, (known = { start, places }));
  }
  return known;
}

/** Facts of one node of a view. */
export function nodeFacts(weighed: Weighed, node: ViewNode): Facts {
  const { start, places } = placesOf(weighed.tree);
  const list: number[] = [];
  for (let i = 0; i < node.nodes.length; i++) {
    const n = node.nodes[i]!;
    for (let at = start[n]!; at < start[n + 1]!; at++) list.push(places[at]!);
  }
  return facts(weighed, node.symbol, list);
}

/** Facts of a function, wherever it was called. */
export function symbolFacts(weighed: Weighed, symbol: number): Facts {
  const { tree } = weighed;
  const { stacks, frames } = tree.symbols.profile;
  const list: number[] = [];
  // A place below another of the same function is counted with that one.
  const below = new Uint8Array(tree.nPlaces);
  for (let p = 1; p < tree.nPlaces; p++) {
    const stack = tree.placeStack[p]!;
    below[p] = below[tree.placeParent[p]!]!;
    if (stack !== 0 && tree.symbols.ofFunction[frames.function[stacks.frame[stack]!]!] === symbol) {
      list.push(below[p] === 1 ? -p : p);
      below[p] = 1;
    }
  }
  return facts(weighed, symbol, list);
}

/** A negative place counts for its own weight only. */
function facts(weighed: Weighed, symbol: number, list: number[]): Facts {
  const { tree } = weighed;
  const { stacks, frames, functions } = tree.symbols.profile;
  const totals = weighed.placeTotal();
  const lines = new Map<number, LineFact>();
  const modules = new Map<number, number>();
  let flags = 0;
  for (const signed of list) {
    const p = Math.abs(signed);
    const total = totals[p]!;
    const stack = tree.placeStack[p]!;
    if (total === 0 || stack === 0) continue;
    const frame = stacks.frame[stack]!;
    const f = frames.function[frame]!;
    if (tree.symbols.ofFunction[f] !== symbol) continue;
    flags |= frames.flags[frame]!;
    const line = frames.line[frame]!;
    let fact = lines.get(line);
    if (fact === undefined) lines.set(line, (fact = { line, self: 0, total: 0 }));
    fact.self += weighed.placeSelf[p]!;
    if (signed > 0) {
      fact.total += total;
      const module = functions.module[f]!;
      modules.set(module, (modules.get(module) ?? 0) + total);
    }
  }
  return {
    lines: [...lines.values()].sort((a, b) => b.total - a.total || b.self - a.self || a.line - b.line),
    modules: [...modules].sort(([, a], [, b]) => b - a).map(([module]) => module),
    inlined: (flags & FRAME_INLINED) !== 0,
    heuristic: (flags & FRAME_HEURISTIC) !== 0,
    unnamed: (flags & FRAME_UNNAMED) !== 0,
  };
}
