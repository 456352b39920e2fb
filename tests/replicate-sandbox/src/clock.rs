//! A clock that tests can move forward.

use std::sync::Mutex;

use time::{Duration, OffsetDateTime};
use tokio::sync::Notify;

#[derive(Default)]
pub(crate) struct Clock {
    ahead: Mutex<Duration>,
    moved: Notify,
}

impl Clock {
    pub(crate) fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + *self.ahead.lock().expect("nothing panics while it holds this")
    }

    pub(crate) fn advance(&self, by: Duration) {
        *self.ahead.lock().expect("nothing panics while it holds this") += by;
        self.moved.notify_waiters();
    }

    /// Returns when this clock reaches `when`, either because time passes or because a test moves it.
    pub(crate) async fn wait_until(&self, when: OffsetDateTime) {
        loop {
            let moved = self.moved.notified();
            let left = when - self.now();
            if left <= Duration::ZERO {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left.unsigned_abs()) => {}
                () = moved => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_tasks_wake_when_the_clock_is_moved() {
        let clock = Clock::default();
        let when = clock.now() + Duration::hours(1);
        tokio::join!(clock.wait_until(when), async { clock.advance(Duration::hours(2)) });
        assert!(clock.now() >= when);
    }
}
