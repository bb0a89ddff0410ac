//! hotframe: a whole-system profiler. One file per subcommand; this one only chooses.
#![forbid(unsafe_code)]
// They panic where nobody reads what they print; see `messages`.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod audit;
mod cli;
mod command;
mod convert;
mod diff;
mod doctor;
mod explain;
mod filter;
mod input;
mod manual;
mod memory;
mod messages;
mod output;
mod prepared;
mod record;
mod sampler;
mod signals;
mod significance;
mod stats;
mod summary;
mod this_process;
mod top;
mod view;

use clap::Parser as _;
use std::process::ExitCode;

/// Counts live bytes, code of other crates included, so that `--memory` bounds them too.
#[global_allocator]
static ALLOCATOR: hotframe_alloc::Counting = hotframe_alloc::Counting;

fn main() -> ExitCode {
    hotframe_alloc::give_back_early();
    if let Some(code) = command::gate() {
        return code;
    }
    let cli = cli::Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("HOTFRAME_LOG")
                .unwrap_or_else(|_| "error".into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .log_internal_errors(false)
        .without_time()
        .init();
    let checked = output::check_invoking_user().and_then(|()| signals::outlast_file_limit());
    let result = checked.and_then(|()| match cli.command {
        cli::Command::Record(options) => record::run(&options),
        cli::Command::Top(options) => top::run(&options),
        cli::Command::Doctor(options) => doctor::run(&options),
        cli::Command::Explain(options) => explain::run(&options),
        cli::Command::Completions(options) => manual::completions(options.shell),
        cli::Command::Man(options) => manual::pages(options.directory.as_deref()),
        cli::Command::Convert(options) => convert::run(&options),
        cli::Command::View(options) => view::run(&options),
        cli::Command::Diff(options) => diff::run(&options),
    });
    match result {
        Ok(code) => code,
        // Who reads our output has seen enough, as `| head` has: nothing went wrong.
        Err(cause) if is_broken_pipe(&cause) => ExitCode::SUCCESS,
        Err(cause) => {
            crate::messages::line(format_args!("hotframe: {cause:#}"));
            ExitCode::from(Exit::code_of(&cause))
        }
    }
}

fn is_broken_pipe(cause: &anyhow::Error) -> bool {
    cause
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

/// A failure with an exit code of its own.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Exit {
    /// The code.
    pub code: u8,
    /// What to say.
    pub message: String,
}

impl Exit {
    /// The code for a failure: its own, or 1.
    pub fn code_of(cause: &anyhow::Error) -> u8 {
        cause.downcast_ref::<Exit>().map_or(1, |exit| exit.code)
    }

    /// Wrong usage: 2.
    pub fn usage(message: impl Into<String>) -> anyhow::Error {
        Exit { code: 2, message: message.into() }.into()
    }
}
