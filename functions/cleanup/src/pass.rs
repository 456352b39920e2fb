//! One pass: bounded steps within a time budget. What is not done in this one is done in the next.
//!
//! The sweep comes first, for its end is what the heartbeat says (X2); whatever else fails or stalls holds it up in
//! no pass.

use std::collections::BTreeMap;
use std::time::Duration;

use opusflair::deletion::{Deletion, Tally};
use opusflair::{App, Error};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::timeout_at;
use uuid::Uuid;

use crate::audit::audit;
use crate::budget::Budget;
use crate::removal::ask_for_removals;
use crate::rights;
use crate::settle::{settle, submit};

/// Until when, in seconds of a pass, each step begins new work.
const AUDITING: u64 = 8;
const SWEEPING: u64 = 20;
const SETTLING: u64 = 25;
const SUBMITTING: u64 = 29;
const ERASING: u64 = 33;
const CALLING: u64 = 36;
const DELETING: u64 = 42;
const ASKING: u64 = 45;
const WRITING: u64 = 48;
const EXPIRING: u64 = 50;
const EXPORTING: u64 = 55;
/// For what a step has begun by then; after this it is dropped, and its leases run out. Longer than a submission
/// takes, and short enough for a pass to end within the 150 seconds of its function.
const GRACE: Duration = Duration::from_secs(65);
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
/// Where nothing could be swept, for the database was not reached. What Replicate, Storage, Auth or the mail server
/// do not answer, and any other step that fails, is left to the next pass.
pub async fn run(app: &App) -> Result<Report, Error> {
    let report = Report { complete: true, ..Report::default() };
    let mut pass = Pass { budget: Budget::begin(), report };
    let swept = pass.sweep(app).await;
    pass.go_on(app).await;
    swept?;
    Ok(pass.end())
}

struct Pass {
    budget: Budget,
    report: Report,
}

impl Pass {
    /// What the promises stand on: finds what must go, deletes it, and says that somebody was here.
    async fn sweep(&mut self, app: &App) -> Result<(), Error> {
        let (closed, is_audited) = audit(app, self.budget, AUDITING).await?;
        self.report.closed = closed;
        let (swept, is_swept) = delete(app, self.budget, SWEEPING).await?;
        self.count(swept);
        self.report.complete &= is_audited && is_swept;
        app.ask::<Value>("record_heartbeat", json!({ "task": "cleanup" })).await.map(drop)
    }

    /// The rest, each by itself: one that fails is noted, and left to the next pass.
    async fn go_on(&mut self, app: &App) {
        let budget = self.budget;
        self.report.settled = self.step("settle", SETTLING, settle(app, budget, SETTLING)).await;
        self.report.submitted =
            self.step("submit", SUBMITTING, submit(app, budget, SUBMITTING)).await;
        let begun = self.step("erase", ERASING, rights::begin_erasures(app, budget, ERASING)).await;
        self.step("errands", CALLING, rights::run_errands(app, budget, CALLING)).await;
        // What has come to its end by now.
        let deleted = self.step("delete", DELETING, delete(app, budget, DELETING)).await;
        self.count(deleted);
        let waiting = rights::erase(app, begun.waiting, budget, DELETING);
        let ended = self.step("erase", DELETING, async { Ok((waiting.await, true)) }).await;
        self.report.erased = begun.done + ended.done;
        self.report.removed =
            self.step("removals", ASKING, ask_for_removals(app, budget, ASKING)).await;
        self.report.letters =
            self.step("letters", WRITING, rights::write_letters(app, budget, WRITING)).await;
        self.step("requests", WRITING, rights::raise_requests(app)).await;
        self.report.expired = self.step("rows", EXPIRING, expire_rows(app, budget, EXPIRING)).await;
        self.report.exported =
            self.step("exports", EXPORTING, rights::build_exports(app, budget, EXPORTING)).await;
    }

    /// What a step answers, and whether that was all that was due; nothing where it did not come to its end.
    async fn step<T: Default>(
        &mut self,
        step: &'static str,
        seconds: u64,
        work: impl Future<Output = Result<(T, bool), Error>>,
    ) -> T {
        let end = self.budget.end_of(seconds) + GRACE;
        let done = match timeout_at(end.into(), work).await {
            Ok(done) => done,
            Err(_) => Err(Error::unavailable("a step", "it took too long")),
        };
        let (answer, is_all) = done.unwrap_or_else(|error| {
            tracing::warn!(step, error = error.for_log(), "a step of a pass has to wait");
            (T::default(), false)
        });
        self.report.complete &= is_all;
        answer
    }

    fn count(&mut self, Tally { verified, remaining }: Tally) {
        self.report.verified += verified;
        self.report.remaining += remaining;
    }

    fn end(self) -> Report {
        let report = self.report;
        tracing::info!(
            settled = report.settled,
            submitted = report.submitted,
            closed = report.closed.values().sum::<u64>(),
            verified = report.verified,
            remaining = report.remaining,
            removed = report.removed,
            erased = report.erased,
            exported = report.exported,
            letters = report.letters,
            expired = report.expired.values().sum::<u64>(),
            complete = report.complete,
            elapsed_ms = self.budget.elapsed_ms(),
            "a pass is done"
        );
        report
    }
}

/// Rows past their limit, a batch of each rule at a time.
async fn expire_rows(
    app: &App,
    budget: Budget,
    seconds: u64,
) -> Result<(BTreeMap<String, u64>, bool), Error> {
    let mut total = BTreeMap::new();
    while budget.is_within(seconds) {
        let expired: BTreeMap<String, u64> = app.ask("expire_rows", json!({})).await?;
        if expired.is_empty() {
            return Ok((total, true));
        }
        for (rule, count) in expired {
            *total.entry(rule).or_default() += count;
        }
    }
    Ok((total, false))
}

async fn delete(app: &App, budget: Budget, seconds: u64) -> Result<(Tally, bool), Error> {
    let mut total = Tally::default();
    while budget.is_within(seconds) {
        let batch = json!({ "lease": Uuid::new_v4(), "batch": DELETIONS });
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
