//! The steps between the kernel half and the files: processes, the walk, resolution, the profile.
//!
//! In: records of the BPF ring and the side-band. Out: a [`profile::Profile`]. `session` runs one
//! recording; it is fed by the binary, which alone knows where records come from.

pub mod by_function;
pub mod capture;
mod copied;
pub mod files;
pub mod jit;
pub mod names;
#[allow(missing_docs, non_camel_case_types, clippy::all)]
mod native_abi;
pub mod numbers;
pub mod processes;
pub mod profile;
pub mod recording;
pub mod registered;
pub mod resolve;
mod retry;
pub mod runtimes;
pub mod segments;
pub mod session;
pub mod sideband;
pub mod tables;
pub mod testing;
mod told;
pub mod walk;

/// An error with its causes, as a person reads it: a library's message says what was being done, and
/// leaves why it failed to what it stands on.
pub fn chain(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
