//! Recognises the format of a file by its first bytes.

use std::fmt;

use super::{Recognised, Rejection};

/// A supported format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// ISO/IEC 10918.
    Jpeg,
    /// W3C Portable Network Graphics.
    Png,
    /// RFC 9649.
    WebP,
    /// ISO/IEC 23008-12, with an HEVC picture.
    #[cfg(feature = "heic")]
    Heic,
}

/// How far the search for the first element of a text skips white space and comments, in bytes.
const TEXT_SEARCHED: usize = 4096;

impl Format {
    /// Recognises the format by the first bytes.
    ///
    /// # Errors
    /// Names the actual format, if it is known.
    pub fn recognise(bytes: &[u8]) -> Result<Self, Rejection> {
        match bytes {
            [] => Err(Rejection::Empty),
            [0xff, 0xd8, 0xff, ..] => Ok(Self::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Self::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Self::WebP),
            #[cfg(feature = "heic")]
            _ if other(bytes) == Some(Recognised::Heic) => Ok(Self::Heic),
            _ => Err(other(bytes).map_or(Rejection::NotAnImage, Rejection::UnsupportedFormat)),
        }
    }

    /// `jpeg`, `png` or `webp`.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::WebP => "webp",
            #[cfg(feature = "heic")]
            Self::Heic => "heic",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            #[cfg(feature = "heic")]
            Self::Heic => "HEIC",
        })
    }
}

fn other(bytes: &[u8]) -> Option<Recognised> {
    match bytes {
        [b'G', b'I', b'F', b'8', ..] => Some(Recognised::Gif),
        [b'%', b'P', b'D', b'F', b'-', ..] => Some(Recognised::Pdf),
        [b'I', b'I', 0x2a, 0, ..] | [b'M', b'M', 0, 0x2a, ..] => Some(Recognised::Tiff),
        [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => Some(Recognised::JpegXl),
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Some(Recognised::Bmp),
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => Some(by_brand(brand)),
        _ => by_first_element(bytes),
    }
}

/// Recognises files that consist of boxes (ISO/IEC 14496-12). The major brand tells pictures from videos.
fn by_brand(brand: &[u8]) -> Recognised {
    match brand.get(..4) {
        Some(b"avif" | b"avis") => Recognised::Avif,
        Some(b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1") => {
            Recognised::Heic
        }
        _ => Recognised::Video,
    }
}

fn by_first_element(bytes: &[u8]) -> Option<Recognised> {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_SEARCHED)]);
    let head = head.trim_start_matches('\u{feff}').to_ascii_lowercase();
    let mut rest = head.trim_start();
    loop {
        let end = match rest {
            _ if rest.starts_with("<!--") => "-->",
            _ if rest.starts_with("<?") => "?>",
            _ if rest.starts_with("<!doctype svg") => return Some(Recognised::Svg),
            _ => break,
        };
        rest = rest.split_once(end)?.1.trim_start();
    }
    let html = ["<!doctype html", "<html", "<head", "<body", "<script"];
    if rest.starts_with("<svg") {
        Some(Recognised::Svg)
    } else if html.iter().any(|start| rest.starts_with(start)) {
        Some(Recognised::Html)
    } else {
        None
    }
}
