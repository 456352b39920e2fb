//! The routes. Public reads need no token and return nothing personal. A cached
//! response may be a few seconds old.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE};
use opusflair::pace::reuse;
use opusflair::{App, Error};
use serde_json::json;

use crate::badge::svg;
use crate::kept::Kept;
use crate::mark::mark;
use crate::rights::{confirm, erase, erasure, export, withdraw};
use crate::status::Status;

/// Any site may read the response.
pub(crate) const OPEN: (http::HeaderName, &str) = (ACCESS_CONTROL_ALLOW_ORIGIN, "*");
pub(crate) const FRESH: (http::HeaderName, &str) = (CACHE_CONTROL, "public, max-age=10");
/// How long this process reuses a status.
const STATUS_TIME: Duration = Duration::from_secs(10);
/// Clients may cache the keys for five minutes, because a new key is published before it signs.
const KEYS: (http::HeaderName, &str) = (CACHE_CONTROL, "public, max-age=300");

/// The routes of this function: the live status as JSON and as a badge, the detector, the keys
/// of receipts, and users' rights.
pub fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/privacy/status", get(status))
        .route("/privacy/badge.svg", get(badge))
        .route("/privacy/mark", get(mark))
        .route("/.well-known/jwks.json", get(keys))
        .route("/privacy/exports", post(export))
        .route("/privacy/erasures", post(erase))
        .route("/privacy/erasures/{id}", get(erasure).delete(withdraw))
        .route("/privacy/requests/{id}/confirm", post(confirm))
        .layer(Extension(Arc::new(Kept::<Status>::new(reuse(STATUS_TIME)))))
        .with_state(app)
}

type KeptStatus = Extension<Arc<Kept<Status>>>;

/// Returns a status that is at most ten seconds old.
async fn live(app: &App, kept: &Kept<Status>) -> Result<Status, Error> {
    let now = Instant::now();
    if let Some(status) = kept.at(now) {
        return Ok(status);
    }
    let status: Status = app.ask("read_privacy_status", json!({})).await?;
    kept.keep(now, status.clone());
    Ok(status)
}

async fn status(
    State(app): State<Arc<App>>,
    Extension(kept): KeptStatus,
) -> Result<Response, Error> {
    let status = live(&app, &kept).await?;
    Ok(([OPEN, FRESH], Json(status)).into_response())
}

async fn badge(
    State(app): State<Arc<App>>,
    Extension(kept): KeptStatus,
) -> Result<Response, Error> {
    let status = live(&app, &kept).await?;
    let kind = (CONTENT_TYPE, "image/svg+xml");
    Ok(([kind, OPEN, FRESH], svg(&status)).into_response())
}

async fn keys(State(app): State<Arc<App>>) -> Response {
    let kind = (CONTENT_TYPE, "application/jwk-set+json");
    ([kind, OPEN, KEYS], app.config.receipt_keys.public_keys().to_string()).into_response()
}
