//! One pass: bounded steps within a time budget. What is not done in this one is done in the next.

use std::time::{Duration, Instant};

use opusflair::deletion::{Deletion, Tally};
use opusflair::prediction::Heard;
use opusflair::{App, Error};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

/// After this no new batch is begun; a pass a minute leaves room for the last one.
const BUDGET: Duration = Duration::from_secs(40);
/// Orders that are executed together; the bulk deletion takes up to 1000.
const DELETIONS: u32 = 200;
/// Generations that are asked for together.
const SETTLEMENTS: u32 = 25;
/// Silence after which Replicate is asked, in seconds: an event comes within a minute or not at all.
const SILENCE: u32 = 60;

/// What a pass has done.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Generations that Replicate was asked about.
    pub settled: u64,
    /// Photos past their limit that were ordered deleted.
    pub overdue: u64,
    /// Objects whose absence was verified.
    pub verified: u64,
    /// Objects that are still there and are due again later.
    pub remaining: u64,
    /// Whether the budget sufficed for all that was due.
    pub complete: bool,
}

#[derive(Deserialize)]
struct Silent {
    generation: Uuid,
    prediction_id: String,
}

/// Makes one pass and writes the heartbeat.
///
/// # Errors
/// Where the database is not reached. What Replicate or Storage do not answer is left to the next pass.
pub async fn run(app: &App) -> Result<Report, Error> {
    let started = Instant::now();
    let mut report = Report { settled: settle(app, started).await?, ..Report::default() };
    report.overdue = app.ask("order_overdue_inputs", json!({})).await?;

    report.complete = loop {
        if started.elapsed() > BUDGET {
            break false;
        }
        let batch = json!({ "batch": DELETIONS });
        let due: Vec<Deletion> = app.ask("lease_deletions", batch).await?;
        if due.is_empty() {
            break true;
        }
        let Tally { verified, remaining } = app.execute_deletions(due).await?;
        report.verified += verified;
        report.remaining += remaining;
    };

    app.ask::<Value>("record_heartbeat", json!({ "task": "cleanup" })).await?;
    tracing::info!(?report, elapsed_ms = started.elapsed().as_millis(), "a pass is done");
    Ok(report)
}

/// Asks Replicate about generations whose events did not come.
async fn settle(app: &App, started: Instant) -> Result<u64, Error> {
    let batch = json!({ "batch": SETTLEMENTS, "silence_seconds": SILENCE });
    let silent: Vec<Silent> = app.ask("generations_to_settle", batch).await?;
    let mut settled = 0;
    for Silent { generation, prediction_id } in silent {
        if started.elapsed() > BUDGET {
            break;
        }
        match settle_one(app, generation, &prediction_id).await {
            Ok(()) => settled += 1,
            Err(error) => tracing::warn!(%generation, %error, "left unsettled"),
        }
    }
    Ok(settled)
}

async fn settle_one(app: &App, generation: Uuid, prediction_id: &str) -> Result<(), Error> {
    match app.replicate.get(prediction_id).await? {
        Some(prediction) => {
            app.follow_prediction(Heard::Asked, generation, &prediction).await?;
        }
        None => app.fail_generation(generation, "lost").await?,
    }
    Ok(())
}
