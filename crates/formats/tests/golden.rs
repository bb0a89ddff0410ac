//! What each writer makes of one small profile, byte for byte. UPDATE=1 rewrites the files.

use std::path::Path;

use hotframe_core::profile::Profile;
use hotframe_formats::html::payload;
use hotframe_formats::{
    Comparison, Error, firefox, folded, otlp, pprof, speedscope, svg, synthetic,
};

fn check(name: &str, write: impl FnOnce(&Profile, &mut Vec<u8>) -> Result<(), Error>) {
    let mut bytes = Vec::new();
    write(&synthetic::small(), &mut bytes).expect("writing into memory");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &bytes).expect("the golden folder can be written");
    }
    let expected = std::fs::read(&path).unwrap_or_default();
    assert!(
        bytes == expected,
        "{name} differs from tests/golden: {} bytes now, {} expected; UPDATE=1 rewrites it",
        bytes.len(),
        expected.len()
    );
}

/// The gzip layer may change with its library; what is inside may not.
fn inflated(bytes: &mut Vec<u8>) {
    let mut inner = Vec::new();
    let mut gzip = flate2::read::GzDecoder::new(bytes.as_slice());
    std::io::Read::read_to_end(&mut gzip, &mut inner).expect("our own gzip");
    *bytes = inner;
}

#[test]
fn folded() {
    check("small.folded", |profile, out| folded::write(profile, folded::Options::default(), out));
    check("small.plain.folded", |profile, out| {
        folded::write(profile, folded::Options { annotate: false }, out)
    });
}

#[test]
fn pprof() {
    check("small.pb", |profile, out| {
        pprof::write(profile, pprof::Options::default(), out)?;
        inflated(out);
        Ok(())
    });
    check("small.addresses.pb", |profile, out| {
        pprof::write(profile, pprof::Options { address_only: true }, out)?;
        inflated(out);
        Ok(())
    });
}

#[test]
fn otlp() {
    check("small.otlp", |profile, out| otlp::write(profile, otlp::Options::default(), out));
}

/// The page around it is web/dist's, which has its own check.
#[test]
fn html() {
    check("small.payload", |profile, out| {
        payload::write(profile, out).map_err(Error::write("html"))
    });
    check("small.comparison.payload", |profile, out| {
        let both = Comparison::new(("before", profile), ("after", profile))?;
        payload::write_comparison(&both, out).map_err(Error::write("html"))
    });
}

#[test]
fn speedscope() {
    check("small.speedscope.json", speedscope::write);
}

#[test]
fn svg() {
    check("small.svg", |profile, out| svg::write(profile, svg::Options::default(), out));
}

#[test]
fn firefox() {
    check("small.firefox.json", firefox::write);
}
