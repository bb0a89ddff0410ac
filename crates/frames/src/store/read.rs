//! Everything out of a [`Store`]: nodes of the tree and what stands at them, stacks, names, and what each
//! part holds and did. Nothing here changes the store.

use super::{Counters, Graft, StackId, Store};
use crate::budget::Held;
use crate::names::{Frame, Function, Module};
use crate::refs::Ref;
use crate::stacks::End;

/// A frame of a stack, as exporters read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackFrame {
    /// Its word, where the code is static. Frames inlined at one place share it.
    pub word: Option<u64>,
    /// Its frame by value; `None` where no name is known (yet).
    pub frame: Option<Frame>,
}

/// A node of the tree of stacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Number of the caller's node, always below this one's; 0: this is an outermost frame.
    pub parent: u32,
    pub(super) frame: u32,
}

/// What one part of the store holds and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its name.
    pub owner: &'static str,
    /// Bytes held.
    pub bytes: u64,
    /// The most bytes held at once.
    pub peak_bytes: u64,
    /// Entries held.
    pub entries: u64,
    /// Look-ups that found something.
    pub hits: u64,
    /// Look-ups that did not, by cause.
    pub misses: Vec<(&'static str, u64)>,
    /// Entries taken out to make room.
    pub evictions: u64,
    /// Charges refused.
    pub refused: u64,
}

impl Store {
    /// One more than the highest number of a stack.
    pub fn n_stacks(&self) -> usize {
        self.stacks.n_numbers()
    }

    /// Nodes of the tree; numbers 1 up to this, exclusive, are frames.
    pub fn n_nodes(&self) -> usize {
        self.stacks.n_nodes()
    }

    /// A node of the tree.
    pub fn node(&self, number: u32) -> Node {
        let (parent, frame) = self.stacks.node(number);
        Node { parent, frame }
    }

    /// The leaf's node of a stack; `None` for one that waits for names ([`Store::settle`]) or was
    /// forgotten.
    pub fn leaf(&self, stack: StackId) -> Option<u32> {
        match self.stacks.end(stack.0) {
            End::Node(node) => Some(node),
            End::Parked(_) | End::Free => None,
        }
    }

    /// What stands at a node: one for each frame by value, innermost first. Nothing at a place
    /// whose question is open.
    pub fn grafts_at(&self, node: Node) -> impl Iterator<Item = Graft> + '_ {
        let reference = Ref::unpack(node.frame);
        let place = match reference {
            Ref::Place(id) => Some(match self.places.of(id).incarnation() {
                Some(incarnation) => Graft::Own(incarnation, self.places.word(id)),
                None => Graft::Word(self.places.word(id)),
            }),
            _ => None,
        };
        let frames = if place.is_some() { Ref::None } else { reference };
        place.into_iter().chain(self.numbers(frames).map(Graft::Frame))
    }

    /// The number that was written over a node; `None`: it is still there.
    pub fn number(&self, node: u32) -> Option<u32> {
        self.stacks.number(node)
    }

    /// The word of a node in static code, or at an address of one process.
    pub fn word_at(&self, node: Node) -> Option<u64> {
        match Ref::unpack(node.frame) {
            Ref::Place(id) => Some(self.places.word(id)),
            _ => None,
        }
    }

    /// Numbers of the frames by value that stand at a node, innermost first.
    pub fn numbers_of(&self, node: Node) -> impl Iterator<Item = u32> + '_ {
        self.numbers(match Ref::unpack(node.frame) {
            Ref::Place(id) => self.places.named(id),
            other => other,
        })
    }

    pub(super) fn numbers(&self, named: Ref) -> impl Iterator<Item = u32> + '_ {
        let (one, chain) = match named {
            Ref::Frame(id) => (Some(id), None),
            Ref::Chain(at) => (None, Some(at)),
            _ => (None, None),
        };
        one.into_iter().chain(chain.into_iter().flat_map(|at| self.names.chain(at)))
    }

    /// What stands at a node: one frame, or innermost first those inlined at its place and the
    /// physical one.
    pub fn frames_at(&self, node: Node) -> impl Iterator<Item = StackFrame> + '_ {
        let (word, named) = match Ref::unpack(node.frame) {
            Ref::Place(id) => (Some(self.places.word(id)), self.places.named(id)),
            other => (None, other),
        };
        let (one, chain) = match named {
            Ref::Frame(id) => (Some(Some(self.names.frame(id))), None),
            Ref::Chain(at) => (None, Some(at)),
            _ => (Some(None), None),
        };
        let chain = chain.into_iter().flat_map(|at| self.names.chain(at));
        one.into_iter()
            .chain(chain.map(|id| Some(self.names.frame(id))))
            .map(move |frame| StackFrame { word, frame })
    }

    /// The frames of a stack, leaf first, inlined ones included. Empty for a stack that waits or
    /// was forgotten.
    pub fn stack(&self, stack: StackId) -> impl Iterator<Item = StackFrame> + '_ {
        let mut at = self.leaf(stack).unwrap_or(0);
        let nodes = std::iter::from_fn(move || {
            if at == 0 {
                return None;
            }
            let node = self.node(at);
            at = node.parent;
            Some(node)
        });
        nodes.flat_map(|node| self.frames_at(node))
    }

    /// Functions; their numbers are 0 up to this, exclusive.
    pub fn n_functions(&self) -> usize {
        self.names.n_functions()
    }

    /// A function.
    pub fn function(&self, number: u32) -> Function<'_> {
        self.names.function(number)
    }

    /// Modules; 0 is the one of code that has none.
    pub fn n_modules(&self) -> usize {
        self.names.n_modules()
    }

    /// A module.
    pub fn module(&self, number: u32) -> Module<'_> {
        self.names.module(number)
    }

    /// A frame by its number, which is below [`Store::n_frames`].
    pub fn frame(&self, number: u32) -> Frame {
        self.names.frame(number)
    }

    /// What the store did.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Texts, lines and inline chains that could not be kept as they came.
    pub fn n_sanitised(&self) -> u64 {
        self.names.n_sanitised
    }

    /// Bytes of the distinct texts themselves.
    pub fn text_bytes(&self) -> u64 {
        self.names.text_bytes()
    }

    /// Places in static code.
    pub fn n_places(&self) -> usize {
        self.places.len()
    }

    /// Distinct frames by value.
    pub fn n_frames(&self) -> usize {
        self.names.n_frames()
    }

    /// What each part holds and did.
    pub fn report(&self) -> Vec<Report> {
        let c = &self.counters;
        let report = |held: Held| {
            let (entries, hits, misses, evictions) = match held.owner {
                "frames.strings" => (self.names.n_texts(), 0, vec![], 0),
                "frames.functions" => (self.names.n_functions(), 0, vec![], 0),
                "frames.frames" => (self.names.n_frames(), 0, vec![], 0),
                "frames.chains" => (self.names.n_chains(), 0, vec![], 0),
                "frames.pending" => (self.n_pending(), 0, vec![], 0),
                "stacks.nodes" => (self.n_nodes(), 0, vec![], 0),
                "stacks.by_hash" => (
                    self.stacks.n_stacks(),
                    c.stack_hits,
                    vec![
                        ("new", c.stack_misses - c.stacks_refused.min(c.stack_misses)),
                        ("refused", c.stacks_refused),
                    ],
                    0,
                ),
                "lookup.static" => (
                    self.places.len(),
                    c.static_hits,
                    vec![("new", c.static_misses)],
                    c.names_forgotten,
                ),
                "lookup.recent" => (self.stacks.recent().0, self.stacks.recent().1, vec![], 0),
                "lookup.dynamic" => (
                    self.dynamic.len(),
                    c.dynamic_hits,
                    vec![("new", c.dynamic_new), ("evicted", c.dynamic_evicted)],
                    self.dynamic.evictions,
                ),
                "lookup.processes" => (self.dynamic.processes.len(), 0, vec![], 0),
                "lookup.tombstones" => (self.tombstones.len(), c.tombstone_names, vec![], 0),
                _ => (0, 0, vec![], 0),
            };
            Report {
                owner: held.owner,
                bytes: held.bytes,
                peak_bytes: held.peak_bytes,
                entries: entries as u64,
                hits,
                misses,
                evictions,
                refused: held.refused,
            }
        };
        self.budget.held().into_iter().filter(|held| is_ours(held.owner)).map(report).collect()
    }
}

fn is_ours(owner: &str) -> bool {
    ["frames.", "stacks.", "lookup."].iter().any(|prefix| owner.starts_with(prefix))
}
