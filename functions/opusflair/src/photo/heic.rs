//! HEIC (ISO/IEC 23008-12). Not a part of the usual build: docs/heic.md says why.

use heifer::{Error, Options};

use super::picture::{Channels, Samples};
use super::{Format, Frame, Limits, Orientation, Picture, Recognised, Rejection};

const CORRUPT: Rejection = Rejection::Corrupt(Format::Heic);

/// The pixels, in sRGB already: colours may be told by a profile, by the container or by the coded picture.
/// They are upright, too, because in this format the container says which way is up, and Exif says nothing.
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
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use crate::photo::samples::{rejected, seen};
    use crate::photo::{Limits, Photo};

    fn sample() -> Vec<u8> {
        let pixels: Vec<u8> = (0..64 * 48).flat_map(|_| [70, 120, 200]).collect();
        heifer::encode_rgb8(64, 48, &pixels, &EncodeOptions::default()).expect("a HEIC")
    }

    #[test]
    fn a_heic_leaves_as_a_jpeg() {
        let seen = seen(sample());
        assert_eq!(seen.dimensions(), (64, 48));
        let found = seen.get_pixel(30, 20).0;
        assert!(found.iter().zip([70, 120, 200]).all(|(&one, other)| one.abs_diff(other) <= 4));
    }

    #[test]
    fn a_heic_that_was_cut_or_is_too_large_is_refused() {
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
        fn a_damaged_heic_makes_no_panic(changes in vec((any::<Index>(), any::<u8>()), 1..6)) {
            let mut file = sample();
            for (at, value) in changes {
                let at = at.index(file.len());
                file[at] = value;
            }
            let _ = Photo::prepare(&file.into());
        }
    }
}
