//! Captures: a stream of stacks with their names, to be replayed.
//!
//! In and out: a file of [`Event`]s in the order in which they happened. Replaying one gives the
//! same stream every time, on any machine: names stand in it, so no process is needed.
//!
//! # Format, version 1
//! `hotframe capture`, a NUL, the version as one byte; then records until the end of the file. A
//! record is one byte that says which, and fields. Numbers are LEB128, words and hashes 8 bytes
//! little-endian. Texts, processes, frames and stacks are numbered from 0 in the order of their
//! records, and a record only refers to earlier ones.
//!
//! | byte | record | fields |
//! |---|---|---|
//! | 1 | text | length, bytes |
//! | 2 | process | tgid, start in ns, exec id |
//! | 3 | exit | process |
//! | 4 | frame | process, number of words, words, number of names, names |
//! | 5 | stack | process, hash, number of frames, frames leaf first |
//! | 6 | sample | nanoseconds since the sample before, stack |
//!
//! A name is eight numbers: texts of name, symbol, file, module path and build id, each plus 1, or
//! 0 for none; start line, line, and kind and flags as `kind << 8 | flags`. Names of one frame go from
//! the innermost to the physical function.
//!
//! # Bounds
//! A reader holds one record at a time and the counts. A text has at most 64 KiB, a frame 256
//! words and 1,024 names, a stack 4,096 frames. Anything else is [`Error::Malformed`].

use std::io::{self, BufRead, Write};

use crate::dynamic::ProcessKey;

const MAGIC: &[u8; 17] = b"hotframe capture\0";
const VERSION: u8 = 1;
const MAX_TEXT: u64 = 64 << 10;
const MAX_WORDS: u64 = 256;
const MAX_NAMES: u64 = 1024;
const MAX_FRAMES: u64 = 4096;

/// Why a capture cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read or written.
    #[error("reading or writing a capture")]
    Io(#[from] io::Error),
    /// The file begins otherwise.
    #[error("not a hotframe capture")]
    NotACapture,
    /// A newer hotframe wrote it.
    #[error("capture version {0}; this hotframe reads version {VERSION}")]
    Version(u8),
    /// A record that no writer wrote.
    #[error("malformed capture: {what} in record {record}")]
    Malformed {
        /// Number of the record, from 0.
        record: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// A name of a frame; texts by number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Name {
    /// Name to show.
    pub name: Option<u32>,
    /// Name in the symbol table, where it differs.
    pub system_name: Option<u32>,
    /// Source file.
    pub file: Option<u32>,
    /// Path of the file of code.
    pub module_path: Option<u32>,
    /// Its build id.
    pub module_build_id: Option<u32>,
    /// First line of the function; 0: unknown.
    pub start_line: u32,
    /// Line; 0: unknown.
    pub line: u32,
    /// Kind of code.
    pub kind: u8,
    /// Flags of the frame.
    pub flags: u8,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A text that names refer to.
    Text(Box<[u8]>),
    /// A process image appeared.
    Process(ProcessKey),
    /// It ended.
    Exit(u32),
    /// A frame was met for the first time.
    Frame {
        /// Whose; any process for static code.
        process: u32,
        /// Its words, as [`frames`](crate::frames) cuts them.
        words: Box<[u64]>,
        /// Its names, innermost first; empty: none is known.
        names: Box<[Name]>,
    },
    /// A stack was met for the first time.
    Stack {
        /// Whose.
        process: u32,
        /// The kernel's hash.
        hash: u64,
        /// Its frames, leaf first.
        frames: Box<[u32]>,
    },
    /// A sample.
    Sample {
        /// Nanoseconds since the sample before it.
        after_ns: u64,
        /// Its stack.
        stack: u32,
    },
}

/// Writes a capture.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    scratch: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a capture. Wrap files in a `BufWriter`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(mut out: W) -> Result<Writer<W>, Error> {
        out.write_all(MAGIC)?;
        out.write_all(&[VERSION])?;
        Ok(Writer { out, scratch: Vec::new() })
    }

    /// Appends an event. What it refers to must have been written before.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&mut self, event: &Event) -> Result<(), Error> {
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        match event {
            Event::Text(bytes) => {
                out.push(1);
                number(&mut out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            Event::Process(key) => {
                out.push(2);
                number(&mut out, key.tgid.into());
                number(&mut out, key.start_ns);
                number(&mut out, key.exec_id.into());
            }
            Event::Exit(process) => {
                out.push(3);
                number(&mut out, (*process).into());
            }
            Event::Frame { process, words, names } => {
                out.push(4);
                number(&mut out, (*process).into());
                number(&mut out, words.len() as u64);
                words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
                number(&mut out, names.len() as u64);
                for name in names {
                    let texts = [
                        name.name,
                        name.system_name,
                        name.file,
                        name.module_path,
                        name.module_build_id,
                    ];
                    for text in texts {
                        number(&mut out, text.map_or(0, |text| u64::from(text) + 1));
                    }
                    number(&mut out, name.start_line.into());
                    number(&mut out, name.line.into());
                    number(&mut out, u64::from(name.kind) << 8 | u64::from(name.flags));
                }
            }
            Event::Stack { process, hash, frames } => {
                out.push(5);
                number(&mut out, (*process).into());
                out.extend_from_slice(&hash.to_le_bytes());
                number(&mut out, frames.len() as u64);
                frames.iter().for_each(|&frame| number(&mut out, frame.into()));
            }
            Event::Sample { after_ns, stack } => {
                out.push(6);
                number(&mut out, *after_ns);
                number(&mut out, (*stack).into());
            }
        }
        let result = self.out.write_all(&out);
        self.scratch = out;
        Ok(result?)
    }

    /// Writes out what is buffered and gives the sink back.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(mut self) -> Result<W, Error> {
        self.out.flush()?;
        Ok(self.out)
    }
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a capture. After an error it ends.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    n_records: u64,
    n_texts: u64,
    n_processes: u64,
    n_frames: u64,
    n_stacks: u64,
    ended: bool,
}

impl<R: BufRead> Reader<R> {
    /// Begins to read a capture.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NotACapture`], [`Error::Version`].
    pub fn new(mut from: R) -> Result<Reader<R>, Error> {
        let mut head = [0; MAGIC.len() + 1];
        match from.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(Error::NotACapture);
            }
            other => other?,
        }
        match head.split_last() {
            Some((&VERSION, magic)) if magic == MAGIC => {}
            Some((&version, magic)) if magic == MAGIC => return Err(Error::Version(version)),
            _ => return Err(Error::NotACapture),
        }
        Ok(Reader {
            from,
            n_records: 0,
            n_texts: 0,
            n_processes: 0,
            n_frames: 0,
            n_stacks: 0,
            ended: false,
        })
    }

    fn bad(&self, what: &'static str) -> Error {
        Error::Malformed { record: self.n_records, what }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        match self.from.read_exact(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.bad("the file ends"))
            }
            other => Ok(other.map(|()| bytes)?),
        }
    }

    fn number(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.bytes()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.bad("a number of more than 64 bits"))
    }

    fn below(&mut self, bound: u64, what: &'static str) -> Result<u32, Error> {
        let value = self.number()?;
        match u32::try_from(value) {
            Ok(small) if value < bound => Ok(small),
            _ => Err(self.bad(what)),
        }
    }

    fn word(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn many<T>(
        &mut self,
        max: u64,
        what: &'static str,
        mut one: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<Box<[T]>, Error> {
        let n = self.below(max + 1, what)?;
        (0..n).map(|_| one(self)).collect()
    }

    fn text(&mut self) -> Result<Option<u32>, Error> {
        let value = self.below(self.n_texts + 1, "a text before its record")?;
        Ok(value.checked_sub(1))
    }

    fn name(&mut self) -> Result<Name, Error> {
        let any = u64::from(u32::MAX) + 1;
        let mut name = Name {
            name: self.text()?,
            system_name: self.text()?,
            file: self.text()?,
            module_path: self.text()?,
            module_build_id: self.text()?,
            start_line: self.below(any, "a line of more than 32 bits")?,
            line: self.below(any, "a line of more than 32 bits")?,
            ..Name::default()
        };
        let kind_flags = self.below(1 << 16, "a kind of more than 8 bits")?;
        name.kind = (kind_flags >> 8) as u8;
        name.flags = kind_flags as u8;
        Ok(name)
    }

    fn process(&mut self) -> Result<u32, Error> {
        self.below(self.n_processes, "a process before its record")
    }

    fn event(&mut self, which: u8) -> Result<Event, Error> {
        let any = u64::from(u32::MAX) + 1;
        Ok(match which {
            1 => {
                let bytes = self.many(MAX_TEXT, "a text that is too long", |reader| {
                    reader.bytes::<1>().map(|[byte]| byte)
                })?;
                self.n_texts += 1;
                Event::Text(bytes)
            }
            2 => {
                let key = ProcessKey {
                    tgid: self.below(any, "a pid of more than 32 bits")?,
                    start_ns: self.number()?,
                    exec_id: self.below(any, "an exec id of more than 32 bits")?,
                };
                self.n_processes += 1;
                Event::Process(key)
            }
            3 => Event::Exit(self.process()?),
            4 => {
                let event = Event::Frame {
                    process: self.process()?,
                    words: self.many(MAX_WORDS, "a frame of too many words", Reader::word)?,
                    names: self.many(MAX_NAMES, "a frame of too many names", Reader::name)?,
                };
                self.n_frames += 1;
                event
            }
            5 => {
                let (process, hash) = (self.process()?, self.word()?);
                let n_frames = self.n_frames;
                let frames = self.many(MAX_FRAMES, "a stack that is too deep", |reader| {
                    reader.below(n_frames, "a frame before its record")
                })?;
                self.n_stacks += 1;
                Event::Stack { process, hash, frames }
            }
            6 => Event::Sample {
                after_ns: self.number()?,
                stack: self.below(self.n_stacks, "a stack before its record")?,
            },
            _ => return Err(self.bad("an unknown kind of record")),
        })
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Result<Event, Error>> {
        if self.ended {
            return None;
        }
        let which = match self.from.fill_buf() {
            Ok([]) => {
                self.ended = true;
                return None;
            }
            Ok([which, ..]) => *which,
            Err(error) => {
                self.ended = true;
                return Some(Err(error.into()));
            }
        };
        self.from.consume(1);
        let event = self.event(which);
        self.n_records += 1;
        self.ended = event.is_err();
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<Event> {
        let name = Name {
            name: Some(0),
            file: Some(1),
            start_line: 7,
            line: 300_000,
            kind: 4,
            flags: 1,
            ..Name::default()
        };
        vec![
            Event::Text(b"main".as_slice().into()),
            Event::Text([0xff, 0, b'x'].into()),
            Event::Process(ProcessKey { tgid: 7, start_ns: u64::MAX, exec_id: 2 }),
            Event::Frame {
                process: 0,
                words: [3 << 60 | 1 << 40, 9].into(),
                names: [name, name].into(),
            },
            Event::Frame { process: 0, words: [1 << 60].into(), names: [].into() },
            Event::Stack { process: 0, hash: 0xdead_beef_0123_4567, frames: [1, 0, 1].into() },
            Event::Sample { after_ns: 10_101_010, stack: 0 },
            Event::Exit(0),
        ]
    }

    fn written(events: &[Event]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        events.iter().for_each(|event| writer.write(event).unwrap());
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<Event>, Error> {
        Reader::new(bytes)?.collect()
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(read(&written(&sample())).unwrap(), sample());
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error_or_a_beginning() {
        let bytes = written(&sample());
        for cut in 0..bytes.len() {
            match read(&bytes[..cut]) {
                Ok(events) => assert!(sample().starts_with(&events)),
                Err(Error::NotACapture) => assert!(cut < 18),
                Err(error) => {
                    assert!(matches!(error, Error::Malformed { what: "the file ends", .. }));
                }
            }
        }
    }

    #[test]
    fn other_files_and_versions_are_told_apart() {
        assert!(matches!(read(b"hello"), Err(Error::NotACapture)));
        assert!(matches!(read(&[0; 100]), Err(Error::NotACapture)));
        let mut newer = written(&[]);
        newer[17] = 9;
        assert!(matches!(read(&newer), Err(Error::Version(9))));
    }

    #[test]
    fn references_forward_are_refused() {
        let mut events = sample();
        events.remove(0);
        let error = read(&written(&events)).unwrap_err().to_string();
        assert_eq!(error, "malformed capture: a text before its record in record 2");
    }

    proptest! {
        /// Any bytes behind a good head: an error or events, never a panic.
        #[test]
        fn foreign_bytes_do_not_panic(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = written(&sample());
            bytes.extend(tail);
            let _ = read(&bytes);
        }

        #[test]
        fn flipped_bytes_do_not_panic(at in 18usize..100, byte: u8) {
            let mut bytes = written(&sample());
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = read(&bytes);
        }
    }
}
