//! Ink outlines, flat colours, and dots in the shadows.

use crate::picture::{Picture, contrast, luma, saturate, scale};
use crate::smooth::kuwahara;

const STEPS: f32 = 4.0;
const DOTS: f32 = 6.0;

#[expect(clippy::cast_precision_loss, reason = "places in a picture")]
pub(super) fn paint(photo: &Picture, _seed: u64) -> Picture {
    let flat = kuwahara(photo, 4);
    let ink = flat.luma().ink(1, 4, 13.0);
    flat.map(|x, y, colour| {
        if ink.at(x, y) > 0.22 {
            return [0.04, 0.04, 0.06];
        }
        let vivid = contrast(saturate(colour, 1.9), 1.35);
        let bright = luma(vivid).max(0.02);
        let stepped = ((bright * STEPS).floor() + 0.7) / STEPS;
        let shaded = scale(vivid, (stepped / bright).min(2.2)).map(|part| part.min(1.0));
        let (u, v) = ((x as f32 + y as f32) / DOTS, (x as f32 - y as f32) / DOTS);
        let away = (u.fract() - 0.5).hypot(v.rem_euclid(1.0) - 0.5);
        let dotted = bright < 0.55 && away < 0.42 * (0.75 - bright);
        if dotted { scale(shaded, 0.35) } else { shaded }
    })
}
