// Kinds are told apart by everybody: measured, not promised.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fill } from "../src/colour";

type Triple = [number, number, number];

/** What eyes that lack one kind of cone see, in linear sRGB (Machado, Oliveira & Fernandes 2009, severity 1). */
const VISIONS: Record<string, [Triple, Triple, Triple]> = {
  usual: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  protanopia: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  deuteranopia: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  tritanopia: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
};

function linear(hex: string): Triple {
  return [1, 3, 5].map((at) => {
    const c = parseInt(hex.slice(at, at + 2), 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  }) as Triple;
}

const times = (rows: [Triple, Triple, Triple], [r, g, b]: Triple) =>
  rows.map((row) => Math.min(1, Math.max(0, row[0] * r + row[1] * g + row[2] * b))) as Triple;

/** Oklab, in which distances are as they look (Ottosson 2020). */
function lab([r, g, b]: Triple): Triple {
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s];
}

function apart(one: string, other: string, dark: boolean): { least: number; vision: string } {
  let least = Infinity;
  let vision = "";
  for (const [name, rows] of Object.entries(VISIONS)) {
    const [a, b] = [one, other].map((kind) => lab(times(rows, linear(fill(kind, 1, dark))))) as [Triple, Triple];
    const distance = Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
    if (distance < least) [least, vision] = [distance, name];
  }
  return { least, vision };
}

const OFTEN = ["kernel", "native", "rust", "go", "jvm", "cpython", "v8js"];
const OTHERS = ["ruby", "php", "perl", "beam", "dotnet", "luajit", "jit", "cut"];

for (const [dark, often, others] of [[false, 0.095, 0.07], [true, 0.04, 0.04]] as const) {
  test(`kinds stay apart under every colour vision, ${dark ? "dark" : "light"}`, () => {
    OFTEN.forEach((one, i) => OFTEN.slice(i + 1).forEach((other) => {
      const { least, vision } = apart(one, other, dark);
      assert.ok(least >= often, `${one} and ${other}: ${least.toFixed(3)} under ${vision}`);
    }));
    for (const one of OTHERS) for (const other of ["kernel", "native"]) {
      const { least, vision } = apart(one, other, dark);
      assert.ok(least >= others, `${one} and ${other}: ${least.toFixed(3)} under ${vision}`);
    }
  });
}

test("every kind of frames has a colour of its own", () => {
  const source = readFileSync("../crates/core/src/profile.rs", "utf8");
  const kinds = [...source.matchAll(/Kind::\w+ => "(\w+)"/g)].map((found) => found[1] as string);
  assert.ok(kinds.length > 10, String(kinds));
  for (const kind of kinds.filter((one) => one !== "note")) {
    assert.notEqual(fill(kind, 1, false), fill("none of them", 1, false), kind);
  }
});
