//! Runs steps of a sweep one after the other. A step that fails, hangs or panics does not affect the next
//! one.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use opusflair::Error;
use tokio::time::timeout_at;

use crate::budget::{Budget, Slice};
use crate::report::Report;

/// Steps that run one after the other, and the report on them.
pub(super) struct Lane {
    pub(super) report: Report,
}

impl Default for Lane {
    fn default() -> Self {
        Self { report: Report { complete: true, ..Report::default() } }
    }
}

impl Lane {
    /// Runs a step and returns its answer. If the step fails, this logs the error and
    /// leaves the work to the next sweep.
    pub(super) async fn step<T: Default, W>(
        &mut self,
        step: &'static str,
        slice: Slice,
        work: impl FnOnce(Budget, u64) -> W,
    ) -> T
    where
        W: Future<Output = Result<(T, bool), Error>>,
    {
        self.attempt(slice, work).await.unwrap_or_else(|error| {
            tracing::warn!(
                step,
                error = error.for_log(),
                "a step of the sweep failed, and the next sweep continues it"
            );
            T::default()
        })
    }

    /// Like `step`, but returns the error to the caller. A step also returns whether it
    /// finished everything that was due.
    pub(super) async fn attempt<T, W>(
        &mut self,
        slice: Slice,
        work: impl FnOnce(Budget, u64) -> W,
    ) -> Result<T, Error>
    where
        W: Future<Output = Result<(T, bool), Error>>,
    {
        let time = Budget::begin();
        let work = AssertUnwindSafe(work(time, slice.work)).catch_unwind();
        let done = match timeout_at(time.end_of(slice.end).into(), work).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(Error::fault("a step panicked")),
            Err(_) => Err(Error::unavailable("a step", "it took too long")),
        };
        self.report.complete &= matches!(done, Ok((_, true)));
        done.map(|(answer, _)| answer)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    type Done = Result<(u64, bool), Error>;

    #[tokio::test]
    async fn a_step_that_panics_fails_or_hangs_does_not_affect_the_next_one() {
        let mut lane = Lane::default();
        let now = Slice { work: 0, end: 0 };
        let slice = Slice { work: 1, end: 5 };
        let panicked = lane.step("settle", slice, |_, _| async { panic!("on purpose") as Done });
        assert_eq!(panicked.await, 0);
        let hung = lane.step("dispatch", now, |_, _| pending::<Done>());
        assert_eq!(hung.await, 0);
        let failed = lane.step("erase", slice, |_, _| async { Err(Error::fault("on purpose")) });
        let failed: u64 = failed.await;
        assert_eq!((failed, lane.report.complete), (0, false));
        let done =
            lane.step("rows", slice, |time, end| async move { Ok((7, time.is_within(end))) });
        assert_eq!(done.await, 7);
    }
}
