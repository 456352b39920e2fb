//! Strokes of a loaded brush that follow the shapes, under a light from the upper left.

use crate::noise;
use crate::picture::{Picture, Plane, contrast, mix, saturate, scale};
use crate::smooth::kuwahara;

#[expect(clippy::cast_precision_loss, reason = "places in a picture")]
#[expect(clippy::cast_possible_wrap, reason = "places in a picture")]
pub(super) fn paint(photo: &Picture, seed: u64) -> Picture {
    let ground = kuwahara(photo, 6);
    let flow = ground.luma().blur(4);
    let mut canvas = ground.map(|_, _, colour| saturate(scale(colour, 0.85), 1.3));
    let mut relief = Plane { values: vec![0.5; flow.values.len()], ..flow };
    // Paints broad strokes first, and fine ones over them.
    for (pass, (spacing, length, width)) in
        [(14, 46.0, 13.0), (8, 22.0, 6.0)].into_iter().enumerate()
    {
        for row in 0..photo.height / spacing {
            for column in 0..photo.width / spacing {
                let chance = |salt: u64| {
                    noise::at(column as i64, row as i64, seed + 10 * pass as u64 + salt)
                };
                let x = (column as f32 + chance(1)) * spacing as f32;
                let y = (row as f32 + chance(2)) * spacing as f32;
                stroke(
                    &mut canvas,
                    &mut relief,
                    &ground,
                    &flow,
                    &Stroke { x, y, length, width, chance: chance(3) },
                );
            }
        }
    }
    let relief = relief.blur(1);
    canvas.map(|x, y, colour| {
        let (across, down) = relief.gradient(x, y);
        let light = (1.0 - 0.22 * (across + down)).clamp(0.72, 1.35);
        let warm = mix(contrast(colour, 1.12), [0.95, 0.75, 0.42], 0.07);
        scale(warm, light)
    })
}

struct Stroke {
    x: f32,
    y: f32,
    length: f32,
    width: f32,
    chance: f32,
}

#[expect(clippy::cast_possible_truncation, reason = "rounded to a pixel")]
fn stroke(
    canvas: &mut Picture,
    relief: &mut Plane,
    ground: &Picture,
    flow: &Plane,
    stroke: &Stroke,
) {
    let &Stroke { x, y, length, width, chance } = stroke;
    let place = ground.index(x as isize, y as isize);
    let (across, down) = flow.gradient(place % ground.width, place / ground.width);
    // Strokes follow the shape. If there is none, their direction is random.
    let angle = if across.hypot(down) < 0.02 { 0.6 + chance } else { down.atan2(across) + 1.57 };
    let (cos, sin) = (angle.cos(), angle.sin());
    let colour = saturate(scale(ground.pixels[place], 0.88 + 0.24 * chance), 1.35);

    let mut along = -length / 2.0;
    while along <= length / 2.0 {
        let taper = 1.0 - (2.0 * along / length).powi(4);
        let half = width / 2.0 * taper;
        let mut side = -half;
        while side <= half {
            let (px, py) = (x + along * cos - side * sin, y + along * sin + side * cos);
            let index = canvas.index(px.round() as isize, py.round() as isize);
            let bristle = noise::at(side.round() as i64, (chance * 1e4) as i64, 5);
            canvas.pixels[index] =
                mix(canvas.pixels[index], scale(colour, 0.9 + 0.2 * bristle), 0.85);
            relief.values[index] = 0.35 + 0.65 * bristle * taper;
            side += 0.7;
        }
        along += 0.7;
    }
}
