//! Damages files as disks, networks and attackers do.

use std::ops::Range;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::LONGEST;

/// Byte values at which programs often miscount.
const EDGES: &[u8] = &[0, 1, 2, 0x0f, 0x10, 0x3f, 0x7f, 0x80, 0xd0, 0xd9, 0xda, 0xfe, 0xff];
/// Number of changes in one file. It is small, and half of the changes are in the first
/// [`HEAD`] bytes, where the headers are.
const MOST_CHANGES: usize = 8;
const HEAD: usize = 1024;
const LONGEST_PIECE: usize = 4096;
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Returns a damaged copy of a file.
pub(crate) fn damage(whole: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut file = whole.to_vec();
    for _ in 0..random.random_range(1..=MOST_CHANGES) {
        if file.is_empty() {
            break;
        }
        let at = place(file.len(), random);
        match random.random_range(0..8) {
            0 => file[at] ^= 1 << random.random_range(0..8),
            1 | 2 => file[at] = random.random(),
            3 | 4 => file[at] = *EDGES.choose(random).expect("an edge"),
            5 => drop(file.drain(piece(&file, random))),
            6 => drop(file.splice(at..at, file[piece(&file, random)].to_vec())),
            _ if random.random_ratio(1, 4) => file.truncate(at),
            _ => {
                let piece = piece(&file, random);
                let length = piece.len().min(file.len() - at);
                file.copy_within(piece.start..piece.start + length, at);
            }
        }
    }
    file.truncate(LONGEST);
    if file.starts_with(PNG) && random.random() {
        correct_checksums(&mut file);
    }
    file
}

fn place(length: usize, random: &mut StdRng) -> usize {
    let end = if random.random() { length.min(HEAD) } else { length };
    random.random_range(0..end)
}

fn piece(file: &[u8], random: &mut StdRng) -> Range<usize> {
    let start = place(file.len(), random);
    let length = random.random_range(1..=LONGEST_PIECE);
    start..file.len().min(start + length)
}

/// Corrects the checksums of a PNG. Otherwise most decoders would reject the
/// file before they reach the damage.
fn correct_checksums(file: &mut [u8]) {
    let mut rest = &mut file[PNG.len()..];
    while let Some((length, tail)) = rest.split_first_chunk_mut::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some((chunk, tail)) = tail.split_at_mut_checked(length.saturating_add(4)) else {
            return;
        };
        let Some((checksum, tail)) = tail.split_first_chunk_mut::<4>() else { return };
        *checksum = crc32fast::hash(chunk).to_be_bytes();
        rest = tail;
    }
}
