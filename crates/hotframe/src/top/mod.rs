//! `hotframe top`: what runs now, on the terminal.
//!
//! In: options and keys. Out: a screen, drawn anew each second and after each key.
//!
//! # How it works
//! [`feed`] records and names in threads of its own and sends a batch a second; [`model`] counts the
//! last batches into rows; [`screen`] draws them. Nothing is written anywhere.
//!
//! # Cost
//! Of one core of a 2-core machine: 0.8 % on a steady load, 20 MB of RSS; 4 % where two cores
//! compile and each second brings new processes and new code, two thirds of it naming. What is new
//! in a file is named at once at first, then in turn, at most each eight seconds, and takes its name
//! then also in what is already shown; the address of a caller that is in one sample only is named
//! when somebody looks at its stack. Memory stays: batches older than the longest window go.

mod feed;
mod model;
mod screen;

use crate::cli::Top as Options;
use crate::signals;
use anyhow::Context as _;
use feed::{Feed, News};
use model::{Model, Tab};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, raise};
use nix::sys::signalfd::SignalFd;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::Duration;

/// How often it is looked for a new batch.
const TURN: Duration = Duration::from_millis(100);

/// What keys change beside the model.
#[derive(Debug, Default)]
pub struct Modes {
    /// A filter is being typed.
    pub is_typing: bool,
    /// Help covers the rest.
    pub shows_help: bool,
}

/// Runs the subcommand.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return Err(crate::Exit::usage("top needs a terminal; hotframe record writes files"));
    }
    let signals = signals::descriptor(&[])?;
    let feed = Feed::start(options)?;
    let mut terminal = ratatui::try_init().context("preparing the terminal")?;
    let result = show(options, &feed, &signals, &mut terminal);
    if wait(&signals, Duration::ZERO).is_ok_and(|end| matches!(end, Wait::Gone)) {
        // It cannot be given back, and dropped it says so on a stderr that is gone as well.
        std::mem::forget(terminal);
        return Ok(ExitCode::from(128 + Signal::SIGHUP as u8));
    }
    let _ = ratatui::try_restore();
    result
}

fn show(
    options: &Options,
    feed: &Feed,
    signals: &SignalFd,
    terminal: &mut ratatui::DefaultTerminal,
) -> anyhow::Result<ExitCode> {
    let mut model = Model::new(options.window as usize);
    let mut modes = Modes::default();
    let mut is_changed = true;
    loop {
        if is_changed {
            terminal
                .draw(|frame| screen::draw(frame, &mut model, &modes, options.sampled.frequency))
                .context("drawing")?;
            feed.show(model.unnamed_shown());
        }
        is_changed = false;
        for news in feed.news.iter().flat_map(|news| news.try_iter()) {
            match news {
                News::Batch(batch) => model.add(batch),
                News::Failed(cause) => return Err(cause),
            }
            is_changed = true;
        }
        if let Some(signal) = signals.read_signal().context("reading a signal")? {
            return Ok(ExitCode::from(128u8.saturating_add(signal.ssi_signo as u8)));
        }
        if matches!(wait(signals, TURN)?, Wait::Gone) {
            return Ok(ExitCode::FAILURE);
        }
        // All that one reading brought, and a resize, of which only crossterm knows.
        while event::poll(Duration::ZERO).context("waiting for keys")? {
            match event::read().context("reading keys")? {
                Event::Key(key) if key.kind != KeyEventKind::Release => {
                    if is_suspend(&key) {
                        *terminal = suspend()?;
                    } else if !press(key, &mut model, &mut modes) {
                        return Ok(ExitCode::SUCCESS);
                    }
                    is_changed = true;
                }
                Event::Resize(..) => is_changed = true,
                _ => {}
            }
        }
    }
}

/// What came while we waited.
enum Wait {
    /// Keys, a signal, or nothing.
    On,
    /// The end of the terminal, be it that a hang-up is ignored.
    Gone,
}

/// Waits for keys and signals. Of a terminal that is gone nothing may be asked: crossterm reads it again
/// and again, for ever.
fn wait(signals: &SignalFd, time: Duration) -> anyhow::Result<Wait> {
    let stdin = std::io::stdin();
    let mut fds = [
        PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
        PollFd::new(signals.as_fd(), PollFlags::POLLIN),
    ];
    match poll(&mut fds, PollTimeout::try_from(time).unwrap_or(PollTimeout::ZERO)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(cause) => return Err(cause).context("waiting for keys"),
    }
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    let [keys, _] = &fds;
    Ok(match keys.revents().is_some_and(|events| events.intersects(gone)) {
        true => Wait::Gone,
        false => Wait::On,
    })
}

fn is_suspend(key: &KeyEvent) -> bool {
    key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('z')
}

/// Gives the terminal back and stops, as the terminal itself does it on Ctrl-Z where it is not raw; goes
/// on when the shell says so. What would have been sampled meanwhile is lost.
fn suspend() -> anyhow::Result<ratatui::DefaultTerminal> {
    let _ = ratatui::try_restore();
    raise(Signal::SIGTSTP).context("stopping")?;
    ratatui::try_init().context("preparing the terminal")
}

/// A key. False: the end.
fn press(key: KeyEvent, model: &mut Model, modes: &mut Modes) -> bool {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return !matches!(key.code, KeyCode::Char('c' | 'd'));
    }
    if modes.shows_help {
        modes.shows_help = false;
        return true;
    }
    if modes.is_typing {
        match key.code {
            KeyCode::Enter => modes.is_typing = false,
            KeyCode::Esc => {
                modes.is_typing = false;
                model.filter.clear();
            }
            KeyCode::Backspace => {
                model.filter.pop();
            }
            KeyCode::Char(character) => model.filter.push(character),
            _ => {}
        }
        model.count();
        return true;
    }
    match key.code {
        KeyCode::Char('q') => return false,
        KeyCode::Char('?' | 'h') => modes.shows_help = true,
        KeyCode::Char('/') => modes.is_typing = model.stack().is_none(),
        KeyCode::Char(' ' | 'f') => model.toggle_frozen(),
        KeyCode::Char('s') => {
            model.by_total = !model.by_total;
            model.count();
        }
        KeyCode::Char('+' | '=') => resize_window(model, 1),
        KeyCode::Char('-') => resize_window(model, -1),
        KeyCode::Char(digit @ '1'..='4') => {
            model.show(Tab::ALL[digit as usize - '1' as usize]);
        }
        KeyCode::Tab => turn(model, 1),
        KeyCode::BackTab => turn(model, Tab::ALL.len() - 1),
        KeyCode::Up | KeyCode::Char('k') => model.step(-1),
        KeyCode::Down | KeyCode::Char('j') => model.step(1),
        KeyCode::PageUp => model.step(-10),
        KeyCode::PageDown => model.step(10),
        KeyCode::Home | KeyCode::Char('g') => model.step(isize::MIN),
        KeyCode::End | KeyCode::Char('G') => model.step(isize::MAX),
        KeyCode::Enter | KeyCode::Right | KeyCode::Char('l') => model.enter(),
        KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => {
            model.leave();
        }
        _ => {}
    }
    true
}

fn resize_window(model: &mut Model, by: isize) {
    model.window = model.window.saturating_add_signed(by).clamp(1, model::WINDOW_MAX);
    model.count();
}

fn turn(model: &mut Model, by: usize) {
    let at = Tab::ALL.iter().position(|&tab| tab == model.tab).unwrap_or(0);
    model.show(Tab::ALL[(at + by) % Tab::ALL.len()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_keys(text: &str, model: &mut Model, modes: &mut Modes) -> bool {
        text.chars().all(|character| {
            let code = match character {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                other => KeyCode::Char(other),
            };
            press(KeyEvent::new(code, KeyModifiers::NONE), model, modes)
        })
    }

    /// While a filter is typed, letters are letters; help goes with any key.
    #[test]
    fn modes() {
        let (mut model, mut modes) = (Model::new(5), Modes::default());
        assert!(type_keys("/q f\n", &mut model, &mut modes));
        assert_eq!(
            (model.filter.as_str(), model.is_frozen, modes.is_typing),
            ("q f", false, false)
        );
        assert!(type_keys("\x1b f", &mut model, &mut modes));
        assert_eq!((model.filter.as_str(), model.is_frozen), ("", false));
        assert!(type_keys("?q", &mut model, &mut modes));
        assert!(!type_keys("q", &mut model, &mut modes));
    }

    /// Every key works on an empty model.
    #[test]
    fn empty() {
        let (mut model, mut modes) = (Model::new(5), Modes::default());
        assert!(type_keys("1\n2\n3\n4\n\x1bjkgGs++--  lh?/abc\n\x1b", &mut model, &mut modes));
        assert_eq!(model.window, 5);
    }
}
