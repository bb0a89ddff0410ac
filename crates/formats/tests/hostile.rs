//! Damaged, foreign and hostile files: an error that says what is wrong and where, or a profile
//! that every writer can take; never a panic, and memory within the limits.

use flate2::{Compression, write::GzEncoder};
use hotframe_core::profile::Profile;
use hotframe_formats::{
    Error, Format, Limits, canonical, folded, otlp, perfscript, pprof, synthetic,
};
use std::io::Write;

type Read = fn(&[u8]) -> Result<Profile, Error>;
type Within = fn(&[u8], &Limits) -> Result<Profile, Error>;

const READERS: [(Format, Read, Within); 4] = [
    (Format::Pprof, pprof::read, pprof::read_within),
    (Format::Folded, folded::read, folded::read_within),
    (Format::Otlp, otlp::read, otlp::read_within),
    (Format::PerfScript, perfscript::read, perfscript::read_within),
];

fn sample(format: Format) -> Vec<u8> {
    let mut bytes = Vec::new();
    match format {
        Format::PerfScript => {
            return b"a b 1/2 [000] 1.5: 7 cpu-clock: \n\t12 f+0x1 (/x)\n\t13 g (inlined)\n\n"
                .to_vec();
        }
        Format::Pprof => {
            let mut packed = Vec::new();
            format.write(&synthetic::small(), &mut packed).unwrap();
            let mut gzip = flate2::read::GzDecoder::new(packed.as_slice());
            std::io::Read::read_to_end(&mut gzip, &mut bytes).unwrap();
        }
        _ => format.write(&synthetic::small(), &mut bytes).unwrap(),
    }
    bytes
}

/// A profile that was read must satisfy every writer.
fn use_it(profile: &Profile) {
    for format in
        Format::ALL.into_iter().filter(|format| format.writes() && *format != Format::Html)
    {
        format.write(profile, &mut std::io::sink()).unwrap();
    }
    canonical(profile).unwrap();
}

/// Each file cut at every place.
#[test]
fn truncated() {
    for (format, read, _) in READERS {
        let bytes = sample(format);
        for len in 0..bytes.len() {
            if let Ok(profile) = read(&bytes[..len])
                && len % 7 == 0
            {
                use_it(&profile);
            }
        }
        assert!(read(b"").is_err(), "{format:?}: empty");
        assert!(read(&bytes[..1]).is_err(), "{format:?}: one byte");
    }
}

/// Each file with bytes changed at random.
#[test]
fn damaged() {
    let mut random = 1_u64;
    for (format, read, _) in READERS {
        let bytes = sample(format);
        let mut taken = 0;
        for _ in 0..4_000 {
            let mut bytes = bytes.clone();
            for _ in 0..2 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let at = (random >> 8) as usize % bytes.len();
                bytes[at] = random as u8;
            }
            if let Ok(profile) = read(&bytes) {
                taken += 1;
                if taken % 50 == 0 {
                    use_it(&profile);
                }
            }
        }
        assert!(taken > 0, "{format:?}: every damage is noticed, so none was small enough");
    }
}

/// A file of one format given to the reader of another.
#[test]
fn foreign() {
    for (format, read, _) in READERS {
        for (other, ..) in READERS {
            if other != format
                && let Ok(profile) = read(&sample(other))
            {
                use_it(&profile);
            }
        }
        for junk in
            [&b"\x7fELF\x02\x01\x01"[..], b"%PDF-1.7\n", b"<html></html>", &[0xff; 64], &[0; 64]]
        {
            assert!(read(junk).is_err(), "{format:?} took {junk:?}");
        }
    }
}

/// A gzip bomb stops at the limit on bytes.
#[test]
fn bombs() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..64 {
        gzip.write_all(&[b'\n'; 1 << 20]).unwrap();
    }
    let bomb = gzip.finish().unwrap();
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    for (format, _, read_within) in READERS {
        let error = read_within(&bomb, &limits).unwrap_err();
        assert!(matches!(error, Error::TooLarge { what: "bytes", .. }), "{format:?}: {error}");
    }
}

/// Tables, stacks and samples stop at their limits.
#[test]
fn limits() {
    let limits = Limits { table_entries: 3, ..Limits::default() };
    for format in [Format::Pprof, Format::Otlp] {
        let read_within =
            if format == Format::Otlp { otlp::read_within } else { pprof::read_within };
        let error = read_within(&sample(format), &limits).unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit: 3, .. }), "{format:?}: {error}");
    }
    for limits in [
        Limits { stack_nodes: 2, ..Limits::default() },
        Limits { frame_mentions: 2, ..Limits::default() },
        Limits { samples: 0, ..Limits::default() },
    ] {
        for (format, _, read_within) in READERS {
            let mut bytes = sample(format);
            if format == Format::PerfScript {
                bytes.splice(bytes.len() - 1.., *b"\t14 h (/x)\n");
            }
            let error = read_within(&bytes, &limits).unwrap_err();
            assert!(matches!(error, Error::TooLarge { .. }), "{format:?}: {error}");
        }
    }
}

/// What is wrong, and where.
#[test]
fn messages() {
    let check = |result: Result<Profile, Error>, message: &str| {
        assert_eq!(result.unwrap_err().to_string(), message);
    };
    check(
        folded::read(b"a;b 1\na;b x1\n"),
        "folded, line 2: the count at the end is not a number: \"x1\"",
    );
    check(folded::read(b"ab"), "folded, line 1: no count behind \"ab\"");
    check(
        perfscript::read(b"\t12 f (/x)\n"),
        "perf script text, line 1: a frame stands before the first sample's head",
    );
    check(
        pprof::read(b"\x32\x00\x0a\x02\x08\x05"),
        "pprof, byte 0: the string table has no entry 5",
    );
    check(
        pprof::read(b"\x32\x00\x0a\x00\x12\x00"),
        "pprof, byte 6: a sample has 0 values, expected 1",
    );
    check(
        pprof::read(b"\x32\x00\x0a\x00\x12\x04\x0a\x01\x09\x10"),
        "pprof, byte 10: the file ends within a number",
    );
    check(
        pprof::read(b"\x32\x00\x0a\x00\x12\x04\x08\x09\x10\x01"),
        "pprof, byte 6: the location table has no entry 9",
    );
    check(pprof::read(b"\x32\x00"), "pprof, byte 0: it has no sample type");
    check(
        otlp::read(b"\x12\x00"),
        "OTLP profiles, byte 0: this is not an OTLP ProfilesData message: it has no resource",
    );
}

/// Paths and names lead to formats and back; the lossless ones are the page and OTLP.
#[test]
fn table() {
    for format in Format::ALL {
        for end in format.extensions() {
            let path = format!("/tmp/some.dir/x{end}");
            assert_eq!(Format::from_path(path.as_ref()), Some(format), "{path}");
        }
        assert_eq!(Format::from_name(format.name()), Some(format));
        let lossless = matches!(format, Format::Html | Format::Otlp);
        assert_eq!(format.lossless(), lossless);
    }
    assert_eq!(Format::from_path("x.json".as_ref()), None);
    for format in [Format::Folded, Format::PerfScript] {
        assert_eq!(Format::detect(&sample(format)), Some(format));
    }
    let mut page = Vec::new();
    Format::Html.write(&synthetic::small(), &mut page).unwrap();
    assert_eq!(Format::detect(&page), Some(Format::Html));
}

/// Written by `record` or converted from OTLP: one page.
#[test]
fn converted_page_is_the_recorded_one() {
    let profile = synthetic::small();
    let page = |profile: &Profile| {
        let mut bytes = Vec::new();
        Format::Html.write(profile, &mut bytes).unwrap();
        bytes
    };
    let mut otlp = Vec::new();
    Format::Otlp.write(&profile, &mut otlp).unwrap();
    assert!(page(&otlp::read(&otlp).unwrap()) == page(&profile), "the pages differ");
    let from_page = Format::Html.read(&page(&profile)).unwrap();
    let mut again = Vec::new();
    Format::Otlp.write(&from_page, &mut again).unwrap();
    assert!(page(&otlp::read(&again).unwrap()) == page(&profile), "page to OTLP to page differs");
}
