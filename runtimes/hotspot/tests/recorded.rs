//! The golden cases of `testing/recorded/hotspot`: the step and the names, without a JVM.
#![forbid(unsafe_code)]

use hotframe_core::testing::{check_damaged, check_recorded};
use hotframe_hotspot::RUNTIME;

/// Each recorded process unwinds and resolves to its `expected.txt`. UPDATE=1 rewrites.
#[test]
fn recorded() {
    check_recorded(&[&RUNTIME], "hotspot");
}

/// Damaged, they give other stacks, other names or reasons, and end.
#[test]
fn damaged() {
    check_damaged(&[&RUNTIME], "hotspot");
}
