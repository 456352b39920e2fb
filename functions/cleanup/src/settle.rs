//! Settling: asks Replicate about generations whose events did not come, and submits what is owed.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt, stream};
use opusflair::prediction::{Heard, Outcome};
use opusflair::submission::{Progress, Submission};
use opusflair::{App, Error, crash};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::budget::Budget;

/// Generations that are leased together.
const BATCH: u32 = 50;
/// How many are asked about at once, so that one that stalls holds up few.
const ASKERS: usize = 8;
/// Silence after which Replicate is asked, in seconds: an event comes within a minute or not at all.
const SILENCE: u32 = 60;
/// Submissions in a row that come to nothing, after which the next pass is waited for.
const PATIENCE: u32 = 3;

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
    let mut settled = 0;
    while budget.is_within(seconds) {
        let lease = Uuid::new_v4();
        let batch = json!({ "lease": lease, "batch": BATCH, "silence_seconds": SILENCE });
        let Unsettled { ended, silent } = app.ask("generations_to_settle", batch).await?;
        crash::reached("cleanup.settling");
        if ended == 0 && silent.is_empty() {
            return Ok((settled, true));
        }
        settled += ended + silent.len() as u64;
        stream::iter(silent)
            .for_each_concurrent(ASKERS, |silent| settle_one(app, lease, silent, &is_down))
            .await;
    }
    Ok((settled, false))
}

async fn settle_one(app: &App, lease: Uuid, silent: Silent, is_down: &AtomicBool) {
    let generation = silent.generation;
    let followed = ask(app, lease, &silent, is_down).await;
    if let Err(error) = &followed {
        tracing::warn!(%generation, %error, "left unsettled");
    }
    let is_over = matches!(followed, Ok(Outcome::Stored | Outcome::Failed | Outcome::Superseded));
    if silent.is_last
        && !is_over
        && let Err(error) = app.fail_generation(generation, "expired", None).await
    {
        tracing::warn!(%generation, %error, "could not be ended");
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
        app.fail_generation(silent.generation, "lost", None).await?;
        Ok(Outcome::Failed)
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
        match app.submit(submission, lease).await {
            Ok(Progress::Attached(_)) => {
                submitted += 1;
                in_vain = 0;
            }
            Ok(Progress::Waiting) => in_vain += 1,
            Err(error) => {
                tracing::info!(generation = %submission.generation, %error, "not submitted");
            }
        }
    }
    Ok((submitted, false))
}
