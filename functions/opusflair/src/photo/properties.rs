use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use sha2::{Digest, Sha256};

use super::Photo;
use super::samples::{FORMATS, lossy_webp, lossy_webp_with_alpha, planted, progressive_jpeg};

/// From nothing that is known to the first bytes of each format.
const BEGINNINGS: &[&[u8]] =
    &[b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x20\0\0\0WEBPVP8X", b"<"];

/// A planted photo with bytes changed, and perhaps cut.
fn damaged() -> impl Strategy<Value = Bytes> {
    let changes = vec((any::<Index>(), any::<u8>()), 0..6);
    (0..6_usize, 1..=8_u16, changes, proptest::option::weighted(0.2, any::<Index>())).prop_map(
        |(picture, orientation, changes, cut)| {
            let mut file = match picture {
                3 => progressive_jpeg(),
                4 => lossy_webp(),
                5 => lossy_webp_with_alpha(),
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

fn stripping_is_stable(bytes: Bytes) -> Result<(), TestCaseError> {
    let Ok(photo) = Photo::judge(bytes) else { return Ok(()) };
    let facts = (photo.width(), photo.height(), photo.orientation(), photo.format());
    let clean = photo.into_clean();
    let again = Photo::judge(clean.clone());
    prop_assert!(again.is_ok(), "what was stripped is a photo: {again:?}");
    let again = again.expect("just seen");
    prop_assert_eq!((again.width(), again.height(), again.orientation(), again.format()), facts);
    prop_assert_eq!(again.sha256(), hex::encode(Sha256::digest(&clean)));
    prop_assert_eq!(again.stripped(), None);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_bytes_are_judged_without_a_panic(
        start in select(BEGINNINGS),
        rest in vec(any::<u8>(), 0..200),
    ) {
        stripping_is_stable([start, &rest].concat().into())?;
    }

    #[test]
    fn a_damaged_photo_is_refused_or_clean_after_stripping(bytes in damaged()) {
        stripping_is_stable(bytes)?;
    }
}
