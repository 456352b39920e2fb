//! Washes that get darker at their edges, on grained paper that shows at the border.

use crate::noise;
use crate::picture::{Picture, mix, saturate, scale};
use crate::smooth::kuwahara;

const PAPER: [f32; 3] = [0.985, 0.975, 0.945];

#[expect(clippy::cast_precision_loss, reason = "places in a picture")]
#[expect(clippy::cast_possible_wrap, reason = "places in a picture")]
pub(super) fn paint(photo: &Picture, seed: u64) -> Picture {
    let wash = kuwahara(&kuwahara(photo, 5), 4);
    let pools = wash.luma().blur(1).edges();
    let reach = photo.width.min(photo.height) as f32 * 0.06;
    wash.map(|x, y, colour| {
        // Pigment settles unevenly: in large stains and in fine grains.
        let stain = noise::soft(x, y, 60.0, seed) * 0.6 + noise::soft(x, y, 17.0, seed + 1) * 0.4;
        let grain = noise::at(x as i64, y as i64, seed + 2) - 0.5;
        let pigment = 0.62 + 0.34 * stain + 0.10 * grain;
        let pooled = scale(saturate(colour, 1.5), 1.0 - (pools.at(x, y) * 1.6).min(0.45));
        let painted = mix(PAPER, pooled, pigment);

        let border =
            [x, photo.width - 1 - x, y, photo.height - 1 - y].into_iter().min().unwrap_or(0);
        let ragged = reach * (0.25 + 1.2 * noise::soft(x, y, 34.0, seed + 3));
        let covered = ((border as f32 - ragged * 0.6) / (reach * 0.25)).clamp(0.0, 1.0);
        scale(mix(PAPER, painted, covered), 1.0 - 0.03 * (grain + 0.5))
    })
}
