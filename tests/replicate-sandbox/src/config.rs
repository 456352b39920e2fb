//! The configuration from the environment.

use std::env;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Read from `SANDBOX_ADDRESS`, `REPLICATE_API_TOKEN`, `REPLICATE_WEBHOOK_SECRET` and `SANDBOX_RUN_MS`.
pub(crate) struct Config {
    pub(crate) address: String,
    pub(crate) token: String,
    pub(crate) webhook_secret: String,
    /// The decoded part of the secret after `whsec_`.
    pub(crate) webhook_key: Vec<u8>,
    /// The minimum run time of a prediction, so that tests can see its progress.
    pub(crate) run_time: Duration,
}

impl Config {
    pub(crate) fn from_env() -> Result<Self, String> {
        let required = |name: &str| env::var(name).map_err(|_| format!("{name} is not set"));
        let webhook_secret = required("REPLICATE_WEBHOOK_SECRET")?;
        let webhook_key = webhook_secret
            .strip_prefix("whsec_")
            .and_then(|encoded| STANDARD.decode(encoded).ok())
            .ok_or("REPLICATE_WEBHOOK_SECRET must be whsec_ followed by base64")?;
        let run_ms = env::var("SANDBOX_RUN_MS").unwrap_or_else(|_| "1500".to_owned());
        Ok(Self {
            address: env::var("SANDBOX_ADDRESS").unwrap_or_else(|_| "127.0.0.1:54324".to_owned()),
            token: required("REPLICATE_API_TOKEN")?,
            webhook_secret,
            webhook_key,
            run_time: Duration::from_millis(
                run_ms.parse().map_err(|_| "SANDBOX_RUN_MS must be a number of milliseconds")?,
            ),
        })
    }
}
