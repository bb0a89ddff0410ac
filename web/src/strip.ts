// The time strip: samples over time, by process or by CPU, with a range to select.

import { givenUp } from "./lacks";
import type { Profile } from "./payload";
import { el } from "./dom";
import { duration, shown } from "./text";

/** Processes that get a colour of their own. */
const TOP = 5;
const HEIGHT_PX = 56;
/** Ticks of one CPU that a bucket is long, at least. */
const MIN_TICKS = 6;

export class Strip {
  readonly element: HTMLElement;
  readonly canvas = el("canvas", { tabindex: "0", role: "slider", "aria-label": "part of the recording" });
  private readonly names = el("div", { class: "strip-names quiet" });
  private readonly note = el("div", { class: "strip-note quiet" });
  private readonly mode: HTMLButtonElement;
  private by: "process" | "cpu" = "process";
  private range: [number, number] | null = null;
  private chosen: Uint8Array | null = null;
  private drag: number | null = null;
  private readonly length: number;

  constructor(
    private readonly profile: Profile,
    private readonly select: (range: [number, number] | null) => void,
    setMode: (by: "process" | "cpu") => void,
  ) {
    const { samples, meta } = profile;
    let last = 0;
    for (let i = 0; i < samples.n; i++) last = Math.max(last, samples.timeNs[i]!);
    this.length = Math.max(meta.duration_ns, last + 1);
    this.mode = el("button", {
      class: "small", title: "what the rows stand for",
      click: () => setMode(this.by === "process" ? "cpu" : "process"),
    });
    this.element = el("section", { class: "strip", "aria-label": "samples over time" },
      el("div", { class: "strip-side" }, this.mode, this.note),
      el("div", { class: "strip-plot" }, this.names, this.canvas));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    const time = (event: PointerEvent) =>
      Math.max(0, Math.min(1, event.offsetX / this.canvas.clientWidth)) * this.length;
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.drag = time(event);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (this.drag === null) return;
      this.range = [Math.min(this.drag, time(event)), Math.max(this.drag, time(event))];
      this.draw();
    });
    this.canvas.addEventListener("pointerup", (event) => {
      if (this.drag === null) return;
      const from = Math.min(this.drag, time(event));
      const to = Math.max(this.drag, time(event));
      this.drag = null;
      this.select(to - from < this.length * 0.004 ? null : [from, to]);
    });
    this.canvas.addEventListener("keydown", (event) => {
      const step = this.length / 40;
      const [from, to] = this.range ?? [0, this.length];
      const width = to - from;
      const bounded = (left: number, right: number) =>
        this.select([Math.max(0, left), Math.min(this.length, Math.max(right, left + step))]);
      if (event.key === "ArrowRight" && event.shiftKey) bounded(from, to + step);
      else if (event.key === "ArrowLeft" && event.shiftKey) bounded(from, to - step);
      else if (event.key === "ArrowRight") {
        if (this.range === null) bounded(0, this.length / 10);
        else if (to + step <= this.length) bounded(from + step, from + step + width);
      } else if (event.key === "ArrowLeft") {
        if (this.range !== null && from - step >= -1) bounded(from - step, from - step + width);
      } else if (event.key === "Escape" || event.key === "Delete") this.select(null);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  /** `threads`: those whose samples are drawn; null for all. */
  show(by: "process" | "cpu", range: [number, number] | null, threads: Uint8Array | null): void {
    this.by = by;
    this.range = range;
    this.chosen = threads;
    this.mode.textContent = by === "process" ? "by process" : "by CPU";
    this.canvas.setAttribute("aria-valuetext", range === null ? "all"
      : `${duration(range[0])} to ${duration(range[1])}`);
    this.draw();
  }

  redraw(): void {
    this.draw();
  }

  private draw(): void {
    const { canvas, profile } = this;
    const { samples, threads, processes } = profile;
    const width = canvas.clientWidth;
    if (width === 0) return;
    const ratio = devicePixelRatio;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(HEIGHT_PX * ratio);
    const context = canvas.getContext("2d")!;
    context.scale(ratio, ratio);
    const style = getComputedStyle(canvas);
    const colour = (name: string) => style.getPropertyValue(name);
    context.clearRect(0, 0, width, HEIGHT_PX);

    // Buckets of at least 3 px, and long enough that rounding to ticks does not show.
    const period = Math.max(profile.meta.period_ns, 1);
    // Samples that were counted together have one time.
    const together = Math.max(givenUp(profile.stats).intervalNs, 1);
    const buckets = Math.max(1, Math.min(Math.floor(width / 3), Math.floor(this.length / period / MIN_TICKS),
      Math.floor(this.length / together)));
    const bucketNs = this.length / buckets;
    const step = width / buckets;
    const rowOf = new Int32Array(threads.n).fill(TOP);
    let rows = TOP + 1;
    const weights = new Map<number, number>();
    for (let i = 0; i < samples.n; i++) {
      const comm = processes.comm[threads.process[samples.thread[i]!]!]!;
      weights.set(comm, (weights.get(comm) ?? 0) + samples.weight[i]!);
    }
    // The same processes have the same colours, whatever is selected.
    const top = [...weights].sort(([, a], [, b]) => b - a).slice(0, TOP).map(([comm]) => comm);
    for (let t = 0; t < threads.n; t++) {
      const row = top.indexOf(processes.comm[threads.process[t]!]!);
      if (row >= 0) rowOf[t] = row;
    }
    this.names.replaceChildren(...(this.by === "cpu" ? [] : [
      ...top.map((comm) => shown(profile.strings.get(comm)) || "(no name)"), ...(weights.size > TOP ? ["others"] : []),
    ].map((name, row) => {
      const square = el("i", { class: "swatch" });
      square.style.background = `var(--strip-${row})`;
      return el("span", {}, square, el("bdi", {}, name));
    })));
    if (this.by === "cpu") {
      rows = 1;
      for (let i = 0; i < samples.n; i++) rows = Math.max(rows, samples.cpu[i]! + 1);
    }
    const counts = new Float64Array(rows * buckets);
    for (let i = 0; i < samples.n; i++) {
      const thread = samples.thread[i]!;
      if (this.chosen !== null && this.chosen[thread] === 0) continue;
      const bucket = Math.min(buckets - 1, Math.floor(samples.timeNs[i]! / bucketNs));
      const row = this.by === "cpu" ? samples.cpu[i]! : rowOf[thread]!;
      counts[row * buckets + bucket]! += samples.weight[i]!;
    }
    const plot = HEIGHT_PX - 14;
    if (this.by === "cpu") {
      const full = bucketNs / period;
      context.fillStyle = colour("--strip-0");
      const height = plot / rows;
      for (let row = 0; row < rows; row++) {
        for (let bucket = 0; bucket < buckets; bucket++) {
          context.globalAlpha = Math.min(1, counts[row * buckets + bucket]! / full);
          context.fillRect(bucket * step, row * height, step + 0.3, Math.max(height - (height > 3 ? 1 : 0), 0.5));
        }
      }
      context.globalAlpha = 1;
      this.note.textContent = `${rows} CPU${rows === 1 ? "" : "s"}`;
    } else {
      let most = 1;
      for (let bucket = 0; bucket < buckets; bucket++) {
        let sum = 0;
        for (let row = 0; row < rows; row++) sum += counts[row * buckets + bucket]!;
        most = Math.max(most, sum);
      }
      for (let bucket = 0; bucket < buckets; bucket++) {
        let y = plot;
        for (let row = 0; row < rows; row++) {
          const height = (counts[row * buckets + bucket]! / most) * (plot - 2);
          if (height === 0) continue;
          context.fillStyle = colour(`--strip-${row}`);
          context.fillRect(bucket * step, y - height, Math.max(step - 0.5, 0.5), height);
          y -= height;
        }
      }
      this.note.textContent = `peak ${Math.round((most / bucketNs) * 1e9)}/s`;
    }

    // The axis.
    context.fillStyle = colour("--quiet");
    context.font = "10.5px system-ui, sans-serif";
    context.textBaseline = "bottom";
    const raw = this.length / Math.max(2, width / 110);
    const scale = 10 ** Math.floor(Math.log10(raw));
    const tick = [1, 2, 5, 10].map((m) => m * scale).find((t) => t >= raw) ?? raw;
    for (let at = 0; at < this.length; at += tick) {
      const x = (at / this.length) * width;
      if (x > width - 30) break;
      context.fillRect(x, plot, 1, 3);
      context.fillText(at === 0 ? "0" : duration(at), x + 3, HEIGHT_PX);
    }
    if (this.range !== null) {
      const [from, to] = this.range.map((ns) => (ns / this.length) * width) as [number, number];
      context.fillStyle = colour("--veil");
      context.fillRect(0, 0, from, plot);
      context.fillRect(to, 0, width - to, plot);
      context.fillStyle = colour("--accent");
      context.fillRect(from, 0, 1.5, plot);
      context.fillRect(to - 1.5, 0, 1.5, plot);
    }
  }
}
