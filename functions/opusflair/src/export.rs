//! Exports (G5): one ZIP with everything that is somebody's, uploaded in pieces, each of which another worker may
//! go on from. In memory there is one piece, and the list of the files.

mod layout;
mod pieces;

use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use self::layout::{File, Layout};
use self::pieces::{Pieces, Stop};
use crate::egress::unreachable;
use crate::storage::EXPORTS;
use crate::{App, Error, crash, zip};

/// Characters of a content that are fetched at once.
const PART: usize = 500_000;

/// An export to be built, under our lease.
#[derive(Debug, Deserialize)]
struct Leased {
    id: Uuid,
    path: String,
    /// Where it is uploaded to, once that has begun.
    upload: Option<Url>,
    /// Of the archive, as it was when that began.
    bytes_total: Option<u64>,
    is_planned: bool,
}

/// What a turn has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// No export waits.
    Idle,
    /// One is done.
    Ready,
    /// One has come further, and waits for its next turn.
    Further,
}

impl App {
    /// Goes on with the export that has waited longest, until `deadline`.
    ///
    /// # Errors
    /// Where the database is not reached. What Storage does not do is left to a later turn.
    pub async fn build_export(&self, deadline: Instant) -> Result<Turn, Error> {
        let lease = Uuid::new_v4();
        let leased: Option<Leased> = self.ask("lease_export", json!({ "lease": lease })).await?;
        let Some(leased) = leased else { return Ok(Turn::Idle) };
        crash::reached("export.leased");
        let id = leased.id;
        let failed = match self.upload_export(leased, lease, deadline).await {
            Ok(()) => return Ok(Turn::Ready),
            Err(Stop::Later) => false,
            Err(Stop::Anew(missing)) => {
                let again = json!({ "export_id": id, "lease": lease, "missing": missing });
                self.ask::<Value>("restart_export", again).await?;
                tracing::info!(export = %id, "an export begins anew");
                return Ok(Turn::Further);
            }
            Err(Stop::Failed(error)) => {
                tracing::warn!(export = %id, error = error.for_log(), "an export has to wait");
                true
            }
        };
        let released = json!({ "export_id": id, "lease": lease, "failed": failed });
        self.ask::<Value>("release_export", released).await?;
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
            let plan = json!({ "export_id": id, "lease": lease });
            self.ask::<Value>("plan_export", plan).await?;
            crash::reached("export.planned");
        }
        let mut layout = Layout::new(self.export_files(id).await?)?;
        if bytes_total.is_some_and(|begun| begun != layout.length) {
            return Err(Stop::Anew(None));
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
        for index in 0..layout.files.len() {
            let file = &layout.files[index];
            if layout.end_of(index) <= at {
                // Its digests were recorded before its last piece was sent.
                if file.crc32.is_none() {
                    return Err(Stop::Anew(None));
                }
                pieces.skip_to(layout.end_of(index));
                continue;
            }
            pieces.write(&zip::header(&file.name)).await?;
            let digests = self.write_file(id, file, &mut pieces).await?;
            let file = &mut layout.files[index];
            file.crc32 = Some(digests.0);
            file.sha256 = Some(digests.1);
            pieces.note(file);
            pieces.write(&zip::descriptor(digests.0, file.length()?)).await?;
        }
        for (name, content) in layout.own_files() {
            pieces.write(&zip::header(name)).await?;
            pieces.write(content.as_bytes()).await?;
            pieces.write(&layout::descriptor(&content)).await?;
        }
        pieces.write(&layout.directory()?).await?;
        pieces.finish().await?;
        self.finish_export(id, lease).await
    }

    /// All of it was sent. Storage has answered for that, and may have no object all the same: then it begins anew.
    async fn finish_export(&self, id: Uuid, lease: Uuid) -> Result<(), Stop> {
        let finished = json!({ "export_id": id, "lease": lease });
        let is_stored: bool = self.ask("finish_export", finished).await?;
        if is_stored { Ok(()) } else { Err(Stop::Anew(None)) }
    }

    async fn export_files(&self, id: Uuid) -> Result<Vec<File>, Error> {
        let mut files: Vec<File> = Vec::new();
        loop {
            let after = files.last().map_or(0, |file| file.position);
            let page: Vec<File> =
                self.ask("export_files", json!({ "export_id": id, "after": after })).await?;
            if page.is_empty() {
                return Ok(files);
            }
            files.extend(page);
        }
    }

    /// Writes the data of a file; answers its digests.
    async fn write_file(
        &self,
        id: Uuid,
        file: &File,
        pieces: &mut Pieces<'_>,
    ) -> Result<(u32, String), Stop> {
        let mut meter = layout::Meter::default();
        match (&file.object, &file.bucket, &file.content) {
            (Some(object), Some(bucket), _) => {
                let missing = || Stop::Anew(Some(object.clone()));
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
            }
            (_, _, Some(content)) => {
                meter.update(content.as_bytes());
                pieces.write(content.as_bytes()).await?;
            }
            _ => self.write_content(id, file, &mut meter, pieces).await?,
        }
        Ok(meter.finish())
    }

    async fn write_content(
        &self,
        id: Uuid,
        file: &File,
        meter: &mut layout::Meter,
        pieces: &mut Pieces<'_>,
    ) -> Result<(), Stop> {
        let mut start = 1;
        while meter.bytes < file.bytes {
            let part = json!({
                "export_id": id, "place": file.position, "start": start, "length": PART,
            });
            let part: String = self.ask("export_content", part).await?;
            if part.is_empty() {
                return Err(Stop::Anew(None));
            }
            meter.update(part.as_bytes());
            pieces.write(part.as_bytes()).await?;
            start += PART;
        }
        Ok(())
    }
}
