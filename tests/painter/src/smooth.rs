//! Smoothing that keeps edges (Kuwahara). Each pixel becomes the mean of the most uniform
//! of the four quarters around it.

use crate::picture::{Colour, Picture, luma};

/// Sums from the top left corner: of the colours, of the brightness, and of its square.
struct Sums {
    width: usize,
    values: Vec<[f64; 5]>,
}

pub(crate) fn kuwahara(picture: &Picture, radius: usize) -> Picture {
    let sums = Sums::new(picture);
    let (last_x, last_y) = (picture.width - 1, picture.height - 1);
    picture.map(|x, y, _| {
        let (left, right) = (x.saturating_sub(radius), (x + radius).min(last_x));
        let (top, bottom) = (y.saturating_sub(radius), (y + radius).min(last_y));
        [(left, top, x, y), (x, top, right, y), (left, y, x, bottom), (x, y, right, bottom)]
            .map(|quarter| sums.mean_and_unrest(quarter))
            .into_iter()
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map_or([0.0; 3], |(mean, _)| mean)
    })
}

impl Sums {
    fn new(picture: &Picture) -> Self {
        let width = picture.width + 1;
        let mut values = vec![[0.0; 5]; width * (picture.height + 1)];
        for y in 0..picture.height {
            let mut row = [0.0; 5];
            for x in 0..picture.width {
                let colour = picture.pixels[y * picture.width + x];
                let grey = luma(colour);
                let parts = [colour[0], colour[1], colour[2], grey, grey * grey];
                for (sum, part) in row.iter_mut().zip(parts) {
                    *sum += f64::from(part);
                }
                let above = values[y * width + x + 1];
                values[(y + 1) * width + x + 1] = std::array::from_fn(|i| above[i] + row[i]);
            }
        }
        Self { width, values }
    }

    #[expect(clippy::cast_possible_truncation, reason = "colours need no more")]
    #[expect(clippy::cast_precision_loss, reason = "a count of pixels")]
    fn mean_and_unrest(
        &self,
        (left, top, right, bottom): (usize, usize, usize, usize),
    ) -> (Colour, f64) {
        let count = ((right - left + 1) * (bottom - top + 1)) as f64;
        let at = |x: usize, y: usize| self.values[y * self.width + x];
        let corners =
            [at(right + 1, bottom + 1), at(left, bottom + 1), at(right + 1, top), at(left, top)];
        let mean: [f64; 5] = std::array::from_fn(|i| {
            (corners[0][i] - corners[1][i] - corners[2][i] + corners[3][i]) / count
        });
        ([mean[0] as f32, mean[1] as f32, mean[2] as f32], mean[4] - mean[3] * mean[3])
    }
}
