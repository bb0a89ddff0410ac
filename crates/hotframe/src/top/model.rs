//! What the screen shows, without a screen: a window of seconds, a scope, a filter, rows.
//!
//! In: [`Batch`]es and keys. Out: [`Row`]s of the current view. Rows are counted anew for each
//! batch; a window of 10 s with 200 distinct stacks of 60 frames a second takes about a
//! millisecond.

use hotframe_core::profile::Kind;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// Longest window, in batches; also how many are kept while frozen.
pub const WINDOW_MAX: usize = 60;
/// Rows of a view.
const ROWS_MAX: usize = 500;

/// A frame that has no name yet: this, [`LATER_KERNEL`] if it is of the kernel, and a number. A
/// later [`Batch`] says what it is.
pub const LATER: u32 = 1 << 31;
/// See [`LATER`].
pub const LATER_KERNEL: u32 = 1 << 30;

/// A function.
#[derive(Debug, Clone)]
pub struct Function {
    /// Demangled name, safe for a terminal.
    pub name: String,
    /// File of code, its last part.
    pub module: String,
    /// Source file, its last part; empty: unknown.
    pub file: String,
    /// Kind of code.
    pub kind: Kind,
}

/// A place in a function.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Index into the functions.
    pub function: u32,
    /// Source line; 0: unknown.
    pub line: u32,
}

/// Equal samples of a process in one batch.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Its process.
    pub pid: u32,
    /// The process's name.
    pub comm: Arc<str>,
    /// Indices into the frames, leaf first.
    pub frames: Box<[u32]>,
    /// Samples.
    pub n: u32,
    /// The stack is not whole.
    pub is_cut: bool,
}

/// About a second of samples.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Time covered.
    pub span_ns: u64,
    /// CPU time of hotframe itself, of one core.
    pub own_cpu_share: f64,
    /// The samples.
    pub stacks: Vec<Stack>,
    /// Indices start again at 0: what was known before is void.
    pub is_reset: bool,
    /// Functions that are new; their indices follow those known.
    pub functions: Vec<Function>,
    /// Frames that are new.
    pub frames: Vec<Frame>,
    /// What stands for a frame without a name: of a file, of the kernel.
    pub unnamed: [u32; 2],
    /// What frames that had no name in earlier batches are, innermost first.
    pub late: Vec<(u32, Box<[u32]>)>,
}

impl Default for Batch {
    /// Nothing, and no frame that stands for those without a name.
    fn default() -> Batch {
        Batch {
            span_ns: 0,
            own_cpu_share: 0.0,
            stacks: Vec::new(),
            is_reset: false,
            functions: Vec::new(),
            frames: Vec::new(),
            unnamed: [LATER; 2],
            late: Vec::new(),
        }
    }
}

/// A view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    /// Functions, by own or total samples.
    Functions,
    /// Processes.
    Processes,
    /// Kinds of code.
    Kinds,
    /// Distinct stacks.
    Stacks,
}

impl Tab {
    /// In the order of their keys, 1 to 4.
    pub const ALL: [Tab; 4] = [Tab::Functions, Tab::Processes, Tab::Kinds, Tab::Stacks];

    /// As the screen names it.
    pub fn name(self) -> &'static str {
        match self {
            Tab::Functions => "functions",
            Tab::Processes => "processes",
            Tab::Kinds => "kinds",
            Tab::Stacks => "stacks",
        }
    }
}

/// What a row stands for, and what a view may be restricted to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// Stacks that hold this function.
    Function(u32),
    /// Stacks of this process.
    Process(u32),
    /// Stacks whose leaf is of this kind; none: those without frames.
    Kind(Option<Kind>),
    /// This stack.
    Stack(Box<[u32]>),
}

/// A line of a view.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What it stands for.
    pub key: Key,
    /// Samples with it at the leaf; for processes and stacks: samples.
    pub own: u64,
    /// Samples with it anywhere in the stack.
    pub total: u64,
    /// Kind of code, for its colour.
    pub kind: Option<Kind>,
    /// Name.
    pub name: String,
    /// What stands behind the name, dimmed.
    pub detail: String,
}

/// A level of drilling down: the scope, and where the cursor was.
#[derive(Debug, Clone)]
struct Level {
    key: Key,
    label: String,
    tab: Tab,
    cursor: Option<Key>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Model {
    batches: VecDeque<Batch>,
    waiting: VecDeque<Batch>,
    functions: Vec<Function>,
    frames: Vec<Frame>,
    unnamed: [u32; 2],
    levels: Vec<Level>,
    rows: Vec<Row>,
    cursor: usize,
    /// The view.
    pub tab: Tab,
    /// Rows whose name or detail holds this, case aside.
    pub filter: String,
    /// Batches that count.
    pub window: usize,
    /// New samples wait.
    pub is_frozen: bool,
    /// Functions go by total, not by own samples.
    pub by_total: bool,
    /// Samples in the scope.
    pub in_scope: u64,
    /// Samples in the window.
    pub samples: u64,
    /// Of these, with a whole stack.
    pub whole: u64,
    /// Samples of the scope whose leaf has no name yet; of the list of functions only.
    pub unnamed_own: u64,
    /// First visible line, of the rows or of a stack's frames.
    pub scroll: usize,
    /// Lines that the screen has for rows.
    pub n_lines: usize,
}

/// Samples of a function.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    own: u64,
    total: u64,
    /// Number of the last stack that it was counted in: recursion counts once.
    stack: u32,
}

impl Model {
    /// Empty, with a window of so many batches.
    pub fn new(window: usize) -> Model {
        Model {
            batches: VecDeque::new(),
            waiting: VecDeque::new(),
            functions: Vec::new(),
            frames: Vec::new(),
            unnamed: [LATER; 2],
            levels: Vec::new(),
            rows: Vec::new(),
            cursor: 0,
            tab: Tab::Functions,
            filter: String::new(),
            window: window.clamp(1, WINDOW_MAX),
            is_frozen: false,
            by_total: false,
            in_scope: 0,
            samples: 0,
            whole: 0,
            unnamed_own: 0,
            scroll: 0,
            n_lines: ROWS_MAX,
        }
    }

    /// Takes a batch, now or, while frozen, when it thaws.
    pub fn add(&mut self, batch: Batch) {
        if self.is_frozen {
            self.waiting.push_back(batch);
            if self.waiting.len() > WINDOW_MAX {
                self.merge_oldest_waiting();
            }
            return;
        }
        self.apply(batch);
        self.count();
    }

    /// The oldest samples that wait are too old to be shown, but their names are needed.
    fn merge_oldest_waiting(&mut self) {
        if let (Some(old), Some(next)) = (self.waiting.pop_front(), self.waiting.front_mut())
            && !next.is_reset
        {
            next.is_reset = old.is_reset;
            next.functions.splice(0..0, old.functions);
            next.frames.splice(0..0, old.frames);
            next.late.splice(0..0, old.late);
        }
    }

    fn apply(&mut self, mut batch: Batch) {
        if batch.is_reset {
            self.batches.clear();
            self.functions.clear();
            self.frames.clear();
            self.levels.clear();
        }
        self.functions.append(&mut batch.functions);
        self.frames.append(&mut batch.frames);
        self.unnamed = batch.unnamed;
        self.name_late(std::mem::take(&mut batch.late));
        self.batches.push_back(batch);
        while self.batches.len() > WINDOW_MAX {
            self.batches.pop_front();
        }
    }

    /// Puts names into the batches that came before them, and into stacks that are looked at.
    fn name_late(&mut self, late: Vec<(u32, Box<[u32]>)>) {
        if late.is_empty() {
            return;
        }
        let late: HashMap<u32, Box<[u32]>> = late.into_iter().collect();
        let name = |frames: &mut Box<[u32]>| {
            if frames.iter().any(|frame| late.contains_key(frame)) {
                let named = frames.iter().flat_map(|frame| match late.get(frame) {
                    Some(frames) => frames.to_vec(),
                    None => vec![*frame],
                });
                *frames = named.collect();
            }
        };
        for stack in self.batches.iter_mut().flat_map(|batch| &mut batch.stacks) {
            name(&mut stack.frames);
        }
        let keys = (self.levels.iter_mut())
            .flat_map(|level| [Some(&mut level.key), level.cursor.as_mut()])
            .chain(self.rows.iter_mut().map(|row| Some(&mut row.key)));
        for key in keys.flatten() {
            if let Key::Stack(frames) = key {
                name(frames);
            }
        }
    }

    /// Freezes, or goes on with all that came meanwhile.
    pub fn toggle_frozen(&mut self) {
        self.is_frozen = !self.is_frozen;
        if !self.is_frozen {
            for batch in std::mem::take(&mut self.waiting) {
                self.apply(batch);
            }
            self.count();
        }
    }

    /// The batches that count, newest first.
    pub fn window(&self) -> impl Iterator<Item = &Batch> {
        self.batches.iter().rev().take(self.window)
    }

    /// Seconds that the window covers so far.
    pub fn span_s(&self) -> f64 {
        self.window().map(|batch| batch.span_ns).sum::<u64>() as f64 / 1e9
    }

    /// The rows, hottest first.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Index of the selected row.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// Names of the scopes, outermost first.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.levels.iter().map(|level| level.label.as_str())
    }

    /// The stack that was drilled down to.
    pub fn stack(&self) -> Option<&[u32]> {
        match self.levels.last().map(|level| &level.key) {
            Some(Key::Stack(frames)) => Some(frames),
            _ => None,
        }
    }

    /// What is looked at and has no name yet: frames of the stack on the screen, or of the visible
    /// ones of the list of stacks.
    pub fn unnamed_shown(&self) -> Vec<u32> {
        let rows = self.rows.iter().skip(self.scroll).take(self.n_lines);
        let listed = rows.filter_map(|row| match &row.key {
            Key::Stack(frames) => Some(&frames[..]),
            _ => None,
        });
        let stacks: Vec<&[u32]> = self.stack().map_or_else(|| listed.collect(), |one| vec![one]);
        stacks.concat().into_iter().filter(|frame| frame & LATER != 0).collect()
    }

    /// A function by one of its frames, with the line there.
    pub fn place(&self, frame: u32) -> Option<(&Function, u32)> {
        let frame = self.frames.get(self.known(frame) as usize)?;
        Some((self.functions.get(frame.function as usize)?, frame.line))
    }

    /// Moves the selection, or scrolls a stack.
    pub fn step(&mut self, by: isize) {
        if let Some(stack) = self.stack() {
            let last = stack.len().saturating_sub(1);
            self.scroll = self.scroll.saturating_add_signed(by).min(last);
            return;
        }
        let last = self.rows.len().saturating_sub(1);
        self.cursor = self.cursor.saturating_add_signed(by).min(last);
    }

    /// Changes the view.
    pub fn show(&mut self, tab: Tab) {
        if self.stack().is_some() {
            self.leave();
        }
        self.tab = tab;
        (self.cursor, self.scroll) = (0, 0);
        self.rows.clear();
        self.count();
    }

    /// Drills down into the selected row.
    pub fn enter(&mut self) {
        if self.stack().is_some() {
            return;
        }
        let Some(row) = self.rows.get(self.cursor) else { return };
        let level = Level {
            key: row.key.clone(),
            label: row.name.clone(),
            tab: self.tab,
            cursor: Some(row.key.clone()),
        };
        self.tab = match row.key {
            Key::Function(_) | Key::Stack(_) => Tab::Stacks,
            Key::Process(_) | Key::Kind(_) => Tab::Functions,
        };
        self.levels.push(level);
        self.filter.clear();
        (self.cursor, self.scroll) = (0, 0);
        self.rows.clear();
        self.count();
    }

    /// Goes back out. False: it was not inside of anything.
    pub fn leave(&mut self) -> bool {
        if !self.filter.is_empty() {
            self.filter.clear();
            self.count();
            return true;
        }
        let Some(level) = self.levels.pop() else { return false };
        self.tab = level.tab;
        self.scroll = 0;
        self.rows.clear();
        self.count();
        let at = self.rows.iter().position(|row| Some(&row.key) == level.cursor.as_ref());
        self.cursor = at.unwrap_or(0);
        true
    }

    /// Counts the rows anew. A cursor on the first row stays there; another stays on what it was on
    /// as long as that is to be seen.
    pub fn count(&mut self) {
        let visible = self.scroll..self.scroll.saturating_add(self.n_lines);
        let selected = match self.cursor {
            0 => None,
            cursor => self.rows.get(cursor).map(|row| row.key.clone()),
        };
        (self.samples, self.whole, self.in_scope) = (0, 0, 0);
        let mut others: HashMap<Key, Row> = HashMap::new();
        let mut seen = HashSet::new();
        let mut counts = match self.tab {
            Tab::Functions => vec![Count::default(); self.functions.len()],
            _ => Vec::new(),
        };
        let stacks = self.batches.iter().rev().take(self.window).flat_map(|batch| &batch.stacks);
        for (number, stack) in (1..).zip(stacks) {
            let n = u64::from(stack.n);
            self.samples += n;
            if !stack.is_cut {
                self.whole += n;
            }
            if self.levels.iter().all(|level| self.holds(stack, &level.key)) {
                self.in_scope += n;
                match self.tab {
                    Tab::Functions => self.count_functions(number, stack, &mut counts),
                    _ => self.count_stack(stack, &mut others, &mut seen),
                }
            }
        }
        let [file, kernel] = self.unnamed_functions();
        let own = |id: Option<u32>| counts.get(id? as usize).map(|count| count.own);
        let kernel = if kernel == file { None } else { kernel };
        self.unnamed_own = own(file).unwrap_or(0) + own(kernel).unwrap_or(0);
        let by_total = self.by_total && self.tab != Tab::Stacks;
        let weight = |row: &Row| if by_total { (row.total, row.own) } else { (row.own, row.total) };
        let wanted = self.filter.to_lowercase();
        let is_wanted = |name: &str, detail: &str| {
            wanted.is_empty()
                || name.to_lowercase().contains(&wanted)
                || detail.to_lowercase().contains(&wanted)
        };
        let mut rows: Vec<Row> = match self.tab {
            Tab::Functions => self.function_rows(&counts, by_total, &is_wanted),
            _ => others.into_values().filter(|row| is_wanted(&row.name, &row.detail)).collect(),
        };
        rows.sort_by(|a, b| weight(b).cmp(&weight(a)).then_with(|| a.name.cmp(&b.name)));
        rows.truncate(ROWS_MAX);
        self.cursor = selected
            .and_then(|key| rows.iter().position(|row| row.key == key))
            .filter(|at| visible.contains(at))
            .unwrap_or(self.cursor)
            .min(rows.len().saturating_sub(1));
        self.rows = rows;
    }

    fn unnamed_functions(&self) -> [Option<u32>; 2] {
        self.unnamed.map(|frame| self.function_of(frame))
    }

    /// Tens of thousands of frames a second: an array does, and only what can be seen gets a row.
    fn count_functions(&self, number: u32, stack: &Stack, counts: &mut [Count]) {
        for (depth, &frame) in stack.frames.iter().enumerate() {
            let Some(function) = self.function_of(frame) else { continue };
            let Some(count) = counts.get_mut(function as usize) else { continue };
            if count.stack == number {
                continue;
            }
            count.stack = number;
            count.total += u64::from(stack.n);
            count.own += if depth == 0 { u64::from(stack.n) } else { 0 };
        }
    }

    /// The heaviest functions. What stands for those without a name is none.
    fn function_rows(
        &self,
        counts: &[Count],
        by_total: bool,
        is_wanted: &dyn Fn(&str, &str) -> bool,
    ) -> Vec<Row> {
        let unnamed = self.unnamed_functions();
        let mut found: Vec<(usize, &Function, Count)> = (counts.iter().copied().enumerate())
            .zip(&self.functions)
            .map(|((id, count), function)| (id, function, count))
            .filter(|(id, _, count)| count.total > 0 && !unnamed.contains(&Some(*id as u32)))
            .filter(|(_, function, _)| is_wanted(&function.name, &function.module))
            .collect();
        let weight = |count: &Count| match by_total {
            true => (count.total, count.own),
            false => (count.own, count.total),
        };
        found.sort_by(|(_, one, a), (_, other, b)| {
            weight(b).cmp(&weight(a)).then_with(|| one.name.cmp(&other.name))
        });
        let row = |(id, function, count): (usize, &Function, Count)| Row {
            key: Key::Function(id as u32),
            own: count.own,
            total: count.total,
            kind: Some(function.kind),
            name: function.name.clone(),
            detail: function.module.clone(),
        };
        found.into_iter().take(ROWS_MAX).map(row).collect()
    }

    fn function_of(&self, frame: u32) -> Option<u32> {
        self.frames.get(self.known(frame) as usize).map(|frame| frame.function)
    }

    /// The frame itself, or what stands for it.
    fn known(&self, frame: u32) -> u32 {
        match frame & LATER != 0 {
            true => self.unnamed[usize::from(frame & LATER_KERNEL != 0)],
            false => frame,
        }
    }

    fn kind_of(&self, stack: &Stack) -> Option<Kind> {
        self.place(*stack.frames.first()?).map(|(function, _)| function.kind)
    }

    fn holds(&self, stack: &Stack, key: &Key) -> bool {
        match key {
            Key::Function(function) => {
                stack.frames.iter().any(|&frame| self.function_of(frame) == Some(*function))
            }
            Key::Process(pid) => stack.pid == *pid,
            Key::Kind(kind) => self.kind_of(stack) == *kind,
            Key::Stack(frames) => stack.frames == *frames,
        }
    }

    fn count_stack(&self, stack: &Stack, rows: &mut HashMap<Key, Row>, seen: &mut HashSet<Key>) {
        let n = u64::from(stack.n);
        let mut add =
            |key: Key, is_own: bool, make: &dyn Fn() -> (Option<Kind>, String, String)| {
                let row = rows.entry(key.clone()).or_insert_with(|| {
                    let (kind, name, detail) = make();
                    Row { key, own: 0, total: 0, kind, name, detail }
                });
                row.total += n;
                row.own += if is_own { n } else { 0 };
            };
        seen.clear();
        match self.tab {
            Tab::Functions => unreachable!("functions are counted by `count_functions`"),
            Tab::Processes => add(Key::Process(stack.pid), true, &|| {
                (None, stack.comm.to_string(), stack.pid.to_string())
            }),
            Tab::Kinds => {
                for (depth, &frame) in stack.frames.iter().enumerate() {
                    let Some((function, _)) = self.place(frame) else { continue };
                    let key = Key::Kind(Some(function.kind));
                    if seen.insert(key.clone()) {
                        add(key, depth == 0, &|| {
                            (Some(function.kind), function.kind.name().into(), String::new())
                        });
                    }
                }
                if stack.frames.is_empty() {
                    add(Key::Kind(None), true, &|| (None, "[no stack]".into(), String::new()));
                }
            }
            Tab::Stacks => add(Key::Stack(stack.frames.clone()), true, &|| {
                let mut names =
                    stack.frames.iter().filter_map(|&frame| Some(&self.place(frame)?.0.name));
                let leaf = names.next().map_or("[no stack]", String::as_str).to_owned();
                let callers: Vec<&str> = names.take(6).map(String::as_str).collect();
                let detail = match callers.is_empty() {
                    true => String::new(),
                    false => format!("← {}", callers.join(" ← ")),
                };
                (self.kind_of(stack), leaf, detail)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, kind: Kind) -> Function {
        Function { name: name.into(), module: "m".into(), file: String::new(), kind }
    }

    fn stack(pid: u32, frames: &[u32], n: u32) -> Stack {
        Stack { pid, comm: "c".into(), frames: frames.into(), n, is_cut: false }
    }

    /// A frame without a name counts as what stands for it, until its name comes, inlined callers
    /// included: then also where one looks at it.
    #[test]
    fn names_that_come_late() {
        let mut model = Model::new(5);
        let later = LATER | LATER_KERNEL | 7;
        let mut first = batch();
        first.unnamed = [LATER, 2];
        first.stacks = vec![stack(1, &[later, 1], 4)];
        model.add(first);
        assert_eq!(rows(&model), [row("b", 0, 4)]);
        assert_eq!(model.unnamed_own, 4);
        model.show(Tab::Stacks);
        model.enter();
        assert_eq!(model.stack(), Some(&[later, 1][..]));
        let late = vec![(later, Box::from([1, 0]))];
        model.add(Batch { unnamed: [LATER, 2], late, ..Batch::default() });
        assert_eq!(model.stack(), Some(&[1, 0, 1][..]));
        assert_eq!(model.in_scope, 4);
    }

    /// Two processes; `a` calls itself and `b`, `b` goes into the kernel.
    fn batch() -> Batch {
        Batch {
            span_ns: 1_000_000_000,
            stacks: vec![
                stack(1, &[1, 0, 0], 5),
                stack(1, &[2, 1, 0], 3),
                stack(2, &[0], 2),
                Stack { is_cut: true, ..stack(2, &[], 1) },
            ],
            functions: vec![
                function("a", Kind::Native),
                function("b", Kind::Rust),
                function("k", Kind::Kernel),
            ],
            frames: (0..3).map(|function| Frame { function, line: 0 }).collect(),
            ..Batch::default()
        }
    }

    fn rows(model: &Model) -> Vec<(String, u64, u64)> {
        model.rows().iter().map(|row| (row.name.clone(), row.own, row.total)).collect()
    }

    fn row(name: &str, own: u64, total: u64) -> (String, u64, u64) {
        (name.into(), own, total)
    }

    /// Own and total samples; recursion counts once.
    #[test]
    fn functions() {
        let mut model = Model::new(10);
        model.add(batch());
        assert_eq!(rows(&model), [row("b", 5, 8), row("k", 3, 3), row("a", 2, 10)]);
        assert_eq!((model.samples, model.whole), (11, 10));
        model.by_total = true;
        model.count();
        assert_eq!(model.rows()[0].name, "a");
    }

    /// Down from a process over a function to a stack, and back to where the cursor was.
    #[test]
    fn drilling() {
        let mut model = Model::new(10);
        model.add(batch());
        model.show(Tab::Processes);
        assert_eq!(model.rows().len(), 2);
        model.enter();
        assert_eq!(rows(&model), [row("b", 5, 8), row("k", 3, 3), row("a", 0, 8)]);
        model.step(1);
        model.enter();
        assert_eq!((model.tab, model.in_scope, model.rows().len()), (Tab::Stacks, 3, 1));
        model.enter();
        assert_eq!(model.stack(), Some(&[2, 1, 0][..]));
        assert_eq!(model.scopes().collect::<Vec<_>>(), ["c", "k", "k"]);
        assert!(model.leave() && model.leave());
        assert_eq!((model.tab, model.cursor()), (Tab::Functions, 1));
        assert!(model.leave());
        assert!(!model.leave());
        assert_eq!(model.tab, Tab::Processes);
    }

    /// The window forgets, the filter restricts, and the cursor stays on its row.
    #[test]
    fn window_and_filter() {
        let mut model = Model::new(1);
        model.add(batch());
        model.step(1);
        let selected = model.rows()[model.cursor()].key.clone();
        let later =
            Batch { stacks: vec![stack(1, &[2], 9), stack(1, &[0], 1)], ..Batch::default() };
        model.add(later);
        assert_eq!(rows(&model), [row("k", 9, 9), row("a", 1, 1)]);
        assert_eq!(model.rows()[model.cursor()].key, selected);
        model.window = 2;
        model.count();
        assert_eq!(model.samples, 21);
        model.filter = "K".into();
        model.count();
        assert_eq!(rows(&model), [row("k", 12, 12)]);
        assert!(model.leave());
        assert_eq!(model.rows().len(), 3);
    }

    /// A cursor that nobody moved shows the hottest row, whatever happens to the one that was it;
    /// one that was moved follows its row, but not out of sight.
    #[test]
    fn the_cursor_does_not_leave_the_top() {
        let mut model = Model::new(1);
        model.n_lines = 2;
        model.add(batch());
        assert_eq!((model.cursor(), &*model.rows()[0].name), (0, "b"));
        let second = |counts: [u32; 3]| Batch {
            stacks: (0..).zip(counts).map(|(frame, n)| stack(1, &[frame], n)).collect(),
            ..Batch::default()
        };
        model.add(second([7, 1, 5]));
        assert_eq!((model.cursor(), &*model.rows()[0].name), (0, "a"));
        model.step(1);
        model.add(second([5, 1, 7]));
        assert_eq!((model.cursor(), &*model.rows()[0].name), (0, "k"));
        model.step(1);
        model.add(second([1, 5, 7]));
        assert_eq!((model.cursor(), &*model.rows()[2].name), (1, "a"));
    }

    /// What has no name yet is no function; how many leaves have none is said. What is looked at and
    /// has no name is known.
    #[test]
    fn callers_that_have_no_name() {
        let mut model = Model::new(5);
        let mut first = batch();
        first.frames.extend([Frame { function: 3, line: 0 }]);
        first.functions.push(function("[named in a moment]", Kind::Native));
        first.unnamed = [3, 3];
        first.stacks = vec![stack(1, &[1, LATER | 7, 0], 4)];
        model.add(first);
        assert_eq!(rows(&model), [row("b", 4, 4), row("a", 0, 4)]);
        assert!(model.unnamed_shown().is_empty());
        model.show(Tab::Stacks);
        assert_eq!(model.unnamed_shown(), [LATER | 7]);
        model.enter();
        assert_eq!(model.unnamed_shown(), [LATER | 7]);
        let leaf = vec![stack(1, &[LATER | 8], 1)];
        model.add(Batch { stacks: leaf, unnamed: [3, 3], ..Batch::default() });
        model.show(Tab::Functions);
        assert_eq!(rows(&model), [row("b", 4, 4), row("a", 0, 4)]);
        assert_eq!((model.in_scope, model.unnamed_own), (5, 1));
    }

    /// While it is frozen nothing changes; afterwards nothing is missing, names of batches that
    /// were dropped included.
    #[test]
    fn freezing() {
        let mut model = Model::new(WINDOW_MAX);
        model.toggle_frozen();
        model.add(batch());
        assert_eq!(model.samples, 0);
        for _ in 0..WINDOW_MAX {
            model.add(Batch { stacks: vec![stack(1, &[2], 1)], ..Batch::default() });
        }
        model.toggle_frozen();
        assert_eq!(rows(&model), [row("k", 60, 60)]);
    }

    /// After a reset old indices mean nothing: no row of theirs is left.
    #[test]
    fn reset() {
        let mut model = Model::new(10);
        model.add(batch());
        model.enter();
        let mut anew = batch();
        anew.is_reset = true;
        anew.stacks.truncate(1);
        model.add(anew);
        assert_eq!((model.samples, model.scopes().count()), (5, 0));
    }

    /// Kinds count by leaf and by any frame; a stack without frames has none.
    #[test]
    fn kinds() {
        let mut model = Model::new(10);
        model.add(batch());
        model.show(Tab::Kinds);
        let expect =
            [row("rust", 5, 8), row("kernel", 3, 3), row("native", 2, 10), row("[no stack]", 1, 1)];
        assert_eq!(rows(&model), expect);
    }
}
