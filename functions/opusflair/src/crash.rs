//! Points at which a test ends or freezes the process, to see what becomes of what it leaves behind.
//! Compiled in by the feature `crash-points` alone, which no release has.

/// Ends the process where `CRASH_AT` is `point`, or freezes it where `FREEZE_AT` is: once, as if from
/// outside, so that nothing is tidied up.
#[cfg(feature = "crash-points")]
pub fn reached(point: &str) {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::{env, process};

    static IS_SPENT: AtomicBool = AtomicBool::new(false);

    let is = |variable| env::var(variable).is_ok_and(|armed| armed == point);
    if is("CRASH_AT") {
        process::abort();
    }
    if is("FREEZE_AT") && !IS_SPENT.swap(true, Ordering::SeqCst) {
        // The signal is another thread's to take first. Once that has stopped none of them goes on, so whoever
        // sent it ends only then; it gives up after a while, in case it was awake too late to see that.
        let stop = r#"kill -STOP "$0"; for _ in $(seq 1000); do grep -q "^State:.T" "/proc/$0/status" && exit; done"#;
        let this = process::id().to_string();
        let _ = process::Command::new("sh").args(["-c", stop, &this]).status();
    }
}

/// Nothing: this build has no crash points.
#[cfg(not(feature = "crash-points"))]
pub fn reached(_: &str) {}
