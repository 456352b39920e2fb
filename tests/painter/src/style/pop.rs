//! Four flat inks and a screen of dots.

use crate::noise;
use crate::picture::{Colour, Picture};
use crate::smooth::kuwahara;

const INKS: [[Colour; 4]; 3] = [
    [[0.10, 0.08, 0.36], [0.91, 0.11, 0.46], [0.99, 0.82, 0.10], [0.99, 0.96, 0.86]],
    [[0.16, 0.05, 0.30], [0.05, 0.56, 0.80], [0.98, 0.42, 0.16], [1.00, 0.95, 0.72]],
    [[0.04, 0.20, 0.28], [0.90, 0.15, 0.22], [0.10, 0.74, 0.66], [0.99, 0.94, 0.80]],
];
const DOTS: f32 = 9.0;

#[expect(clippy::cast_precision_loss, reason = "places in a picture")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index below 3")]
pub(super) fn paint(photo: &Picture, seed: u64) -> Picture {
    let flat = kuwahara(photo, 4);
    let tone = levelled(&flat);
    let ink = flat.luma().ink(1, 5, 9.0);
    let inks = INKS[(noise::at(1, 1, seed) * 2.99) as usize];
    flat.map(|x, y, _| {
        let place = y * photo.width + x;
        if ink.values[place] > 0.3 {
            return inks[0];
        }
        let level = (tone[place] * 3.999).min(3.999);
        let (lower, share) = (level as usize, level.fract());
        // Dots of the lighter ink grow until they cover the darker one.
        let (u, v) = ((x as f32 + y as f32) / DOTS, (x as f32 - y as f32) / DOTS);
        let away = (u.fract() - 0.5).hypot(v.rem_euclid(1.0) - 0.5);
        let upper = (lower + 1).min(3);
        if away < share * 0.62 { inks[upper] } else { inks[lower] }
    })
}

/// The brightness, stretched to the whole range.
fn levelled(picture: &Picture) -> Vec<f32> {
    let grey = picture.luma().values;
    let mut sorted = grey.clone();
    sorted.sort_by(f32::total_cmp);
    let (low, high) = (sorted[sorted.len() / 20], sorted[sorted.len() * 19 / 20]);
    grey.into_iter().map(|value| ((value - low) / (high - low).max(0.05)).clamp(0.0, 1.0)).collect()
}
