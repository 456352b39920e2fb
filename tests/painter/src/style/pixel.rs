//! A coarse grid and few colours.

use crate::palette;
use crate::picture::{Picture, contrast, saturate};

const ACROSS: usize = 112;
const COLOURS: usize = 20;

#[expect(clippy::cast_precision_loss, reason = "a count of pixels")]
pub(super) fn paint(photo: &Picture, seed: u64) -> Picture {
    let size = (photo.width.max(photo.height) / ACROSS).max(3);
    let vivid = photo.map(|_, _, colour| contrast(saturate(colour, 1.45), 1.2));
    let colours = palette::find(&vivid, COLOURS, seed);
    let columns = photo.width.div_ceil(size);
    let mut blocks = vec![([0.0_f32; 3], 0_usize); columns * photo.height.div_ceil(size)];
    for (index, colour) in vivid.pixels.iter().enumerate() {
        let (x, y) = (index % photo.width, index / photo.width);
        let (sum, count) = &mut blocks[y / size * columns + x / size];
        for (part, value) in sum.iter_mut().zip(colour) {
            *part += value;
        }
        *count += 1;
    }
    let blocks: Vec<_> = blocks
        .into_iter()
        .enumerate()
        .map(|(index, (sum, count))| {
            // A chequered shift between two colours looks like the colour between them.
            let shift =
                if (index % columns + index / columns).is_multiple_of(2) { 0.025 } else { -0.025 };
            let mean = sum.map(|part| part / count.max(1) as f32 + shift);
            palette::nearest(&colours, mean)
        })
        .collect();
    photo.map(|x, y, _| blocks[y / size * columns + x / size])
}
