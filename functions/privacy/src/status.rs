//! The live status (X5): ages and counts from the running system, without personal data.

use serde::{Deserialize, Serialize};

/// The answer of `backend.read_privacy_status()`. Ages and times are in whole seconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Status {
    pub(crate) originals: Originals,
    pub(crate) deletions: Deletions,
    pub(crate) sweeper: Sweeper,
    pub(crate) requests: Requests,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Originals {
    pub(crate) stored: u64,
    /// Age of the oldest photo that is still stored; null if there is none.
    pub(crate) oldest_seconds: Option<u64>,
    pub(crate) limit_seconds: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Deletions {
    pub(crate) overdue: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Sweeper {
    pub(crate) last_sweep_seconds: Option<u64>,
    pub(crate) allowed_silence_seconds: u64,
    pub(crate) intake_open: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Requests {
    pub(crate) open: u64,
    /// Time until the earliest deadline of a request; negative if it has passed.
    pub(crate) shortest_seconds_left: Option<i64>,
    pub(crate) limit_seconds: u64,
}

impl Status {
    /// Whether every promise is kept: no photo is past its limit, the sweeps run, and
    /// no request is past its deadline.
    pub(crate) fn is_kept(&self) -> bool {
        let oldest = self.originals.oldest_seconds.unwrap_or_default();
        let answered = self.requests.shortest_seconds_left.is_none_or(|seconds| seconds >= 0);
        oldest < self.originals.limit_seconds && self.sweeper.intake_open && answered
    }
}
