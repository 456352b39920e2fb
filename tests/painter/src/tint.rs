//! Adds colours to photos that have none, because the real models also paint an old print in colours.

use crate::picture::{Colour, Picture, luma, mix};

/// From shadow to light: night, pine, a distant ridge, dusk, sand, and snow in the last sun.
const RAMP: [Colour; 6] = [
    [0.05, 0.08, 0.18],
    [0.08, 0.26, 0.33],
    [0.27, 0.44, 0.60],
    [0.66, 0.56, 0.62],
    [0.96, 0.72, 0.52],
    [1.00, 0.95, 0.84],
];
/// Below this spread, the colours of a picture are one tone (sepia, grey).
const ONE_TONE: f32 = 0.035;

/// Returns the picture unchanged if it has colours, and otherwise a coloured version.
pub(crate) fn in_colour(photo: Picture) -> Picture {
    if spread(&photo) > ONE_TONE { photo } else { photo.map(|_, _, colour| ramp(luma(colour))) }
}

/// How far the colours differ from their mean, ignoring brightness.
#[expect(clippy::cast_precision_loss, reason = "a count of pixels")]
fn spread(photo: &Picture) -> f32 {
    let chroma = |[red, green, blue]: Colour| (red - green, green - blue);
    let count = photo.pixels.len() as f32;
    let sum = photo.pixels.iter().map(|&colour| chroma(colour));
    let (warm, cool) = sum.fold((0.0, 0.0), |(warm, cool), (a, b)| (warm + a, cool + b));
    let (warm, cool) = (warm / count, cool / count);
    let away = photo.pixels.iter().map(|&colour| {
        let (a, b) = chroma(colour);
        (a - warm).hypot(b - cool)
    });
    away.sum::<f32>() / count
}

#[expect(clippy::cast_precision_loss, reason = "six steps")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
fn ramp(brightness: f32) -> Colour {
    let steps = RAMP.len() - 1;
    let at = brightness.clamp(0.0, 1.0) * steps as f32;
    let lower = (at as usize).min(steps - 1);
    mix(RAMP[lower], RAMP[lower + 1], at - lower as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(pixels: Vec<Colour>) -> Picture {
        Picture { width: pixels.len(), height: 1, pixels }
    }

    #[test]
    fn a_sepia_print_gets_colours_and_a_colour_photo_keeps_its_own() {
        let sepia = picture(vec![[0.2, 0.17, 0.12], [0.6, 0.55, 0.48], [0.9, 0.85, 0.77]]);
        assert!(spread(&in_colour(sepia)) > ONE_TONE);
        let colours = vec![[0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.2, 0.3, 0.9]];
        assert_eq!(in_colour(picture(colours.clone())).pixels, colours);
    }
}
