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
    if !bytes.starts_with(&[0x1f, 0x8b]) {
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
