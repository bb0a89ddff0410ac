//! The page: one self-contained `.html` file that opens without a network and loses nothing.
//!
//! In: a [`Profile`]. Out: the page of `web/` with the profile inside, and from such a file the
//! same profile again.
//!
//! # How it works
//! `web/dist/page.html` (built by `npm run build`, committed) holds markup, style and script, and
//! a Content-Security-Policy that allows exactly these by their SHA-256 and no network at all. The
//! writer copies it and puts the payload where its marker stands: the bytes of [`payload`],
//! gzipped, in base64, in a `<script>` that no browser executes. Names travel only inside these
//! bytes, so whatever they hold cannot end the element, and the page shows them as text.
//! The writer streams: tables are written as they are encoded, beside what the compressor holds
//! (half a megabyte).
//!
//! # Sources
//! Layout of the bytes: [`payload`]; its other reader is `web/src/payload.ts`. RFC 1952 (gzip),
//! RFC 4648 §4 (base64).
//!
//! # Versions
//! The payload carries one ([`payload::VERSION`]); a newer one is refused by name.
//!
//! # Not handled
//! Pages edited by hand so that the payload's element changed.
//!
//! # Cost
//! 100,000 stacks 60 deep (1.5 M stack nodes, 200,000 samples): 8.9 MB of payload, about 5 bytes
//! per node and sample, a page of 6 MB; 0.4 s of CPU to write, the one numbering included.

pub mod payload;

#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};

use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use base64::{read::DecoderReader, write::EncoderWriter};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use hotframe_core::profile::Profile;

use crate::{Comparison, Limits};

pub use payload::PayloadError;

/// The built page, with [`MARKER`] once.
const PAGE: &str = include_str!("../../../../web/dist/page.html");
/// Where the payload goes.
const MARKER: &str = "<!--hotframe-payload-->";
/// What stands before the base64; files are recognised by it.
const OPEN: &str = "<script type=\"application/octet-stream\" id=\"hotframe-payload\">";
/// What stands after it.
const CLOSE: &str = "</script>";

/// Why a page could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is no page of hotframe's.
    #[error("no profile in it: not a page that hotframe wrote")]
    NotOurs,
    /// The payload's element has no end.
    #[error("the file ends inside its profile: it is truncated")]
    Truncated,
    /// Base64 or gzip is damaged.
    #[error("unpacking the profile")]
    Unpack(#[source] io::Error),
    /// The bytes inside are not a profile.
    #[error("reading the profile")]
    Payload(#[from] PayloadError),
}

/// Writes the page of a profile.
///
/// # Errors
/// Those of `out`; a profile whose indices point outside its tables is still written as it is.
pub fn write(profile: &Profile, out: &mut impl Write) -> io::Result<()> {
    page(out, |packed| payload::write(profile, packed))
}

/// Writes the page of two recordings, as a differential flame graph.
///
/// # Errors
/// Those of `out`.
pub fn write_comparison(comparison: &Comparison, out: &mut impl Write) -> io::Result<()> {
    page(out, |packed| payload::write_comparison(comparison, packed))
}

/// The page around a payload.
fn page<W: Write>(
    out: &mut W,
    payload: impl FnOnce(
        &mut GzEncoder<EncoderWriter<'static, GeneralPurpose, &mut W>>,
    ) -> io::Result<()>,
) -> io::Result<()> {
    let (before, after) = PAGE.split_once(MARKER).ok_or_else(|| {
        io::Error::other("web/dist/page.html was built without a place for the profile")
    })?;
    out.write_all(before.as_bytes())?;
    out.write_all(OPEN.as_bytes())?;
    let mut packed = GzEncoder::new(EncoderWriter::new(&mut *out, &STANDARD), Compression::new(6));
    payload(&mut packed)?;
    packed.finish()?.finish()?;
    out.write_all(CLOSE.as_bytes())?;
    out.write_all(after.as_bytes())
}

/// The Content-Security-Policy that every page has in its `<meta>` element, for servers to send
/// as a header too.
pub fn policy() -> Option<&'static str> {
    let (_, rest) = PAGE.split_once("http-equiv=\"Content-Security-Policy\" content=\"")?;
    Some(rest.split_once('"')?.0)
}

/// Whether these bytes are a page with a profile inside.
pub fn is_page(bytes: &[u8]) -> bool {
    find(bytes, OPEN.as_bytes()).is_some()
}

/// Reads the profile of a page.
///
/// # Errors
/// What is wrong with the file; nothing of a damaged one is returned.
pub fn read(bytes: &[u8]) -> Result<Profile, Error> {
    read_within(bytes, &Limits::default())
}

/// [`read`] within other limits.
///
/// # Errors
/// Likewise.
pub fn read_within(bytes: &[u8], limits: &Limits) -> Result<Profile, Error> {
    Ok(payload::read(&unpack(bytes, limits)?, limits)?)
}

/// Reads the comparison of a page; `Ok(None)` for the page of a single profile.
///
/// # Errors
/// What is wrong with the file.
pub fn read_comparison(bytes: &[u8]) -> Result<Option<Comparison>, Error> {
    let limits = Limits::default();
    Ok(payload::read_comparison(&unpack(bytes, &limits)?, &limits)?)
}

/// The payload's bytes.
fn unpack(bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, Error> {
    let start = find(bytes, OPEN.as_bytes()).ok_or(Error::NotOurs)? + OPEN.len();
    let rest = bytes.get(start..).unwrap_or_default();
    let end = find(rest, CLOSE.as_bytes()).ok_or(Error::Truncated)?;
    let packed = rest.get(..end).unwrap_or_default();
    let mut plain = Vec::new();
    GzDecoder::new(DecoderReader::new(packed, &STANDARD))
        .take((limits.bytes as u64).saturating_add(1))
        .read_to_end(&mut plain)
        .map_err(Error::Unpack)?;
    Ok(plain)
}

/// The first place of `needle`.
fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(step) = haystack.get(from..)?.iter().position(|&byte| byte == first) {
        let at = from + step;
        if haystack.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}
