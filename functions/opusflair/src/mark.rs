//! What an artwork says about itself: that a model made it (X7). The functions that store artworks hand in a [`Mark`];
//! the crate `marking` has it, so that nothing else links the library of Content Credentials.

use bytes::Bytes;
use time::OffsetDateTime;

/// Marks pictures as made by a model.
pub trait Mark: Send + Sync {
    /// The same picture with its mark. It reads and writes the whole file, so it is called off the runtime.
    ///
    /// # Errors
    /// [`NoPicture`] where the file is broken. A picture whose mark cannot be written in full has what could be.
    fn mark(
        &self,
        picture: Bytes,
        content_type: &'static str,
        made: &Made,
    ) -> Result<Bytes, NoPicture>;

    /// Until when the certificate that signs the marks is valid; `None` where none is configured.
    fn certificate_ends_at(&self) -> Option<OffsetDateTime>;
}

/// Which model made a picture, and when. Nothing of the photo, the prompt or the person.
#[derive(Clone, Debug)]
pub struct Made {
    /// `owner/name` at Replicate.
    pub model: String,
    /// Its version, where Replicate tells it.
    pub version: Option<String>,
    /// When it was done.
    pub at: OffsetDateTime,
}

/// A file that is not the whole picture that its first bytes promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a broken picture")]
pub struct NoPicture;
