//! WebP (RFC 9649).

use std::io::{Cursor, ErrorKind};
use std::ops::Range;

use image::ImageError;
use image::codecs::webp::WebPDecoder;

use super::{Format, Frame, Limits, Orientation, Picture, Rejection, colour_space};

const CORRUPT: Rejection = Rejection::Corrupt(Format::WebP);
const TRUNCATED: Rejection = Rejection::Truncated(Format::WebP);
const ANIMATED: Rejection = Rejection::Animated(Format::WebP);

/// Flags in the first byte of VP8X, and the position of that byte.
const ALPHA: u8 = 0x10;
const ANIMATION: u8 = 0x02;
const FLAGS: usize = 20;
/// The position of the length that the file states.
const LENGTH: Range<usize> = 4..8;

/// The chunks of a still picture.
struct Still<'a> {
    /// Flags and canvas; only in a file of the extended form.
    extended: Option<&'a [u8; 10]>,
    profile: Option<&'a [u8]>,
    has_alpha_chunk: bool,
    picture: Data<'a>,
    orientation: Orientation,
}

/// The chunk that holds the pixels.
enum Data<'a> {
    Lossy(&'a [u8]),
    Lossless(&'a [u8]),
}

/// Decodes the pixels. The decoder trusts the flags and the stated length, so both are
/// first corrected to match the file.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Picture, Rejection> {
    let still = read(bytes)?;
    let frame = frame(&still)?;
    limits.check(&frame)?;
    let mut file = bytes.to_vec();
    let length = u32::try_from(file.len() - 8).map_err(|_| CORRUPT)?;
    file[LENGTH].copy_from_slice(&length.to_le_bytes());
    if let Some(&[flags, ..]) = still.extended {
        file[FLAGS] = match still.picture {
            Data::Lossy(_) if still.has_alpha_chunk => ALPHA,
            Data::Lossy(_) => 0,
            Data::Lossless(_) => flags & ALPHA,
        };
    }
    let decoded = WebPDecoder::new(Cursor::new(file))
        .and_then(|decoder| Picture::read(decoder, limits.max_decoded_bytes, still.orientation))
        .map_err(|error| match error {
            ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => TRUNCATED,
            _ => CORRUPT,
        })?;
    let picture = decoded.ok_or(CORRUPT)?;
    let is_as_promised = (picture.width, picture.height) == (frame.width, frame.height);
    if !is_as_promised {
        return Err(CORRUPT);
    }
    Ok(Picture { profile: still.profile.and_then(colour_space::of_icc), ..picture })
}

/// Reads the headers of canvas and picture, which must agree.
fn frame(still: &Still) -> Result<Frame, Rejection> {
    let (width, height) = still.picture.size()?;
    if still.extended.is_some_and(|canvas| canvas_size(canvas) != (width, height)) {
        return Err(CORRUPT);
    }
    // Bytes for one pixel: four for the result, plus the planes, the unfiltered alpha or a second copy.
    let pixel = match still.picture {
        Data::Lossy(_) if still.has_alpha_chunk => 11,
        Data::Lossy(_) => 6,
        Data::Lossless(_) => 8,
    };
    Ok(Frame { width, height, decoding_bytes: u64::from(width) * u64::from(height) * pixel })
}

fn read(bytes: &[u8]) -> Result<Still<'_>, Rejection> {
    let first: &[u8; 4] = bytes.get(12..).and_then(<[u8]>::first_chunk).ok_or(TRUNCATED)?;
    let is_extended = first == b"VP8X";
    if !is_extended && !matches!(first, b"VP8 " | b"VP8L") {
        return Err(CORRUPT);
    }
    let extended = match chunks(bytes).next().filter(|_| is_extended) {
        Some((_, data)) => Some(data.first_chunk().ok_or(CORRUPT)?),
        None if is_extended => return Err(TRUNCATED),
        None => None,
    };
    // In the simple form the picture is the only chunk, so anything after it is ignored.
    let find = |id: &[u8; 4]| {
        let mut chunks = chunks(bytes).take(if is_extended { usize::MAX } else { 1 });
        chunks.find(|(found, _)| *found == id).map(|(_, data)| data)
    };
    let is_animated = extended.is_some_and(|extended| extended[0] & ANIMATION != 0);
    if is_animated || find(b"ANIM").is_some() || find(b"ANMF").is_some() {
        return Err(ANIMATED);
    }
    let picture = match (find(b"VP8 "), find(b"VP8L")) {
        (Some(data), None) => Data::Lossy(data),
        (None, Some(data)) => Data::Lossless(data),
        // There is no complete chunk with pixels, so the file was cut in it.
        (None, None) => return Err(TRUNCATED),
        _ => return Err(CORRUPT),
    };
    let orientation = find(b"EXIF").map_or(Orientation::UPRIGHT, |exif| {
        // Some programs also write the prefix that belongs to JPEG.
        Orientation::from_exif(exif.strip_prefix(b"Exif\0\0").unwrap_or(exif))
    });
    Ok(Still {
        extended,
        profile: find(b"ICCP"),
        has_alpha_chunk: find(b"ALPH").is_some(),
        picture,
        orientation,
    })
}

/// The complete chunks with their names. The length that the file states is not used.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    let mut rest = bytes.get(12..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (id, tail) = rest.split_first_chunk()?;
        let (length, tail) = tail.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (data, _) = tail.split_at_checked(length)?;
        rest = tail.get(length.next_multiple_of(2)..).unwrap_or_default();
        Some((id, data))
    })
}

fn canvas_size(&[_, _, _, _, w0, w1, w2, h0, h1, h2]: &[u8; 10]) -> (u32, u32) {
    (u32::from_le_bytes([w0, w1, w2, 0]) + 1, u32::from_le_bytes([h0, h1, h2, 0]) + 1)
}

impl Data<'_> {
    /// The size from the picture's own header. The decoder allocates by it, so it is checked in both forms.
    fn size(&self) -> Result<(u32, u32), Rejection> {
        match *self {
            Self::Lossy(&[_, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..]) => {
                let side = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3fff);
                Ok((side([w0, w1]), side([h0, h1])))
            }
            Self::Lossless(&[0x2f, b0, b1, b2, b3, ..]) => {
                let bits = u32::from_le_bytes([b0, b1, b2, b3]);
                Ok(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
            }
            _ => Err(CORRUPT),
        }
    }
}
