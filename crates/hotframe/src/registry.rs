//! The language runtimes that hotframe knows: a line each.

use hotframe_runtime::Runtime;

/// All of them, in the order in which a file is asked about.
pub static RUNTIMES: &[&dyn Runtime] = &[&hotframe_cpython::RUNTIME, &hotframe_hotspot::RUNTIME];
