//! JPEGs that are written bit by bit, with one colour per block of 8 × 8 pixels, in forms that our encoder
//! cannot write.

use bytes::Bytes;

use super::write_segment;

/// The size of the pictures with one colour per block, in pixels: 5 × 3 blocks of luma. The first has the
/// level 40, and each next one is 8 lighter.
pub(crate) const BLOCKS: (u16, u16) = (40, 24);

/// A baseline JPEG with one scan per component. `luma` and `chroma` are the numbers of blocks in a unit; luma
/// has as many samples as the picture has pixels.
pub(crate) fn baseline_in_three_scans(size: (u16, u16), luma: (u8, u8), chroma: (u8, u8)) -> Bytes {
    let joined = |(across, down)| across << 4 | down;
    let mut file = headers(size, &[(1, joined(luma)), (2, joined(chroma)), (3, joined(chroma))]);
    for component in 1..=3_u8 {
        write_segment(&mut file, 0xda, &[&[1, component, 0, 0, 63, 0]]);
        let blocks = |pixels: u16, luma: u8, chroma: u8| {
            let part = if component == 1 { luma } else { chroma };
            usize::from((pixels * u16::from(part)).div_ceil(u16::from(luma) * 8))
        };
        let count = blocks(size.0, luma.0, chroma.0) * blocks(size.1, luma.1, chroma.1);
        let level = |block| if component == 1 { level_of(block) } else { 128 };
        write_blocks(&mut file, (0..count).map(level));
    }
    file.extend_from_slice(&[0xff, 0xd9]);
    file.into()
}

/// A baseline JPEG with a restart marker after each `interval` blocks.
pub(crate) fn grey_with_restarts(interval: u8) -> Bytes {
    let mut file = headers(BLOCKS, &[(1, 0x11)]);
    write_segment(&mut file, 0xdd, &[&[0, interval]]);
    write_segment(&mut file, 0xda, &[&[1, 1, 0, 0, 63, 0]]);
    let interval = usize::from(interval);
    for (start, marker) in (0..15).step_by(interval).zip(0_u8..) {
        if start > 0 {
            file.extend_from_slice(&[0xff, 0xd0 + (marker - 1) % 8]);
        }
        write_blocks(&mut file, (start..15.min(start + interval)).map(level_of));
    }
    file.extend_from_slice(&[0xff, 0xd9]);
    file.into()
}

/// A baseline JPEG of four inks as Adobe's programs write it. The transform is 0 for CMYK and 2 for YCCK.
/// Each block has one level in each of the first three inks, and no black.
pub(crate) fn inks(transform: u8) -> Bytes {
    let mut file = headers(BLOCKS, &[(1, 0x11), (2, 0x11), (3, 0x11), (4, 0x11)]);
    write_segment(&mut file, 0xee, &[b"Adobe", &[0, 100, 0, 0, 0, 0, transform]]);
    for component in 1..=4_u8 {
        write_segment(&mut file, 0xda, &[&[1, component, 0, 0, 63, 0]]);
        let level = |block| match (component, transform) {
            (4, _) => 255,
            // In YCCK, a higher luma means more ink, so it is the inverse of the level.
            (1, 2) => 255 - level_of(block),
            (_, 2) => 128,
            _ => level_of(block),
        };
        write_blocks(&mut file, (0..15).map(level));
    }
    file.extend_from_slice(&[0xff, 0xd9]);
    file.into()
}

/// The level of a block, by its number.
fn level_of(block: usize) -> u8 {
    u8::try_from(40 + 8 * block).expect("few blocks")
}

fn headers(size: (u16, u16), components: &[(u8, u8)]) -> Vec<u8> {
    let mut file = vec![0xff, 0xd8];
    write_segment(&mut file, 0xdb, &[&[0], &[1; 64]]);
    let [[w1, w0], [h1, h0]] = [size.0.to_be_bytes(), size.1.to_be_bytes()];
    let count = u8::try_from(components.len()).expect("few");
    let components: Vec<u8> =
        components.iter().flat_map(|&(id, sampling)| [id, sampling, 0]).collect();
    write_segment(&mut file, 0xc0, &[&[8, h1, h0, w1, w0, count], &components]);
    // Twelve DC lengths with codes of four bits each. The only AC symbol is the end of a block, in one bit.
    let dc = [0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    write_segment(&mut file, 0xc4, &[&[0], &dc, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]]);
    write_segment(&mut file, 0xc4, &[&[0x10, 1], &[0; 15], &[0]]);
    file
}

/// Writes blocks of one level each.
fn write_blocks(file: &mut Vec<u8>, levels: impl Iterator<Item = u8>) {
    let mut bits = String::new();
    let mut before = 128;
    for level in levels.map(i32::from) {
        let step = (level - before) * 8;
        before = level;
        let length = (i32::BITS - step.abs().leading_zeros()) as usize;
        // For a negative step, all bits are inverted.
        let value = if step < 0 { step + (1 << length) - 1 } else { step };
        let value = if length == 0 { String::new() } else { format!("{value:0length$b}") };
        bits.extend([format!("{length:04b}"), value, "0".to_owned()]);
    }
    bits += &"1".repeat(bits.len().next_multiple_of(8) - bits.len());
    for byte in bits.as_bytes().chunks(8) {
        let digits = std::str::from_utf8(byte).expect("digits");
        let byte = u8::from_str_radix(digits, 2).expect("a byte");
        file.push(byte);
        if byte == 0xff {
            file.push(0);
        }
    }
}
