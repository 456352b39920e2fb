//! Points at which a test ends or freezes the process, to check what a dead worker leaves behind. A test can
//! also make the decoder panic on a photo. The feature `crash-points` compiles this in. No release has that
//! feature.

/// Ends the process if `CRASH_AT` is `point`. Freezes it once if `FREEZE_AT` is `point`. The process runs no
/// cleanup code, as if it was killed from outside.
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
        // Another thread may receive the SIGSTOP first, and this thread would run on for a moment. So the
        // shell that sends the signal exits only after the whole process has stopped. It gives up after a
        // while, because the process may have been continued before the shell looked.
        let stop = r#"kill -STOP "$0"; for _ in $(seq 1000); do grep -q "^State:.T" "/proc/$0/status" && exit; done"#;
        let this = process::id().to_string();
        let _ = process::Command::new("sh").args(["-c", stop, &this]).status();
    }
}

/// Does nothing: this build has no crash points.
#[cfg(not(feature = "crash-points"))]
pub fn reached(_: &str) {}

/// Panics if the photo contains the text of `POISON`, as a faulty decoder would.
///
/// # Panics
/// That is its purpose.
#[cfg(feature = "crash-points")]
pub(crate) fn poisoned(photo: &[u8]) {
    let read = |variable| std::env::var(variable).unwrap_or_default();
    let poison = read("POISON");
    let is_poisoned =
        !poison.is_empty() && photo.windows(poison.len()).any(|bytes| bytes == poison.as_bytes());
    assert!(!is_poisoned, "a poisoned photo");
}

/// Does nothing: this build ignores `POISON`.
#[cfg(not(feature = "crash-points"))]
pub(crate) fn poisoned(_: &[u8]) {}
