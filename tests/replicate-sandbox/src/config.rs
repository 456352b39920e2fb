//! The configuration from the environment.

use std::env;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Read from `SANDBOX_ADDRESS`, `REPLICATE_API_TOKEN`, `REPLICATE_WEBHOOK_SECRET`, `SANDBOX_RUN_MS` and `SANDBOX_PIXELS`.
pub(crate) struct Config {
    pub(crate) address: String,
    pub(crate) token: String,
    pub(crate) webhook_secret: String,
    /// The decoded part of the secret after `whsec_`.
    pub(crate) webhook_key: Vec<u8>,
    /// The minimum run time of a prediction, so that tests can see its progress.
    pub(crate) run_time: Duration,
    /// About how many pixels an output has.
    pub(crate) pixels: u32,
}

impl Config {
    pub(crate) fn from_env() -> Result<Self, String> {
        let required = |name: &str| env::var(name).map_err(|_| format!("{name} is not set"));
        let webhook_secret = required("REPLICATE_WEBHOOK_SECRET")?;
        let webhook_key = webhook_secret
            .strip_prefix("whsec_")
            .and_then(|encoded| STANDARD.decode(encoded).ok())
            .ok_or("REPLICATE_WEBHOOK_SECRET must be whsec_ followed by base64")?;
        let number = |name: &str, usual: u32| {
            env::var(name)
                .map_or(Ok(usual), |value| value.parse())
                .map_err(|_| format!("{name} must be a whole number"))
        };
        Ok(Self {
            address: env::var("SANDBOX_ADDRESS").unwrap_or_else(|_| "127.0.0.1:54324".to_owned()),
            token: required("REPLICATE_API_TOKEN")?,
            webhook_secret,
            webhook_key,
            run_time: Duration::from_millis(number("SANDBOX_RUN_MS", 1500)?.into()),
            pixels: number("SANDBOX_PIXELS", painter::PIXELS)?,
        })
    }
}
