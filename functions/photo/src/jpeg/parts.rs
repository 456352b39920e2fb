//! The parts of a JPEG file, in order, from its start to its end marker.

use super::{CORRUPT, Rejection, TRUNCATED};

/// Marker codes (ITU-T T.81, table B.1).
pub(super) mod marker {
    pub(in super::super) const SOF0: u8 = 0xc0;
    pub(in super::super) const SOF2: u8 = 0xc2;
    pub(in super::super) const DHT: u8 = 0xc4;
    pub(in super::super) const RST0: u8 = 0xd0;
    pub(in super::super) const RST7: u8 = 0xd7;
    pub(in super::super) const EOI: u8 = 0xd9;
    pub(in super::super) const SOS: u8 = 0xda;
    pub(in super::super) const DQT: u8 = 0xdb;
    pub(in super::super) const DRI: u8 = 0xdd;
    pub(in super::super) const APP0: u8 = 0xe0;
    pub(in super::super) const APP1: u8 = 0xe1;
    pub(in super::super) const APP2: u8 = 0xe2;
    pub(in super::super) const APP14: u8 = 0xee;

    const TEM: u8 = 0x01;

    /// Whether it is a lossless, hierarchical or arithmetic frame: the remaining frames, DAC, DHP and EXP.
    pub(in super::super) fn is_unusual_frame(marker: u8) -> bool {
        matches!(marker, 0xc3 | 0xc5..=0xcf | 0xde | 0xdf)
    }

    pub(super) fn stands_alone(marker: u8) -> bool {
        matches!(marker, TEM | RST0..=RST7)
    }

    pub(super) fn has_payload(marker: u8) -> bool {
        matches!(marker, 0xc0..=0xcf | SOS..=0xfe)
    }
}

/// A part of a JPEG file.
pub(super) enum Part<'a> {
    /// A marker, and its payload without the length.
    Segment(u8, &'a [u8]),
    /// The coded data after the header of a scan, with its restart markers. If the end marker is missing, the
    /// last part extends to the end of the file.
    Scan(&'a [u8]),
}

/// Iterates over the parts of a file. Ends at the end marker and ignores everything after it. If the file
/// ends before that, yields an error and ends.
pub(super) struct Parts<'a> {
    rest: &'a [u8],
    is_in_scan: bool,
    is_over: bool,
}

impl<'a> Parts<'a> {
    /// Iterates over `file`, which must start with the start marker.
    pub(super) fn of(file: &'a [u8]) -> Self {
        Self { rest: file.get(2..).unwrap_or_default(), is_in_scan: false, is_over: false }
    }

    fn scan(&mut self) -> Part<'a> {
        let end = self.rest.windows(2).position(|pair| {
            pair[0] == 0xff && !matches!(pair[1], 0 | 0xff | marker::RST0..=marker::RST7)
        });
        let (data, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        self.is_in_scan = false;
        Part::Scan(data)
    }

    fn segment(&mut self) -> Result<Option<Part<'a>>, Rejection> {
        loop {
            let marker = self.marker()?;
            if marker == marker::EOI {
                return Ok(None);
            }
            if marker::stands_alone(marker) {
                continue;
            }
            if !marker::has_payload(marker) {
                return Err(CORRUPT);
            }
            let (length, rest) = self.rest.split_first_chunk().ok_or(TRUNCATED)?;
            let length = usize::from(u16::from_be_bytes(*length)).checked_sub(2).ok_or(CORRUPT)?;
            let (payload, rest) = rest.split_at_checked(length).ok_or(TRUNCATED)?;
            self.rest = rest;
            self.is_in_scan = marker == marker::SOS;
            return Ok(Some(Part::Segment(marker, payload)));
        }
    }

    /// Finds the next marker. Some cameras leave stray bytes between segments, and every reader accepts them.
    fn marker(&mut self) -> Result<u8, Rejection> {
        let at = self
            .rest
            .windows(2)
            .position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff))
            .ok_or(TRUNCATED)?;
        let marker = self.rest[at + 1];
        self.rest = &self.rest[at + 2..];
        Ok(marker)
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Result<Part<'a>, Rejection>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let part = if self.is_in_scan { Ok(Some(self.scan())) } else { self.segment() };
        self.is_over = !matches!(part, Ok(Some(_)));
        part.transpose()
    }
}
