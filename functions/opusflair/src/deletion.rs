//! Executes deletions: delete the object, check that it is gone, sign a receipt, and report the result. Only
//! an object that was looked for and not found counts as deleted (R2, R9, X1).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::timeout;
use uuid::Uuid;

use crate::database::answered_at;
use crate::pace::limit;
use crate::receipt::{ObjectDigest, Statement};
use crate::{App, Error, crash};

/// How many objects are checked at the same time.
const LOOKERS: usize = 16;
/// The time after which no further object of a batch is checked. The remaining ones are due again later.
const LOOKING_TIME: Duration = Duration::from_secs(20);
/// Time limits of the bulk deletion in one bucket, and of one check. So a bucket or an object that hangs does
/// not delay the others.
const DELETION_TIME: Duration = Duration::from_secs(15);
const LOOK_TIME: Duration = Duration::from_secs(5);

/// An ordered deletion that this worker has leased, with everything that its receipt will state.
#[derive(Clone, Debug, Deserialize)]
pub struct Deletion {
    id: Uuid,
    lease: Uuid,
    /// The generation that the object belonged to. `None` for an export, or for an object that belongs to
    /// nothing.
    generation: Option<Uuid>,
    bucket: String,
    path: String,
    object_key: Uuid,
    bytes: Option<u64>,
    /// The SHA-256 of a photo that was judged, as it was received.
    content_sha256: Option<String>,
    reason: String,
    clause: String,
    attempts: u32,
    #[serde(with = "time::serde::rfc3339")]
    ordered_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    leased_at: OffsetDateTime,
    /// When the response with this deletion began to arrive, by our clock. `leased_at` is a moment before
    /// that.
    #[serde(skip, default = "answered_at")]
    told: Instant,
}

/// The result of one deletion.
#[derive(Debug, Serialize)]
struct Outcome {
    id: Uuid,
    lease: Uuid,
    /// Whether Storage answered the check.
    #[serde(skip)]
    is_answered: bool,
    absent: bool,
    #[serde(flatten)]
    proof: Option<Proof>,
}

#[derive(Debug, Serialize)]
struct Proof {
    #[serde(with = "time::serde::rfc3339")]
    deleted_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    verified_at: OffsetDateTime,
    receipt: String,
}

/// The results of several deletions.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct Tally {
    /// How many objects are verified as gone.
    pub verified: u64,
    /// How many objects still exist, or could not be checked. They are due again later.
    pub remaining: u64,
}

impl Deletion {
    /// Converts a moment of our clock into the database's time, because receipts use only the database's
    /// clock. The result has the database's precision, one microsecond.
    fn time_of(&self, moment: Instant) -> OffsetDateTime {
        let time = self.leased_at + moment.saturating_duration_since(self.told);
        time.replace_nanosecond(time.nanosecond() / 1_000 * 1_000).unwrap_or(time)
    }
}

impl App {
    /// Executes leased deletions and reports the results.
    ///
    /// # Errors
    /// Returns an error if Storage answered nothing at all, or if the report failed. The deletions are due
    /// again when their leases end.
    pub async fn execute_deletions(&self, deletions: Vec<Deletion>) -> Result<Tally, Error> {
        if deletions.is_empty() {
            return Ok(Tally::default());
        }
        let mut buckets = BTreeMap::<String, Vec<&str>>::new();
        for deletion in &deletions {
            buckets.entry(deletion.bucket.clone()).or_default().push(&deletion.path);
        }
        let answers =
            join_all(buckets.iter().map(|(bucket, paths)| self.delete_all(bucket, paths)));
        let answers = answers.await;
        // For each bucket, when Storage's response to the deletion began.
        let deleted: BTreeMap<String, Result<Instant, Error>> =
            buckets.into_keys().zip(answers).collect();

        crash::reached("deletion.executed");
        let until = Instant::now() + limit(LOOKING_TIME);
        let outcomes: Vec<Outcome> = stream::iter(deletions)
            .map(|deletion| {
                let deleted = deleted[&deletion.bucket].as_ref().ok().copied();
                self.look_for(deletion, deleted, until)
            })
            .buffer_unordered(LOOKERS)
            .collect()
            .await;
        crash::reached("deletion.looked");
        // Storage answered nothing, so this does not count as an attempt (X2).
        if !deleted.values().any(is_answer) && !outcomes.iter().any(|one| one.is_answered) {
            return Err(Error::unavailable("Storage", "it answered nothing"));
        }
        let tally: Tally = self.ask("record_deletions", json!({ "results": outcomes })).await?;
        tracing::info!(verified = tally.verified, remaining = tally.remaining, "deleted");
        Ok(tally)
    }

    /// Executes deletions of one generation during a request. A failure is not reported to the caller: the
    /// deletions stay ordered, and the schedule retries them.
    pub(crate) async fn execute_deletions_now(&self, generation: Uuid, deletions: Vec<Deletion>) {
        if let Err(error) = self.execute_deletions(deletions).await {
            leave_to_schedule(generation, &error);
        }
    }

    /// Leases the deletions of a generation and executes them during a request. This is for a generation that
    /// a user ended. A user's call returns no lease, so the service takes one here.
    pub async fn execute_deletions_of(&self, generation: Uuid) {
        let due = json!({ "lease": Uuid::new_v4(), "generation_id": generation });
        match self.ask::<Vec<Deletion>>("lease_deletions", due).await {
            Ok(deletions) => self.execute_deletions_now(generation, deletions).await,
            Err(error) => leave_to_schedule(generation, &error),
        }
    }

    /// Deletes objects of one bucket. Returns when Storage's response began.
    async fn delete_all(&self, bucket: &str, paths: &[&str]) -> Result<Instant, Error> {
        let deleted = in_time(DELETION_TIME, self.storage.delete(bucket, paths)).await;
        deleted.inspect_err(|error| {
            tracing::warn!(
                bucket,
                objects = paths.len(),
                error = error.for_log(),
                "a bulk deletion in Storage failed, and a later sweep tries again"
            );
        })
    }

    async fn look_for(
        &self,
        deletion: Deletion,
        deleted: Option<Instant>,
        until: Instant,
    ) -> Outcome {
        let looked = if Instant::now() < until {
            in_time(LOOK_TIME, self.storage.absent_at(&deletion.bucket, &deletion.path)).await
        } else {
            Err(Error::unavailable("Storage", "no time was left"))
        };
        let is_answered = is_answer(&looked);
        let generation = deletion.generation.map(tracing::field::display);
        let absent = looked.unwrap_or_else(|error| {
            tracing::warn!(
                deletion = %deletion.id,
                generation,
                error = error.for_log(),
                "Storage could not say whether an object is gone"
            );
            None
        });
        if absent.is_none() {
            let attempts = deletion.attempts;
            tracing::warn!(
                deletion = %deletion.id,
                generation,
                attempts,
                "a deletion is not verified, and a later sweep tries it again"
            );
        }
        // If Storage did not confirm the deletion, the check is the earliest moment at which the object is
        // known to be gone.
        let proof =
            absent.map(|verified| self.prove(&deletion, deleted.unwrap_or(verified), verified));
        Outcome {
            id: deletion.id,
            lease: deletion.lease,
            is_answered,
            absent: absent.is_some(),
            proof,
        }
    }

    /// Signs the receipt. Both times are moments at which a response of Storage began. What the response says
    /// had happened by then. So neither time is too early, and neither includes how long the response took to
    /// arrive or to be read.
    fn prove(&self, deletion: &Deletion, deleted: Instant, verified: Instant) -> Proof {
        let (deleted_at, verified_at) = (deletion.time_of(deleted), deletion.time_of(verified));
        let Deletion { object_key, bucket, path, bytes, content_sha256, .. } = deletion;
        let content = content_sha256.as_deref();
        let receipt = self.config.receipt_keys.sign(&Statement {
            issuer: self.config.webhook_url.as_str(),
            deletion: deletion.id,
            issued_at: verified_at.unix_timestamp(),
            bucket,
            object: ObjectDigest::new(*object_key, bucket, path, content, *bytes),
            reason: &deletion.reason,
            rule: &deletion.clause,
            ordered_at: deletion.ordered_at,
            deleted_at,
            verified_at,
        });
        Proof { deleted_at, verified_at, receipt }
    }
}

fn leave_to_schedule(generation: Uuid, error: &Error) {
    tracing::warn!(
        %generation,
        error = error.for_log(),
        "deletions of a generation failed, and a later sweep tries them again"
    );
}

async fn in_time<T>(
    time: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(limit(time), call)
        .await
        .unwrap_or_else(|_| Err(Error::unavailable("Storage", "no answer in time")))
}

/// An error response counts as an answer, because it shows that the service was reached.
fn is_answer<T>(asked: &Result<T, Error>) -> bool {
    match asked {
        Ok(_) => true,
        Err(Error::Unavailable { cause, .. }) => cause.is_answer(),
        Err(_) => false,
    }
}
