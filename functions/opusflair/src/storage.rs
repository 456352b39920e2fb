//! Supabase Storage, as the service. It answers 400 for nearly everything and keeps silent about what
//! it did not delete, so the body is read and absence is looked for.

mod resumable;

pub(crate) use resumable::PIECE;

use bytes::Bytes;
use http::StatusCode;
use reqwest::{Body, Method, RequestBuilder, Response};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::cause::Cause;
use crate::config::Config;
use crate::database::with_key;
use crate::egress::{Egress, UPLOAD_TIME, read_limited, send_idempotent, unreachable};
use crate::error::Error;
use crate::secret::Secret;

const SERVICE: &str = "Storage";
/// The most objects that one bulk deletion may name.
pub const BULK_LIMIT: usize = 1000;
const ANSWER_LIMIT: usize = 4 * 1024 * 1024;

/// Where photos wait for their generation.
pub const INPUTS: &str = "inputs";
/// Where exports wait to be fetched.
pub const EXPORTS: &str = "exports";
/// Where artworks are kept.
pub const ARTWORKS: &str = "artworks";

/// The objects of the project.
pub struct Storage {
    egress: Egress,
    address: Url,
    key: Secret,
}

#[derive(Deserialize)]
struct Fault {
    #[serde(rename = "statusCode")]
    status_code: String,
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

    /// The whole object, `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; [`Error::BodyTooLarge`] over `limit` bytes.
    pub async fn download(
        &self,
        bucket: &str,
        path: &str,
        limit: usize,
    ) -> Result<Option<Bytes>, Error> {
        let response = send_idempotent(SERVICE, self.object(Method::GET, &[bucket], path)?).await?;
        if !response.status().is_success() {
            let status = fault(response).await?;
            return if status == StatusCode::NOT_FOUND {
                Ok(None)
            } else {
                Err(refused("download", status))
            };
        }
        match read_limited(SERVICE, response, limit).await? {
            Some(body) => Ok(Some(body)),
            None => Err(Error::BodyTooLarge { limit }),
        }
    }

    /// The object, to be read as it comes; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn open(&self, bucket: &str, path: &str) -> Result<Option<Response>, Error> {
        let request = self.object(Method::GET, &[bucket], path)?.timeout(UPLOAD_TIME);
        let response = send_idempotent(SERVICE, request).await?;
        if response.status().is_success() {
            return Ok(Some(response));
        }
        match fault(response).await? {
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(refused("open", status)),
        }
    }

    /// Stores an object in place of whatever has its name.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn replace(
        &self,
        bucket: &str,
        path: &str,
        content_type: &str,
        body: impl Into<Body>,
    ) -> Result<(), Error> {
        let request = self.egress.upload(Method::POST, self.address_of(&[bucket], path)?)?;
        let response = with_key(request, &self.key)
            .header("content-type", content_type)
            .header("cache-control", "private, max-age=3600")
            .header("x-upsert", "true")
            .body(body)
            .send()
            .await
            .map_err(|fault| unreachable(SERVICE, &fault))?;
        expect_success("upload", response).await.map(drop)
    }

    /// An address from which anyone who has it can fetch the object for `seconds` (T2, T4); `None` where
    /// there is no such object.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn sign(&self, bucket: &str, path: &str, seconds: u32) -> Result<Option<Url>, Error> {
        #[derive(Deserialize)]
        struct Signed {
            #[serde(rename = "signedURL")]
            signed_url: String,
        }
        let request = self
            .object(Method::POST, &["sign", bucket], path)?
            .json(&json!({ "expiresIn": seconds }));
        let response = send_idempotent(SERVICE, request).await?;
        if !response.status().is_success() {
            let status = fault(response).await?;
            return if status == StatusCode::NOT_FOUND {
                Ok(None)
            } else {
                Err(refused("sign", status))
            };
        }
        let signed: Signed = read_json(response).await?;
        // Relative to /storage/v1, with a leading slash.
        let address =
            format!("{}{}", self.address.as_str().trim_end_matches('/'), signed.signed_url);
        Url::parse(&address)
            .map(Some)
            .map_err(|_| Error::unavailable(SERVICE, "a signed address that is none"))
    }

    /// Asks for objects to be deleted. What the answer leaves out may or may not be gone, so it is not
    /// read: see [`Storage::is_absent`].
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn delete(&self, bucket: &str, paths: &[&str]) -> Result<(), Error> {
        for names in paths.chunks(BULK_LIMIT) {
            let request =
                self.object(Method::DELETE, &[], bucket)?.json(&json!({ "prefixes": names }));
            expect_success("delete", send_idempotent(SERVICE, request).await?).await?;
        }
        Ok(())
    }

    /// Whether a fetch finds nothing. Only an answer that says so counts.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the answer says neither.
    pub async fn is_absent(&self, bucket: &str, path: &str) -> Result<bool, Error> {
        let response = send_idempotent(SERVICE, self.object(Method::GET, &[bucket], path)?).await?;
        if response.status().is_success() {
            return Ok(false);
        }
        match fault(response).await? {
            StatusCode::NOT_FOUND => Ok(true),
            status => Err(refused("look for", status)),
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

async fn expect_success(verb: &'static str, response: Response) -> Result<Response, Error> {
    if response.status().is_success() {
        return Ok(response);
    }
    let status = fault(response).await?;
    Err(refused(verb, status))
}

fn refused(verb: &'static str, status: StatusCode) -> Error {
    Error::unavailable(SERVICE, Cause::status(verb, status.as_u16()))
}

/// The true status of a failed answer: hosted Storage says 400 and puts it into the body.
async fn fault(response: Response) -> Result<StatusCode, Error> {
    let outer = response.status().as_u16();
    let body = read_limited(SERVICE, response, ANSWER_LIMIT).await?.unwrap_or_default();
    let fault = serde_json::from_slice::<Fault>(&body).ok();
    let inner = fault.and_then(|fault| fault.status_code.parse().ok());
    let status = if outer == 400 { inner.unwrap_or(outer) } else { outer };
    Ok(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST))
}

async fn read_json<T: serde::de::DeserializeOwned>(response: Response) -> Result<T, Error> {
    let body = read_limited(SERVICE, response, ANSWER_LIMIT).await?.unwrap_or_default();
    serde_json::from_slice(&body).map_err(|_| Error::unavailable(SERVICE, "an unreadable answer"))
}
