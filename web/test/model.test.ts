// The model on a small profile made by hand: trees, weights, selections, states, texts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fill, SHADES, shadeOf } from "../src/colour";
import { symbolFacts } from "../src/facts";
import { Strings, type Profile } from "../src/payload";
import { chosenSamples, hidden, meant, searchMask } from "../src/selection";
import { fromFragment, START, toFragment, type State } from "../src/state";
import { amount, bytes, count, duration, matcher, share, shorter, shown } from "../src/text";
import { CallTree, pathOf, Symbols, ViewTree, Weighed, type ViewNode } from "../src/tree";

/** `stacks`: `process: outer inner …` with a weight; a name may end in `:line`. */
function profileOf(stacks: Record<string, number>): Profile {
  const texts = [""];
  const text = (name: string) => {
    const at = texts.indexOf(name);
    return at >= 0 ? at : texts.push(name) - 1;
  };
  const index = <T>(list: T[], equal: (item: T) => boolean, make: () => T) => {
    const at = list.findIndex(equal);
    return at >= 0 ? at : list.push(make()) - 1;
  };
  const functions: { name: number }[] = [];
  const frames: { f: number; line: number }[] = [];
  const nodes = [{ parent: 0, frame: 0 }];
  const processes: number[] = [];
  const samples: { thread: number; stack: number; weight: number; time: number }[] = [];
  for (const [key, weight] of Object.entries(stacks)) {
    const [process, path] = key.split(": ") as [string, string];
    const comm = text(process);
    const thread = index(processes, (p) => p === comm, () => comm);
    let at = 0;
    for (const part of path.split(" ").filter((part) => part !== "")) {
      const [name, line] = part.split(":") as [string, string?];
      const f = index(functions, (f) => texts[f.name] === name, () => ({ name: text(name) }));
      const frame = index(frames, (x) => x.f === f && x.line === Number(line ?? 0), () => ({ f, line: Number(line ?? 0) }));
      const parent = at;
      at = index(nodes, (n) => n !== nodes[0] && n.parent === parent && n.frame === frame, () => ({ parent, frame }));
    }
    samples.push({ thread, stack: at, weight, time: samples.length * 1e6 });
  }
  const encoded = texts.map((t) => new TextEncoder().encode(t));
  const offsets = new Uint32Array(texts.length + 1);
  encoded.forEach((e, i) => (offsets[i + 1] = offsets[i]! + e.length));
  const zero = (n: number) => new Uint32Array(n);
  const column = <T>(list: T[], of: (item: T) => number) => Uint32Array.from(list, of);
  return {
    meta: {
      producer: "", command: "", host: "", kernel: "", arch: "", n_cpus: 1, start_unix_ns: 0, duration_ns: 0,
      period_ns: 1, value_type: "", value_unit: "", kinds: ["kernel", "native"], cuts: ["none"],
    },
    strings: new Strings(Uint8Array.from(encoded.flatMap((e) => [...e])), offsets),
    modules: { n: 1, path: zero(1), buildId: zero(1) },
    functions: {
      n: functions.length, name: column(functions, (f) => f.name), systemName: zero(functions.length),
      file: zero(functions.length), startLine: zero(functions.length), module: zero(functions.length),
      kind: column(functions, (f) => (texts[f.name]!.startsWith("sys") ? 0 : 1)),
    },
    frames: {
      n: frames.length, function: column(frames, (f) => f.f), line: column(frames, (f) => f.line),
      addressHigh: zero(frames.length), addressLow: zero(frames.length), flags: zero(frames.length),
    },
    stacks: { n: nodes.length, parent: column(nodes, (n) => n.parent), frame: column(nodes, (n) => n.frame) },
    processes: {
      n: processes.length, pid: column(processes, () => 7), comm: Uint32Array.from(processes),
      exe: zero(processes.length), cgroup: zero(processes.length),
      samples: new Float64Array(processes.length), whole: new Float64Array(processes.length), cut: [],
    },
    threads: {
      n: processes.length, tid: zero(processes.length), comm: Uint32Array.from(processes),
      process: Uint32Array.from(processes, (_, i) => i),
    },
    samples: {
      n: samples.length, timeNs: Float64Array.from(samples, (s) => s.time), thread: column(samples, (s) => s.thread),
      stack: column(samples, (s) => s.stack), cpu: zero(samples.length), cut: zero(samples.length),
      weight: column(samples, (s) => s.weight),
    },
    stats: null, comparison: null,
  };
}

const PLAIN = { byProcess: false, collapse: false, hidden: null };

function weigh(stacks: Record<string, number>, structure: Partial<typeof PLAIN> & { hide?: string } = {}): Weighed {
  const symbols = new Symbols(profileOf(stacks));
  const { hide, ...rest } = structure;
  const mask = hide === undefined ? null
    : hidden(symbols, [{ op: "hide", what: "function", value: symbolOf(symbols, hide) }]);
  return new Weighed(new CallTree(symbols, { ...PLAIN, ...rest, hidden: mask }), null, []);
}

function symbolOf(symbols: Symbols, name: string): number {
  for (let s = 0; s < symbols.length; s++) if (symbols.text(s) === name) return s;
  throw new Error(name);
}

/** A view as text: `name value(children)`, heaviest first. */
function drawn(tree: ViewTree, node: ViewNode = tree.root): string {
  const name = node.symbol < 0 ? "all" : tree.weighed.tree.symbols.text(node.symbol);
  const children = tree.children(node).map((child) => drawn(tree, child));
  return `${name} ${node.value}${children.length > 0 ? `(${children.join(" ")})` : ""}`;
}

const SIMPLE = { "p: a b:1 c": 3, "p: a b:2": 2, "q: a d": 4, "q: a": 1 };

test("frames of one function at different lines are one node", () => {
  assert.equal(drawn(ViewTree.flame(weigh(SIMPLE))), "all 10(a 10(b 5(c 3) d 4))");
});

test("grouping puts each process at the root, with its own part of shared stacks", () => {
  assert.equal(drawn(ViewTree.flame(weigh(SIMPLE, { byProcess: true }))),
    "all 10(p 5(a 5(b 5(c 3))) q 5(a 5(d 4)))");
});

test("one stack that two processes share counts for each", () => {
  assert.equal(drawn(ViewTree.flame(weigh({ "p: a b": 1, "q: a b": 2, "r: a b": 3 }, { byProcess: true }))),
    "all 6(r 3(a 3(b 3)) q 2(a 2(b 2)) p 1(a 1(b 1)))");
});

test("where callers are missing stands a box that says why, and nobody's share grows by it", () => {
  const profile = profileOf({ "p: a b": 3, "p: b": 2, "p: ": 1 });
  profile.meta.cuts = ["none", "no_unwind_info", "budget"];
  profile.samples.cut = Uint32Array.from([0, 1, 2]);
  const symbols = new Symbols(profile);
  const weighed = new Weighed(new CallTree(symbols, { ...PLAIN, byProcess: true }), null, []);
  assert.equal(drawn(ViewTree.flame(weighed)), "all 6(p 6(a 3(b 3) [cut: no unwind info] 2(b 2) [cut: budget] 1))");
  assert.equal(drawn(ViewTree.callers(weighed)),
    "all 6(b 5(a 3(p 3) [cut: no unwind info] 2(p 2)) [cut: budget] 1(p 1))");
  const { self, total } = weighed.bySymbol();
  assert.deepEqual([self[symbolOf(symbols, "b")], total[symbolOf(symbols, "b")]], [5, 5]);
  const mask = searchMask(symbols, "cut:", matcher) as Uint8Array;
  assert.equal(weighed.matches(mask).weight, 3);
});

test("a stack that says itself what was left out further in has its callers where they are", () => {
  const profile = profileOf({ "p: a b c": 3, "p: a left c": 2, "p: left": 1 });
  profile.meta.kinds = ["kernel", "native", "note"];
  const note = (symbol: number) => profile.strings.get(profile.functions.name[symbol]!) === "left";
  profile.functions.kind = profile.functions.kind.map((kind, f) => (note(f) ? 2 : kind));
  profile.meta.cuts = ["none", "budget"];
  profile.samples.cut = Uint32Array.from([0, 1, 1]);
  const weighed = new Weighed(new CallTree(new Symbols(profile), { ...PLAIN, byProcess: true }), null, []);
  assert.equal(drawn(ViewTree.flame(weighed)), "all 6(p 6(a 5(b 3(c 3) left 2(c 2)) [cut: budget] 1(left 1)))");
});

test("callers: functions by own weight, then who called them", () => {
  assert.equal(drawn(ViewTree.callers(weigh(SIMPLE))), "all 10(d 4(a 4) c 3(b 3(a 3)) b 2(a 2) a 1)");
});

test("a sandwich counts recursion once, above and below alike", () => {
  const weighed = weigh({ "p: a f g f h": 2, "p: a f": 1, "p: b f h": 4, "p: b": 5 });
  const f = symbolOf(weighed.tree.symbols, "f");
  assert.equal(drawn(ViewTree.around(weighed, f, "up")), "f 7(b 4 a 3)");
  assert.equal(drawn(ViewTree.around(weighed, f, "down")), "f 7(h 4 g 2(f 2(h 2)))");
  assert.equal(weighed.bySymbol().total[f], 7);
  assert.equal(weighed.bySymbol().self[f], 1);
});

test("recursion collapses, direct and through others; other repeats stay", () => {
  const collapsed = (stacks: Record<string, number>) => drawn(ViewTree.flame(weigh(stacks, { collapse: true })));
  assert.equal(collapsed({ "p: a f f f g": 2, "p: a f": 1 }), "all 3(a 3(f 3(g 2)))");
  assert.equal(collapsed({ "p: x a b a b a b c": 1 }), "all 1(x 1(a 1(b 1(c 1))))");
  // An interpreter's loop between different functions is no recursion.
  assert.equal(collapsed({ "p: eval foo eval bar eval": 1 }), "all 1(eval 1(foo 1(eval 1(bar 1(eval 1)))))");
});

test("a hidden function's callees move up, its own weight to its caller", () => {
  assert.equal(drawn(ViewTree.flame(weigh(SIMPLE, { hide: "b" }))), "all 10(a 10(d 4 c 3))");
});

test("more children than are scanned are still found again", () => {
  const stacks: Record<string, number> = {};
  for (let round = 1; round <= 3; round++) {
    for (let i = 0; i < 100; i++) stacks[`p: root f${i}:${round}`] = 1;
  }
  const weighed = weigh(stacks);
  assert.equal(weighed.tree.n, 1 + 1 + 100);
  const view = ViewTree.flame(weighed);
  const children = view.children(view.children(view.root)[0]!);
  assert.equal(children.length, 100);
  assert.ok(children.every((child) => child.value === 3));
});

test("totals by symbol agree with counting each stack by hand", () => {
  let seed = 7;
  const random = (n: number) => (seed = (seed * 48271) % 2147483647) % n;
  const stacks: Record<string, number> = {};
  for (let i = 0; i < 300; i++) {
    const path = Array.from({ length: 1 + random(9) }, () => `f${random(6)}:${random(3)}`);
    stacks[`p${random(3)}: ${path.join(" ")}`] = 1 + random(5);
  }
  const total: Record<string, number> = {};
  const self: Record<string, number> = {};
  for (const [key, weight] of Object.entries(stacks)) {
    const names = key.split(": ")[1]!.split(" ").map((part) => part.split(":")[0]!);
    for (const name of new Set(names)) total[name] = (total[name] ?? 0) + weight;
    self[names.at(-1)!] = (self[names.at(-1)!] ?? 0) + weight;
  }
  for (const byProcess of [false, true]) {
    const weighed = weigh(stacks, { byProcess });
    const weights = weighed.bySymbol();
    for (const name of Object.keys(total)) {
      const symbol = symbolOf(weighed.tree.symbols, name);
      assert.equal(weights.total[symbol], total[name], name);
      assert.equal(weights.self[symbol], self[name] ?? 0, name);
      const facts = symbolFacts(weighed, symbol);
      assert.equal(facts.lines.reduce((sum, line) => sum + line.self, 0), self[name] ?? 0);
      assert.equal(facts.lines.reduce((sum, line) => sum + line.total, 0), total[name]);
      const mask = new Uint8Array(weighed.tree.symbols.length);
      mask[symbol] = 1;
      assert.equal(weighed.matches(mask).weight, total[name]);
    }
  }
});

test("selections: process, name of processes, thread, time; focus keeps whole stacks", () => {
  const profile = profileOf(SIMPLE);
  const symbols = new Symbols(profile);
  const sum = (state: Partial<State>) => {
    const chosen = chosenSamples(profile, { ...START, ...state });
    return new Weighed(new CallTree(symbols, PLAIN), chosen, []).sum;
  };
  assert.equal(sum({}), 10);
  assert.equal(sum({ process: "p1" }), 5);
  assert.equal(sum({ process: `c${profile.processes.comm[0]}` }), 5);
  assert.equal(sum({ thread: "t0", process: "p1" }), 0);
  assert.equal(sum({ range: [1e6, 3e6] }), 6);
  assert.equal(sum({ process: "p99" }), 0);
  const focus = meant(symbols, { op: "focus", what: "function", value: symbolOf(symbols, "b") });
  assert.equal(drawn(ViewTree.flame(new Weighed(new CallTree(symbols, PLAIN), null, [focus]))), "all 5(a 5(b 5(c 3)))");
});

test("search: any case for lower case, expressions, fields, bad expressions", () => {
  const symbols = new Symbols(profileOf({ "p: Main mainline sys_read": 1 }));
  const found = (query: string) => {
    const mask = searchMask(symbols, query, matcher);
    if (mask === null || mask instanceof Error) return mask;
    return [...mask].flatMap((bit, s) => (bit === 1 ? [symbols.text(s)] : []));
  };
  assert.deepEqual(found("main"), ["Main", "mainline"]);
  assert.deepEqual(found("Main"), ["Main"]);
  assert.deepEqual(found("/^main$/"), ["Main"]);
  assert.deepEqual(found("kind:kernel"), ["sys_read"]);
  assert.equal(found(""), null);
  assert.ok(found("/(/") instanceof Error);
});

test("a path leads back to its node", () => {
  const view = ViewTree.flame(weigh(SIMPLE, { byProcess: true }));
  const node = view.children(view.children(view.children(view.root)[0]!)[0]!)[0]!;
  assert.equal(view.follow(pathOf(node)), node);
  assert.equal(view.follow([12345]), view.root);
});

test("a link holds the whole state; nonsense is the state at the start", () => {
  const state: State = {
    view: "table", process: "c7", thread: "t3", range: [1_500_000, 2_000_000], search: "a&b=c#%d é",
    filters: [{ op: "hide", what: "kind", value: 1 }, { op: "focus", what: "function", value: 42 }],
    byProcess: false, collapse: true, upward: false, path: [1, 2, 3], symbol: 9, sort: "module", ascending: true, strip: "cpu",
  };
  assert.deepEqual(fromFragment(`#${toFragment(state)}`), state);
  assert.equal(toFragment({ ...START }), "");
  assert.deepEqual(fromFragment("#view=x&process=q&range=3-1&zoom=a.b&hide=function.-1&sort=up&function=1e9"), START);
});

test("numbers and names as they are shown", () => {
  assert.equal(count(1234567), "1\u202f234\u202f567");
  assert.equal(share(1, 3), "33.3\u202f%");
  assert.equal(share(1, 1e6), "<\u202f0.01\u202f%");
  assert.equal(share(3, 3), "100\u202f%");
  assert.equal(share(1, 0), "0\u202f%");
  assert.equal(duration(1.5e6), "1.5\u202fms");
  assert.equal(amount(1, { value_type: "", value_unit: "" }), "1 sample");
  assert.equal(amount(1024, { value_type: "inuse_space", value_unit: "bytes" }), "1\u202fKiB inuse_space");
  assert.equal(amount(5e6, { value_type: "delay", value_unit: "nanoseconds" }), "5\u202fms delay");
  assert.equal(amount(5e6, { value_type: "delay", value_unit: "microseconds" }), "5\u202fs delay");
  assert.equal(amount(3, { value_type: "alloc_space", value_unit: "gigabytes" }), "3\u202fGiB alloc_space");
  assert.equal(amount(7, { value_type: "goroutine", value_unit: "count" }), "7 goroutine");
  assert.equal(duration(1234e9), "1\u202f234\u202fs");
  assert.equal(bytes(1536), "1.5\u202fKiB");
  assert.equal(shown("a\u202eb\n\u0000 שלום"), "a\\u{202e}b\\u{a}\\u{0} שלום");
});

test("labels stand out from every box, light and dark", () => {
  const luminance = (hex: string) => {
    const [r, g, b] = [1, 3, 5].map((i) => {
      const c = parseInt(hex.slice(i, i + 2), 16) / 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    }) as [number, number, number];
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a: string, b: string) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y) as [number, number];
    return (high + 0.05) / (low + 0.05);
  };
  for (const kind of ["kernel", "native", "rust", "go", "jvm", "cpython", "v8js", "ruby", "php", "perl", "beam",
    "dotnet", "luajit", "jit", "note", "process", "cut"]) {
    for (let shade = 0; shade < SHADES; shade++) {
      assert.ok(contrast(fill(kind, shade, false), "#1d1d1b") >= 4.5, `${kind} ${shade} light`);
      assert.ok(contrast(fill(kind, shade, true), "#f2f2ef") >= 4.5, `${kind} ${shade} dark ${fill(kind, shade, true)}`);
    }
  }
  assert.ok(shadeOf(12345) < SHADES);
});

test("a name loses its arguments first, then its qualifiers from the outside", () => {
  const cases: [string, boolean, string[]][] = [
    ["llvm::FPPassManager::runOnFunction(llvm::Function&)", false,
      ["llvm::FPPassManager::runOnFunction", "FPPassManager::runOnFunction", "runOnFunction"]],
    ["<rustc_middle::ty::Ty as core::fmt::Display>::fmt", false, ["Ty::fmt", "fmt"]],
    ["<std::sys::thread::unix::Thread>::new::thread_start", false,
      ["Thread::new::thread_start", "new::thread_start", "thread_start"]],
    ["llvm::PassManager<llvm::Module, llvm::A<int> >::run(llvm::Module&)", false, [
      "llvm::PassManager<llvm::Module, llvm::A<int> >::run", "PassManager<llvm::Module, llvm::A<int> >::run",
      "llvm::PassManager<…>::run", "PassManager<…>::run", "run"]],
    ["std::sys::begin::<<A as B>::go, ()>", false, [
      "sys::begin::<<A as B>::go, ()>", "begin::<<A as B>::go, ()>", "std::sys::begin::<…>", "sys::begin::<…>",
      "begin::<…>"]],
    ["check::liveness::{closure#0}", false, ["liveness::{closure#0}"]],
    ["(anonymous namespace)::run(int) const", false, ["(anonymous namespace)::run", "run"]],
    ["A<B::C>::operator()(int)", false, ["A<B::C>::operator", "A<…>::operator", "operator"]],
    ["bool operator< <A>(A const&)", false, []],
    ["copy.part.0", false, []], ["<module>", true, []], ["<lambda>", true, []],
    ["github.com/a/b.(*Server).Serve", true, ["a/b.(*Server).Serve", "b.(*Server).Serve", "Serve"]],
    ["java.util.HashMap.get", true, ["util.HashMap.get", "HashMap.get", "get"]],
    ["[unnamed: process gone]", true, []],
    ["std::vector<int>::push_back", false, ["std::vector<…>::push_back", "vector<int>::push_back", "vector<…>::push_back", "push_back"]],
    ["", false, []], ["::", false, []], ["a)b(", false, []],
  ];
  for (const [name, dotted, forms] of cases) assert.deepEqual(shorter(name, dotted), forms, name);
});
