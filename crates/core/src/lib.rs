//! Processes, the walk, resolution and the profile: the steps between the kernel half and the files.

pub mod profile;
