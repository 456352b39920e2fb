//! Authentication, and the account endpoint.

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use crate::catalogue;
use crate::problem::Problem;
use crate::sandbox::{Sandbox, Shared};

pub(crate) fn router() -> Router<Shared> {
    Router::new()
        .route("/account", get(account))
        .route("/webhooks/default/secret", get(webhook_secret))
        .route("/models", get(models))
        .route("/models/{owner}/{name}", get(model))
        .route("/models/{owner}/{name}/versions", get(versions))
        .route("/models/{owner}/{name}/versions/{version}", get(version))
}

/// Accepts `Bearer <token>`, or `Token <token>` from older clients.
pub(crate) fn authenticate(sandbox: &Sandbox, headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.split_once(' '))
        .filter(|(scheme, _)| matches!(*scheme, "Bearer" | "Token"))
        .map(|(_, token)| token);
    if given == Some(sandbox.config.token.as_str()) {
        Ok(())
    } else {
        Err(Problem::unauthenticated())
    }
}

async fn account(
    State(sandbox): State<Shared>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    authenticate(&sandbox, &headers)?;
    Ok(Json(
        json!({ "type": "organization", "username": "sandbox", "name": "Sandbox", "github_url": null }),
    ))
}

async fn webhook_secret(
    State(sandbox): State<Shared>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    authenticate(&sandbox, &headers)?;
    Ok(Json(json!({ "key": sandbox.config.webhook_secret })))
}

async fn models(State(sandbox): State<Shared>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    authenticate(&sandbox, &headers)?;
    let results: Vec<Value> =
        catalogue::MODELS.iter().filter_map(|model| catalogue::describe(model)).collect();
    Ok(Json(json!({ "previous": null, "next": null, "results": results })))
}

async fn model(
    State(sandbox): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    authenticate(&sandbox, &headers)?;
    catalogue::describe(&format!("{owner}/{name}")).map(Json).ok_or_else(Problem::not_found)
}

async fn versions(
    State(sandbox): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    authenticate(&sandbox, &headers)?;
    let version = catalogue::version(&format!("{owner}/{name}")).ok_or_else(Problem::not_found)?;
    Ok(Json(json!({ "previous": null, "next": null, "results": [version] })))
}

async fn version(
    State(sandbox): State<Shared>,
    Path((owner, name, id)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    authenticate(&sandbox, &headers)?;
    let version = catalogue::version(&format!("{owner}/{name}")).ok_or_else(Problem::not_found)?;
    if version["id"] == json!(id) { Ok(Json(version)) } else { Err(Problem::not_found()) }
}
