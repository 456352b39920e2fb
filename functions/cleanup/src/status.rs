//! The status for an operator: a table for people, or JSON for programs.

mod table;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// The answer of `backend.read_status()`. Ages are in whole seconds.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Status {
    generations: Vec<Open>,
    dispatches: Due,
    holds: Holds,
    deletions: Deletions,
    inputs: Inputs,
    audit: Audit,
    replicate: Removals,
    requests: Requests,
    exports: Exports,
    erasures: Erasures,
    emails: Emails,
    account: Account,
    sweep: Sweep,
    ledger: Ledger,
    ended: Vec<Ended>,
    #[serde(default)]
    marks: Marks,
}

/// The marks that artworks get: always XMP, and Content Credentials if there is a certificate to sign them.
/// This function adds the value, because the database does not know it.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Marks {
    is_signed: bool,
    /// Seconds until the certificate expires; negative after that. Null if there is no certificate.
    certificate_seconds_left: Option<i64>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Open {
    state: String,
    count: u64,
    oldest_seconds: Option<u64>,
    past_deadline: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Due {
    due: u64,
    oldest_seconds: Option<u64>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Holds {
    open: u64,
    credits: u64,
    oldest_seconds: Option<u64>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Deletions {
    ordered: u64,
    due: u64,
    overdue: u64,
    oldest_seconds: Option<u64>,
    most_attempts: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Inputs {
    stored: u64,
    oldest_seconds: Option<u64>,
}

/// Objects and rows that the audit closed within the last day.
#[derive(Debug, Deserialize, Serialize)]
struct Audit {
    orphaned: u64,
    missing: u64,
}

/// Predictions past Replicate's retention of one hour, without evidence that Replicate deleted their data.
#[derive(Debug, Deserialize, Serialize)]
struct Removals {
    kept: u64,
    overdue: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Requests {
    open: u64,
    overdue: u64,
    /// The five requests with the earliest deadlines.
    next_breaches: Vec<Waiting>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Waiting {
    id: String,
    kind: String,
    channel: String,
    seconds_left: i64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Exports {
    building: u64,
    /// Exports that failed for good within the last day.
    failed: u64,
    oldest_seconds: Option<u64>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Erasures {
    open: u64,
    /// Erasures that started more than an hour ago and are not done.
    stuck: u64,
    oldest_seconds: Option<u64>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Emails {
    waiting: u64,
    most_attempts: u64,
}

/// Whether Replicate refuses our account. While it does, jobs wait and uploads are refused.
#[derive(Debug, Deserialize, Serialize)]
struct Account {
    refused_status: Option<u16>,
    refused_seconds: Option<u64>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Sweep {
    last_seconds: Option<u64>,
    intake_open: bool,
}

#[derive(Debug, Deserialize, Serialize)]
struct Ledger {
    /// Number of differences that the last complete walk over the ledger found; null before the first one.
    differences: Option<u64>,
    /// Seconds since that walk.
    checked_seconds: Option<u64>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Ended {
    /// The state of the generation, or the reason if it failed.
    outcome: String,
    last_hour: u64,
    last_day: u64,
}

impl Status {
    /// Adds how artworks are marked. `ends_at` is when the certificate expires.
    pub(crate) fn with_certificate(self, ends_at: Option<OffsetDateTime>) -> Self {
        let left = ends_at.map(|end| (end - OffsetDateTime::now_utc()).whole_seconds());
        let is_signed = left.is_some_and(|left| left > 0);
        Self { marks: Marks { is_signed, certificate_seconds_left: left }, ..self }
    }
}
