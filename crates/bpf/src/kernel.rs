//! Loads the kernel half and holds it.
//!
//! In: [`Config`]. Out: the maps, the ring and the memory, ready; nothing ticks before
//! [`Kernel::start`]. Dropping it detaches and frees everything: programs, maps and events live as
//! long as their descriptors, which die with the process too.
//!
//! The walk that is loaded first knows native code alone: it is there in some ten milliseconds. When
//! a process with a language runtime appears, [`Kernel::enable_runtimes`] loads the walk anew, over
//! the same maps, with the steps of those runtimes, and puts it into the first one's place.
//!
//! Two choices are made by what the kernel can do (`kernel/include/hf/compat.h`): an arena or an
//! array for memory, `bpf_loop` or tail calls for the walk. [`Fallbacks`] forces the older of
//! each, for tests.

use crate::events::{self, Clock, CpuTicks, SidebandRing};
use crate::{Error, map::Mapped, memory::Memory, ring::Ring};
use hotframe_abi as abi;
use libbpf_rs::{MapCore as _, MapFlags, Object, ObjectBuilder, OpenObject, ProgramType};
use std::cell::OnceCell;
use std::collections::HashMap;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Mutex;
use zerocopy::{FromBytes as _, IntoBytes as _};

/// ELF objects must lie at an 8-byte boundary.
macro_rules! aligned {
    ($name:literal) => {{
        #[repr(C, align(8))]
        struct Aligned<T: ?Sized>(T);
        static BYTES: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), $name)));
        &BYTES.0
    }};
}
pub(crate) use aligned;

static ARENA_OBJECT: &[u8] = aligned!("/hotframe-arena.bpf.o");
static ARRAY_OBJECT: &[u8] = aligned!("/hotframe-array.bpf.o");

/// What to load.
#[derive(Debug, Clone)]
pub struct Config {
    /// Ticks a second and CPU.
    pub hz: u32,
    /// Bytes of memory for tables; whole MiB.
    pub memory_bytes: u32,
    /// Bytes of the ring; a power of two.
    pub ring_bytes: u32,
    /// Pages of each CPU's side-band ring; a power of two.
    pub sideband_pages: usize,
    /// The read-only settings of the kernel half; how many frames a walk may have follows from the kernel.
    pub settings: abi::hf_config,
    /// Fallbacks to force.
    pub force: Fallbacks,
}

/// Older ways that can be forced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fallbacks {
    /// Tail calls instead of `bpf_loop`.
    pub tail_calls: bool,
    /// An array instead of an arena.
    pub no_arena: bool,
}

/// What the verifier said of a program.
#[derive(Debug, Clone)]
pub struct ProgramFacts {
    /// Its name.
    pub name: String,
    /// Instructions as loaded.
    pub instructions: usize,
    /// Instructions that the verifier followed.
    pub verified: u32,
}

/// The loaded kernel half.
pub struct Kernel {
    _links: Vec<libbpf_rs::Link>,
    object: Object,
    clocks: Vec<Clock>,
    sidebands: Vec<SidebandRing>,
    /// Counts of CPUs that went away are kept here.
    gone_ns: u64,
    /// When the clocks were started and stopped.
    started_ns: u64,
    stopped_ns: u64,
    /// Idle time of each CPU when its clock started.
    idle_from_ns: HashMap<u32, u64>,
    /// Idle time of each CPU while its clock ran, once the clocks have stopped.
    idle_ns: HashMap<u32, u64>,
    period_ns: u64,
    /// What it was loaded with, runtimes included.
    config: Config,
    /// The walk with runtimes, once one was seen.
    with_runtimes: Option<Object>,
    /// Runtimes whose step this kernel refused.
    refused: u32,
    /// Bytes of the maps whose size does not change, once asked.
    other_map_bytes: OnceCell<u64>,
    online_cpus: events::OnlineCpus,
    /// The way that was chosen.
    pub fallbacks: Fallbacks,
}

/// Bytes in a side-band ring that wake its reader: about what one exec writes, so that a new
/// image is known before its first tick.
const WATERMARK_BYTES: u32 = 1024;
/// Slot of the walk in the program array (`enum hf_prog` in maps.h).
const PROG_WALK: u32 = 0;

static LOG: Mutex<String> = Mutex::new(String::new());

fn keep_log(_level: libbpf_rs::PrintLevel, line: String) {
    tracing::debug!(target: "libbpf", "{}", line.trim_end());
    if let Ok(mut log) = LOG.lock() {
        if log.len() > 1 << 16 {
            log.clear();
        }
        log.push_str(&line);
    }
}

/// The line of libbpf's log that says why.
fn telling_line() -> String {
    let log = LOG.lock().map(|mut log| std::mem::take(&mut *log)).unwrap_or_default();
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines
        .iter()
        .rev()
        .find(|line| {
            !line.starts_with("processed ")
                && !line.starts_with("-- ")
                && !line.starts_with("libbpf: failed to load")
                && !line.starts_with("verification time")
                && !line.starts_with("stack depth")
        })
        .map(|line| line.chars().take(200).collect())
        .unwrap_or_default()
}

pub(crate) fn bpf(what: &'static str) -> impl FnOnce(libbpf_rs::Error) -> Error {
    move |cause| Error::Bpf { what, cause, log: telling_line() }
}

/// The kernel's types.
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// What libbpf and the verifier hold while programs are loaded, mapped pages of the kernel's types among
/// it: 4 MiB measured, with those of two runtimes.
const LOADING_BYTES: u64 = 8 << 20;

/// Bytes that loading programs takes at most, for a quarter of a second. Where the kernel's types cannot be
/// mapped, as before Linux 6.16, libbpf reads them into memory twice (`btf_new` of what
/// `btf_parse_raw` read, libbpf 1.7 btf.c): 11 MiB more were measured with 5.3 MiB of them.
pub fn loading_bytes() -> u64 {
    let btf = std::fs::File::open(BTF).and_then(|file| Ok((file.metadata()?.len(), file)));
    let Ok((len, file)) = btf else { return LOADING_BYTES };
    let is_mappable = Mapped::private(file.as_raw_fd(), len as usize).is_ok();
    LOADING_BYTES + if is_mappable { 0 } else { 2 * len }
}

impl Kernel {
    /// Loads and attaches everything but the clocks; side-band rings are open and running.
    pub fn load(config: &Config) -> Result<(Kernel, Memory, Ring), Error> {
        if !std::path::Path::new(BTF).exists() {
            return Err(Error::NoBtf);
        }
        libbpf_rs::set_print(Some((libbpf_rs::PrintLevel::Info, keep_log)));
        let force = config.force;
        let fallbacks = Fallbacks {
            no_arena: force.no_arena
                || !matches!(libbpf_rs::MapType::Arena.is_supported(), Ok(true)),
            tail_calls: force.tail_calls
                || !matches!(
                    ProgramType::PerfEvent.is_helper_supported(libbpf_sys::BPF_FUNC_loop),
                    Ok(true)
                ),
        };
        let mut config = config.clone();
        config.settings.max_frames = match fallbacks.tail_calls {
            true => abi::HF_MAX_FRAMES_BY_TAIL_CALLS,
            false => abi::HF_MAX_FRAMES,
        };
        let mut open = open(fallbacks)?;
        Self::configure(&mut open, &config, fallbacks)?;
        let object = open.load().map_err(bpf("loading the kernel half"))?;
        put_walk(&object, &object, fallbacks)?;
        let memory = Self::map_memory(&object, &config, fallbacks)?;
        let ring = Ring::new(map(&object, "hf_ring")?.as_fd(), config.ring_bytes)?;
        let mut links = Vec::new();
        for program in object.progs_mut() {
            if program.prog_type() == ProgramType::Tracing {
                links.push(program.attach_trace().map_err(bpf("attaching a scheduler hook"))?);
            }
        }
        let mut kernel = Kernel {
            _links: links,
            object,
            clocks: Vec::new(),
            sidebands: Vec::new(),
            gone_ns: 0,
            started_ns: 0,
            stopped_ns: 0,
            idle_from_ns: HashMap::new(),
            idle_ns: HashMap::new(),
            period_ns: 1_000_000_000 / u64::from(config.hz),
            config,
            with_runtimes: None,
            refused: 0,
            other_map_bytes: OnceCell::new(),
            online_cpus: events::OnlineCpus::open()?,
            fallbacks,
        };
        kernel.follow_cpus(false)?;
        Ok((kernel, memory, ring))
    }

    /// Loads the walk with the steps of the runtimes in `mask` (bits `1 << HF_RUNTIME_*`), beside
    /// those that it has, and puts it into the walk's place. A step that the verifier refuses
    /// costs its runtime: the error says which, and the others are there.
    ///
    /// # Errors
    /// [`Error::Bpf`] with the verifier's word on the first step refused.
    pub fn enable_runtimes(&mut self, mask: u32) -> Result<(), Error> {
        let mask = (mask & !self.refused) | self.config.settings.runtimes;
        if mask == self.config.settings.runtimes {
            return Ok(());
        }
        let Err(whole) = self.load_walk(mask) else { return Ok(()) };
        // One by one: whatever is refused is left out.
        for bit in (0..u32::BITS).map(|at| 1 << at).filter(|bit| mask & bit != 0) {
            let before = self.config.settings.runtimes;
            if before & bit == 0 && self.load_walk(before | bit).is_err() {
                self.refused |= bit;
            }
        }
        Err(whole)
    }

    /// Runtimes whose steps are part of the walk: bits `1 << HF_RUNTIME_*`.
    pub fn runtimes(&self) -> u32 {
        self.config.settings.runtimes
    }

    /// Runtimes whose steps were refused.
    pub fn refused_runtimes(&self) -> u32 {
        self.refused
    }

    fn load_walk(&mut self, runtimes: u32) -> Result<(), Error> {
        let mut config = self.config.clone();
        config.settings.runtimes = runtimes;
        let mut open = open(self.fallbacks)?;
        Self::configure(&mut open, &config, self.fallbacks)?;
        let walk = walk_name(self.fallbacks);
        for mut program in open.progs_mut() {
            let is_walk = program.name() == walk;
            program.set_autoload(is_walk);
        }
        for mut new in open.maps_mut() {
            let name = new.name().to_string_lossy().into_owned();
            if name.ends_with(".config") {
                continue;
            }
            let old = self.object.maps().find(|old| old.name().to_string_lossy() == name);
            let old = old.ok_or(Error::Missing("a map of the walk"))?;
            new.reuse_fd(old.as_fd()).map_err(bpf("sharing a map"))?;
        }
        let object = open.load().map_err(bpf("loading the walk with runtimes"))?;
        put_walk(&self.object, &object, self.fallbacks)?;
        self.with_runtimes = Some(object);
        self.config = config;
        Ok(())
    }

    fn configure(
        open: &mut OpenObject,
        config: &Config,
        fallbacks: Fallbacks,
    ) -> Result<(), Error> {
        for mut program in open.progs_mut() {
            let name = program.name().to_string_lossy().into_owned();
            program.set_autoload(!name.starts_with("hf_walk_") || name == walk_name(fallbacks));
        }
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            let entries = match name.as_str() {
                "hf_ring" => config.ring_bytes,
                "hf_memory" if fallbacks.no_arena => config.memory_bytes >> abi::HF_MEM_CHUNK_SHIFT,
                "hf_memory" => config.memory_bytes / 4096,
                name if name.ends_with(".config") => {
                    let mut settings = config.settings;
                    settings.mem_bytes = config.memory_bytes;
                    map.set_initial_value(settings.as_bytes()).map_err(bpf("configuring"))?;
                    continue;
                }
                _ => continue,
            };
            map.set_max_entries(entries).map_err(bpf("sizing a map"))?;
            if name == "hf_memory" && !fallbacks.no_arena {
                map.set_map_extra(abi::HF_ARENA_ADDR).map_err(bpf("placing the arena"))?;
            }
        }
        Ok(())
    }

    fn map_memory(object: &Object, config: &Config, fallbacks: Fallbacks) -> Result<Memory, Error> {
        let bytes = config.memory_bytes as usize;
        if fallbacks.no_arena {
            let fd = map(object, "hf_memory")?.as_fd().as_raw_fd();
            let mapped = crate::map::Mapped::new(fd, bytes, 0, true)?;
            return Ok(Memory::new(mapped.ptr(), bytes as u64, Some(mapped), "array"));
        }
        // libbpf mapped it at map_extra when it made the map (bpf_object__create_maps).
        Ok(Memory::new(abi::HF_ARENA_ADDR as *mut u8, bytes as u64, None, "arena"))
    }

    /// Opens what CPUs that came online need and lets go of those that went. With `ticking`, new
    /// clocks start at once.
    pub fn follow_cpus(&mut self, ticking: bool) -> Result<(), Error> {
        let online = self.online_cpus.read()?;
        let program = self
            .object
            .progs()
            .find(|program| program.name() == "hf_sample")
            .ok_or(Error::Missing("sampling program"))?
            .as_fd()
            .as_raw_fd();
        let (stay, gone): (Vec<Clock>, Vec<Clock>) = std::mem::take(&mut self.clocks)
            .into_iter()
            .partition(|clock| online.contains(&clock.cpu));
        self.gone_ns += gone.iter().map(Clock::count_ns).sum::<u64>();
        self.clocks = stay;
        for &cpu in &online {
            if self.clocks.iter().any(|clock| clock.cpu == cpu) {
                continue;
            }
            self.sidebands.push(SidebandRing::open(
                cpu,
                self.config.sideband_pages,
                WATERMARK_BYTES,
            )?);
            let clock = Clock::open(cpu, self.period_ns, program)?;
            if ticking {
                // What it idled before it went counts no more: its clock is a new one.
                if let Some(&idle_ns) = events::idle_ns()?.get(&cpu) {
                    self.idle_from_ns.insert(cpu, idle_ns);
                }
                clock.enable()?;
            }
            self.clocks.push(clock);
        }
        Ok(())
    }

    /// Starts the clocks. `now_ns` is `CLOCK_MONOTONIC`.
    pub fn start(&mut self, now_ns: u64) -> Result<(), Error> {
        self.started_ns = now_ns;
        self.idle_from_ns = events::idle_ns()?;
        self.clocks.iter().try_for_each(Clock::enable)
    }

    /// Stops the clocks; counts stay readable. `now_ns` is `CLOCK_MONOTONIC`.
    pub fn stop(&mut self, now_ns: u64) {
        self.stopped_ns = now_ns;
        self.clocks.iter().for_each(Clock::disable);
        // Without it no tick is known to be an idle one: then they count as missed.
        let mut idle_ns = events::idle_ns().unwrap_or_default();
        for (cpu, idle_ns) in &mut idle_ns {
            let from_ns = self.idle_from_ns.get(cpu).copied().unwrap_or(*idle_ns);
            *idle_ns = idle_ns.saturating_sub(from_ns);
        }
        self.idle_ns = idle_ns;
    }

    /// Ticks that were due so far, on all CPUs.
    pub fn ticks_expected(&self) -> u64 {
        let now: u64 = self.clocks.iter().map(|clock| clock.count_ns() / self.period_ns).sum();
        now + self.gone_ns / self.period_ns
    }

    /// Ticks that were due while a CPU stood idle and never ran the program; known once the clocks
    /// have stopped. Those of CPUs that went away are not known.
    pub fn ticks_halted(&self) -> Result<u64, Error> {
        let clock_tick_ns = events::clock_tick_ns();
        let counters = self.counters_by_cpu()?;
        let of_clock = |clock: &Clock| {
            let counters = counters.get(clock.cpu as usize)?;
            let ticks = CpuTicks {
                expected: clock.count_ns() / self.period_ns,
                ran: counters.runs,
                ran_idle: counters.filtered[abi::HF_FILTERED_IDLE as usize],
                idle_ns: *self.idle_ns.get(&clock.cpu)?,
                // Those behind the last tick, too: no later one passed them over.
                passed_over: counters.passed_over
                    + self.stopped_ns.saturating_sub(counters.due_ns.max(self.started_ns))
                        / self.period_ns,
            };
            Some(events::ticks_halted(ticks, self.period_ns, clock_tick_ns))
        };
        Ok(self.clocks.iter().filter_map(of_clock).sum())
    }

    /// CPUs sampled now.
    pub fn n_cpus(&self) -> usize {
        self.clocks.len()
    }

    /// Side-band rings, to poll and to drain.
    pub fn sidebands(&mut self) -> &mut [SidebandRing] {
        &mut self.sidebands
    }

    /// The kernel half's counters, added up over CPUs.
    pub fn counters(&self) -> Result<abi::hf_counters, Error> {
        let mut total = [0u64; size_of::<abi::hf_counters>() / 8];
        for counters in self.counters_by_cpu()? {
            for (sum, word) in total.iter_mut().zip(counters.as_bytes().chunks_exact(8)) {
                // Words that are no counts are not asked for, and may be anything.
                *sum = sum.wrapping_add(u64::from_ne_bytes(word.try_into().unwrap_or_default()));
            }
        }
        abi::hf_counters::read_from_bytes(total.as_bytes()).map_err(|_| Error::Missing("counters"))
    }

    /// The same, of each possible CPU in order.
    fn counters_by_cpu(&self) -> Result<Vec<abi::hf_counters>, Error> {
        map(&self.object, "hf_counters")?
            .lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(bpf("reading the counters"))?
            .unwrap_or_default()
            .iter()
            .map(|value| {
                abi::hf_counters::read_from_prefix(value)
                    .map(|(counters, _)| counters)
                    .map_err(|_| Error::Missing("counters"))
            })
            .collect()
    }

    /// Adds a process to the pid filter.
    pub fn add_pid(&self, pid: u32) -> Result<(), Error> {
        let pids = map(&self.object, "hf_pids")?;
        let full = Error::FilterFull { what: "processes", max: abi::HF_MAX_PIDS };
        pids.update(&pid.to_ne_bytes(), &[1], MapFlags::ANY)
            .map_err(|cause| full_or(&pids, full, bpf("adding a process to the filter")(cause)))
    }

    /// Takes a process that ended out of the pid filter.
    pub fn remove_pid(&self, pid: u32) {
        if let Ok(pids) = map(&self.object, "hf_pids") {
            let _ = pids.delete(&pid.to_ne_bytes());
        }
    }

    /// Is the process in the pid filter?
    pub fn has_pid(&self, pid: u32) -> bool {
        // Without a filter none is there, and every exit of the machine would be a system call.
        self.config.settings.filter_pids != 0
            && map(&self.object, "hf_pids").is_ok_and(|pids| {
                matches!(pids.lookup(&pid.to_ne_bytes(), MapFlags::ANY), Ok(Some(_)))
            })
    }

    /// Adds a cgroup, by inode, to the cgroup filter.
    pub fn add_cgroup(&self, inode: u64) -> Result<(), Error> {
        let cgroups = map(&self.object, "hf_cgroups")?;
        let full = Error::FilterFull { what: "cgroups", max: abi::HF_MAX_CGROUPS };
        cgroups
            .update(&inode.to_ne_bytes(), &[1], MapFlags::ANY)
            .map_err(|cause| full_or(&cgroups, full, bpf("adding a cgroup to the filter")(cause)))
    }

    /// Bytes of the side-band's rings.
    pub fn sideband_bytes(&self) -> u64 {
        self.sidebands.iter().map(|ring| ring.bytes() as u64).sum()
    }

    /// Bytes of kernel memory: maps by their fdinfo, programs excluded, perf rings included.
    /// An arena's fdinfo says 0 or its populated pages, by kernel: `memory_used` is what user
    /// space touched and counts if it is more.
    pub fn map_bytes(&self, memory_used: u64) -> u64 {
        let sum = |of_memory: bool| -> u64 {
            let maps = self.object.maps().filter(|map| (map.name() == "hf_memory") == of_memory);
            maps.map(|map| fdinfo_memlock(map.as_fd().as_raw_fd())).sum()
        };
        // All of the others have their whole size from the start, and asking takes time.
        let others = *self.other_map_bytes.get_or_init(|| sum(false));
        sum(true).max(memory_used) + others + self.sideband_bytes()
    }

    /// What the verifier said of each program that is loaded.
    pub fn program_facts(&self) -> Vec<ProgramFacts> {
        self.object
            .progs()
            .chain(self.with_runtimes.iter().flat_map(|object| object.progs()))
            .filter_map(|program| {
                let mut info = libbpf_sys::bpf_prog_info::default();
                let mut bytes = size_of_val(&info) as u32;
                // SAFETY: the kernel writes at most `bytes` bytes into info, whose pointers to
                // buffers are all null.
                let failed = unsafe {
                    libbpf_sys::bpf_prog_get_info_by_fd(
                        program.as_fd().as_raw_fd(),
                        &raw mut info,
                        &raw mut bytes,
                    )
                };
                if failed != 0 {
                    return None;
                }
                Some(ProgramFacts {
                    name: program.name().to_string_lossy().into_owned(),
                    instructions: program.insn_cnt(),
                    verified: info.verified_insns,
                })
            })
            .collect()
    }
}

/// Number of a cgroup controller in `css_set.subsys`: the value of `NAME_cgrp_id` in the running
/// kernel's `enum cgroup_subsys_id`.
pub fn cgroup_subsys(controller: &str) -> Option<u8> {
    use libbpf_rs::btf::types::Enum;
    let btf = libbpf_rs::btf::Btf::from_vmlinux().ok()?;
    let ids: Enum<'_> = btf.type_by_name("cgroup_subsys_id")?;
    let wanted = format!("{controller}_cgrp_id");
    ids.iter()
        .find(|member| member.name.is_some_and(|name| name.to_string_lossy() == wanted))
        .and_then(|member| u8::try_from(member.value).ok())
}

fn walk_name(fallbacks: Fallbacks) -> &'static str {
    if fallbacks.tail_calls { "hf_walk_tail" } else { "hf_walk_loop" }
}

/// Puts the walk of one object into the program array of another.
fn put_walk(array: &Object, object: &Object, fallbacks: Fallbacks) -> Result<(), Error> {
    let walk = object
        .progs()
        .find(|program| program.name() == walk_name(fallbacks))
        .ok_or(Error::Missing("walk program"))?
        .as_fd()
        .as_raw_fd();
    map(array, "hf_progs")?
        .update(&PROG_WALK.to_ne_bytes(), &walk.to_ne_bytes(), MapFlags::ANY)
        .map_err(bpf("filling the program array"))
}

fn open(fallbacks: Fallbacks) -> Result<OpenObject, Error> {
    let bytes = if fallbacks.no_arena { ARRAY_OBJECT } else { ARENA_OBJECT };
    ObjectBuilder::default().open_memory(bytes).map_err(bpf("opening the kernel half"))
}

fn map<'o>(object: &'o Object, name: &'static str) -> Result<libbpf_rs::Map<'o>, Error> {
    object.maps().find(|map| map.name() == name).ok_or(Error::Missing(name))
}

/// Why nothing more could be put into a map: the kernel's E2BIG says too little.
fn full_or(map: &libbpf_rs::Map<'_>, full: Error, other: Error) -> Error {
    if map.keys().count() >= map.max_entries() as usize { full } else { other }
}

fn fdinfo_memlock(fd: i32) -> u64 {
    std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))
        .ok()
        .and_then(|text| {
            text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros as _;

    /// The cause of a failure stands once in what is printed.
    #[test]
    fn a_cause_is_said_once() {
        let cause = || std::io::Error::from_raw_os_error(libc::ENOSPC);
        let said = cause().to_string();
        for error in [
            Error::Bpf { what: "loading", cause: cause().into(), log: "a line".into() },
            Error::PerfOpen { cpu: 1, cause: cause() },
            Error::Os { what: "mapping", cause: cause() },
        ] {
            let text = error.chain();
            assert_eq!(text.matches(&said).count(), 1, "{text}");
            assert!(text.ends_with(&said), "{text}");
        }
    }

    /// Children that find no room in the filter are counted; whoever adds more of anything than fits
    /// is told how many do. Needs root.
    #[test]
    fn full_filters() {
        let mut settings = abi::hf_config::new_zeroed();
        settings.filter_pids = 1;
        let config = Config {
            hz: 99,
            memory_bytes: 8 << 20,
            ring_bytes: 1 << 20,
            sideband_pages: 16,
            settings,
            force: Fallbacks::default(),
        };
        let (kernel, _memory, _ring) = match Kernel::load(&config) {
            Ok(loaded) => loaded,
            Err(why) => {
                eprintln!("full filters: SKIPPED: {} (root?)", why.chain());
                return;
            }
        };
        let refused = || kernel.counters().expect("counters").pids_refused;
        let fork = || {
            let status = std::process::Command::new("true").status().expect("a child");
            assert!(status.success());
        };
        let own = std::process::id();
        kernel.add_pid(own).expect("room for one");
        fork();
        assert_eq!(refused(), 0);
        // No process has such pids (PID_MAX_LIMIT, include/linux/threads.h @ v6.12).
        let mut pids = (1 << 22)..;
        let full = loop {
            if let Err(full) = kernel.add_pid(pids.next().expect("one more")) {
                break full.to_string();
            }
        };
        assert!(full.contains("16384 processes"), "{full}");
        fork();
        assert_eq!(refused(), 1);
        let mut cgroups = 1..;
        let full = loop {
            if let Err(full) = kernel.add_cgroup(cgroups.next().expect("one more")) {
                break full.to_string();
            }
        };
        assert!(full.contains("64 cgroups"), "{full}");
    }
}
