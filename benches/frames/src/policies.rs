//! The policies behind one trait: what a profiler does with the names of the frames it meets.
//!
//! (a) and (b) follow the peer's reporter before and after its pull request 529
//! (open-telemetry/opentelemetry-ebpf-profiler, `reporter/internal/pdata/pdata.go`): before, an
//! LRU of file ids, each holding an eagerly allocated LRU of 1,024 of the addresses or lines in
//! it; after, one LRU by (file id, address or line) of 131,072 entries. Each Java method had a
//! file id of its own. A value is line, function offset, and handles of two interned strings.
//! What the peer keeps per process in front of these (four to eight more LRUs) is left out of its
//! bytes, which favours it. Policies (b), (c) and the cache crates are keyed by (process, words), as
//! the peer's later frame cache is: a hit means that no process is read again. The lookup caches of
//! (d) are counted in.

use std::collections::HashMap;
use std::sync::Arc;

use hotframe_frames::{Budget, Config, Incarnation, ProcessKey, Store};

use crate::lru::Lru;
use crate::stream::{FrameDef, NameDef, Probe, Stream};

/// See the module's documentation.
pub trait Policy {
    /// The frame is there with all its names.
    fn look_up(&mut self, frame: &FrameDef) -> bool;
    /// The frame's innermost name is there: what is timed.
    fn probe(&mut self, probe: &Probe) -> bool;
    /// Takes in a frame that was not.
    fn insert(&mut self, frame: &FrameDef, stream: &Stream);
    /// A process ended.
    fn exit(&mut self, _process: u32) {}
    /// The frame's innermost name as the policy would export it, where it has one.
    fn has_name(&mut self, frame: &FrameDef) -> bool {
        self.look_up(frame)
    }
    /// Bytes of identity alone, of a policy that holds look-up caches apart from it.
    fn identity_bytes(&self) -> Option<u64> {
        None
    }
    /// Bytes that the policy itself accounts for, if it does.
    fn accounted_bytes(&self) -> Option<u64> {
        None
    }
}

/// Makes a policy for a byte budget, or without one.
pub type Make = fn(&Stream, Option<u64>) -> Option<Box<dyn Policy>>;

/// All of them, in the order of the table.
pub const ALL: [(&str, Make); 6] = [
    ("a: LRU per file id", |_, budget| budget.is_none().then(|| Box::new(PerFile::new()) as _)),
    ("moka", |stream, budget| Some(Box::new(Moka::new(stream, budget)))),
    ("b: one global LRU", |stream, budget| Some(Box::new(Global::eager(stream, budget)))),
    ("c: growing LRU", |stream, budget| Some(Box::new(Global::growing(stream, budget)))),
    ("quick_cache", |stream, budget| Some(Box::new(Quick::new(stream, budget)))),
    ("d: hotframe", |stream, budget| Some(Box::new(Hotframe::new(stream, budget)))),
];

thread_local! {
    static SCALE: std::cell::Cell<f64> = const { std::cell::Cell::new(1.0) };
}

/// Policies that count entries are run again with this factor, until they hold what they may.
pub fn set_scale(scale: f64) {
    SCALE.set(scale);
}

fn scale() -> f64 {
    SCALE.get()
}

type Key = [u64; 3];
type Value = [u64; 4];

fn hash_key(key: &Key) -> u32 {
    let hash = key.iter().fold(0u64, |hash, &word| {
        (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    });
    (hash >> 17) as u32
}

/// Strings held once while somebody refers to them, as Go's `unique.Handle` does.
#[derive(Default)]
struct Interned {
    ids: HashMap<Arc<[u8]>, u32>,
    texts: Vec<(Option<Arc<[u8]>>, u32)>,
    free: Vec<u32>,
}

impl Interned {
    fn take(&mut self, text: &[u8]) -> u64 {
        if let Some(&id) = self.ids.get(text) {
            self.texts[id as usize].1 += 1;
            return u64::from(id);
        }
        let shared: Arc<[u8]> = text.into();
        let id = self.free.pop().unwrap_or(self.texts.len() as u32);
        if id as usize == self.texts.len() {
            self.texts.push((None, 0));
        }
        self.texts[id as usize] = (Some(shared.clone()), 1);
        self.ids.insert(shared, id);
        u64::from(id)
    }

    fn release(&mut self, id: u64) {
        let slot = &mut self.texts[id as usize];
        slot.1 -= 1;
        if slot.1 == 0
            && let Some(text) = slot.0.take()
        {
            self.ids.remove(&text);
            self.free.push(id as u32);
        }
    }

    fn value(&mut self, name: &NameDef, stream: &Stream) -> Value {
        let texts = [self.take(stream.text(name.name)), self.take(stream.text(name.file))];
        [name.line.into(), 0, texts[0], texts[1]]
    }

    fn drop_value(&mut self, value: Value) {
        self.release(value[2]);
        self.release(value[3]);
    }
}

/// (a)
struct PerFile {
    files: Lru<[u64; 2], u64>,
    inner: Vec<Option<Lru<u64, Value>>>,
    free: Vec<u64>,
    texts: Interned,
}

impl PerFile {
    fn new() -> PerFile {
        PerFile {
            files: Lru::eager(65_536, |key| hash_key(&[key[0], key[1], 0])),
            inner: Vec::new(),
            free: Vec::new(),
            texts: Interned::default(),
        }
    }
}

impl Policy for PerFile {
    fn look_up(&mut self, frame: &FrameDef) -> bool {
        frame.peer_keys.iter().all(|key| {
            let Some(at) = self.files.get(&[key[0], key[1]]) else { return false };
            self.inner[at as usize].as_mut().is_some_and(|lru| lru.get(&key[2]).is_some())
        })
    }

    fn probe(&mut self, probe: &Probe) -> bool {
        let key = probe.peer_key;
        let Some(at) = self.files.get(&[key[0], key[1]]) else { return false };
        self.inner[at as usize].as_mut().is_some_and(|lru| lru.get(&key[2]).is_some())
    }

    fn insert(&mut self, frame: &FrameDef, stream: &Stream) {
        for (key, name) in frame.peer_keys.iter().zip(&frame.names) {
            let at = match self.files.get(&[key[0], key[1]]) {
                Some(at) => at,
                None => {
                    let at = self.free.pop().unwrap_or(self.inner.len() as u64);
                    if at as usize == self.inner.len() {
                        self.inner.push(None);
                    }
                    let lru = Lru::eager(1024, |key: &u64| *key as u32);
                    self.inner[at as usize] = Some(lru);
                    if let Some(gone) = self.files.add([key[0], key[1]], at) {
                        // Its strings stay interned here; they are few beside its array.
                        self.inner[gone as usize] = None;
                        self.free.push(gone);
                    }
                    at
                }
            };
            let value = self.texts.value(name, stream);
            if let Some(lru) = &mut self.inner[at as usize]
                && let Some(old) = lru.add(key[2], value)
            {
                self.texts.drop_value(old);
            }
        }
    }
}

/// (b) and (c)
struct Global {
    lru: Lru<Key, Value>,
    texts: Interned,
}

/// Bytes of strings that an entry brings, on average over the stream, with what an interned one
/// costs beside its own bytes.
fn text_bytes_per_entry(stream: &Stream) -> u64 {
    let keys: std::collections::HashSet<&Key> =
        stream.frames.iter().flat_map(|frame| &frame.raw_keys).collect();
    let texts = stream.text_bytes() as u64 + 90 * stream.n_functions() as u64;
    texts / keys.len().max(1) as u64
}

fn entries(stream: &Stream, entry_bytes: u64, budget: Option<u64>, default: u32) -> u32 {
    budget.map_or(default, |bytes| {
        let n = bytes as f64 / (entry_bytes + text_bytes_per_entry(stream)) as f64;
        (n * scale()).clamp(64.0, f64::from(1 << 24)) as u32
    })
}

impl Global {
    fn eager(stream: &Stream, budget: Option<u64>) -> Global {
        let each = Lru::<Key, Value>::entry_bytes() as u64;
        let n = entries(stream, each, budget, 131_072);
        Global { lru: Lru::eager(n, hash_key), texts: Interned::default() }
    }

    fn growing(stream: &Stream, budget: Option<u64>) -> Global {
        let each = Lru::<Key, Value>::entry_bytes() as u64;
        let n = entries(stream, each, budget, 1 << 24);
        Global { lru: Lru::growing(n, hash_key), texts: Interned::default() }
    }
}

impl Policy for Global {
    fn look_up(&mut self, frame: &FrameDef) -> bool {
        frame.raw_keys.iter().all(|key| self.lru.get(key).is_some())
    }

    fn probe(&mut self, probe: &Probe) -> bool {
        self.lru.get(&probe.raw_key).is_some()
    }

    fn insert(&mut self, frame: &FrameDef, stream: &Stream) {
        for (key, name) in frame.raw_keys.iter().zip(&frame.names) {
            let value = self.texts.value(name, stream);
            if let Some(gone) = self.lru.add(*key, value) {
                self.texts.drop_value(gone);
            }
        }
    }
}

/// A value as a user of a cache crate would write it.
type Named = (Arc<[u8]>, Arc<[u8]>, u32);

fn named(texts: &mut HashMap<u32, Arc<[u8]>>, name: &NameDef, stream: &Stream) -> Named {
    // Source files are few and shared; names are the entry's own.
    let file = texts.entry(name.file).or_insert_with(|| stream.text(name.file).into());
    (stream.text(name.name).into(), file.clone(), name.line)
}

struct Quick {
    cache: quick_cache::unsync::Cache<Key, Named>,
    files: HashMap<u32, Arc<[u8]>>,
}

impl Quick {
    fn new(stream: &Stream, budget: Option<u64>) -> Quick {
        let n = entries(stream, 96, budget, 1 << 21);
        Quick { cache: quick_cache::unsync::Cache::new(n as usize), files: HashMap::new() }
    }
}

impl Policy for Quick {
    fn look_up(&mut self, frame: &FrameDef) -> bool {
        frame.raw_keys.iter().all(|key| self.cache.get(key).is_some())
    }

    fn probe(&mut self, probe: &Probe) -> bool {
        self.cache.get(&probe.raw_key).is_some()
    }

    fn insert(&mut self, frame: &FrameDef, stream: &Stream) {
        for (key, name) in frame.raw_keys.iter().zip(&frame.names) {
            self.cache.insert(*key, named(&mut self.files, name, stream));
        }
    }
}

struct Moka {
    cache: moka::sync::Cache<Key, Named>,
    files: HashMap<u32, Arc<[u8]>>,
}

impl Moka {
    fn new(stream: &Stream, budget: Option<u64>) -> Moka {
        let n = entries(stream, 250, budget, 1 << 21);
        Moka { cache: moka::sync::Cache::new(n.into()), files: HashMap::new() }
    }
}

impl Policy for Moka {
    fn look_up(&mut self, frame: &FrameDef) -> bool {
        frame.raw_keys.iter().all(|key| self.cache.get(key).is_some())
    }

    fn probe(&mut self, probe: &Probe) -> bool {
        self.cache.get(&probe.raw_key).is_some()
    }

    fn insert(&mut self, frame: &FrameDef, stream: &Stream) {
        for (key, name) in frame.raw_keys.iter().zip(&frame.names) {
            self.cache.insert(*key, named(&mut self.files, name, stream));
        }
    }
}

/// (d)
struct Hotframe {
    store: Store,
    budget: Budget,
    /// Given at a process's first sight.
    incarnations: Vec<Option<Incarnation>>,
    /// Stands for processes not seen yet: code of files is known without them.
    none: Incarnation,
    exits: u32,
}

impl Hotframe {
    fn new(stream: &Stream, budget: Option<u64>) -> Hotframe {
        let budget = Budget::new(budget.unwrap_or(u64::MAX));
        let mut store = Store::new(&budget, Config::default());
        let none = store.incarnation(ProcessKey::default());
        let incarnations = vec![None; stream.processes.len()];
        Hotframe { store, budget, incarnations, none, exits: 0 }
    }

    fn incarnation(&self, process: u32) -> Incarnation {
        self.incarnations[process as usize].unwrap_or(self.none)
    }
}

impl Policy for Hotframe {
    fn look_up(&mut self, frame: &FrameDef) -> bool {
        let incarnation = self.incarnation(frame.process);
        self.store.known(incarnation, &frame.words).is_some()
    }

    fn probe(&mut self, probe: &Probe) -> bool {
        let incarnation = self.incarnation(probe.process);
        self.store.known(incarnation, probe.words()).is_some()
    }

    fn insert(&mut self, frame: &FrameDef, stream: &Stream) {
        let process = frame.process as usize;
        let (store, key) = (&mut self.store, stream.processes[process]);
        let incarnation = *self.incarnations[process].get_or_insert_with(|| store.incarnation(key));
        match &frame.names[..] {
            [name] => {
                self.store.learn(incarnation, &frame.words, &[stream.info(name)]);
            }
            names => {
                let infos: Vec<_> = names.iter().map(|name| stream.info(name)).collect();
                self.store.learn(incarnation, &frame.words, &infos);
            }
        }
    }

    fn exit(&mut self, process: u32) {
        let incarnation = self.incarnation(process);
        self.store.exited(incarnation);
        self.exits += 1;
        // A profile ends every few seconds; here, every 5,000 exits.
        if self.exits.is_multiple_of(5_000) {
            self.store.sweep();
        }
    }

    fn identity_bytes(&self) -> Option<u64> {
        let parts = self.store.report();
        Some(parts.iter().filter(|p| p.owner.starts_with("frames.")).map(|p| p.bytes).sum())
    }

    fn accounted_bytes(&self) -> Option<u64> {
        Some(self.budget.used_bytes())
    }
}
