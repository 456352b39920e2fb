//! Deletions: delete, look again, report. Only what was looked for and not found counts (R2, R9).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{App, Error, crash};

/// How many objects are looked for at once.
const LOOKERS: usize = 8;
/// After this no other object of a batch is looked for; those that are left are due again later.
const LOOKING_TIME: Duration = Duration::from_secs(20);

/// An order, leased to us by the database.
#[derive(Clone, Debug, Deserialize)]
pub struct Deletion {
    id: Uuid,
    lease: Uuid,
    bucket: String,
    path: String,
    attempts: u32,
}

/// What came of some deletions.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct Tally {
    /// Verified absent.
    pub verified: u64,
    /// Still there, or not known to be gone; due again later.
    pub remaining: u64,
}

impl App {
    /// Executes leased deletions and reports them.
    ///
    /// # Errors
    /// Where the report is not taken; the orders are then due again when their leases end.
    pub async fn execute_deletions(&self, deletions: Vec<Deletion>) -> Result<Tally, Error> {
        if deletions.is_empty() {
            return Ok(Tally::default());
        }
        let mut buckets = BTreeMap::<&str, Vec<&str>>::new();
        for deletion in &deletions {
            buckets.entry(&deletion.bucket).or_default().push(&deletion.path);
        }
        for (bucket, paths) in buckets {
            if let Err(error) = self.storage.delete(bucket, &paths).await {
                tracing::warn!(bucket, objects = paths.len(), %error, "a bulk deletion failed");
            }
        }

        crash::reached("deletion.executed");
        let end = Instant::now() + LOOKING_TIME;
        let results: Vec<Value> = stream::iter(deletions)
            .map(|deletion| self.look_for(deletion, end))
            .buffer_unordered(LOOKERS)
            .collect()
            .await;
        crash::reached("deletion.looked");
        let tally: Tally = self.ask("record_deletions", json!({ "results": results })).await?;
        tracing::info!(verified = tally.verified, remaining = tally.remaining, "deleted");
        Ok(tally)
    }

    /// The same on the way of a request, where a failure is no concern of the caller's: what is left
    /// over stays ordered, and the schedule comes by.
    pub async fn execute_deletions_now(&self, deletions: Vec<Deletion>) {
        if let Err(error) = self.execute_deletions(deletions).await {
            tracing::warn!(%error, "deletions were left to the schedule");
        }
    }

    async fn look_for(&self, deletion: Deletion, end: Instant) -> Value {
        let looked = if Instant::now() < end {
            self.storage.is_absent(&deletion.bucket, &deletion.path).await
        } else {
            Err(Error::unavailable("Storage", "no time was left"))
        };
        let absent = looked.unwrap_or_else(|error| {
            tracing::warn!(deletion = %deletion.id, %error, "absence could not be verified");
            false
        });
        if !absent {
            tracing::warn!(deletion = %deletion.id, attempts = deletion.attempts, "still there");
        }
        json!({ "id": deletion.id, "lease": deletion.lease, "absent": absent })
    }
}
