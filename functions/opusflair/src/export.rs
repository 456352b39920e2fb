//! Exports (G5): one ZIP archive with all data of a user. The database writes the plan in stretches, and
//! this module computes the checksums. Then it uploads the archive in pieces. After each stretch and each
//! piece, another worker can continue. Only one stretch or piece is in memory at a time, together with the
//! list of files.

mod layout;
mod meter;
mod parts;
mod pieces;
mod plan;

use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use self::layout::{File, Layout};
use self::meter::Meter;
use self::parts::Parts;
use self::pieces::{Pieces, Stop};
use crate::egress::unreachable;
use crate::storage::EXPORTS;
use crate::{App, Error, crash};

/// An export that this worker has leased.
#[derive(Debug, Deserialize)]
struct Leased {
    id: Uuid,
    path: String,
    /// The URL of the resumable upload. `None` before the upload begins.
    upload: Option<Url>,
    /// The length of the archive in bytes, recorded when the upload began.
    bytes_total: Option<u64>,
    is_planned: bool,
}

/// The result of one turn: the work on one export until the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// No export is waiting.
    Idle,
    /// An export is complete.
    Ready,
    /// An export has made progress, or has to wait. A later turn continues it.
    Further,
}

impl App {
    /// Works on the export that has waited longest, until `deadline`.
    ///
    /// # Errors
    /// Returns an error if the database is unavailable. If Storage fails, a later turn continues.
    pub async fn build_export(&self, deadline: Instant) -> Result<Turn, Error> {
        let lease = Uuid::new_v4();
        let leased: Option<Leased> = self.ask("lease_export", json!({ "lease": lease })).await?;
        let Some(leased) = leased else { return Ok(Turn::Idle) };
        crash::reached("export.leased");
        let id = leased.id;
        let failed = match self.upload_export(leased, lease, deadline).await {
            Ok(()) => return Ok(Turn::Ready),
            Err(Stop::Later) => false,
            Err(Stop::Anew) => return self.restart_export(id, lease, None, None).await,
            Err(Stop::Missing(object)) => {
                return self.restart_export(id, lease, Some(object), None).await;
            }
            Err(Stop::Changed(object)) => {
                return self.restart_export(id, lease, None, Some(object)).await;
            }
            Err(Stop::Failed(error)) => {
                tracing::warn!(
                    export = %id,
                    error = error.for_log(),
                    "an export could not continue, and a later sweep tries again"
                );
                true
            }
        };
        let released = json!({ "export_id": id, "lease": lease, "failed": failed });
        self.ask::<Value>("release_export", released).await?;
        Ok(Turn::Further)
    }

    async fn restart_export(
        &self,
        id: Uuid,
        lease: Uuid,
        missing: Option<String>,
        changed: Option<String>,
    ) -> Result<Turn, Error> {
        let again =
            json!({ "export_id": id, "lease": lease, "missing": missing, "changed": changed });
        self.ask::<Value>("restart_export", again).await?;
        tracing::info!(export = %id, "an export starts again from the beginning");
        Ok(Turn::Further)
    }

    async fn upload_export(
        &self,
        leased: Leased,
        lease: Uuid,
        deadline: Instant,
    ) -> Result<(), Stop> {
        let Leased { id, path, upload, bytes_total, is_planned } = leased;
        if !is_planned {
            self.plan_export(id, lease, deadline).await?;
        }
        let mut layout = Layout::new(self.list_export_files(id).await?)?;
        if bytes_total.is_some_and(|begun| begun != layout.length) {
            return Err(Stop::Anew);
        }
        let resumed = match upload {
            Some(upload) => self.storage.uploaded(&upload).await?.map(|at| (upload, at)),
            None => None,
        };
        let (upload, at) = if let Some(resumed) = resumed {
            resumed
        } else {
            let length = layout.length;
            (self.storage.begin_upload(EXPORTS, &path, "application/zip", length).await?, 0)
        };
        if at == layout.length {
            return self.finish_export(id, lease).await;
        }
        crash::reached("export.begun");

        let mut pieces = Pieces::new(self, id, lease, upload, at, layout.length, deadline);
        self.write_files(id, at, &mut layout, &mut pieces).await?;
        for (name, content) in layout.own_files() {
            pieces.write(&layout::header(name, &content)?).await?;
            pieces.write(content.as_bytes()).await?;
        }
        pieces.write(&layout.directory()?).await?;
        pieces.finish().await?;
        self.finish_export(id, lease).await
    }

    /// Writes the files of the plan. A file that has arrived completely is not read again.
    async fn write_files(
        &self,
        id: Uuid,
        arrived: u64,
        layout: &mut Layout,
        pieces: &mut Pieces<'_>,
    ) -> Result<(), Stop> {
        let mut parts = Parts::new(self, id);
        for index in 0..layout.files.len() {
            let file = &layout.files[index];
            if layout.end_of(index) <= arrived {
                // The digest is in the plan, or was recorded before the last piece of the file was sent.
                if file.sha256.is_none() {
                    return Err(Stop::Anew);
                }
                pieces.skip_to(layout.end_of(index));
                continue;
            }
            pieces.write(&file.header()?).await?;
            if let (Some(bucket), Some(object)) = (&file.bucket, &file.object) {
                let sha256 = self.write_object(file, bucket, object, pieces).await?;
                layout.files[index].sha256 = Some(sha256);
            } else {
                let begin = layout.end_of(index) - file.bytes;
                let known = arrived.saturating_sub(begin);
                pieces.skip_to(begin + known);
                write_content(file, known, &mut parts, pieces).await?;
            }
            pieces.note(&layout.files[index]);
        }
        Ok(())
    }

    /// Completes the export after the whole archive was sent. Storage may have no object although it accepted
    /// all pieces. The export then starts again.
    async fn finish_export(&self, id: Uuid, lease: Uuid) -> Result<(), Stop> {
        let finished = json!({ "export_id": id, "lease": lease });
        let is_stored: bool = self.ask("finish_export", finished).await?;
        if is_stored { Ok(()) } else { Err(Stop::Anew) }
    }

    async fn list_export_files(&self, id: Uuid) -> Result<Vec<File>, Error> {
        let mut files: Vec<File> = Vec::new();
        loop {
            let after = files.last().map_or(0, |file| file.position);
            let page: Vec<File> =
                self.ask("list_export_files", json!({ "export_id": id, "after": after })).await?;
            if page.is_empty() {
                return Ok(files);
            }
            files.extend(page);
        }
    }

    /// Writes an object and returns its SHA-256. The header before it already contains its checksum. So if
    /// the object has other bytes, the upload stops.
    async fn write_object(
        &self,
        file: &File,
        bucket: &str,
        object: &str,
        pieces: &mut Pieces<'_>,
    ) -> Result<String, Stop> {
        let missing = || Stop::Missing(object.to_owned());
        let mut meter = Meter::default();
        let response = self.storage.open(bucket, object).await?.ok_or_else(missing)?;
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            let chunk: Bytes = chunk.map_err(|fault| unreachable("Storage", &fault))?;
            meter.update(&chunk);
            if meter.bytes > file.bytes {
                return Err(missing());
            }
            pieces.write(&chunk).await?;
        }
        if meter.bytes != file.bytes {
            return Err(missing());
        }
        let (crc32, sha256) = meter.finish();
        if file.crc32 == Some(crc32) { Ok(sha256) } else { Err(Stop::Changed(object.to_owned())) }
    }
}

/// Writes the content of a file, beginning with byte `known`. Its digests are in the plan, so the bytes
/// before that need not be read again.
async fn write_content(
    file: &File,
    known: u64,
    parts: &mut Parts<'_>,
    pieces: &mut Pieces<'_>,
) -> Result<(), Stop> {
    let mut at = known;
    while at < file.bytes {
        let content = parts.take(file.position, at).await?.ok_or(Stop::Anew)?;
        pieces.write(&content).await?;
        at += content.len() as u64;
    }
    if at == file.bytes { Ok(()) } else { Err(Stop::Anew) }
}
