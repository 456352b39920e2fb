//! The routes. Each one parses the request, makes one domain call and responds.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use opusflair::App;
use opusflair::caller::Caller;
use opusflair::database::Retry;
use opusflair::problem::Failure;
use opusflair::request::{self, PathId};
use serde_json::{Value, json};

use crate::ending;
use crate::submission::{IdempotencyKey, NewGeneration, submit};

/// The routes of this function.
pub fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/generations", post(create))
        .route("/generations/{id}/cancel", post(cancel))
        .route("/generations/{id}", get(read).delete(remove))
        .with_state(app)
}

async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    request::Json(new): request::Json<NewGeneration>,
) -> Result<Response, Failure> {
    let key = IdempotencyKey::from_headers(&headers)?;
    let submitted = submit(&app, &caller, &key, &new).await?;
    let status = if submitted.is_new { StatusCode::CREATED } else { StatusCode::OK };
    let location = [(LOCATION, format!("generations/{}", submitted.id))];
    Ok((status, location, Json(submitted.generation)).into_response())
}

async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<Json<Value>, Failure> {
    let arguments = json!({ "generation_id": id });
    let read = app.database.call_as(&caller, "read_generation", arguments, Retry::Safe).await;
    read.map(Json).map_err(|error| error.of(id))
}

async fn cancel(
    State(app): State<Arc<App>>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<Json<Value>, Failure> {
    ending::cancel(&app, &caller, id).await.map(Json).map_err(|error| error.of(id))
}

async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<StatusCode, Failure> {
    ending::delete(&app, &caller, id).await.map_err(|error| error.of(id))?;
    Ok(StatusCode::NO_CONTENT)
}
