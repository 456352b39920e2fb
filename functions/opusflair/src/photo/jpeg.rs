//! JPEG (ITU-T T.81): headers, what is needed of the application segments, and the pixels.
//!
//! The decoder paints what is missing grey and calls it a success. So all coded data is walked first, to see
//! that each block of the picture is there.

use std::borrow::Cow;

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::picture::{Channels, Samples};
use super::{Format, Frame, Limits, Orientation, Picture, Recognised, Rejection};

mod application;
mod coverage;
mod entropy;
mod header;
mod huffman;
mod parts;

use application::Application;
use coverage::Coverage;
use header::{FrameHeader, ScanHeader};
use parts::{Part, Parts, marker};

const CORRUPT: Rejection = Rejection::Corrupt(Format::Jpeg);
const TRUNCATED: Rejection = Rejection::Truncated(Format::Jpeg);
const UNUSUAL: Rejection = Rejection::UnsupportedFormat(Recognised::UnusualJpeg);

/// Encoders write about ten. Each costs a pass over all pixels, and an empty one takes a few bytes.
const MAX_SCANS: usize = 64;

/// The pixels of a picture that is whole. An end marker may be missing.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Picture, Rejection> {
    let frame = frame(bytes)?;
    limits.check(&frame.cost())?;
    let Walked { application, end } = walk(bytes, &frame)?;
    let profile = application.profile();
    // The decoder is happier with an end marker, and needs nothing behind it.
    let file = match bytes.get(end..end + 2) {
        Some(&[0xff, marker::EOI]) => Cow::Borrowed(&bytes[..end + 2]),
        _ => Cow::Owned([&bytes[..end], &[0xff, marker::EOI]].concat()),
    };
    let (channels, samples) = pixels(&file, &frame, &application)?;
    Ok(Picture {
        width: frame.width.into(),
        height: frame.height.into(),
        channels,
        samples: Samples::Eight(samples),
        profile,
        orientation: application.orientation.unwrap_or(Orientation::UPRIGHT),
    })
}

/// Reads as far as the frame header.
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

/// What a walk over the whole file has found.
struct Walked {
    application: Application,
    /// Where the last scan that was needed ends, in bytes.
    end: usize,
}

/// Proves that each block is there, to its full precision.
fn walk(bytes: &[u8], frame: &FrameHeader) -> Result<Walked, Rejection> {
    let mut application = Application::default();
    let mut coverage = Coverage::of(frame);
    let mut scan: Option<ScanHeader> = None;
    let (mut frames, mut scans, mut end) = (0, 0, bytes.len());
    let mut parts = Parts::of(bytes);
    while let Some(part) = parts.next() {
        match part {
            // Whatever comes behind the last pixel, or does not come.
            Err(_) if coverage.is_whole() => break,
            Err(TRUNCATED) if scans > 0 => break,
            part => match part? {
                Part::Scan(data) => {
                    coverage.count(&scan.take().ok_or(CORRUPT)?, data)?;
                    end = bytes.len() - parts.rest().len();
                }
                Part::Segment(marker::SOS, payload) => {
                    scans += 1;
                    if scans > MAX_SCANS {
                        return Err(UNUSUAL);
                    }
                    let header = ScanHeader::read(payload, frame)?;
                    // zune-jpeg 0.5.15 decodes these wrongly and says nothing: blocks at wrong places for
                    // 4:2:0 and 4:4:0, green ones in the last rows for 4:4:4.
                    if !frame.is_progressive && header.components.len() != frame.components.len() {
                        return Err(UNUSUAL);
                    }
                    scan = Some(header);
                }
                Part::Segment(marker::SOF0..=marker::SOF2, _) => frames += 1,
                Part::Segment(marker::DHT, payload) => coverage.define_tables(payload)?,
                Part::Segment(marker::DRI, &[high, low, ..]) => {
                    coverage.restart_after(u16::from_be_bytes([high, low]));
                }
                Part::Segment(marker, _) if marker::is_unusual_frame(marker) => {
                    return Err(UNUSUAL);
                }
                Part::Segment(marker, payload) if scans == 0 => application.take(marker, payload),
                // Nobody looks for metadata behind the first scan.
                Part::Segment(..) => {}
            },
        }
    }
    if frames != 1 {
        return Err(CORRUPT);
    }
    if !coverage.is_whole() {
        return Err(TRUNCATED);
    }
    Ok(Walked { application, end })
}

/// Four inks come as they are stored, because only a colour profile knows what they look like.
fn pixels(
    file: &[u8],
    frame: &FrameHeader,
    application: &Application,
) -> Result<(Channels, Vec<u8>), Rejection> {
    let (channels, space) = match (frame.components.len(), application.adobe) {
        (1, _) => (Channels::Grey, ColorSpace::Luma),
        (3, _) => (Channels::Rgb, ColorSpace::RGB),
        (_, Some(2)) => (Channels::Ycck, ColorSpace::YCCK),
        (_, Some(_)) => (Channels::InvertedCmyk, ColorSpace::CMYK),
        (_, None) => (Channels::Cmyk, ColorSpace::CMYK),
    };
    let options = DecoderOptions::new_fast()
        .set_max_width(frame.width.into())
        .set_max_height(frame.height.into())
        .jpeg_set_max_scans(MAX_SCANS)
        .jpeg_set_out_colorspace(space);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
    decoder.decode_headers().map_err(|_| CORRUPT)?;
    let length = usize::from(frame.width) * usize::from(frame.height) * channels.count();
    let is_as_promised = decoder.output_buffer_size() == Some(length)
        && decoder.dimensions() == Some((frame.width.into(), frame.height.into()));
    if !is_as_promised {
        return Err(CORRUPT);
    }
    let mut pixels = vec![0; length];
    decoder.decode_into(&mut pixels).map_err(|_| CORRUPT)?;
    Ok((channels, pixels))
}
