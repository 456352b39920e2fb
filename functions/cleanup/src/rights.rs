//! Work that users' rights require: outbox tasks, erasures, emails and exports.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use opusflair::email::Email;
use opusflair::erasure::Erasure;
use opusflair::export::Turn;
use opusflair::outbox::OutboxTask;
use opusflair::{App, Error};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::budget::Budget;

/// Number of outbox tasks or emails that run at the same time.
const AT_ONCE: usize = 4;
/// Rows under one lease. The number is small because each lease uses up an attempt of every row, even of rows
/// that the sweep does not reach.
const BATCH: u32 = 8;
/// Accounts under one lease of erasures.
const ERASURES: u32 = 20;

/// Arguments with a new lease id. Because we choose the id, a retry after a lost response gets the same rows.
fn leased(batch: u32) -> Value {
    json!({ "lease": Uuid::new_v4(), "batch": batch })
}

#[derive(Deserialize)]
struct Walked {
    done: bool,
}

/// The results of erasures.
#[derive(Default)]
pub(crate) struct Erasures {
    pub(crate) done: u64,
    /// Erasures that wait for objects whose deletion is not verified yet.
    pub(crate) waiting: Vec<Erasure>,
}

/// Runs the outbox tasks that are due. Returns whether it finished all of them.
pub(crate) async fn run_outbox(
    app: &App,
    budget: Budget,
    seconds: u64,
) -> Result<((), bool), Error> {
    while budget.is_within(seconds) {
        let due: Vec<OutboxTask> = app.ask("lease_outbox", leased(BATCH)).await?;
        if due.is_empty() {
            return Ok(((), true));
        }
        stream::iter(due)
            .for_each_concurrent(AT_ONCE, |task| async move {
                // Tasks that are skipped here are due again soon.
                if !budget.is_within(seconds) {
                    return;
                }
                if let Err(error) = app.run_outbox_task(&task).await {
                    let generation = task.generation.map(tracing::field::display);
                    tracing::warn!(
                        generation,
                        error = error.for_log(),
                        "an outbox task failed, and a later sweep runs it again"
                    );
                }
            })
            .await;
    }
    Ok(((), false))
}

/// Orders the deletion of expired exports.
pub(crate) async fn expire_exports(app: &App) -> Result<((), bool), Error> {
    app.ask::<Value>("expire_exports", json!({})).await?;
    Ok(((), true))
}

/// Walks over the users and creates emails and erasures for inactive ones. Returns
/// whether the walk reached its end.
pub(crate) async fn follow_inactive(
    app: &App,
    budget: Budget,
    seconds: u64,
) -> Result<((), bool), Error> {
    // No account is erased without a warning. So without a mailer, this rule is suspended (R10).
    if app.mailer.is_none() {
        return Ok(((), true));
    }
    // Erasures come first. Otherwise a walk that fails or takes all the time could keep users
    // who already got every warning.
    while budget.is_within(seconds) {
        let ordered: u64 = app.ask("erase_inactive", json!({})).await?;
        if ordered == 0 {
            break;
        }
    }
    while budget.is_within(seconds) {
        let Walked { done } = app.ask("follow_inactive", json!({})).await?;
        if done {
            return Ok(((), true));
        }
    }
    Ok(((), false))
}

/// Walks over the users and orders the erasure of accounts that were never confirmed. Returns whether the
/// walk reached its end.
pub(crate) async fn erase_unconfirmed(
    app: &App,
    budget: Budget,
    seconds: u64,
) -> Result<((), bool), Error> {
    while budget.is_within(seconds) {
        let Walked { done } = app.ask("erase_unconfirmed", json!({})).await?;
        if done {
            return Ok(((), true));
        }
    }
    Ok(((), false))
}

/// Starts the due erasures. Returns their results, and whether it started all of them.
pub(crate) async fn begin_erasures(
    app: &App,
    budget: Budget,
    seconds: u64,
) -> Result<(Erasures, bool), Error> {
    let mut begun = Erasures::default();
    while budget.is_within(seconds) {
        let due: Vec<Erasure> = app.ask("lease_erasures", leased(ERASURES)).await?;
        if due.is_empty() {
            return Ok((begun, true));
        }
        let (Erasures { done, waiting }, _) = erase(app, due, budget, seconds).await?;
        begun.done += done;
        begun.waiting.extend(waiting);
    }
    Ok((begun, false))
}

/// Continues each erasure as far as possible.
pub(crate) async fn erase(
    app: &App,
    erasures: Vec<Erasure>,
    budget: Budget,
    seconds: u64,
) -> Result<(Erasures, bool), Error> {
    let mut all = Erasures::default();
    for erasure in erasures {
        let erased = app.erase(erasure, budget.end_of(seconds)).await;
        if let Err(error) = &erased {
            tracing::warn!(
                error = error.for_log(),
                "an erasure could not continue, and a later sweep tries again"
            );
        }
        match erased {
            Ok(true) => all.done += 1,
            _ => all.waiting.push(erasure),
        }
    }
    Ok((all, true))
}

/// Sends the emails that are due. Returns how many were sent, and whether all due emails were tried.
pub(crate) async fn send_emails(
    app: &App,
    budget: Budget,
    seconds: u64,
) -> Result<(u64, bool), Error> {
    let mut sent = 0;
    while app.mailer.is_some() && budget.is_within(seconds) {
        let due: Vec<Email> = app.ask("lease_emails", leased(BATCH)).await?;
        if due.is_empty() {
            return Ok((sent, true));
        }
        sent += stream::iter(due)
            .map(|email| async move {
                // Emails that are skipped here are due again soon.
                if !budget.is_within(seconds) {
                    return 0;
                }
                let sent = app.send_email(&email).await;
                if let Err(error) = &sent {
                    tracing::warn!(
                        error = error.for_log(),
                        "an email could not be sent, and a later sweep tries again"
                    );
                }
                u64::from(sent.is_ok())
            })
            .buffer_unordered(AT_ONCE)
            .fold(0, |sum, one| async move { sum + one })
            .await;
    }
    Ok((sent, app.mailer.is_none()))
}

/// Builds exports. Returns how many became ready, and whether no export is waiting any more.
pub(crate) async fn build_exports(
    app: &App,
    budget: Budget,
    seconds: u64,
) -> Result<(u64, bool), Error> {
    let mut exported = 0;
    let deadline = budget.end_of(seconds);
    while Instant::now() + Duration::from_secs(1) < deadline {
        match app.build_export(deadline).await {
            Ok(Turn::Idle) => return Ok((exported, true)),
            Ok(Turn::Ready) => exported += 1,
            Ok(Turn::Further) => {}
            Err(error) => {
                tracing::warn!(
                    error = error.for_log(),
                    "an export could not continue, and a later sweep tries again"
                );
                break;
            }
        }
    }
    Ok((exported, false))
}
