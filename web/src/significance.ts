// Whether a share of the samples changed, or only its estimate: the twin of
// crates/hotframe/src/significance.rs, which says what the tests are and why.

/** Chance that anything is marked although nothing changed. */
export const ALPHA = 0.05;
/** Parts that a recording is divided into. */
export const BLOCKS = 64;
const DEGREES = (2 * (BLOCKS - 1)) / 3;

const TERMS = [676.5203681218851, -1259.1392167224028, 771.3234287776531, -176.6150291621406,
  12.507343278686905, -0.13857109526572012, 9.984369578019572e-6, 1.5056327351493116e-7];

/** ln Γ(x) for x ≥ 1. */
function lnGamma(x: number): number {
  const z = x - 1;
  const sum = TERMS.reduce((sum, term, i) => sum + term / (z + i + 1), 0.9999999999998099);
  const t = z + 7.5;
  return 0.5 * Math.log(2 * Math.PI) + (z + 0.5) * Math.log(t) - t + Math.log(sum);
}

/** Two-sided p-value of Fisher's exact test: `a` of `nA` against `b` of `nB`. */
export function fisher(a: number, nA: number, b: number, nB: number): number {
  const hits = a + b;
  const all = nA + nB;
  if (nA === 0 || nB === 0 || hits === 0 || hits === all) return 1;
  const choose = (n: number, k: number) => lnGamma(n + 1) - lnGamma(k + 1) - lnGamma(n - k + 1);
  const here = choose(hits, a) + choose(all - hits, nA - a) - choose(all, nA);
  const lower = a <= (nA * hits) / all;
  let sum = 1;
  for (let term = 1, k = a; ; k += lower ? -1 : 1) {
    term *= lower ? (k * (all - hits - nA + k)) / ((hits - k + 1) * (nA - k + 1))
      : ((hits - k) * (nA - k)) / ((k + 1) * (all - hits - nA + k + 1));
    if (!(term > sum * 1e-16)) break;
    sum += term;
  }
  return Math.min(1, 2 * sum * Math.exp(here));
}

/** The bound of p-values for tests of these numbers of samples: Tarone's. */
export function bound(hits: Iterable<number>, nA: number, nB: number): number {
  const least = new Map<number, number>();
  const values: number[] = [];
  for (const n of hits) {
    let p = least.get(n);
    if (p === undefined) {
      const a = Math.min(n, nA);
      const b = Math.min(n, nB);
      least.set(n, (p = Math.min(fisher(a, nA, n - a, nB), fisher(n - b, nA, b, nB))));
    }
    values.push(p);
  }
  const sorted = Float64Array.from(values).sort();
  const able = (k: number) => {
    let low = 0;
    for (let high = sorted.length; low < high;) {
      const middle = (low + high) >>> 1;
      if (sorted[middle]! <= ALPHA / k) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  let low = 1;
  for (let high = Math.max(1, sorted.length); low < high;) {
    const k = (low + high) >>> 1;
    if (able(k) <= k) high = k;
    else low = k + 1;
  }
  return ALPHA / low;
}

/** The share of `hits` in `all`, block by block, and its variance; null without samples. */
function share(hits: Float64Array, all: Float64Array): [number, number] | null {
  const sum = all.reduce((sum, n) => sum + n, 0);
  if (sum === 0) return null;
  const share = hits.reduce((sum, n) => sum + n, 0) / sum;
  let squares = 0;
  for (let i = 1; i < BLOCKS; i++) {
    squares += (hits[i]! - share * all[i]! - (hits[i - 1]! - share * all[i - 1]!)) ** 2;
  }
  return [share, ((BLOCKS / (2 * (BLOCKS - 1))) * squares) / sum ** 2];
}

/** Two-sided p-value of Welch's t-test; 0 where it has nothing to say. */
export function welch(hitsA: Float64Array, allA: Float64Array, hitsB: Float64Array, allB: Float64Array): number {
  const a = share(hitsA, allA);
  const b = share(hitsB, allB);
  if (a === null || b === null) return 0;
  const variance = a[1] + b[1];
  if (variance <= 0) return 0;
  const degrees = variance ** 2 / ((a[1] ** 2 + b[1] ** 2) / DEGREES);
  return beta(degrees / 2, 0.5, degrees / (degrees + (b[0] - a[0]) ** 2 / variance));
}

/** The regularised incomplete beta function. */
export function beta(a: number, b: number, x: number): number {
  if (x <= 0 || x >= 1) return Math.min(1, Math.max(0, x));
  if (x > (a + 1) / (a + b + 2)) return 1 - beta(b, a, 1 - x);
  const ln = (z: number) => lnGamma(z + 1) - Math.log(z);
  const front = Math.exp(ln(a + b) - ln(a) - ln(b) + a * Math.log(x) + b * Math.log(1 - x)) / a;
  const nonzero = (value: number) => (Math.abs(value) < 1e-300 ? 1e-300 : value);
  let c = 1;
  let d = 1 / nonzero(1 - ((a + b) * x) / (a + 1));
  let fraction = d;
  for (let m = 1; m < 500; m++) {
    for (const numerator of [
      (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m)),
      (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1)),
    ]) {
      d = 1 / nonzero(1 + numerator * d);
      c = nonzero(1 + numerator / c);
      fraction *= c * d;
    }
    if (Math.abs(c * d - 1) < 1e-15) break;
  }
  return Math.min(1, Math.max(0, front * fraction));
}
