//! The samples of a component.

use fast_image_resize::FilterType;

use super::entropy::Block;
use super::header::{Component, FrameHeader};
use super::idct::{Idct, Scale};
use super::{CORRUPT, Rejection};
use crate::resize::resize;

/// Marks a coefficient that no scan has contained yet.
const MISSING: u8 = u8::MAX;

pub(super) struct Plane {
    /// Number of blocks in a unit, across and down.
    pub(super) across: usize,
    pub(super) down: usize,
    /// Number of blocks across and down in a scan of this component only.
    pub(super) own: (usize, usize),
    /// Number of blocks across and down, rounded up to whole units.
    blocks: (usize, usize),
    /// Width and height of the visible part, in samples.
    seen: (f64, f64),
    /// The factors of the coefficients; `None` before the first scan.
    factors: Option<[f32; 64]>,
    /// In a progressive file: the kept coefficients, and a bit for each one that is not zero, block by block.
    kept: Vec<i16>,
    known: Vec<u64>,
    /// In a sequential file: all samples, row by row.
    samples: Vec<u8>,
    /// For each coefficient, the number of bits that are still missing.
    missing_bits: [u8; 64],
}

impl Plane {
    pub(super) fn of(
        component: &Component,
        frame: &FrameHeader,
        units: (usize, usize),
        scale: Scale,
    ) -> Self {
        let (most_across, most_down) = frame.unit();
        let own = |pixels: u16, part: u16, whole: u16| {
            (usize::from(pixels) * usize::from(part)).div_ceil(usize::from(whole) * 8)
        };
        let seen = |pixels: u16, part: u16, whole: u16| {
            let samples = f64::from(pixels) * f64::from(part) / f64::from(whole);
            if scale == Scale::Half { samples / 2.0 } else { samples }
        };
        let (across, down) = (usize::from(component.across), usize::from(component.down));
        let blocks = (units.0 * across, units.1 * down);
        let all = blocks.0 * blocks.1;
        let area = scale.side() * scale.side();
        let of_progressive = |length: usize| if frame.is_progressive { length } else { 0 };
        Self {
            across,
            down,
            own: (
                own(frame.width, component.across, most_across),
                own(frame.height, component.down, most_down),
            ),
            blocks,
            seen: (
                seen(frame.width, component.across, most_across),
                seen(frame.height, component.down, most_down),
            ),
            factors: None,
            kept: vec![0; of_progressive(all * area)],
            known: vec![0; of_progressive(all)],
            samples: vec![0; all * area - of_progressive(all * area)],
            missing_bits: [MISSING; 64],
        }
    }

    /// Whether each coefficient of each block is there, to its last bit.
    pub(super) fn is_whole(&self) -> bool {
        self.missing_bits == [0; 64]
    }

    /// Starts a scan. The first scan uses the quantisation table that is defined at that point.
    pub(super) fn begin(
        &mut self,
        idct: &Idct,
        table: Option<&[u16; 64]>,
    ) -> Result<(), Rejection> {
        if self.factors.is_none() {
            self.factors = Some(idct.factors(table.ok_or(CORRUPT)?));
        }
        Ok(())
    }

    /// Ends a scan that contained these coefficients.
    pub(super) fn end(&mut self, first: u8, last: u8, shift: u8) {
        self.missing_bits[usize::from(first)..=usize::from(last)].fill(shift);
    }

    /// Reads the block at `column` and `row`.
    pub(super) fn block(
        &mut self,
        (column, row): (usize, usize),
        idct: &Idct,
        read: impl FnOnce(&mut Block) -> Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        let (side, places) = (idct.side(), &idct.places);
        let at = row * self.blocks.0 + column;
        if let Some(known) = self.known.get_mut(at) {
            let kept = &mut self.kept[at * side * side..][..side * side];
            return read(&mut Block { kept, places, known });
        }
        let (mut all, mut known) = ([0; 64], 0);
        let kept = &mut all[..side * side];
        read(&mut Block { kept, places, known: &mut known })?;
        let stride = self.blocks.0 * side;
        let samples = &mut self.samples[row * side * stride + column * side..];
        idct.write(kept, self.factors.as_ref().ok_or(CORRUPT)?, samples, stride);
        Ok(())
    }

    /// Returns all samples, resized to `width` × `height`.
    pub(super) fn resized(mut self, idct: &Idct, width: u32, height: u32) -> Option<Vec<u8>> {
        let side = idct.side();
        let stride = self.blocks.0 * side;
        if self.samples.is_empty() {
            self.samples = vec![0; stride * self.blocks.1 * side];
            let blocks = self.kept.chunks_exact(side * side).enumerate();
            for (at, kept) in blocks {
                let (row, column) = (at / self.blocks.0, at % self.blocks.0);
                let samples = &mut self.samples[row * side * stride + column * side..];
                idct.write(kept, self.factors.as_ref()?, samples, stride);
            }
            self.kept = Vec::new();
        }
        // The samples beyond the visible edge are arbitrary, and filters read some of
        // them. So this repeats the edge.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "they are small"
        )]
        let (wide, high) = (self.seen.0.ceil() as usize, self.seen.1.ceil() as usize);
        self.samples.truncate(stride * high);
        for row in self.samples.chunks_exact_mut(stride) {
            let edge = row[wide - 1];
            row[wide..].fill(edge);
        }
        let (stride, rows) = (u32::try_from(stride).ok()?, u32::try_from(high).ok()?);
        // Subsampled chroma is enlarged with the filter that viewers use.
        let is_larger = f64::from(width) > self.seen.0 || f64::from(height) > self.seen.1;
        let filter = if is_larger { FilterType::Bilinear } else { FilterType::Lanczos3 };
        resize(&self.samples, (stride, rows), self.seen, (width, height), filter)
    }
}
