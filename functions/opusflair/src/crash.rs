//! Points at which a test ends or freezes the process, to see what becomes of what it leaves behind; and a photo that
//! makes its decoder panic.
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

/// Panics over a photo that holds the text of `POISON`, as a decoder with a fault would.
///
/// # Panics
/// That is what it is for.
#[cfg(feature = "crash-points")]
pub fn poisoned(photo: &[u8]) {
    let read = |variable| std::env::var(variable).unwrap_or_default();
    let poison = read("POISON");
    let is_poisoned =
        !poison.is_empty() && photo.windows(poison.len()).any(|bytes| bytes == poison.as_bytes());
    assert!(!is_poisoned, "a poisoned photo");
}

/// Nothing: this build knows no poison.
#[cfg(not(feature = "crash-points"))]
pub fn poisoned(_: &[u8]) {}
