//! Recorded processes of `testing/recorded/cpython`: both halves over what they read.
#![forbid(unsafe_code)]

use hotframe_core::testing::{check_damaged, check_recorded};
use hotframe_cpython::RUNTIME;

/// Each recorded process unwinds and resolves to its `expected.txt`. UPDATE=1 rewrites.
#[test]
fn recorded() {
    check_recorded(&[&RUNTIME], "cpython");
}

/// However a recorded process is damaged, its walk and its names end.
#[test]
fn damaged() {
    check_damaged(&[&RUNTIME], "cpython");
}
