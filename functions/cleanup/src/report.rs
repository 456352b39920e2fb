//! The report of a sweep: for the log, and for an operator who starts a sweep.

use std::collections::BTreeMap;

use opusflair::deletion::Tally;
use serde::Serialize;

/// The work that a sweep did.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Generations that Replicate was asked about, or that ended without asking.
    pub(crate) settled: u64,
    /// Generations that were dispatched after their first dispatch failed.
    pub(crate) dispatched: u64,
    /// What the audit found and closed, by kind: photos past their limit, objects
    /// without a row, missing artworks.
    pub(crate) closed: BTreeMap<String, u64>,
    /// Objects whose absence was verified.
    pub(crate) verified: u64,
    /// Objects that still exist. Their deletion is due again later.
    pub(crate) remaining: u64,
    /// Predictions for which Replicate confirmed that it keeps nothing.
    pub(crate) removed: usize,
    /// Accounts that were erased and have a receipt.
    pub(crate) erased: u64,
    /// Exports that are ready for download.
    pub(crate) exported: u64,
    /// Emails that were sent.
    pub(crate) emails: u64,
    /// Rows past their limit that were deleted, by retention rule.
    pub(crate) expired: BTreeMap<String, u64>,
    /// Whether the sweep did everything that was due.
    pub(crate) complete: bool,
}

impl Report {
    pub(crate) fn count(&mut self, Tally { verified, remaining }: Tally) {
        self.verified += verified;
        self.remaining += remaining;
    }

    /// Adds the report of other steps of the same sweep.
    pub(crate) fn add(&mut self, other: Self) {
        self.settled += other.settled;
        self.dispatched += other.dispatched;
        self.verified += other.verified;
        self.remaining += other.remaining;
        self.removed += other.removed;
        self.erased += other.erased;
        self.exported += other.exported;
        self.emails += other.emails;
        self.complete &= other.complete;
        add_each(&mut self.closed, other.closed);
        add_each(&mut self.expired, other.expired);
    }

    pub(crate) fn log(&self, elapsed_ms: u128) {
        tracing::info!(
            settled = self.settled,
            dispatched = self.dispatched,
            closed = self.closed.values().sum::<u64>(),
            verified = self.verified,
            remaining = self.remaining,
            removed = self.removed,
            erased = self.erased,
            exported = self.exported,
            emails = self.emails,
            expired = self.expired.values().sum::<u64>(),
            complete = self.complete,
            elapsed_ms,
            "a sweep is done"
        );
    }
}

/// Adds `counts` to `total`, key by key.
pub(crate) fn add_each(total: &mut BTreeMap<String, u64>, counts: BTreeMap<String, u64>) {
    for (what, count) in counts {
        *total.entry(what).or_default() += count;
    }
}
