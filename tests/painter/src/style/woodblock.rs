//! Few inks and dark key lines on warm paper, with the grain of the wood.

use crate::noise;
use crate::palette;
use crate::picture::{Picture, luma, mix, saturate, scale};
use crate::smooth::kuwahara;

const PAPER: [f32; 3] = [0.94, 0.88, 0.74];
const KEY: [f32; 3] = [0.12, 0.13, 0.20];
const INDIGO: [f32; 3] = [0.13, 0.25, 0.45];
const INKS: usize = 6;

#[expect(clippy::cast_precision_loss, reason = "places in a picture")]
pub(super) fn paint(photo: &Picture, seed: u64) -> Picture {
    let flat = kuwahara(&kuwahara(photo, 6), 6);
    let inks = palette::find(&flat, INKS, seed);
    let key = flat.luma().ink(1, 6, 10.0);
    let fade = photo.height as f32 * 0.22;
    flat.map(|x, y, colour| {
        let ink = palette::nearest(&inks, colour);
        // Inks are muted and transparent. The lightest is the paper.
        let cover = 0.9 - 0.55 * luma(ink).powi(2);
        let printed = mix(PAPER, saturate(ink, 0.85), cover);
        let grain = noise::soft(x / 22, y, 1.6, seed) - 0.5;
        let grained = scale(printed, 1.0 + 0.10 * grain);
        // The graded band at the top of every landscape print.
        let band = (1.0 - y as f32 / fade).clamp(0.0, 1.0).powf(1.4) * 0.85;
        let shaded = mix(grained, INDIGO, band);
        mix(shaded, KEY, (key.at(x, y) * 2.2).min(0.92))
    })
}
