//! The mark that tells people and machines that a model made an artwork (X7). Functions that store artworks
//! supply an implementation of [`Mark`]. It lives in the crate `marking`, so that functions that store no
//! artworks do not link the Content Credentials library.

use bytes::Bytes;
use time::OffsetDateTime;

/// Marks pictures as made by a model.
pub trait Mark: Send + Sync {
    /// Returns the same picture with its mark. This reads and writes the whole file, so call it on a blocking
    /// thread.
    ///
    /// # Errors
    /// Returns [`NoPicture`] if the file is broken. If only a part of the mark can be written, the picture is
    /// returned with that part.
    fn mark(
        &self,
        picture: Bytes,
        content_type: &'static str,
        made: &Made,
    ) -> Result<Bytes, NoPicture>;

    /// When the certificate that signs the marks expires. `None` if no certificate is configured.
    fn certificate_ends_at(&self) -> Option<OffsetDateTime>;
}

/// The model that made a picture, and the time. It holds nothing about the photo, the prompt or the person.
#[derive(Clone, Debug)]
pub struct Made {
    /// The model's name at Replicate: `owner/name`.
    pub model: String,
    /// The model's version, if Replicate discloses it.
    pub version: Option<String>,
    /// When the prediction was completed.
    pub at: OffsetDateTime,
}

/// A file whose first bytes announce a picture, but which is not a complete picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a broken picture")]
pub struct NoPicture;
