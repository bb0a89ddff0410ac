//! Draws a [`Model`]: three lines of header, rows, one line of keys.
//!
//! Everything fits into 80 columns and 24 lines, and anything from [`COLUMNS_MIN`] by
//! [`LINES_MIN`] on is used; `NO_COLOR` is respected.

use super::Modes;
use super::model::{Model, Tab};
use hotframe_core::profile::Kind;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph};

/// Least screen on which anything is shown.
const COLUMNS_MIN: u16 = 30;
const LINES_MIN: u16 = 8;

const HELP: &[&str] = &[
    "1 2 3 4, Tab   functions, processes, kinds, stacks",
    "↑ ↓, j k       select            PgUp PgDn Home End as usual",
    "Enter, →       go into the line: a process's functions, a",
    "               function's stacks, a stack's frames",
    "Esc, ←         back out; takes a filter off first",
    "/              show only lines that hold a text",
    "Space, f       freeze, and go on",
    "s              sort functions by own or by total samples",
    "+ -            longer or shorter window",
    "q, Ctrl-C      quit",
    "",
    "own: samples in which the function itself ran",
    "total: samples in which it, or what it called, ran",
];

/// Colours that most people can tell apart (after Okabe and Ito, in a terminal's palette).
fn colour(kind: Option<Kind>) -> Style {
    if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        return Style::default();
    }
    Style::default().fg(match kind {
        Some(Kind::Kernel) => Color::Yellow,
        Some(Kind::Native) => Color::LightBlue,
        Some(Kind::Rust) => Color::LightRed,
        Some(Kind::Go) => Color::Cyan,
        Some(Kind::Jvm) => Color::Green,
        Some(Kind::Cpython) => Color::LightYellow,
        Some(Kind::V8js | Kind::Luajit | Kind::Jit) => Color::LightGreen,
        Some(Kind::Ruby) => Color::Red,
        Some(Kind::Php | Kind::Dotnet) => Color::LightMagenta,
        Some(Kind::Perl | Kind::Beam) => Color::Magenta,
        Some(Kind::Note) | None => Color::Reset,
    })
}

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, model: &mut Model, modes: &Modes, hz: u32) {
    let area = frame.area();
    if area.width < COLUMNS_MIN || area.height < LINES_MIN {
        frame.render_widget(Paragraph::new("too small a terminal"), area);
        return;
    }
    let line = |y: u16| Rect { x: area.x, y: area.y + y, width: area.width, height: 1 };
    frame.render_widget(Paragraph::new(status(model, hz)), line(0));
    frame.render_widget(Paragraph::new(tabs(model)), line(1));
    let body = Rect { y: area.y + 2, height: area.height - 3, ..area };
    frame.render_widget(Paragraph::new(body_lines(model, body)), body);
    frame.render_widget(Paragraph::new(keys(model, modes)), line(area.height - 1));
    if modes.shows_help {
        let lines: Vec<Line<'_>> = HELP.iter().map(|&text| Line::raw(text)).collect();
        frame.render_widget(Clear, body);
        frame.render_widget(Paragraph::new(lines), body);
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

fn status(model: &Model, hz: u32) -> Line<'static> {
    let span_s = model.span_s();
    let busy =
        if span_s > 0.0 { model.samples as f64 / f64::from(hz) / span_s * 100.0 } else { 0.0 };
    let batches = model.window().count().max(1);
    // The sum of nothing is -0.0, and shown with its sign.
    let own = model.window().fold(0.0, |sum, batch| sum + batch.own_cpu_share);
    let own = 100.0 * own / batches as f64;
    let mut spans = Vec::new();
    if model.is_frozen {
        spans.push(Span::styled("FROZEN  ", Style::default().add_modifier(Modifier::BOLD)));
    }
    spans.push(Span::raw(format!(
        "{span_s:.0} s  {busy:.0} % CPU busy  {} samples  {:.1} % whole  hotframe {own:.1} %",
        model.samples,
        percent(model.whole, model.samples),
    )));
    if model.unnamed_own > 0 {
        let share = percent(model.unnamed_own, model.in_scope);
        spans.push(Span::raw(format!("  {share:.0} % to name")));
    }
    Line::from(spans)
}

fn tabs(model: &Model) -> Line<'static> {
    let mut spans = Vec::new();
    for (at, tab) in Tab::ALL.into_iter().enumerate() {
        let style = if tab == model.tab {
            Style::default().add_modifier(Modifier::REVERSED)
        } else {
            Style::default()
        };
        spans.push(Span::styled(format!(" {} {} ", at + 1, tab.name()), style));
    }
    for scope in model.scopes() {
        let scope: String = scope.chars().take(40).collect();
        spans.push(Span::raw(" › "));
        spans.push(Span::styled(scope, Style::default().add_modifier(Modifier::BOLD)));
    }
    Line::from(spans)
}

fn keys(model: &Model, modes: &Modes) -> Line<'static> {
    if modes.is_typing {
        return Line::raw(format!("/{}▏", model.filter));
    }
    let filter =
        if model.filter.is_empty() { String::new() } else { format!("/{}  ", model.filter) };
    Line::raw(format!(
        "{filter}? help  Enter into  Esc out  / filter  Space freeze  s sort  q quit"
    ))
}

fn body_lines(model: &mut Model, body: Rect) -> Vec<Line<'static>> {
    let n_lines = usize::from(body.height).saturating_sub(1);
    model.n_lines = n_lines;
    if model.stack().is_some() {
        return stack_lines(model, n_lines);
    }
    let dim = Style::default().add_modifier(Modifier::DIM);
    let has_total = matches!(model.tab, Tab::Functions | Tab::Kinds);
    let head = match (model.tab, model.by_total) {
        (Tab::Functions | Tab::Kinds, false) => "   own↓   total",
        (Tab::Functions | Tab::Kinds, true) => "   own    total↓",
        _ => "samples",
    };
    let mut lines = vec![Line::styled(head, dim)];
    let cursor = model.cursor();
    if cursor < model.scroll {
        model.scroll = cursor;
    } else if cursor >= model.scroll + n_lines {
        model.scroll = cursor + 1 - n_lines.max(1);
    }
    if model.rows().is_empty() {
        let text = match (model.samples, model.filter.is_empty()) {
            (0, _) => "no samples yet",
            (_, false) => "nothing holds this text",
            (_, true) => "no samples in this scope",
        };
        lines.push(Line::styled(text, dim));
    }
    for (at, row) in model.rows().iter().enumerate().skip(model.scroll).take(n_lines) {
        let mut numbers = format!("{:5.1} % ", percent(row.own, model.in_scope));
        if has_total {
            numbers += &format!("{:5.1} % ", percent(row.total, model.in_scope));
        }
        let line = Line::from(vec![
            Span::raw(numbers),
            Span::raw(" "),
            Span::styled(row.name.clone(), colour(row.kind)),
            Span::styled(format!("  {}", row.detail), dim),
        ]);
        let style = if at == cursor {
            Style::default().add_modifier(Modifier::REVERSED)
        } else {
            Style::default()
        };
        lines.push(line.style(style));
    }
    lines
}

/// A stack, leaf first.
fn stack_lines(model: &mut Model, n_lines: usize) -> Vec<Line<'static>> {
    let dim = Style::default().add_modifier(Modifier::DIM);
    let frames = model.stack().unwrap_or_default();
    let head = format!(
        "{} frames, leaf first, {:.1} % of the samples",
        frames.len(),
        percent(model.in_scope, model.samples)
    );
    let mut lines = vec![Line::styled(head, dim)];
    for &frame in frames.iter().skip(model.scroll).take(n_lines) {
        let Some((function, line)) = model.place(frame) else { continue };
        let place = match (function.file.as_str(), line) {
            ("", _) => function.module.clone(),
            (file, 0) => format!("{file}  {}", function.module),
            (file, line) => format!("{file}:{line}  {}", function.module),
        };
        lines.push(Line::from(vec![
            Span::styled(format!("{:8} ", function.kind.name()), dim),
            Span::styled(function.name.clone(), colour(Some(function.kind))),
            Span::styled(format!("  {place}"), dim),
        ]));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::model::{Batch, Frame, Function, Stack};
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn model() -> Model {
        let mut model = Model::new(10);
        let function = |name: &str, kind| Function {
            name: name.into(),
            module: "libx.so".into(),
            file: "x.c".into(),
            kind,
        };
        model.add(Batch {
            span_ns: 1_000_000_000,
            stacks: vec![Stack {
                pid: 1,
                comm: "c".into(),
                frames: [0, 1].into(),
                n: 99,
                is_cut: false,
            }],
            functions: vec![function("leaf", Kind::Kernel), function("caller", Kind::Native)],
            frames: vec![Frame { function: 0, line: 0 }, Frame { function: 1, line: 7 }],
            ..Batch::default()
        });
        model
    }

    fn screen(model: &mut Model, modes: &Modes, columns: u16, lines: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(columns, lines)).expect("a backend");
        terminal.draw(|frame| draw(frame, model, modes, 99)).expect("drawn");
        terminal.backend().to_string()
    }

    /// Before the first second nothing is known, and no figure has a sign.
    #[test]
    fn nothing_yet() {
        let text = screen(&mut Model::new(10), &Modes::default(), 80, 24);
        assert!(text.contains("0.0 % whole  hotframe 0.0 %"), "{text}");
    }

    /// What 80 by 24 shows: shares, names, keys; then a stack with its lines.
    #[test]
    fn eighty_by_twenty_four() {
        let mut model = model();
        let text = screen(&mut model, &Modes::default(), 80, 24);
        for wanted in [
            "100 % CPU busy  99 samples  100.0 % whole",
            "100.0 % 100.0 %  leaf  libx.so",
            "q quit",
        ] {
            assert!(text.contains(wanted), "{wanted}\n{text}");
        }
        model.enter();
        model.enter();
        let text = screen(&mut model, &Modes::default(), 80, 24);
        assert!(text.contains("native   caller  x.c:7  libx.so"), "{text}");
        let help = Modes { shows_help: true, ..Modes::default() };
        assert!(screen(&mut model, &help, 80, 24).contains("what it called, ran"));
    }

    /// Any size is survived.
    #[test]
    fn sizes() {
        let mut model = model();
        for (columns, lines) in [(1, 1), (30, 8), (31, 9), (80, 3), (5, 100), (300, 100)] {
            for tab in Tab::ALL {
                model.show(tab);
                screen(&mut model, &Modes::default(), columns, lines);
                screen(&mut model, &Modes { shows_help: true, is_typing: true }, columns, lines);
            }
        }
    }
}
