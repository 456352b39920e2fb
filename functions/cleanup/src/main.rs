//! The Lambda binary: wiring only.

use std::sync::Arc;

use opusflair::{lambda, telemetry};

#[tokio::main]
async fn main() -> Result<(), lambda::Error> {
    telemetry::init();
    let app = Arc::new(marking::app_from_env()?);
    lambda::run(&app, cleanup::routes(app.clone())).await
}
