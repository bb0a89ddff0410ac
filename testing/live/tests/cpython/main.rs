//! CPython: every stack that is sampled has to be a path of what the program says of itself
//! (`testing/workloads/python/truth.py`), one test a version. A version that is not installed is
//! skipped loudly.
//!
//! Interpreters are looked for in `HOTFRAME_PYTHONS` (paths with colons between), in `PATH`, and
//! among those of pyenv.
#![forbid(unsafe_code)]

mod disturbed;
mod embedded;
mod truth;
mod versions;
