//! Settling: asks Replicate about generations whose events did not come, and submits what is owed.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use opusflair::prediction::{Heard, Outcome};
use opusflair::replicate::{Answer, Listing};
use opusflair::submission::{Progress, Submission};
use opusflair::{App, Error, crash};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use crate::budget::Budget;

/// How many are asked about at once, so that one that stalls holds up nobody.
const ASKERS: usize = 8;
/// Silence after which Replicate is asked, in seconds: an event comes within a minute or not at all.
const SILENCE: u32 = 60;
/// Submissions in a row that come to nothing, after which the next pass is waited for.
const PATIENCE: u32 = 3;
/// How many submissions whose photo is prepared are leased together, and how many of them are carried out at once.
const PREPARED: u32 = 32;
const SUBMITTERS: usize = 8;
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
        && let Err(error) = app.fail_generation(generation, "expired", None, None).await
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
    let Silent { generation, prediction_id, .. } = silent;
    let asked = app.replicate.get(prediction_id).await;
    match asked.inspect_err(|_| is_down.store(true, Ordering::Relaxed))? {
        Answer::Found(prediction) => {
            app.follow_prediction(Heard::Asked, lease, *generation, &prediction).await
        }
        Answer::Absent => app.record_absence(*generation, prediction_id).await,
        Answer::Unreadable(error) => Err(error),
    }
}

/// Carries out submissions that are due until `seconds` of the pass are over; answers how many, and
/// whether those were all.
pub(crate) async fn submit(app: &App, budget: Budget, seconds: u64) -> Result<(u64, bool), Error> {
    let run = Run::default();
    while budget.is_within(seconds) && !run.is_over() {
        let lease = Uuid::new_v4();
        // Judging a photo takes memory, so only those that are prepared go several at a time.
        let batch = json!({ "lease": lease, "batch": 1, "prepared": PREPARED });
        let due: Vec<Submission> = app.ask("lease_submissions", batch).await?;
        if due.is_empty() {
            return Ok((run.submitted(), true));
        }
        run.carry_out(app, lease, due).await?;
    }
    Ok((run.submitted(), false))
}

/// What the submissions of one pass have come to.
#[derive(Default)]
struct Run {
    submitted: AtomicU64,
    /// Submissions in a row that came to nothing.
    in_vain: AtomicU32,
}

impl Run {
    fn is_over(&self) -> bool {
        self.in_vain.load(Ordering::Relaxed) >= PATIENCE
    }

    fn submitted(&self) -> u64 {
        self.submitted.load(Ordering::Relaxed)
    }

    /// Carries out what is leased, several at a time. What is not begun, because nothing gets through any more, is given
    /// back.
    async fn carry_out(&self, app: &App, lease: Uuid, due: Vec<Submission>) -> Result<(), Error> {
        // One look at Replicate's list for all of them whose create call may have been accepted.
        let listing = match app.list_created(&due).await {
            Ok(listing) => listing,
            Err(error) => {
                tracing::warn!(error = error.for_log(), "Replicate's list could not be read");
                None
            }
        };
        let leased = due.len();
        let left: Vec<Uuid> = stream::iter(due)
            .map(|submission| self.submit_one(app, lease, submission, listing.as_ref()))
            .buffer_unordered(SUBMITTERS)
            .filter_map(|left| async move { left })
            .collect()
            .await;
        if left.len() == leased {
            self.in_vain.store(PATIENCE, Ordering::Relaxed);
        }
        if !left.is_empty() {
            let arguments = json!({ "lease": lease, "generations": left });
            app.ask::<Value>("return_submissions", arguments).await?;
        }
        Ok(())
    }

    /// Answers its generation if it was not begun.
    async fn submit_one(
        &self,
        app: &App,
        lease: Uuid,
        submission: Submission,
        listing: Option<&Listing>,
    ) -> Option<Uuid> {
        let generation = submission.generation;
        if self.is_over() || (submission.may_exist() && listing.is_none()) {
            return Some(generation);
        }
        match timeout(SUBMISSION_TIME, app.submit_knowing(&submission, lease, listing)).await {
            Ok(Ok(Progress::Attached(_))) => {
                self.submitted.fetch_add(1, Ordering::Relaxed);
                self.in_vain.store(0, Ordering::Relaxed);
            }
            // Too long: its lease runs out by itself.
            Ok(Ok(Progress::Waiting)) | Err(_) => {
                self.in_vain.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Err(error)) => {
                tracing::info!(%generation, error = error.for_log(), "not submitted");
            }
        }
        None
    }
}
