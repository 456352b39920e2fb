//! The coded data of a picture, block by block (ITU-T T.81, annexes F and G).

use super::huffman::{Bits, Table};
use super::{CORRUPT, Rejection};

/// How a scan codes a block.
#[derive(Clone, Copy)]
pub(super) enum Coding<'a> {
    /// All 64 coefficients.
    Sequential(&'a Table, &'a Table),
    /// The first coefficient, without this many of its lowest bits.
    Dc(&'a Table, u8),
    /// The bit of the first coefficient at this position.
    DcBit(u8),
    /// Further coefficients, from the first to the last index, without this many of their lowest bits.
    Ac(&'a Table, u8, u8, u8),
    /// The bit of further coefficients at this position.
    AcBit(&'a Table, u8, u8, u8),
}

/// The coefficients of a block.
pub(super) struct Block<'a> {
    /// The coefficients that are kept.
    pub(super) kept: &'a mut [i16],
    /// For each coefficient, in the order of the file: its index in `kept`, or an index outside.
    pub(super) places: &'a [u8; 64],
    /// One bit for each coefficient that is not zero, kept or not. A progressive
    /// file cannot be read without them.
    pub(super) known: &'a mut u64,
}

impl Block<'_> {
    fn kept(&mut self, at: u32) -> Option<&mut i16> {
        self.kept.get_mut(usize::from(self.places[at as usize & 63]))
    }

    fn set(&mut self, at: u32, value: i32) -> Result<(), Rejection> {
        *self.known |= 1 << at;
        if let Some(coefficient) = self.kept(at) {
            *coefficient = i16::try_from(value).map_err(|_| CORRUPT)?;
        }
        Ok(())
    }

    /// Adds a lower bit to a coefficient that is not zero.
    fn refine(&mut self, at: u32, bit: i16) {
        if let Some(coefficient) = self.kept(at) {
            let bit = if *coefficient < 0 { -bit } else { bit };
            *coefficient = coefficient.saturating_add(bit);
        }
    }
}

/// Reads the blocks of an interval, one after the other.
pub(super) struct Blocks<'a> {
    bits: Bits<'a>,
    /// Number of following blocks that are already known to be empty.
    empty: u32,
    /// For each component of the scan, the first coefficient of the previous block.
    before: [i32; 4],
}

impl<'a> Blocks<'a> {
    pub(super) fn of(interval: &'a [u8]) -> Self {
        Self { bits: Bits::of(interval), empty: 0, before: [0; 4] }
    }

    /// Reads the next block, which belongs to this component of the scan.
    pub(super) fn read(
        &mut self,
        component: usize,
        coding: Coding,
        block: &mut Block,
    ) -> Result<(), Rejection> {
        match coding {
            Coding::Sequential(dc, ac) => {
                self.dc(component, dc, 0, block)?;
                self.sequential(ac, block)
            }
            Coding::Dc(table, shift) => self.dc(component, table, shift, block),
            Coding::DcBit(shift) => {
                let bit = self.bits.read(1)? << shift;
                let bit = i16::try_from(bit).map_err(|_| CORRUPT)?;
                if let Some(coefficient) = block.kept(0) {
                    *coefficient |= bit;
                }
                Ok(())
            }
            Coding::Ac(table, first, last, shift) => self.ac(table, first, last, shift, block),
            Coding::AcBit(table, first, last, shift) => {
                self.ac_bit(table, first, last, shift, block)
            }
        }
    }

    fn dc(
        &mut self,
        component: usize,
        table: &Table,
        shift: u8,
        block: &mut Block,
    ) -> Result<(), Rejection> {
        let (symbol, difference) = self.bits.symbol_and_value(table)?;
        if symbol > 15 {
            return Err(CORRUPT);
        }
        let dc = self.before[component].wrapping_add(difference);
        self.before[component] = dc;
        block.set(0, dc.wrapping_shl(shift.into()))
    }

    fn sequential(&mut self, table: &Table, block: &mut Block) -> Result<(), Rejection> {
        let mut at = 1;
        while at < 64 {
            let (symbol, value) = self.bits.symbol_and_value(table)?;
            match (symbol >> 4, symbol & 15) {
                (15, 0) => at += 16,
                (_, 0) => break,
                (zeros, _) => {
                    at += u32::from(zeros);
                    if at > 63 {
                        return Err(CORRUPT);
                    }
                    block.set(at, value)?;
                    at += 1;
                }
            }
        }
        if at > 64 { Err(CORRUPT) } else { Ok(()) }
    }

    fn ac(
        &mut self,
        table: &Table,
        first: u8,
        last: u8,
        shift: u8,
        block: &mut Block,
    ) -> Result<(), Rejection> {
        if self.empty > 0 {
            self.empty -= 1;
            return Ok(());
        }
        let (mut at, last) = (u32::from(first), u32::from(last));
        while at <= last {
            let (symbol, value) = self.bits.symbol_and_value(table)?;
            match (u32::from(symbol >> 4), symbol & 15) {
                (15, 0) => at += 16,
                (run, 0) => {
                    self.empty = (1 << run) - 1 + self.bits.read(run)?;
                    break;
                }
                (zeros, _) => {
                    at += zeros;
                    if at > last {
                        return Err(CORRUPT);
                    }
                    block.set(at, value << shift)?;
                    at += 1;
                }
            }
        }
        Ok(())
    }

    /// Reads one bit for each known coefficient, and the new coefficients between them.
    fn ac_bit(
        &mut self,
        table: &Table,
        first: u8,
        last: u8,
        shift: u8,
        block: &mut Block,
    ) -> Result<(), Rejection> {
        let bit = 1_i16.checked_shl(shift.into()).filter(|&bit| bit > 0).ok_or(CORRUPT)?;
        let (mut at, last) = (u32::from(first), u32::from(last));
        while self.empty == 0 && at <= last {
            let symbol = self.bits.symbol(table)?;
            let (mut zeros, is_new) = (u32::from(symbol >> 4), symbol & 15 != 0);
            let mut value = 0;
            if is_new {
                value = if self.bits.read(1)? == 1 { bit.into() } else { -i32::from(bit) };
            } else if zeros < 15 {
                self.empty = (1 << zeros) + self.bits.read(zeros)?;
                break;
            }
            let start = at;
            while at <= last {
                if *block.known >> at & 1 == 0 {
                    if zeros == 0 {
                        break;
                    }
                    zeros -= 1;
                }
                at += 1;
            }
            self.refine(start, at, bit, block)?;
            if is_new && at <= last {
                block.set(at, value)?;
            }
            at += 1;
        }
        if self.empty > 0 {
            self.refine(at, last + 1, bit, block)?;
            self.empty -= 1;
        }
        Ok(())
    }

    /// Reads one bit for each known coefficient from `start` up to, but not including, `end`.
    fn refine(
        &mut self,
        start: u32,
        end: u32,
        bit: i16,
        block: &mut Block,
    ) -> Result<(), Rejection> {
        if start >= end {
            return Ok(());
        }
        let mut known = (*block.known >> start) << start << (64 - end) >> (64 - end);
        while known != 0 {
            let some = known.count_ones().min(32);
            let bits = self.bits.read(some)?;
            for next in (0..some).rev() {
                if bits >> next & 1 == 1 {
                    block.refine(known.trailing_zeros(), bit);
                }
                known &= known - 1;
            }
        }
        Ok(())
    }
}
