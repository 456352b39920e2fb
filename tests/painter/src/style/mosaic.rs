//! Small stones with pale grout.

use crate::cells::{Metric, divide};
use crate::noise;
use crate::picture::{Picture, contrast, mix, saturate, scale};

const GROUT: [f32; 3] = [0.86, 0.83, 0.77];

#[expect(clippy::cast_precision_loss, reason = "places in a picture")]
#[expect(clippy::cast_possible_wrap, reason = "a small index")]
pub(super) fn paint(photo: &Picture, seed: u64) -> Picture {
    let size = (photo.width.min(photo.height) / 76).max(5);
    let cells = divide(photo, size, 0.3, Metric::Square, seed);
    photo.map(|x, y, _| {
        let place = cells.places[y * photo.width + x];
        let stone = contrast(saturate(cells.colours[place.cell], 1.3), 1.15);
        let differs = 0.84 + 0.32 * noise::at(place.cell as i64, 5, seed);
        let speckle = 0.95 + 0.1 * noise::at(x as i64, y as i64, seed + 1);
        // Light falls on the middle of each stone.
        let bevel = 1.06 - 0.16 * (place.to_centre * 2.0 / size as f32).min(1.0).powi(3);
        let open = ((place.to_border - 0.35) / 0.8).clamp(0.0, 1.0);
        mix(GROUT, scale(stone, differs * speckle * bevel), open)
    })
}
