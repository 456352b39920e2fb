//! Decodes a picture scan by scan, and tracks which blocks were there. A truncated photo with an end marker
//! looks complete from outside. Other decoders paint its rest grey and report no error.

use super::entropy::{Blocks, Coding};
use super::header::{FrameHeader, ScanComponent, ScanHeader};
use super::huffman::Table;
use super::idct::{Idct, Scale};
use super::plane::Plane;
use super::{CORRUPT, Rejection, TRUNCATED, marker};

/// The state of a frame after some of its scans.
pub(super) struct Decoder<'a> {
    frame: &'a FrameHeader,
    idct: Idct,
    /// Number of units across and down in a scan of several components.
    units: (usize, usize),
    planes: Vec<Plane>,
    tables: Tables,
    /// The quantisation tables, in the order of the file.
    quantisation: [Option<[u16; 64]>; 4],
    /// Number of units between two restart markers; zero if there are none.
    restart_interval: usize,
}

/// The Huffman tables that are defined so far: for the first coefficient, and for the others.
#[derive(Default)]
struct Tables([[Option<Table>; 4]; 2]);

impl<'a> Decoder<'a> {
    pub(super) fn of(frame: &'a FrameHeader, scale: Scale) -> Self {
        let (most_across, most_down) = frame.unit();
        let units = (
            usize::from(frame.width).div_ceil(usize::from(most_across) * 8),
            usize::from(frame.height).div_ceil(usize::from(most_down) * 8),
        );
        let plane = |component| Plane::of(component, frame, units, scale);
        Self {
            frame,
            idct: Idct::of(scale),
            units,
            planes: frame.components.iter().map(plane).collect(),
            tables: Tables::default(),
            quantisation: [None; 4],
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

    /// Takes the quantisation tables of a segment.
    pub(super) fn define_quantisation(&mut self, mut payload: &[u8]) -> Result<(), Rejection> {
        while let Some((&place, rest)) = payload.split_first() {
            let (bytes, number) = (1 + usize::from(place >> 4), usize::from(place & 15));
            let (steps, rest) = rest.split_at_checked(bytes * 64).ok_or(CORRUPT)?;
            let table = self.quantisation.get_mut(number).filter(|_| bytes <= 2).ok_or(CORRUPT)?;
            let mut steps = steps.chunks_exact(bytes);
            let step = |_| {
                steps
                    .next()
                    .map_or(0, |step| step.iter().fold(0, |sum, &byte| sum << 8 | u16::from(byte)))
            };
            *table = Some(std::array::from_fn(step));
            payload = rest;
        }
        Ok(())
    }

    /// Sets the number of units between restart markers from here on; zero means no restart markers.
    pub(super) fn restart_after(&mut self, units: u16) {
        self.restart_interval = units.into();
    }

    /// Whether each coefficient of each block is there, to its last bit.
    pub(super) fn is_whole(&self) -> bool {
        self.planes.iter().all(Plane::is_whole)
    }

    /// Reads a scan.
    ///
    /// # Errors
    /// Fails if the data ends before the last block, or cannot be read.
    pub(super) fn read(&mut self, scan: &ScanHeader, data: &[u8]) -> Result<(), Rejection> {
        let Self { frame, idct, planes, tables, .. } = self;
        let coding = scan
            .components
            .iter()
            .map(|component| tables.coding(frame.is_progressive, scan, component))
            .collect::<Result<Vec<_>, _>>()?;
        for component in &scan.components {
            // A sequential file codes each component once. Reading it again would only cost time.
            if !frame.is_progressive && planes[component.index].is_whole() {
                return Err(CORRUPT);
            }
            let table = frame.components[component.index].quantisation;
            planes[component.index].begin(idct, self.quantisation[table].as_ref())?;
        }
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
                for (number, (component, &coding)) in
                    scan.components.iter().zip(&coding).enumerate()
                {
                    let plane = &mut planes[component.index];
                    let (wide, high) = match scan.components.len() {
                        1 => (1, 1),
                        _ => (plane.across, plane.down),
                    };
                    for y in row * high..row * high + high {
                        for x in column * wide..column * wide + wide {
                            plane
                                .block((x, y), idct, |block| blocks.read(number, coding, block))?;
                        }
                    }
                }
            }
            done = end;
        }
        for component in &scan.components {
            planes[component.index].end(scan.first, scan.last, scan.shift);
        }
        Ok(())
    }

    /// The samples of each component, resized to `width` × `height`. `None` if some are missing.
    pub(super) fn into_samples(self, width: u32, height: u32) -> Option<Vec<Vec<u8>>> {
        let Self { idct, planes, .. } = self;
        planes.into_iter().map(|plane| plane.resized(&idct, width, height)).collect()
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
            (0, false) => Coding::Dc(dc()?, scan.shift),
            (0, true) => Coding::DcBit(scan.shift),
            (first, false) => Coding::Ac(ac()?, first, scan.last, scan.shift),
            (first, true) => Coding::AcBit(ac()?, first, scan.last, scan.shift),
        })
    }
}

/// The sections of a scan between its restart markers.
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
