//! Logging: one line an event, to standard output, with technical metadata alone (R5).

use std::env;

use tracing_subscriber::EnvFilter;

/// Starts logging: JSON in Lambda, for people elsewhere. `RUST_LOG` chooses what is logged; `info` if
/// it is unset.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    if env::var_os("AWS_LAMBDA_FUNCTION_NAME").is_some() {
        // CloudWatch notes the time itself.
        subscriber.json().without_time().init();
    } else {
        subscriber.with_ansi(false).init();
    }
}
