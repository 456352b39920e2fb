//! What the model will see.

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ExtendedColorType, ImageEncoder, Rgb, RgbImage, imageops};

use super::{Picture, colour};

/// The longest side, in pixels. The models work on about one megapixel, so more would show in nothing.
pub(super) const LONGEST_SIDE: u32 = 2048;
/// The longest side over the shortest. FLUX Kontext knows ratios up to 7:3; its loader squashes what is longer
/// until it fits. So a panorama or a long screenshot gets white margins: nothing of it is lost or bent, and
/// its person, whose credit is already held, is not sent away.
const LONGEST_RATIO: (u32, u32) = (7, 3);
/// Of JPEG, 1 to 100. The encoder keeps all chroma (4:4:4).
const QUALITY: u8 = 90;

/// Shrinks, converts, turns and encodes. Turning and colours come after shrinking, because they then cost a
/// tenth. `None` where the decoder left something that is no picture.
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
