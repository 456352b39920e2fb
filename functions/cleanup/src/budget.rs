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

    /// `least`, and more where `seconds` of the pass are not over: what comes last may have all that is left.
    pub(crate) fn rest(&self, seconds: u64, least: Slice) -> Slice {
        let left = self.end_of(seconds).saturating_duration_since(Instant::now());
        let left = left.as_millis() / limit(Duration::from_secs(1)).as_millis().max(1);
        let more = u64::try_from(left).unwrap_or_default().saturating_sub(least.work);
        Slice { work: least.work + more, end: least.end + more }
    }

    pub(crate) fn elapsed_ms(&self) -> u128 {
        self.0.elapsed().as_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_last_has_the_rest_of_a_pass_and_never_less_than_its_own_time() {
        let least = Slice { work: 10, end: 18 };
        let early = Budget::begin().rest(50, least);
        assert!((48..=50).contains(&early.work) && early.end == early.work + 8);
        let late = Budget(Instant::now()).rest(0, least);
        assert_eq!((late.work, late.end), (10, 18));
    }
}
