//! The Lambda binary: wiring only.

use std::sync::Arc;

use opusflair::{App, problem, telemetry};

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    telemetry::init();
    let app = Arc::new(App::from_env()?);
    lambda_http::run(problem::with_boundary(privacy_inbox::routes(app))).await
}
