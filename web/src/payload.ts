// The payload's reader: bytes inside the page → columns in typed arrays.
//
// The layout is described in crates/formats/src/html/payload.rs, which writes it. Texts are
// decoded when they are first asked for: a page shows a small part of them.

export interface Meta {
  producer: string;
  command: string;
  host: string;
  kernel: string;
  arch: string;
  n_cpus: number;
  start_unix_ns: number;
  duration_ns: number;
  period_ns: number;
  /** What weights are sums of, and its unit; "" for samples. */
  value_type: string;
  value_unit: string;
  kinds: string[];
  cuts: string[];
}

export class Strings {
  private readonly known: (string | undefined)[];
  private readonly decoder = new TextDecoder();

  /** Text `i` lies at `bytes[offsets[i]..offsets[i + 1]]`. */
  constructor(
    private readonly bytes: Uint8Array,
    private readonly offsets: Uint32Array,
  ) {
    this.known = new Array<string | undefined>(offsets.length - 1);
  }

  get length(): number {
    return this.known.length;
  }

  get(i: number): string {
    const known = this.known[i];
    if (known !== undefined) return known;
    if (i >= this.known.length) throw new Error(`string ${i} of ${this.known.length}`);
    const text = this.decoder.decode(this.bytes.subarray(this.offsets[i]!, this.offsets[i + 1]!));
    this.known[i] = text;
    return text;
  }
}

export interface Profile {
  meta: Meta;
  strings: Strings;
  modules: { n: number; path: Uint32Array; buildId: Uint32Array };
  functions: {
    n: number;
    name: Uint32Array;
    systemName: Uint32Array;
    file: Uint32Array;
    startLine: Uint32Array;
    module: Uint32Array;
    kind: Uint32Array;
  };
  frames: {
    n: number;
    function: Uint32Array;
    line: Uint32Array;
    addressHigh: Uint32Array;
    addressLow: Uint32Array;
    flags: Uint32Array;
  };
  /** 0 is the empty stack; a parent comes before its children. */
  stacks: { n: number; parent: Uint32Array; frame: Uint32Array };
  processes: {
    n: number;
    pid: Uint32Array;
    comm: Uint32Array;
    exe: Uint32Array;
    cgroup: Uint32Array;
    samples: Float64Array;
    whole: Float64Array;
    /** One column per name of `meta.cuts`. */
    cut: Float64Array[];
  };
  threads: { n: number; tid: Uint32Array; comm: Uint32Array; process: Uint32Array };
  samples: {
    n: number;
    timeNs: Float64Array;
    thread: Uint32Array;
    stack: Uint32Array;
    cpu: Uint32Array;
    cut: Uint32Array;
    weight: Uint32Array;
  };
  stats: unknown;
  /** The samples are those of two recordings. */
  comparison: Comparison | null;
}

/** One of two recordings. */
export interface Side {
  name: string;
  /** How many processes are its own. */
  processes: number;
  samples: number;
  duration_ns: number;
  period_ns: number;
  /** Its samples have times. */
  times: boolean;
}

export interface Comparison {
  before: Side;
  after: Side;
  /** For each sample: 0 before, 1 after. */
  side: Uint8Array;
}

export const FRAME_INLINED = 1;
export const FRAME_HEURISTIC = 2;
export const FRAME_UNNAMED = 4;

const VERSION = 1;
const SECTIONS = ["header", "meta", "strings", "modules", "functions", "frames", "stacks",
  "processes", "threads", "samples", "stats", "comparison"];

/** What is left of a section. */
class Reader {
  constructor(
    readonly bytes: Uint8Array,
    private readonly section: string,
    public at = 0,
  ) {}

  get left(): number {
    return this.bytes.length - this.at;
  }

  fail(what: string): never {
    throw new Error(`profile section ${this.section}: ${what}`);
  }

  /** A number of up to 64 bits; exact up to 2^53. */
  varint(): number {
    const { bytes } = this;
    let value = 0;
    for (let scale = 1; scale <= 2 ** 63; scale *= 128) {
      const byte = bytes[this.at++];
      if (byte === undefined) this.fail("ends early");
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    return this.fail("number too long");
  }

  take(length: number): Uint8Array {
    if (length > this.left) this.fail("ends early");
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  count(columns: number): number {
    if (this.left === 0) return 0;
    const n = this.varint();
    if (n > this.left / columns) this.fail("ends early");
    return n;
  }

  /** A column of 32-bit numbers, each below `bound`. */
  column(n: number, bound = 2 ** 32): Uint32Array {
    const { bytes } = this;
    const values = new Uint32Array(n);
    let at = this.at;
    for (let i = 0; i < n; i++) {
      let byte = bytes[at++]!;
      let value = byte & 0x7f;
      for (let shift = 7; byte >= 0x80; shift += 7) {
        if (shift > 28) this.fail("number too long");
        byte = bytes[at++]!;
        value |= (byte & 0x7f) << shift;
      }
      value >>>= 0;
      if (value >= bound) this.fail(`entry ${i}: ${value} is out of range`);
      values[i] = value;
    }
    if (at > bytes.length) this.fail("ends early");
    this.at = at;
    return values;
  }

  /** The same, written as zigzagged differences. */
  deltas(n: number, bound = 2 ** 32): Uint32Array {
    const values = this.column(n);
    let last = 0;
    for (let i = 0; i < n; i++) {
      const step = values[i]!;
      last = (last + ((step >>> 1) ^ -(step & 1))) >>> 0;
      if (last >= bound) this.fail(`entry ${i}: ${last} is out of range`);
      values[i] = last;
    }
    return values;
  }

  /** A column of numbers of up to 53 bits. */
  wide(n: number): Float64Array {
    return Float64Array.from({ length: n }, () => this.varint());
  }

  json(): unknown {
    if (this.left === 0) return null;
    return JSON.parse(new TextDecoder().decode(this.take(this.left)));
  }

  end(): void {
    if (this.left > 0) this.fail(`${this.left} bytes too many`);
  }
}

/** Reads a payload; throws an `Error` that says what is wrong with it. */
export function readPayload(bytes: Uint8Array): Profile {
  const head = new Reader(bytes, "header");
  if (new TextDecoder().decode(head.take(Math.min(8, bytes.length))) !== "hotframe") {
    head.fail("not a profile of hotframe's");
  }
  const version = head.varint();
  if (version !== VERSION) head.fail(`version ${version}, this page reads ${VERSION}`);
  const sections: (Uint8Array | undefined)[] = [];
  while (head.left > 0) {
    const id = head.varint();
    const content = head.take(head.varint());
    if (id < SECTIONS.length) sections[id] = content;
  }
  const open = (name: string) => {
    const id = SECTIONS.indexOf(name);
    return new Reader(sections[id] ?? new Uint8Array(0), name);
  };

  let at = open("meta");
  const meta = readMeta(at.json());

  at = open("strings");
  let n = at.count(1);
  const lengths = at.column(n);
  const offsets = new Uint32Array(Math.max(n, 1) + 1);
  for (let i = 0; i < n; i++) offsets[i + 1] = offsets[i]! + lengths[i]!;
  if (offsets[n]! !== at.left) at.fail("lengths do not add up");
  const strings = new Strings(at.take(at.left), offsets);
  const s = strings.length;

  at = open("modules");
  n = at.count(2);
  const modules = { n, path: at.column(n, s), buildId: at.column(n, s) };
  at.end();

  at = open("functions");
  n = at.count(6);
  const functions = {
    n,
    name: at.column(n, s),
    systemName: at.column(n, s),
    file: at.deltas(n, s),
    startLine: at.deltas(n),
    module: at.column(n, modules.n),
    kind: at.column(n, meta.kinds.length),
  };
  at.end();

  at = open("frames");
  n = at.count(5);
  const frames = {
    n,
    function: at.deltas(n, functions.n),
    line: at.deltas(n),
    addressHigh: at.column(n),
    addressLow: at.deltas(n),
    flags: at.column(n, 256),
  };
  at.end();

  at = open("stacks");
  n = at.count(2);
  const parent = at.column(n);
  for (let i = 0; i < n; i++) {
    const back = parent[i]!;
    if (i === 0 ? back !== 0 : back < 1 || back > i) at.fail(`entry ${i} has no parent before it`);
    parent[i] = i - back;
  }
  const stacks = { n, parent, frame: at.deltas(n, Math.max(frames.n, 1)) };
  at.end();

  at = open("processes");
  n = at.count(6 + meta.cuts.length);
  const processes = {
    n,
    pid: at.column(n),
    comm: at.column(n, s),
    exe: at.column(n, s),
    cgroup: at.column(n, s),
    samples: at.wide(n),
    whole: at.wide(n),
    cut: meta.cuts.map(() => at.wide(n)),
  };
  at.end();

  at = open("threads");
  n = at.count(3);
  const threads = { n, tid: at.column(n), comm: at.column(n, s), process: at.column(n, processes.n) };
  at.end();

  at = open("samples");
  n = at.count(6);
  const timeNs = at.wide(n);
  for (let i = 0, last = 0; i < n; i++) {
    const step = timeNs[i]!;
    last += step % 2 === 1 ? -(step + 1) / 2 : step / 2;
    timeNs[i] = last;
  }
  const samples = {
    n,
    timeNs,
    thread: at.column(n, threads.n),
    stack: at.deltas(n, stacks.n),
    cpu: at.column(n, 2 ** 16),
    cut: at.column(n, meta.cuts.length),
    weight: at.column(n),
  };
  at.end();

  const sides = open("comparison").json();
  const split = record(record(sides)["before"])["processes"];
  const comparison = sides === null ? null : {
    before: readSide(record(record(sides)["before"])),
    after: readSide(record(record(sides)["after"])),
    side: Uint8Array.from(samples.thread, (thread) => (threads.process[thread]! < Number(split) ? 0 : 1)),
  };

  return {
    meta, strings, modules, functions, frames, stacks, processes, threads, samples,
    stats: open("stats").json(), comparison,
  };
}

function record(value: unknown): Record<string, unknown> {
  return (typeof value === "object" && value !== null ? value : {}) as Record<string, unknown>;
}

function readSide(fields: Record<string, unknown>): Side {
  const number = (key: string) => (typeof fields[key] === "number" ? fields[key] : 0);
  return {
    name: typeof fields["name"] === "string" ? fields["name"] : "",
    processes: number("processes"), samples: number("samples"),
    duration_ns: number("duration_ns"), period_ns: number("period_ns"), times: fields["times"] === true,
  };
}

function readMeta(value: unknown): Meta {
  const fields = record(value);
  const text = (key: string) => (typeof fields[key] === "string" ? fields[key] : "");
  const number = (key: string) => (typeof fields[key] === "number" ? fields[key] : 0);
  const list = (key: string) => (Array.isArray(fields[key]) ? fields[key].map(String) : []);
  return {
    producer: text("producer"),
    command: text("command"),
    host: text("host"),
    kernel: text("kernel"),
    arch: text("arch"),
    n_cpus: number("n_cpus"),
    start_unix_ns: number("start_unix_ns"),
    duration_ns: number("duration_ns"),
    period_ns: number("period_ns"),
    value_type: text("value_type"),
    value_unit: text("value_unit"),
    kinds: list("kinds"),
    cuts: list("cuts"),
  };
}

/** Base64 of a gzip stream → its content. */
export async function unpack(base64: string): Promise<Uint8Array> {
  const binary = atob(base64);
  const packed = new Uint8Array(binary.length);
  for (let i = 0; i < packed.length; i++) packed[i] = binary.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
