//! Bounded decompression: the bytes of a file that may or may not be gzipped.

use std::borrow::Cow;
use std::io::Read;

use crate::{Error, Limits};

/// The bytes themselves, or what their gzip stream holds.
///
/// # Errors
/// [`Error::Decompress`], [`Error::TooLarge`].
pub(crate) fn inflate<'a>(
    format: &'static str,
    bytes: &'a [u8],
    limits: &Limits,
) -> Result<Cow<'a, [u8]>, Error> {
    let too_large = || Error::TooLarge { format, what: "bytes", limit: limits.bytes as u64 };
    if !is_packed(bytes) {
        return match bytes.len() <= limits.bytes {
            true => Ok(Cow::Borrowed(bytes)),
            false => Err(too_large()),
        };
    }
    let mut inflated = Vec::new();
    let result = flate2::read::MultiGzDecoder::new(bytes)
        .take(limits.bytes as u64 + 1)
        .read_to_end(&mut inflated);
    if let Err(cause) = result {
        return Err(Error::Decompress { format, offset: inflated.len() as u64, cause });
    }
    match inflated.len() <= limits.bytes {
        true => Ok(Cow::Owned(inflated)),
        false => Err(too_large()),
    }
}

/// Whether these bytes are a gzip stream.
pub(crate) fn is_packed(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// The first bytes of what a file holds, unpacked, to see what it is; a damaged stream gives what
/// comes before the damage.
pub(crate) fn head(bytes: &[u8]) -> Cow<'_, [u8]> {
    const HEAD_BYTES: u64 = 64 << 10;
    if !is_packed(bytes) {
        return Cow::Borrowed(bytes);
    }
    let mut head = Vec::new();
    let _ = flate2::read::MultiGzDecoder::new(bytes).take(HEAD_BYTES).read_to_end(&mut head);
    Cow::Owned(head)
}
