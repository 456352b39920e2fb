//! Helpers for the tests of photos, and what a photo says about itself.

mod colours;
mod damage;
mod jpeg;
mod leaves;
mod refused;

use image::{Rgb, RgbImage};

use super::samples::{SIZE, planted, prepared, rejected};
use super::*;

/// The same pixels, stored so that `orientation` turns them upright.
pub(super) fn lying(picture: &RgbImage, orientation: u8) -> RgbImage {
    use image::imageops::{flip_horizontal, flip_vertical, rotate90, rotate180, rotate270};
    match orientation {
        2 => flip_horizontal(picture),
        3 => rotate180(picture),
        4 => flip_vertical(picture),
        5 => flip_horizontal(&rotate90(picture)),
        6 => rotate270(picture),
        7 => flip_horizontal(&rotate270(picture)),
        8 => rotate90(picture),
        _ => picture.clone(),
    }
}

/// A picture with a different colour in each corner.
pub(super) fn corners(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([if x < width / 2 { 220 } else { 40 }, if y < height / 2 { 220 } else { 40 }, 90])
    })
}

pub(super) fn is_near(one: Rgb<u8>, other: [u8; 3], most: u8) -> bool {
    one.0.iter().zip(other).all(|(&one, other)| one.abs_diff(other) <= most)
}

#[test]
fn c2_a_photo_is_measured_by_its_bytes() {
    for (format, name) in [(Format::Jpeg, "jpeg"), (Format::Png, "png"), (Format::WebP, "webp")] {
        let bytes = planted(format, 6);
        let photo = prepared(bytes.clone());
        assert_eq!(photo.format_name(), name);
        assert_eq!((photo.height(), photo.width()), SIZE, "a quarter turn swaps the sides");
        assert_eq!(photo.byte_size(), bytes.len());
        assert_eq!(photo.sha256(), hex::encode(Sha256::digest(&bytes)));
    }
}

#[test]
fn r5_a_rejection_and_a_photo_show_nothing_of_the_file() {
    let photo = prepared(planted(Format::Png, 3));
    assert_eq!(
        format!("{photo:?}"),
        format!(
            "Photo {{ format: Png, width: 49, height: 33, byte_size: {}, .. }}",
            photo.byte_size()
        )
    );
    assert_eq!(rejected("CANARY").to_string(), "not_an_image");
    assert!(!rejected("CANARY").sentence().contains("CANARY"));
}
