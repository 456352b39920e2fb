//! Checks a photo by its bytes, never by the declared type, the file name or the client's word (C2). The
//! prepared photo is a new picture (T2): upright, in sRGB, opaque, and at most 2048 pixels on each side. It
//! takes nothing from the original file except its pixels.
//!
//! The model's loader opens a file and converts it to RGB. It ignores orientation, colour profile and alpha,
//! so this crate applies all of them.
//!
//! The checks run from cheap to expensive: length, first bytes, header, structure, and pixels last.

use std::fmt;

use bytes::Bytes;
use sha2::{Digest, Sha256};

mod colour;
mod colour_space;
mod format;
#[cfg(feature = "heic")]
mod heic;
mod jpeg;
mod orientation;
mod picture;
mod png;
mod prepared;
#[cfg(test)]
mod properties;
mod rejection;
mod resize;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
mod webp;

pub use format::Format;
pub use rejection::{Recognised, Rejection};

use orientation::Orientation;
use picture::Picture;

/// The limits that a photo must keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Largest length of the file, in bytes.
    pub(crate) max_bytes: usize,
    /// Smallest length of each side, in pixels.
    pub(crate) min_side: u32,
    /// Largest length of each side, in pixels.
    pub(crate) max_side: u32,
    /// Largest width times height, in pixels.
    pub(crate) max_pixels: u64,
    /// Largest memory for decoding, in bytes, including working copies.
    pub(crate) max_decoded_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: Photo::LARGEST,
            min_side: 16,
            max_side: 16_384,
            max_pixels: 50_000_000,
            max_decoded_bytes: 480 * 1024 * 1024,
        }
    }
}

impl Limits {
    fn check(&self, frame: &Frame) -> Result<(), Rejection> {
        let sides = [frame.width, frame.height];
        let pixels = u64::from(frame.width) * u64::from(frame.height);
        if sides.iter().any(|&side| side > self.max_side) || pixels > self.max_pixels {
            return Err(Rejection::DimensionsTooLarge {
                max_side: self.max_side,
                max_pixels: self.max_pixels,
            });
        }
        if sides.iter().any(|&side| side < self.min_side) {
            return Err(Rejection::DimensionsTooSmall { min_side: self.min_side });
        }
        if frame.decoding_bytes > self.max_decoded_bytes {
            return Err(Rejection::DecodedSizeTooLarge);
        }
        Ok(())
    }
}

/// The content of a header, known before decoding.
struct Frame {
    /// In pixels, as stored.
    width: u32,
    /// In pixels, as stored.
    height: u32,
    /// An upper bound, including the decoder's working copies.
    decoding_bytes: u64,
}

/// A usable photo: complete, not animated, of an accepted size, measured, and prepared for the model.
///
/// `Debug` shows only measurements, because it may end up in a log (R5).
#[derive(Clone)]
pub struct Photo {
    format: Format,
    width: u32,
    height: u32,
    byte_size: usize,
    sha256: String,
    prepared: Bytes,
}

impl Photo {
    /// The largest accepted file, in bytes. It equals the limit of the bucket.
    pub const LARGEST: usize = 25 * 1024 * 1024;

    /// The media type of the prepared photo, whatever the original format is.
    pub const PREPARED_TYPE: &str = "image/jpeg";

    /// Checks and prepares a photo within the usual `Limits`.
    ///
    /// # Errors
    /// Says why these bytes cannot be used.
    pub fn prepare(bytes: &Bytes) -> Result<Self, Rejection> {
        Self::prepare_within(bytes, &Limits::default())
    }

    /// Checks `bytes` and prepares the photo for the model. Decodes only once, and only if the header passes
    /// all checks. This takes processor time (about a second for the largest photo). In addition to the file,
    /// it needs up to [`Limits::max_decoded_bytes`] of memory and about 100 MB to work in.
    ///
    /// # Errors
    /// Says why these bytes cannot be used.
    pub(crate) fn prepare_within(bytes: &Bytes, limits: &Limits) -> Result<Self, Rejection> {
        if bytes.len() > limits.max_bytes {
            return Err(Rejection::TooManyBytes { max_bytes: limits.max_bytes });
        }
        let format = Format::recognise(bytes)?;
        let picture = match format {
            Format::Jpeg => jpeg::decode(bytes, limits),
            Format::Png => png::decode(bytes, limits),
            Format::WebP => webp::decode(bytes, limits),
            #[cfg(feature = "heic")]
            Format::Heic => heic::decode(bytes, limits),
        }?;
        let (width, height) = picture.size_as_seen();
        let prepared = prepared::write(picture).ok_or(Rejection::Corrupt(format))?;
        Ok(Self {
            format,
            width,
            height,
            byte_size: bytes.len(),
            sha256: hex::encode(Sha256::digest(bytes)),
            prepared: prepared.into(),
        })
    }

    /// The picture that the model will see (T2): a JPEG of [`Photo::PREPARED_TYPE`].
    #[must_use]
    pub fn into_prepared(self) -> Bytes {
        self.prepared
    }

    /// The format of the original: `jpeg`, `png`, `webp` or `heic`.
    #[must_use]
    pub fn format_name(&self) -> &'static str {
        self.format.name()
    }

    /// Width in pixels, as people see it: after the orientation is applied.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels, as people see it: after the orientation is applied.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Length of the original file, in bytes.
    #[must_use]
    pub fn byte_size(&self) -> usize {
        self.byte_size
    }

    /// SHA-256 of the original bytes, in lower-case hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

impl fmt::Debug for Photo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Photo")
            .field("format", &self.format)
            .field("width", &self.width)
            .field("height", &self.height)
            .field("byte_size", &self.byte_size)
            .finish_non_exhaustive()
    }
}
