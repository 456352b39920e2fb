//! The time of a pass, shared out so that no step can take it all.

use std::time::{Duration, Instant};

/// When the steps of one pass end. A step begins no new work after its end; a pass a minute leaves room
/// for what is under way then.
#[derive(Clone, Copy)]
pub(crate) struct Budget(Instant);

impl Budget {
    /// Begins now.
    pub(crate) fn begin() -> Self {
        Self(Instant::now())
    }

    /// Whether less than `seconds` of the pass are over.
    pub(crate) fn is_within(&self, seconds: u64) -> bool {
        self.0.elapsed() < Duration::from_secs(seconds)
    }

    /// When `seconds` of the pass are over.
    pub(crate) fn end_of(&self, seconds: u64) -> Instant {
        self.0 + Duration::from_secs(seconds)
    }

    pub(crate) fn elapsed_ms(&self) -> u128 {
        self.0.elapsed().as_millis()
    }
}
