//! PNG (W3C, third edition).

use std::borrow::Cow;
use std::io::{Cursor, ErrorKind};

use image::ImageError;
use image::codecs::png::PngDecoder;
use moxcms::ColorProfile;

use super::{Format, Frame, Limits, Orientation, Picture, Rejection, colour_space};

const CORRUPT: Rejection = Rejection::Corrupt(Format::Png);
const TRUNCATED: Rejection = Rejection::Truncated(Format::Png);
/// The start of every file after the signature: the header chunk, with its length of 13 bytes.
const FIRST_CHUNK: &[u8; 8] = b"\0\0\0\x0dIHDR";
/// Memory that the decoder may use in addition to the pixels, in bytes: for a few rows and the colour
/// profile. A profile that needs more is ignored.
const MAX_UNPACKED: u64 = 64 * 1024 * 1024;

/// Decodes the pixels. An end marker may be missing, and checksums of chunks without pixels may be wrong.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Picture, Rejection> {
    limits.check(&frame(bytes)?)?;
    if chunks(bytes).any(|(kind, _)| matches!(kind, b"acTL" | b"fdAT")) {
        return Err(Rejection::Animated(Format::Png));
    }
    let exif = chunks(bytes).find(|(kind, _)| *kind == b"eXIf");
    let orientation = exif.map_or(Orientation::UPRIGHT, |(_, exif)| Orientation::from_exif(exif));
    let mut memory = image::Limits::default();
    memory.max_alloc = Some(MAX_UNPACKED.min(limits.max_decoded_bytes));
    // The decoder requires a chunk after the last one with pixels.
    let has_end = chunks(bytes).any(|(kind, _)| kind == b"IEND");
    let file = if has_end { Cow::Borrowed(bytes) } else { Cow::Owned(ended(bytes)) };
    PngDecoder::with_limits(Cursor::new(&file[..]), memory)
        .and_then(|decoder| Picture::read(decoder, limits.max_decoded_bytes, orientation))
        .map_err(|error| match error {
            _ if !has_end => TRUNCATED,
            ImageError::Limits(_) => Rejection::DecodedSizeTooLarge,
            ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => TRUNCATED,
            _ => CORRUPT,
        })?
        .map(|picture| Picture { profile: colour_space(bytes, picture.profile), ..picture })
        .ok_or(CORRUPT)
}

/// The colour space, in the standard's order of precedence: code points, a profile,
/// sRGB, and the oldest chunks last.
fn colour_space(bytes: &[u8], embedded: Option<ColorProfile>) -> Option<ColorProfile> {
    let find = |name: &[u8; 4]| {
        let mut before_pixels = chunks(bytes).take_while(|(kind, _)| *kind != b"IDAT");
        before_pixels.find(|(kind, _)| *kind == name).map(|(_, data)| data)
    };
    let older = || match find(b"sRGB") {
        Some(_) => None,
        None => colour_space::of_gamma(find(b"gAMA")?, find(b"cHRM")),
    };
    find(b"cICP").and_then(colour_space::of_cicp).or(embedded).or_else(older)
}

/// Reads the header, which is always in the first 33 bytes.
fn frame(bytes: &[u8]) -> Result<Frame, Rejection> {
    let after_signature = bytes.get(8..).unwrap_or_default();
    let common = after_signature.len().min(FIRST_CHUNK.len());
    if after_signature[..common] != FIRST_CHUNK[..common] {
        return Err(CORRUPT);
    }
    let &[w3, w2, w1, w0, h3, h2, h1, h0, depth, colour, ..] =
        after_signature.get(8..).unwrap_or_default()
    else {
        return Err(TRUNCATED);
    };
    // Number of channels after decoding: palettes are resolved, and any of these may gain an alpha channel.
    let channels = match colour {
        0 | 4 => 2,
        2 | 3 | 6 => 4,
        _ => return Err(CORRUPT),
    };
    let (width, height) =
        (u32::from_be_bytes([w3, w2, w1, w0]), u32::from_be_bytes([h3, h2, h1, h0]));
    let pixel = channels * if depth == 16 { 2 } else { 1 };
    let decoding_bytes = (u64::from(width) * u64::from(height)).saturating_mul(pixel);
    Ok(Frame { width, height, decoding_bytes })
}

/// The complete chunks, followed by an end marker.
fn ended(bytes: &[u8]) -> Vec<u8> {
    let whole = 8 + chunks(bytes).map(|(_, data)| data.len() + 12).sum::<usize>();
    [&bytes[..whole], b"\0\0\0\0IEND\xae\x42\x60\x82"].concat()
}

/// The complete chunks with their names, from the header to the end.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    let mut rest = bytes.get(8..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, tail) = rest.split_first_chunk()?;
        let (kind, tail) = tail.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (data, tail) = tail.split_at_checked(length)?;
        let (_checksum, tail) = tail.split_at_checked(4)?;
        rest = if kind == b"IEND" { &[] } else { tail };
        Some((kind, data))
    })
}
