//! What a pass has to do: asked once, so that an idle pass makes no call in vain.

use opusflair::{App, Error};
use serde::Deserialize;
use serde_json::json;

/// What `backend.due()` answers.
#[expect(clippy::struct_excessive_bools, reason = "one for each step")]
#[derive(Debug, Deserialize)]
pub(crate) struct Due {
    pub(crate) deletions: bool,
    pub(crate) settling: bool,
    pub(crate) submissions: bool,
    pub(crate) errands: bool,
    pub(crate) expired_exports: bool,
    pub(crate) erasures: bool,
    pub(crate) removals: bool,
    pub(crate) inactivity: bool,
    pub(crate) unconfirmed: bool,
    pub(crate) letters: bool,
    pub(crate) requests: bool,
    pub(crate) rows: bool,
    pub(crate) exports: bool,
    pub(crate) walks: Walks,
}

/// The walks of the audit.
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
        app.ask("due", json!({})).await
    }

    /// If the question fails, every step looks for itself. A warning about requests needs the answer.
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
            submissions: true,
            errands: true,
            expired_exports: true,
            erasures: true,
            removals: true,
            inactivity: true,
            unconfirmed: true,
            letters: true,
            requests: false,
            rows: true,
            exports: true,
            walks,
        }
    }

    /// Whether a step of this pass may order something that another does: deletions, calls and letters.
    pub(crate) fn has_work(&self) -> bool {
        let Self { deletions, settling, submissions, expired_exports, erasures, walks, .. } = self;
        let is_walked = walks.audit_inputs
            || walks.audit_artworks
            || walks.audit_exports
            || walks.audit_generations;
        *deletions || *settling || *submissions || *expired_exports || *erasures || is_walked
    }
}
