//! Bits of entropy-coded data, and the codes in them (ITU-T T.81, annexes C and F).

use super::{CORRUPT, Rejection, TRUNCATED};

/// Codes of up to this many bits are found with one lookup.
const SHORT: u32 = 9;
const SHORT_CODES: usize = 1 << SHORT;
const LONGEST: usize = 16;

/// A Huffman table for decoding.
pub(super) struct Table {
    /// For each value of the next nine bits: the length and symbol of the code at their start. The length is
    /// zero if the code is longer.
    short: [(u8, u8); SHORT_CODES],
    /// For each length: the first code that is longer, and the number to add to a code to find its symbol.
    limits: [(u32, i32); LONGEST + 1],
    symbols: Vec<u8>,
}

impl Table {
    /// Reads the definition at the start of `payload`. Returns its class (1 for AC), its
    /// number, the table, and the rest.
    pub(super) fn read(payload: &[u8]) -> Result<(usize, usize, Self, &[u8]), Rejection> {
        let Some((&place, rest)) = payload.split_first() else { return Err(CORRUPT) };
        let (counts, rest) = rest.split_first_chunk::<LONGEST>().ok_or(CORRUPT)?;
        let total = counts.iter().map(|&count| usize::from(count)).sum();
        let (symbols, rest) = rest.split_at_checked(total).ok_or(CORRUPT)?;
        let (class, number) = (usize::from(place >> 4), usize::from(place & 15));
        if class > 1 || number > 3 || total > 256 {
            return Err(CORRUPT);
        }
        Ok((class, number, Self::of(*counts, symbols)?, rest))
    }

    fn of(counts: [u8; LONGEST], symbols: &[u8]) -> Result<Self, Rejection> {
        let mut table = Self {
            short: [(0, 0); SHORT_CODES],
            limits: [(0, 0); LONGEST + 1],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut index) = (0_u32, 0_usize);
        for (length, &count) in (1_u32..).zip(&counts) {
            let first = code;
            for &symbol in &symbols[index..index + usize::from(count)] {
                if code >> length != 0 {
                    return Err(CORRUPT);
                }
                if length <= SHORT {
                    let spare = SHORT - length;
                    let (from, many) = ((code << spare) as usize, 1_usize << spare);
                    let length = u8::try_from(length).map_err(|_| CORRUPT)?;
                    table.short[from..from + many].fill((length, symbol));
                }
                code += 1;
            }
            let (index_before, first) = (
                i32::try_from(index).map_err(|_| CORRUPT)?,
                i32::try_from(first).map_err(|_| CORRUPT)?,
            );
            table.limits[length as usize] = (code, index_before - first);
            index += usize::from(count);
            code <<= 1;
        }
        Ok(table)
    }
}

/// Reads one interval of coded data, up to its end or a marker.
pub(super) struct Bits<'a> {
    rest: &'a [u8],
    /// The next bits, starting at the highest.
    buffer: u64,
    /// Number of valid bits in `buffer`.
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn of(data: &'a [u8]) -> Self {
        Self { rest: data, buffer: 0, count: 0 }
    }

    /// Fills the buffer to at least 32 bits, if that many are left.
    #[inline]
    fn fill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(next) = self.rest.first_chunk::<4>() {
            let word = u32::from_be_bytes(*next);
            let has_escape = word & 0x8080_8080 & !word.wrapping_add(0x0101_0101) != 0;
            if !has_escape {
                self.buffer |= u64::from(word) << (32 - self.count);
                self.count += 32;
                self.rest = &self.rest[4..];
                return;
            }
        }
        self.fill_slowly();
    }

    #[cold]
    fn fill_slowly(&mut self) {
        while self.count <= 56 {
            let (byte, rest) = match self.rest {
                [0xff, 0, rest @ ..] => (0xff, rest),
                [0xff, ..] | [] => return,
                [byte, rest @ ..] => (*byte, rest),
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
            self.rest = rest;
        }
    }

    /// Skips up to 32 bits.
    #[inline]
    fn consume(&mut self, bits: u32) -> Result<(), Rejection> {
        if bits > self.count {
            return Err(TRUNCATED);
        }
        self.buffer <<= bits;
        self.count -= bits;
        Ok(())
    }

    /// Reads up to 32 bits as a number.
    pub(super) fn read(&mut self, bits: u32) -> Result<u32, Rejection> {
        if bits == 0 {
            return Ok(0);
        }
        self.fill();
        let value = self.buffer >> (64 - bits);
        self.consume(bits)?;
        u32::try_from(value).map_err(|_| CORRUPT)
    }

    /// Reads the next symbol, without the bits that belong to it.
    #[inline]
    pub(super) fn symbol(&mut self, table: &Table) -> Result<u8, Rejection> {
        self.fill();
        let (length, symbol) = self.peek(table)?;
        self.consume(length)?;
        Ok(symbol)
    }

    /// Reads the next symbol and its value. The lower half of the symbol is the number of bits of the value.
    /// Values that start with a zero bit are negative.
    #[inline]
    pub(super) fn symbol_and_value(&mut self, table: &Table) -> Result<(u8, i32), Rejection> {
        self.fill();
        let (length, symbol) = self.peek(table)?;
        let bits = u32::from(symbol & 15);
        #[expect(clippy::cast_possible_truncation, reason = "at most 15 bits are left")]
        let value = (self.buffer << length >> 1 >> (63 - bits)) as i32;
        self.consume(length + bits)?;
        let least = 1 << bits >> 1;
        Ok((symbol, if value < least { value + 1 - (1 << bits) } else { value }))
    }

    #[inline]
    fn peek(&self, table: &Table) -> Result<(u32, u8), Rejection> {
        let (length, symbol) = table.short[(self.buffer >> (64 - SHORT)) as usize];
        if length == 0 { self.peek_long(table) } else { Ok((length.into(), symbol)) }
    }

    #[cold]
    fn peek_long(&self, table: &Table) -> Result<(u32, u8), Rejection> {
        let next = u32::try_from(self.buffer >> 48).map_err(|_| CORRUPT)?;
        for (length, &(limit, to_symbol)) in (0_u32..).zip(&table.limits).skip(SHORT as usize + 1) {
            let code = next >> (16 - length);
            if code < limit {
                let index = i32::try_from(code).ok().map(|code| code + to_symbol);
                let index = index.and_then(|index| usize::try_from(index).ok());
                let symbol = index.and_then(|index| table.symbols.get(index)).ok_or(CORRUPT)?;
                return Ok((length, *symbol));
            }
        }
        // Beyond the end of the data, the buffer holds zeros instead of bits.
        Err(if self.count < 16 { TRUNCATED } else { CORRUPT })
    }
}
