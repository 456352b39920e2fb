//! Marks artworks as made by a model (X7), for people and for machines. It writes IPTC's
//! `DigitalSourceType` into XMP, and then adds Content Credentials (C2PA) if a certificate is
//! configured. It never changes pixels. Only functions that store artworks link this crate, because its
//! C2PA library is larger than they are.

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

use credentials::Credentials;

/// IPTC's term for a picture that a model made from another one:
/// <https://cv.iptc.org/newscodes/digitalsourcetype/>.
const SOURCE_TYPE: &str =
    "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia";

/// Writes XMP, and Content Credentials if it has a certificate.
pub(crate) struct Marker {
    credentials: Option<Credentials>,
}

impl Marker {
    /// Without `credentials`, marks are unsigned and in XMP only.
    #[must_use]
    pub(crate) fn new(credentials: Option<Credentials>) -> Self {
        Self { credentials }
    }
}

/// Builds the app from the environment, with a marker, so that it can store artworks.
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
    /// Keeps an existing manifest. Normally it becomes the parent of our manifest. If ours cannot be written,
    /// the picture stays unchanged, because added XMP would break the existing signature.
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
            // If the library fails, the artwork is stored without a signature. Its error is not logged,
            // because it may quote the file.
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
                "an artwork is stored without Content Credentials"
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
