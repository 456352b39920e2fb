//! Time limits. A build for tests can shorten all of them alike, so that a test of a service that hangs takes seconds.

use std::time::Duration;

/// `limit`; a tenth of it where the environment has `HASTE=10`.
#[cfg(feature = "crash-points")]
#[must_use]
pub fn limit(limit: Duration) -> Duration {
    use std::env;
    use std::sync::LazyLock;

    static HASTE: LazyLock<u32> = LazyLock::new(|| {
        let read = |variable| env::var(variable).ok()?.parse().ok();
        read("HASTE").unwrap_or(1)
    });
    limit / (*HASTE).max(1)
}

/// `limit`: this build has no haste.
#[cfg(not(feature = "crash-points"))]
#[must_use]
pub fn limit(limit: Duration) -> Duration {
    limit
}

/// How long an answer may be given again. A build for tests gives none twice, so that a test sees what it has changed.
#[must_use]
pub fn reuse(time: Duration) -> Duration {
    if cfg!(feature = "crash-points") { Duration::ZERO } else { time }
}
