//! One pass: bounded steps within a time budget. What is not done in this one is done in the next.

use std::collections::BTreeMap;

use opusflair::deletion::{Deletion, Tally};
use opusflair::{App, Error};
use serde::Serialize;
use serde_json::{Value, json};

use crate::audit::audit;
use crate::budget::Budget;
use crate::removal::ask_for_removals;
use crate::rights;
use crate::settle::{settle, submit};

/// Until when, in seconds of a pass, each step begins new work.
const SETTLING: u64 = 12;
const SUBMITTING: u64 = 20;
const AUDITING: u64 = 25;
const ERASING: u64 = 30;
const DELETING: u64 = 40;
const ASKING: u64 = 43;
const WRITING: u64 = 47;
const EXPORTING: u64 = 55;
/// Orders that are executed together; the bulk deletion takes up to 1000.
const DELETIONS: u32 = 500;

/// What a pass has done.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Generations that Replicate was asked about, or that ended unasked.
    pub settled: u64,
    /// Generations that were submitted, after their first submission came to nothing.
    pub submitted: u64,
    /// What the audit found and closed, by what it was: photos past their limit, objects that nothing
    /// accounts for, artworks that are gone.
    pub closed: BTreeMap<String, u64>,
    /// Objects whose absence was verified.
    pub verified: u64,
    /// Objects that are still there and are due again later.
    pub remaining: u64,
    /// Predictions of which Replicate has said that it keeps nothing.
    pub removed: usize,
    /// Accounts that are erased, and whose receipt is made.
    pub erased: u64,
    /// Exports that are ready to be fetched.
    pub exported: u64,
    /// Letters that were sent.
    pub letters: u64,
    /// Rows past their limit that went, by their rule.
    pub expired: BTreeMap<String, u64>,
    /// Whether the budget sufficed for all that was due.
    pub complete: bool,
}

/// Makes one pass and writes the heartbeat.
///
/// # Errors
/// Where the database is not reached. What Replicate or Storage do not answer is left to the next pass.
pub async fn run(app: &App) -> Result<Report, Error> {
    let budget = Budget::begin();
    let (settled, all_settled) = settle(app, budget, SETTLING).await?;
    let (submitted, all_submitted) = submit(app, budget, SUBMITTING).await?;
    let (closed, all_audited) = audit(app, budget, AUDITING).await?;
    let all_run = rights::run_errands(app, budget, ERASING).await?;
    let begun = rights::begin_erasures(app, budget, ERASING).await?;
    let (Tally { verified, remaining }, all_deleted) = delete(app, budget).await?;
    // What they waited for is gone by now.
    let ended = rights::erase(app, begun.waiting, budget, DELETING).await;
    let erased = begun.done + ended.done;
    let removed = ask_for_removals(app, budget, ASKING).await?;
    let letters = rights::write_letters(app, budget, WRITING).await?;
    rights::raise_requests(app).await?;
    let (exported, all_exported) = rights::build_exports(app, budget, EXPORTING).await?;
    let expired: BTreeMap<String, u64> = app.ask("expire_rows", json!({})).await?;
    let complete =
        all_settled && all_submitted && all_audited && all_run && all_deleted && all_exported;

    app.ask::<Value>("record_heartbeat", json!({ "task": "cleanup" })).await?;
    tracing::info!(
        settled,
        submitted,
        closed = closed.values().sum::<u64>(),
        verified,
        remaining,
        removed,
        erased,
        exported,
        letters,
        expired = expired.values().sum::<u64>(),
        complete,
        elapsed_ms = budget.elapsed_ms(),
        "a pass is done"
    );
    Ok(Report {
        settled,
        submitted,
        closed,
        verified,
        remaining,
        removed,
        erased,
        exported,
        letters,
        expired,
        complete,
    })
}

async fn delete(app: &App, budget: Budget) -> Result<(Tally, bool), Error> {
    let mut total = Tally::default();
    while budget.is_within(DELETING) {
        let batch = json!({ "batch": DELETIONS });
        let due: Vec<Deletion> = app.ask("lease_deletions", batch).await?;
        if due.is_empty() {
            return Ok((total, true));
        }
        let Tally { verified, remaining } = app.execute_deletions(due).await?;
        total.verified += verified;
        total.remaining += remaining;
    }
    Ok((total, false))
}
