//! `hotframe completions` and `hotframe man`: what the definitions of the command line say, in the
//! forms that shells and man(1) read.

use crate::cli::Cli;
use anyhow::Context as _;
use clap::CommandFactory as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// Writes a shell's completions to stdout.
pub fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "hotframe", &mut script);
    std::io::stdout().write_all(&script).context("writing to stdout")?;
    Ok(ExitCode::SUCCESS)
}

/// Writes hotframe(1) to stdout, or it and a page for each subcommand into a directory.
pub fn pages(directory: Option<&Path>) -> anyhow::Result<ExitCode> {
    let Some(directory) = directory else {
        let page = page(&command())?;
        std::io::stdout().write_all(&page).context("writing to stdout")?;
        return Ok(ExitCode::SUCCESS);
    };
    std::fs::create_dir_all(directory)
        .with_context(|| format!("making {}", directory.display()))?;
    for (name, page) in all_pages()? {
        let path = directory.join(name);
        std::fs::write(&path, page).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn page(command: &clap::Command) -> anyhow::Result<Vec<u8>> {
    let mut page = Vec::new();
    let command = command.clone().version(env!("CARGO_PKG_VERSION"));
    clap_mangen::Man::new(command).source("hotframe").render(&mut page)?;
    // clap_mangen calls what stands after the options so.
    let page = String::from_utf8_lossy(&page).replace(".SH EXTRA\n", ".SH EXAMPLE\n");
    Ok(unfilled(&page).into_bytes())
}

/// The same page with its indented lines, which are examples, left as they are: roff fills
/// paragraphs (`.nf`, `.fi`: groff(7), "Filling").
fn unfilled(page: &str) -> String {
    let mut out = String::with_capacity(page.len());
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        if !line.starts_with("  ") {
            out.extend([line, "\n"]);
            continue;
        }
        out.extend([".nf\n", line, "\n"]);
        // An empty line within an example is a `.PP` by now; one before other text stays one.
        while let Some(line) = lines.next_if(|line| line.starts_with("  ")) {
            out.extend([line, "\n"]);
        }
        out.push_str(".fi\n");
    }
    out
}

/// Names and contents of all pages: of the program, its subcommands and theirs.
fn all_pages() -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut root = command();
    root.build();
    let mut pages = Vec::new();
    add_pages(&root, "hotframe".to_owned(), &mut pages)?;
    Ok(pages)
}

fn add_pages(
    command: &clap::Command,
    name: String,
    pages: &mut Vec<(String, Vec<u8>)>,
) -> anyhow::Result<()> {
    let of = command.clone().display_name(&name);
    pages.push((format!("{name}.1"), page(&of)?));
    for command in command.get_subcommands() {
        add_pages(command, format!("{name}-{}", command.get_name()), pages)?;
    }
    Ok(())
}

/// The program as its pages have it: `help` needs none, they are what it says.
fn command() -> clap::Command {
    Cli::command()
        .disable_help_subcommand(true)
        .mut_subcommands(|of| of.disable_help_subcommand(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Examples keep their lines, other text is filled.
    #[test]
    fn examples_are_not_filled() {
        let text = "a\nExamples:\n  x  1\n  y  2\nb\n  z\n";
        let expect = "a\nExamples:\n.nf\n  x  1\n  y  2\n.fi\nb\n.nf\n  z\n.fi\n";
        assert_eq!(unfilled(text), expect);
    }

    /// Every subcommand's help has an example with what it printed.
    #[test]
    fn every_help_has_a_transcript() {
        for command in Cli::command().get_subcommands_mut() {
            let name = command.get_name().to_owned();
            let help = command.render_long_help().to_string();
            let is_run =
                |line: &str| line.starts_with("  $ ") && line.contains(&format!("hotframe {name}"));
            let mut lines = help.lines().skip_while(|line| !is_run(line));
            assert!(lines.next().is_some(), "{name}: no example");
            let printed = lines.find(|line| !is_run(line));
            assert!(printed.is_some_and(|line| line.starts_with("  ")), "{name}: no output");
        }
    }

    /// Every subcommand has a page, one of a subcommand too; the page has its long options, and no page
    /// names one that is not there.
    #[test]
    fn every_option_is_in_a_page() {
        let pages = all_pages().expect("pages");
        fn look(command: &clap::Command, name: &str, pages: &[(String, Vec<u8>)]) {
            let file = format!("{name}.1");
            let (_, page) = pages.iter().find(|(of, _)| *of == file).expect("a page");
            let text = String::from_utf8_lossy(page).replace("\\-", "-");
            for option in command.get_opts().filter(|option| !option.is_hide_set()) {
                let long = option.get_long().expect("a long name");
                assert!(text.contains(&format!("--{long}")), "{name}: --{long}");
            }
            for other in text.split(|c: char| !c.is_ascii_lowercase() && !"-(1)".contains(c)) {
                if let Some(other) = other.strip_suffix("(1)") {
                    assert!(pages.iter().any(|(of, _)| *of == format!("{other}.1")), "{other}");
                }
            }
            for command in command.get_subcommands() {
                look(command, &format!("{name}-{}", command.get_name()), pages);
            }
        }
        look(&command(), "hotframe", &pages);
        assert!(pages.iter().any(|(of, _)| of == "hotframe-explain-memory.1"));
    }
}
