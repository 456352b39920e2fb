//! Luminous panes between lead.

use crate::cells::{Metric, divide};
use crate::noise;
use crate::picture::{Picture, contrast, mix, saturate, scale};

const LEAD: [f32; 3] = [0.06, 0.06, 0.08];

#[expect(clippy::cast_precision_loss, reason = "places in a picture")]
#[expect(clippy::cast_possible_wrap, reason = "a small index")]
pub(super) fn paint(photo: &Picture, seed: u64) -> Picture {
    let size = (photo.width.min(photo.height) / 34).max(8);
    let cells = divide(photo, size, 0.95, Metric::Round, seed);
    photo.map(|x, y, _| {
        let place = cells.places[y * photo.width + x];
        let pane = contrast(saturate(cells.colours[place.cell], 2.1), 1.25);
        let tint = 0.85 + 0.35 * noise::at(place.cell as i64, 3, seed);
        let glow = 1.25 - 0.45 * (place.to_centre / size as f32).min(1.0);
        let ripple = 0.96 + 0.08 * noise::soft(x, y, 5.0, seed + 4);
        let lit = scale(pane, tint * glow * ripple);
        let edge = size as f32 * 0.055;
        let open = ((place.to_border - edge) / 1.4).clamp(0.0, 1.0);
        // The lead looks round because it has a thin light along its middle.
        let lead = scale(LEAD, 1.0 + 2.5 * (1.0 - place.to_border / edge).clamp(0.0, 1.0));
        mix(lead, lit, open)
    })
}
