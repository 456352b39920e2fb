//! The `/files` endpoints: files that clients upload as inputs.

use axum::extract::{Multipart, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::format_description::well_known::Rfc3339;

use crate::account::authenticate;
use crate::problem::{Invalid, Problem};
use crate::sandbox::{FILES_KEPT, Shared, Stored, new_id};

pub(crate) fn router() -> Router<Shared> {
    Router::new()
        .route("/files", get(list).post(create))
        .route("/files/{id}", get(show).delete(remove))
        .route("/files/{id}/download", get(download))
        .layer(axum::extract::DefaultBodyLimit::max(100 * 1024 * 1024))
}

fn describe(sandbox: &Shared, id: &str, stored: &Stored) -> Value {
    let base = sandbox.base();
    let digest: String = hex::encode(Sha256::digest(&stored.bytes));
    json!({
        "id": id,
        "name": stored.name,
        "content_type": stored.content_type,
        "size": stored.bytes.len(),
        "etag": digest[..32],
        "checksums": { "sha256": digest },
        "metadata": stored.metadata,
        "created_at": stored.created_at.format(&Rfc3339).ok(),
        "expires_at": (stored.created_at + FILES_KEPT).format(&Rfc3339).ok(),
        "urls": { "get": format!("{base}/v1/files/{id}") },
    })
}

async fn create(
    State(sandbox): State<Shared>,
    headers: HeaderMap,
    mut form: Multipart,
) -> Result<Response, Problem> {
    authenticate(&sandbox, &headers)?;
    let missing = || Problem::from(Invalid::required("content"));
    let mut content = None;
    let mut metadata = json!({});
    while let Some(field) = form.next_field().await.map_err(|_| missing())? {
        match field.name() {
            Some("content") => {
                let content_type = field.content_type().unwrap_or("application/octet-stream");
                let content_type = content_type.to_owned();
                let name = field.file_name().unwrap_or("file").to_owned();
                content = Some((field.bytes().await.map_err(|_| missing())?, content_type, name));
            }
            Some("metadata") => {
                let text = field.text().await.map_err(|_| missing())?;
                metadata = serde_json::from_str(&text).map_err(|_| {
                    Invalid::new("invalid_type", "metadata", "Must be a JSON object".to_owned())
                })?;
            }
            _ => {}
        }
    }
    let (bytes, content_type, name) = content.ok_or_else(missing)?;
    let created_at = sandbox.clock.now();
    let stored = Stored { bytes, content_type, name, metadata, created_at };
    let id = new_id();
    let described = describe(&sandbox, &id, &stored);
    sandbox.contents().files.insert(id, stored);
    Ok((StatusCode::CREATED, Json(described)).into_response())
}

async fn list(State(sandbox): State<Shared>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    authenticate(&sandbox, &headers)?;
    let files = sandbox.contents().files.clone();
    let results: Vec<Value> =
        files.iter().map(|(id, stored)| describe(&sandbox, id, stored)).collect();
    Ok(Json(json!({ "previous": null, "next": null, "results": results })))
}

async fn show(
    State(sandbox): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    authenticate(&sandbox, &headers)?;
    let stored = sandbox.contents().files.get(&id).cloned().ok_or_else(Problem::not_found)?;
    Ok(Json(describe(&sandbox, &id, &stored)))
}

async fn remove(
    State(sandbox): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    authenticate(&sandbox, &headers)?;
    let removed = sandbox.contents().files.remove(&id);
    removed.map(|_| StatusCode::NO_CONTENT).ok_or_else(Problem::not_found)
}

async fn download(
    State(sandbox): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    authenticate(&sandbox, &headers)?;
    let stored = sandbox.contents().files.get(&id).cloned().ok_or_else(Problem::not_found)?;
    Ok(([(CONTENT_TYPE, stored.content_type)], stored.bytes).into_response())
}
