//! The time limits of a sweep. Each step has its own limit, counted from its own start, so a step that hangs
//! takes no time from the others.

use std::time::{Duration, Instant};

use opusflair::pace::limit;

/// The time limits of one step, in seconds from its start.
#[derive(Clone, Copy)]
pub(crate) struct Slice {
    /// After this time, the step starts no new work.
    pub(crate) work: u64,
    /// After this time, the step is dropped with all its unfinished work. Its leases then expire.
    pub(crate) end: u64,
}

/// The start of a sweep or of a step. Its time limits are counted from here.
#[derive(Clone, Copy)]
pub(crate) struct Budget(Instant);

impl Budget {
    /// Starts the clock now.
    pub(crate) fn begin() -> Self {
        Self(Instant::now())
    }

    /// Whether fewer than `seconds` have passed.
    pub(crate) fn is_within(&self, seconds: u64) -> bool {
        Instant::now() < self.end_of(seconds)
    }

    /// The moment at which `seconds` have passed.
    pub(crate) fn end_of(&self, seconds: u64) -> Instant {
        self.0 + limit(Duration::from_secs(seconds))
    }

    /// Returns `least`, extended if fewer than `seconds` of the sweep have passed: the last steps may use all
    /// the time that is left.
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
    fn the_last_steps_get_the_rest_of_a_sweep_and_at_least_their_own_time() {
        let least = Slice { work: 10, end: 18 };
        let early = Budget::begin().rest(50, least);
        assert!((48..=50).contains(&early.work) && early.end == early.work + 8);
        let late = Budget(Instant::now()).rest(0, least);
        assert_eq!((late.work, late.end), (10, 18));
    }
}
