//! Converts any colours to those that the model expects: sRGB, opaque, eight bits.

use moxcms::{ColorProfile, DataColorSpace, Layout, RenderingIntent, TransformOptions};

use super::picture::{Channels, Picture};

const WHITE: u32 = 65_535;

/// Converts the pixels to sRGB, three samples each. Transparent areas become white.
pub(super) fn to_srgb(picture: Picture) -> Vec<u8> {
    let Picture { channels, samples, profile, .. } = picture;
    let mut samples = samples.into_sixteen();
    let alpha = channels.has_alpha().then(|| split_alpha(&mut samples, channels.count()));
    match channels {
        Channels::InvertedCmyk => {
            for ink in &mut samples {
                *ink = !*ink;
            }
        }
        Channels::Ycck => samples.chunks_exact_mut(4).for_each(inks_of_ycck),
        _ => {}
    }
    let mut space = match channels {
        Channels::Grey | Channels::GreyAlpha => DataColorSpace::Gray,
        Channels::Rgb | Channels::RgbAlpha => DataColorSpace::Rgb,
        Channels::Cmyk | Channels::InvertedCmyk | Channels::Ycck => DataColorSpace::Cmyk,
    };
    // The transfer function of an RGB profile also applies to greys, so grey pixels are converted as RGB.
    let is_rgb = profile.as_ref().is_some_and(|profile| profile.color_space == DataColorSpace::Rgb);
    if space == DataColorSpace::Gray && is_rgb {
        samples = without_profile(samples, space);
        space = DataColorSpace::Rgb;
    }
    let rgb = profile
        .and_then(|profile| through_profile(&samples, &profile, space))
        .unwrap_or_else(|| without_profile(samples, space));
    on_white(&rgb, alpha.as_deref())
}

/// Splits off the alpha, which is the last of `count` samples. Leaves the colours in `samples`.
fn split_alpha(samples: &mut Vec<u16>, count: usize) -> Vec<u16> {
    let alpha = samples.iter().skip(count - 1).step_by(count).copied().collect();
    let colours = samples.chunks_exact(count).flat_map(|pixel| &pixel[..count - 1]);
    *samples = colours.copied().collect();
    alpha
}

/// Converts the samples by the profile. `None` if the profile is for another kind of pixels or cannot be
/// used. The picture then counts as sRGB, as in every viewer.
fn through_profile(
    samples: &[u16],
    profile: &ColorProfile,
    space: DataColorSpace,
) -> Option<Vec<u16>> {
    let (count, layout) = match space {
        DataColorSpace::Gray => (1, Layout::Gray),
        DataColorSpace::Rgb => (3, Layout::Rgb),
        _ => (4, Layout::Rgba),
    };
    if profile.color_space != space {
        return None;
    }
    let options = TransformOptions {
        rendering_intent: RenderingIntent::Perceptual,
        ..TransformOptions::default()
    };
    let transform = profile
        .create_transform_16bit(layout, &ColorProfile::new_srgb(), Layout::Rgb, options)
        .ok()?;
    let mut rgb = vec![0; samples.len() / count * 3];
    transform.transform(samples, &mut rgb).ok()?;
    if space == DataColorSpace::Cmyk {
        let mut black = [0; 3];
        transform.transform(&[u16::MAX; 4], &mut black).ok()?;
        compensate_black_point(&mut rgb, black);
    }
    Some(rgb)
}

/// The darkest colour of a printing press is a dark grey, and a plain conversion would show it as grey. Like
/// viewers, this maps it to black and shifts lighter colours accordingly, in linear light.
fn compensate_black_point(rgb: &mut [u16], black: [u16; 3]) {
    let [red, green, blue] = black.map(to_linear);
    let darkest = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    let curve: Vec<u16> = (0..=u16::MAX)
        .map(|sample| from_linear((to_linear(sample) - darkest) / (1.0 - darkest)))
        .collect();
    for sample in rgb {
        *sample = curve[usize::from(*sample)];
    }
}

/// The transfer function of sRGB (IEC 61966-2-1), from 0 to 1.
fn to_linear(sample: u16) -> f64 {
    let encoded = f64::from(sample) / f64::from(u16::MAX);
    if encoded <= 0.040_45 { encoded / 12.92 } else { ((encoded + 0.055) / 1.055).powf(2.4) }
}

fn from_linear(linear: f64) -> u16 {
    let encoded = if linear <= 0.003_130_8 {
        12.92 * linear.max(0.0)
    } else {
        1.055 * linear.powf(1.0 / 2.4) - 0.055
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
    let sample = (encoded * f64::from(u16::MAX)).round() as u16;
    sample
}

fn without_profile(samples: Vec<u16>, space: DataColorSpace) -> Vec<u16> {
    match space {
        DataColorSpace::Gray => samples.into_iter().flat_map(|grey| [grey; 3]).collect(),
        DataColorSpace::Rgb => samples,
        _ => samples
            .chunks_exact(4)
            .flat_map(|inks| [0, 1, 2].map(|ink| times(!inks[ink], !inks[3])))
            .collect(),
    }
}

/// Converts luma, chromas and inverted black to inks. Adobe's programs invert all inks before they convert
/// them, and the conversion inverts the first three again. So a higher luma means more ink.
fn inks_of_ycck(pixel: &mut [u16]) {
    let [luma, blue, red] = [pixel[0], pixel[1], pixel[2]].map(f64::from);
    let (blue, red) = (blue - 32_896.0, red - 32_896.0);
    let inks = [luma + 1.402 * red, luma - 0.344_136 * blue - 0.714_136 * red, luma + 1.772 * blue];
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
    for (sample, ink) in pixel.iter_mut().zip(inks) {
        *sample = ink.round() as u16;
    }
    pixel[3] = !pixel[3];
}

fn on_white(rgb: &[u16], alpha: Option<&[u16]>) -> Vec<u8> {
    let Some(alpha) = alpha else {
        return rgb.iter().map(|&sample| to_eight(sample)).collect();
    };
    let pixels = rgb.chunks_exact(3).zip(alpha);
    pixels
        .flat_map(|(pixel, &alpha)| [0, 1, 2].map(|at| to_eight(!times(!pixel[at], alpha))))
        .collect()
}

/// The product of two fractions, where [`WHITE`] is one.
fn times(one: u16, other: u16) -> u16 {
    let product = u32::from(one) * u32::from(other);
    u16::try_from((product + WHITE / 2) / WHITE).unwrap_or(u16::MAX)
}

fn to_eight(sample: u16) -> u8 {
    u8::try_from((u32::from(sample) + 128) / 257).unwrap_or(u8::MAX)
}
