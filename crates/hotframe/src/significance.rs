//! Whether a share of the samples changed, or only its estimate.
//!
//! In: how many samples of each of two recordings fell on something, and in which part of the
//! recording. Out: a p-value, and the bound below which it is no noise.
//!
//! # How it works
//! Two tests, and the larger p-value of them counts, so that a change must convince both:
//!
//! - Fisher's exact test of the two counts: right for independent samples at any count, also the
//!   small and unequal ones where the usual z-test finds changes that are none. Two-sided by
//!   doubling the smaller tail.
//! - Welch's t-test of the two shares with a variance taken from the recordings themselves:
//!   samples come in bursts (a thread that runs, runs on), which makes shares vary more than
//!   independent samples would. Each recording is divided into [`BLOCKS`] equal times; the
//!   variance of a share is that of the differences between neighbouring blocks (von Neumann), so
//!   that bursts count and slow phases of a program do not. Left out where there are no times.
//!
//! Many functions are tested at once: a change counts at p ≤ α/k, where k is Tarone's: Bonferroni's
//! number of tests less those that could not reach the bound at any outcome, because too few
//! samples fell on them. So with two recordings of one behaviour, the chance that anything at all
//! is marked is at most [`ALPHA`], however the tests depend on each other.
//!
//! What is tested is whether the two *recordings* differ. Two runs of one program also differ by
//! their input, their placement in memory and their neighbours; that is a change like any other.
//!
//! # Sources
//! R. A. Fisher, "Statistical Methods for Research Workers" §21.02; B. L. Welch, Biometrika 34
//! (1947); J. von Neumann, Ann. Math. Stat. 12 (1941); R. E. Tarone, Biometrics 46 (1990).
//! Gamma: C. Lanczos, SIAM J. Numer. Anal. B 1 (1964). Incomplete beta: the continued fraction of
//! DLMF 8.17.22. The page's twin is `web/src/significance.ts`.

/// Chance that anything is marked although nothing changed.
pub const ALPHA: f64 = 0.05;
/// Parts that a recording is divided into.
pub const BLOCKS: usize = 64;
/// Degrees of freedom of a variance from the differences of [`BLOCKS`] neighbours.
const DEGREES: f64 = 2.0 * (BLOCKS as f64 - 1.0) / 3.0;

/// Two-sided p-value of Fisher's exact test: `a` of `n_a` against `b` of `n_b`.
pub fn fisher(a: u64, n_a: u64, b: u64, n_b: u64) -> f64 {
    let (a, n_a, b, n_b) = (a as f64, n_a as f64, b as f64, n_b as f64);
    let (hits, all) = (a + b, n_a + n_b);
    if n_a == 0.0 || n_b == 0.0 || hits == 0.0 || hits == all {
        return 1.0;
    }
    let choose = |n: f64, k: f64| ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0);
    let here = choose(hits, a) + choose(all - hits, n_a - a) - choose(all, n_a);
    // The tail from `a` away from what is expected; terms shrink from one to the next.
    let lower = a <= n_a * hits / all;
    let (mut sum, mut term, mut k) = (1.0, 1.0, a);
    loop {
        term *= if lower {
            k * (all - hits - n_a + k) / ((hits - k + 1.0) * (n_a - k + 1.0))
        } else {
            (hits - k) * (n_a - k) / ((k + 1.0) * (all - hits - n_a + k + 1.0))
        };
        if term <= sum * 1e-16 {
            break;
        }
        sum += term;
        k += if lower { -1.0 } else { 1.0 };
    }
    (2.0 * sum * here.exp()).min(1.0)
}

/// The smallest p-value that `hits` samples could give, however they fall.
fn smallest(hits: u64, n_a: u64, n_b: u64) -> f64 {
    let a = hits.min(n_a);
    let b = hits.min(n_b);
    fisher(a, n_a, hits - a, n_b).min(fisher(hits - b, n_a, b, n_b))
}

/// The bound of p-values for tests of these numbers of samples (both recordings together).
pub fn bound(hits: impl IntoIterator<Item = u64>, n_a: u64, n_b: u64) -> f64 {
    let mut hits: Vec<u64> = hits.into_iter().collect();
    hits.sort_unstable();
    let mut least: Vec<f64> = Vec::with_capacity(hits.len());
    let mut last = None;
    for &n in &hits {
        let p = match last {
            Some((known, p)) if known == n => p,
            _ => smallest(n, n_a, n_b),
        };
        last = Some((n, p));
        least.push(p);
    }
    least.sort_unstable_by(f64::total_cmp);
    // The smallest k such that at most k tests can reach α/k.
    let (mut low, mut high) = (1, least.len().max(1));
    while low < high {
        let k = usize::midpoint(low, high);
        let able = least.partition_point(|&p| p <= ALPHA / k as f64);
        if able <= k { high = k } else { low = k + 1 }
    }
    ALPHA / low as f64
}

/// Samples of one thing and of all, by block of time of one recording.
#[derive(Debug, Clone, Copy)]
pub struct Blocks<'a> {
    /// Samples on the thing.
    pub hits: &'a [u64; BLOCKS],
    /// All samples.
    pub all: &'a [u64; BLOCKS],
}

impl Blocks<'_> {
    /// The share and its variance; `None` without samples.
    fn share(&self) -> Option<(f64, f64)> {
        let hits: u64 = self.hits.iter().sum();
        let all: u64 = self.all.iter().sum();
        if all == 0 {
            return None;
        }
        let share = hits as f64 / all as f64;
        let excess = |i: usize| self.hits[i] as f64 - share * self.all[i] as f64;
        let squares: f64 = (1..BLOCKS).map(|i| (excess(i) - excess(i - 1)).powi(2)).sum();
        let blocks = BLOCKS as f64;
        Some((share, blocks / (2.0 * (blocks - 1.0)) * squares / (all as f64).powi(2)))
    }
}

/// Two-sided p-value of Welch's t-test; 0 where it has nothing to say.
pub fn welch(a: Blocks, b: Blocks) -> f64 {
    let (Some((a, var_a)), Some((b, var_b))) = (a.share(), b.share()) else { return 0.0 };
    let variance = var_a + var_b;
    if variance <= 0.0 {
        return 0.0;
    }
    let degrees = variance.powi(2) / ((var_a.powi(2) + var_b.powi(2)) / DEGREES);
    let squared = (b - a).powi(2) / variance;
    beta(degrees / 2.0, 0.5, degrees / (degrees + squared))
}

/// ln Γ(x) for x ≥ 1, to 14 digits.
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let mut sum = 0.999_999_999_999_809_9;
    for (i, term) in TERMS.iter().enumerate() {
        sum += term / (x + i as f64 + 1.0);
    }
    let t = x + 7.5;
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// The regularised incomplete beta function, for a > 0, b > 0 and x from 0 to 1.
fn beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta(b, a, 1.0 - x);
    }
    // Γ(b) with b = ½ is below what `ln_gamma` takes: Γ(z) = Γ(z + 1)/z.
    let ln_gamma = |z: f64| ln_gamma(z + 1.0) - z.ln();
    let front =
        (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp() / a;
    // Lentz's way of a continued fraction.
    let tiny = 1e-300;
    let (mut c, mut d) = (1.0, 1.0 / nonzero(1.0 - (a + b) * x / (a + 1.0), tiny));
    let mut fraction = d;
    for m in 1..500 {
        let m = f64::from(m);
        for numerator in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = 1.0 / nonzero(1.0 + numerator * d, tiny);
            c = nonzero(1.0 + numerator / c, tiny);
            fraction *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    (front * fraction).clamp(0.0, 1.0)
}

fn nonzero(x: f64, tiny: f64) -> f64 {
    if x.abs() < tiny { tiny } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-9, "{found} for {expected}");
    }

    const FISHER: &[(u64, u64, u64, u64, f64)] = &[
        (3, 4, 1, 4, 0.4857142857142857),
        (0, 50, 12, 60, 0.0007956954454911365),
        (120, 1000, 180, 1100, 0.005103715165348414),
        (3, 300, 0, 3000, 0.0014889900514134552),
        (950, 1000, 930, 1000, 0.07323227720335672),
        (40, 5000, 95, 4700, 3.383122093575484e-7),
    ];
    /// t, degrees of freedom, two-sided p.
    const STUDENT: &[(f64, f64, f64)] = &[
        (0.5, 42.0, 0.6196847767582301),
        (2.0, 42.0, 0.05199444858447674),
        (4.5, 60.0, 3.180364128154825e-5),
        (7.0, 84.0, 5.821362311081122e-10),
        (1.0, 5.0, 0.3632174676491274),
    ];

    /// Exact sums in whole numbers (Python's `fractions` and `math.comb`).
    #[test]
    fn fisher_exact() {
        FISHER.iter().for_each(|&(a, n_a, b, n_b, p)| close(fisher(a, n_a, b, n_b), p));
        assert_eq!(fisher(0, 10, 0, 20), 1.0);
        assert_eq!(fisher(10, 10, 20, 20), 1.0);
        assert_eq!(fisher(1, 1, 0, 0), 1.0);
    }

    /// Student's t, by numeric integration of its density.
    #[test]
    fn student() {
        for &(t, degrees, p) in STUDENT {
            let squared: f64 = t * t;
            close(beta(degrees / 2.0, 0.5, degrees / (degrees + squared)), p);
        }
    }

    /// A made-up recording: samples on `shares.len()` things by block, in bursts of one thing that
    /// are `burst` samples long on average.
    fn recording(random: &mut Random, n: u64, burst: u64, shares: &[f64]) -> Vec<[u64; BLOCKS]> {
        let sum: f64 = shares.iter().sum();
        let mut hits = vec![[0; BLOCKS]; shares.len()];
        let mut thing = 0;
        for i in 0..n {
            if i == 0 || random.unit() * (burst as f64) < 1.0 {
                let mut at = random.unit() * sum;
                let found = shares.iter().position(|share| {
                    at -= share;
                    at < 0.0
                });
                thing = found.unwrap_or(0);
            }
            hits[thing][(i * BLOCKS as u64 / n) as usize] += 1;
        }
        hits
    }

    struct Random(u64);

    impl Random {
        /// From 0 to 1 (xorshift64*).
        fn unit(&mut self) -> f64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    /// Which things are marked, by both tests and by Fisher's alone.
    fn marked(a: &[[u64; BLOCKS]], b: &[[u64; BLOCKS]]) -> (Vec<bool>, bool) {
        let all = |things: &[[u64; BLOCKS]]| {
            let mut all = [0; BLOCKS];
            things.iter().for_each(|hits| all.iter_mut().zip(hits).for_each(|(a, h)| *a += h));
            all
        };
        let (all_a, all_b) = (all(a), all(b));
        let (n_a, n_b) = (all_a.iter().sum(), all_b.iter().sum());
        let sum = |hits: &[u64; BLOCKS]| hits.iter().sum::<u64>();
        let bound = bound(a.iter().zip(b).map(|(a, b)| sum(a) + sum(b)), n_a, n_b);
        let mut exact_alone = false;
        let marks = (a.iter().zip(b))
            .map(|(a, b)| {
                let exact = fisher(sum(a), n_a, sum(b), n_b);
                exact_alone |= exact <= bound;
                let times = welch(Blocks { hits: a, all: &all_a }, Blocks { hits: b, all: &all_b });
                exact.max(times) <= bound
            })
            .collect();
        (marks, exact_alone)
    }

    /// Of pairs of recordings of one behaviour, at most [`ALPHA`] have any mark, also when samples
    /// come in bursts, which Fisher's test alone takes for changes.
    #[test]
    fn no_change_is_no_mark() {
        let shares: Vec<f64> = (1..=150).map(|rank| 1.0 / f64::from(rank)).collect();
        let mut random = Random(7);
        for (burst, n_a, n_b) in [(1, 2000, 2000), (1, 4000, 400), (6, 4000, 4000)] {
            let trials = 300;
            let (mut false_marks, mut of_exact) = (0, 0);
            for _ in 0..trials {
                let a = recording(&mut random, n_a, burst, &shares);
                let b = recording(&mut random, n_b, burst, &shares);
                let (marks, exact) = marked(&a, &b);
                false_marks += u32::from(marks.contains(&true));
                of_exact += u32::from(exact);
            }
            // 5 % of 300 is 15; more than 24 happens once in a hundred.
            assert!(false_marks <= 24, "bursts of {burst}: {false_marks} of {trials}");
            if burst > 1 {
                assert!(of_exact > trials / 2, "bursts of {burst}: {of_exact} by Fisher alone");
            }
        }
    }

    /// A share that grew from 5 % to 9 % is found, in bursts also from 5 % to 15 %.
    #[test]
    fn a_change_is_marked() {
        let mut random = Random(11);
        for (burst, to) in [(1, 9.0), (6, 15.0)] {
            let trials = 100;
            let mut found = 0;
            for _ in 0..trials {
                let mut shares = vec![5.0];
                shares.extend(std::iter::repeat_n(1.0, 95));
                let a = recording(&mut random, 5000, burst, &shares);
                shares[0] = to * 95.0 / (100.0 - to);
                let b = recording(&mut random, 5000, burst, &shares);
                found += u32::from(marked(&a, &b).0[0]);
            }
            assert!(found >= 95, "bursts of {burst}: {found} of {trials}");
        }
    }
}
