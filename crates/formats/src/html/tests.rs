//! The page as a file: what is written is read back as it was, names that are markup stay names, and pages
//! that are damaged or somebody else's are refused with a reason.

use super::*;
use crate::synthetic::{self, HOSTILE_NAMES, Shape};
use hotframe_core::profile::Profile;

fn page(profile: &Profile) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(profile, &mut bytes).unwrap();
    bytes
}

fn plain(profile: &Profile) -> Vec<u8> {
    let mut bytes = Vec::new();
    payload::write(profile, &mut bytes).unwrap();
    bytes
}

/// All of a profile as text: what is equal here is equal in every field.
fn all_of(profile: &Profile) -> String {
    let Profile {
        meta,
        strings,
        modules,
        functions,
        frames,
        stacks,
        processes,
        threads,
        samples,
        stats,
        is_canonical: _,
    } = profile;
    let strings: Vec<_> = strings.iter().collect();
    format!(
        "{meta:?}\n{strings:?}\n{modules:?}\n{functions:?}\n{frames:?}\n{stacks:?}\n\
         {processes:?}\n{threads:?}\n{samples:?}\n{stats}"
    )
}

/// What is written is read again, every field of it, with the same numbering.
#[test]
fn lossless() {
    let large = Shape { processes: 20, threads: 3, stacks: 3000, depth: 40, samples: 10_000 };
    for profile in [Profile::default(), synthetic::small(), synthetic::large(&large)] {
        let back = read(&page(&profile)).unwrap();
        assert_eq!(all_of(&back), all_of(&profile));
    }
}

/// Numbers at the ends of their types survive, also where a column holds differences.
#[test]
fn lossless_at_the_ends_of_types() {
    let mut profile = synthetic::small();
    for (i, value) in [u64::MAX, 0, 1 << 63, u64::from(u32::MAX)].into_iter().enumerate() {
        profile.frames[i].address = value;
        profile.frames[i].line = value as u32;
        profile.samples.time_ns[i] = value;
        profile.samples.weight[i] = value as u32;
        profile.processes[0].cut[i] = value;
    }
    profile.processes[0].samples = u64::MAX;
    profile.meta.start_unix_ns = u64::MAX;
    profile.meta.n_cpus = u32::MAX;
    assert_eq!(all_of(&read(&page(&profile)).unwrap()), all_of(&profile));
}

/// No name gets into the page's markup: but for the payload, two pages are the same bytes.
#[test]
fn names_stay_inside_the_payload() {
    let text = String::from_utf8(page(&synthetic::small())).unwrap();
    let (before, rest) = text.split_once(OPEN).unwrap();
    let (inside, after) = rest.split_once(CLOSE).unwrap();
    assert_eq!(format!("{before}{MARKER}{after}"), PAGE);
    assert!(inside.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b)));
    for name in HOSTILE_NAMES.iter().filter(|name| name.len() > 6) {
        assert!(!text.contains(name), "{name:?} stands in the page itself");
    }
}

/// The page loads nothing: its policy allows no network, and its own script by its hash only.
#[test]
fn the_policy_allows_no_network() {
    let policy = PAGE.split_once("Content-Security-Policy\" content=\"").unwrap().1;
    let policy = policy.split_once('"').unwrap().0;
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http") && !policy.contains('*'));
    assert_eq!(PAGE.matches(MARKER).count(), 1);
}

#[track_caller]
fn check_refused(bytes: &[u8], expect: &str) {
    let error = read(bytes).map(|_| ()).unwrap_err();
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    let text = format!("{error}{}", cause.unwrap_or_default());
    assert!(text.contains(expect), "{text:?} does not say {expect:?}");
}

/// Files that are no page, or half of one, are refused by name.
#[test]
fn foreign_and_truncated_files_are_refused() {
    let whole = page(&synthetic::small());
    check_refused(b"", "not a page that hotframe wrote");
    check_refused(b"<html>hello</html>", "not a page that hotframe wrote");
    let start = find(&whole, OPEN.as_bytes()).unwrap() + OPEN.len();
    check_refused(&whole[..start + 100], "truncated");
    let with = |inside: &str| format!("{OPEN}{inside}{CLOSE}").into_bytes();
    check_refused(&with("!!!!"), "unpacking");
    check_refused(&with("aGVsbG8="), "unpacking");
    let half = &whole[start..start + 400];
    check_refused(&with(std::str::from_utf8(half).unwrap()), "unpacking");
}

/// Every way to cut a payload short, and every single byte changed, gives an error or a profile
/// whose indices are in range: nothing panics.
#[test]
fn damaged_payloads_never_panic() {
    let whole = plain(&synthetic::small());
    for end in 0..whole.len() {
        if let Ok(profile) = payload::read(&whole[..end], &Limits::default()) {
            walk_all(&profile);
        }
    }
    for at in 0..whole.len() {
        for change in [0x01, 0x7f, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= change;
            if let Ok(profile) = payload::read(&damaged, &Limits::default()) {
                walk_all(&profile);
            }
        }
    }
}

/// Looks up every index that a reader of profiles looks up.
fn walk_all(profile: &Profile) {
    for module in &profile.modules {
        profile.strings.get(module.path);
        profile.strings.get(module.build_id);
    }
    for function in &profile.functions {
        profile.strings.get(function.name);
        profile.strings.get(function.system_name);
        profile.strings.get(function.file);
        let _ = &profile.modules[function.module as usize];
    }
    for thread in &profile.threads {
        profile.strings.get(thread.comm);
        let process = &profile.processes[thread.process as usize];
        for text in [process.comm, process.exe, process.cgroup] {
            profile.strings.get(text);
        }
    }
    for (i, &stack) in profile.samples.stack.iter().enumerate() {
        for frame in profile.walk(stack) {
            let _ = &profile.functions[profile.frames[frame as usize].function as usize];
        }
        let _ = &profile.threads[profile.samples.thread[i] as usize];
        let _ = (profile.samples.time_ns[i], profile.samples.cpu[i], profile.samples.weight[i]);
        let _ = hotframe_abi::CUT_NAMES[usize::from(profile.samples.cut[i])];
    }
}

/// A section of the layout, for payloads by hand.
fn section(id: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![id, content.len() as u8];
    bytes.extend_from_slice(content);
    bytes
}

#[track_caller]
fn check_payload(sections: &[Vec<u8>], expect: &str) {
    let bytes = [b"hotframe\x01".to_vec(), sections.concat()].concat();
    let text = payload::read(&bytes, &Limits::default()).map(|_| ()).unwrap_err().to_string();
    assert_eq!(text, expect);
}

/// Each kind of nonsense says what and where it is.
#[test]
fn hostile_payloads_say_what_is_wrong() {
    let err = |bytes: &[u8]| {
        payload::read(bytes, &Limits::default()).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(err(b"hotspot\x01"), "the payload does not begin as one of hotframe's");
    assert_eq!(err(b"hotframe\x07"), "the payload has version 7, this hotframe reads up to 1");
    check_payload(&[section(2, b"\x7f")], "section strings ends early");
    check_payload(&[section(2, b"\x02\x00\x00")], "string 1 is out of place or there twice");
    check_payload(&[section(2, b"\x02\x00\x01\xff")], "string 1 is not UTF-8");
    check_payload(
        &[section(3, b"\x01\x05\x00")],
        "section modules: path 5 of entry 0 is out of range",
    );
    check_payload(&[section(10, b"{")], "section stats is not JSON");
    check_payload(&[section(10, b"1"), section(10, b"1")], "section stats comes twice");
    check_payload(&[section(1, br#"{"kinds":["cobol"]}"#)], "unknown kind `cobol`");
    check_payload(&[section(1, br#"{"cuts":["bored"]}"#)], "unknown cut reason `bored`");
    // A stack that is its own parent, one whose parent comes after it.
    check_payload(
        &[section(6, b"\x02\x00\x00\x00\x00")],
        "section stacks: parent 0 of entry 1 is out of range",
    );
    check_payload(
        &[section(6, b"\x02\x00\x02\x00\x00")],
        "section stacks: parent 2 of entry 1 is out of range",
    );
    check_payload(&[section(6, b"\x01\x00\x00\x00")], "section stacks has 1 bytes too many");
    check_payload(
        &[section(9, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")],
        "section samples ends early",
    );
}

/// A stack without a frame is none; what goes beyond a limit is refused before it is read.
#[test]
fn bounds() {
    check_payload(
        &[section(6, b"\x02\x00\x01\x00\x00")],
        "section stacks: frame 0 of entry 1 is out of range",
    );
    let bytes = plain(&synthetic::small());
    let err = |limits: Limits| payload::read(&bytes, &limits).map(|_| ()).unwrap_err().to_string();
    let limits = Limits::default();
    for (limits, expect) in [
        (Limits { bytes: 9, ..limits }, "it holds more than 9 bytes, the most that is read"),
        (
            Limits { table_entries: 3, ..limits },
            "it holds more than 3 strings, the most that is read",
        ),
        (Limits { stack_nodes: 2, ..limits }, "it holds more than 3 stacks, the most that is read"),
        (Limits { samples: 4, ..limits }, "it holds more than 4 samples, the most that is read"),
        (
            Limits { frame_mentions: 5, ..limits },
            "it holds more than 5 frames in stacks, the most that is read",
        ),
    ] {
        assert_eq!(err(limits), expect);
    }
    let json = [section(1, b"{}"), vec![10, 0x81, 0x80, 0x80, 0x08], vec![b' '; (16 << 20) + 1]];
    check_payload(&json, "it holds more than 16777216 bytes of JSON, the most that is read");
}

/// A section that a later version adds is skipped.
#[test]
fn unknown_sections_are_skipped() {
    let mut bytes = plain(&synthetic::small());
    bytes.extend(section(77, b"later"));
    assert_eq!(
        all_of(&payload::read(&bytes, &Limits::default()).unwrap()),
        all_of(&synthetic::small())
    );
}

/// A comparison is read back as one, and never as a profile.
#[test]
fn comparisons() {
    let one = synthetic::small();
    let both = crate::Comparison::new(("a", &one), ("b", &one)).unwrap();
    let mut page = Vec::new();
    super::write_comparison(&both, &mut page).unwrap();
    let read = super::read_comparison(&page).unwrap().unwrap();
    assert_eq!((&read.before, &read.after), (&both.before, &both.after));
    assert_eq!(all_of(&read.profile), all_of(&both.profile));
    assert!(matches!(super::read(&page), Err(super::Error::Payload(PayloadError::Comparison))));
    let mut single = Vec::new();
    super::write(&one, &mut single).unwrap();
    assert!(super::read_comparison(&single).unwrap().is_none());
    let mut hostile = plain(&one);
    hostile.extend(section(11, b"[]"));
    let sides = payload::read_comparison(&hostile, &Limits::default()).unwrap().unwrap();
    assert_eq!(sides.before, crate::comparison::Side::default());
    hostile.extend(section(11, b"{"));
    assert!(payload::read_comparison(&hostile, &Limits::default()).is_err());
}
