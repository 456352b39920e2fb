//! Reads what a photo needs from its Exif: the orientation, and whether its colours are Adobe RGB.

use exif::{Exif, In, Reader, Tag, Value};
use image::metadata;

/// Exif orientation, 1 to 8 (CIPA DC-008, tag 0x0112).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Orientation(u8);

/// The part of Exif that is read, in bytes. The directories that matter come early;
/// maker notes and thumbnails follow.
const READ_AT_MOST: usize = 64 * 1024;

impl Orientation {
    pub(super) const UPRIGHT: Self = Self(1);

    /// Reads the orientation from a TIFF structure. An unreadable one counts as upright: bad metadata is no
    /// reason to refuse a photo, because the metadata is removed anyway.
    pub(super) fn from_exif(tiff: &[u8]) -> Self {
        read(tiff)
            .and_then(|exif| exif.get_field(Tag::Orientation, In::PRIMARY)?.value.get_uint(0))
            .and_then(|value| u8::try_from(value).ok())
            .filter(|value| (1..=8).contains(value))
            .map_or(Self::UPRIGHT, Self)
    }

    /// Whether the stored width becomes the visible height.
    pub(super) fn swaps_sides(self) -> bool {
        self.0 >= 5
    }

    /// The transformation that turns the pixels upright.
    pub(super) fn to_image(self) -> metadata::Orientation {
        metadata::Orientation::from_exif(self.0).unwrap_or(metadata::Orientation::NoTransforms)
    }
}

/// Whether a camera has marked the photo as Adobe RGB. DCF 2.0 defines the mark: the colour space is
/// "uncalibrated" (0xffff), the interoperability index is `R03`, and there is no profile.
pub(super) fn is_in_adobe_rgb(tiff: &[u8]) -> bool {
    let Some(exif) = read(tiff) else { return false };
    let value = |tag| exif.get_field(tag, In::PRIMARY).map(|field| &field.value);
    let is_uncalibrated =
        value(Tag::ColorSpace).is_some_and(|space| space.get_uint(0) == Some(0xffff));
    let is_r03 = value(Tag::InteroperabilityIndex).is_some_and(
        |index| matches!(index, Value::Ascii(text) if text.first().is_some_and(|text| text == b"R03")),
    );
    is_uncalibrated && is_r03
}

fn read(tiff: &[u8]) -> Option<Exif> {
    let head = tiff[..tiff.len().min(READ_AT_MOST)].to_vec();
    Reader::new()
        .continue_on_error(true)
        .read_raw(head)
        .or_else(|error| error.distill_partial_result(|_| ()))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TIFF structure that contains only the orientation.
    fn exif(orientation: u8) -> [u8; 26] {
        let mut tiff = *b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\0\0\0\0\0\0\0";
        tiff[19] = orientation;
        tiff
    }

    #[test]
    fn each_orientation_is_read() {
        for value in 1..=8 {
            assert_eq!(Orientation::from_exif(&exif(value)), Orientation(value));
        }
    }

    #[test]
    fn invalid_exif_counts_as_upright() {
        let endless = b"II\x2a\0\x08\0\0\0\xff\xff";
        for tiff in [&b""[..], b"MM", b"not exif at all", endless, &exif(9), &exif(0)] {
            assert_eq!(Orientation::from_exif(tiff), Orientation::UPRIGHT);
        }
    }

    #[test]
    fn an_orientation_before_damage_is_still_read() {
        // A second entry points outside the data; the first is the orientation.
        let tiff = b"MM\0\x2a\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\
                     \x01\x0f\0\x02\0\0\0\x40\xff\xff\xff\xff\0\0\0\0";
        assert_eq!(Orientation::from_exif(tiff), Orientation(6));
    }
}
