//! Predictions: create, list, get, cancel.

use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::account::authenticate;
use crate::catalogue;
use crate::faults::Fault;
use crate::input::{self, Creation};
use crate::prediction::{Prediction, Status};
use crate::problem::Problem;
use crate::run;
use crate::sandbox::{CREATES_A_MINUTE, Shared, new_id};

const PAGE: usize = 100;

pub(crate) fn router() -> Router<Shared> {
    Router::new()
        .route("/predictions", get(list).post(create))
        .route("/models/{owner}/{name}/predictions", post(create_of_model))
        .route("/predictions/{id}", get(show))
        .route("/predictions/{id}/cancel", post(cancel))
}

async fn create(
    State(sandbox): State<Shared>,
    headers: HeaderMap,
    body: Json<Value>,
) -> Result<Response, Problem> {
    authenticate(&sandbox, &headers)?;
    let creation = input::read(body.0, true)?;
    let version = creation.version.clone().unwrap_or_default();
    let model = catalogue::model_of_version(&version).ok_or_else(|| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid version or not permitted",
            "The specified version does not exist (or perhaps you don't have permission to use it?)")
    })?;
    begin(sandbox, &headers, model.to_owned(), creation).await
}

async fn create_of_model(
    State(sandbox): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Json<Value>,
) -> Result<Response, Problem> {
    authenticate(&sandbox, &headers)?;
    let model = format!("{owner}/{name}");
    if !catalogue::MODELS.contains(&model.as_str()) {
        return Err(Problem::not_found());
    }
    begin(sandbox, &headers, model, input::read(body.0, false)?).await
}

async fn begin(
    sandbox: Shared,
    headers: &HeaderMap,
    model: String,
    creation: Creation,
) -> Result<Response, Problem> {
    if let Some(retry_after) =
        sandbox.faults.strikes(Fault::Create429).or_else(|| throttle(&sandbox))
    {
        return Err(Problem::throttled(retry_after));
    }
    if sandbox.faults.strikes(Fault::Create500).is_some() {
        return Err(Problem::internal());
    }
    if sandbox.faults.strikes(Fault::CreateDrop).is_some() {
        return Ok(silence());
    }
    input::judge(&model, &creation.input)?;

    let prediction = new_prediction(&sandbox, headers, model, creation)?;
    let id = prediction.id.clone();
    let remaining = {
        let mut contents = sandbox.contents();
        contents.predictions.push(prediction.clone());
        contents.creates.push(prediction.created_at);
        CREATES_A_MINUTE.saturating_sub(contents.creates.len())
    };
    tracing::info!(prediction = id, model = prediction.model, "created");
    tokio::spawn(run::run(sandbox.clone(), prediction.clone()));
    if sandbox.faults.strikes(Fault::CreateHang).is_some() {
        return Ok(silence());
    }

    let shown = match patience(headers) {
        Some(patience) => wait_for_end(&sandbox, &id, patience).await.unwrap_or(prediction),
        None => prediction,
    };
    let limits =
        [("ratelimit-remaining", remaining.to_string()), ("ratelimit-reset", "1".to_owned())];
    Ok((StatusCode::CREATED, limits, Json(shown.to_json(&sandbox.base()))).into_response())
}

fn new_prediction(
    sandbox: &Shared,
    headers: &HeaderMap,
    model: String,
    creation: Creation,
) -> Result<Prediction, Problem> {
    let created_at = sandbox.clock.now();
    let cancel_after = headers.get("cancel-after").and_then(|value| value.to_str().ok());
    let deadline = cancel_after.map(input::deadline).transpose()?.map(|after| created_at + after);
    Ok(Prediction {
        id: new_id(),
        model,
        // Official models do not tell.
        version: "hidden".to_owned(),
        input: creation.input,
        output: None,
        logs: String::new(),
        error: None,
        status: Status::Starting,
        data_removed: false,
        created_at,
        started_at: None,
        completed_at: None,
        deadline,
        webhook: creation.webhook,
        events: creation.events,
    })
}

/// Seconds to wait, where a minute's creates are used up.
fn throttle(sandbox: &Shared) -> Option<u64> {
    let minute_ago = sandbox.clock.now() - time::Duration::minutes(1);
    let mut contents = sandbox.contents();
    contents.creates.retain(|&at| at > minute_ago);
    (contents.creates.len() >= CREATES_A_MINUTE).then_some(5)
}

/// `Prefer: wait` or `wait=n`: up to 60 seconds.
fn patience(headers: &HeaderMap) -> Option<Duration> {
    let prefer = headers.get("prefer")?.to_str().ok()?;
    let seconds = match prefer.strip_prefix("wait")? {
        "" => 60,
        value => value.strip_prefix('=')?.parse().ok()?,
    };
    Some(Duration::from_secs(u64::clamp(seconds, 1, 60)))
}

async fn wait_for_end(sandbox: &Shared, id: &str, patience: Duration) -> Option<Prediction> {
    let mut changes = sandbox.changes.subscribe();
    let ended = async {
        loop {
            let found = sandbox.find(id)?;
            if found.status.is_terminal() {
                return Some(found);
            }
            changes.changed().await.ok()?;
        }
    };
    tokio::time::timeout(patience, ended).await.unwrap_or_else(|_| sandbox.find(id))
}

/// An answer that never comes: a body that breaks off before its first byte.
fn silence() -> Response {
    let broken = axum::body::Body::from_stream(Broken);
    ([("content-length", "1000")], broken).into_response()
}

struct Broken;

impl futures_util::Stream for Broken {
    type Item = Result<bytes::Bytes, std::io::Error>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(Some(Err(std::io::Error::other("the connection is lost"))))
    }
}

#[derive(Deserialize)]
struct Cursor {
    cursor: Option<String>,
}

async fn list(
    State(sandbox): State<Shared>,
    headers: HeaderMap,
    Query(Cursor { cursor }): Query<Cursor>,
) -> Result<Json<Value>, Problem> {
    authenticate(&sandbox, &headers)?;
    let base = sandbox.base();
    let contents = sandbox.contents();
    let newest_first: Vec<&Prediction> = contents.predictions.iter().rev().collect();
    let start = match &cursor {
        None => 0,
        Some(id) => {
            newest_first.iter().position(|found| found.id == *id).ok_or_else(Problem::not_found)?
        }
    };
    let page = newest_first.iter().skip(start).take(PAGE);
    let at = |index: usize| {
        newest_first.get(index).map(|found| format!("{base}/v1/predictions?cursor={}", found.id))
    };
    Ok(Json(json!({
        "previous": start.checked_sub(PAGE).and_then(at),
        "next": at(start + PAGE),
        "results": page.map(|found| found.to_json(&base)).collect::<Vec<_>>(),
    })))
}

async fn show(
    State(sandbox): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    authenticate(&sandbox, &headers)?;
    if sandbox.faults.strikes(Fault::Get500).is_some() {
        return Err(Problem::internal());
    }
    if sandbox.faults.strikes(Fault::Get404).is_some() {
        return Err(Problem::not_found());
    }
    let found = sandbox.find(&id).ok_or_else(Problem::not_found)?;
    Ok(Json(found.to_json(&sandbox.base())))
}

async fn cancel(
    State(sandbox): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    authenticate(&sandbox, &headers)?;
    let now = sandbox.clock.now();
    sandbox.change(&id, |found| {
        found.status = Status::Canceled;
        found.completed_at = Some(now);
    });
    let found = sandbox.find(&id).ok_or_else(Problem::not_found)?;
    Ok(Json(found.to_json(&sandbox.base())))
}
