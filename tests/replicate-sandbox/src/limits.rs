//! Rate limits, and the headers that report them in every response.

use std::collections::VecDeque;
use std::sync::Mutex;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method};
use time::{Duration, OffsetDateTime};

use crate::problem::Problem;
use crate::sandbox::Shared;

const CREATES_A_MINUTE: usize = 600;
const OTHERS_A_MINUTE: usize = 3000;
const WINDOW: Duration = Duration::minutes(1);

/// The calls of the last minute.
#[derive(Default)]
pub(crate) struct Limits {
    creates: Mutex<VecDeque<OffsetDateTime>>,
    others: Mutex<VecDeque<OffsetDateTime>>,
}

/// The remaining allowance after a call.
#[derive(Debug, PartialEq, Eq)]
struct Allowance {
    is_granted: bool,
    remaining: usize,
    /// Seconds until the oldest call no longer counts.
    reset: u64,
}

impl Limits {
    fn count(&self, is_create: bool, now: OffsetDateTime) -> Allowance {
        let (calls, most) = if is_create {
            (&self.creates, CREATES_A_MINUTE)
        } else {
            (&self.others, OTHERS_A_MINUTE)
        };
        let mut calls = calls.lock().expect("nothing panics while it holds this");
        while calls.front().is_some_and(|&at| at <= now - WINDOW) {
            calls.pop_front();
        }
        let is_granted = calls.len() < most;
        if is_granted {
            calls.push_back(now);
        }
        let oldest = calls.front().map_or(WINDOW, |&at| at + WINDOW - now);
        let reset = oldest.unsigned_abs().as_secs_f64().ceil();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 60")]
        Allowance { is_granted, remaining: most - calls.len(), reset: reset as u64 }
    }
}

/// Counts a call, and refuses it if there were too many.
pub(crate) async fn limit(State(sandbox): State<Shared>, request: Request, next: Next) -> Response {
    let is_create =
        request.method() == Method::POST && request.uri().path().ends_with("/predictions");
    let allowance = sandbox.limits.count(is_create, sandbox.clock.now());
    let mut response = if allowance.is_granted {
        next.run(request).await
    } else {
        Problem::throttled(allowance.reset).into_response()
    };
    let headers = response.headers_mut();
    headers.insert("ratelimit-remaining", HeaderValue::from(allowance.remaining));
    headers.insert("ratelimit-reset", HeaderValue::from(allowance.reset));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_601st_create_is_refused_until_the_first_is_a_minute_old() {
        let limits = Limits::default();
        let start = OffsetDateTime::UNIX_EPOCH;
        for remaining in (0..CREATES_A_MINUTE).rev() {
            let expected = Allowance { is_granted: true, remaining, reset: 60 };
            assert_eq!(limits.count(true, start), expected);
        }
        let refused = Allowance { is_granted: false, remaining: 0, reset: 15 };
        assert_eq!(limits.count(true, start + Duration::seconds(45)), refused);
        assert!(limits.count(false, start).is_granted);
        assert!(limits.count(true, start + WINDOW).is_granted);
    }
}
