//! Generates an export's archive from its first byte, and uploads it from the byte at which the upload
//! stopped.

use std::mem;
use std::time::Instant;

use serde::Serialize;
use serde_json::json;
use url::Url;
use uuid::Uuid;

use super::layout::File;
use crate::storage::PIECE;
use crate::{App, Error, crash};

/// Why a turn ends before the export is complete.
#[derive(Debug)]
pub(super) enum Stop {
    /// The time of the turn is over, or another worker has taken over.
    Later,
    /// The plan or the upload is no longer valid. The export has to start again.
    Anew,
    /// An object of the plan is missing or has another length.
    Missing(String),
    /// The bytes of an object do not match its checksum in the plan.
    Changed(String),
    /// A service failed.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

#[derive(Serialize)]
struct Digests {
    position: i64,
    sha256: Option<String>,
}

pub(super) struct Pieces<'a> {
    app: &'a App,
    export: Uuid,
    lease: Uuid,
    upload: Url,
    deadline: Instant,
    /// The bytes of the whole archive (`length`), those that have arrived in Storage (`arrived`), and those
    /// that were generated so far (`written`).
    length: u64,
    arrived: u64,
    written: u64,
    piece: Vec<u8>,
    /// The digests of files that end in this piece. They are recorded before the piece is sent, for a worker
    /// that continues after it.
    noted: Vec<Digests>,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(
        app: &'a App,
        export: Uuid,
        lease: Uuid,
        upload: Url,
        arrived: u64,
        length: u64,
        deadline: Instant,
    ) -> Self {
        let (piece, noted) = (Vec::with_capacity(PIECE), Vec::new());
        Self { app, export, lease, upload, deadline, length, arrived, written: 0, piece, noted }
    }

    /// Skips bytes that have arrived, so that they need not be read again.
    pub(super) fn skip_to(&mut self, at: u64) {
        self.written = at;
    }

    pub(super) fn note(&mut self, file: &File) {
        let File { position, sha256, .. } = file;
        self.noted.push(Digests { position: *position, sha256: sha256.clone() });
    }

    /// Writes the next bytes. Bytes that have already arrived are not sent again.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let known = self.arrived.saturating_sub(self.written).min(bytes.len() as u64);
        self.written += bytes.len() as u64;
        let mut rest = &bytes[usize::try_from(known).unwrap_or(bytes.len())..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(PIECE - self.piece.len()));
            self.piece.extend_from_slice(now);
            rest = later;
            if self.piece.len() == PIECE {
                self.send().await?;
                if Instant::now() >= self.deadline && self.arrived < self.length {
                    return Err(Stop::Later);
                }
            }
        }
        Ok(())
    }

    /// Sends the last piece.
    pub(super) async fn finish(mut self) -> Result<(), Stop> {
        if !self.piece.is_empty() {
            self.send().await?;
        }
        if self.arrived == self.length { Ok(()) } else { Err(Stop::Anew) }
    }

    async fn send(&mut self) -> Result<(), Stop> {
        let after = self.arrived + self.piece.len() as u64;
        let is_ours: bool = self
            .app
            .ask(
                "record_export_piece",
                json!({
                    "export_id": self.export,
                    "lease": self.lease,
                    "upload": self.upload,
                    "bytes_done": self.arrived,
                    "bytes_total": self.length,
                    "files": self.noted,
                }),
            )
            .await?;
        if !is_ours {
            return Err(Stop::Later);
        }
        self.noted.clear();
        crash::reached("export.recorded");
        let piece = mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let arrived = self.app.storage.send_piece(&self.upload, self.arrived, piece).await?;
        if arrived != after {
            return Err(Stop::Failed(Error::unavailable("Storage", "a piece arrived in part")));
        }
        self.arrived = arrived;
        crash::reached("export.sent");
        Ok(())
    }
}
