//! Graphite on white paper: contours, and hatching that gets denser in the shadows.

use crate::noise;
use crate::picture::Picture;

#[expect(clippy::cast_precision_loss, reason = "places in a picture")]
#[expect(clippy::cast_possible_wrap, reason = "places in a picture")]
pub(super) fn paint(photo: &Picture, seed: u64) -> Picture {
    let grey = photo.luma();
    let glow = grey.map(|value| 1.0 - value).blur(7);
    let tone = grey.blur(2);
    photo.map(|x, y, _| {
        // Dividing by the blurred negative (a "dodge") leaves white paper and the contours.
        let contour = (grey.at(x, y) / (1.0 - glow.at(x, y)).max(0.04)).min(1.0).powf(2.4);
        let dark = 1.0 - tone.at(x, y);
        let (fx, fy) = (x as f32, y as f32);
        let wobble = 3.0 * noise::soft(x, y, 40.0, seed);
        let hatch = |phase: f32, from: f32| {
            let line = ((phase + wobble) * 1.15).sin() * 0.5 + 0.5;
            line * ((dark - from) * 2.4).clamp(0.0, 0.55)
        };
        let shade = hatch((fx + fy) * 0.75, 0.38) + hatch((fx - fy) * 0.75, 0.62);
        let tooth = 0.82 + 0.36 * noise::at(x as i64, y as i64, seed + 1);
        let graphite = ((1.0 - contour) * 0.95 + shade) * tooth;
        let paper = 0.975 - 0.02 * noise::soft(x, y, 3.0, seed + 2);
        let value = (paper - graphite.min(0.88)).clamp(0.05, 1.0);
        [value, value * 0.995, value * 0.975]
    })
}
