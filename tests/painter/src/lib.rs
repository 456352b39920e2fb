//! Paints photos in the styles of the catalogue, for the Replicate sandbox. It is a crate of its own because it
//! computes each pixel: it is optimised in development, too, and the sandbox around it is not.

mod cells;
mod noise;
mod palette;
mod picture;
mod smooth;
mod style;
mod tint;

use image::RgbImage;
use image::imageops::FilterType;

use crate::picture::Picture;

/// Kontext makes pictures of about one megapixel, with sides in multiples of 16.
pub const PIXELS: u32 = 1024 * 1024;

/// The photo in the style that the prompt asks for, with about `pixels` pixels. `ratio` is a width and a height such as
/// `16:9`; with any other text the photo keeps its ratio. The same seed gives the same result.
#[must_use]
pub fn artwork(photo: &RgbImage, ratio: &str, pixels: u32, prompt: &str, seed: u64) -> RgbImage {
    let picture = tint::in_colour(Picture::from_image(&fit(photo, ratio, pixels)));
    style::paint(&picture, prompt, seed).to_image()
}

/// Crops the photo to the ratio and scales it to about `pixels` pixels.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes are small")]
fn fit(photo: &RgbImage, ratio: &str, pixels: u32) -> RgbImage {
    let own = f64::from(photo.width()) / f64::from(photo.height());
    let asked = ratio
        .split_once(':')
        .and_then(|(width, height)| Some(width.parse::<f64>().ok()? / height.parse::<f64>().ok()?));
    let target = asked.unwrap_or(own).clamp(0.4, 2.5);
    let (width, height) = if own > target {
        ((f64::from(photo.height()) * target) as u32, photo.height())
    } else {
        (photo.width(), (f64::from(photo.width()) / target) as u32)
    };
    let (width, height) = (width.max(1), height.max(1));
    let (left, top) = ((photo.width() - width) / 2, (photo.height() - height) / 2);
    let cut = image::imageops::crop_imm(photo, left, top, width, height).to_image();
    let rounded = |length: f64| ((length / 16.0).round() as u32).max(1) * 16;
    let across = (f64::from(pixels) * target).sqrt();
    image::imageops::resize(&cut, rounded(across), rounded(across / target), FilterType::Triangle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_have_about_a_megapixel_in_the_requested_ratio() {
        let photo = RgbImage::new(300, 200);
        for (ratio, expected) in
            [("match_input_image", 1.5), ("1:1", 1.0), ("16:9", 16.0 / 9.0), ("9:21", 0.43)]
        {
            let fitted = fit(&photo, ratio, PIXELS);
            let (width, height) = (f64::from(fitted.width()), f64::from(fitted.height()));
            assert_eq!((fitted.width() % 16, fitted.height() % 16), (0, 0), "{ratio}");
            assert!(
                (width * height / f64::from(PIXELS) - 1.0).abs() < 0.05,
                "{ratio}: {width}×{height}"
            );
            assert!((width / height - expected).abs() < 0.05, "{ratio}: {width}×{height}");
        }
    }
}
