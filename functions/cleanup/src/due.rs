//! The work of a sweep. One call asks the database what is due, so an idle sweep makes no further calls.

use opusflair::{App, Error};
use serde::Deserialize;
use serde_json::json;

/// The answer of `backend.list_due_work()`.
#[expect(clippy::struct_excessive_bools, reason = "one for each step")]
#[derive(Debug, Deserialize)]
pub(crate) struct Due {
    pub(crate) deletions: bool,
    pub(crate) settling: bool,
    pub(crate) dispatches: bool,
    pub(crate) outbox: bool,
    pub(crate) expired_exports: bool,
    pub(crate) erasures: bool,
    pub(crate) removals: bool,
    pub(crate) inactivity: bool,
    pub(crate) unconfirmed: bool,
    pub(crate) emails: bool,
    pub(crate) requests: bool,
    pub(crate) rows: bool,
    pub(crate) exports: bool,
    pub(crate) walks: Walks,
}

/// The walks of the audit that are due.
#[expect(clippy::struct_excessive_bools, reason = "one for each walk")]
#[derive(Debug, Deserialize)]
pub(crate) struct Walks {
    pub(crate) audit_inputs: bool,
    pub(crate) audit_artworks: bool,
    pub(crate) audit_exports: bool,
    pub(crate) audit_generations: bool,
    pub(crate) audit_ledger: bool,
}

impl Due {
    pub(crate) async fn ask(app: &App) -> Result<Self, Error> {
        app.ask("list_due_work", json!({})).await
    }

    /// The fallback if the call fails: every step then checks for itself. `requests` stays false, because the
    /// warning about requests needs the real answer.
    pub(crate) fn everything() -> Self {
        let walks = Walks {
            audit_inputs: true,
            audit_artworks: true,
            audit_exports: true,
            audit_generations: true,
            audit_ledger: true,
        };
        Self {
            deletions: true,
            settling: true,
            dispatches: true,
            outbox: true,
            expired_exports: true,
            erasures: true,
            removals: true,
            inactivity: true,
            unconfirmed: true,
            emails: true,
            requests: false,
            rows: true,
            exports: true,
            walks,
        }
    }

    /// Whether a step of this sweep may create work for another step: deletions, outbox tasks or emails.
    pub(crate) fn has_work(&self) -> bool {
        let Self { deletions, settling, dispatches, expired_exports, erasures, walks, .. } = self;
        let is_walked = walks.audit_inputs
            || walks.audit_artworks
            || walks.audit_exports
            || walks.audit_generations;
        *deletions || *settling || *dispatches || *expired_exports || *erasures || is_walked
    }
}
