use bytes::Bytes;
use image::ImageFormat;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::Photo;
use super::prepared::LONGEST_SIDE;
use super::samples::blocks::grey_with_restarts;
use super::samples::{
    CANARY, FORMATS, contains, in_display_p3, lossy_webp, lossy_webp_with_alpha, planted,
    progressive_jpeg,
};

/// The starts of random files: none, and the first bytes of each format.
const BEGINNINGS: &[&[u8]] =
    &[b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x20\0\0\0WEBPVP8X", b"<"];

/// A planted photo with changed bytes, sometimes truncated.
fn damaged() -> impl Strategy<Value = Bytes> {
    let changes = vec((any::<Index>(), any::<u8>()), 0..6);
    (0..8_usize, 1..=8_u16, changes, proptest::option::weighted(0.2, any::<Index>())).prop_map(
        |(picture, orientation, changes, cut)| {
            let mut file = match picture {
                3 => progressive_jpeg(),
                4 => lossy_webp(),
                5 => lossy_webp_with_alpha(),
                6 => grey_with_restarts(4),
                7 => in_display_p3(),
                of_format => planted(FORMATS[of_format], orientation),
            }
            .to_vec();
            for (at, value) in changes {
                let at = at.index(file.len());
                file[at] = value;
            }
            if let Some(cut) = cut {
                file.truncate(cut.index(file.len()));
            }
            file.into()
        },
    )
}

/// Checks that every accepted photo becomes a plain picture of a size that the model takes.
fn what_leaves_is_a_plain_picture(bytes: &Bytes) -> Result<(), TestCaseError> {
    let Ok(photo) = Photo::prepare(bytes) else { return Ok(()) };
    let is_wide = photo.width() > photo.height();
    let prepared = photo.into_prepared();
    prop_assert!(!contains(&prepared, CANARY));
    let seen = image::load_from_memory_with_format(&prepared, ImageFormat::Jpeg);
    prop_assert!(seen.is_ok());
    let seen = seen.expect("just seen");
    prop_assert!(seen.width().max(seen.height()) <= LONGEST_SIDE);
    prop_assert!(seen.width() == seen.height() || (seen.width() > seen.height()) == is_wide);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        // `PROPTEST_CASES` may ask for more.
        cases: ProptestConfig::default().cases.max(400),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_bytes_are_judged_without_a_panic(
        start in select(BEGINNINGS),
        rest in vec(any::<u8>(), 0..200),
    ) {
        what_leaves_is_a_plain_picture(&[start, &rest].concat().into())?;
    }

    #[test]
    fn a_damaged_photo_is_refused_or_leaves_as_a_plain_picture(bytes in damaged()) {
        what_leaves_is_a_plain_picture(&bytes)?;
    }
}
