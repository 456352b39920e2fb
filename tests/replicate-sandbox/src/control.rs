//! For tests: move the clock, arm faults, see what was received.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::faults::Armed;
use crate::sandbox::Shared;

pub(crate) fn router() -> Router<Shared> {
    Router::new()
        .route("/clock", post(advance))
        .route("/faults", post(arm).delete(disarm))
        .route("/inputs", get(inputs))
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

async fn inputs(State(sandbox): State<Shared>) -> Json<Value> {
    Json(json!(sandbox.contents().inputs))
}

async fn predictions(State(sandbox): State<Shared>) -> Json<Value> {
    let base = sandbox.base();
    Json(sandbox.contents().predictions.iter().map(|found| found.to_event(&base)).collect())
}
