// A flame graph on a canvas: layout, drawing, zoom, hit test.
//
// The canvas is as large as its scroller, not as the graph; each draw walks the part of the tree
// that is at least half a pixel wide, so its cost follows the pixels and not the profile. Boxes
// are filled colour by colour: changing a canvas's fill costs more than filling.

import { LEVELS } from "./change";
import { changeFill, fill, SHADES, shadeOf } from "./colour";
import { shorter, shown } from "./text";
import { pathOf, type ViewNode, type ViewTree } from "./tree";

export const ROW_PX = 19;
const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';
/** Boxes narrower than this are not drawn. */
const MIN_PX = 0.5;
/** Boxes narrower than this have no label. */
const MIN_LABEL_PX = 28;
const ELLIPSIS_PX = 12;
const ZOOM_MS = 180;
/** Kinds whose names are qualified by dots. */
const DOTTED = new Set(["go", "jvm", "cpython", "v8js", "ruby", "dotnet", "beam", "luajit"]);

export interface FlameEvents {
  /** The pointer is over a node, or over none. */
  hover(node: ViewNode | null, x: number, y: number): void;
  /** A node was chosen. */
  select(node: ViewNode | null): void;
  /** The zoom changed. */
  zoom(node: ViewNode): void;
  /** A node's own menu is asked for. */
  menu(node: ViewNode, x: number, y: number): void;
}

interface Box {
  node: ViewNode;
  x: number;
  width: number;
  row: number;
}

export class Flame {
  readonly element = document.createElement("div");
  readonly canvas = document.createElement("canvas");
  private readonly spacer = document.createElement("div");
  private readonly context: CanvasRenderingContext2D;
  private tree: ViewTree | null = null;
  /** Lit symbols, or null if there is no search. */
  private mask: Uint8Array | null = null;
  private left = 0;
  private right = 1;
  private rows = 1;
  /** Where the root's row begins (or ends, upward), in CSS pixels of the canvas. */
  private origin = 0;
  private zoomed: ViewNode | null = null;
  private selected: ViewNode | null = null;
  private hovered: ViewNode | null = null;
  private boxes: Box[] = [];
  private pending = 0;
  private animation = 0;
  /** Forms of names by symbol, longest first. */
  private labels = new Map<number, { text: string; width: number }[]>();
  private readonly widths = new Float32Array(128);
  dark = false;
  /** Milliseconds that each of the last draws took. */
  readonly drawMs: number[] = [];

  constructor(
    /** Callees above their callers. */
    public upward: boolean,
    private readonly label: string,
    private readonly events: FlameEvents,
  ) {
    this.element.className = "flame";
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-label", label);
    this.spacer.className = "spacer";
    this.element.append(this.canvas, this.spacer);
    this.context = this.canvas.getContext("2d", { alpha: false })!;
    this.element.addEventListener("scroll", () => this.redraw());
    new ResizeObserver(() => this.redraw()).observe(this.element);
    this.canvas.addEventListener("pointermove", (event) => this.pointer(event));
    this.canvas.addEventListener("pointerleave", () => this.hover(null, 0, 0));
    this.canvas.addEventListener("click", (event) => {
      const node = this.at(event);
      this.select(node);
      if (node !== null) this.zoom(node === this.zoomed && node.parent ? node.parent : node);
    });
    this.canvas.addEventListener("contextmenu", (event) => {
      const node = this.at(event);
      if (node === null || node.symbol < 0) return;
      event.preventDefault();
      this.select(node);
      this.events.menu(node, event.clientX, event.clientY);
    });
    this.canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const at = this.left + (event.offsetX / this.canvas.clientWidth) * (this.right - this.left);
      const scale = Math.exp(event.deltaY * 0.002);
      this.window(at - (at - this.left) * scale, at + (this.right - at) * scale);
    }, { passive: false });
  }

  get root(): ViewNode | null {
    return this.tree?.root ?? null;
  }

  get zoomNode(): ViewNode | null {
    return this.zoomed;
  }

  get selection(): ViewNode | null {
    return this.selected;
  }

  /** Shows a tree, zoomed to a path of symbols. */
  show(tree: ViewTree, path: number[] = []): void {
    this.tree = tree;
    this.selected = this.hovered = null;
    const node = tree.follow(path);
    this.zoomed = node;
    this.left = node.start;
    this.right = node.start + Math.max(node.value, 1e-9);
    cancelAnimationFrame(this.animation);
    this.rows = 1;
    this.draw();
    if (this.upward) this.element.scrollTop = this.element.scrollHeight;
  }

  search(mask: Uint8Array | null): void {
    this.mask = mask;
    this.redraw();
  }

  select(node: ViewNode | null): void {
    this.selected = node;
    if (node !== null) this.reveal(node);
    this.events.select(node);
    this.redraw();
  }

  zoom(node: ViewNode): void {
    this.zoomed = node;
    this.events.zoom(node);
    this.moveTo(node.start, node.start + Math.max(node.value, 1e-9));
  }

  /** Zooms far enough out or in that the node can be read, and selects it. */
  goTo(node: ViewNode): void {
    const px = (node.value / (this.right - this.left)) * this.canvas.clientWidth;
    const outside = node.start < this.left || node.start + node.value > this.right;
    this.select(node);
    if (outside || px < 40) {
      let at = node;
      while (at.parent !== null && at.parent.value < node.value * 8) at = at.parent;
      this.zoom(at);
    }
  }

  /** Keys of the graph itself; true if the key was one. */
  key(event: KeyboardEvent): boolean {
    const tree = this.tree;
    if (tree === null) return false;
    const at = this.selected ?? this.zoomed ?? tree.root;
    const siblings = at.parent === null ? [at] : tree.children(at.parent);
    const place = siblings.indexOf(at);
    const out = () => { if (at.parent !== null) this.select(at.parent); };
    const into = () => {
      const first = tree.children(at)[0];
      if (first !== undefined) this.select(first);
    };
    switch (event.key) {
      case "ArrowUp": (this.upward ? into : out)(); return true;
      case "ArrowDown": (this.upward ? out : into)(); return true;
      case "ArrowLeft": if (place > 0) this.select(siblings[place - 1]!); return true;
      case "ArrowRight": if (place + 1 < siblings.length) this.select(siblings[place + 1]!); return true;
      case "Enter": case " ": this.zoom(at); return true;
      case "Backspace": this.zoom(this.zoomed?.parent ?? tree.root); return true;
      case "Home": this.zoom(tree.root); return true;
      case "+": case "=": this.scale(0.6); return true;
      case "-": this.scale(1 / 0.6); return true;
      case "ContextMenu": case "m": {
        const box = this.boxes.find((box) => box.node === at);
        const edge = this.canvas.getBoundingClientRect();
        if (at.symbol >= 0) this.events.menu(at, edge.left + (box?.x ?? 0), edge.top + this.yOf(at.depth) + ROW_PX);
        return true;
      }
      default: return false;
    }
  }

  /** Boxes as they are drawn, for export and for going through matches. */
  drawn(): readonly Box[] {
    return this.boxes;
  }

  get matches(): Box[] {
    const { mask } = this;
    return mask === null ? [] : this.boxes.filter(({ node }) => node.symbol >= 0 && mask[node.symbol] === 1);
  }

  /** Where a node stands, in CSS pixels of the canvas; null if it is not drawn. */
  private rectangle(node: ViewNode): { x: number; y: number; width: number; height: number } | null {
    const box = this.boxes.find((box) => box.node === node);
    if (box === undefined) return null;
    return { x: box.x, y: this.yOf(box.row), width: box.width, height: ROW_PX };
  }

  redraw(): void {
    if (this.pending === 0) {
      this.pending = requestAnimationFrame(() => {
        this.pending = 0;
        this.draw();
      });
    }
  }

  private scale(by: number): void {
    const node = this.selected;
    const middle = node === null ? (this.left + this.right) / 2 : node.start + node.value / 2;
    this.window(middle - (middle - this.left) * by, middle + (this.right - middle) * by);
  }

  /** Shows exactly this part of the width. */
  private window(left: number, right: number): void {
    const root = this.tree!.root;
    const width = Math.min(root.value, Math.max(right - left, 0.01));
    this.left = Math.min(Math.max(left, root.start), root.start + root.value - width);
    this.right = this.left + width;
    this.redraw();
  }

  private moveTo(left: number, right: number): void {
    cancelAnimationFrame(this.animation);
    const from = { left: this.left, right: this.right, time: performance.now() };
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const step = (now: number) => {
      const t = still ? 1 : Math.min(1, Math.max(0, (now - from.time) / ZOOM_MS));
      const eased = 1 - (1 - t) ** 3;
      this.left = from.left + (left - from.left) * eased;
      this.right = from.right + (right - from.right) * eased;
      this.draw();
      if (t < 1) this.animation = requestAnimationFrame(step);
      else if (this.selected !== null) this.reveal(this.selected);
    };
    step(from.time);
  }

  private reveal(node: ViewNode): void {
    this.measure();
    const y = this.yOf(node.depth);
    const height = this.element.clientHeight;
    if (y < 0) this.element.scrollTop += y - ROW_PX;
    else if (y + ROW_PX > height) this.element.scrollTop += y + 2 * ROW_PX - height;
  }

  /** Top of a row relative to the canvas. */
  private yOf(row: number): number {
    return this.upward ? this.origin - (row + 1) * ROW_PX : this.origin + row * ROW_PX;
  }

  /** Reads where the rows are; asking the page for it in a loop would lay it out again and again. */
  private measure(): void {
    const { scrollTop, clientHeight } = this.element;
    this.origin = (this.upward ? Math.max(this.rows * ROW_PX, clientHeight) : 0) - scrollTop;
  }

  private at(event: MouseEvent): ViewNode | null {
    this.measure();
    const { offsetX: x, offsetY: y } = event;
    for (const box of this.boxes) {
      const top = this.yOf(box.row);
      if (y >= top && y < top + ROW_PX && x >= box.x && x < box.x + Math.max(box.width, 1)) return box.node;
    }
    return null;
  }

  private pointer(event: PointerEvent): void {
    this.hover(this.at(event), event.clientX, event.clientY);
  }

  private hover(node: ViewNode | null, x: number, y: number): void {
    if (node !== this.hovered) {
      this.hovered = node;
      this.canvas.style.cursor = node === null ? "default" : "pointer";
      this.redraw();
    }
    this.events.hover(node, x, y);
  }

  private textWidth(text: string): number {
    let width = 0;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code >= 128) width += 8;
      else width += this.widths[code] || (this.widths[code] = this.context.measureText(text[i]!).width);
    }
    return width;
  }

  /** A symbol's name, in the longest of its forms that fits, or as much of the shortest as does. */
  private fit(symbol: number, width: number): string {
    let forms = this.labels.get(symbol);
    if (forms === undefined) this.labels.set(symbol, (forms = this.forms(symbol)));
    for (const form of forms) {
      if (form.width <= width) return form.text;
    }
    const { text } = forms[forms.length - 1]!;
    let used = 0;
    let end = 0;
    for (; end < text.length; end++) {
      used += this.textWidth(text[end]!);
      if (used > width - ELLIPSIS_PX) break;
    }
    return end < 2 ? "" : `${text.slice(0, end)}…`;
  }

  private forms(symbol: number): { text: string; width: number }[] {
    const { symbols } = this.tree!.weighed.tree;
    const text = symbol < 0 ? "all" : shown(symbols.text(symbol));
    const kind = symbol < 0 ? undefined : symbols.profile.meta.kinds[symbols.kind[symbol]!];
    const short = kind === undefined ? [] : shorter(text, DOTTED.has(kind));
    return [text, ...short].map((text) => ({ text, width: this.textWidth(text) }));
  }

  private draw(): void {
    const { tree, context, element } = this;
    const width = element.clientWidth;
    const height = element.clientHeight;
    if (tree === null || width === 0 || height === 0) return;
    const started = performance.now();
    const ratio = devicePixelRatio;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
      this.canvas.style.width = `${width}px`;
      this.canvas.style.height = `${height}px`;
    }
    const scale = width / (this.right - this.left);

    // Lay out: depth first, only what can be seen.
    const boxes: Box[] = [];
    const tails: { x: number; width: number; row: number }[] = [];
    const open: ViewNode[] = [tree.root];
    let deepest = 0;
    while (open.length > 0) {
      const node = open.pop()!;
      const from = Math.max((node.start - this.left) * scale, 0);
      const to = Math.min((node.start + node.value - this.left) * scale, width);
      boxes.push({ node, x: from, width: to - from, row: node.depth });
      if (node.depth > deepest) deepest = node.depth;
      const children = tree.children(node);
      for (let i = 0; i < children.length; i++) {
        const child = children[i]!;
        // Heaviest first: once one is too narrow, so are all after it.
        if (child.value * scale < MIN_PX) {
          const last = children[children.length - 1]!;
          const x = Math.max((child.start - this.left) * scale, 0);
          const end = Math.min((last.start + last.value - this.left) * scale, width);
          if (end - x >= MIN_PX) tails.push({ x, width: end - x, row: child.depth });
          break;
        }
        const left = (child.start - this.left) * scale;
        if (left >= width) break;
        if (left + child.value * scale > 0) open.push(child);
      }
    }
    this.boxes = boxes;
    const rows = deepest + 1;
    if (rows !== this.rows) {
      // Keep the root's row where it is.
      const before = this.element.scrollHeight - this.element.scrollTop;
      this.rows = rows;
      this.spacer.style.height = `${Math.max(0, rows * ROW_PX - height)}px`;
      if (this.upward) this.element.scrollTop = this.element.scrollHeight - before;
    }
    this.measure();

    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const style = getComputedStyle(element);
    const colour = (name: string) => style.getPropertyValue(name);
    context.fillStyle = colour("--paper");
    context.fillRect(0, 0, width, height);

    // Fill, one colour after the other.
    const buckets: Box[][] = [];
    const dim: Box[] = [];
    const lit: Box[] = [];
    const seen: Box[] = [];
    for (const box of boxes) {
      const y = this.yOf(box.row);
      if (y + ROW_PX <= 0 || y >= height) continue;
      seen.push(box);
      const { symbol } = box.node;
      if (this.mask !== null) {
        (symbol >= 0 && this.mask[symbol] === 1 ? lit : dim).push(box);
      } else {
        (buckets[this.bucket(box.node)] ??= []).push(box);
      }
    }
    const paint = (list: Box[], style: string) => {
      context.fillStyle = style;
      for (const box of list) {
        const gap = box.width > 3 ? 1 : box.width > 1.5 ? 0.5 : 0;
        context.fillRect(box.x, this.yOf(box.row), Math.max(box.width - gap, MIN_PX), ROW_PX - 1);
      }
    };
    buckets.forEach((list, bucket) => paint(list, this.bucketFill(bucket)));
    paint(dim, colour("--dim"));
    paint(lit, colour("--lit"));
    context.fillStyle = colour("--tail");
    for (const tail of tails) {
      const y = this.yOf(tail.row);
      if (y > -ROW_PX && y < height) context.fillRect(tail.x, y, tail.width, ROW_PX - 1);
    }

    // Labels, in the part of the box that can be seen.
    context.font = FONT;
    context.textBaseline = "middle";
    context.direction = "ltr";
    context.fillStyle = colour("--label");
    const litInk = colour("--lit-label");
    const ink = colour("--label");
    const dimInk = colour("--dim-label");
    for (const box of seen) {
      if (box.width < MIN_LABEL_PX) continue;
      const text = this.fit(box.node.symbol, box.width - 9);
      if (text === "") continue;
      const { symbol } = box.node;
      const style = this.mask === null ? ink : symbol >= 0 && this.mask[symbol] === 1 ? litInk : dimInk;
      if (context.fillStyle !== style) context.fillStyle = style;
      context.fillText(text, box.x + 4, this.yOf(box.row) + ROW_PX / 2);
    }

    for (const [node, width] of [[this.hovered, 1], [this.selected, 2]] as const) {
      const place = node === null ? null : this.rectangle(node);
      if (place === null) continue;
      context.strokeStyle = colour("--ink");
      context.lineWidth = width;
      context.strokeRect(place.x + width / 2, place.y + width / 2 - 0.5,
        Math.max(place.width - width - 0.5, 1), ROW_PX - width);
    }
    this.drawMs.push(performance.now() - started);
    if (this.drawMs.length > 240) this.drawMs.shift();
  }

  /** Which colour a node has: its kind's, or in a comparison its change's. */
  private bucket(node: ViewNode): number {
    const { symbols } = this.tree!.weighed.tree;
    const { changes } = this.tree!.weighed;
    if (changes !== null) return LEVELS + (node.symbol < 0 ? 0 : changes.level(changes.of(this.tree!, node)));
    const kind = node.symbol < 0 ? symbols.processKind : symbols.kind[node.symbol]!;
    return kind * SHADES + (node.symbol < 0 ? 1 : shadeOf(node.symbol));
  }

  private bucketFill(bucket: number): string {
    const { weighed } = this.tree!;
    if (weighed.changes !== null) return changeFill(bucket - LEVELS, this.dark);
    const { symbols } = weighed.tree;
    const kind = Math.floor(bucket / SHADES);
    return fill(symbols.profile.meta.kinds[kind] ?? (kind === symbols.cutKind ? "cut" : "process"), bucket % SHADES, this.dark);
  }

  /** Fill of a node's box, as #rrggbb. */
  fillOf(node: ViewNode): string {
    return this.bucketFill(this.bucket(node));
  }

  /** Own weight of a node of the graph. */
  own(node: ViewNode): number {
    return this.tree!.own(node);
  }

  get view(): ViewTree | null {
    return this.tree;
  }

  /** Top of a row, in CSS pixels of the canvas. */
  top(row: number): number {
    this.measure();
    return this.yOf(row);
  }

  /** The path that `show` takes. */
  get path(): number[] {
    return this.zoomed === null ? [] : pathOf(this.zoomed);
  }

  get name(): string {
    return this.label;
  }
}
