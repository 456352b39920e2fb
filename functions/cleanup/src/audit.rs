//! The audit: walks over Storage objects, their rows and the ledger. It closes every object without a row and
//! every row without its object (R1, X3), and counts differences in the ledger (C7).

use std::collections::BTreeMap;

use opusflair::{App, Error};
use serde::Deserialize;
use serde_json::json;

use crate::budget::Budget;
use crate::report::add_each;

/// Number of objects or rows that one call checks.
const STRETCH: u32 = 2000;

#[derive(Deserialize)]
struct Audited {
    done: bool,
    closed: BTreeMap<String, u64>,
}

/// Continues the walk where it last stopped, until `seconds` are over. Returns what was closed, and whether
/// the walk reached its end.
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
