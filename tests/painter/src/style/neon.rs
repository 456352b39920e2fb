//! Glowing tubes along the contours, in the dark.

use crate::picture::{Picture, Plane, from_hsv, hue, scale};
use crate::smooth::kuwahara;

#[expect(clippy::cast_precision_loss, reason = "a share of the width")]
pub(super) fn paint(photo: &Picture, seed: u64) -> Picture {
    let calm = kuwahara(photo, 4);
    let edges = calm.luma().blur(1).edges();
    let strongest = edges.values.iter().copied().fold(0.05, f32::max);
    let tubes = edges.map(|value| ((value / strongest - 0.10) * 3.2).clamp(0.0, 1.0).powf(0.8));
    let turn = (seed % 97) as f32 / 97.0;

    let lit: Vec<[f32; 3]> = calm
        .pixels
        .iter()
        .enumerate()
        .map(|(index, &colour)| {
            let across = (index % photo.width) as f32 / photo.width as f32;
            // From cyan to magenta, shifted by the colours of the picture.
            let tint = from_hsv(0.5 + 0.42 * across + 0.25 * hue(colour) + 0.1 * turn, 0.9, 1.0);
            scale(tint, tubes.values[index])
        })
        .collect();
    let channel =
        |part: usize| Plane { values: lit.iter().map(|colour| colour[part]).collect(), ..tubes };
    let glows: [(Plane, Plane); 3] = std::array::from_fn(|part| {
        let plane = channel(part);
        (plane.blur(3), plane.blur(12))
    });
    calm.map(|x, y, colour| {
        let index = y * photo.width + x;
        let ground = [colour[0] * 0.10 + 0.01, colour[1] * 0.09 + 0.01, colour[2] * 0.16 + 0.045];
        std::array::from_fn(|part| {
            let (near, far) = &glows[part];
            let core = tubes.values[index].powi(3) * 0.5;
            ground[part]
                + lit[index][part]
                + core
                + near.values[index] * 0.9
                + far.values[index] * 1.3
        })
    })
}
