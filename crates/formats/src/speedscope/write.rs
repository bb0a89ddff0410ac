//! Profile → speedscope JSON.

use std::io::{self, Write};

use hotframe_core::profile::Profile;

use super::NAME;
use crate::Error;
use crate::json::text;
use crate::tree::outermost_first;

/// Writes the JSON.
///
/// # Errors
/// [`Error::Write`].
pub fn write(profile: &Profile, out: &mut impl Write) -> Result<(), Error> {
    write_json(profile, out).map_err(Error::write(NAME))
}

fn write_json(profile: &Profile, out: &mut impl Write) -> io::Result<()> {
    out.write_all(
        br#"{"$schema":"https://www.speedscope.app/file-format-schema.json","exporter":"#,
    )?;
    text(out, &profile.meta.producer)?;
    out.write_all(br#","name":"#)?;
    text(out, &profile.meta.command)?;
    out.write_all(br#","activeProfileIndex":0,"shared":{"frames":["#)?;
    for (i, function) in profile.functions.iter().enumerate() {
        out.write_all(if i == 0 { b"{\"name\":" } else { b",\n{\"name\":" })?;
        text(out, profile.strings.get(function.name))?;
        if function.file != 0 {
            out.write_all(b",\"file\":")?;
            text(out, profile.strings.get(function.file))?;
            if function.start_line != 0 {
                write!(out, ",\"line\":{}", function.start_line)?;
            }
        }
        out.write_all(b"}")?;
    }
    out.write_all(b"]},\n\"profiles\":[")?;

    let samples = &profile.samples;
    let mut rows: Vec<Vec<u32>> = vec![Vec::new(); profile.threads.len()];
    for (i, &thread) in samples.thread.iter().enumerate() {
        if samples.weight[i] > 0 {
            rows[thread as usize].push(i as u32);
        }
    }
    let weight = |row: &u32| u64::from(samples.weight[*row as usize]);
    let mut threads: Vec<(u64, usize)> = (rows.iter().enumerate())
        .filter(|(_, rows)| !rows.is_empty())
        .map(|(thread, rows)| (rows.iter().map(weight).sum(), thread))
        .collect();
    threads.sort_unstable_by_key(|&(ticks, thread)| (std::cmp::Reverse(ticks), thread));

    let period_ns = profile.meta.period_ns;
    let (unit, scale) = match &*profile.meta.value_unit {
        unit @ ("microseconds" | "milliseconds" | "seconds") => (unit, 1),
        unit if let Some(base) = crate::units::base(unit) => base,
        _ if period_ns > 0 => ("nanoseconds", period_ns),
        _ => ("none", 1),
    };
    let mut stack = Vec::new();
    for (n, &(ticks, thread)) in threads.iter().enumerate() {
        let mut rows = std::mem::take(&mut rows[thread]);
        rows.sort_by_key(|&row| {
            (samples.time_ns[row as usize], std::cmp::Reverse(samples.weight[row as usize]), row)
        });
        let thread = &profile.threads[thread];
        let process = &profile.processes[thread.process as usize];
        let name = format!(
            "{} {} / {} {}",
            profile.strings.get(process.comm),
            process.pid,
            profile.strings.get(thread.comm),
            thread.tid
        );
        out.write_all(if n == 0 { b"{" } else { b",\n{" })?;
        write!(out, "\"type\":\"sampled\",\"unit\":\"{unit}\",\"startValue\":0,")?;
        write!(out, "\"endValue\":{},\"name\":", ticks.saturating_mul(scale))?;
        text(out, &name)?;
        out.write_all(b",\"samples\":[")?;
        for (i, &row) in rows.iter().enumerate() {
            out.write_all(if i == 0 { b"[" } else { b",[" })?;
            outermost_first(profile, samples.stack[row as usize], &mut stack);
            for (i, &frame) in stack.iter().enumerate() {
                let function = profile.frames[frame as usize].function;
                write!(out, "{}{function}", if i == 0 { "" } else { "," })?;
            }
            out.write_all(b"]")?;
        }
        out.write_all(b"],\"weights\":[")?;
        for (i, row) in rows.iter().enumerate() {
            write!(out, "{}{}", if i == 0 { "" } else { "," }, weight(row).saturating_mul(scale))?;
        }
        out.write_all(b"]}")?;
    }
    out.write_all(b"]}\n")
}
