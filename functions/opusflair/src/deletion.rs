//! Deletions: delete, look again, sign, report. Only what was looked for and not found counts (R2, R9, X1).

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

/// How many objects are looked for at once.
const LOOKERS: usize = 16;
/// After this no other object of a batch is looked for; those that are left are due again later.
const LOOKING_TIME: Duration = Duration::from_secs(20);
/// For the bulk deletion of one bucket, and for one look: an object or a bucket that hangs holds up no other.
const DELETION_TIME: Duration = Duration::from_secs(15);
const LOOK_TIME: Duration = Duration::from_secs(5);

/// An order, leased to us by the database, with all that its receipt will say.
#[derive(Clone, Debug, Deserialize)]
pub struct Deletion {
    id: Uuid,
    lease: Uuid,
    /// What it belonged to; none for an export, or an object that nothing accounts for.
    generation: Option<Uuid>,
    bucket: String,
    path: String,
    object_key: Uuid,
    bytes: Option<u64>,
    /// Of a photo that was judged, as it was received.
    content_sha256: Option<String>,
    reason: String,
    clause: String,
    attempts: u32,
    #[serde(with = "time::serde::rfc3339")]
    ordered_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    leased_at: OffsetDateTime,
    /// When we were told of it, by our own clock: `leased_at` was shortly before.
    #[serde(skip, default = "answered_at")]
    told: Instant,
}

/// What came of one.
#[derive(Debug, Serialize)]
struct Outcome {
    id: Uuid,
    lease: Uuid,
    /// Whether Storage said anything when it was looked for.
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

/// What came of some deletions.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct Tally {
    /// Verified absent.
    pub verified: u64,
    /// Still there, or not known to be gone; due again later.
    pub remaining: u64,
}

impl Deletion {
    /// A moment of ours in the time of the database, whose clock alone makes receipts; to the microsecond,
    /// as that keeps it.
    fn time_of(&self, moment: Instant) -> OffsetDateTime {
        let time = self.leased_at + moment.saturating_duration_since(self.told);
        time.replace_nanosecond(time.nanosecond() / 1_000 * 1_000).unwrap_or(time)
    }
}

impl App {
    /// Executes leased deletions and reports them.
    ///
    /// # Errors
    /// If Storage answered nothing at all, or the report is not taken. The orders are then due again when their leases
    /// end.
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
        // By bucket, when Storage's answer began, if it deleted.
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
        // Nobody was asked, so this was no attempt (X2).
        if !deleted.values().any(is_answer) && !outcomes.iter().any(|one| one.is_answered) {
            return Err(Error::unavailable("Storage", "it answered nothing"));
        }
        let tally: Tally = self.ask("record_deletions", json!({ "results": outcomes })).await?;
        tracing::info!(verified = tally.verified, remaining = tally.remaining, "deleted");
        Ok(tally)
    }

    /// The same for one generation, while a request is answered. A failure is not the caller's concern: what is left
    /// over stays ordered, and the schedule does it.
    pub async fn execute_deletions_now(&self, generation: Uuid, deletions: Vec<Deletion>) {
        if let Err(error) = self.execute_deletions(deletions).await {
            leave_to_schedule(generation, &error);
        }
    }

    /// Leases what is ordered deleted of a generation, and does it, on the way of a request: a person has ended it, and
    /// no person gets a lease.
    pub async fn execute_deletions_of(&self, generation: Uuid) {
        let due = json!({ "lease": Uuid::new_v4(), "generation_id": generation });
        match self.ask::<Vec<Deletion>>("lease_deletions", due).await {
            Ok(deletions) => self.execute_deletions_now(generation, deletions).await,
            Err(error) => leave_to_schedule(generation, &error),
        }
    }

    /// Answers when Storage's answer began.
    async fn delete_all(&self, bucket: &str, paths: &[&str]) -> Result<Instant, Error> {
        let deleted = in_time(DELETION_TIME, self.storage.delete(bucket, paths)).await;
        deleted.inspect_err(|error| {
            tracing::warn!(
                bucket,
                objects = paths.len(),
                error = error.for_log(),
                "a bulk deletion failed"
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
                "absence could not be verified"
            );
            None
        });
        if absent.is_none() {
            let attempts = deletion.attempts;
            tracing::warn!(deletion = %deletion.id, generation, attempts, "still there");
        }
        // Without an answer to the deletion all that is known is that it was done when nothing was found.
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

    /// Both times are those at which an answer of Storage's began: what it says had happened by then. Neither is
    /// earlier than what it is the time of, and neither has in it how long the answer took to arrive or to be read.
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
    tracing::warn!(%generation, error = error.for_log(), "deletions were left to the schedule");
}

async fn in_time<T>(
    time: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(limit(time), call)
        .await
        .unwrap_or_else(|_| Err(Error::unavailable("Storage", "no answer in time")))
}

/// A failure is an answer, too: whoever says it is there.
fn is_answer<T>(asked: &Result<T, Error>) -> bool {
    match asked {
        Ok(_) => true,
        Err(Error::Unavailable { cause, .. }) => cause.is_answer(),
        Err(_) => false,
    }
}
