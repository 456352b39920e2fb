//! One route. It checks the headers, verifies the signature on the raw bytes and processes the webhook event.
//! It answers 2xx only after the database has recorded the event.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::HeaderMap;
use axum::routing::post;
use axum::{Json, Router};
use opusflair::prediction::{EventSource, Outcome};
use opusflair::problem::Failure;
use opusflair::replicate::Prediction;
use opusflair::request::read_body;
use opusflair::signature::Signed;
use opusflair::{App, Error};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

/// The largest body, in bytes. A webhook event holds a prediction with its logs.
const LARGEST_EVENT: usize = 2 * 1024 * 1024;

#[derive(Deserialize)]
struct Address {
    generation: Option<Uuid>,
    #[serde(default)]
    token: String,
}

/// The routes of this function.
pub fn routes(app: Arc<App>) -> Router {
    Router::new().route("/replicate-webhook", post(receive)).with_state(app)
}

async fn receive(
    State(app): State<Arc<App>>,
    address: Result<Query<Address>, QueryRejection>,
    request: Request,
) -> Result<Json<Value>, Failure> {
    let (parts, body) = request.into_parts();
    let (signed, prediction) = verify(&app, &parts.headers, body).await?;
    let Ok(Query(Address { generation: Some(generation), token })) = address else {
        return Ok(ignored(None));
    };
    let source = EventSource::Webhook { id: signed.id(), token: &token };
    let followed = app.follow_prediction(source, Uuid::new_v4(), generation, &prediction).await;
    match followed.map_err(|error| error.of(generation))? {
        Outcome::Unknown => Ok(ignored(Some(generation))),
        outcome => {
            let prediction_status = prediction.status.as_str();
            tracing::info!(
                %generation,
                prediction_status,
                ?outcome,
                "a webhook event was processed"
            );
            Ok(Json(json!({ "received": true })))
        }
    }
}

/// Verifies the signature on the raw bytes, and only then parses the webhook event.
async fn verify<'a>(
    app: &App,
    headers: &'a HeaderMap,
    body: Body,
) -> Result<(Signed<'a>, Prediction), Error> {
    let signed = Signed::read(headers, &["webhook"], OffsetDateTime::now_utc())?;
    let body = read_body(headers, body, LARGEST_EVENT).await?;
    app.config.webhook_keys.verify(&signed, &body)?;
    let prediction = serde_json::from_slice(&body)
        .map_err(|_| Error::invalid("body", "must be a prediction of Replicate's."))?;
    Ok((signed, prediction))
}

/// Accepts a signed webhook event without a generation that we know: it belongs to another environment, or
/// its generation was deleted. An error would only make Replicate send it again.
fn ignored(generation: Option<Uuid>) -> Json<Value> {
    let generation = generation.map(tracing::field::display);
    tracing::warn!(generation, "a webhook event was ignored, because its generation is not known");
    Json(json!({ "received": true, "ignored": true }))
}
