//! Auditing: walks both sides of Storage and the ledger. What nothing accounts for is closed (R1, X3), and differences
//! are counted (C7).

use std::collections::BTreeMap;

use opusflair::{App, Error};
use serde::Deserialize;
use serde_json::json;

use crate::budget::Budget;
use crate::report::add_each;

/// Objects or rows that are looked at in one call.
const STRETCH: u32 = 2000;

#[derive(Deserialize)]
struct Audited {
    done: bool,
    closed: BTreeMap<String, u64>,
}

/// Walks on from where the last walk came to, until `seconds` are over; answers what was closed, and whether the walk
/// came to its end.
pub(crate) async fn audit(
    app: &App,
    walk: &'static str,
    time: Budget,
    seconds: u64,
) -> Result<(BTreeMap<String, u64>, bool), Error> {
    let mut total = BTreeMap::new();
    while time.is_within(seconds) {
        let Audited { done, closed } = app.ask(walk, json!({ "batch": STRETCH })).await?;
        add_each(&mut total, closed);
        if done {
            return Ok((total, true));
        }
    }
    Ok((total, false))
}
