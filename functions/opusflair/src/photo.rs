//! A photo, judged by its bytes: never by the declared type, the file name or the client's word (C2).
//!
//! Judging goes from cheap to dear: length, first bytes, header, structure, and only then pixels. What
//! is decoded is what is left after stripping (T2), so that the very bytes that leave are the ones
//! that were proved whole.

use std::fmt;

use bytes::Bytes;
use sha2::{Digest, Sha256};

mod decode;
mod format;
mod icc;
mod jpeg;
mod jpeg_parts;
mod orientation;
mod png;
#[cfg(test)]
mod properties;
mod rejection;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
mod webp;

pub use format::Format;
pub use rejection::{Recognised, Rejection};

use orientation::Orientation;

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
            max_side: 12_000,
            max_pixels: 40_000_000,
            max_decoded_bytes: 384 * 1024 * 1024,
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
        if pixels * frame.decoding_bytes_per_pixel > self.max_decoded_bytes {
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
    decoding_bytes_per_pixel: u64,
}

/// A picture without its metadata.
struct Cleaned {
    bytes: Bytes,
    orientation: Orientation,
}

/// A photo that can be used: whole, still, of a size that we take, and measured.
///
/// Its `Debug` shows measures only, for it may end up in a log (R5).
#[derive(Clone)]
pub struct Photo {
    format: Format,
    stored_width: u32,
    stored_height: u32,
    orientation: Orientation,
    byte_size: usize,
    sha256: String,
    clean: Bytes,
    is_clean: bool,
}

impl Photo {
    /// The longest file that is taken, in bytes; the limit of the bucket.
    pub const LARGEST: usize = 10 * 1024 * 1024;

    /// Judges within the usual [`Limits`].
    ///
    /// # Errors
    /// Says why these bytes cannot be used.
    pub fn judge(bytes: Bytes) -> Result<Self, Rejection> {
        Self::judge_within(bytes, &Limits::default())
    }

    /// Judges `bytes`. Decodes once, and not at all what a header already rules out. This takes
    /// processor time (a second or two for the largest) and [`Limits::max_decoded_bytes`] of memory.
    ///
    /// # Errors
    /// Says why these bytes cannot be used.
    pub fn judge_within(bytes: Bytes, limits: &Limits) -> Result<Self, Rejection> {
        if bytes.len() > limits.max_bytes {
            return Err(Rejection::TooManyBytes { max_bytes: limits.max_bytes });
        }
        let format = Format::recognise(&bytes)?;
        let frame = match format {
            Format::Jpeg => jpeg::frame(&bytes),
            Format::Png => png::frame(&bytes),
            Format::WebP => webp::frame(&bytes),
        }?;
        limits.check(&frame)?;
        let Cleaned { bytes: clean, orientation } = match format {
            Format::Jpeg => jpeg::clean(&bytes),
            Format::Png => png::clean(&bytes),
            Format::WebP => webp::clean(&bytes),
        }?;
        decode::prove_whole(format, &clean, &frame, limits)?;

        let is_clean = clean == bytes;
        Ok(Self {
            format,
            stored_width: frame.width,
            stored_height: frame.height,
            orientation,
            byte_size: bytes.len(),
            sha256: hex::encode(Sha256::digest(&bytes)),
            clean: if is_clean { bytes } else { clean },
            is_clean,
        })
    }

    /// The same picture without its metadata (T2), if there was any to remove: place, time, camera,
    /// captions, thumbnails, whatever an application had added, and whatever followed the end. Its
    /// pixels, its colour profile and its orientation are the same.
    #[must_use]
    pub fn stripped(&self) -> Option<Bytes> {
        (!self.is_clean).then(|| self.clean.clone())
    }

    /// The picture without metadata (T2): [`Photo::stripped`], or the judged bytes if these were
    /// clean already.
    #[must_use]
    pub fn into_clean(self) -> Bytes {
        self.clean
    }

    /// The format, by the bytes.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// `jpeg`, `png` or `webp`.
    #[must_use]
    pub fn format_name(&self) -> &'static str {
        self.format.name()
    }

    /// Such as `image/jpeg`.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        self.format.content_type()
    }

    /// In pixels, as people see it: after the orientation is applied.
    #[must_use]
    pub fn width(&self) -> u32 {
        if self.orientation.swaps_sides() { self.stored_height } else { self.stored_width }
    }

    /// In pixels, as people see it: after the orientation is applied.
    #[must_use]
    pub fn height(&self) -> u32 {
        if self.orientation.swaps_sides() { self.stored_width } else { self.stored_height }
    }

    /// Width and height in pixels, as stored: before the orientation is applied.
    #[must_use]
    pub fn stored_size(&self) -> (u32, u32) {
        (self.stored_width, self.stored_height)
    }

    /// The Exif orientation, 1 to 8; 1 where there is none that can be read.
    #[must_use]
    pub fn orientation(&self) -> u8 {
        self.orientation.value()
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
            .field("width", &self.width())
            .field("height", &self.height())
            .field("byte_size", &self.byte_size)
            .finish_non_exhaustive()
    }
}
