//! The layout of an export's archive. It is known before any byte is written.

use std::fmt::Write;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{Error, zip};

/// An introduction for the person.
const README: &str = include_str!("README.txt");

/// A file of the plan, as the database returns it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct File {
    pub(super) position: i64,
    pub(super) name: String,
    pub(super) bucket: Option<String>,
    pub(super) object: Option<String>,
    pub(super) bytes: u64,
    #[serde(default)]
    missing: bool,
    pub(super) crc32: Option<u32>,
    pub(super) sha256: Option<String>,
}

impl File {
    pub(super) fn length(&self) -> Result<u32, Error> {
        u32::try_from(self.bytes).map_err(|_| Error::fault("a file of an export is too long"))
    }

    /// Returns the local header, which precedes the file's data.
    pub(super) fn header(&self) -> Result<Vec<u8>, Error> {
        Ok(zip::header(&self.name, self.length()?, self.checksum()?))
    }

    fn checksum(&self) -> Result<u32, Error> {
        self.crc32.ok_or_else(|| Error::fault("a file without a checksum"))
    }

    fn span(&self) -> u64 {
        span(&self.name, self.bytes)
    }
}

fn span(name: &str, bytes: u64) -> u64 {
    zip::header_length(name) + bytes
}

/// The archive: the files of the plan, then the files that describe them, then the directory.
pub(super) struct Layout {
    /// The files that exist.
    pub(super) files: Vec<File>,
    missing: Vec<String>,
    /// The length of the whole archive, in bytes.
    pub(super) length: u64,
    ends: Vec<u64>,
}

const NO_DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

impl Layout {
    pub(super) fn new(all: Vec<File>) -> Result<Self, Error> {
        let (missing, files): (Vec<File>, Vec<File>) =
            all.into_iter().partition(|file| file.missing);
        let mut end = 0;
        let mut ends = Vec::with_capacity(files.len());
        for file in &files {
            file.length()?;
            end += file.span();
            ends.push(end);
        }
        let missing = missing.into_iter().map(|file| file.name).collect();
        let mut layout = Self { files, missing, length: 0, ends };
        layout.length = layout.measure();
        Ok(layout)
    }

    /// Returns the offset at which a file ends, in bytes from the start of the archive.
    pub(super) fn end_of(&self, index: usize) -> u64 {
        self.ends[index]
    }

    /// Returns the files that describe the other files. Their length does not depend on the digests.
    pub(super) fn own_files(&self) -> Vec<(&'static str, String)> {
        let missing = serde_json::to_string_pretty(&self.missing).unwrap_or_default() + "\n";
        let mut own = vec![("README.txt", README.to_owned()), ("missing.json", missing)];
        let mut manifest = String::new();
        for file in &self.files {
            let sha256 = file.sha256.as_deref().unwrap_or(NO_DIGEST);
            let _ = writeln!(manifest, "{sha256}  {}", file.name);
        }
        for (name, content) in &own {
            let _ = writeln!(manifest, "{}  {name}", hex::encode(Sha256::digest(content)));
        }
        own.push(("manifest.sha256", manifest));
        own
    }

    /// Returns the directory and the records after it.
    pub(super) fn directory(&self) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        let mut offset = 0;
        for file in &self.files {
            let (bytes, crc32) = (file.length()?, file.checksum()?);
            out.extend(zip::entry(&zip::Member { name: &file.name, bytes, crc32, offset }));
            offset += file.span();
        }
        for (name, content) in self.own_files() {
            let (bytes, crc32) = measure(&content)?;
            out.extend(zip::entry(&zip::Member { name, bytes, crc32, offset }));
            offset += span(name, content.len() as u64);
        }
        let end = zip::end(self.files.len() as u64 + 3, offset, out.len() as u64);
        out.extend(end);
        Ok(out)
    }

    fn measure(&self) -> u64 {
        let own = self.own_files();
        let own = own.iter().map(|(name, content)| (*name, content.len() as u64));
        let all = self.files.iter().map(|file| (file.name.as_str(), file.bytes)).chain(own);
        let (mut offset, mut directory, mut files) = (0, 0, 0);
        for (name, bytes) in all {
            directory += zip::entry_length(name, offset);
            offset += span(name, bytes);
            files += 1;
        }
        offset + directory + zip::end_length(files, offset, directory)
    }
}

/// Returns the local header of a file that describes the other files.
pub(super) fn header(name: &str, content: &str) -> Result<Vec<u8>, Error> {
    let (bytes, crc32) = measure(content)?;
    Ok(zip::header(name, bytes, crc32))
}

fn measure(content: &str) -> Result<(u32, u32), Error> {
    let bytes = u32::try_from(content.len()).map_err(|_| Error::fault("a long manifest"))?;
    Ok((bytes, crc32fast::hash(content.as_bytes())))
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn file(position: i64, name: &str, bytes: u64, is_missing: bool) -> File {
        from_value(json!({
            "position": position, "name": name, "bucket": null, "object": null, "bytes": bytes, "missing": is_missing, "crc32": 7, "sha256": NO_DIGEST,
        }))
        .expect("a file")
    }

    #[test]
    fn the_length_is_known_before_anything_is_written() {
        let files =
            vec![file(1, "data/a.json", 10, false), file(2, "artworks/b.png", 1 << 31, false)];
        let mut layout = Layout::new([files, vec![file(3, "artworks/c.png", 0, true)]].concat())
            .expect("a layout");
        let own: u64 =
            layout.own_files().iter().map(|(name, text)| span(name, text.len() as u64)).sum();
        let directory = layout.directory().expect("digests").len() as u64;
        assert_eq!(layout.end_of(1) + own + directory, layout.length);
        // The length is the same without a digest.
        layout.files[0].sha256 = None;
        assert_eq!(layout.measure(), layout.length);
    }

    #[test]
    fn missing_files_are_listed_and_take_no_space() {
        let layout = Layout::new(vec![file(1, "artworks/c.png", 0, true)]).expect("a layout");
        let own = layout.own_files();
        assert!(own[1].1.contains("artworks/c.png") && !own[2].1.contains("artworks/c.png"));
        assert!(layout.files.is_empty());
    }

    #[test]
    fn a_file_that_an_archive_cannot_hold_is_a_fault() {
        assert!(Layout::new(vec![file(1, "a", 1 << 32, false)]).is_err());
    }
}
