//! JPEG (ITU-T T.81): the frame header, and the picture without its application segments.
//!
//! The whole file is walked, scans included, for two reasons: decoders paint the missing part of a
//! truncated photo grey and call it a success, and metadata may stand between scans.

use bytes::Bytes;

use super::jpeg_parts::{Part, Parts, marker, write_segment};
use super::{Cleaned, Format, Frame, Orientation, Recognised, Rejection, icc};

const CORRUPT: Rejection = Rejection::Corrupt(Format::Jpeg);
const UNUSUAL: Rejection = Rejection::UnsupportedFormat(Recognised::UnusualJpeg);

/// Encoders write about ten. Each costs a pass over all pixels, and an empty one takes a few bytes.
const MAX_SCANS: usize = 64;

const EXIF: &[u8] = b"Exif\0\0";
const ICC: &[u8] = b"ICC_PROFILE\0";
/// Of a profile in one segment: what its length field can say, less itself, the name and two numbers.
const ICC_PART: usize = 65_535 - 2 - ICC.len() - 2;

/// Reads as far as the frame header.
pub(super) fn frame(bytes: &[u8]) -> Result<Frame, Rejection> {
    for part in Parts::of(bytes) {
        match part? {
            Part::Segment(marker::SOF0..=marker::SOF2, payload) => return read_frame(payload),
            Part::Segment(marker, _) if marker::is_unusual_frame(marker) => return Err(UNUSUAL),
            Part::Segment(marker::SOS, _) => break,
            _ => {}
        }
    }
    Err(CORRUPT)
}

fn read_frame(payload: &[u8]) -> Result<Frame, Rejection> {
    let &[precision, h1, h0, w1, w0, count, ref components @ ..] = payload else {
        return Err(CORRUPT);
    };
    if components.len() != usize::from(count) * 3 {
        return Err(CORRUPT);
    }
    let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
    // A height of zero is told after the first scan, by nobody.
    if precision != 8 || height == 0 || !matches!(count, 1 | 3 | 4) {
        return Err(UNUSUAL);
    }
    // A progressive file keeps two bytes of coefficients for each sample beside the pixels.
    let pixel = if count == 1 { 1 } else { 3 };
    Ok(Frame {
        width: width.into(),
        height: height.into(),
        decoding_bytes_per_pixel: pixel + 2 * u64::from(count),
    })
}

/// What stays of the application segments.
#[derive(Default)]
struct Application {
    /// Version and density; the thumbnail goes.
    jfif: Option<[u8; 7]>,
    orientation: Option<Orientation>,
    /// Parts of the colour profile, by number and with the count that each gives.
    profile: Vec<(u8, u8, Vec<u8>)>,
    /// Version, flags, and the colour transform without which colours may turn out wrong.
    adobe: Option<[u8; 7]>,
}

impl Application {
    fn take(&mut self, marker: u8, payload: &[u8]) {
        match marker {
            marker::APP0 => {
                let density = payload.strip_prefix(b"JFIF\0").and_then(<[u8]>::first_chunk);
                self.jfif = density.copied().or(self.jfif);
            }
            marker::APP1 => {
                let found = payload.strip_prefix(EXIF).map(Orientation::from_exif);
                self.orientation = self.orientation.or(found);
            }
            marker::APP2 => {
                if let Some([number, count, part @ ..]) = payload.strip_prefix(ICC) {
                    self.profile.push((*number, *count, part.to_vec()));
                }
            }
            marker::APP14 => {
                let adobe = payload.strip_prefix(b"Adobe").and_then(<[u8]>::first_chunk);
                self.adobe = adobe.copied().or(self.adobe);
            }
            _ => {}
        }
    }

    fn profile(&mut self) -> Option<Vec<u8>> {
        self.profile.sort_by_key(|part| part.0);
        let count = self.profile.len();
        let is_complete =
            self.profile.iter().zip(1..).all(|(part, number)| {
                usize::from(part.0) == number && usize::from(part.1) == count
            });
        let whole: Vec<u8> = self.profile.drain(..).flat_map(|part| part.2).collect();
        if is_complete { icc::neutral(&whole) } else { None }
    }

    /// In the order in which encoders write them.
    fn write(mut self, file: &mut Vec<u8>) {
        if let Some(jfif) = self.jfif {
            write_segment(file, marker::APP0, &[b"JFIF\0", &jfif, &[0, 0]]);
        }
        if let Some(exif) = self.orientation.and_then(Orientation::to_exif) {
            write_segment(file, marker::APP1, &[EXIF, &exif]);
        }
        let profile = self.profile().unwrap_or_default();
        let parts = profile.chunks(ICC_PART);
        let count = u8::try_from(parts.len()).expect("a neutral profile is far under 255 parts");
        for (part, number) in parts.zip(1..) {
            write_segment(file, marker::APP2, &[ICC, &[number, count], part]);
        }
        if let Some(adobe) = self.adobe {
            write_segment(file, marker::APP14, &[b"Adobe", &adobe]);
        }
    }
}

/// Keeps the tables, the frame and the scans as they are, and of the rest what the picture needs to
/// look right.
pub(super) fn clean(bytes: &Bytes) -> Result<Cleaned, Rejection> {
    let mut application = Application::default();
    let mut picture = Vec::with_capacity(bytes.len());
    let (mut frames, mut scans) = (0, 0);
    for part in Parts::of(bytes) {
        match part? {
            Part::Scan(data) => picture.extend_from_slice(data),
            Part::Segment(marker, _) if marker::is_unusual_frame(marker) => return Err(UNUSUAL),
            Part::Segment(marker, payload) if marker::is_of_the_picture(marker) => {
                frames += usize::from(matches!(marker, marker::SOF0..=marker::SOF2));
                scans += usize::from(marker == marker::SOS);
                write_segment(&mut picture, marker, &[payload]);
            }
            Part::Segment(marker, payload) if scans == 0 => application.take(marker, payload),
            // Nobody looks for metadata behind the first scan.
            Part::Segment(..) => {}
        }
    }
    if frames != 1 || scans == 0 {
        return Err(CORRUPT);
    }
    if scans > MAX_SCANS {
        return Err(UNUSUAL);
    }

    let orientation = application.orientation.unwrap_or(Orientation::UPRIGHT);
    let mut file = Vec::with_capacity(picture.len() + 1024);
    file.extend_from_slice(&[0xff, marker::SOI]);
    application.write(&mut file);
    file.append(&mut picture);
    file.extend_from_slice(&[0xff, marker::EOI]);
    Ok(Cleaned { bytes: file.into(), orientation })
}
