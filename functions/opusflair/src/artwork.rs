//! Fetches an output from Replicate, marks it as made by a model, and stores it. Marking needs the whole file
//! in memory, so this module limits the size of all outputs in memory.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Method, Response, StatusCode};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use url::Url;

use crate::cause::Cause;
use crate::egress::{read_limited, unreachable};
use crate::mark::Made;
use crate::storage::ARTWORKS;
use crate::{App, Error};

const MIB: usize = 1024 * 1024;
/// The largest artwork that can be stored, in bytes: the limit of the bucket.
const LARGEST_ARTWORK: usize = 50 * MIB;
/// The largest output that is fetched, in bytes. This leaves room for the mark.
const LARGEST_OUTPUT: usize = LARGEST_ARTWORK - MIB;
/// How much output data may be in memory at the same time, in MiB: one output of the largest size, or many of
/// the usual size. Marking takes up to five times as much.
const ROOM: usize = 50;
/// The time limit for the whole operation. It is shorter than the lease under which it runs.
const STORING_TIME: Duration = Duration::from_secs(100);
const SERVICE: &str = "the output host";

/// Limits the memory that outputs take.
pub(crate) fn room() -> Semaphore {
    Semaphore::new(ROOM)
}

/// A stored artwork.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// The content type, taken from the first bytes.
    pub(crate) content_type: &'static str,
    /// Length in bytes.
    pub(crate) bytes: u64,
    /// SHA-256, in hexadecimal.
    pub(crate) sha256: String,
    /// CRC-32 as ZIP defines it. An export writes the CRC-32 of a file before its bytes.
    pub(crate) crc32: u32,
}

/// Why an output was not stored.
#[derive(Debug)]
pub(crate) enum NotStored {
    /// No retry can succeed. The reason is one of `public.failure_reasons`.
    Never(&'static str),
    /// The output was not found, or is not where Replicate's outputs should be. This may pass, or the
    /// operator may repair it. If it lasts until the deadline, or for some minutes if the output is gone, the
    /// generation fails with this reason.
    Doubtful {
        /// One of `public.failure_reasons`.
        reason: &'static str,
        /// What went wrong.
        error: Error,
    },
    /// A retry may succeed.
    NotNow(Error),
}

impl NotStored {
    fn elsewhere(cause: &'static str) -> Self {
        Self::Doubtful { reason: "output_invalid", error: Error::unavailable(SERVICE, cause) }
    }
}

/// The content types that we store, with their file extensions.
const KINDS: [(&str, &str); 3] =
    [("image/jpeg", "jpg"), ("image/png", "png"), ("image/webp", "webp")];

/// Returns the file extension in an output's URL. Returns `None` if it is not one of an image type that we
/// store.
#[must_use]
pub(crate) fn extension(output: &Url) -> Option<&'static str> {
    let name = output.path().rsplit_once('.')?.1;
    match name.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" => Some("jpg"),
        "png" => Some("png"),
        "webp" => Some("webp"),
        _ => None,
    }
}

impl App {
    /// Marks `output` as made by a model and stores it at `path` in the artworks bucket.
    ///
    /// # Errors
    /// See [`NotStored`]. An error may leave a stored object behind. The deletion that was ordered before the
    /// attempt removes it.
    pub(crate) async fn store_artwork(
        &self,
        output: &Url,
        path: &str,
        made: Made,
    ) -> Result<Stored, NotStored> {
        let late = || NotStored::NotNow(Error::unavailable(SERVICE, "not stored in time"));
        let storing = self.mark_and_store(output, path, made);
        timeout(STORING_TIME, storing).await.map_err(|_| late())?
    }

    async fn mark_and_store(
        &self,
        output: &Url,
        path: &str,
        made: Made,
    ) -> Result<Stored, NotStored> {
        let fault = |cause| NotStored::NotNow(Error::fault(cause));
        let pen = self.marker.clone().ok_or_else(|| fault("a function that marks nothing"))?;
        let (response, length) = self.fetch_output(output).await?;
        let mebibytes = length.unwrap_or(LARGEST_OUTPUT).div_ceil(MIB);
        let room = self.room_for_outputs.acquire_many(u32::try_from(mebibytes).unwrap_or(u32::MAX));
        let _room = room.await.map_err(|_| fault("no room for outputs"))?;

        let picture = read_limited(SERVICE, response, LARGEST_OUTPUT)
            .await
            .map_err(NotStored::NotNow)?
            .ok_or(NotStored::Never("output_invalid"))?;
        let content_type = sniff(&picture).ok_or(NotStored::Never("output_invalid"))?;
        let marking = tokio::task::spawn_blocking(move || {
            let marked = pen.mark(picture, content_type, &made).ok()?;
            Some((Stored::of(content_type, &marked), marked))
        });
        let marked = marking.await.map_err(|_| fault("an output could not be marked"))?;
        let (stored, marked) = marked
            .filter(|(_, marked)| marked.len() <= LARGEST_ARTWORK)
            .ok_or(NotStored::Never("output_invalid"))?;
        self.storage
            .replace(ARTWORKS, path, content_type, marked)
            .await
            .map_err(NotStored::NotNow)?;
        Ok(stored)
    }

    /// Returns the file extension of an output: from its URL, or from its first bytes if the URL has none.
    /// Returns an empty string if the type cannot be determined now. The artwork's path then has no
    /// extension.
    pub(crate) async fn kind_of(&self, output: &Url) -> &'static str {
        if let Some(extension) = extension(output) {
            return extension;
        }
        let Ok((mut response, _)) = self.fetch_output(output).await else { return "" };
        let head = read_head(&mut response).await.unwrap_or_default();
        let kind = sniff(&head).and_then(|found| KINDS.iter().find(|(kind, _)| *kind == found));
        kind.map_or("", |(_, extension)| extension)
    }

    /// Starts to fetch an output. Returns the response and its announced length.
    async fn fetch_output(&self, output: &Url) -> Result<(Response, Option<usize>), NotStored> {
        if !self.egress.allows(output) {
            return Err(NotStored::elsewhere("a host that REPLICATE_OUTPUT_HOSTS does not list"));
        }
        let response = self
            .egress
            .request(Method::GET, output.clone())
            .map_err(NotStored::NotNow)?
            .timeout(STORING_TIME)
            .send()
            .await
            .map_err(|fault| NotStored::NotNow(unreachable(SERVICE, &fault)))?;
        let length = check_output(&response)?;
        Ok((response, length))
    }
}

/// Returns the announced length if the response holds an output that can be stored.
fn check_output(response: &Response) -> Result<Option<usize>, NotStored> {
    match response.status() {
        StatusCode::OK => {}
        // Replicate deleted the output after an hour, or this server does not have it yet.
        status @ (StatusCode::NOT_FOUND | StatusCode::GONE) => {
            let error = Error::unavailable(SERVICE, Cause::status("", status.as_u16()));
            return Err(NotStored::Doubtful { reason: "lost", error });
        }
        status if status.is_redirection() => {
            return Err(NotStored::elsewhere("a redirect, and none is followed"));
        }
        status => {
            let cause = Cause::status("", status.as_u16());
            return Err(NotStored::NotNow(Error::unavailable(SERVICE, cause)));
        }
    }
    let announced = response.content_length();
    let length = announced.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    match length {
        Some(0) => Err(NotStored::Never("output_invalid")),
        Some(length) if length > LARGEST_OUTPUT => Err(NotStored::Never("output_invalid")),
        length => Ok(length),
    }
}

/// Reads enough of the beginning to recognise the file type.
async fn read_head(response: &mut Response) -> Result<Bytes, NotStored> {
    let mut head = BytesMut::new();
    while head.len() < 12 {
        let chunk = response
            .chunk()
            .await
            .map_err(|fault| NotStored::NotNow(unreachable(SERVICE, &fault)))?;
        match chunk {
            Some(chunk) => head.extend_from_slice(&chunk),
            None => break,
        }
    }
    Ok(head.freeze())
}

/// Determines the content type from the first bytes. The host's `Content-Type` header is ignored.
fn sniff(head: &[u8]) -> Option<&'static str> {
    match head {
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

impl Stored {
    fn of(content_type: &'static str, marked: &Bytes) -> Self {
        Self {
            content_type,
            bytes: marked.len() as u64,
            sha256: hex::encode(Sha256::digest(marked)),
            crc32: crc32fast::hash(marked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_comes_from_the_url() {
        let extension = |url: &str| extension(&Url::parse(url).expect("an address"));
        assert_eq!(extension("https://replicate.delivery/x/out-0.PNG?a=.gif"), Some("png"));
        assert_eq!(extension("https://replicate.delivery/out.jpeg"), Some("jpg"));
        assert_eq!(extension("https://replicate.delivery/out.html"), None);
        assert_eq!(extension("https://replicate.delivery/out"), None);
    }

    #[test]
    fn only_pictures_are_recognised() {
        assert_eq!(sniff(b"\x89PNG\r\n\x1a\n...."), Some("image/png"));
        assert_eq!(sniff(b"RIFF\0\0\0\0WEBPVP8 "), Some("image/webp"));
        assert_eq!(sniff(&[0xff, 0xd8, 0xff, 0xe0]), Some("image/jpeg"));
        assert_eq!(sniff(b"<!doctype html>"), None);
        assert_eq!(sniff(b"RIFF\0\0\0\0WAVEfmt "), None);
        assert_eq!(sniff(b""), None);
    }

    #[test]
    fn a_stored_artwork_has_its_length_and_digests() {
        let stored = Stored::of("image/png", &Bytes::from_static(b"abc"));
        assert_eq!((stored.bytes, stored.crc32), (3, 0x3524_41c2));
        assert_eq!(
            stored.sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
