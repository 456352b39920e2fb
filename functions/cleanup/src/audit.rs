//! Auditing: walks both sides of Storage, and what finds nothing that accounts for it is closed (R1, X3).

use std::collections::BTreeMap;

use opusflair::{App, Error};
use serde::Deserialize;
use serde_json::json;

use crate::budget::Budget;

/// Each walks its own side, from where it last came to.
const WALKS: [&str; 4] = ["audit_inputs", "audit_artworks", "audit_exports", "audit_generations"];
/// Objects or rows that are looked at in one call.
const STRETCH: u32 = 2000;

#[derive(Deserialize)]
struct Audited {
    done: bool,
    closed: BTreeMap<String, u64>,
}

/// Walks until `seconds` of the pass are over; answers what was closed, and whether it came to the end.
pub(crate) async fn audit(
    app: &App,
    budget: Budget,
    seconds: u64,
) -> Result<(BTreeMap<String, u64>, bool), Error> {
    let mut total = BTreeMap::new();
    for walk in WALKS {
        loop {
            if !budget.is_within(seconds) {
                return Ok((total, false));
            }
            let Audited { done, closed } = app.ask(walk, json!({ "batch": STRETCH })).await?;
            for (what, count) in closed {
                *total.entry(what).or_default() += count;
            }
            if done {
                break;
            }
        }
    }
    Ok((total, true))
}
