//! pprof: the gzipped protobuf that `go tool pprof` and most stores read.
//!
//! In and out: message `perftools.profiles.Profile`. Values are `samples/count` and, when the
//! period is known, `cpu/nanoseconds` (the default) = count × period. Labels of a sample: `pid`,
//! `tid`, `comm` (the thread's name) and `kind` (of the leaf), all texts, as a number without a
//! unit would be shown with its key as the unit. Mapping 1 is the executable with the most samples,
//! as the tool shows that one as "File". Host, kernel and command stand in comments, and are read
//! from there. A mapping spans all addresses, which is pprof's own sign that addresses are ELF
//! virtual addresses, so `-symbolize=local` finds them in any file, whatever its segments' offsets.
//!
//! `has_*` is true only if it holds for all of a mapping's locations: else the tool may look for
//! names itself. With [`Options::address_only`], code of a file has no names at all and all is
//! left to the tool: an oracle for our symboliser. (`go tool pprof` reads DWARF and Go's own tables
//! only; google/pprof's, which asks binutils, symbol tables too.)
//!
//! # Reading
//! The value taken is the one named `samples`, else the default, else the last; `cpu` and others
//! in nanoseconds with a period become counts by division. Kinds are told from the mapping and
//! the source file's extension. Times of samples are not in the format. Threads are told by the labels
//! of ours, pprof-rs (`thread`) and Datadog's (`thread id`, `thread name`); texts of other labels
//! become part of the thread's name, `main endpoint=/a`.
//!
//! # Tried with
//! `go tool pprof` (`tests/oracles.rs`); Grafana Pyroscope 1.21.0: `profilecli upload`, then the sum that
//! its query gives back.
//!
//! # Sources
//! google/pprof proto/profile.proto, internal/elfexec/elfexec.go (GetBase) as vendored by
//! go 1.26.
//!
//! # Not handled
//! drop_frames and keep_frames, labels that are numbers (a heap's `bytes`), is_folded.

mod read;
mod write;

use hotframe_core::profile::Meta;

pub use read::{read, read_value, read_within};
pub use write::{Options, write};

pub(crate) const NAME: &str = "pprof";

/// Comments of a file, of what pprof has no fields for: how each begins, and where it stands.
fn comments(meta: &mut Meta) -> [(&'static str, &mut String); 5] {
    [
        ("", &mut meta.producer),
        ("command: ", &mut meta.command),
        ("host: ", &mut meta.host),
        ("kernel: ", &mut meta.kernel),
        ("arch: ", &mut meta.arch),
    ]
}
