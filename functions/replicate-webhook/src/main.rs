//! The Lambda binary: wiring only.

use std::sync::Arc;

use opusflair::{problem, telemetry};

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    telemetry::init();
    let app = Arc::new(marking::app_from_env()?);
    lambda_http::run(problem::with_boundary(replicate_webhook::routes(app))).await
}
