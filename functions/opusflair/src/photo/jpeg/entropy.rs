//! How much each block of a picture takes of the coded data (ITU-T T.81, annexes F and G). Nothing is
//! computed of it: whether all blocks are there is all that is asked.

use super::huffman::{Bits, Table};
use super::{CORRUPT, Rejection};

/// What a scan does with a block.
#[derive(Clone, Copy)]
pub(super) enum Coding<'a> {
    /// All 64 coefficients.
    Sequential(&'a Table, &'a Table),
    /// The first one.
    Dc(&'a Table),
    /// One more bit of the first one.
    DcBit,
    /// Others, from the first to the last.
    Ac(&'a Table, u8, u8),
    /// One more bit of others.
    AcBit(&'a Table, u8, u8),
}

/// Reads block after block of an interval.
pub(super) struct Blocks<'a> {
    bits: Bits<'a>,
    /// Of how many blocks to come it is already said that they hold nothing.
    empty: u32,
}

impl<'a> Blocks<'a> {
    pub(super) fn of(interval: &'a [u8]) -> Self {
        Self { bits: Bits::of(interval), empty: 0 }
    }

    /// Reads the next block. `known` has a bit for each coefficient that is not zero; a progressive file
    /// cannot be read without.
    pub(super) fn read(&mut self, coding: Coding, known: &mut u64) -> Result<(), Rejection> {
        match coding {
            Coding::Sequential(dc, ac) => {
                self.dc(dc)?;
                self.sequential(ac)
            }
            Coding::Dc(table) => self.dc(table),
            Coding::DcBit => self.bits.skip(1),
            Coding::Ac(table, first, last) => self.ac(table, first, last, known),
            Coding::AcBit(table, first, last) => self.ac_bit(table, first, last, known),
        }
    }

    fn dc(&mut self, table: &Table) -> Result<(), Rejection> {
        let symbol = self.bits.symbol_and_value(table)?;
        if symbol > 15 { Err(CORRUPT) } else { Ok(()) }
    }

    fn sequential(&mut self, table: &Table) -> Result<(), Rejection> {
        let mut at = 1;
        while at < 64 {
            let symbol = self.bits.symbol_and_value(table)?;
            match (symbol >> 4, symbol & 15) {
                (15, 0) => at += 16,
                (_, 0) => break,
                (zeros, _) => at += u32::from(zeros) + 1,
            }
        }
        if at > 64 { Err(CORRUPT) } else { Ok(()) }
    }

    fn ac(&mut self, table: &Table, first: u8, last: u8, known: &mut u64) -> Result<(), Rejection> {
        if self.empty > 0 {
            self.empty -= 1;
            return Ok(());
        }
        let (mut at, last) = (u32::from(first), u32::from(last));
        while at <= last {
            let symbol = self.bits.symbol_and_value(table)?;
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
                    *known |= 1 << at;
                    at += 1;
                }
            }
        }
        Ok(())
    }

    /// A bit for each coefficient that is known, and between them those that are new.
    fn ac_bit(
        &mut self,
        table: &Table,
        first: u8,
        last: u8,
        known: &mut u64,
    ) -> Result<(), Rejection> {
        let (mut at, last) = (u32::from(first), u32::from(last));
        while self.empty == 0 && at <= last {
            let symbol = self.bits.symbol(table)?;
            let (mut zeros, is_new) = (u32::from(symbol >> 4), symbol & 15 != 0);
            if is_new {
                self.bits.skip(1)?;
            } else if zeros < 15 {
                self.empty = (1 << zeros) + self.bits.read(zeros)?;
                break;
            }
            let mut corrections = 0;
            while at <= last {
                if *known >> at & 1 == 1 {
                    corrections += 1;
                } else if zeros == 0 {
                    break;
                } else {
                    zeros -= 1;
                }
                at += 1;
            }
            self.bits.skip(corrections)?;
            if is_new && at <= last {
                *known |= 1 << at;
            }
            at += 1;
        }
        if self.empty > 0 {
            if at <= last {
                let rest = (*known >> at) << at << (63 - last) >> (63 - last);
                self.bits.skip(rest.count_ones())?;
            }
            self.empty -= 1;
        }
        Ok(())
    }
}
