//! The clock of the embedded stack: runs a sweep every minute, as `EventBridge` does on AWS.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use opusflair::App;
use tokio::time::{MissedTickBehavior, interval as ticks};

/// Reads `CLEANUP_INTERVAL_SECONDS`. The default is 60; 0 stops the clock.
pub(crate) fn interval() -> Result<Option<Duration>, String> {
    let value = env::var("CLEANUP_INTERVAL_SECONDS").unwrap_or_else(|_| "60".to_owned());
    let seconds: u64 = value
        .parse()
        .map_err(|_| "CLEANUP_INTERVAL_SECONDS must be a whole number of seconds".to_owned())?;
    Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
}

/// Runs a first sweep before the server accepts requests, because uploads are
/// refused before the first sweep (X2).
pub(crate) async fn start(app: &App, interval: Option<Duration>) {
    if interval.is_some() {
        sweep(app).await;
    }
}

pub(crate) async fn run(app: Arc<App>, interval: Option<Duration>) {
    let Some(interval) = interval else { return };
    let mut ticks = ticks(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        sweep(&app).await;
    }
}

async fn sweep(app: &App) {
    if let Err(error) = cleanup::run(app).await {
        tracing::error!(error = error.for_log(), "a sweep failed");
    }
}
