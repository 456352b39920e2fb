//! Decoded pixels, with the corrections that still have to be applied.

use image::{ColorType, ImageDecoder, ImageResult};
use moxcms::ColorProfile;

use super::resize::{self, Sample};
use super::{Orientation, colour_space};

/// The meaning of the samples of a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channels {
    Grey,
    GreyAlpha,
    Rgb,
    RgbAlpha,
    /// Four inks. The largest sample means full ink.
    Cmyk,
    /// Like [`Channels::Cmyk`], but zero means full ink. Adobe's programs write JPEG this way.
    InvertedCmyk,
    /// Luma, two chromas and inverted black, as Adobe's programs write them.
    Ycck,
}

impl Channels {
    pub(super) fn count(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::GreyAlpha => 2,
            Self::Rgb => 3,
            Self::RgbAlpha | Self::Cmyk | Self::InvertedCmyk | Self::Ycck => 4,
        }
    }

    pub(super) fn has_alpha(self) -> bool {
        matches!(self, Self::GreyAlpha | Self::RgbAlpha)
    }
}

/// The samples of all pixels, row by row.
pub(super) enum Samples {
    Eight(Vec<u8>),
    Sixteen(Vec<u16>),
}

impl Samples {
    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Eight(samples) => samples,
            Self::Sixteen(samples) => bytemuck::cast_slice_mut(samples),
        }
    }

    pub(super) fn into_sixteen(self) -> Vec<u16> {
        match self {
            Self::Eight(samples) => {
                samples.into_iter().map(|sample| u16::from(sample) * 257).collect()
            }
            Self::Sixteen(samples) => samples,
        }
    }
}

/// Scales `width` and `height` down together if one of them is longer than `longest`.
pub(super) fn fitted(width: u32, height: u32, longest: u32) -> Option<(u32, u32)> {
    let side = width.max(height);
    if side <= longest {
        return Some((width, height));
    }
    let scaled = |length: u32| {
        let scaled = u64::from(length) * u64::from(longest) + u64::from(side) / 2;
        u32::try_from(scaled / u64::from(side)).map(|scaled| scaled.max(1)).ok()
    };
    Some((scaled(width)?, scaled(height)?))
}

/// A picture as its file stores it.
pub(super) struct Picture {
    /// Width and height in the file, in pixels.
    pub(super) stored: (u32, u32),
    /// Decoded width, in pixels. It is less than the stored width if the picture
    /// was decoded at a smaller size.
    pub(super) width: u32,
    /// Decoded height, in pixels.
    pub(super) height: u32,
    pub(super) channels: Channels,
    pub(super) samples: Samples,
    /// The profile of the colour space that the file states.
    pub(super) profile: Option<ColorProfile>,
    pub(super) orientation: Orientation,
}

impl Picture {
    /// Reads the pixels of `decoder`, which must have the size that was checked. `None` if they would take
    /// more than `max_bytes`.
    pub(super) fn read(
        mut decoder: impl ImageDecoder,
        max_bytes: u64,
        orientation: Orientation,
    ) -> ImageResult<Option<Self>> {
        let (width, height) = decoder.dimensions();
        let Some(length) = usize::try_from(decoder.total_bytes())
            .ok()
            .filter(|&length| length as u64 <= max_bytes)
        else {
            return Ok(None);
        };
        let (channels, is_deep) = match decoder.color_type() {
            ColorType::L8 => (Channels::Grey, false),
            ColorType::La8 => (Channels::GreyAlpha, false),
            ColorType::Rgb8 => (Channels::Rgb, false),
            ColorType::Rgba8 => (Channels::RgbAlpha, false),
            ColorType::L16 => (Channels::Grey, true),
            ColorType::La16 => (Channels::GreyAlpha, true),
            ColorType::Rgb16 => (Channels::Rgb, true),
            ColorType::Rgba16 => (Channels::RgbAlpha, true),
            _ => return Ok(None),
        };
        // A profile that cannot be read is ignored.
        let profile = decoder.icc_profile().ok().flatten();
        let profile = profile.and_then(|profile| colour_space::of_icc(&profile));
        let mut samples = if is_deep {
            Samples::Sixteen(vec![0; length / 2])
        } else {
            Samples::Eight(vec![0; length])
        };
        decoder.read_image(samples.bytes_mut())?;
        let stored = (width, height);
        Ok(Some(Self { stored, width, height, channels, samples, profile, orientation }))
    }

    /// Width and height in pixels, after the orientation is applied.
    pub(super) fn size_as_seen(&self) -> (u32, u32) {
        let (width, height) = self.stored;
        if self.orientation.swaps_sides() { (height, width) } else { (width, height) }
    }

    /// Shrinks the picture so that no side is longer than `longest`, in pixels. `None` if
    /// the number of samples is wrong.
    pub(super) fn shrink(self, longest: u32) -> Option<Self> {
        let (size, channels) = ((self.width, self.height), self.channels);
        let (width, height) = fitted(size.0, size.1, longest)?;
        let samples = match self.samples {
            samples if size == (width, height) => samples,
            Samples::Eight(samples) => {
                Samples::Eight(shrunk(samples, channels, size, (width, height))?)
            }
            Samples::Sixteen(samples) => {
                Samples::Sixteen(shrunk(samples, channels, size, (width, height))?)
            }
        };
        Some(Self { width, height, samples, ..self })
    }
}

fn shrunk<S: Sample>(
    mut samples: Vec<S>,
    channels: Channels,
    size: (u32, u32),
    to: (u32, u32),
) -> Option<Vec<S>> {
    let shrink = match channels.count() {
        1 => resize::shrink::<S, 1>,
        2 => resize::shrink::<S, 2>,
        3 => resize::shrink::<S, 3>,
        _ => resize::shrink::<S, 4>,
    };
    shrink(&mut samples, channels.has_alpha(), size, to)?;
    Some(samples)
}
