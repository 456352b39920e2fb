//! WebP (RFC 9649): the header, and the picture without its metadata chunks.

use bytes::Bytes;
use img_parts::riff::{RiffChunk, RiffContent};

use super::{Cleaned, Format, Frame, Orientation, Rejection, icc};

const CORRUPT: Rejection = Rejection::Corrupt(Format::WebP);
const TRUNCATED: Rejection = Rejection::Truncated(Format::WebP);

/// Flags in the first byte of VP8X.
const PROFILE: u8 = 0x20;
const ALPHA: u8 = 0x10;
const EXIF: u8 = 0x08;
const ANIMATION: u8 = 0x02;

/// A still picture's chunks.
struct Still {
    /// Flags and canvas, in a file of the extended form.
    extended: Option<[u8; 10]>,
    profile: Option<Bytes>,
    alpha: Option<Bytes>,
    /// `VP8 ` or `VP8L`.
    kind: [u8; 4],
    data: Bytes,
    orientation: Orientation,
}

/// Reads the headers of canvas and picture, which must agree.
pub(super) fn frame(bytes: &Bytes) -> Result<Frame, Rejection> {
    let still = read(bytes)?;
    let (width, height) = picture_size(still.kind, &still.data)?;
    if still.extended.is_some_and(|canvas| canvas_size(&canvas) != (width, height)) {
        return Err(CORRUPT);
    }
    // Pixels of four bytes, and beside them the planes, the unfiltered alpha or a second copy.
    let decoding_bytes_per_pixel = match (&still.kind, still.alpha) {
        (b"VP8 ", None) => 6,
        (b"VP8 ", Some(_)) => 11,
        _ => 8,
    };
    Ok(Frame { width, height, decoding_bytes_per_pixel })
}

/// Keeps alpha and picture as they are, and of the rest what they need to look right.
pub(super) fn clean(bytes: &Bytes) -> Result<Cleaned, Rejection> {
    let Still { extended, profile, alpha, kind, data, orientation } = read(bytes)?;
    let profile = profile.and_then(|profile| icc::neutral(&profile)).map(Bytes::from);
    let exif = orientation.to_exif().map(|exif| Bytes::copy_from_slice(&exif));
    let extended = extended.map(|mut extended| {
        extended[0] = extended[0] & ALPHA
            | if profile.is_some() { PROFILE } else { 0 }
            | if exif.is_some() { EXIF } else { 0 };
        extended[1..4].fill(0);
        Bytes::copy_from_slice(&extended)
    });
    let subchunks = [
        (*b"VP8X", extended),
        (*b"ICCP", profile),
        (*b"ALPH", alpha),
        (kind, Some(data)),
        (*b"EXIF", exif),
    ];
    let subchunks = subchunks
        .into_iter()
        .filter_map(|(id, data)| Some(RiffChunk::new(id, RiffContent::Data(data?))))
        .collect();
    let riff = RiffContent::List { kind: Some(*b"WEBP"), subchunks };
    Ok(Cleaned { bytes: RiffChunk::new(*b"RIFF", riff).encoder().bytes(), orientation })
}

fn read(bytes: &Bytes) -> Result<Still, Rejection> {
    match bytes.get(12..16) {
        Some(b"VP8 " | b"VP8L" | b"VP8X") => {}
        Some(_) => return Err(CORRUPT),
        None => return Err(TRUNCATED),
    }
    let riff = RiffChunk::from_bytes(bytes.clone()).map_err(|error| match error {
        img_parts::Error::Truncated => TRUNCATED,
        _ => CORRUPT,
    })?;
    let (_, chunks) = riff.content().list().ok_or(CORRUPT)?;
    let first = chunks.first().ok_or(CORRUPT)?;
    // In the simple form nothing belongs behind the picture, and nothing there is read.
    let is_extended = &first.id() == b"VP8X";
    let chunks = if is_extended { &chunks[1..] } else { &chunks[..1] };
    let extended = match first.content().data().filter(|_| is_extended) {
        Some(data) => Some(*data.first_chunk().ok_or(CORRUPT)?),
        None => None,
    };
    let find = |id: &[u8; 4]| {
        let mut found = chunks.iter().filter(|chunk| &chunk.id() == id);
        found.next().and_then(|chunk| chunk.content().data()).cloned()
    };
    let is_animated = extended.is_some_and(|extended| extended[0] & ANIMATION != 0);
    if is_animated || find(b"ANIM").is_some() || find(b"ANMF").is_some() {
        return Err(Rejection::Animated(Format::WebP));
    }
    let (kind, data) = match (find(b"VP8 "), find(b"VP8L")) {
        (Some(data), None) => (*b"VP8 ", data),
        (None, Some(data)) => (*b"VP8L", data),
        _ => return Err(CORRUPT),
    };
    let orientation = find(b"EXIF").map_or(Orientation::UPRIGHT, |exif| {
        // Some programs write the prefix that belongs to JPEG.
        Orientation::from_exif(exif.strip_prefix(b"Exif\0\0").unwrap_or(&exif))
    });
    Ok(Still { extended, profile: find(b"ICCP"), alpha: find(b"ALPH"), kind, data, orientation })
}

fn canvas_size(&[_, _, _, _, w0, w1, w2, h0, h1, h2]: &[u8; 10]) -> (u32, u32) {
    (u32::from_le_bytes([w0, w1, w2, 0]) + 1, u32::from_le_bytes([h0, h1, h2, 0]) + 1)
}

/// The decoder allocates by this, so it is read here and not only for the simple form.
fn picture_size(kind: [u8; 4], data: &[u8]) -> Result<(u32, u32), Rejection> {
    match (&kind, data) {
        (b"VP8 ", &[_, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..]) => {
            let side = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3fff);
            Ok((side([w0, w1]), side([h0, h1])))
        }
        (b"VP8L", &[0x2f, b0, b1, b2, b3, ..]) => {
            let bits = u32::from_le_bytes([b0, b1, b2, b3]);
            Ok(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        _ => Err(CORRUPT),
    }
}
