//! Reading requests: within limits, and in words that say what to change.

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::Error;

/// The largest JSON body that any route takes, in bytes.
pub const JSON_LIMIT: usize = 16 * 1024;

/// A body of JSON, of at most [`JSON_LIMIT`] bytes.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self, Error> {
        let (parts, body) = request.into_parts();
        let body = read_body(&parts.headers, body, JSON_LIMIT).await?;
        serde_json::from_slice(&body)
            .map(Self)
            .map_err(|fault| Error::invalid("body", describe(&fault)))
    }
}

/// An id, from the path.
#[derive(Clone, Copy, Debug)]
pub struct PathId(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        // An id that cannot exist and one that does not are the same to whoever asks.
        Path::<Uuid>::from_request_parts(parts, state)
            .await
            .map(|Path(id)| Self(id))
            .map_err(|_| Error::NoSuchRoute)
    }
}

/// The whole body, if it has at most `limit` bytes. What the headers say about the sender is judged before.
///
/// # Errors
/// [`Error::BodyTooLarge`], also if the sender breaks off.
pub async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Error> {
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(Error::BodyTooLarge { limit });
    }
    to_bytes(body, limit).await.map_err(|_| Error::BodyTooLarge { limit })
}

/// What is wrong with a body, without repeating any of it: a person may have written anything into it.
fn describe(fault: &serde_json::Error) -> String {
    let text = fault.to_string();
    let text = &text[..text.rfind(" at line").unwrap_or(text.len())];
    if text.starts_with("missing field") {
        return format!("has a fault: {text}.");
    }
    if let Some((_, expected)) =
        text.rsplit_once(", expected ").filter(|_| text.starts_with("unknown field"))
    {
        return format!("has a member that is not known; expected {expected}.");
    }
    match fault.classify() {
        serde_json::error::Category::Data => {
            format!(
                "has a member of the wrong type at line {}, column {}.",
                fault.line(),
                fault.column()
            )
        }
        _ => "must be a JSON object.".to_owned(),
    }
}
