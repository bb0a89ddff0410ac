// The tests of changes against the same figures as their Rust twin's, and a comparison by hand.
import assert from "node:assert/strict";
import { test } from "node:test";
import { givenUp, lacks, lacksText } from "../src/lacks";
import { Strings, type Profile } from "../src/payload";
import { beta, bound, fisher } from "../src/significance";
import { CallTree, Symbols, ViewTree, Weighed, type ViewNode } from "../src/tree";

const close = (found: number, expected: number) =>
  assert.ok(Math.abs(found / expected - 1) < 1e-9, `${found} for ${expected}`);

test("Fisher's test and Student's t are those of the table on the terminal", () => {
  for (const [a, nA, b, nB, p] of [
    [3, 4, 1, 4, 0.4857142857142857], [0, 50, 12, 60, 0.0007956954454911365],
    [120, 1000, 180, 1100, 0.005103715165348414], [3, 300, 0, 3000, 0.0014889900514134552],
    [950, 1000, 930, 1000, 0.07323227720335672], [40, 5000, 95, 4700, 3.383122093575484e-7],
  ] as const) close(fisher(a, nA, b, nB), p);
  for (const [t, degrees, p] of [
    [0.5, 42, 0.6196847767582301], [2, 42, 0.05199444858447674], [4.5, 60, 3.180364128154825e-5],
    [7, 84, 5.821362311081122e-10], [1, 5, 0.3632174676491274],
  ] as const) close(beta(degrees / 2, 0.5, degrees / (degrees + t * t)), p);
  assert.equal(fisher(0, 10, 0, 20), 1);
});

test("tests that cannot reach the bound do not lower it", () => {
  assert.equal(bound([1, 1, 1, 2, 2, 500], 1000, 1000), 0.05);
  assert.ok(bound([400, 500, 600], 1000, 1000) < 0.02);
});

/** Two recordings: main calls f, g and (in the second only) h. */
function comparison(): Profile {
  const texts = ["", "x", "main", "f", "g", "h"];
  const encoded = texts.map((text) => new TextEncoder().encode(text));
  const offsets = new Uint32Array(texts.length + 1);
  encoded.forEach((bytes, i) => (offsets[i + 1] = offsets[i]! + bytes.length));
  const u32 = (...values: number[]) => Uint32Array.from(values);
  const names = [2, 3, 4, 5];
  // Stacks: 1 main, 2 main;f, 3 main;g, 4 main;h. Rows: side, stack, weight.
  const rows = [[0, 2, 500], [0, 3, 480], [0, 1, 20], [1, 2, 1500], [1, 3, 400], [1, 4, 60], [1, 1, 40]];
  const zero = new Uint32Array(rows.length);
  return {
    meta: {
      producer: "", command: "", host: "", kernel: "", arch: "", n_cpus: 1, start_unix_ns: 0, duration_ns: 0,
      period_ns: 1, value_type: "", value_unit: "", kinds: ["native"], cuts: ["none"],
    },
    strings: new Strings(Uint8Array.from(encoded.flatMap((bytes) => [...bytes])), offsets),
    modules: { n: 1, path: u32(0), buildId: u32(0) },
    functions: {
      n: 4, name: u32(...names), systemName: u32(0, 0, 0, 0), file: u32(0, 0, 0, 0), startLine: u32(0, 0, 0, 0),
      module: u32(0, 0, 0, 0), kind: u32(0, 0, 0, 0),
    },
    frames: {
      n: 4, function: u32(0, 1, 2, 3), line: u32(0, 0, 0, 0), addressHigh: u32(0, 0, 0, 0),
      addressLow: u32(0, 0, 0, 0), flags: u32(0, 0, 0, 0),
    },
    stacks: { n: 5, parent: u32(0, 0, 1, 1, 1), frame: u32(0, 0, 1, 2, 3) },
    processes: {
      n: 2, pid: u32(1, 2), comm: u32(1, 1), exe: u32(0, 0), cgroup: u32(0, 0),
      samples: new Float64Array(2), whole: new Float64Array(2), cut: [],
    },
    threads: { n: 2, tid: u32(1, 2), comm: u32(1, 1), process: u32(0, 1) },
    samples: {
      n: rows.length, timeNs: new Float64Array(rows.length), thread: u32(...rows.map(([side]) => side!)),
      stack: u32(...rows.map(([, stack]) => stack!)), cpu: zero, cut: zero,
      weight: u32(...rows.map(([, , weight]) => weight!)),
    },
    stats: null,
    comparison: {
      before: { name: "a", processes: 1, samples: 1000, duration_ns: 1, period_ns: 1, times: false },
      after: { name: "b", processes: 1, samples: 2000, duration_ns: 1, period_ns: 1, times: false },
      side: Uint8Array.from(rows, ([side]) => side!),
    },
  };
}

const weighed = () => {
  const symbols = new Symbols(comparison());
  return new Weighed(new CallTree(symbols, { byProcess: true, collapse: false, hidden: null }), null, []);
};

const child = (view: ViewTree, of: ViewNode, name: string) =>
  view.children(of).find((node) => view.weighed.tree.symbols.text(node.symbol) === name)!;

test("each side is counted by itself, widths are the mean of the shares", () => {
  const w = weighed();
  const view = ViewTree.flame(w);
  const main = child(view, child(view, view.root, "x"), "main");
  const changes = w.changes!;
  assert.deepEqual(changes.sums, [1000, 2000]);
  const f = child(view, main, "f");
  assert.deepEqual([changes.of(view, f).before, changes.of(view, f).after], [500, 1500]);
  close(f.value / w.sum, (0.5 + 0.75) / 2);
  assert.equal(changes.level(changes.of(view, f)), 2);
  assert.equal(changes.level(changes.of(view, child(view, main, "g"))), -3);
  assert.equal(changes.level(changes.of(view, child(view, main, "h"))), 4);
  assert.equal(changes.level(changes.of(view, main)), 0);
  assert.match(changes.text(changes.of(view, f)), /^\+25\.00 points \(×1\.50\)$/);
  assert.match(changes.text(changes.of(view, child(view, main, "h"))), /\(new\)$/);
});

test("callers and functions count the same samples as the graph", () => {
  const w = weighed();
  const changes = w.changes!;
  const callers = ViewTree.callers(w);
  const f = child(callers, callers.root, "f");
  const main = child(callers, f, "main");
  for (const node of [f, main]) assert.deepEqual([changes.of(callers, node).before, changes.of(callers, node).after], [500, 1500]);
  assert.deepEqual([changes.symbol(main.symbol, true).before, changes.symbol(main.symbol, true).after], [20, 40]);
  assert.deepEqual([changes.symbol(main.symbol, false).before, changes.symbol(main.symbol, false).after], [1000, 2000]);
  const around = ViewTree.around(w, main.symbol, "up");
  assert.deepEqual([changes.of(around, around.root).before, changes.of(around, around.root).after], [1000, 2000]);
});

test("what a file has no room for is named, and nothing is missing from a recording", () => {
  const foreign = comparison();
  assert.equal(lacksText(lacks(foreign)), "Hidden, as the file this came from holds no times, modules and files or books of whole and cut stacks");
  assert.equal(lacksText(lacks({ ...foreign, stats: {} })), "");
});

test("what a long recording gave up is said, and no time is shown that is not true", () => {
  const long = { ...comparison(), stats: { spilled: { interval_ns: 2e18, processes_folded: 12, by_function: true } } };
  assert.deepEqual(givenUp(long.stats), { intervalNs: 2e18, folded: 12, byFunction: true, unread: 0 });
  assert.equal(lacks(long).times, true);
  assert.match(lacksText(lacks(long)), /counted together to stay inside the memory limit/);
  const meta = { ...long.meta, duration_ns: 60e9 };
  assert.equal(lacks({ ...long, meta, stats: { spilled: { interval_ns: 2e9 } } }).times, false);
  assert.deepEqual(givenUp({ spilled: null }), { intervalNs: 0, folded: 0, byFunction: false, unread: 0 });
});
