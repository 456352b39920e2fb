//! Judges the photo of a generation and stores its prepared copy.

use bytes::Bytes;
use photo::{Format, Photo, Rejection};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Dispatch;
use super::stop::{Stop, no_photo};
use crate::storage::INPUTS;
use crate::{App, Error, crash};

impl App {
    /// Judges the photo by its bytes (C2) and stores the prepared copy that the model receives: a new picture
    /// that contains only pixels (T2). No client can write to its path. So it does not matter if the original
    /// is changed or replaced afterwards.
    pub(super) async fn prepare_photo(&self, dispatch: &Dispatch) -> Result<Photo, Stop> {
        let path = &dispatch.input_path;
        let bytes = match self.storage.download(INPUTS, path, Photo::LARGEST).await {
            Err(Error::BodyTooLarge { limit: max_bytes }) => {
                return Err(rejected(Rejection::TooManyBytes { max_bytes }, None));
            }
            downloaded => downloaded?.ok_or_else(no_photo)?,
        };
        let photo = prepare(dispatch.generation, bytes).await?;
        let prepared = photo.clone().into_prepared();
        self.storage
            .replace(INPUTS, &dispatch.prepared_path, Photo::PREPARED_TYPE, prepared)
            .await?;
        Ok(photo)
    }
}

/// Prepares the photo on a blocking thread, because decoding takes long. If the decoder panics, the photo is
/// rejected as corrupt, because a retry would panic again.
async fn prepare(generation: Uuid, bytes: Bytes) -> Result<Photo, Stop> {
    let received = bytes.clone();
    let refused = |rejection| rejected(rejection, Some(hex::encode(Sha256::digest(&received))));
    let format = Format::recognise(&bytes).map_err(refused)?;
    let preparing = tokio::task::spawn_blocking(move || {
        crash::poisoned(&bytes);
        Photo::prepare(&bytes)
    });
    match preparing.await {
        Ok(prepared) => prepared.map_err(refused),
        Err(fault) if fault.is_panic() => {
            tracing::error!(%generation, "a photo made its decoder panic");
            Err(refused(Rejection::Corrupt(format)))
        }
        Err(_) => Err(Error::fault("the photo could not be prepared").into()),
    }
}

fn rejected(rejection: Rejection, input_sha256: Option<String>) -> Stop {
    Stop::Refused { reason: rejection.code(), error: Error::Photo(rejection), input_sha256 }
}
