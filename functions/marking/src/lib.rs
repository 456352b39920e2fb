//! Marks artworks as made by a model (X7), for people and for machines: IPTC's `DigitalSourceType` in XMP, then Content
//! Credentials (C2PA) where a certificate is configured. Pixels are never touched. Only the functions that store
//! artworks link this crate: its library is larger than they are.

mod credentials;
mod timestamp;
mod xmp;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use opusflair::App;
use opusflair::cause::Cause;
use opusflair::config::Config;
use opusflair::mark::{Made, Mark, NoPicture};
use time::OffsetDateTime;

pub use credentials::{Credentials, InvalidCredentials};

/// IPTC's word for a picture that a model made out of another: <https://cv.iptc.org/newscodes/digitalsourcetype/>.
const SOURCE_TYPE: &str =
    "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia";

/// Writes XMP, and credentials if it has what signs them.
pub struct Marker {
    credentials: Option<Credentials>,
}

impl Marker {
    /// Marks without `credentials` are in XMP alone, unsigned.
    #[must_use]
    pub fn new(credentials: Option<Credentials>) -> Self {
        Self { credentials }
    }
}

/// The configuration from the environment and the clients, able to store artworks.
///
/// # Errors
/// Names every variable that is missing or unusable.
pub fn app_from_env() -> Result<App, Box<dyn std::error::Error + Send + Sync>> {
    let app = App::new(Config::from_env()?)?;
    let configured = app.config.content_credentials.as_ref();
    let credentials = configured
        .map(|configured| Credentials::new(configured, app.egress.clone()))
        .transpose()?;
    Ok(app.with_marker(Arc::new(Marker::new(credentials))))
}

impl Mark for Marker {
    /// A manifest that is there is kept: as the parent of ours, or untouched where ours cannot be written, because XMP
    /// would break its signature.
    fn mark(
        &self,
        picture: Bytes,
        content_type: &'static str,
        made: &Made,
    ) -> Result<Bytes, NoPicture> {
        let described = xmp::describe(&picture, content_type, made).map_err(|_| NoPicture)?;
        let is_signed = credentials::are_in(&picture, content_type);
        let parent = is_signed.then_some(&picture);
        let signed = self.credentials.as_ref().and_then(|credentials| {
            // A fault of the library's costs the signature, not the artwork. Its words may quote the file.
            let signing = || credentials.sign(&described, parent, content_type, made);
            let fault = match catch_unwind(AssertUnwindSafe(signing)) {
                Ok(Ok(signed)) => return Some(signed),
                Ok(Err(_)) if credentials.ends_at() <= OffsetDateTime::now_utc() => {
                    "the certificate is over"
                }
                Ok(Err(_)) => "the library refuses",
                Err(_) => "the library panicked",
            };
            tracing::error!(
                error = Cause::from(fault).for_log(),
                "an artwork is stored without credentials"
            );
            None
        });
        Ok(signed.unwrap_or(if is_signed { picture } else { described }))
    }

    fn certificate_ends_at(&self) -> Option<OffsetDateTime> {
        self.credentials.as_ref().map(Credentials::ends_at)
    }
}

#[cfg(test)]
mod tests;
