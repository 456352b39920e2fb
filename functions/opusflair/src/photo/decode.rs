//! The proof that a picture is whole: all of its pixels can be had.

use std::io::{Cursor, ErrorKind};

use image::codecs::{jpeg::JpegDecoder, png::PngDecoder, webp::WebPDecoder};
use image::{ImageDecoder, ImageError, ImageResult};

use super::{Format, Frame, Limits, Recognised, Rejection};

/// Decodes `clean` once and throws the pixels away.
pub(super) fn prove_whole(
    format: Format,
    clean: &[u8],
    frame: &Frame,
    limits: &Limits,
) -> Result<(), Rejection> {
    let file = Cursor::new(clean);
    let mut memory = image::Limits::default();
    memory.max_alloc = Some(limits.max_decoded_bytes);
    match format {
        Format::Jpeg => read_through(JpegDecoder::new(file), frame),
        Format::Png => read_through(PngDecoder::with_limits(file, memory), frame),
        Format::WebP => read_through(WebPDecoder::new(file), frame),
    }
    .map_err(|error| rejection(format, &error))?
    .ok_or(Rejection::Corrupt(format))
}

/// `None` where the decoder sees another picture than the header promised, which is the one whose
/// cost was checked.
fn read_through(decoder: ImageResult<impl ImageDecoder>, frame: &Frame) -> ImageResult<Option<()>> {
    let decoder = decoder?;
    let pixels = u64::from(frame.width) * u64::from(frame.height);
    let is_as_promised = decoder.dimensions() == (frame.width, frame.height)
        && decoder.total_bytes() <= pixels * frame.decoding_bytes_per_pixel;
    let (true, Ok(length)) = (is_as_promised, usize::try_from(decoder.total_bytes())) else {
        return Ok(None);
    };
    decoder.read_image(&mut vec![0; length])?;
    Ok(Some(()))
}

fn rejection(format: Format, error: &ImageError) -> Rejection {
    match error {
        ImageError::Limits(_) => Rejection::DecodedSizeTooLarge,
        ImageError::Unsupported(_) if format == Format::Jpeg => {
            Rejection::UnsupportedFormat(Recognised::UnusualJpeg)
        }
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Rejection::Truncated(format)
        }
        _ => Rejection::Corrupt(format),
    }
}
