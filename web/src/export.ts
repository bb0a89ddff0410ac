// The current view as a file: SVG of the graph, folded stacks of the selection.

import type { Flame } from "./flame";
import { ROW_PX } from "./flame";
import { amount, share, shown } from "./text";
import type { ViewNode, ViewTree, Weighed } from "./tree";

/** Text that is safe in XML; characters that XML lacks are already escaped by `shown`. */
function xml(text: string): string {
  return shown(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`).replace(/[\ufffe\uffff]/g, "\ufffd");
}

/** The graph as drawn, all rows of it. */
export function svg(flame: Flame, tree: ViewTree, width: number, title: string, dark: boolean): string {
  const { symbols } = tree.weighed.tree;
  const boxes = flame.drawn();
  const rows = boxes.reduce((most, box) => Math.max(most, box.row), 0) + 1;
  const top = 28;
  const height = top + rows * ROW_PX + 4;
  const ink = dark ? "#e8e8e6" : "#1d1d1b";
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" ` +
      `font-family="system-ui, sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="${dark ? "#161615" : "#ffffff"}"/>`,
    `<text x="4" y="18" fill="${ink}" font-weight="600">${xml(title)}</text>`,
  ];
  for (const { node, x, width, row } of boxes) {
    const y = top + (flame.upward ? rows - 1 - row : row) * ROW_PX;
    const name = node.symbol < 0 ? "all" : symbols.text(node.symbol);
    const kind = node.symbol < 0 ? "process" : symbols.kindName(node.symbol);
    const chars = Math.floor((width - 8) / 6.6);
    const text = shown(name);
    const label = chars < 3 ? "" : text.length <= chars ? text : `${text.slice(0, chars - 1)}…`;
    const { changes } = tree.weighed;
    const change = changes?.of(tree, node);
    const facts = changes && change ? `${changes.text(change)}, ${changes.verdict(change)}`
      : `(${kind}) ${amount(node.value, symbols.profile.meta)}, ${share(node.value, tree.weighed.sum)}`;
    parts.push(
      `<g><title>${xml(name)} ${xml(facts)}</title>` +
      `<rect x="${x.toFixed(2)}" y="${y}" width="${Math.max(width - (width > 3 ? 1 : 0), 0.5).toFixed(2)}" height="${ROW_PX - 1}" ` +
      `fill="${flame.fillOf(node)}"/>` +
      (label === "" ? "" : `<text x="${(x + 4).toFixed(2)}" y="${y + 13}" fill="${ink}">${xml(label)}</text>`) + "</g>");
  }
  parts.push("</svg>\n");
  return parts.join("\n");
}

/** What flamegraph.pl colours by, as `hotframe record -o x.folded` writes it. Whether a call was inlined is a frame's, not a function's. */
const ANNOTATIONS: Record<string, string> = { kernel: "_[k]", jit: "_[j]", jvm: "_[j]", v8js: "_[j]", dotnet: "_[j]", luajit: "_[j]" };

/** `outermost;…;leaf COUNT` (of a comparison `BEFORE AFTER`, as difffolded.pl writes) of what a view's node stands for, a line per stack, sorted. */
export function folded(weighed: Weighed, below: ViewNode | null): string {
  const { tree, self } = weighed;
  const clean = (symbol: number) =>
    tree.symbols.text(symbol).replace(/[\u0000-\u001f\u007f;]/g, (c) => (c === ";" ? ":" : " ")) +
    (ANNOTATIONS[tree.symbols.kindName(symbol)] ?? "");
  const inside = new Uint8Array(tree.n);
  if (below === null) inside.fill(1);
  else for (let i = 0; i < below.nodes.length; i++) inside[below.nodes[i]!] = 1;
  const prefix: string[] = [];
  const lines: string[] = [];
  for (let node = 0; node < tree.n; node++) {
    const parent = tree.parent[node]!;
    if (parent >= 0) inside[node]! |= inside[parent]!;
    if (inside[node] === 0 || self[node]! === 0) continue;
    prefix.length = 0;
    for (let at = node; at > 0; at = tree.parent[at]!) prefix.push(clean(tree.symbol[at]!));
    const own = weighed.changes?.own(node);
    lines.push(`${prefix.reverse().join(";") || "all"} ${own ? `${own.before} ${own.after}` : self[node]}`);
  }
  return lines.sort().join("\n") + (lines.length > 0 ? "\n" : "");
}

/** Hands a text to the browser as a download. */
export function download(name: string, type: string, text: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
