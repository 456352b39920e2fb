//! The control endpoints for tests: move the clock, arm faults, choose outputs, and see what was received.

use axum::extract::{DefaultBodyLimit, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::faults::Armed;
use crate::prediction::Prediction;
use crate::render::Rendered;
use crate::sandbox::Shared;

pub(crate) fn router() -> Router<Shared> {
    Router::new()
        .route("/clock", post(advance))
        .route("/faults", post(arm).delete(disarm))
        .route("/inputs", get(inputs))
        .route("/outputs", post(give).layer(DefaultBodyLimit::disable()))
        .route("/predictions", get(predictions))
}

#[derive(Deserialize)]
struct Advance {
    advance_seconds: u32,
}

async fn advance(State(sandbox): State<Shared>, Json(body): Json<Advance>) -> Json<Value> {
    sandbox.clock.advance(time::Duration::seconds(body.advance_seconds.into()));
    Json(json!({ "now": sandbox.clock.now().unix_timestamp() }))
}

#[derive(Deserialize)]
struct Arm {
    next: Vec<Armed>,
}

async fn arm(State(sandbox): State<Shared>, Json(body): Json<Arm>) -> StatusCode {
    sandbox.faults.arm(body.next);
    StatusCode::NO_CONTENT
}

async fn disarm(State(sandbox): State<Shared>) -> StatusCode {
    sandbox.faults.disarm();
    StatusCode::NO_CONTENT
}

/// Sets the output of the next prediction: the request body, byte for byte, whatever it contains.
async fn give(State(sandbox): State<Shared>, headers: HeaderMap, bytes: Bytes) -> StatusCode {
    let types = [("image/png", "png"), ("image/jpeg", "jpg"), ("image/webp", "webp")];
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let Some((content_type, extension)) = types.into_iter().find(|(name, _)| given == Some(name))
    else {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE;
    };
    sandbox.contents().given.push_back(Rendered { bytes, content_type, extension });
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct Wanted {
    input: Option<String>,
}

async fn inputs(State(sandbox): State<Shared>) -> Json<Value> {
    Json(json!(sandbox.contents().inputs))
}

/// All predictions, or only those whose `input_image` contains one of the comma-separated texts in `input`.
async fn predictions(
    State(sandbox): State<Shared>,
    Query(Wanted { input }): Query<Wanted>,
) -> Json<Value> {
    let base = sandbox.base();
    let contents = sandbox.contents();
    let is_wanted = |found: &&Prediction| {
        let Some(input) = &input else { return true };
        let image = found.input.get("input_image").and_then(Value::as_str).unwrap_or_default();
        input.split(',').any(|text| image.contains(text))
    };
    Json(contents.predictions.iter().filter(is_wanted).map(|found| found.to_event(&base)).collect())
}
