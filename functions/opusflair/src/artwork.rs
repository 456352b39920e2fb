//! Storing an output: streamed from Replicate to Storage, counted and digested on the way, never held
//! whole in memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use reqwest::{Body, Method, Response, StatusCode};
use sha2::{Digest, Sha256};
use url::Url;

use crate::cause::Cause;
use crate::egress::unreachable;
use crate::storage::ARTWORKS;
use crate::{App, Error};

/// The largest output that is kept, in bytes; the limit of the bucket.
pub const LARGEST_ARTWORK: u64 = 50 * 1024 * 1024;
/// For the whole copy. Shorter than the lease under which it is made.
const COPY_TIME: Duration = Duration::from_secs(100);
const SERVICE: &str = "the output host";

/// What was stored.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored {
    /// As found in the bytes.
    pub content_type: &'static str,
    /// Length.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// CRC-32 as ZIP has it: an export writes it before the bytes.
    pub crc32: u32,
}

/// Why an output was not stored.
#[derive(Debug)]
pub enum NotStored {
    /// It never will be; the reason is one of `public.failure_reasons`.
    Never(&'static str),
    /// It is not where it should be. That may pass, or the operator can repair it; if it is so until the deadline, or
    /// for some minutes if it is gone, it ends for this reason.
    Doubtful {
        /// One of `public.failure_reasons`.
        reason: &'static str,
        /// What was found.
        error: Error,
    },
    /// Another try may succeed.
    NotNow(Error),
}

impl NotStored {
    fn elsewhere(cause: &'static str) -> Self {
        Self::Doubtful { reason: "output_invalid", error: Error::unavailable(SERVICE, cause) }
    }
}

/// The extension of each kind of image that we keep.
const KINDS: [(&str, &str); 3] =
    [("image/jpeg", "jpg"), ("image/png", "png"), ("image/webp", "webp")];

/// The extension of an output by its address, if it is one of an image that we keep.
#[must_use]
pub fn extension(output: &Url) -> Option<&'static str> {
    let name = output.path().rsplit_once('.')?.1;
    match name.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" => Some("jpg"),
        "png" => Some("png"),
        "webp" => Some("webp"),
        _ => None,
    }
}

impl App {
    /// Copies `output` to `path` among the artworks.
    ///
    /// # Errors
    /// See [`NotStored`]. What was stored by then is not counted on: the order that preceded it stands.
    pub async fn store_artwork(&self, output: &Url, path: &str) -> Result<Stored, NotStored> {
        let (mut response, length) = self.fetch_output(output).await?;
        let head = read_head(&mut response).await?;
        let content_type = sniff(&head).ok_or(NotStored::Never("output_invalid"))?;
        let meter = Meter::default();
        let stream = meter.watch(stream::once(async { Ok(head) }).chain(response.bytes_stream()));
        let stored =
            self.storage.replace(ARTWORKS, path, content_type, Body::wrap_stream(stream)).await;

        let measured = meter.read();
        if measured.bytes > LARGEST_ARTWORK || length.is_some_and(|length| length < measured.bytes)
        {
            return Err(NotStored::Never("output_invalid"));
        }
        stored.map_err(NotStored::NotNow)?;
        if length.is_some_and(|length| length != measured.bytes) {
            return Err(NotStored::NotNow(Error::unavailable(SERVICE, "shorter than announced")));
        }
        Ok(Stored { content_type, ..measured.finish() })
    }

    /// The extension of an output: by its address, or by its first bytes if the address does not say. Empty if it cannot
    /// be told now; what is stored then has a path without one.
    pub(crate) async fn kind_of(&self, output: &Url) -> &'static str {
        if let Some(extension) = extension(output) {
            return extension;
        }
        let Ok((mut response, _)) = self.fetch_output(output).await else { return "" };
        let head = read_head(&mut response).await.unwrap_or_default();
        let kind = sniff(&head).and_then(|found| KINDS.iter().find(|(kind, _)| *kind == found));
        kind.map_or("", |(_, extension)| extension)
    }

    /// Begins to fetch an output; answers its announced length, too.
    async fn fetch_output(&self, output: &Url) -> Result<(Response, Option<u64>), NotStored> {
        if !self.egress.allows(output) {
            return Err(NotStored::elsewhere("a host that REPLICATE_OUTPUT_HOSTS does not list"));
        }
        let response = self
            .egress
            .request(Method::GET, output.clone())
            .map_err(NotStored::NotNow)?
            .timeout(COPY_TIME)
            .send()
            .await
            .map_err(|fault| NotStored::NotNow(unreachable(SERVICE, &fault)))?;
        let length = judge(&response)?;
        Ok((response, length))
    }
}

/// The announced length, if the answer is one to be stored.
fn judge(response: &Response) -> Result<Option<u64>, NotStored> {
    match response.status() {
        StatusCode::OK => {}
        // Its hour is over, or a server does not have it yet.
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
    match response.content_length() {
        Some(0) => Err(NotStored::Never("output_invalid")),
        Some(length) if length > LARGEST_ARTWORK => Err(NotStored::Never("output_invalid")),
        length => Ok(length),
    }
}

/// Enough of the beginning to see what it is.
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

/// The content type by the first bytes: what the host says of it does not count.
fn sniff(head: &[u8]) -> Option<&'static str> {
    match head {
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// Counts and digests what passes by, and breaks off what is too long.
#[derive(Clone, Default)]
struct Meter(Arc<Mutex<Measured>>);

#[derive(Clone, Default)]
struct Measured {
    bytes: u64,
    digest: Sha256,
    crc32: crc32fast::Hasher,
}

impl Meter {
    fn watch(
        &self,
        stream: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
    ) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
        let meter = self.clone();
        stream.map(move |chunk| {
            let chunk = chunk.map_err(|_| std::io::Error::other("the output broke off"))?;
            let mut measured = meter.0.lock().expect("nothing panics while it holds this");
            measured.bytes += chunk.len() as u64;
            measured.digest.update(&chunk);
            measured.crc32.update(&chunk);
            if measured.bytes > LARGEST_ARTWORK {
                return Err(std::io::Error::other("the output is too long"));
            }
            Ok(chunk)
        })
    }

    fn read(&self) -> Measured {
        self.0.lock().expect("nothing panics while it holds this").clone()
    }
}

impl Measured {
    fn finish(self) -> Stored {
        Stored {
            content_type: "",
            bytes: self.bytes,
            sha256: hex::encode(self.digest.finalize()),
            crc32: self.crc32.finalize(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_comes_from_the_address() {
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

    #[tokio::test]
    async fn what_passes_is_counted_and_digested() {
        let meter = Meter::default();
        let chunks = [Bytes::from_static(b"ab"), Bytes::from_static(b"c")].map(Ok);
        let passed: Vec<_> = meter.watch(stream::iter(chunks)).collect().await;
        assert_eq!(passed.len(), 2);
        let stored = meter.read().finish();
        assert_eq!((stored.bytes, stored.crc32), (3, 0x3524_41c2));
        assert_eq!(
            stored.sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[tokio::test]
    async fn an_endless_output_is_broken_off() {
        let meter = Meter::default();
        let chunk = Bytes::from(vec![0; 1024 * 1024]);
        let endless = stream::repeat_with(move || Ok(chunk.clone()));
        let passed = meter.watch(endless).take_while(|chunk| std::future::ready(chunk.is_ok()));
        assert_eq!(passed.count().await as u64, LARGEST_ARTWORK / (1024 * 1024));
    }
}
