//! The headers of a frame and of its scans.

use super::idct::Scale;
use super::{CORRUPT, Frame, Rejection, UNUSUAL, marker};

/// A frame of eight bits, with one, three or four components.
pub(super) struct FrameHeader {
    /// In pixels.
    pub(super) width: u16,
    /// In pixels.
    pub(super) height: u16,
    pub(super) is_progressive: bool,
    pub(super) components: Vec<Component>,
}

/// A component, with the number of its blocks in each unit (MCU) across and down.
pub(super) struct Component {
    id: u8,
    pub(super) across: u16,
    pub(super) down: u16,
    /// The number of its quantisation table.
    pub(super) quantisation: usize,
}

impl FrameHeader {
    pub(super) fn read(sof: u8, payload: &[u8]) -> Result<Self, Rejection> {
        let &[precision, h1, h0, w1, w0, count, ref components @ ..] = payload else {
            return Err(CORRUPT);
        };
        if components.len() != usize::from(count) * 3 {
            return Err(CORRUPT);
        }
        let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
        // A height of zero means that the file states it after the first scan. No
        // known program writes such files.
        if precision != 8 || height == 0 || !matches!(count, 1 | 3 | 4) {
            return Err(UNUSUAL);
        }
        let components: Vec<Component> = components
            .as_chunks()
            .0
            .iter()
            .copied()
            .map(Component::read)
            .collect::<Result<_, _>>()?;
        Ok(Self { width, height, is_progressive: sof == marker::SOF2, components })
    }

    /// The largest number of blocks across and down that any component has in a unit.
    pub(super) fn unit(&self) -> (u16, u16) {
        let most = |sampling: fn(&Component) -> u16| self.components.iter().map(sampling).max();
        (
            most(|component| component.across).unwrap_or(1),
            most(|component| component.down).unwrap_or(1),
        )
    }

    /// Whether the components are named red, green and blue.
    pub(super) fn is_named_rgb(&self) -> bool {
        self.components.iter().map(|component| component.id).eq(*b"RGB")
    }

    /// The memory for decoding. A progressive file needs two bytes for each
    /// coefficient in addition to the samples.
    pub(super) fn cost(&self, scale: Scale) -> Frame {
        let (width, height) = (u32::from(self.width), u32::from(self.height));
        let pixels = u64::from(width) * u64::from(height);
        let (across, down) = self.unit();
        let coefficients: u64 = self
            .components
            .iter()
            .map(|component| pixels * u64::from(component.across) * u64::from(component.down))
            .sum::<u64>()
            / (u64::from(across) * u64::from(down));
        let samples = match scale {
            Scale::Whole => coefficients,
            Scale::Half => coefficients / 4,
        };
        let kept = if self.is_progressive { 2 * samples + coefficients / 8 } else { 0 };
        Frame { width, height, decoding_bytes: samples + kept }
    }
}

impl Component {
    fn read([id, sampling, table]: [u8; 3]) -> Result<Self, Rejection> {
        let (across, down) = (sampling >> 4, sampling & 15);
        if !(1..=4).contains(&across) || !(1..=4).contains(&down) || table > 3 {
            return Err(CORRUPT);
        }
        Ok(Self { id, across: across.into(), down: down.into(), quantisation: table.into() })
    }
}

/// The components of a scan, their coefficients, and the bits of these.
pub(super) struct ScanHeader {
    pub(super) components: Vec<ScanComponent>,
    /// The first and the last coefficient, in zigzag order.
    pub(super) first: u8,
    pub(super) last: u8,
    /// Whether the scan adds a bit to earlier scans.
    pub(super) refines: bool,
    /// Number of low bits that are still missing after this scan.
    pub(super) shift: u8,
}

pub(super) struct ScanComponent {
    /// The index in the frame's components.
    pub(super) index: usize,
    pub(super) dc_table: usize,
    pub(super) ac_table: usize,
}

impl ScanHeader {
    pub(super) fn read(payload: &[u8], frame: &FrameHeader) -> Result<Self, Rejection> {
        let Some((&count, rest)) = payload.split_first() else { return Err(CORRUPT) };
        let (components, rest) = rest.split_at_checked(usize::from(count) * 2).ok_or(CORRUPT)?;
        let &[first, last, approximation, ..] = rest else { return Err(CORRUPT) };
        let components: Vec<ScanComponent> = components
            .as_chunks()
            .0
            .iter()
            .map(|&[id, tables]: &[u8; 2]| {
                let index = frame.components.iter().position(|component| component.id == id);
                let (dc_table, ac_table) = (usize::from(tables >> 4), usize::from(tables & 15));
                match index {
                    Some(index) if dc_table < 4 && ac_table < 4 => {
                        Ok(ScanComponent { index, dc_table, ac_table })
                    }
                    _ => Err(CORRUPT),
                }
            })
            .collect::<Result<_, _>>()?;
        if components.is_empty() || components.len() > frame.components.len() {
            return Err(CORRUPT);
        }
        // In a sequential file these values have no meaning, and some programs write arbitrary ones.
        if !frame.is_progressive {
            return Ok(Self { components, first: 0, last: 63, refines: false, shift: 0 });
        }
        let is_possible = first <= last
            && last <= 63
            && (first > 0) == (last > 0)
            && (first == 0 || components.len() == 1);
        if !is_possible {
            return Err(CORRUPT);
        }
        let (refines, shift) = (approximation >> 4 != 0, approximation & 15);
        Ok(Self { components, first, last, refines, shift })
    }
}
