//! The Lambda binary: wiring only.

use std::sync::Arc;

use opusflair::{App, lambda, telemetry};

#[tokio::main]
async fn main() -> Result<(), lambda::Error> {
    telemetry::init();
    let app = Arc::new(App::from_env()?);
    lambda::run(&app, privacy_inbox::routes(app.clone())).await
}
