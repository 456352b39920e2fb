//! PNG (W3C, third edition): the header, and the picture without its ancillary chunks.

use bytes::Bytes;
use img_parts::png::{Png, PngChunk};
use img_parts::{ImageEXIF, ImageICC};

use super::{Cleaned, Format, Frame, Orientation, Rejection, icc};

const CORRUPT: Rejection = Rejection::Corrupt(Format::Png);
const TRUNCATED: Rejection = Rejection::Truncated(Format::Png);
/// Of every file, after the signature: a chunk of 13 bytes, the header.
const FIRST_CHUNK: &[u8; 8] = b"\0\0\0\x0dIHDR";

/// Reads the header, which the format fixes to the first 33 bytes.
pub(super) fn frame(bytes: &[u8]) -> Result<Frame, Rejection> {
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
    // As decoded: palettes are resolved, and any of these may gain an alpha channel.
    let channels = match colour {
        0 | 4 => 2,
        2 | 3 | 6 => 4,
        _ => return Err(CORRUPT),
    };
    Ok(Frame {
        width: u32::from_be_bytes([w3, w2, w1, w0]),
        height: u32::from_be_bytes([h3, h2, h1, h0]),
        decoding_bytes_per_pixel: channels * if depth == 16 { 2 } else { 1 },
    })
}

/// The longest that a chunk which colours depend on may be, in bytes. All other ancillary chunks go;
/// profile and Exif are rewritten.
fn longest(kind: [u8; 4]) -> Option<usize> {
    match &kind {
        b"tRNS" => Some(256),
        b"cHRM" => Some(32),
        b"pHYs" => Some(9),
        b"bKGD" => Some(6),
        b"cICP" | b"gAMA" | b"sBIT" => Some(4),
        b"sRGB" => Some(1),
        _ => None,
    }
}

/// Keeps the critical chunks as they are, and of the rest what the picture needs to look right.
pub(super) fn clean(bytes: &Bytes) -> Result<Cleaned, Rejection> {
    let mut png = Png::from_bytes(bytes.clone()).map_err(|error| match error {
        img_parts::Error::Truncated => TRUNCATED,
        _ => CORRUPT,
    })?;
    if png.chunks().last().is_none_or(|chunk| &chunk.kind() != b"IEND") {
        return Err(TRUNCATED);
    }
    let orientation = png.exif().map_or(Orientation::UPRIGHT, |exif| Orientation::from_exif(&exif));
    let profile = png.icc_profile().and_then(|profile| icc::neutral(&profile));

    let chunks = std::mem::take(png.chunks_mut());
    *png.chunks_mut() = keep(chunks)?;
    if let Some(profile) = profile {
        png.set_icc_profile(Some(profile.into()));
    }
    if let Some(exif) = orientation.to_exif() {
        png.set_exif(Some(Bytes::copy_from_slice(&exif)));
    }
    Ok(Cleaned { bytes: png.encoder().bytes(), orientation })
}

fn keep(chunks: Vec<PngChunk>) -> Result<Vec<PngChunk>, Rejection> {
    let mut kept: Vec<PngChunk> = Vec::new();
    let mut is_in_data = false;
    for chunk in chunks {
        match &chunk.kind() {
            b"acTL" | b"fdAT" => return Err(Rejection::Animated(Format::Png)),
            b"IDAT" => {
                is_in_data = true;
                kept.push(chunk);
            }
            b"IEND" => kept.push(PngChunk::new(*b"IEND", Bytes::new())),
            // Once each, and before the data.
            kind @ (b"IHDR" | b"PLTE") => {
                if is_in_data || kept.iter().any(|kept| &kept.kind() == kind) {
                    return Err(CORRUPT);
                }
                kept.push(chunk);
            }
            // A capital: what does not know this chunk cannot show the picture.
            [b'A'..=b'Z', ..] => return Err(CORRUPT),
            &kind => {
                let is_short = longest(kind).is_some_and(|most| chunk.contents().len() <= most);
                if is_short && !is_in_data && kept.iter().all(|kept| kept.kind() != kind) {
                    kept.push(chunk);
                }
            }
        }
    }
    Ok(kept)
}
