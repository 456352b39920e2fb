//! Settling: asks Replicate about generations whose webhook events did not arrive, and
//! dispatches waiting generations.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use opusflair::dispatch::{Dispatch, Progress};
use opusflair::prediction::{EventSource, Outcome};
use opusflair::replicate::{Answer, Listing};
use opusflair::{App, Error, crash};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use crate::budget::Budget;

/// Questions to Replicate that run at the same time, so that one stalled answer does not delay the others.
const ASKERS: usize = 8;
/// How long a prediction must be silent before Replicate is asked, in seconds. A webhook event arrives within
/// a minute or not at all.
const SILENCE: u32 = 60;
/// After this many failed dispatches in a row, the rest waits for the next sweep.
const PATIENCE: u32 = 3;
/// Number of dispatches with a prepared photo that are leased together, and how
/// many of them run at the same time.
const PREPARED: u32 = 32;
const DISPATCHERS: usize = 8;
/// The time limit of one dispatch. It is shorter than the lease.
const DISPATCH_TIME: Duration = Duration::from_mins(1);

#[derive(Deserialize)]
struct Unsettled {
    /// Generations that could not be saved and have now ended.
    ended: u64,
    silent: Vec<Silent>,
}

#[derive(Deserialize)]
struct Silent {
    generation: Uuid,
    prediction_id: String,
    /// Whether its deadline has passed. Then the generation ends now, whatever Replicate answers.
    is_last: bool,
}

/// Settles silent generations until `seconds` of the sweep are over. Returns how many were asked about or
/// ended, and whether those were all.
pub(crate) async fn settle(app: &App, budget: Budget, seconds: u64) -> Result<(u64, bool), Error> {
    // Once Replicate does not answer, this sweep asks it no more questions.
    let is_down = AtomicBool::new(false);
    let settled = AtomicU64::new(0);
    let is_complete = AtomicBool::new(false);

    // The next batch is leased only when an asker is free, so that no lease
    // expires while its generation waits.
    let silent = stream::try_unfold(Vec::new(), |mut leased: Vec<(Uuid, Silent)>| async {
        while leased.is_empty() && budget.is_within(seconds) {
            let lease = Uuid::new_v4();
            let batch = json!({ "lease": lease, "batch": ASKERS, "silence_seconds": SILENCE });
            let Unsettled { ended, silent } = app.ask("settle_generations", batch).await?;
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
        tracing::warn!(
            %generation,
            error = error.for_log(),
            "a silent generation could not be settled in this sweep"
        );
    }
    let is_over = matches!(
        followed,
        Ok(Outcome::Stored | Outcome::Failed | Outcome::Ended | Outcome::Superseded)
    );
    if silent.is_last
        && !is_over
        && let Err(error) = app.fail_generation(generation, "expired", None, None).await
    {
        tracing::warn!(
            %generation,
            error = error.for_log(),
            "a generation past its deadline could not be ended, and a later sweep tries again"
        );
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
            app.follow_prediction(EventSource::Poll, lease, *generation, &prediction).await
        }
        Answer::Absent => app.record_absence(*generation, prediction_id).await,
        Answer::Unreadable(error) => Err(error),
    }
}

/// Dispatches due generations until `seconds` of the sweep are over. Returns how many were dispatched, and
/// whether those were all.
pub(crate) async fn dispatch(
    app: &App,
    budget: Budget,
    seconds: u64,
) -> Result<(u64, bool), Error> {
    let run = Run::default();
    while budget.is_within(seconds) && !run.is_over() {
        let lease = Uuid::new_v4();
        // Checking a photo takes much memory, so only generations with a prepared photo
        // are dispatched several at a time.
        let batch = json!({ "lease": lease, "batch": 1, "prepared": PREPARED });
        let due: Vec<Dispatch> = app.ask("lease_dispatches", batch).await?;
        if due.is_empty() {
            return Ok((run.dispatched(), true));
        }
        run.carry_out(app, lease, due).await?;
    }
    Ok((run.dispatched(), false))
}

/// The results of the dispatches of one sweep.
#[derive(Default)]
struct Run {
    dispatched: AtomicU64,
    /// Failed dispatches in a row.
    in_vain: AtomicU32,
}

impl Run {
    fn is_over(&self) -> bool {
        self.in_vain.load(Ordering::Relaxed) >= PATIENCE
    }

    fn dispatched(&self) -> u64 {
        self.dispatched.load(Ordering::Relaxed)
    }

    /// Carries out the leased dispatches, several at a time. If Replicate is unreachable, gives back the
    /// lease of every dispatch that was not started.
    async fn carry_out(&self, app: &App, lease: Uuid, due: Vec<Dispatch>) -> Result<(), Error> {
        // For some of them, Replicate may already have accepted the create call. One look at its list of
        // predictions covers all of these.
        let listing = match app.list_created(&due).await {
            Ok(listing) => listing,
            Err(error) => {
                tracing::warn!(
                    error = error.for_log(),
                    "Replicate's list of predictions could not be read, so some jobs wait for the next sweep"
                );
                None
            }
        };
        let leased = due.len();
        let left: Vec<Uuid> = stream::iter(due)
            .map(|dispatch| self.dispatch_one(app, lease, dispatch, listing.as_ref()))
            .buffer_unordered(DISPATCHERS)
            .filter_map(|left| async move { left })
            .collect()
            .await;
        if left.len() == leased {
            self.in_vain.store(PATIENCE, Ordering::Relaxed);
        }
        if !left.is_empty() {
            let arguments = json!({ "lease": lease, "generations": left });
            app.ask::<Value>("return_dispatches", arguments).await?;
        }
        Ok(())
    }

    /// Dispatches one generation. Returns its id if the dispatch was not started.
    async fn dispatch_one(
        &self,
        app: &App,
        lease: Uuid,
        dispatch: Dispatch,
        listing: Option<&Listing>,
    ) -> Option<Uuid> {
        let generation = dispatch.generation;
        if self.is_over() || (dispatch.may_exist() && listing.is_none()) {
            return Some(generation);
        }
        match timeout(DISPATCH_TIME, app.dispatch_knowing(&dispatch, lease, listing)).await {
            Ok(Ok(Progress::Attached(_))) => {
                self.dispatched.fetch_add(1, Ordering::Relaxed);
                self.in_vain.store(0, Ordering::Relaxed);
            }
            // A dispatch that takes too long is dropped, and its lease expires.
            Ok(Ok(Progress::Waiting)) | Err(_) => {
                self.in_vain.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Err(error)) => {
                tracing::info!(
                    %generation,
                    error = error.for_log(),
                    "a dispatch ended without a prediction"
                );
            }
        }
        None
    }
}
