//! Which blocks of a picture the coded data really held. A photo that was cut and closed with an end marker
//! looks whole from outside, and decodes to a picture whose rest is grey.

use super::entropy::{Blocks, Coding};
use super::header::{FrameHeader, ScanComponent, ScanHeader};
use super::huffman::Table;
use super::{CORRUPT, Rejection, TRUNCATED, marker};

/// No scan has held this coefficient.
const MISSING: u8 = u8::MAX;

/// What is known of a frame after some of its scans.
pub(super) struct Coverage {
    is_progressive: bool,
    /// Units across and down, where several components are coded together.
    units: (usize, usize),
    components: Vec<Plane>,
    tables: Tables,
    /// Units between two restart markers; zero where there are none.
    restart_interval: usize,
}

/// The Huffman tables that are defined by now: for the first coefficient, and for the others.
#[derive(Default)]
struct Tables([[Option<Table>; 4]; 2]);

/// The blocks of a component.
struct Plane {
    /// In a unit.
    across: usize,
    down: usize,
    /// Where it is coded alone.
    own: (usize, usize),
    /// In memory: whole units.
    stride: usize,
    /// Of each block, the coefficients that are not zero; for a progressive file only.
    known: Vec<u64>,
    /// Of each coefficient, how many bits are still missing.
    missing_bits: [u8; 64],
}

impl Coverage {
    pub(super) fn of(frame: &FrameHeader) -> Self {
        let (most_across, most_down) = frame.unit();
        let blocks = |pixels: u16, part: u16, whole: u16| {
            (usize::from(pixels) * usize::from(part)).div_ceil(usize::from(whole) * 8)
        };
        let units = (blocks(frame.width, 1, most_across), blocks(frame.height, 1, most_down));
        let components = frame
            .components
            .iter()
            .map(|component| {
                let (across, down) = (usize::from(component.across), usize::from(component.down));
                let all = units.0 * across * units.1 * down;
                Plane {
                    across,
                    down,
                    own: (
                        blocks(frame.width, component.across, most_across),
                        blocks(frame.height, component.down, most_down),
                    ),
                    stride: units.0 * across,
                    known: vec![0; if frame.is_progressive { all } else { 0 }],
                    missing_bits: [MISSING; 64],
                }
            })
            .collect();
        Self {
            is_progressive: frame.is_progressive,
            units,
            components,
            tables: Tables::default(),
            restart_interval: 0,
        }
    }

    /// Takes the Huffman tables of a segment.
    pub(super) fn define_tables(&mut self, mut payload: &[u8]) -> Result<(), Rejection> {
        while !payload.is_empty() {
            let (class, number, table, rest) = Table::read(payload)?;
            self.tables.0[class][number] = Some(table);
            payload = rest;
        }
        Ok(())
    }

    /// From now on a restart marker follows each `units`; none for zero.
    pub(super) fn restart_after(&mut self, units: u16) {
        self.restart_interval = units.into();
    }

    /// Whether each coefficient of each block is there, to its last bit.
    pub(super) fn is_whole(&self) -> bool {
        self.components.iter().all(|plane| plane.missing_bits == [0; 64])
    }

    /// Reads a scan.
    ///
    /// # Errors
    /// The data ends before the last block, or cannot be read.
    pub(super) fn count(&mut self, scan: &ScanHeader, data: &[u8]) -> Result<(), Rejection> {
        let coding = scan
            .components
            .iter()
            .map(|component| self.tables.coding(self.is_progressive, scan, component))
            .collect::<Result<Vec<_>, _>>()?;
        let mut unused = 0;
        let planes = &mut self.components;
        let (across, down) = match scan.components[..] {
            [ref only] => planes[only.index].own,
            _ => self.units,
        };
        let units = across * down;
        let per_interval = if self.restart_interval == 0 { units } else { self.restart_interval };
        let mut intervals = Intervals { rest: Some(data) };
        let mut done = 0;
        while done < units {
            let mut blocks = Blocks::of(intervals.next().ok_or(TRUNCATED)?);
            let end = units.min(done + per_interval);
            for unit in done..end {
                let (row, column) = (unit / across, unit % across);
                for (component, &coding) in scan.components.iter().zip(&coding) {
                    let plane = &mut planes[component.index];
                    let (wide, high) = if scan.components.len() == 1 {
                        (1, 1)
                    } else {
                        (plane.across, plane.down)
                    };
                    for y in row * high..row * high + high {
                        for x in column * wide..column * wide + wide {
                            let at = y * plane.stride + x;
                            blocks.read(coding, plane.known.get_mut(at).unwrap_or(&mut unused))?;
                        }
                    }
                }
            }
            done = end;
        }
        for component in &scan.components {
            let held = usize::from(scan.first)..=usize::from(scan.last);
            planes[component.index].missing_bits[held].fill(scan.shift);
        }
        Ok(())
    }
}

impl Tables {
    fn coding(
        &self,
        is_progressive: bool,
        scan: &ScanHeader,
        component: &ScanComponent,
    ) -> Result<Coding<'_>, Rejection> {
        let table = |class: usize, number: usize| self.0[class][number].as_ref().ok_or(CORRUPT);
        let (dc, ac) = (|| table(0, component.dc_table), || table(1, component.ac_table));
        Ok(match (scan.first, scan.refines) {
            _ if !is_progressive => Coding::Sequential(dc()?, ac()?),
            (0, false) => Coding::Dc(dc()?),
            (0, true) => Coding::DcBit,
            (first, false) => Coding::Ac(ac()?, first, scan.last),
            (first, true) => Coding::AcBit(ac()?, first, scan.last),
        })
    }
}

/// The stretches of a scan between its restart markers.
struct Intervals<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Intervals<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let data = self.rest?;
        let end = data
            .windows(2)
            .position(|pair| pair[0] == 0xff && matches!(pair[1], marker::RST0..=marker::RST7));
        self.rest = end.map(|end| &data[end + 2..]);
        Some(&data[..end.unwrap_or(data.len())])
    }
}
