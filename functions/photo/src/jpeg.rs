//! JPEG (ITU-T T.81): headers, the application segments that matter, and the pixels.
//!
//! Other decoders paint missing parts grey and report success, so this one counts each block. It is also
//! built for pictures that will be shrunk. It decodes large ones at half their size, and shrinks each
//! component before it computes colours.

use super::picture::{Channels, Samples, fitted};
use super::prepared::LONGEST_SIDE;
use super::{Format, Frame, Limits, Orientation, Picture, Recognised, Rejection};

mod application;
mod decoder;
mod entropy;
mod header;
mod huffman;
mod idct;
mod parts;
mod plane;

use application::Application;
use decoder::Decoder;
use header::{FrameHeader, ScanHeader};
use idct::Scale;
use parts::{Part, Parts, marker};

const CORRUPT: Rejection = Rejection::Corrupt(Format::Jpeg);
const TRUNCATED: Rejection = Rejection::Truncated(Format::Jpeg);
const UNUSUAL: Rejection = Rejection::UnsupportedFormat(Recognised::UnusualJpeg);

/// The largest number of scans. Encoders write about ten. An empty scan takes a few bytes of the file, but
/// costs a pass over all pixels.
const MAX_SCANS: usize = 64;

/// Decodes a complete picture, at most as large as the prepared photo needs. An end marker may be missing.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Picture, Rejection> {
    let frame = frame(bytes)?;
    let stored = (u32::from(frame.width), u32::from(frame.height));
    let scale = if stored.0.max(stored.1) < 2 * LONGEST_SIDE { Scale::Whole } else { Scale::Half };
    limits.check(&frame.cost(scale))?;
    let (application, decoder) = read(bytes, &frame, scale)?;
    let (width, height) = fitted(stored.0, stored.1, LONGEST_SIDE).ok_or(CORRUPT)?;
    let components = decoder.into_samples(width, height).ok_or(CORRUPT)?;
    let (channels, samples) = pixels(&components, &frame, &application);
    Ok(Picture {
        stored,
        width,
        height,
        channels,
        samples: Samples::Eight(samples),
        profile: application.colour_space(),
        orientation: application.orientation.unwrap_or(Orientation::UPRIGHT),
    })
}

/// Reads the file up to the frame header.
fn frame(bytes: &[u8]) -> Result<FrameHeader, Rejection> {
    for part in Parts::of(bytes) {
        match part? {
            Part::Segment(sof @ marker::SOF0..=marker::SOF2, payload) => {
                return FrameHeader::read(sof, payload);
            }
            Part::Segment(marker, _) if marker::is_unusual_frame(marker) => return Err(UNUSUAL),
            Part::Segment(marker::SOS, _) => break,
            _ => {}
        }
    }
    Err(CORRUPT)
}

/// Reads all coded data, and checks that each block is complete to its full precision.
fn read<'a>(
    bytes: &[u8],
    frame: &'a FrameHeader,
    scale: Scale,
) -> Result<(Application, Decoder<'a>), Rejection> {
    let mut application = Application::default();
    let mut decoder = Decoder::of(frame, scale);
    let mut scan: Option<ScanHeader> = None;
    let (mut frames, mut scans) = (0, 0);
    for part in Parts::of(bytes) {
        match part {
            // After the last pixel, invalid data or a missing end does no harm.
            Err(_) if decoder.is_whole() => break,
            Err(TRUNCATED) if scans > 0 => break,
            part => match part? {
                Part::Scan(data) => decoder.read(&scan.take().ok_or(CORRUPT)?, data)?,
                Part::Segment(marker::SOS, payload) => {
                    scans += 1;
                    if scans > MAX_SCANS {
                        return Err(UNUSUAL);
                    }
                    scan = Some(ScanHeader::read(payload, frame)?);
                }
                Part::Segment(marker::SOF0..=marker::SOF2, _) => frames += 1,
                Part::Segment(marker::DQT, payload) => decoder.define_quantisation(payload)?,
                Part::Segment(marker::DHT, payload) => decoder.define_tables(payload)?,
                Part::Segment(marker::DRI, &[high, low, ..]) => {
                    decoder.restart_after(u16::from_be_bytes([high, low]));
                }
                Part::Segment(marker, _) if marker::is_unusual_frame(marker) => {
                    return Err(UNUSUAL);
                }
                Part::Segment(marker, payload) if scans == 0 => application.take(marker, payload),
                // Metadata after the first scan is ignored, because no other reader looks for it there.
                Part::Segment(..) => {}
            },
        }
    }
    if frames != 1 {
        return Err(CORRUPT);
    }
    if !decoder.is_whole() {
        return Err(TRUNCATED);
    }
    Ok((application, decoder))
}

/// Four inks are returned as stored, because only a colour profile defines how they look.
fn pixels(
    components: &[Vec<u8>],
    frame: &FrameHeader,
    application: &Application,
) -> (Channels, Vec<u8>) {
    // As in libjpeg, and therefore in browsers: JFIF is always YCbCr, and an unknown
    // transform counts as the usual one.
    let is_rgb = !application.is_jfif
        && application.adobe.map_or_else(|| frame.is_named_rgb(), |transform| transform == 0);
    match (components, application.adobe) {
        ([lumas, blues, reds], _) if !is_rgb => {
            let chromas = blues.iter().zip(reds);
            let pixels = lumas.iter().zip(chromas);
            (Channels::Rgb, pixels.flat_map(|(&y, (&cb, &cr))| rgb_of_ycc(y, cb, cr)).collect())
        }
        ([grey], _) => (Channels::Grey, grey.clone()),
        ([_, _, _], _) => (Channels::Rgb, interleaved(components)),
        (_, Some(0)) => (Channels::InvertedCmyk, interleaved(components)),
        (_, Some(_)) => (Channels::Ycck, interleaved(components)),
        (_, None) => (Channels::Cmyk, interleaved(components)),
    }
}

fn interleaved(components: &[Vec<u8>]) -> Vec<u8> {
    let pixels = components.first().map_or(0, Vec::len);
    (0..pixels).flat_map(|at| components.iter().map(move |samples| samples[at])).collect()
}

/// Converts one pixel with the matrix of JFIF (ITU-T T.871).
fn rgb_of_ycc(luma: u8, blue: u8, red: u8) -> [u8; 3] {
    let (luma, blue, red) =
        (f32::from(luma) + 0.5, f32::from(blue) - 128.0, f32::from(red) - 128.0);
    let rgb = [luma + 1.402 * red, luma - 0.344_136 * blue - 0.714_136 * red, luma + 1.772 * blue];
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
    let rgb = rgb.map(|level| level as u8);
    rgb
}
