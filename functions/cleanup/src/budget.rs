//! The time of a pass. Each step has its own, from when it begins: a step that hangs takes none of another's.

use std::time::{Duration, Instant};

use opusflair::pace::limit;

/// The time of one step, in seconds from its beginning.
#[derive(Clone, Copy)]
pub(crate) struct Slice {
    /// For so long it begins new work.
    pub(crate) work: u64,
    /// Then it is dropped, with what it has begun; its leases run out.
    pub(crate) end: u64,
}

/// When a pass or a step began, and so when its time is over.
#[derive(Clone, Copy)]
pub(crate) struct Budget(Instant);

impl Budget {
    /// Begins now.
    pub(crate) fn begin() -> Self {
        Self(Instant::now())
    }

    /// Whether less than `seconds` of it are over.
    pub(crate) fn is_within(&self, seconds: u64) -> bool {
        Instant::now() < self.end_of(seconds)
    }

    /// When `seconds` of it are over.
    pub(crate) fn end_of(&self, seconds: u64) -> Instant {
        self.0 + limit(Duration::from_secs(seconds))
    }

    pub(crate) fn elapsed_ms(&self) -> u128 {
        self.0.elapsed().as_millis()
    }
}
