//! One sweep. The next sweep continues with whatever this one does not finish.
//!
//! Each step runs separately and has its own time limit, so a step that fails, hangs or panics does not delay
//! the others. The work that the policy depends on comes first: the due deletions, and then the heartbeat,
//! which records that they were attempted (X2). Settling, dispatching and erasing run at the same time.
//! Everything that can wait comes afterwards.

mod lane;

use std::collections::BTreeMap;

use futures_util::future::join_all;
use opusflair::deletion::{Deletion, Tally};
use opusflair::erasure::Erasure;
use opusflair::{App, Error};
use serde_json::{Value, json};
use uuid::Uuid;

use self::lane::Lane;
use crate::audit::audit;
use crate::budget::{Budget, Slice};
use crate::due::{Due, Walks};
use crate::removal::ask_for_removals;
use crate::report::{Report, add_each};
use crate::rights;
use crate::settle::{dispatch, settle};

// The limits add up to less than the function's timeout of 150 seconds, even if a step of each stage
// hangs. Asking what is due takes at most 5 seconds, the urgent work 70, the deletions and erasures that
// it leaves 38, and the rest 30.
const LOOKING: Slice = Slice { work: 5, end: 5 };
const DELETING_FIRST: Slice = Slice { work: 15, end: 46 };
const BEATING: Slice = Slice { work: 5, end: 8 };
const AUDITING: Slice = Slice { work: 8, end: 16 };
const SETTLING: Slice = Slice { work: 20, end: 52 };
const CALLING: Slice = Slice { work: 8, end: 18 };
const DISPATCHING: Slice = Slice { work: 20, end: 70 };
const ORDERING: Slice = Slice { work: 5, end: 15 };
const ERASING: Slice = Slice { work: 15, end: 50 };
const DELETING: Slice = Slice { work: 10, end: 30 };
const LEAVING: Slice = Slice { work: 5, end: 8 };
const ASKING: Slice = Slice { work: 8, end: 30 };
const WALKING: Slice = Slice { work: 5, end: 12 };
const WRITING: Slice = Slice { work: 10, end: 18 };
const EXPIRING: Slice = Slice { work: 5, end: 18 };
const EXPORTING: Slice = Slice { work: 20, end: 30 };
/// Emails, exports and the questions about Replicate's own deletion may run until this many seconds of the
/// sweep have passed, if nothing hangs.
const WHOLE: u64 = 50;

/// Number of deletions that one batch executes. Storage's bulk deletion takes up to 1000.
const DELETIONS: u32 = 500;
/// How long a batch of deletions is leased: longer than a batch takes, but over when the next sweep starts.
const DELETION_LEASE_SECONDS: u32 = 50;

/// The walks of the audit: four look for missing and left-over objects, one checks the ledger.
type Walk = (&'static str, fn(&Walks) -> bool);
const WALKS: [Walk; 5] = [
    ("audit_inputs", |due| due.audit_inputs),
    ("audit_artworks", |due| due.audit_artworks),
    ("audit_exports", |due| due.audit_exports),
    ("audit_generations", |due| due.audit_generations),
    ("audit_ledger", |due| due.audit_ledger),
];

/// Runs one sweep and records the heartbeat.
///
/// # Errors
/// Fails if the due deletions were not attempted, or if the heartbeat was not recorded. All other steps run
/// even then. If one of them fails, the next sweep tries it again.
pub async fn run(app: &App) -> Result<Report, Error> {
    let sweep = Budget::begin();
    let due = &Lane::default().attempt(LOOKING, |_, _| look(app)).await.unwrap_or_else(|error| {
        tracing::warn!(
            error = error.for_log(),
            "the database did not say what is due, so the sweep runs every step"
        );
        Due::everything()
    });
    let (deleted, settled, dispatched, (erased, waiting)) = tokio::join!(
        Box::pin(delete_and_audit(app, due)),
        Box::pin(settle_generations(app, due)),
        Box::pin(dispatch_generations(app, due)),
        Box::pin(begin_erasures(app, due)),
    );
    let Urgent { mut report, has_deleted, heartbeat } = deleted;
    for lane in [settled, dispatched, erased] {
        report.add(lane);
    }

    let mut ended = Lane::default();
    // Executes the deletions that this sweep has ordered so far. Skipped if Storage did not answer before.
    if has_deleted && due.has_work() {
        let deleted = ended.step("delete", DELETING, |time, end| delete(app, time, end)).await;
        ended.report.count(deleted);
    }
    let erasing = ended.step("erase", LEAVING, |time, end| rights::erase(app, waiting, time, end));
    ended.report.erased = erasing.await.done;
    report.add(ended.report);

    let (asked, written, expired, exported) = tokio::join!(
        Box::pin(ask_replicate(app, due, sweep)),
        Box::pin(write_to_people(app, due, sweep)),
        Box::pin(expire(app, due)),
        Box::pin(export(app, due, sweep)),
    );
    for lane in [asked, written, expired, exported] {
        report.add(lane);
    }
    report.log(sweep.elapsed_ms());
    heartbeat.map(|()| report)
}

struct Urgent {
    report: Report,
    has_deleted: bool,
    heartbeat: Result<(), Error>,
}

/// Executes the due deletions, records the heartbeat, and runs the audit, which may order more deletions.
async fn delete_and_audit(app: &App, due: &Due) -> Urgent {
    let mut lane = Lane::default();
    let deleted = if due.deletions {
        lane.attempt(DELETING_FIRST, |time, end| delete(app, time, end)).await
    } else {
        Ok(Tally::default())
    };
    let has_deleted = deleted.is_ok();
    let heartbeat = match deleted {
        Ok(tally) => {
            lane.report.count(tally);
            lane.attempt(BEATING, |_, _| beat(app)).await
        }
        Err(error) => Err(error),
    };
    let walks = WALKS.into_iter().filter(|(_, is_due)| is_due(&due.walks));
    for walked in join_all(walks.map(|(walk, _)| walk_on(app, walk))).await {
        lane.report.add(walked);
    }
    Urgent { report: lane.report, has_deleted, heartbeat }
}

async fn walk_on(app: &App, walk: &'static str) -> Report {
    let mut lane = Lane::default();
    let audited = lane.step("audit", AUDITING, |time, end| audit(app, walk, time, end));
    lane.report.closed = audited.await;
    lane.report
}

async fn settle_generations(app: &App, due: &Due) -> Report {
    let mut lane = Lane::default();
    if due.settling {
        let settled = lane.step("settle", SETTLING, |time, end| settle(app, time, end));
        lane.report.settled = settled.await;
    }
    // Every step that ends a generation may create an outbox task to stop its prediction.
    if due.outbox || due.has_work() {
        lane.step("outbox", CALLING, |time, end| rights::run_outbox(app, time, end)).await;
    }
    lane.report
}

async fn dispatch_generations(app: &App, due: &Due) -> Report {
    let mut lane = Lane::default();
    if due.dispatches {
        let dispatched = lane.step("dispatch", DISPATCHING, |time, end| dispatch(app, time, end));
        lane.report.dispatched = dispatched.await;
    }
    lane.report
}

/// Starts the due erasures. Also returns those that are waiting for objects to be deleted.
async fn begin_erasures(app: &App, due: &Due) -> (Report, Vec<Erasure>) {
    let mut lane = Lane::default();
    if due.expired_exports {
        lane.step("exports", ORDERING, |_, _| rights::expire_exports(app)).await;
    }
    if !due.erasures {
        return (lane.report, Vec::new());
    }
    let begun =
        lane.step("erase", ERASING, |time, end| rights::begin_erasures(app, time, end)).await;
    lane.report.erased = begun.done;
    (lane.report, begun.waiting)
}

async fn ask_replicate(app: &App, due: &Due, sweep: Budget) -> Report {
    let mut lane = Lane::default();
    if due.removals {
        let removed = lane.step("removals", sweep.rest(WHOLE, ASKING), |time, end| {
            ask_for_removals(app, time, end)
        });
        lane.report.removed = removed.await;
    }
    lane.report
}

/// Finds inactive users and sends emails. If an account must be erased for
/// inactivity, the next sweep erases it.
async fn write_to_people(app: &App, due: &Due, sweep: Budget) -> Report {
    let mut lane = Lane::default();
    if due.inactivity {
        lane.step("inactivity", WALKING, |time, end| rights::follow_inactive(app, time, end)).await;
    }
    // An erasure that ended in this sweep may also have created an email.
    if due.emails || due.inactivity || due.erasures {
        let written = lane.step("emails", sweep.rest(WHOLE, WRITING), |time, end| {
            rights::send_emails(app, time, end)
        });
        lane.report.emails = written.await;
    }
    lane.report
}

async fn expire(app: &App, due: &Due) -> Report {
    let mut lane = Lane::default();
    if due.requests {
        tracing::warn!("a privacy request must be answered within a day");
    }
    if due.unconfirmed {
        let walked = |time, end| rights::erase_unconfirmed(app, time, end);
        lane.step("unconfirmed", WALKING, walked).await;
    }
    if due.rows {
        let expired = lane.step("rows", EXPIRING, |time, end| expire_rows(app, time, end));
        lane.report.expired = expired.await;
    }
    lane.report
}

async fn export(app: &App, due: &Due, sweep: Budget) -> Report {
    let mut lane = Lane::default();
    if due.exports {
        let exported = lane.step("exports", sweep.rest(WHOLE, EXPORTING), |time, end| {
            rights::build_exports(app, time, end)
        });
        lane.report.exported = exported.await;
    }
    lane.report
}

async fn look(app: &App) -> Result<(Due, bool), Error> {
    Ok((Due::ask(app).await?, true))
}

async fn beat(app: &App) -> Result<((), bool), Error> {
    app.ask::<Value>("record_heartbeat", json!({ "task": "cleanup" })).await?;
    Ok(((), true))
}

async fn delete(app: &App, time: Budget, seconds: u64) -> Result<(Tally, bool), Error> {
    let mut total = Tally::default();
    while time.is_within(seconds) {
        let batch = json!({
            "lease": Uuid::new_v4(), "batch": DELETIONS, "lease_seconds": DELETION_LEASE_SECONDS,
        });
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

/// Deletes rows that are past their limit, one batch for each rule at a time.
async fn expire_rows(
    app: &App,
    time: Budget,
    seconds: u64,
) -> Result<(BTreeMap<String, u64>, bool), Error> {
    let mut total = BTreeMap::new();
    while time.is_within(seconds) {
        let expired: BTreeMap<String, u64> = app.ask("expire_rows", json!({})).await?;
        if expired.is_empty() {
            return Ok((total, true));
        }
        add_each(&mut total, expired);
    }
    Ok((total, false))
}
