//! The runtimes of one process: which of its files are theirs, who is attached to, and when what was not
//! possible is tried again.
//!
//! In: a process's mappings and files, and the time. Out: regions and their tables, and a line of the report
//! for each. A runtime that is starting is tried again after a part of the time that it has taken so far.

use super::{Met, Report};
use crate::files::{FileId, Files};
use crate::processes::{Mapping, Process};
use crate::recording::Incarnation;
use crate::tables::{Table, Tables};
use hotframe_objects::ReadAt;
use hotframe_runtime::{
    Attached, Begun, Kept, Layout, Memory, Naming, NothingKnown, Region, Runtime, Unusable,
};
use std::sync::Arc;

/// Least and longest wait before a runtime that is starting is tried again, and the longest before the frames
/// of one that is not old are taken.
const WAIT_MIN_NS: u64 = 2_000_000;
const WAIT_MAX_NS: u64 = 1_000_000_000;
/// What has taken so long may be expected to take as long again: who looks after a part of that is late
/// by no more than the part, and looks only as often as the logarithm of the time grows.
pub(super) const STARTING_PART: u64 = 8;
/// Likewise of what may end, with the names of what it ran. Where such processes come and go all the time,
/// passes come as often as the least wait says: it is that of new frames.
const LIVING_PART: u64 = 16;
const LIVING_MIN_NS: u64 = 10_000_000;
/// How long after a file was met in a process nothing that is found there is final.
const LOADING_NS: u64 = 5_000_000_000;
/// A runtime is told of the time at most so often, to look for what changes without a mapping: where samples are
/// taken. Where none are it is after a part of how long the process has been there, if that is longer: most of the
/// runtimes of a machine wait, and each look reads their memory.
const REFRESH_NS: u64 = 100_000_000;

/// Why a runtime that is attached to has no frames: its step has nothing to go by.
const NO_ROOM: &str = "no room for its table within --memory";

/// Opens the file behind a mapping.
pub(super) type OpenMapping<'a> =
    dyn Fn(&hotframe_runtime::Mapping) -> Option<Arc<dyn ReadAt + Send + Sync>> + 'a;

/// A runtime in a process.
pub(super) struct Served {
    pub(super) runtime: &'static dyn Runtime,
    /// `None`: the file was recognised but cannot be used.
    pub(super) layout: Option<Arc<dyn Layout>>,
    pub(super) file: FileId,
    pub(super) bias: u64,
    /// When it was first seen there.
    pub(super) met_ns: u64,
    pub(super) state: State,
    /// Until it is attached, if ever: what counts the stacks that lack its frames.
    pub(super) stand_in: Option<StandIn>,
}

pub(super) struct StandIn {
    attached: Box<dyn Attached>,
    table: Option<Table>,
}

impl Served {
    /// Where the runtime's step is called, and with which table.
    pub(super) fn regions(&self) -> Option<(&[Region], &Table)> {
        match &self.state {
            State::Attached { attached, table } => Some((attached.regions(), table.as_ref()?)),
            _ => {
                let StandIn { attached, table } = self.stand_in.as_ref()?;
                Some((attached.regions(), table.as_ref()?))
            }
        }
    }

    pub(super) fn kept(&self) -> Kept {
        match &self.state {
            State::Attached { attached, .. } => attached.kept(),
            _ => Kept::default(),
        }
    }

    /// When it should be looked at next, whatever else happens.
    pub(super) fn look_at_ns(&self, now_ns: u64) -> u64 {
        match &self.state {
            State::Starting { due_ns, .. } => *due_ns,
            State::Attached { .. } => match wait_ns(self.met_ns, now_ns, LIVING_PART) {
                WAIT_MAX_NS => u64::MAX,
                wait_ns => now_ns.saturating_add(wait_ns.max(LIVING_MIN_NS)),
            },
            State::Unusable(_) => u64::MAX,
        }
    }

    /// Attaches to what is starting, if that is possible by now. True if its regions changed; `replaced` gets
    /// the table that they had until now.
    fn start(
        &mut self,
        met: &mut Met,
        layout: &dyn Layout,
        view: &hotframe_runtime::Process<'_>,
        tables: &mut Tables,
        now_ns: u64,
        replaced: &mut Vec<Table>,
    ) -> bool {
        let State::Starting { due_ns, why, begun } = &mut self.state else { return false };
        // New mappings are what a starting runtime waits for, but a storm of them is not.
        if now_ns < *due_ns {
            return false;
        }
        let (pid, runtime) = (view.pid, self.runtime);
        match layout.attach_again(view, begun) {
            Ok(attached) => {
                let regions = attached.regions();
                tracing::debug!(pid, runtime = runtime.name(), regions = regions.len(), "attached");
                met.attached.push((pid, regions.to_vec()));
                let table = tables.add_table(runtime.id(), attached.table());
                self.state = State::Attached { attached, table };
                replaced.extend(self.stand_in.take().and_then(|stand_in| stand_in.table));
                return true;
            }
            Err(cause) => {
                *why = crate::chain(&cause);
                tracing::debug!(pid, "{}: {why}", runtime.name());
                // The loader maps all of a file in one piece before it lays each part over its
                // place: what is read of its data meanwhile may be anything.
                if matches!(cause, Unusable::NotYet(_) | Unusable::Read { .. })
                    || now_ns.saturating_sub(self.met_ns) < LOADING_NS
                {
                    *due_ns = now_ns + wait_ns(self.met_ns, now_ns, STARTING_PART);
                } else {
                    self.state = State::Unusable(std::mem::take(why));
                }
            }
        }
        if self.stand_in.is_some() {
            return false;
        }
        self.stand_in = layout.stand_in(view).map(|attached| StandIn {
            table: tables.add_table(runtime.id(), attached.table()),
            attached,
        });
        self.stand_in.is_some()
    }

    pub(super) fn into_tables(self) -> impl Iterator<Item = Table> {
        let own = match self.state {
            State::Attached { table, .. } => table,
            _ => None,
        };
        own.into_iter().chain(self.stand_in.and_then(|stand_in| stand_in.table))
    }
}

pub(super) enum State {
    /// Not so far: when it is tried again.
    Starting {
        due_ns: u64,
        why: String,
        begun: Begun,
    },
    Attached {
        attached: Box<dyn Attached>,
        table: Option<Table>,
    },
    Unusable(String),
}

/// A process with runtimes.
pub(super) struct Serving {
    /// `Process::image`: another one is another program.
    pub(super) image: u64,
    /// Known from its first sample on.
    pub(super) incarnation: Option<Incarnation>,
    pub(super) memory: Memory,
    pub(super) naming: Naming,
    pub(super) served: Vec<Served>,
    pub(super) refreshed_ns: u64,
    /// A sample of it was taken since.
    pub(super) is_sampled: bool,
    /// Tables that the blob published last may still name.
    pub(super) replaced: Vec<Table>,
}

impl Serving {
    pub(super) fn is_attached(&self) -> bool {
        self.served.iter().any(|served| matches!(served.state, State::Attached { .. }))
    }

    /// How long after the last time its runtimes are told of it again.
    fn refresh_wait_ns(&self, now_ns: u64) -> u64 {
        let met_ns = self.served.iter().map(|served| served.met_ns).max();
        match met_ns {
            Some(met_ns) if !self.is_sampled => {
                wait_ns(met_ns, now_ns, LIVING_PART).max(REFRESH_NS)
            }
            _ => REFRESH_NS,
        }
    }

    /// Brings a process's runtimes up to date. True if regions or tables changed.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn refresh(
        &mut self,
        met: &mut Met,
        pid: u32,
        process: &Process,
        files: &Files,
        tables: &mut Tables,
        now_ns: u64,
        mappings_changed: bool,
    ) -> bool {
        let is_due = mappings_changed
            || now_ns.saturating_sub(self.refreshed_ns) >= self.refresh_wait_ns(now_ns);
        let is_starting = self.served.iter().any(
            |served| matches!(&served.state, State::Starting { due_ns, .. } if *due_ns <= now_ns),
        );
        if !is_due && !is_starting {
            return false;
        }
        self.refreshed_ns = now_ns;
        self.is_sampled = false;
        self.memory.forget();
        let make = || view_mappings(process, files);
        let mappings = hotframe_runtime::Mappings::new(&make).changed(mappings_changed);
        let open = |mapping: &hotframe_runtime::Mapping| open_mapping(process, files, mapping);
        let mut changed = false;
        for served in &mut self.served {
            let Some(layout) = served.layout.clone() else { continue };
            let view = hotframe_runtime::Process {
                pid,
                bias: served.bias,
                memory: &self.memory,
                naming: self.naming,
                known: &NothingKnown,
                mappings: &mappings,
                open: &open,
            };
            changed |= match &mut served.state {
                State::Unusable(_) => false,
                State::Attached { attached, table } => {
                    // One that found no room gets some when others have ended.
                    let had_table = table.is_some();
                    let has_changed = attached.refresh(&view) || !had_table;
                    if has_changed {
                        let new = tables.add_table(served.runtime.id(), attached.table());
                        self.replaced.extend(std::mem::replace(table, new));
                    }
                    has_changed && (had_table || table.is_some())
                }
                State::Starting { .. } => {
                    // The steps take some time to load: a runtime that starts has it.
                    met.wanted |= 1 << served.runtime.id();
                    served.start(met, &*layout, &view, tables, now_ns, &mut self.replaced)
                }
            };
        }
        changed
    }
}

/// A part of the time since, but not less or more than is sensible.
pub(super) fn wait_ns(since_ns: u64, now_ns: u64, part: u64) -> u64 {
    (now_ns.saturating_sub(since_ns) / part).clamp(WAIT_MIN_NS, WAIT_MAX_NS)
}

/// What is added to a file's addresses where this mapping is of it.
pub(super) fn bias(files: &Files, id: FileId, mapping: &Mapping) -> Option<u64> {
    let elf = files.get(id)?.elf()?;
    Some(elf.map_bias(mapping.start, mapping.pgoff)?.wrapping_sub(elf.image_base()))
}

pub(super) fn view_mappings(process: &Process, files: &Files) -> Vec<hotframe_runtime::Mapping> {
    let path = |mapping: &Mapping| match files.get(mapping.file) {
        Some(file) if mapping.file != 0 => file.path.clone(),
        _ => String::new(),
    };
    process
        .mappings
        .iter()
        .map(|mapping| hotframe_runtime::Mapping {
            start: mapping.start,
            end: mapping.end,
            pgoff: mapping.pgoff,
            path: path(mapping),
        })
        .collect()
}

pub(super) fn open_mapping(
    process: &Process,
    files: &Files,
    wanted: &hotframe_runtime::Mapping,
) -> Option<Arc<dyn ReadAt + Send + Sync>> {
    let mapping = process.mappings.iter().find(|mapping| mapping.start == wanted.start)?;
    Some(Arc::new(files.get(mapping.file)?.reader()?.clone()))
}

pub(super) fn reports(pid: u32, serving: &Serving) -> impl Iterator<Item = Report> + '_ {
    serving.served.iter().map(move |served| report(pid, served))
}

pub(super) fn report(pid: u32, served: &Served) -> Report {
    Report {
        pid,
        runtime: served.runtime.name(),
        version: match (&served.state, &served.layout) {
            (State::Attached { attached, .. }, Some(layout)) => {
                attached.version().unwrap_or_else(|| layout.version())
            }
            (_, layout) => layout.as_ref().map_or_else(String::new, |layout| layout.version()),
        },
        problem: match &served.state {
            State::Attached { table: None, .. } => NO_ROOM.into(),
            State::Attached { .. } => String::new(),
            State::Starting { why, .. } => why.clone(),
            State::Unusable(why) => why.clone(),
        },
    }
}
