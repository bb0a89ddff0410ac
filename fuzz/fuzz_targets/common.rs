//! What the targets share that read a recording: limits that an input reaches, and writers that must take
//! whatever was read.

use hotframe_core::profile::Profile;
use hotframe_formats::{Format, Limits};

pub const LIMITS: Limits = Limits {
    bytes: 16 << 20,
    table_entries: 1 << 16,
    stack_nodes: 1 << 16,
    frame_mentions: 1 << 20,
    samples: 1 << 16,
};

/// Writes what was read in each of these formats.
#[allow(dead_code)] // What writes comparisons does so by itself.
pub fn write(profile: &Profile, formats: &[Format]) {
    for format in formats {
        format.write(profile, &mut std::io::sink()).expect("writing nowhere");
    }
}

/// The formats that are written quickly.
#[allow(dead_code)]
pub const FORMATS: &[Format] =
    &[Format::Pprof, Format::Folded, Format::Otlp, Format::Firefox, Format::Svg];
