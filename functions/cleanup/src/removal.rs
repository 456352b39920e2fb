//! Checks Replicate's own deletion: after Replicate's retention of one hour, asks whether it still keeps
//! anything of a prediction (T3).

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt, stream};
use opusflair::replicate::Answer;
use opusflair::{App, Error};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::budget::Budget;

/// Number of predictions under one lease, and how many questions run at the same time.
const BATCH: u32 = 50;
const ASKERS: usize = 8;

#[derive(Deserialize)]
struct Due {
    prediction: String,
    generation: Option<Uuid>,
}

#[derive(Serialize)]
struct Told {
    prediction: String,
    /// Why we believe that the data is gone; `None` if Replicate still has some. The database
    /// decides whether this is proof.
    evidence: Option<&'static str>,
}

/// Asks about predictions until `seconds` of the sweep are over. Returns the number of predictions with
/// evidence that they are gone. If Replicate stops answering, a later sweep asks about the rest.
pub(crate) async fn ask_for_removals(
    app: &App,
    budget: Budget,
    seconds: u64,
) -> Result<(usize, bool), Error> {
    let is_down = AtomicBool::new(false);
    let mut removed = 0;
    while budget.is_within(seconds) && !is_down.load(Ordering::Relaxed) {
        let due: Vec<Due> =
            app.ask("lease_removals", json!({ "lease": Uuid::new_v4(), "batch": BATCH })).await?;
        if due.is_empty() {
            break;
        }
        let told: Vec<Told> = stream::iter(due)
            .map(|due| ask(app, due, &is_down))
            .buffer_unordered(ASKERS)
            .filter_map(|told| async { told })
            .collect()
            .await;
        app.ask::<Value>("record_removals", json!({ "results": told })).await?;
        removed += told.iter().filter(|told| told.evidence.is_some()).count();
    }
    // If Replicate still has data, sweeps keep asking for hours. That does not make a sweep incomplete.
    Ok((removed, true))
}

async fn ask(app: &App, due: Due, is_down: &AtomicBool) -> Option<Told> {
    if is_down.load(Ordering::Relaxed) {
        return None;
    }
    let Due { prediction, generation } = due;
    let generation = generation.map(tracing::field::display);
    let evidence = match app.replicate.get(&prediction).await {
        Ok(Answer::Absent) => Some("not_found"),
        Ok(Answer::Found(found)) if found.is_removed() => Some("data_removed"),
        Ok(Answer::Found(_)) => {
            tracing::warn!(
                prediction,
                generation,
                "Replicate has not deleted a prediction's data yet, so a later sweep asks again"
            );
            None
        }
        // An unreadable answer concerns only this prediction, so the others
        // continue. A later sweep asks again.
        Ok(Answer::Unreadable(error)) => {
            tracing::warn!(
                prediction,
                generation,
                error = error.for_log(),
                "Replicate's answer about a prediction's data cannot be read, so a later sweep asks again"
            );
            None
        }
        Err(error) => {
            is_down.store(true, Ordering::Relaxed);
            tracing::warn!(
                prediction,
                generation,
                error = error.for_log(),
                "Replicate did not answer whether a prediction's data is deleted, so a later sweep asks again"
            );
            return None;
        }
    };
    Some(Told { prediction, evidence })
}
