//! Prepares the picture that the model will see.

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ExtendedColorType, ImageEncoder, Rgb, RgbImage, imageops};

use super::{Picture, colour};

/// The longest side, in pixels. The models work on about one megapixel, so more detail would not show.
pub(super) const LONGEST_SIDE: u32 = 2048;
/// The largest ratio of the sides. FLUX Kontext supports ratios up to 7:3, and its loader squashes longer
/// pictures to fit. So a panorama or a long screenshot gets white margins instead. Nothing is cropped or
/// distorted, and the user, whose credit is already held, does not get an error.
const LONGEST_RATIO: (u32, u32) = (7, 3);
/// JPEG quality, 1 to 100. The encoder keeps full chroma (4:4:4).
const QUALITY: u8 = 90;

/// Shrinks, converts, turns and encodes a picture. Converting and turning come after shrinking, because they
/// then cost a tenth. `None` if the decoder returned an impossible picture.
pub(super) fn write(picture: Picture) -> Option<Vec<u8>> {
    let orientation = picture.orientation;
    let small = picture.shrink(LONGEST_SIDE)?;
    let (width, height) = (small.width, small.height);
    let rgb = RgbImage::from_raw(width, height, colour::to_srgb(small))?;
    let mut upright = DynamicImage::ImageRgb8(rgb);
    upright.apply_orientation(orientation.to_image());
    let fitted = with_margins(upright.into_rgb8());
    let mut file = Vec::new();
    JpegEncoder::new_with_quality(&mut file, QUALITY)
        .write_image(&fitted, fitted.width(), fitted.height(), ExtendedColorType::Rgb8)
        .ok()?;
    Some(file)
}

fn with_margins(picture: RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let shortest = (width.max(height) * LONGEST_RATIO.1).div_ceil(LONGEST_RATIO.0);
    if width.min(height) >= shortest {
        return picture;
    }
    let (wide, high) = (width.max(shortest), height.max(shortest));
    let mut framed = RgbImage::from_pixel(wide, high, Rgb([255; 3]));
    let (left, top) = ((wide - width) / 2, (high - height) / 2);
    imageops::replace(&mut framed, &picture, left.into(), top.into());
    framed
}
