//! What a pass has done: for the log, and for the operator who asks for a pass.

use std::collections::BTreeMap;

use opusflair::deletion::Tally;
use serde::Serialize;

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
    /// Whether the pass did all that was due.
    pub complete: bool,
}

impl Report {
    pub(crate) fn count(&mut self, Tally { verified, remaining }: Tally) {
        self.verified += verified;
        self.remaining += remaining;
    }

    /// What other steps of the same pass have done.
    pub(crate) fn add(&mut self, other: Self) {
        self.settled += other.settled;
        self.submitted += other.submitted;
        self.verified += other.verified;
        self.remaining += other.remaining;
        self.removed += other.removed;
        self.erased += other.erased;
        self.exported += other.exported;
        self.letters += other.letters;
        self.complete &= other.complete;
        add_each(&mut self.closed, other.closed);
        add_each(&mut self.expired, other.expired);
    }

    pub(crate) fn log(&self, elapsed_ms: u128) {
        tracing::info!(
            settled = self.settled,
            submitted = self.submitted,
            closed = self.closed.values().sum::<u64>(),
            verified = self.verified,
            remaining = self.remaining,
            removed = self.removed,
            erased = self.erased,
            exported = self.exported,
            letters = self.letters,
            expired = self.expired.values().sum::<u64>(),
            complete = self.complete,
            elapsed_ms,
            "a pass is done"
        );
    }
}

/// Adds counts by what they count.
pub(crate) fn add_each(total: &mut BTreeMap<String, u64>, counts: BTreeMap<String, u64>) {
    for (what, count) in counts {
        *total.entry(what).or_default() += count;
    }
}
