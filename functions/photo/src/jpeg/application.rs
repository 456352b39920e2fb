//! The content of application segments that a picture needs to look right.

use moxcms::ColorProfile;

use super::super::colour_space;
use super::super::orientation::is_in_adobe_rgb;
use super::{Orientation, marker};

const EXIF: &[u8] = b"Exif\0\0";
const ICC: &[u8] = b"ICC_PROFILE\0";

/// The content that was found before the first scan.
#[derive(Default)]
pub(super) struct Application {
    pub(super) orientation: Option<Orientation>,
    is_in_adobe_rgb: bool,
    pub(super) is_jfif: bool,
    /// Adobe's colour transform: 0 means no transform, 1 is `YCbCr`, and 2 is YCCK.
    pub(super) adobe: Option<u8>,
    /// The parts of the colour profile: each with its number, and with the total count that it states.
    profile: Vec<(u8, u8, Vec<u8>)>,
}

impl Application {
    pub(super) fn take(&mut self, marker: u8, payload: &[u8]) {
        match marker {
            marker::APP0 => self.is_jfif |= payload.starts_with(b"JFIF\0"),
            marker::APP1 => {
                if let Some(exif) = payload.strip_prefix(EXIF) {
                    self.orientation.get_or_insert_with(|| Orientation::from_exif(exif));
                    self.is_in_adobe_rgb |= is_in_adobe_rgb(exif);
                }
            }
            marker::APP2 => {
                if let Some([number, count, part @ ..]) = payload.strip_prefix(ICC) {
                    self.profile.push((*number, *count, part.to_vec()));
                }
            }
            marker::APP14 => {
                let adobe = payload.strip_prefix(b"Adobe").and_then(|adobe| adobe.get(6));
                self.adobe = adobe.copied().or(self.adobe);
            }
            _ => {}
        }
    }

    /// The colour space from the profile, or else from Exif.
    pub(super) fn colour_space(&self) -> Option<ColorProfile> {
        let embedded = self.profile().and_then(|profile| colour_space::of_icc(&profile));
        embedded.or_else(|| self.is_in_adobe_rgb.then(colour_space::adobe_rgb))
    }

    /// The profile, if all its parts are there.
    fn profile(&self) -> Option<Vec<u8>> {
        let mut parts: Vec<_> = self.profile.iter().collect();
        parts.sort_by_key(|part| part.0);
        let count = parts.len();
        let is_complete = count > 0
            && parts.iter().zip(1..).all(|(part, number)| {
                usize::from(part.0) == number && usize::from(part.1) == count
            });
        is_complete.then(|| parts.into_iter().flat_map(|part| &part.2).copied().collect())
    }
}
