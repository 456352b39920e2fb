//! A photo, judged by its bytes: never by the declared type, the file name or the client's word (C2).
//! What leaves is a new picture (T2): upright, in sRGB, opaque, of at most 2048 pixels a side, and without
//! a byte of the file that it was made from but its pixels.
//!
//! The model's loader opens a file and converts it to RGB. It knows neither orientation nor colour profile
//! nor alpha, so all of them are applied here.
//!
//! Judging goes from cheap to dear: length, first bytes, header, structure, and only then pixels.

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

/// What a photo may cost before it is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Length of the file, in bytes.
    pub max_bytes: usize,
    /// Each side, in pixels, at least.
    pub min_side: u32,
    /// Each side, in pixels, at most.
    pub max_side: u32,
    /// Width times height, at most.
    pub max_pixels: u64,
    /// Memory that decoding takes, working copies included, in bytes.
    pub max_decoded_bytes: u64,
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

/// What a header says, before anything is decoded.
struct Frame {
    /// In pixels, as stored.
    width: u32,
    /// In pixels, as stored.
    height: u32,
    /// An upper bound, working copies of the decoder included.
    decoding_bytes: u64,
}

/// A photo that can be used: whole, still, of a size that we take, measured, and prepared for the model.
///
/// Its `Debug` shows measures only, for it may end up in a log (R5).
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
    /// The longest file that is taken, in bytes; the limit of the bucket.
    pub const LARGEST: usize = 25 * 1024 * 1024;

    /// The media type of what is prepared, whatever the photo's own format is.
    pub const PREPARED_TYPE: &str = "image/jpeg";

    /// Judges and prepares within the usual [`Limits`].
    ///
    /// # Errors
    /// Says why these bytes cannot be used.
    pub fn prepare(bytes: &Bytes) -> Result<Self, Rejection> {
        Self::prepare_within(bytes, &Limits::default())
    }

    /// Judges `bytes`, and writes what the model will see. Decodes once, and not at all what a header already
    /// rules out. This takes processor time (about a second for the largest), and beside the file up to
    /// [`Limits::max_decoded_bytes`] of memory and about 100 MB to work in.
    ///
    /// # Errors
    /// Says why these bytes cannot be used.
    pub fn prepare_within(bytes: &Bytes, limits: &Limits) -> Result<Self, Rejection> {
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

    /// What the model will see (T2): a JPEG of [`Photo::PREPARED_TYPE`].
    #[must_use]
    pub fn into_prepared(self) -> Bytes {
        self.prepared
    }

    /// `jpeg`, `png`, `webp` or `heic`: what the bytes were.
    #[must_use]
    pub fn format_name(&self) -> &'static str {
        self.format.name()
    }

    /// In pixels, as people see it: after the orientation is applied.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// In pixels, as people see it: after the orientation is applied.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Length of the judged file, in bytes.
    #[must_use]
    pub fn byte_size(&self) -> usize {
        self.byte_size
    }

    /// SHA-256 of the judged bytes, in lower-case hexadecimal.
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
