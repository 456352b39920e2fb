//! Time limits. A test build can shorten all of them by the same factor, so that a test with a hanging
//! service takes seconds.

use std::time::Duration;

/// Returns `limit` divided by the environment variable `HASTE`: a tenth of it if `HASTE=10`.
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

/// Returns `limit` unchanged: this build does not shorten time limits.
#[cfg(not(feature = "crash-points"))]
#[must_use]
pub fn limit(limit: Duration) -> Duration {
    limit
}

/// Returns how long a response may be cached. A test build caches nothing, so that a test sees its own
/// changes.
#[must_use]
pub fn reuse(time: Duration) -> Duration {
    if cfg!(feature = "crash-points") { Duration::ZERO } else { time }
}
