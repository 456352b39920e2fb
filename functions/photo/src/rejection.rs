//! The reason for a refusal: a code for programs and a sentence for people. Neither
//! contains anything from the file (R5).

use super::Format;

/// The reason why bytes are not a usable photo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.code())]
pub enum Rejection {
    /// There are no bytes.
    Empty,
    /// The file is longer than `max_bytes`.
    TooManyBytes {
        /// In bytes.
        max_bytes: usize,
    },
    /// No known picture format.
    NotAnImage,
    /// A known format that is not supported.
    UnsupportedFormat(Recognised),
    /// The file ends before the picture does.
    Truncated(Format),
    /// The file starts like this format, but its content is invalid.
    Corrupt(Format),
    /// More than one frame.
    Animated(Format),
    /// A side or the area is over the limit.
    DimensionsTooLarge {
        /// In pixels.
        max_side: u32,
        /// Width times height.
        max_pixels: u64,
    },
    /// A side is under the limit.
    DimensionsTooSmall {
        /// In pixels.
        min_side: u32,
    },
    /// Decoding would take more memory than allowed.
    DecodedSizeTooLarge,
}

/// The format of a file that is not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognised {
    /// AV1 still picture.
    Avif,
    /// Windows bitmap.
    Bmp,
    /// Graphics Interchange Format, animated or not.
    Gif,
    /// The usual format of iPhones.
    Heic,
    /// A web page.
    Html,
    /// JPEG XL.
    JpegXl,
    /// A document.
    Pdf,
    /// A drawing in XML.
    Svg,
    /// TIFF, and the raw formats of cameras that are based on it.
    Tiff,
    /// A video, in one of the formats of MP4.
    Video,
    /// A kind of JPEG that hardly any program writes: lossless, arithmetic, 12 bits, hundreds of scans, or
    /// baseline with one scan per component.
    UnusualJpeg,
}

impl Recognised {
    fn name(self) -> &'static str {
        match self {
            Self::Avif => "an AVIF picture",
            Self::Bmp => "a BMP picture",
            Self::Gif => "a GIF",
            Self::Heic => "a HEIC picture",
            Self::Html => "a web page (HTML)",
            Self::JpegXl => "a JPEG XL picture",
            Self::Pdf => "a PDF document",
            Self::Svg => "an SVG drawing",
            Self::Tiff => "a TIFF or raw camera picture",
            Self::Video => "a video",
            Self::UnusualJpeg => "a JPEG of a rare kind",
        }
    }
}

impl Rejection {
    /// The machine-readable code. It stays the same across releases.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty_file",
            Self::TooManyBytes { .. } => "too_many_bytes",
            Self::NotAnImage => "not_an_image",
            Self::UnsupportedFormat(_) => "unsupported_format",
            Self::Truncated(_) => "truncated",
            Self::Corrupt(_) => "corrupt",
            Self::Animated(_) => "animated",
            Self::DimensionsTooLarge { .. } => "dimensions_too_large",
            Self::DimensionsTooSmall { .. } => "dimensions_too_small",
            Self::DecodedSizeTooLarge => "decoded_size_too_large",
        }
    }

    /// A sentence for people that says what is wrong and what to do about it.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::Empty => "This file is empty. Please choose the photo again.".to_owned(),
            Self::TooManyBytes { max_bytes } => format!(
                "This file is larger than {} MB. Please save a smaller version and upload that.",
                max_bytes / 1024 / 1024
            ),
            Self::NotAnImage => {
                "This file is not a picture. Please upload a JPEG, PNG or WebP photo.".to_owned()
            }
            Self::UnsupportedFormat(Recognised::Heic) => {
                "This is a HEIC picture, which we cannot use. On an iPhone, share it from Photos with the \
                 option Most Compatible, save it to Files, and upload the JPEG from there. For new photos, \
                 choose Settings, Camera, Formats, Most Compatible."
                    .to_owned()
            }
            Self::UnsupportedFormat(what) => format!(
                "This is {}, which we cannot use. Please save it as JPEG, PNG or WebP and upload that.",
                what.name()
            ),
            Self::Truncated(format) => format!(
                "This {format} file is incomplete: its end is missing. Please upload it again."
            ),
            Self::Corrupt(format) => format!(
                "This file begins like a {format} picture but cannot be read as one. \
                 Please open it in a photo program, save it again and upload the new file."
            ),
            Self::Animated(format) => format!(
                "This {format} picture is animated. Please save a single frame of it and upload that."
            ),
            Self::DimensionsTooLarge { max_side, max_pixels } => format!(
                "This picture is too large. The limit is {max_side} pixels a side and {} megapixels. \
                 Please save a smaller version and upload that.",
                max_pixels / 1_000_000
            ),
            Self::DimensionsTooSmall { min_side } => format!(
                "This picture is too small. Each side needs at least {min_side} pixels. \
                 Please upload a larger one."
            ),
            Self::DecodedSizeTooLarge => "This picture takes too much memory to open. \
                 Please save it smaller, or as an ordinary 8-bit RGB JPEG, and upload that."
                .to_owned(),
        }
    }
}
