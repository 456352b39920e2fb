//! Cells around scattered points: panes of glass or stones of a mosaic.

use crate::noise;
use crate::picture::{Colour, Picture};

/// The cell of a pixel, and the distance from the border to the next cell.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) cell: usize,
    /// In pixels.
    pub(crate) to_border: f32,
    /// Distance from the cell's point, in pixels.
    pub(crate) to_centre: f32,
}

/// A picture divided into cells.
pub(crate) struct Cells {
    pub(crate) places: Vec<Place>,
    pub(crate) colours: Vec<Colour>,
}

/// The distance between two places.
#[derive(Clone, Copy)]
pub(crate) enum Metric {
    /// Euclidean distance: the cells have straight sides at all angles.
    Round,
    /// The larger of the two differences: the cells are nearly square.
    Square,
}

impl Metric {
    fn measure(self, dx: f32, dy: f32) -> f32 {
        match self {
            Self::Round => dx.hypot(dy),
            Self::Square => dx.abs().max(dy.abs()),
        }
    }
}

/// Divides a picture into cells of about `size` pixels. `scatter` is how far a point may be from its place in the
/// grid, from side to side, as a share of `size`.
#[expect(clippy::cast_precision_loss, reason = "places in a picture")]
#[expect(clippy::cast_possible_wrap, reason = "a place in a grid")]
pub(crate) fn divide(
    picture: &Picture,
    size: usize,
    scatter: f32,
    metric: Metric,
    seed: u64,
) -> Cells {
    let columns = picture.width.div_ceil(size) + 2;
    let rows = picture.height.div_ceil(size) + 2;
    let point = |index: usize| {
        let (column, row) = (index % columns, index / columns);
        let shift = |salt: u64| (noise::at(column as i64, row as i64, seed + salt) - 0.5) * scatter;
        let place = |index: usize, shift: f32| (index as f32 - 0.5 + shift) * size as f32;
        (place(column, shift(1)), place(row, shift(2)))
    };
    let points: Vec<(f32, f32)> = (0..columns * rows).map(point).collect();

    // Up to this scatter, the two nearest points are always in the next cells.
    let reach = if scatter <= 0.3 { 1 } else { 2 };

    let mut places = Vec::with_capacity(picture.pixels.len());
    let mut sums = vec![([0.0_f32; 3], 0.0_f32); columns * rows];
    for y in 0..picture.height {
        for x in 0..picture.width {
            let (column, row) = (x / size + 1, y / size + 1);
            let mut nearest = (f32::MAX, 0);
            let mut second = f32::MAX;
            for near_row in row.saturating_sub(reach)..(row + reach + 1).min(rows) {
                for near_column in column.saturating_sub(reach)..(column + reach + 1).min(columns) {
                    let cell = near_row * columns + near_column;
                    let (px, py) = points[cell];
                    let away = metric.measure(x as f32 - px, y as f32 - py);
                    if away < nearest.0 {
                        second = nearest.0;
                        nearest = (away, cell);
                    } else if away < second {
                        second = away;
                    }
                }
            }
            let (to_centre, cell) = nearest;
            places.push(Place { cell, to_border: (second - to_centre) / 2.0, to_centre });
            let (sum, count) = &mut sums[cell];
            for (part, value) in sum.iter_mut().zip(picture.pixels[y * picture.width + x]) {
                *part += value;
            }
            *count += 1.0;
        }
    }
    let colours = sums.into_iter().map(|(sum, count)| sum.map(|part| part / f32::max(count, 1.0)));
    Cells { places, colours: colours.collect() }
}
