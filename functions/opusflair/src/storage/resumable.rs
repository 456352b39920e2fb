//! Resumable uploads (TUS 1.0.0), for objects whose upload takes longer than a process lives. Storage knows
//! how many bytes have arrived. The upload's URL is enough to continue it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header::LOCATION;
use reqwest::{Method, RequestBuilder, Response};
use url::Url;

use super::{Failure, SERVICE, Storage};
use crate::Error;
use crate::database::with_key;
use crate::egress::{send_idempotent, unreachable};

/// The size of each piece except the last, in bytes. Hosted Storage accepts no other size.
pub(crate) const PIECE: usize = 6 * 1024 * 1024;

impl Storage {
    /// Begins the upload of an object of `bytes` bytes, which replaces an existing object of the same name.
    /// Returns the upload's URL.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] or [`Error::KeyRefused`].
    pub(crate) async fn begin_upload(
        &self,
        bucket: &str,
        path: &str,
        content_type: &str,
        bytes: u64,
    ) -> Result<Url, Error> {
        let mut url = self.address.clone();
        url.path_segments_mut()
            .map_err(|()| Error::fault("the address of Storage"))?
            .extend(["upload", "resumable"]);
        let metadata = [
            ("bucketName", bucket),
            ("objectName", path),
            ("contentType", content_type),
            ("cacheControl", "private, max-age=0"),
        ]
        .map(|(name, value)| format!("{name} {}", STANDARD.encode(value)));
        let response = self
            .upload(Method::POST, url.clone())?
            .header("upload-length", bytes)
            .header("upload-metadata", metadata.join(","))
            .send()
            .await
            .map_err(|fault| unreachable(SERVICE, &fault))?;
        let response = succeeded("begin an upload", response).await?;
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        location
            .and_then(|location| url.join(location).ok())
            .ok_or_else(|| Error::unavailable(SERVICE, "an upload without an address"))
    }

    /// Returns how many bytes have arrived, or `None` if the upload no longer exists.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] or [`Error::KeyRefused`].
    pub(crate) async fn uploaded(&self, upload: &Url) -> Result<Option<u64>, Error> {
        self.look_at(upload).await.map(|found| found.map(|(arrived, _)| arrived))
    }

    /// Returns how many bytes have arrived, and the total length.
    async fn look_at(&self, upload: &Url) -> Result<Option<(u64, u64)>, Error> {
        let request = self.upload(Method::HEAD, upload.clone())?;
        let response = send_idempotent(SERVICE, request).await?;
        match response.status().as_u16() {
            200..300 => {
                let arrived = number(&response, "upload-offset")?;
                Ok(Some((arrived, number(&response, "upload-length")?)))
            }
            // A HEAD response has no body that would explain a 400, so the upload starts again.
            400 | 404 | 410 => Ok(None),
            _ => Err(Failure::read(response).await?.error("look at an upload")),
        }
    }

    /// Sends the bytes from offset `at` on. Returns how many bytes have arrived in total.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] or [`Error::KeyRefused`]. The bytes may still have arrived: call
    /// [`Storage::uploaded`] to find out.
    pub(crate) async fn send_piece(
        &self,
        upload: &Url,
        at: u64,
        piece: Vec<u8>,
    ) -> Result<u64, Error> {
        let response = self
            .upload(Method::PATCH, upload.clone())?
            .header("upload-offset", at)
            .header("content-type", "application/offset+octet-stream")
            .body(piece)
            .send()
            .await
            .map_err(|fault| unreachable(SERVICE, &fault))?;
        number(&succeeded("send a piece", response).await?, "upload-offset")
    }

    /// Deletes an unfinished upload. It is no error if the upload does not exist, or if it has become an
    /// object. Hosted Storage refuses to delete a finished upload.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] or [`Error::KeyRefused`].
    pub(crate) async fn abandon_upload(&self, upload: &Url) -> Result<(), Error> {
        let request = self.upload(Method::DELETE, upload.clone())?;
        let response = send_idempotent(SERVICE, request).await?;
        if response.status().is_success() {
            return Ok(());
        }
        let failure = Failure::read(response).await?;
        if matches!(failure.status(), StatusCode::NOT_FOUND | StatusCode::GONE) {
            return Ok(());
        }
        match self.look_at(upload).await? {
            Some((arrived, length)) if arrived < length => Err(failure.error("abandon an upload")),
            _ => Ok(()),
        }
    }

    fn upload(&self, method: Method, address: Url) -> Result<RequestBuilder, Error> {
        // Every request sends `x-upsert`, because Storage checks each time whether an object may be replaced.
        let request = if method == Method::PATCH {
            self.egress.upload(method, address)?
        } else {
            self.egress.request(method, address)?
        };
        let request = request.header("tus-resumable", "1.0.0").header("x-upsert", "true");
        Ok(with_key(request, &self.key))
    }
}

/// Returns the response if it is a success.
async fn succeeded(verb: &'static str, response: Response) -> Result<Response, Error> {
    if response.status().is_success() {
        return Ok(response);
    }
    Err(Failure::read(response).await?.error(verb))
}

fn number(response: &Response, header: &str) -> Result<u64, Error> {
    response
        .headers()
        .get(header)
        .and_then(|number| number.to_str().ok()?.parse().ok())
        .ok_or_else(|| Error::unavailable(SERVICE, "an upload without its length"))
}
