//! Shrinks and enlarges pictures, one channel at a time.
//!
//! The compiler compiles the resizer again for each kind of pixel, which takes longer than the rest of this
//! crate. So the resizer only gets pixels of one sample, with 8 or 16 bits.

use std::array;

use bytemuck::Pod;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U16};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

/// Number of rows that are shrunk at a time. Shrinking all rows at once would double the memory.
const ROWS: u32 = 1024;

/// One sample of a pixel.
pub(super) trait Sample: Pod + Into<u32> {
    /// The resizer's type for a pixel with one such sample.
    type Pixel: PixelTrait;
    /// The largest sample; for alpha it means opaque.
    const MOST: u32;

    /// Converts `value`, which must be at most [`Self::MOST`].
    fn of(value: u64) -> Self;

    /// This sample times `numerator` / `denominator`, rounded, and at most [`Self::MOST`].
    fn part(self, numerator: u32, denominator: u32) -> Self {
        let denominator = denominator.max(1);
        // This cannot overflow: 65,535 × 65,535 plus half of 65,535 fits into 32 bits.
        let part = (self.into() * numerator + denominator / 2) / denominator;
        Self::of(part.min(Self::MOST).into())
    }
}

impl Sample for u8 {
    type Pixel = U8;
    const MOST: u32 = 0xFF;

    #[expect(clippy::cast_possible_truncation, reason = "it is at most `MOST`")]
    fn of(value: u64) -> Self {
        value as Self
    }
}

impl Sample for u16 {
    type Pixel = U16;
    const MOST: u32 = 0xFFFF;

    #[expect(clippy::cast_possible_truncation, reason = "it is at most `MOST`")]
    fn of(value: u64) -> Self {
        value as Self
    }
}

/// Resizes the upper left part `seen` of a `plane` with the given `size` to the size `to`. `None` if the
/// number of samples is wrong.
pub(super) fn resize<S: Sample>(
    plane: &[S],
    size: (u32, u32),
    seen: (f64, f64),
    to: (u32, u32),
    filter: FilterType,
) -> Option<Vec<S>> {
    let mut resized = vec![S::zeroed(); length(to)?];
    let from = TypedImageRef::<S::Pixel>::from_buffer(size.0, size.1, bytemuck::cast_slice(plane));
    let into = bytemuck::cast_slice_mut(&mut resized);
    let mut into = TypedImage::<S::Pixel>::from_buffer(to.0, to.1, into).ok()?;
    let algorithm = ResizeAlg::Convolution(filter);
    let options = ResizeOptions::new().resize_alg(algorithm).crop(0.0, 0.0, seen.0, seen.1);
    Resizer::new().resize_typed(&from.ok()?, &mut into, &options).ok()?;
    Some(resized)
}

/// Shrinks a picture to the size `to`: first to half its size if `to` is at most that, and then with
/// Lanczos3. Each pixel has `N` samples. If the last sample is alpha, it weights the others, so that hidden
/// colours under transparent pixels do not bleed. `None` if the number of samples is wrong.
pub(super) fn shrink<S: Sample, const N: usize>(
    samples: &mut Vec<S>,
    has_alpha: bool,
    size: (u32, u32),
    to: (u32, u32),
) -> Option<()> {
    let ((mut width, mut height), mut seen) = (size, (f64::from(size.0), f64::from(size.1)));
    let is_halved = size.0 / 2 >= to.0 && size.1 / 2 >= to.1;
    if is_halved {
        halve::<S, N>(samples, has_alpha, size)?;
        (width, height) = (size.0.div_ceil(2), size.1.div_ceil(2));
        seen = (seen.0 / 2.0, seen.1 / 2.0);
    }
    // The shrunk rows overwrite the original ones. All bands reuse these
    // buffers, because fresh memory is slow.
    let mut band: [Vec<S>; N] = array::from_fn(|_| Vec::new());
    let rows = 0..height;
    for top in rows.step_by(ROWS as usize) {
        let size = (width, height.min(top + ROWS) - top);
        let rows = samples.get(length((width, top))? * N..)?;
        split(rows, has_alpha && !is_halved, size, &mut band)?;
        let shorter = samples.get_mut(length((to.0, top))? * N..)?;
        join(&band, size, (seen.0, size.1.into()), shorter, (to.0, size.1))?;
    }
    samples.truncate(length((to.0, height))? * N);
    samples.shrink_to_fit();
    split(samples, false, (to.0, height), &mut band)?;
    join(&band, (to.0, height), (to.0.into(), seen.1), samples, to)?;
    samples.truncate(length(to)? * N);
    if has_alpha {
        for pixel in samples.as_chunks_mut::<N>().0 {
            let (alpha, colours) = pixel.split_last_mut()?;
            for sample in colours {
                *sample = sample.part(S::MOST, (*alpha).into());
            }
        }
    }
    Some(())
}

/// Makes one pixel from two by two, and weights each of the four by its alpha. If a side is odd, its last
/// column or row counts twice.
fn halve<S: Sample, const N: usize>(
    samples: &mut [S],
    has_alpha: bool,
    (width, height): (u32, u32),
) -> Option<()> {
    let (width, height) = (usize::try_from(width).ok()?, usize::try_from(height).ok()?);
    let half = width.div_ceil(2);
    let mut row = vec![[S::zeroed(); N]; half];
    for top in 0..height.div_ceil(2) {
        let pixels = samples.as_chunks::<N>().0;
        let upper = pixels.get(2 * top * width..)?.get(..width)?;
        let lower = pixels.get((2 * top + 1).min(height - 1) * width..)?.get(..width)?;
        let pairs = upper.chunks(2).zip(lower.chunks(2));
        for (into, (upper, lower)) in row.iter_mut().zip(pairs) {
            let four = [upper[0], upper[upper.len() - 1], lower[0], lower[lower.len() - 1]];
            *into = average(four, has_alpha);
        }
        samples
            .as_chunks_mut::<N>()
            .0
            .get_mut(top * half..)?
            .get_mut(..half)?
            .copy_from_slice(&row);
    }
    Some(())
}

fn average<S: Sample, const N: usize>(pixels: [[S; N]; 4], has_alpha: bool) -> [S; N] {
    array::from_fn(|at| {
        if has_alpha && at + 1 < N {
            let weighted =
                pixels.map(|pixel| u64::from(pixel[at].into()) * u64::from(pixel[N - 1].into()));
            let most = 4 * u64::from(S::MOST);
            S::of((weighted.iter().sum::<u64>() + most / 2) / most)
        } else {
            S::of(((pixels.map(|pixel| pixel[at].into()).iter().sum::<u32>() + 2) / 4).into())
        }
    })
}

/// Splits the first pixels into channels, as many as fill `size`.
fn split<S: Sample, const N: usize>(
    samples: &[S],
    has_alpha: bool,
    size: (u32, u32),
    planes: &mut [Vec<S>; N],
) -> Option<()> {
    let pixels = samples.as_chunks::<N>().0.get(..length(size)?)?;
    for (at, plane) in planes.iter_mut().enumerate() {
        plane.clear();
        if has_alpha && at + 1 < N {
            plane.extend(pixels.iter().map(|pixel| pixel[at].part(pixel[N - 1].into(), S::MOST)));
        } else {
            plane.extend(pixels.iter().map(|pixel| pixel[at]));
        }
    }
    Some(())
}

/// Resizes the upper left part `seen` of the channels, whose size is `size`, to `to`.
/// Writes them over the first pixels.
fn join<S: Sample, const N: usize>(
    planes: &[Vec<S>; N],
    size: (u32, u32),
    seen: (f64, f64),
    samples: &mut [S],
    to: (u32, u32),
) -> Option<()> {
    for (at, plane) in planes.iter().enumerate() {
        let plane = resize(plane, size, seen, to, FilterType::Lanczos3)?;
        for (pixel, sample) in samples.as_chunks_mut::<N>().0.iter_mut().zip(plane) {
            pixel[at] = sample;
        }
    }
    Some(())
}

/// Number of samples of a plane.
fn length((width, height): (u32, u32)) -> Option<usize> {
    usize::try_from(u64::from(width) * u64::from(height)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_channels_keep_their_place_across_bands() {
        let rows = 2 * ROWS + 300;
        let at = |row: u32, all: u32| u8::try_from(row * 200 / all).expect("a sample");
        let row = |row: u32| [at(row, rows), 255 - at(row, rows), 90].repeat(8);
        let mut samples: Vec<u8> = (0..rows).flat_map(row).collect();
        shrink::<u8, 3>(&mut samples, false, (8, rows), (4, rows / 2)).expect("a picture");
        assert_eq!(samples.len(), length((4, rows / 2)).expect("a length") * 3);
        for (row, pixels) in (0..rows / 2).zip(samples.as_chunks::<12>().0) {
            let expected = [at(row, rows / 2), 255 - at(row, rows / 2), 90].repeat(4);
            let is_near = |(one, other): (&u8, &u8)| one.abs_diff(*other) <= 1;
            assert!(pixels.iter().zip(&expected).all(is_near), "row {row}: {pixels:?}");
        }
    }
    #[test]
    fn colours_under_alpha_do_not_bleed_and_odd_last_rows_and_columns_count() {
        let (width, rows) = (9, 2 * ROWS + 301);
        let at = |row: u32, all: u32| u8::try_from(row * 200 / all).expect("a sample");
        let pixel = |row: u32, column: u32| match column % 2 {
            0 => [200, at(row, rows), 90, 255],
            _ => [0, 255, 0, 0],
        };
        let row = |row| (0..width).flat_map(move |column| pixel(row, column));
        let mut samples: Vec<u8> = (0..rows).flat_map(row).collect();
        shrink::<u8, 4>(&mut samples, true, (width, rows), (4, 1044)).expect("a picture");
        assert_eq!(samples.len(), 4 * 1044 * 4);
        for (row, pixels) in (0..1044).zip(samples.as_chunks::<16>().0) {
            for &[red, green, blue, alpha] in pixels.as_chunks::<4>().0 {
                let is_near = |one: u8, other: u8, most| one.abs_diff(other) <= most;
                assert!(is_near(red, 200, 3) && is_near(blue, 90, 3), "row {row}: {pixels:?}");
                assert!(is_near(green, at(row, 1044), 3), "row {row}: {pixels:?}");
                assert!((100..=200).contains(&alpha), "row {row}: {pixels:?}");
            }
        }
    }
}
