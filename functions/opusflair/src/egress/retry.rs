//! When a call to another service is sent again, and how long it waits before that.

use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::RETRY_AFTER;
use rand::RngExt;
use reqwest::{RequestBuilder, Response, StatusCode};

use super::unreachable;
use crate::Error;

/// How often an idempotent call is sent, including the first attempt.
const TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// No retry begins later than this after the first attempt. A service that is slow to fail gets fewer
/// retries.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Counts the attempts of one call, and the time since the first one.
pub(crate) struct Tries {
    first: Instant,
    patience: Duration,
    made: u32,
}

impl Tries {
    /// Begins with the first attempt. No retry begins after `patience`.
    pub(crate) fn begin(patience: Duration) -> Self {
        Self { first: Instant::now(), patience, made: 1 }
    }

    /// Waits until the next attempt is due. `asked` is the pause that the service asked for. Returns false if
    /// all attempts were made, or if the next one would begin too late.
    pub(crate) async fn again(&mut self, asked: Option<Duration>) -> bool {
        let Some(pause) = self.next_pause(self.first.elapsed(), asked) else { return false };
        tokio::time::sleep(pause).await;
        self.made += 1;
        true
    }

    fn next_pause(&self, passed: Duration, asked: Option<Duration>) -> Option<Duration> {
        let pause = pause(self.made).max(asked.unwrap_or_default());
        let is_in_time = passed.saturating_add(pause) <= self.patience;
        (self.made < TRIES && is_in_time).then_some(pause)
    }
}

/// Sends a request that is safe to repeat. While the service is unreachable or busy, it retries after growing
/// pauses.
///
/// # Errors
/// Returns [`Error::Unavailable`] if no attempt got a response. A response of any status is a success here.
pub(crate) async fn send_idempotent(
    service: &'static str,
    request: RequestBuilder,
) -> Result<Response, Error> {
    let mut tries = Tries::begin(PATIENCE);
    loop {
        let copy = request.try_clone().ok_or_else(|| {
            Error::fault("an idempotent request must have a body that can be sent again")
        })?;
        let sent = copy.send().await;
        let asked = match &sent {
            Ok(response) if !is_busy(response.status()) => None,
            Ok(response) => Some(retry_after(response.headers())),
            Err(_) => Some(None),
        };
        let Some(asked) = asked else { return sent.map_err(|fault| unreachable(service, &fault)) };
        if !tries.again(asked).await {
            return sent.map_err(|fault| unreachable(service, &fault));
        }
    }
}

/// Returns the pause that a service asks for in `Retry-After`, if the value is a number of seconds. A date
/// and an invalid number are ignored.
#[must_use]
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?;
    seconds_to_wait(seconds.trim().parse().ok()?)
}

/// Converts a number of seconds that another system sent into a duration. Returns `None` for a negative,
/// infinite or undefined number.
#[must_use]
pub(crate) fn seconds_to_wait(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

pub(crate) fn is_busy(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

/// Returns the pause after an attempt. It doubles with each attempt, with random jitter.
fn pause(attempt: u32) -> Duration {
    let longest = FIRST_PAUSE * 2_u32.pow(attempt - 1);
    longest.mul_f64(rand::rng().random_range(0.5..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_after_that_is_not_a_number_of_seconds_is_ignored() {
        let asked = |value: &'static str| {
            let headers = [(RETRY_AFTER, http::HeaderValue::from_static(value))];
            retry_after(&HeaderMap::from_iter(headers))
        };
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked(" 0.5 "), Some(Duration::from_millis(500)));
        for none in ["nan", "NaN", "inf", "-inf", "-1", "1e400", "soon", ""] {
            assert_eq!(asked(none), None, "{none}");
        }
        assert_eq!(asked("Fri, 27 Nov 2026 18:00:00 GMT"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn a_retry_waits_as_long_as_the_service_asks_but_not_past_the_time_limit() {
        let seconds = Duration::from_secs;
        let next = |made: u32, passed: Duration, asked: Option<f64>| {
            let tries = Tries { made, ..Tries::begin(PATIENCE) };
            tries.next_pause(passed, asked.and_then(seconds_to_wait))
        };
        assert_eq!(next(1, seconds(1), Some(3.0)), Some(seconds(3)));
        assert!(next(2, seconds(1), None).is_some_and(|pause| pause < seconds(1)));
        assert_eq!(next(3, seconds(1), None), None, "three tries were made");
        assert_eq!(next(1, PATIENCE, None), None, "the budget is used up");
        assert_eq!(next(1, seconds(1), Some(3_600.0)), None, "an hour is too long");
        assert_eq!(next(1, seconds(1), Some(1e19)), None, "longer than any clock");
        assert!(next(1, seconds(1), Some(f64::NAN)).is_some(), "no time at all was named");
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        for attempt in 1..TRIES {
            let longest = FIRST_PAUSE * 2_u32.pow(attempt - 1);
            let pause = pause(attempt);
            assert!(pause >= longest / 2 && pause <= longest, "{attempt}: {pause:?}");
        }
    }
}
