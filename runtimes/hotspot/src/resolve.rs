//! Raw frames → names and lines.
//!
//! In: a frame as `bpf/step.h` sent it and the process's memory. Out: one frame, or one for each
//! method of a compiled frame's scopes, innermost first.
//!
//! # How it works
//! A method's names are symbols that its constant pool points at (`resolve/method.rs`); its lines a compressed table
//! behind its bytecode (`lines.rs`). Compiled code has debug information (`debug.rs`), which is emitted
//! at the end of the instructions that it describes. Code that is no method has the names that HotSpot gives it
//! (`resolve/stub.rs`).
//!
//! So all interrupted pcs of a run of instructions have the same names: the first of them is read, and
//! the others are known by it (`places.rs`), for as long as the code is of the same compilation.
//!
//! # Whether it is still what it was
//! A blob is believed if it is in use and has the compile id that was sent after it was read: the
//! sample is older than what was read, and no other compilation has the number. A `Method*` is believed
//! if it has the `ConstMethod*` that was sent and no class was unloaded since the sample (the epoch);
//! if one was, only if its class was seen at the same place before the sample, too, or lies in the
//! archive of classes that is mapped at start (CDS), whose memory is never anything else's. What is not
//! believed is named by what the step told of that very method in that very epoch, if it did. A walk
//! that was finished late, while classes are being unloaded, has the epoch of its sample; if that
//! stands no more, those are named whose class was seen before, and the archive's. One that has not
//! even the epoch (of the first samples) has names of the archive's alone, without lines. While classes
//! are being unloaded the kernel half wakes the reader for each sample, so that little time passes in
//! between.
//!
//! # Cost
//! What the frames of one asking begin with is read in two system calls for all of them, and the methods
//! that are inlined into one place in two more; a compiled frame whose methods are known takes two or three
//! by itself, the last of which is the check.
//!
//! # Sources
//! Those of `layout.rs`, `debug.rs` and `lines.rs`.

mod method;
mod stub;

use crate::abi;
use crate::debug::{Debug, Place};
use crate::layout::{CodeBegin, Offsets};
use crate::lines;
use crate::names;
use crate::places::{Code, Places};
use crate::process::Heap;
use hotframe_abi as shared;
use hotframe_runtime::{
    Frame, KNOWN_WORDS, Kept, Memory, Naming, Outcome, Process, RawFrame, Unusable, Why,
};
use method::{Head, Names, slot, symbol};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use stub::Stubs;
use zerocopy::FromBytes as _;

/// Classes that are known by address: 16 bytes each and as much for the table.
const SEEN_MAX: usize = 8192;

/// Names frames of one process.
pub(crate) struct Resolver {
    offsets: Arc<Offsets>,
    bias: u64,
    pub naming: Naming,
    /// Where the number of unloaded classes is; 0: nowhere.
    pub epoch_addr: u64,
    /// Classes were redefined.
    pub redefines: bool,
    /// Compiled code has debug information not only of safepoints.
    pub debugs_all: bool,
    /// The archive of classes; empty: none.
    pub archive: Range<u64>,
    /// By `Klass*`: which class it was, and in which epoch it was met.
    seen: HashMap<u64, Seen>,
    /// Classes that were forgotten to make room for others.
    n_forgotten: u64,
    stubs: Stubs,
    places: Places,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Of its name and of where its constants are.
    hash: u32,
    epoch: u32,
}

/// Functions of compiled code, as they are named.
struct Functions<'a> {
    process: &'a Process<'a>,
    epoch: u64,
    /// Those that were not known, to be kept once it is known that they were what they seemed.
    met: Vec<([u64; KNOWN_WORDS], Frame)>,
}

/// Where what is read first of a frame is.
enum First {
    /// A compilation's blob.
    Blob(u64),
    /// The pointer to a method's constant part.
    Constant(u64),
}

/// The epoch of what is never unloaded.
const LASTS: u64 = (1 << 48) - 1;

impl Resolver {
    pub(crate) fn new(offsets: Arc<Offsets>, bias: u64) -> Resolver {
        Resolver {
            offsets,
            bias,
            naming: Naming::default(),
            epoch_addr: 0,
            redefines: false,
            debugs_all: false,
            archive: 0..0,
            seen: HashMap::new(),
            n_forgotten: 0,
            stubs: Stubs::default(),
            places: Places::default(),
        }
    }

    /// Reads the methods of `java.lang.Object` as those of frames are read: a layout by which they are
    /// not there would name others wrong.
    ///
    /// # Errors
    /// [`Unusable::Unknown`] if something else is there; [`Unusable::NotYet`] before the VM has its
    /// classes.
    pub(crate) fn try_names(&self, memory: &Memory) -> Result<(), Unusable> {
        const METHODS_MAX: u32 = 64;
        const WANTED: &[u8] = b"java.lang.Object.hashCode";
        let o = &*self.offsets;
        // A recorded process may be without the VM's variable; no live one is.
        let Some(slot) = o.object_class.map(|at| at.wrapping_add(self.bias)) else { return Ok(()) };
        let Some(class) = memory.u64(slot) else { return Ok(()) };
        if class == 0 {
            return Err(Unusable::NotYet("no java.lang.Object"));
        }
        let found = || -> Option<bool> {
            let pointer = memory.u64(class.wrapping_add(o.klass_name.into()))?;
            if symbol(o, memory, pointer)? != b"java/lang/Object" {
                return Some(false);
            }
            let Some(list) = o.class_methods else { return Some(true) };
            let methods = memory.u64(class.wrapping_add(list.methods.into()))?;
            let n = memory.u32(methods.wrapping_add(list.len.into()))?;
            let data = methods.wrapping_add(list.data.into());
            for n in 0..n.min(METHODS_MAX) {
                let address = memory.u64(data.wrapping_add(u64::from(n) * 8))?;
                let names = self.names(memory, &self.head(memory, address)?)?;
                if names.holder != class {
                    return Some(false);
                }
                if names.name.starts_with(WANTED) {
                    return Some(true);
                }
            }
            Some(false)
        };
        if found() == Some(true) {
            return Ok(());
        }
        // One that ended, or became another program, is not to blame.
        let mut still = [0; 8];
        if !memory.read_fresh(slot, &mut still) || u64::from_le_bytes(still) != class {
            return Err(Unusable::Read { address: slot, len_bytes: still.len() });
        }
        let why = "java.lang.Object.hashCode is not where this libjvm's layout says";
        Err(Unusable::Unknown(why.into()))
    }

    pub(crate) fn resolve(
        &mut self,
        raw: &RawFrame<'_>,
        process: &Process<'_>,
        heaps: &[Heap],
        frames: &mut Vec<Frame>,
    ) -> Outcome {
        let first = frames.len();
        let named = match (raw.own() >> abi::HF_HOTSPOT_KIND_SHIFT) as u32 {
            abi::HF_HOTSPOT_INTERPRETED | abi::HF_HOTSPOT_INTERPRETED_LATE => self
                .interpreted(raw, process, frames)
                .or_else(|why| self.of_told(raw, frames).ok_or(why)),
            abi::HF_HOTSPOT_COMPILED => self.compiled(raw, process, heaps, frames),
            abi::HF_HOTSPOT_STUB => self.stub(raw, process, frames),
            _ => Err(Why::Unsupported),
        };
        match named {
            Ok(()) => Outcome::Named,
            Err(why) => {
                frames.truncate(first);
                Outcome::Unnamed(why)
            }
        }
    }

    /// A frame that has the names of this one: an interrupted pc of compiled code with the same record
    /// of debug information.
    pub(crate) fn alike(&self, raw: &RawFrame<'_>) -> Option<[u64; 2]> {
        let (code, delta) = compiled_place(raw)?;
        let head = self.places.find(code, delta)?;
        Some([head, raw.word(0)])
    }

    /// The number of unloaded classes now, past the cache; 0 where it cannot be known. Pages of what
    /// is asked next are read with it.
    fn unloaded(&self, memory: &Memory, besides: &[u64]) -> Option<u64> {
        if self.epoch_addr == 0 {
            return Some(0);
        }
        let mut bytes = [0; 8];
        let done = memory.read_with_pages(&mut [(self.epoch_addr, &mut bytes[..])], besides);
        done.first().is_some_and(|done| *done).then(|| u64::from_le_bytes(bytes))
    }

    /// As much of that as a frame has.
    pub(crate) fn epoch(&self, memory: &Memory) -> Option<u32> {
        self.unloaded(memory, &[]).map(|n| n as u32 & abi::HF_HOTSPOT_COOKIE_MASK)
    }

    fn interpreted(
        &mut self,
        raw: &RawFrame<'_>,
        process: &Process<'_>,
        frames: &mut Vec<Frame>,
    ) -> Result<(), Why> {
        let memory = process.memory;
        let own = raw.own();
        let bci = (own >> abi::HF_HOTSPOT_BCI_SHIFT) as u32 & abi::HF_HOTSPOT_BCI_NONE;
        let sent_constant = own as u32 & abi::HF_HOTSPOT_COOKIE_MASK;
        let address = pointer(raw);
        let epoch = (raw.word(0) >> abi::HF_HOTSPOT_COOKIE_SHIFT) as u32;
        let of_method = [address.wrapping_add(self.offsets.method_const.into())];
        let unloaded = self.unloaded(memory, &of_method).ok_or(Why::ProcessGone)?;
        let is_same_epoch = unloaded as u32 & abi::HF_HOTSPOT_COOKIE_MASK == epoch;
        let has_gone = |why| if is_same_epoch { why } else { Why::Unloaded };
        let head = self.head(memory, address).ok_or(has_gone(Why::StalePointer))?;
        let is_lasting = self.archive.contains(&address);
        let identity = self.identity(memory, address, &head);
        let is_same = |cookie: u64| cookie as u32 & abi::HF_HOTSPOT_COOKIE_MASK == sent_constant;
        // Before it was known that classes were redefined, frames had the address.
        let is_same = is_same(head.constant >> 3) || identity.is_some_and(is_same);
        // A walk that was finished late, in a process that unloads classes, may have no cookies.
        let has_no_cookie = sent_constant == 0 && bci == abi::HF_HOTSPOT_BCI_NONE;
        let is_late = has_no_cookie
            || (own >> abi::HF_HOTSPOT_KIND_SHIFT) as u32 == abi::HF_HOTSPOT_INTERPRETED_LATE;
        let line = |bci| head.lines.line(memory, bci, self.offsets.excludes_zero);
        // In the epoch of the sample it is what it was when it was named.
        let key = self.key(address, &head, identity, unloaded);
        let key = key.filter(|_| is_same_epoch && is_same && !is_late);
        if let Some(frame) = key.and_then(|key| process.known.find(&key)) {
            frames.push(Frame { line: line(bci), ..frame });
            let now = self.epoch(memory).ok_or(Why::ProcessGone)?;
            return if now == epoch || is_lasting { Ok(()) } else { Err(Why::Unloaded) };
        }
        let names = self.names(memory, &head).ok_or(has_gone(Why::StalePointer))?;
        // Of one without cookies is believed what is never anything else, or was there all the time.
        let hash = names.holder_hash;
        let known = self.seen.get(&names.holder).copied();
        let was_it = known.is_some_and(|known| {
            // Epochs are compared as they follow each other, modulo 2^20.
            let since = epoch.wrapping_sub(known.epoch) & abi::HF_HOTSPOT_COOKIE_MASK;
            known.hash == hash && since < abi::HF_HOTSPOT_COOKIE_MASK / 2
        });
        if !is_same && !has_no_cookie {
            return Err(has_gone(Why::StalePointer));
        }
        // The class that was there before the sample is there now: so are its methods. Without a
        // cookie the epoch is not known.
        let is_it = is_lasting || was_it && !has_no_cookie;
        if is_late && !is_it {
            if known.is_none_or(|known| known.hash != hash) {
                let now = self.epoch(memory).ok_or(Why::ProcessGone)?;
                self.remember(names.holder, Seen { hash, epoch: now });
            }
            return Err(Why::Unloaded);
        }
        let (line, start_line) = (line(bci), line(0));
        let now = self.epoch(memory).ok_or(Why::ProcessGone)?;
        if !is_it {
            self.remember(names.holder, Seen { hash, epoch: now });
            if now != epoch {
                return Err(Why::Unloaded);
            }
        }
        let Names { name, file, .. } = names;
        let frame = Frame { name, file, start_line, ..Frame::default() };
        if let Some(key) = key.filter(|_| now == epoch) {
            process.known.keep(&key, &frame);
        }
        frames.push(Frame { line, ..frame });
        Ok(())
    }

    /// A frame whose method is gone, by what the step told of it.
    fn of_told(&self, raw: &RawFrame<'_>, frames: &mut Vec<Frame>) -> Option<()> {
        let told = abi::hf_hotspot_name::read_from_bytes(raw.told?).ok()?;
        let bci = (raw.own() >> abi::HF_HOTSPOT_BCI_SHIFT) as u32 & abi::HF_HOTSPOT_BCI_NONE;
        let class = told.class_name.get(..told.class_bytes.into())?;
        let name = told.name.get(..told.name_bytes.into())?;
        let file = told.file.get(..told.file_bytes.into())?;
        let lines = told.lines.get(..told.lines_bytes.into())?;
        let line = |bci| lines::line(lines, bci, self.offsets.excludes_zero).unwrap_or(0);
        frames.push(Frame {
            // What is told has no room for a signature.
            name: names::method(class, name, None, self.naming),
            file: file.to_vec(),
            line: if bci < abi::HF_HOTSPOT_BCI_NONE { line(bci) } else { 0 },
            start_line: line(0),
            ..Frame::default()
        });
        Some(())
    }

    /// Classes that are known by address, and records of compiled code.
    pub(crate) fn kept(&self) -> Kept {
        let mut kept = Kept {
            entries: self.seen.len() as u64,
            bytes: table_bytes(&self.seen),
            evictions: self.n_forgotten,
        };
        kept += self.places.kept();
        kept
    }

    /// Gives that back.
    pub(crate) fn forget(&mut self) {
        self.forget_classes();
        self.places.forget();
    }

    fn forget_classes(&mut self) {
        self.n_forgotten += self.seen.len() as u64;
        self.seen = HashMap::new();
    }

    fn remember(&mut self, holder: u64, seen: Seen) {
        if self.seen.len() >= SEEN_MAX && !self.seen.contains_key(&holder) {
            self.forget_classes();
        }
        self.seen.insert(holder, seen);
    }

    fn compiled(
        &mut self,
        raw: &RawFrame<'_>,
        process: &Process<'_>,
        heaps: &[Heap],
        frames: &mut Vec<Frame>,
    ) -> Result<(), Why> {
        let memory = process.memory;
        let o = self.offsets.clone();
        let own = raw.own();
        let (blob, pc) = blob_and_pc(raw);
        let id = (raw.word(0) >> abi::HF_HOTSPOT_COOKIE_SHIFT) as u32 | (own as u32 & 0xfff) << 20;
        let is_return = raw.head.flags() & shared::HF_FRAME_RETURN_ADDR != 0;
        if !heaps.iter().any(|heap| heap.has(blob)) {
            return Err(Why::StalePointer);
        }
        // A blob that has its number in the end was no other since the sample, and what it points at was read
        // in between; so is the epoch, which is then of the time before all that is read.
        let epoch = match self.epoch_addr {
            0 => 0,
            at => memory.u64(at).ok_or(Why::ProcessGone)?,
        };
        let mut functions = Functions { process, epoch, met: Vec::new() };
        let first = frames.len();
        let deltas = self.scopes(&mut functions, blob, pc, is_return, frames);
        if frames.len() == first {
            // Without debug information at this place: the method alone.
            let address = memory.u64(blob + u64::from(o.nmethod_method));
            let function =
                address.and_then(|it| self.function(&mut functions, it, abi::HF_HOTSPOT_BCI_NONE));
            frames.extend(function);
        }
        let now = self.still(memory, blob, id)?;
        if frames.len() == first {
            return Err(Why::StalePointer);
        }
        if now == epoch {
            functions.met.iter().for_each(|(key, frame)| process.known.keep(key, frame));
        }
        // A relative names it when the process is gone: what that has is not this one's.
        if let Some(((code, _), deltas)) = compiled_place(raw).zip(deltas) {
            self.places.add(code, deltas, raw.head.0);
        }
        Ok(())
    }

    /// The number of unloaded classes, past the cache, if a blob is still the compilation of this number.
    fn still(&self, memory: &Memory, blob: u64, id: u32) -> Result<u64, Why> {
        let o = &*self.offsets;
        let (mut found, mut used, mut epoch) = ([0; 4], [0], [0; 8]);
        let mut places = [
            (blob + u64::from(o.nmethod_compile_id), &mut found[..]),
            (blob.wrapping_sub(o.block_bytes.into()) + u64::from(o.block_used), &mut used[..]),
            (self.epoch_addr, &mut epoch[..]),
        ];
        let n = if self.epoch_addr == 0 { 2 } else { 3 };
        let done = memory.read_batch(places.get_mut(..n).unwrap_or_default());
        if done.iter().all(|done| *done) && u32::from_le_bytes(found) == id && used != [0] {
            return Ok(u64::from_le_bytes(epoch));
        }
        let is_gone = self.epoch_addr != 0 && !done.contains(&true);
        Err(if is_gone { Why::ProcessGone } else { Why::StalePointer })
    }

    /// Reads together what naming these frames begins with: code and methods, then what they point at.
    pub(crate) fn read_ahead(&self, frames: &[RawFrame<'_>], heaps: &[Heap], memory: &Memory) {
        let o = &*self.offsets;
        let mut wanted = vec![self.epoch_addr];
        let mut first = |raw: &RawFrame<'_>| {
            let at = (raw.word(0) & ((1 << abi::HF_HOTSPOT_COOKIE_SHIFT) - 1)) << 3;
            match (raw.own() >> abi::HF_HOTSPOT_KIND_SHIFT) as u32 {
                abi::HF_HOTSPOT_COMPILED if heaps.iter().any(|heap| heap.has(at)) => {
                    let fields = [0, o.nmethod_method, o.nmethod_compile_id];
                    wanted.extend(fields.map(|field| at + u64::from(field)));
                    // The code of an interrupted pc is followed.
                    wanted.extend(compiled_place(raw).map(|(_, delta)| at + u64::from(delta)));
                    Some(First::Blob(at))
                }
                abi::HF_HOTSPOT_INTERPRETED | abi::HF_HOTSPOT_INTERPRETED_LATE => {
                    let constant = at.wrapping_add(o.method_const.into());
                    wanted.push(constant);
                    Some(First::Constant(constant))
                }
                _ => None,
            }
        };
        let firsts: Vec<First> = frames.iter().filter_map(&mut first).collect();
        memory.prefetch(&wanted);
        wanted.clear();
        for first in firsts {
            match first {
                First::Constant(at) => wanted.extend(memory.u64(at)),
                First::Blob(at) => {
                    if let Some(debug) = Debug::find(o, memory, at) {
                        debug.pages(&mut wanted);
                    }
                }
            }
        }
        memory.prefetch(&wanted);
    }

    /// The function that a method is, at a bytecode index: its names from the store where they are known.
    fn function(&self, to: &mut Functions<'_>, address: u64, bci: u32) -> Option<Frame> {
        let o = &*self.offsets;
        let memory = to.process.memory;
        let head = self.head(memory, address)?;
        let line = head.lines.line(memory, bci, o.excludes_zero);
        let identity = self.identity(memory, address, &head);
        let key = self.key(address, &head, identity, to.epoch);
        if let Some(frame) = key.and_then(|key| to.process.known.find(&key)) {
            return Some(Frame { line, ..frame });
        }
        let names = self.names(memory, &head)?;
        let start_line = head.lines.line(memory, 0, o.excludes_zero);
        let frame = Frame { name: names.name, file: names.file, start_line, ..Frame::default() };
        if let Some(key) = key {
            to.met.push((key, frame.clone()));
        }
        Some(Frame { line, ..frame })
    }

    /// Under what a method is known again, if it is: it lies where it was made until its class is
    /// unloaded, or redefined, and has other constants then, or, where there may be others of the same
    /// shape, another identity. Those of the archive stay, and where it is not known what is unloaded
    /// they alone are known again.
    fn key(
        &self,
        address: u64,
        head: &Head,
        identity: Option<u64>,
        unloaded: u64,
    ) -> Option<[u64; KNOWN_WORDS]> {
        let lasts = self.archive.contains(&address);
        let epoch = if lasts { LASTS } else { unloaded };
        let whose = if self.redefines && !lasts { identity? } else { head.pool };
        let key = [address, head.constant, whose, epoch << 16 | u64::from(head.name)];
        (lasts || self.epoch_addr != 0).then_some(key)
    }

    /// Where classes were redefined, a hash of what names a method: the symbols of its class and of itself.
    /// `None`: they were not, or it lasts, or cannot be read. Twin: `hf_hotspot_identity` in
    /// `../bpf/tell.h`.
    fn identity(&self, memory: &Memory, address: u64, head: &Head) -> Option<u64> {
        if !self.redefines || self.archive.contains(&address) {
            return None;
        }
        let o = &*self.offsets;
        let holder = memory.u64(head.pool.wrapping_add(o.pool_holder.into()))?;
        let class = memory.u64(holder.wrapping_add(o.klass_name.into()))?;
        let own = memory.u64(slot(o, head.pool, head.name.into()))? & !3;
        Some(shared::mix(shared::mix(shared::HASH_SEED, class), own))
    }

    /// Appends the scopes of a pc; nothing if it has none. Returned are the distances from the blob of the
    /// pcs that have the same, if nothing is called there; `None` where that is not known.
    fn scopes(
        &self,
        to: &mut Functions<'_>,
        blob: u64,
        pc: u64,
        is_return: bool,
        frames: &mut Vec<Frame>,
    ) -> Option<Range<u32>> {
        let memory = to.process.memory;
        let o = self.offsets.clone();
        let field = |at: u16| memory.u32(blob + u64::from(at)).map(u64::from);
        let begin = match o.code_begin {
            CodeBegin::Address(at) => memory.u64(blob + u64::from(at))?,
            CodeBegin::Offset(at) => blob + field(at)?,
        };
        let debug = Debug::find(&o, memory, blob)?;
        let offset = u32::try_from(pc.checked_sub(begin)?).ok()?;
        let mut complete = field(o.blob_frame_complete)? as i32;
        if o.frame_complete_is_short {
            complete = i32::from(complete as i16);
        }
        if !is_return && (offset as i32) < complete {
            return None;
        }
        let place = match is_return {
            true => Place::of(debug.called(&o, memory, self.debugs_all, offset)?, offset),
            false => debug.interrupted(&o, memory, begin, offset)?,
        };
        let delta = |offset: u32| u32::try_from(begin - blob).ok()?.checked_add(offset);
        let complete = u32::try_from(complete).unwrap_or(0);
        let deltas = delta(place.offsets.start.max(complete))?..delta(place.offsets.end)?;
        let Some(scope) = place.scope else { return Some(deltas) };
        let methods = debug.methods(&o, memory, scope, place.is_outermost)?;
        // All methods together, then what all of them point at.
        let at = |&(address, _): &(u64, u32)| address.wrapping_add(o.method_const.into());
        memory.prefetch(&methods.iter().map(at).collect::<Vec<_>>());
        let constant = |method| memory.u64(at(method));
        memory.prefetch(&methods.iter().filter_map(constant).collect::<Vec<_>>());
        let first = frames.len();
        let n_inlined = methods.len().saturating_sub(1);
        for (n, &(address, bci)) in methods.iter().enumerate() {
            let Some(function) = self.function(to, address, bci) else {
                frames.truncate(first);
                return None;
            };
            frames.push(Frame { inlined: n < n_inlined, ..function });
        }
        Some(deltas)
    }
}

/// The `Method*`, or the blob, that a frame's first word begins with: a multiple of 8.
fn pointer(raw: &RawFrame<'_>) -> u64 {
    (raw.word(0) & ((1 << abi::HF_HOTSPOT_COOKIE_SHIFT) - 1)) << 3
}

/// How far behind its blob's begin a frame's pc is.
fn delta(raw: &RawFrame<'_>) -> u32 {
    (raw.own() >> abi::HF_HOTSPOT_DELTA_SHIFT) as u32 & abi::HF_HOTSPOT_DELTA_MASK
}

/// The blob of a frame in compiled code or a stub, and the pc in it.
fn blob_and_pc(raw: &RawFrame<'_>) -> (u64, u64) {
    let blob = pointer(raw);
    (blob, blob + u64::from(delta(raw)))
}

/// The compilation of an interrupted pc in compiled code, and the pc's distance from its blob; `None`: it
/// is something else.
fn compiled_place(raw: &RawFrame<'_>) -> Option<(Code, u32)> {
    let own = raw.own();
    let is_compiled = (own >> abi::HF_HOTSPOT_KIND_SHIFT) as u32 == abi::HF_HOTSPOT_COMPILED;
    // The answer of one that was guessed has a mark that others' have not.
    let is_other = shared::HF_FRAME_RETURN_ADDR | shared::HF_FRAME_HEURISTIC;
    let code = Code { place: raw.word(0), id: own as u32 & 0xfff };
    (is_compiled && raw.head.flags() & is_other == 0).then_some((code, delta(raw)))
}

/// Bytes of a table: it is at most seven eighths full, and has a byte for each entry beside it.
pub(crate) fn table_bytes<K, V>(table: &HashMap<K, V>) -> u64 {
    (table.capacity() * 8 / 7 * (size_of::<(K, V)>() + 1)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::ClassMethods;
    use crate::layout::tests::jdk17;
    use hotframe_core::testing::Random;

    /// A process with one method, whose class has this name: as crate::layout::tests::jdk17 says, the
    /// method, its constant part, pool, class, names.
    fn one_method(class: &[u8; 4], pool: u64) -> Vec<u8> {
        let mut bytes = vec![0; 0x400];
        let mut put = |at: u64, value: u64, n: usize| {
            bytes[at as usize..at as usize + n].copy_from_slice(&value.to_le_bytes()[..n]);
        };
        put(8, START + 0x40, 8);
        put(0x40 + 8, START + pool, 8);
        put(0x40 + 34, 1, 2);
        put(pool + 24, START + 0x100, 8);
        put(pool + 72 + 8, START + 0x200, 8);
        put(0x100 + 24, START + 0x210, 8);
        put(0x200 + 4, 3, 2);
        put(0x200 + 6, u64::from_le_bytes(*b"run\0\0\0\0\0"), 8);
        put(0x210 + 4, 4, 2);
        put(0x210 + 6, u64::from(u32::from_le_bytes(*class)), 8);
        bytes
    }

    const START: u64 = 0x10_0000;
    const METHOD: u64 = START;

    #[derive(Default)]
    struct Kept(std::cell::RefCell<HashMap<[u64; KNOWN_WORDS], Frame>>);

    impl hotframe_runtime::Known for Kept {
        fn find(&self, key: &[u64; KNOWN_WORDS]) -> Option<Frame> {
            self.0.borrow().get(key).cloned()
        }

        fn keep(&self, key: &[u64; KNOWN_WORDS], frame: &Frame) {
            self.0.borrow_mut().insert(*key, frame.clone());
        }
    }

    /// Classes that are known have a bound, what goes for it is counted, and their bytes are what they take.
    #[test]
    fn classes_are_bounded() {
        let mut resolver = Resolver::new(Arc::new(jdk17()), 0);
        assert_eq!(resolver.kept(), hotframe_runtime::Kept::default());
        let remember = |resolver: &mut Resolver, n| {
            resolver.remember(n, Seen { hash: 1, epoch: 1 });
            resolver.kept()
        };
        for n in 1..SEEN_MAX as u64 {
            remember(&mut resolver, n);
        }
        let kept = remember(&mut resolver, 0);
        assert_eq!((kept.entries, kept.evictions), (SEEN_MAX as u64, 0));
        assert!((128 << 10..=512 << 10).contains(&kept.bytes), "{}", kept.bytes);
        let kept = remember(&mut resolver, SEEN_MAX as u64);
        assert_eq!((kept.entries, kept.evictions), (1, SEEN_MAX as u64));
        assert!(kept.bytes < 1 << 10, "{}", kept.bytes);
        resolver.forget();
        assert_eq!((resolver.kept().entries, resolver.kept().bytes), (0, 0));
    }

    /// What is known of a method is not read again, until a class is unloaded or the method has other
    /// constants; without a count of unloaded classes nothing but the archive's is known again.
    #[test]
    fn a_known_function() {
        let kept = Kept::default();
        let open = |_: &hotframe_runtime::Mapping| None;
        let mut resolver = Resolver::new(Arc::new(crate::layout::tests::jdk17()), 0);
        let name = |resolver: &Resolver, class: &[u8; 4], pool: u64, epoch: u64| {
            let memory = Memory::recorded(vec![(START, one_method(class, pool))]);
            let process = Process {
                pid: 1,
                bias: 0,
                memory: &memory,
                naming: Naming::default(),
                known: &kept,
                mappings: &hotframe_runtime::Mappings::new(&Vec::new),
                open: &open,
            };
            let mut to = Functions { process: &process, epoch, met: Vec::new() };
            let frame = resolver.function(&mut to, METHOD, abi::HF_HOTSPOT_BCI_NONE);
            to.met.iter().for_each(|(key, frame)| hotframe_runtime::Known::keep(&kept, key, frame));
            frame.map(|frame| String::from_utf8_lossy(&frame.name).into_owned())
        };
        let is = |name: Option<String>, wanted: &str| assert_eq!(name.as_deref(), Some(wanted));
        is(name(&resolver, b"Made", 0x80, 0), "Made.run");
        is(name(&resolver, b"Else", 0x80, 0), "Else.run");
        resolver.epoch_addr = 1;
        is(name(&resolver, b"Made", 0x80, 0), "Made.run");
        is(name(&resolver, b"Else", 0x80, 0), "Made.run");
        is(name(&resolver, b"Else", 0xc0, 0), "Else.run");
        is(name(&resolver, b"Else", 0x80, 1), "Else.run");
        (resolver.epoch_addr, resolver.archive) = (0, METHOD..METHOD + 8);
        is(name(&resolver, b"Last", 0x80, 1), "Last.run");
        is(name(&resolver, b"Else", 0x80, 2), "Last.run");
    }

    /// A frame without cookies is named only if its method lies in the archive of classes; one whose
    /// cookie was read later, also if its class was seen before.
    #[test]
    fn without_cookies() {
        let memory = Memory::recorded(vec![(START, one_method(b"Made", 0x80))]);
        let open = |_: &hotframe_runtime::Mapping| None;
        let process = Process {
            pid: 1,
            bias: 0,
            memory: &memory,
            naming: Naming::default(),
            known: &hotframe_runtime::NothingKnown,
            mappings: &hotframe_runtime::Mappings::new(&Vec::new),
            open: &open,
        };
        let mut resolver = Resolver::new(Arc::new(crate::layout::tests::jdk17()), 0);
        let mut name = |kind: u32, constant: u64, archive: Range<u64>| {
            resolver.archive = archive;
            let own = u64::from(abi::HF_HOTSPOT_BCI_NONE) << abi::HF_HOTSPOT_BCI_SHIFT | constant;
            let kind = u64::from(kind);
            let head = shared::FrameWord(3 << 60 | 2 << 48 | 1 << 40 | kind << 36 | own);
            let mut frames = Vec::new();
            let raw = RawFrame { head, data: &[METHOD >> 3], told: None };
            let outcome = resolver.resolve(&raw, &process, &[], &mut frames);
            (outcome, frames.pop().map(|frame| frame.name))
        };
        let named = (Outcome::Named, Some(b"Made.run".to_vec()));
        let stale = (Outcome::Unnamed(Why::StalePointer), None);
        let unloaded = (Outcome::Unnamed(Why::Unloaded), None);
        let (at_once, late) = (abi::HF_HOTSPOT_INTERPRETED, abi::HF_HOTSPOT_INTERPRETED_LATE);
        let constant = (START + 0x40) >> 3;
        assert_eq!(name(late, constant, 0..0), unloaded, "it may have come after the sample");
        assert_eq!(name(at_once, constant, 0..0), named);
        assert_eq!(name(late, constant, 0..0), named, "it was there before");
        assert_eq!(name(at_once, 0, START..START + 0x100), named);
        assert_eq!(name(at_once, 0, 0..0), unloaded);
        assert_eq!(name(at_once, 2, START..START + 0x100), stale, "another one's cookie");
        assert_eq!(name(late, 2, START..START + 0x100), stale);
    }

    /// A layout by which `java.lang.Object.hashCode` is not found names nothing.
    #[test]
    fn names_are_tried() {
        const START: u64 = 0x10_0000;
        const SLOT: u64 = START + 0x300;
        let mut bytes = vec![0; 0x400];
        let mut put = |at: u64, value: &[u8]| {
            bytes[at as usize..at as usize + value.len()].copy_from_slice(value);
        };
        // A class with its name and its methods, the methods as in `without_cookies`.
        put(0x210 + 4, &16u16.to_le_bytes());
        put(0x210 + 6, b"java/lang/Object");
        put(0x240 + 24, &(START + 0x210).to_le_bytes());
        put(0x240 + 64, &(START + 0x2c0).to_le_bytes());
        put(0x2c0, &2u32.to_le_bytes());
        for (n, name) in [&b"wait"[..], b"hashCode"].into_iter().enumerate() {
            let (method, constant) = (START + 0x10 * n as u64, START + 0x40 + 0x60 * n as u64);
            put(0x2c0 + 8 + 8 * n as u64, &method.to_le_bytes());
            put(method - START + 8, &constant.to_le_bytes());
            put(constant - START + 8, &(START + 0x100).to_le_bytes());
            put(constant - START + 34, &(n as u16).to_le_bytes());
            let symbol = 0x1a0 + 0x20 * n as u64;
            put(0x100 + 72 + 8 * n as u64, &(START + symbol).to_le_bytes());
            put(symbol + 4, &(name.len() as u16).to_le_bytes());
            put(symbol + 6, name);
        }
        put(0x100 + 24, &(START + 0x240).to_le_bytes());
        put(0x300, &(START + 0x240).to_le_bytes());
        let class_methods = Some(ClassMethods { methods: 64, len: 0, data: 8 });
        let good = || Offsets { object_class: Some(SLOT), class_methods, ..jdk17() };
        let check = |offsets: Offsets, bytes: &[u8]| {
            let memory = Memory::recorded(vec![(START, bytes.to_vec())]);
            let tried = Resolver::new(Arc::new(offsets), 0).try_names(&memory);
            tried.err().map(|why| why.to_string()).unwrap_or_default()
        };
        assert_eq!(check(good(), &bytes), "");
        assert_eq!(check(Offsets { class_methods: None, ..good() }, &bytes), "");
        let wrong = "java.lang.Object.hashCode is not where this libjvm's layout says";
        assert_eq!(check(Offsets { klass_name: 32, ..good() }, &bytes), wrong);
        assert_eq!(check(Offsets { method_const: 16, ..good() }, &bytes), wrong);
        assert_eq!(check(Offsets { const_name: 36, ..good() }, &bytes), wrong);
        assert_eq!(check(Offsets { pool_holder: 16, ..good() }, &bytes), wrong);
        assert_eq!(check(Offsets { symbol_body: 8, ..good() }, &bytes), wrong);
        bytes[0x300..0x308].fill(0);
        assert_eq!(check(good(), &bytes), "not started: no java.lang.Object");
    }

    /// A method whose class is gone when it is read has the name and the line that the step told; a
    /// record that is cut off or lies about its lengths tells nothing.
    #[test]
    fn what_was_told_names_what_is_gone() {
        use zerocopy::{FromZeros as _, IntoBytes as _};
        let memory = Memory::recorded(Vec::new());
        let open = |_: &hotframe_runtime::Mapping| None;
        let process = Process {
            pid: 1,
            bias: 0,
            memory: &memory,
            naming: Naming::default(),
            known: &hotframe_runtime::NothingKnown,
            mappings: &hotframe_runtime::Mappings::new(&Vec::new),
            open: &open,
        };
        let mut resolver = Resolver::new(Arc::new(crate::layout::tests::jdk17()), 0);
        let mut record = abi::hf_hotspot_name::new_zeroed();
        record.class_bytes = 7;
        record.class_name[..7].copy_from_slice(b"Gen0001");
        record.name_bytes = 3;
        record.name[..3].copy_from_slice(b"run");
        record.file_bytes = 8;
        record.file[..8].copy_from_slice(b"Gen.java");
        // bci 0 line 5, bci 3 line 6
        record.lines_bytes = 3;
        record.lines[..3].copy_from_slice(&[5, 3 << 3 | 1, 0]);
        let mut ask = |told: Option<&[u8]>| {
            let kind = u64::from(abi::HF_HOTSPOT_INTERPRETED);
            let own = 4 << abi::HF_HOTSPOT_BCI_SHIFT | 77;
            let head = shared::FrameWord(3 << 60 | 2 << 48 | 1 << 40 | kind << 36 | own);
            let mut frames = Vec::new();
            resolver.resolve(&RawFrame { head, data: &[0x200], told }, &process, &[], &mut frames);
            frames.pop()
        };
        let frame = ask(Some(record.as_bytes())).expect("it was told");
        assert_eq!((&*frame.name, &*frame.file), (&b"Gen0001.run"[..], &b"Gen.java"[..]));
        assert_eq!((frame.line, frame.start_line), (6, 5));
        assert_eq!(ask(None), None);
        assert_eq!(ask(Some(&record.as_bytes()[1..])), None);
        record.class_bytes = u16::MAX;
        assert_eq!(ask(Some(record.as_bytes())), None);
    }

    /// Any memory and any frame give names or a reason: pointers that lead anywhere, in a circle, or
    /// beyond the end of memory.
    #[test]
    fn damaged_processes() {
        const START: u64 = 0x10_0000;
        const BYTES: u64 = 0x4000;
        let mut random = Random(6);
        let open = |_: &hotframe_runtime::Mapping| None;
        let mut named = 0;
        use crate::layout::tests::{jdk8, jdk25};
        for offsets in [jdk8(), jdk17(), jdk25()] {
            let offsets = Arc::new(offsets);
            for _ in 0..300 {
                let mut bytes = Vec::new();
                while (bytes.len() as u64) < BYTES {
                    let word = match random.next() % 8 {
                        0 => random.next(),
                        1 => u64::MAX - random.next() % 64,
                        2 => 0,
                        3 => random.next() % 256,
                        4 => 0x0101_0101_0101_0101 * (random.next() % 256),
                        _ => START + random.next() % (BYTES + 64) / 8 * 8,
                    };
                    bytes.extend(word.to_le_bytes());
                }
                let memory = Memory::recorded(vec![(START, bytes)]);
                let process = Process {
                    pid: 1,
                    bias: START - 0x1000,
                    memory: &memory,
                    naming: Naming::default(),
                    known: &hotframe_runtime::NothingKnown,
                    mappings: &hotframe_runtime::Mappings::new(&Vec::new),
                    open: &open,
                };
                let heap = Heap {
                    low: START,
                    committed_end: START + BYTES,
                    end: START + BYTES,
                    segmap: START,
                    shift: 7,
                };
                let mut resolver = Resolver::new(offsets.clone(), process.bias);
                for _ in 0..50 {
                    let blob = START + random.next() % BYTES / 8 * 8;
                    let read = |at: u16| memory.u32(blob + u64::from(at)).unwrap_or(0);
                    let (kind, own, cookie) = match random.next() % 3 {
                        0 => {
                            let constant = memory.u64(blob + u64::from(offsets.method_const));
                            let constant = constant.unwrap_or(0) >> 3 & 0xfffff;
                            (
                                abi::HF_HOTSPOT_INTERPRETED,
                                ((random.next() % 999) << 20) | constant,
                                0,
                            )
                        }
                        1 => {
                            let id = u64::from(read(offsets.nmethod_compile_id));
                            let delta = random.next() % 4096;
                            (abi::HF_HOTSPOT_COMPILED, delta << 12 | id >> 20, id & 0xfffff)
                        }
                        _ => {
                            let name = u64::from(read(offsets.blob_name)) & 0xfffff;
                            (abi::HF_HOTSPOT_STUB, (random.next() % 4096) << 12, name)
                        }
                    };
                    let flags = random.next() % 2;
                    let head = shared::FrameWord(
                        3 << 60 | flags << 56 | 2 << 48 | 1 << 40 | u64::from(kind) << 36 | own,
                    );
                    let data = [cookie << 44 | blob >> 3];
                    let raw = RawFrame { head, data: &data, told: None };
                    let mut frames = Vec::new();
                    let outcome = resolver.resolve(&raw, &process, &[heap], &mut frames);
                    assert_eq!(outcome == Outcome::Named, !frames.is_empty());
                    named += usize::from(outcome == Outcome::Named);
                }
            }
        }
        assert!(named > 10, "{named}: the damage never leads far");
    }
}
