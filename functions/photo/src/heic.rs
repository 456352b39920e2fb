//! HEIC (ISO/IEC 23008-12). The default build leaves it out; docs/heic.md says why.

use heifer::{Error, Options};

use super::picture::{Channels, Samples};
use super::{Format, Frame, Limits, Orientation, Picture, Recognised, Rejection};

const CORRUPT: Rejection = Rejection::Corrupt(Format::Heic);

/// Decodes the pixels, already in sRGB: a profile, the container or the coded picture may define
/// the colours. The pixels are also upright already, because in this format only the container
/// defines the orientation, not Exif.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Picture, Rejection> {
    let options = Options { max_threads: 1, max_pixels: limits.max_pixels };
    let image = heifer::decode_srgb_rgba8(bytes, &options).map_err(|error| match error {
        Error::Unsupported(_) => Rejection::UnsupportedFormat(Recognised::Heic),
        _ => CORRUPT,
    })?;
    let (width, height) = (image.width, image.height);
    let decoding_bytes = image.data.len() as u64;
    limits.check(&Frame { width, height, decoding_bytes })?;
    Ok(Picture {
        stored: (width, height),
        width,
        height,
        channels: Channels::RgbAlpha,
        samples: Samples::Eight(image.data),
        profile: None,
        orientation: Orientation::UPRIGHT,
    })
}

#[cfg(test)]
mod tests {
    use heifer::EncodeOptions;
    use image::{Rgb, RgbImage};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use crate::samples::{self, rejected, seen};
    use crate::tests::{corners, is_near, lying};
    use crate::{Limits, Photo};

    fn sample() -> Vec<u8> {
        encode(&RgbImage::from_pixel(64, 48, Rgb([70, 120, 200])))
    }

    fn encode(picture: &RgbImage) -> Vec<u8> {
        let (width, height) = picture.dimensions();
        heifer::encode_rgb8(width, height, picture, &EncodeOptions::default()).expect("a HEIC")
    }

    /// Adds properties that turn the picture by `quarters` counterclockwise and then mirror it. The encoder
    /// writes neither, so they replace two properties that a decoder does not need, in the same order.
    fn turned(mut file: Vec<u8>, quarters: u8, mirror: Option<u8>) -> Vec<u8> {
        let mut put = |instead: &[u8; 4], kind: &[u8; 4], value: u8| {
            let at = file.windows(4).position(|name| name == instead).expect("a property");
            file[at..at + 4].copy_from_slice(kind);
            file[at + 4] = value;
        };
        put(b"pixi", b"irot", quarters);
        if let Some(axis) = mirror {
            put(b"colr", b"imir", axis);
        }
        file
    }

    #[test]
    fn a_heic_is_prepared_as_a_jpeg() {
        let seen = seen(sample());
        assert_eq!(seen.dimensions(), (64, 48));
        let found = seen.get_pixel(30, 20).0;
        assert!(found.iter().zip([70, 120, 200]).all(|(&one, other)| one.abs_diff(other) <= 4));
    }

    #[test]
    fn t2_a_heic_of_any_orientation_is_prepared_upright() {
        const LEFT_AND_RIGHT: Option<u8> = Some(1);
        const TOP_AND_BOTTOM: Option<u8> = Some(0);
        // The numbers of the orientations are those of Exif.
        for (orientation, quarters, mirror) in [
            (1, 0, None),
            (2, 0, LEFT_AND_RIGHT),
            (3, 2, None),
            (4, 0, TOP_AND_BOTTOM),
            (5, 1, TOP_AND_BOTTOM),
            (6, 3, None),
            (7, 3, TOP_AND_BOTTOM),
            (8, 1, None),
        ] {
            let stored = lying(&corners(96, 64), orientation);
            let seen = seen(turned(encode(&stored), quarters, mirror));
            assert_eq!(seen.dimensions(), (96, 64), "{orientation}");
            for (x, y) in [(8, 8), (87, 8), (8, 55), (87, 55)] {
                let (expected, found) = (corners(96, 64)[(x, y)], seen[(x, y)]);
                assert!(is_near(found, expected.0, 12), "{orientation}: {found:?} at {x}, {y}");
            }
        }
    }

    #[test]
    fn exif_does_not_turn_a_heic() {
        let mut image = heifer::Image::filled(64, 48, 8, [70, 120, 200, 255]);
        image.has_alpha = false;
        let exif = samples::exif(6);
        let metadata = heifer::Metadata { exif: Some(exif), ..heifer::Metadata::default() };
        let options = EncodeOptions::default();
        let mut file = heifer::encode_with_metadata(&image, &metadata, &options).expect("a HEIC");
        // The encoder has set the orientation to 1.
        let entry = b"\x12\x01\x03\0\x01\0\0\0";
        let at = file.windows(8).position(|bytes| bytes == entry).expect("an orientation");
        file[at + 8] = 6;
        assert_eq!(seen(file).dimensions(), (64, 48));
    }

    #[test]
    fn a_truncated_or_too_large_heic_is_refused() {
        let file = sample();
        for length in 12..file.len() {
            rejected(file[..length].to_vec());
        }
        let limits = Limits { max_pixels: 64 * 48 - 1, ..Limits::default() };
        assert!(Photo::prepare_within(&file.into(), &limits).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_damaged_heic_causes_no_panic(changes in vec((any::<Index>(), any::<u8>()), 1..6)) {
            let mut file = sample();
            for (at, value) in changes {
                let at = at.index(file.len());
                file[at] = value;
            }
            let _ = Photo::prepare(&file.into());
        }
    }
}
