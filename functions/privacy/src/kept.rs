//! A cache for one answer. A client that requests the public status in a loop causes
//! only one database call per period.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An answer with the time at which it was received.
pub(crate) struct Kept<T> {
    time: Duration,
    answer: Mutex<Option<(Instant, T)>>,
}

impl<T: Clone> Kept<T> {
    /// Creates a cache that keeps each answer for `time`.
    pub(crate) fn new(time: Duration) -> Self {
        Self { time, answer: Mutex::new(None) }
    }

    /// Returns the answer if it is still fresh.
    pub(crate) fn at(&self, now: Instant) -> Option<T> {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = answer.as_ref().filter(|(had, _)| now.duration_since(*had) < self.time);
        fresh.map(|(_, answer)| answer.clone())
    }

    /// Stores an answer that was received at `now`.
    pub(crate) fn keep(&self, now: Instant, answer: T) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_reused_until_it_expires() {
        let kept = Kept::new(Duration::from_secs(10));
        let now = Instant::now();
        assert_eq!(kept.at(now), None);
        kept.keep(now, "green");
        assert_eq!(kept.at(now + Duration::from_millis(9_999)), Some("green"));
        assert_eq!(kept.at(now + Duration::from_secs(10)), None);
        kept.keep(now + Duration::from_secs(10), "red");
        assert_eq!(kept.at(now + Duration::from_secs(11)), Some("red"));
    }
}
