//! The scheduled event: one pass, and its report.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use opusflair::{App, Error};

use crate::pass::{Report, run};

/// A scheduled event has no path of its own: `lambda_http` passes it on as `POST /events`.
pub fn routes(app: Arc<App>) -> Router {
    Router::new().route("/events", post(pass)).with_state(app)
}

async fn pass(State(app): State<Arc<App>>) -> Result<Json<Report>, Error> {
    run(&app).await.map(Json)
}
