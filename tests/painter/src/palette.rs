//! Reduces a picture to a few colours (k-means).

use crate::noise;
use crate::picture::{Colour, Picture, distance};

const ROUNDS: usize = 8;
/// Number of pixels that are sampled to find the colours.
const SAMPLES: usize = 6000;

/// The `count` colours that represent a picture best.
#[expect(clippy::cast_possible_wrap, reason = "a small index")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
#[expect(clippy::cast_precision_loss, reason = "a length")]
pub(crate) fn find(picture: &Picture, count: usize, seed: u64) -> Vec<Colour> {
    let step = (picture.pixels.len() / SAMPLES).max(1);
    let samples: Vec<Colour> = picture.pixels.iter().copied().step_by(step).collect();
    let mut colours: Vec<Colour> = (0..count)
        .map(|i| samples[(noise::at(i as i64, 7, seed) * (samples.len() - 1) as f32) as usize])
        .collect();
    for _ in 0..ROUNDS {
        let mut sums = vec![([0.0_f32; 3], 0.0_f32); count];
        for &sample in &samples {
            let (sum, members) = &mut sums[nearest_index(&colours, sample)];
            for (part, value) in sum.iter_mut().zip(sample) {
                *part += value;
            }
            *members += 1.0;
        }
        for (colour, (sum, members)) in colours.iter_mut().zip(sums) {
            if members > 0.0 {
                *colour = sum.map(|part| part / members);
            }
        }
    }
    colours
}

pub(crate) fn nearest(colours: &[Colour], colour: Colour) -> Colour {
    colours[nearest_index(colours, colour)]
}

fn nearest_index(colours: &[Colour], colour: Colour) -> usize {
    let mut best = (0, f32::MAX);
    for (index, &candidate) in colours.iter().enumerate() {
        let away = distance(candidate, colour);
        if away < best.1 {
            best = (index, away);
        }
    }
    best.0
}
