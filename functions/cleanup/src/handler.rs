//! The scheduled event, and the two endpoints for the operator.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::HeaderMap;
use http::header::ACCEPT;
use lambda_http::request::RequestContext;
use opusflair::operator::Operator;
use opusflair::{App, Error};
use serde_json::json;

use crate::report::Report;
use crate::status::Status;
use crate::sweep::run;

/// The routes of this function. A scheduled event has no path: `lambda_http` passes it on as `POST /events`, and
/// `opusflair::lambda` lets only scheduled events through.
pub fn routes(app: Arc<App>) -> Router {
    Router::new().route("/events", post(sweep)).with_state(app.clone()).merge(operator_routes(app))
}

/// The operator's routes. They require `OPERATOR_SECRET`.
pub fn operator_routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/cleanup", post(sweep_for_operator))
        .route("/status", get(status))
        .with_state(app)
}

/// Runs a sweep for the schedule. The schedule has no secret, so this route accepts only
/// events that are not HTTP requests.
async fn sweep(
    State(app): State<Arc<App>>,
    context: Option<Extension<RequestContext>>,
) -> Result<Json<Report>, Error> {
    match context {
        Some(Extension(RequestContext::PassThrough)) => run(&app).await.map(Json),
        _ => Err(Error::NoSuchRoute),
    }
}

async fn sweep_for_operator(
    _: Operator,
    State(app): State<Arc<App>>,
) -> Result<Json<Report>, Error> {
    run(&app).await.map(Json)
}

async fn status(
    _: Operator,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let status: Status = app.ask("read_status", json!({})).await?;
    let certificate = app.marker.as_ref().and_then(|marker| marker.certificate_ends_at());
    let status = status.with_certificate(certificate);
    let accepted = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accepted.contains("application/json") {
        Ok(Json(status).into_response())
    } else {
        Ok(status.to_table().into_response())
    }
}
