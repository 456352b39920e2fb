//! Settling: asks Replicate about generations whose events did not come, and submits what is owed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{FutureExt, TryStreamExt, stream};
use opusflair::prediction::{Heard, Outcome};
use opusflair::submission::{Progress, Submission};
use opusflair::{App, Error, crash};
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

use crate::budget::Budget;

/// How many are asked about at once, so that one that stalls holds up nobody.
const ASKERS: usize = 8;
/// Silence after which Replicate is asked, in seconds: an event comes within a minute or not at all.
const SILENCE: u32 = 60;
/// Submissions in a row that come to nothing, after which the next pass is waited for.
const PATIENCE: u32 = 3;
/// For one submission; shorter than its lease.
const SUBMISSION_TIME: Duration = Duration::from_mins(1);

#[derive(Deserialize)]
struct Unsettled {
    /// Generations that were past saving, and are over now.
    ended: u64,
    silent: Vec<Silent>,
}

#[derive(Deserialize)]
struct Silent {
    generation: Uuid,
    prediction_id: String,
    /// Its deadline is over: whatever the answer, it ends now.
    is_last: bool,
}

/// Settles what is silent until `seconds` of the pass are over; answers how many were asked about or ended,
/// and whether those were all.
pub(crate) async fn settle(app: &App, budget: Budget, seconds: u64) -> Result<(u64, bool), Error> {
    // Once it does not answer, nobody else waits for it in this pass.
    let is_down = AtomicBool::new(false);
    let settled = AtomicU64::new(0);
    let is_complete = AtomicBool::new(false);

    // The next are leased when somebody is free to ask, so that none waits with its lease running out.
    let silent = stream::try_unfold(Vec::new(), |mut leased: Vec<(Uuid, Silent)>| async {
        while leased.is_empty() && budget.is_within(seconds) {
            let lease = Uuid::new_v4();
            let batch = json!({ "lease": lease, "batch": ASKERS, "silence_seconds": SILENCE });
            let Unsettled { ended, silent } = app.ask("generations_to_settle", batch).await?;
            crash::reached("cleanup.settling");
            if ended == 0 && silent.is_empty() {
                is_complete.store(true, Ordering::Relaxed);
                break;
            }
            settled.fetch_add(ended + silent.len() as u64, Ordering::Relaxed);
            leased = silent.into_iter().map(|silent| (lease, silent)).collect();
        }
        Ok::<_, Error>(leased.pop().map(|next| (next, leased)))
    });
    silent
        .try_for_each_concurrent(ASKERS, |(lease, silent)| {
            settle_one(app, lease, silent, &is_down).map(Ok)
        })
        .await?;
    Ok((settled.into_inner(), is_complete.into_inner()))
}

async fn settle_one(app: &App, lease: Uuid, silent: Silent, is_down: &AtomicBool) {
    let generation = silent.generation;
    let followed = ask(app, lease, &silent, is_down).await;
    if let Err(error) = &followed {
        tracing::warn!(%generation, error = error.for_log(), "left unsettled");
    }
    let is_over = matches!(
        followed,
        Ok(Outcome::Stored | Outcome::Failed | Outcome::Ended | Outcome::Superseded)
    );
    if silent.is_last
        && !is_over
        && let Err(error) = app.fail_generation(generation, "expired", None).await
    {
        tracing::warn!(%generation, error = error.for_log(), "could not be ended");
    }
}

async fn ask(
    app: &App,
    lease: Uuid,
    silent: &Silent,
    is_down: &AtomicBool,
) -> Result<Outcome, Error> {
    if is_down.load(Ordering::Relaxed) {
        return Err(Error::unavailable("Replicate", "it did not answer before"));
    }
    let asked = app.replicate.get(&silent.prediction_id).await;
    if let Some(prediction) = asked.inspect_err(|_| is_down.store(true, Ordering::Relaxed))? {
        app.follow_prediction(Heard::Asked, lease, silent.generation, &prediction).await
    } else {
        app.fail_generation(silent.generation, "lost", None).await
    }
}

/// Carries out submissions that are due until `seconds` of the pass are over; answers how many, and
/// whether those were all.
pub(crate) async fn submit(app: &App, budget: Budget, seconds: u64) -> Result<(u64, bool), Error> {
    let (mut submitted, mut in_vain) = (0, 0);
    while budget.is_within(seconds) && in_vain < PATIENCE {
        let lease = Uuid::new_v4();
        // One at a time: judging a photo takes memory.
        let batch = json!({ "lease": lease, "batch": 1 });
        let due: Vec<Submission> = app.ask("lease_submissions", batch).await?;
        let Some(submission) = due.first() else { return Ok((submitted, true)) };
        match timeout(SUBMISSION_TIME, app.submit(submission, lease)).await {
            Ok(Ok(Progress::Attached(_))) => {
                submitted += 1;
                in_vain = 0;
            }
            // Too long: its lease runs out by itself.
            Ok(Ok(Progress::Waiting)) | Err(_) => in_vain += 1,
            Ok(Err(error)) => {
                tracing::info!(
                    generation = %submission.generation,
                    error = error.for_log(),
                    "not submitted"
                );
            }
        }
    }
    Ok((submitted, false))
}
