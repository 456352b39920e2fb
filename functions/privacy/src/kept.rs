//! An answer that is given again for a while: whoever asks for the public status in a loop costs the database one call.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An answer and when it was had.
pub(crate) struct Kept<T> {
    time: Duration,
    answer: Mutex<Option<(Instant, T)>>,
}

impl<T: Clone> Kept<T> {
    /// Keeps each answer for `time`.
    pub(crate) fn new(time: Duration) -> Self {
        Self { time, answer: Mutex::new(None) }
    }

    /// The answer, if it is not too old.
    pub(crate) fn at(&self, now: Instant) -> Option<T> {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = answer.as_ref().filter(|(had, _)| now.duration_since(*had) < self.time);
        fresh.map(|(_, answer)| answer.clone())
    }

    /// Keeps an answer that was had at `now`.
    pub(crate) fn keep(&self, now: Instant, answer: T) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_given_again_until_its_time_is_over() {
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
