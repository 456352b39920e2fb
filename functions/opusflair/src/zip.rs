//! The records of a ZIP archive (APPNOTE 6.3). Every offset is known before the first byte is written,
//! because files are stored without compression. ZIP64 is used if an offset needs it. ZIP libraries write an
//! archive from front to back, but here a worker must be able to continue in the middle.
//!
//! Sizes and checksums are in the local headers, before the data. Otherwise, a program that reads the archive
//! while it arrives could not tell where a stored file ends.

/// Bit 11: names are UTF-8.
const FLAGS: u16 = 1 << 11;
/// 1 January 1980. The files of an export have no meaningful date.
const DATE: u16 = 0x21;
/// Made on Unix (3), by version 4.5 of the format.
const MAKER: u16 = 0x032d;
const LOCAL: usize = 30;
const CENTRAL: usize = 46;
/// The first offset that does not fit the 32-bit fields.
const FULL: u32 = u32::MAX;

/// A file in the archive, shorter than 4 GiB.
#[derive(Clone, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) name: &'a str,
    pub(crate) bytes: u32,
    pub(crate) crc32: u32,
    /// The offset of its local header, in bytes.
    pub(crate) offset: u64,
}

/// The length of the local header of a file with this name, in bytes.
pub(crate) fn header_length(name: &str) -> u64 {
    (LOCAL + name.len()) as u64
}

/// Returns the local header, which precedes the file's data.
pub(crate) fn header(name: &str, bytes: u32, crc32: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(LOCAL + name.len());
    put(&mut out, &[0x0403_4b50], &[20, FLAGS, 0, 0, DATE]);
    put(&mut out, &[crc32, bytes, bytes], &[length(name), 0]);
    out.extend_from_slice(name.as_bytes());
    out
}

/// The length of a file's directory entry, in bytes.
pub(crate) fn entry_length(name: &str, offset: u64) -> u64 {
    (CENTRAL + name.len() + if offset < FULL.into() { 0 } else { 12 }) as u64
}

pub(crate) fn entry(member: &Member<'_>) -> Vec<u8> {
    let Member { name, bytes, crc32, offset } = member;
    let is_far = *offset >= FULL.into();
    let mut out = Vec::new();
    // The external attributes hold a Unix file mode: a plain file that its owner can read and write. Programs
    // interpret them because the archive says that it was made on Unix.
    put(&mut out, &[0x0201_4b50], &[MAKER, if is_far { 45 } else { 20 }, FLAGS, 0, 0, DATE]);
    put(&mut out, &[*crc32, *bytes, *bytes], &[length(name), if is_far { 12 } else { 0 }, 0, 0, 0]);
    put(&mut out, &[0o100_600 << 16, narrow(*offset)], &[]);
    out.extend_from_slice(name.as_bytes());
    if is_far {
        put(&mut out, &[], &[1, 8]);
        out.extend_from_slice(&offset.to_le_bytes());
    }
    out
}

/// The length of the records after the directory, in bytes.
pub(crate) fn end_length(files: u64, start: u64, length: u64) -> u64 {
    if is_large(files, start, length) { 56 + 20 + 22 } else { 22 }
}

/// Returns the records after the directory of `files`, which begins at `start` and is `length` bytes long.
pub(crate) fn end(files: u64, start: u64, length: u64) -> Vec<u8> {
    let mut out = Vec::new();
    if is_large(files, start, length) {
        put(&mut out, &[0x0606_4b50], &[]);
        out.extend_from_slice(&44_u64.to_le_bytes());
        put(&mut out, &[], &[MAKER, 45]);
        put(&mut out, &[0, 0], &[]);
        for number in [files, files, length, start] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        put(&mut out, &[0x0706_4b50, 0], &[]);
        out.extend_from_slice(&(start + length).to_le_bytes());
        put(&mut out, &[1], &[]);
    }
    let count = u16::try_from(files).unwrap_or(u16::MAX);
    put(&mut out, &[0x0605_4b50], &[0, 0, count, count]);
    put(&mut out, &[narrow(length), narrow(start)], &[0]);
    out
}

fn is_large(files: u64, start: u64, length: u64) -> bool {
    files >= u16::MAX.into() || start >= FULL.into() || length >= FULL.into()
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(FULL)
}

fn length(name: &str) -> u16 {
    u16::try_from(name.len()).expect("names of exports are short")
}

/// Appends little-endian numbers, the 32-bit ones first.
fn put(out: &mut Vec<u8>, wide: &[u32], narrow: &[u16]) {
    out.extend(wide.iter().flat_map(|number| number.to_le_bytes()));
    out.extend(narrow.iter().flat_map(|number| number.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_known_before_anything_is_written() {
        assert_eq!(header("a/b.txt", 3, 4).len() as u64, header_length("a/b.txt"));
        for offset in [0, u64::from(FULL) - 1, FULL.into(), 1 << 40] {
            let member = Member { name: "a/b.txt", bytes: 3, crc32: 4, offset };
            assert_eq!(entry(&member).len() as u64, entry_length("a/b.txt", offset), "{offset}");
        }
        for (files, start, length) in
            [(1, 0, 0), (65_534, 5, 5), (65_535, 5, 5), (1, 1 << 33, 5), (1, 5, 1 << 33)]
        {
            assert_eq!(end(files, start, length).len() as u64, end_length(files, start, length));
        }
    }

    #[test]
    fn a_header_says_size_and_checksum_and_nothing_follows_the_data() {
        let header = header("a", 0x0102_0304, 0x0506_0708);
        assert_eq!(header[6] & 1 << 3, 0);
        assert_eq!(header[14..18], [8, 7, 6, 5]);
        assert_eq!(header[18..26], [4, 3, 2, 1, 4, 3, 2, 1]);
    }

    #[test]
    fn large_values_are_in_the_zip64_fields() {
        let far = entry(&Member { name: "a", bytes: 1, crc32: 2, offset: 1 << 40 });
        assert_eq!(far[42..46], [0xff; 4]);
        assert_eq!(far[far.len() - 8..], (1_u64 << 40).to_le_bytes());
        let end = end(70_000, 1 << 33, 9);
        assert_eq!(end[24..32], 70_000_u64.to_le_bytes());
        assert_eq!(end[end.len() - 12..end.len() - 10], [0xff; 2]);
    }
}
