//! `hotframe convert`: a stored profile in another format.
//!
//! In: a profile that [`input`] can read. Out: the same in any writable format, whole or not at
//! all; one line says what the new format has no room for.

use crate::{cli, input, output};
use std::process::ExitCode;

/// Runs the subcommand.
///
/// # Errors
/// What is wrong with the input, or why the output cannot be written.
pub fn run(options: &cli::Convert) -> anyhow::Result<ExitCode> {
    let outputs = output::choose(std::slice::from_ref(&options.output), options.format.as_deref())?;
    let profile = input::read(&options.input, &options.read)?;
    for output in &outputs {
        output::write(output, &profile, false)?;
        let lost = input::lost(&profile, output.format.keeps());
        if !options.quiet && !lost.is_empty() {
            crate::messages::line(format_args!(
                "{} has no room for: {}",
                output.format.name(),
                lost.join(", ")
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}
