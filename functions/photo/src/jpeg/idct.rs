//! Converts the coefficients of a block to samples (ITU-T T.81, annex A.3.3).

/// The position of each coefficient in its 8 × 8 block, in the order of the file.
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];
/// The place of a coefficient that is not kept.
const NOWHERE: u8 = u8::MAX;

/// The size of a decoded block: 8 × 8 samples, or half of that on each side. For half, a quarter of the
/// coefficients is enough, because a smaller picture can only show the low frequencies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Whole,
    Half,
}

impl Scale {
    /// The side of a block, in samples.
    pub(super) fn side(self) -> usize {
        match self {
            Self::Whole => 8,
            Self::Half => 4,
        }
    }
}

/// Decodes blocks of one size.
pub(super) struct Idct {
    scale: Scale,
    /// For each coefficient, in the order of the file: its index among the kept
    /// ones, which are stored row by row.
    pub(super) places: [u8; 64],
    /// The wave of each frequency.
    whole: [[f32; 8]; 8],
    half: [[f32; 4]; 4],
}

impl Idct {
    pub(super) fn of(scale: Scale) -> Self {
        let side = u8::try_from(scale.side()).unwrap_or(8);
        let places = ZIGZAG.map(|natural| {
            let (row, column) = (natural / 8, natural % 8);
            if row < side && column < side { row * side + column } else { NOWHERE }
        });
        Self { scale, places, whole: waves(), half: waves() }
    }

    /// The side of a block, in samples.
    pub(super) fn side(&self) -> usize {
        self.scale.side()
    }

    /// Converts a quantisation table from the order of the file to the order of the kept coefficients.
    pub(super) fn factors(&self, table: &[u16; 64]) -> [f32; 64] {
        let mut factors = [0.0; 64];
        for (&place, &step) in self.places.iter().zip(table) {
            if let Some(factor) = factors.get_mut(usize::from(place)) {
                *factor = f32::from(step);
            }
        }
        factors
    }

    /// Writes a block into `samples`, whose rows have the length `stride`.
    pub(super) fn write(&self, kept: &[i16], factors: &[f32], samples: &mut [u8], stride: usize) {
        match self.scale {
            Scale::Whole => write(&self.whole, kept, factors, samples, stride),
            Scale::Half => write(&self.half, kept, factors, samples, stride),
        }
    }
}

/// The waves, scaled so that blocks of both sizes have the same brightness.
fn waves<const SIDE: usize>() -> [[f32; SIDE]; SIDE] {
    let number = |count: usize| f32::from(u8::try_from(count).unwrap_or(u8::MAX));
    std::array::from_fn(|frequency| {
        let norm = if frequency == 0 { 0.125_f32.sqrt() } else { 0.5 };
        let step = number(frequency) * std::f32::consts::PI / number(2 * SIDE);
        std::array::from_fn(|at| norm * (number(2 * at + 1) * step).cos())
    })
}

/// Writes the samples of a block. Skips rows of zeros, because most coefficients are zero.
fn write<const SIDE: usize>(
    waves: &[[f32; SIDE]; SIDE],
    kept: &[i16],
    factors: &[f32],
    samples: &mut [u8],
    stride: usize,
) {
    // The middle of the range, plus one half for rounding.
    let mut block = [[128.5_f32; SIDE]; SIDE];
    let rows = kept.chunks_exact(SIDE).zip(factors.chunks_exact(SIDE));
    for ((row, factors), down) in rows.zip(waves) {
        if row.iter().all(|&coefficient| coefficient == 0) {
            continue;
        }
        let mut line = [0.0; SIDE];
        for ((&coefficient, factor), across) in row.iter().zip(factors).zip(waves) {
            if coefficient != 0 {
                let amount = f32::from(coefficient) * factor;
                for (sum, wave) in line.iter_mut().zip(across) {
                    *sum += amount * wave;
                }
            }
        }
        for (sums, wave) in block.iter_mut().zip(down) {
            for (sum, level) in sums.iter_mut().zip(line) {
                *sum += wave * level;
            }
        }
    }
    for (row, levels) in samples.chunks_mut(stride).zip(block) {
        for (sample, level) in row.iter_mut().zip(levels) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "casts saturate"
            )]
            let level = level as u8;
            *sample = level;
        }
    }
}
