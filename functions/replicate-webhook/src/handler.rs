//! One route: judge the headers, verify the signature on the raw bytes, follow what is said, and
//! answer 2xx only when the database has it.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::routing::post;
use axum::{Json, Router};
use opusflair::prediction::{Heard, Outcome};
use opusflair::replicate::Prediction;
use opusflair::request::read_body;
use opusflair::signature::Signed;
use opusflair::{App, Error};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

/// An event holds a prediction with its logs, in bytes.
const LARGEST_EVENT: usize = 2 * 1024 * 1024;

#[derive(Deserialize)]
struct Address {
    generation: Option<Uuid>,
    #[serde(default)]
    token: String,
}

/// The route of this function.
pub fn routes(app: Arc<App>) -> Router {
    Router::new().route("/replicate-webhook", post(receive)).with_state(app)
}

async fn receive(
    State(app): State<Arc<App>>,
    address: Result<Query<Address>, QueryRejection>,
    request: Request,
) -> Result<Json<Value>, Error> {
    let (parts, body) = request.into_parts();
    let signed = Signed::read(&parts.headers, &["webhook"], OffsetDateTime::now_utc())?;
    let body = read_body(&parts.headers, body, LARGEST_EVENT).await?;
    app.config.webhook_keys.verify(&signed, &body)?;

    let prediction: Prediction = serde_json::from_slice(&body)
        .map_err(|_| Error::invalid("body", "must be a prediction of Replicate's."))?;
    let Ok(Query(Address { generation: Some(generation), token })) = address else {
        return Ok(ignored());
    };
    let heard = Heard::Event { id: signed.id(), token: &token };
    match app.follow_prediction(heard, Uuid::new_v4(), generation, &prediction).await? {
        Outcome::Unknown => Ok(ignored()),
        outcome => {
            let prediction_status = prediction.status.as_str();
            tracing::info!(%generation, prediction_status, ?outcome, "followed");
            Ok(Json(json!({ "received": true })))
        }
    }
}

/// Signed, yet of no generation of ours: another environment's, or one that was deleted. An error
/// would only make Replicate send it again.
fn ignored() -> Json<Value> {
    tracing::warn!("an event of no known generation was ignored");
    Json(json!({ "received": true, "ignored": true }))
}
