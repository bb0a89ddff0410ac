//! Units of weights that are no samples, as pprof names them: bytes and times, said more coarsely
//! where there are too many of them.
//!
//! In: a [`Profile`] with the unit that its file has. Out: the same in the next coarser one, or in
//! another profile's.

use hotframe_core::profile::Profile;

/// A unit with the next coarser one, and how many of the first that is.
const COARSER: [(&str, &str, u64); 6] = [
    ("nanoseconds", "microseconds", 1000),
    ("microseconds", "milliseconds", 1000),
    ("milliseconds", "seconds", 1000),
    ("bytes", "kilobytes", 1024),
    ("kilobytes", "megabytes", 1024),
    ("megabytes", "gigabytes", 1024),
];

fn coarser(unit: &str) -> Option<(&'static str, u64)> {
    COARSER.iter().find(|row| row.0 == unit).map(|&(_, coarser, per_unit)| (coarser, per_unit))
}

/// How many bytes or nanoseconds one of a unit is, with the name of these; `None` for other units.
pub(crate) fn base(unit: &str) -> Option<(&'static str, u64)> {
    COARSER.iter().find_map(|&(finest, _, _)| match finest {
        "nanoseconds" | "bytes" => {
            let (mut at, mut n) = (finest, 1);
            while at != unit {
                let (next, per_unit) = coarser(at)?;
                (at, n) = (next, n * per_unit);
            }
            Some((finest, n))
        }
        _ => None,
    })
}

/// To the nearest unit, but what there is any of is one at least: it is to be seen.
pub(crate) fn rounded(weight: u64, per_unit: u64) -> u64 {
    match (weight / per_unit, weight % per_unit) {
        (0, 1..) => 1,
        (whole, rest) => whole + u64::from(rest > per_unit / 2),
    }
}

/// Says all weights in the next coarser unit, and how many of the former that is; `None` where
/// there is none.
pub(crate) fn take_coarser(profile: &mut Profile) -> Option<u64> {
    let (unit, per_unit) = coarser(&profile.meta.value_unit)?;
    profile.meta.value_unit = unit.to_owned();
    let from = std::mem::take(&mut profile.samples);
    let same = |i: usize, j: usize| {
        (from.stack[i], from.thread[i], from.time_ns[i], from.cpu[i], from.cut[i])
            == (from.stack[j], from.thread[j], from.time_ns[j], from.cpu[j], from.cut[j])
    };
    let mut row = 0;
    while row < from.weight.len() {
        // What one row could not hold stands in the next ones, and is rounded once.
        let first = row;
        let mut sum = 0;
        while row < from.weight.len() && same(first, row) {
            sum += u64::from(from.weight[row]);
            row += 1;
        }
        let mut left = rounded(sum, per_unit);
        while left > 0 {
            let weight = u32::try_from(left).unwrap_or(u32::MAX);
            let to = &mut profile.samples;
            to.time_ns.push(from.time_ns[first]);
            to.thread.push(from.thread[first]);
            to.stack.push(from.stack[first]);
            to.cpu.push(from.cpu[first]);
            to.cut.push(from.cut[first]);
            to.weight.push(weight);
            left -= u64::from(weight);
        }
    }
    Some(per_unit)
}

/// Says two profiles of one value in the coarser of their units, if one is reached from the other.
pub fn unify(a: &mut Profile, b: &mut Profile) {
    if a.meta.value_type != b.meta.value_type {
        return;
    }
    let (Some((a_is, n_a)), Some((b_is, n_b))) =
        (base(&a.meta.value_unit), base(&b.meta.value_unit))
    else {
        return;
    };
    if a_is == b_is && n_a != n_b {
        let (finer, wanted) = match n_a < n_b {
            true => (a, b.meta.value_unit.clone()),
            false => (b, a.meta.value_unit.clone()),
        };
        while finer.meta.value_unit != wanted && take_coarser(finer).is_some() {}
        crate::assemble::count_processes(finer);
    }
}
