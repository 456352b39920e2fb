//! The client of Supabase Storage, with the service's key. Storage does not report which objects it failed to
//! delete, so this module checks afterwards that they are gone.

mod failure;
mod resumable;

pub(crate) use resumable::PIECE;

use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;
use reqwest::{Body, Method, RequestBuilder, Response};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::cause::Cause;
use crate::config::Config;
use crate::database::with_key;
use crate::egress::{Egress, PATIENCE, Tries, UPLOAD_TIME, read_limited, retry_after, unreachable};
use crate::error::Error;
use crate::secret::Secret;

use failure::Failure;

const SERVICE: &str = "Storage";
/// The largest number of objects in one bulk deletion.
pub(crate) const BULK_LIMIT: usize = 1000;
const ANSWER_LIMIT: usize = 4 * 1024 * 1024;

/// The bucket of uploaded photos and of their prepared copies.
pub(crate) const INPUTS: &str = "inputs";
/// The bucket of exports.
pub(crate) const EXPORTS: &str = "exports";
/// The bucket of artworks.
pub(crate) const ARTWORKS: &str = "artworks";

/// Calls Storage.
pub(crate) struct Storage {
    egress: Egress,
    address: Url,
    key: Secret,
}

impl Storage {
    pub(crate) fn new(config: &Config, egress: Egress) -> Self {
        let mut address = config.supabase_url.clone();
        address
            .path_segments_mut()
            .expect("an http address has a path")
            .pop_if_empty()
            .extend(["storage", "v1"]);
        Self { egress, address, key: config.secret_key.clone() }
    }

    /// Downloads a whole object. Returns `None` if it does not exist.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] or [`Error::KeyRefused`], and [`Error::BodyTooLarge`] if the object has
    /// more than `limit` bytes.
    pub(crate) async fn download(
        &self,
        bucket: &str,
        path: &str,
        limit: usize,
    ) -> Result<Option<Bytes>, Error> {
        let request = self.object(Method::GET, &[bucket], path)?;
        let Some(response) = find("download", request).await? else { return Ok(None) };
        match read_limited(SERVICE, response, limit).await? {
            Some(body) => Ok(Some(body)),
            None => Err(Error::BodyTooLarge { limit }),
        }
    }

    /// Opens an object as a stream. Returns `None` if it does not exist.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] or [`Error::KeyRefused`].
    pub(crate) async fn open(&self, bucket: &str, path: &str) -> Result<Option<Response>, Error> {
        let request = self.object(Method::GET, &[bucket], path)?.timeout(UPLOAD_TIME);
        find("open", request).await
    }

    /// Stores an object and replaces an existing one of the same name. During an outage, a body in memory is
    /// sent again. A stream is sent only once.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] or [`Error::KeyRefused`].
    pub(crate) async fn replace(
        &self,
        bucket: &str,
        path: &str,
        content_type: &str,
        body: impl Into<Body>,
    ) -> Result<(), Error> {
        let request = self.egress.upload(Method::POST, self.address_of(&[bucket], path)?)?;
        let request = with_key(request, &self.key)
            .header("content-type", content_type)
            .header("cache-control", "private, max-age=3600")
            .header("x-upsert", "true")
            .body(body);
        done("upload", request).await.map(drop)
    }

    /// Returns a signed URL. Anyone with this URL can fetch the object for `seconds` (T2, T4). Returns `None`
    /// if the object does not exist.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] or [`Error::KeyRefused`].
    pub(crate) async fn sign(
        &self,
        bucket: &str,
        path: &str,
        seconds: u32,
    ) -> Result<Option<Url>, Error> {
        #[derive(Deserialize)]
        struct Signed {
            #[serde(rename = "signedURL")]
            signed_url: String,
        }
        let request = self
            .object(Method::POST, &["sign", bucket], path)?
            .json(&json!({ "expiresIn": seconds }));
        let Some(response) = find("sign", request).await? else { return Ok(None) };
        let signed: Signed = read_json(response).await?;
        // The signed URL is relative to `/storage/v1` and begins with a slash.
        let address =
            format!("{}{}", self.address.as_str().trim_end_matches('/'), signed.signed_url);
        Url::parse(&address)
            .map(Some)
            .map_err(|_| Error::unavailable(SERVICE, "the signed address is not valid"))
    }

    /// Deletes objects. Returns when Storage's last response began: the deletion had happened by then. The
    /// response body is not read, because it does not reliably tell which objects are gone. Use
    /// [`Storage::absent_at`] to check that.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] or [`Error::KeyRefused`].
    pub(crate) async fn delete(&self, bucket: &str, paths: &[&str]) -> Result<Instant, Error> {
        let mut answered = Instant::now();
        for names in paths.chunks(BULK_LIMIT) {
            let request =
                self.object(Method::DELETE, &[], bucket)?.json(&json!({ "prefixes": names }));
            done("delete", request).await?;
            answered = Instant::now();
        }
        Ok(answered)
    }

    /// Checks that an object does not exist. Returns when the response that says so began, or `None` if the
    /// object exists.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if the response says neither, and [`Error::KeyRefused`].
    pub(crate) async fn absent_at(
        &self,
        bucket: &str,
        path: &str,
    ) -> Result<Option<Instant>, Error> {
        match ask("look for", self.object(Method::GET, &[bucket], path)?).await? {
            Answer::Done(_) => Ok(None),
            Answer::Absent { answered } => Ok(Some(answered)),
        }
    }

    fn object(&self, method: Method, prefix: &[&str], path: &str) -> Result<RequestBuilder, Error> {
        let request = self.egress.request(method, self.address_of(prefix, path)?)?;
        Ok(with_key(request, &self.key))
    }

    fn address_of(&self, prefix: &[&str], path: &str) -> Result<Url, Error> {
        let mut url = self.address.clone();
        url.path_segments_mut()
            .map_err(|()| Error::fault("the address of Storage"))?
            .push("object")
            .extend(prefix)
            .extend(path.split('/'));
        Ok(url)
    }
}

/// The response to a request for one object.
enum Answer {
    Done(Response),
    Absent { answered: Instant },
}

/// Sends a request, and retries during an outage. A body that is a stream is sent only once.
async fn ask(verb: &'static str, request: RequestBuilder) -> Result<Answer, Error> {
    let mut tries = Tries::begin(PATIENCE);
    let mut next = Some(request);
    while let Some(request) = next.take() {
        let again = request.try_clone();
        let (error, asked, is_temporary) = match request.send().await {
            Ok(response) if response.status().is_success() => return Ok(Answer::Done(response)),
            Ok(response) => {
                let (answered, asked) = (Instant::now(), retry_after(response.headers()));
                match Failure::read(response).await {
                    Ok(failure) if failure.is_absence() => return Ok(Answer::Absent { answered }),
                    Ok(failure) => (failure.error(verb), asked, failure.is_temporary()),
                    Err(error) => (error, None, true),
                }
            }
            Err(fault) => (unreachable(SERVICE, &fault), None, true),
        };
        if again.is_none() || !is_temporary || !tries.again(asked).await {
            return Err(error);
        }
        next = again;
    }
    Err(Error::fault("a request that was never sent"))
}

/// Sends a request for an object that may be missing.
async fn find(verb: &'static str, request: RequestBuilder) -> Result<Option<Response>, Error> {
    match ask(verb, request).await? {
        Answer::Done(response) => Ok(Some(response)),
        Answer::Absent { .. } => Ok(None),
    }
}

/// Sends a request for which no object can be missing.
async fn done(verb: &'static str, request: RequestBuilder) -> Result<Response, Error> {
    find(verb, request).await?.ok_or_else(|| {
        Error::unavailable(SERVICE, Cause::status(verb, StatusCode::NOT_FOUND.as_u16()))
    })
}

async fn read_json<T: serde::de::DeserializeOwned>(response: Response) -> Result<T, Error> {
    let body = read_limited(SERVICE, response, ANSWER_LIMIT).await?.unwrap_or_default();
    serde_json::from_slice(&body).map_err(|_| Error::unavailable(SERVICE, "an unreadable answer"))
}
