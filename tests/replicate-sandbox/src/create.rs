//! Creates predictions.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::sync::watch;

use crate::account::authenticate;
use crate::catalogue;
use crate::fate::Fate;
use crate::faults::Fault;
use crate::input::{self, Creation};
use crate::prediction::{Prediction, Status};
use crate::problem::{Invalid, Problem};
use crate::run;
use crate::sandbox::{Shared, new_id};
use crate::schema;

/// The largest request body, in bytes. It may contain a picture as a `data:` URL.
const LARGEST_BODY: usize = 32 * 1024 * 1024;

/// `POST /predictions`: the body names a version.
pub(crate) fn by_version() -> MethodRouter<Shared> {
    post(create).layer(DefaultBodyLimit::max(LARGEST_BODY))
}

/// `POST /models/{owner}/{name}/predictions`.
pub(crate) fn by_model() -> MethodRouter<Shared> {
    post(create_of_model).layer(DefaultBodyLimit::max(LARGEST_BODY))
}

async fn create(
    State(sandbox): State<Shared>,
    headers: HeaderMap,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Response, Problem> {
    authenticate(&sandbox, &headers)?;
    let Json(body) = body.map_err(|rejection| Problem::unreadable(&rejection))?;
    let creation = input::read(body, true)?;
    let version = creation.version.as_deref().unwrap_or_default();
    let model = catalogue::model_of_version(version).ok_or_else(Problem::unknown_version)?;
    begin(sandbox, &headers, model.to_owned(), creation).await
}

async fn create_of_model(
    State(sandbox): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Response, Problem> {
    authenticate(&sandbox, &headers)?;
    let model = format!("{owner}/{name}");
    if !catalogue::MODELS.contains(&model.as_str()) {
        return Err(Problem::not_found());
    }
    let Json(body) = body.map_err(|rejection| Problem::unreadable(&rejection))?;
    begin(sandbox, &headers, model, input::read(body, false)?).await
}

async fn begin(
    sandbox: Shared,
    headers: &HeaderMap,
    model: String,
    creation: Creation,
) -> Result<Response, Problem> {
    let faults = &sandbox.faults;
    if faults.strikes(Fault::Create402).is_some() {
        return Err(Problem::unpaid());
    }
    if let Some(status) = faults.strikes(Fault::CreateRefused) {
        return Err(Problem::refused(status));
    }
    if faults.strikes(Fault::Create422).is_some() {
        let text = "Does not match format 'uri'".to_owned();
        return Err(Invalid::new("format", "input.input_image", text).into());
    }
    if let Some(retry_after) = faults.strikes(Fault::Create429) {
        return Err(Problem::throttled(retry_after));
    }
    if faults.strikes(Fault::Create500).is_some() {
        return Err(Problem::internal());
    }
    if faults.strikes(Fault::CreateDrop).is_some() {
        return Ok(silence());
    }
    schema::check_input(&model, &creation.input)?;

    let prediction = new_prediction(&sandbox, headers, model, creation)?;
    let id = prediction.id.clone();
    sandbox.contents().predictions.push(prediction.clone());
    tracing::info!(prediction = id, model = prediction.model, "created");
    tokio::spawn(run::run(sandbox.clone(), prediction.clone()));
    if sandbox.faults.strikes(Fault::CreateHang).is_some() {
        return Ok(silence());
    }

    let shown = match patience(headers) {
        Some(patience) => wait_for_end(&sandbox, &prediction, patience).await,
        None => prediction,
    };
    Ok((StatusCode::CREATED, Json(shown.to_json(&sandbox.base()))).into_response())
}

fn new_prediction(
    sandbox: &Shared,
    headers: &HeaderMap,
    model: String,
    creation: Creation,
) -> Result<Prediction, Problem> {
    let created_at = sandbox.clock.now();
    let cancel_after = headers.get("cancel-after").and_then(|value| value.to_str().ok());
    let deadline = cancel_after
        .map(input::deadline)
        .transpose()?
        .map(|after| created_at.saturating_add(after));
    Ok(Prediction {
        id: new_id(),
        model,
        // Official models do not report their version.
        version: "hidden".to_owned(),
        input: creation.input,
        output: None,
        images: 0,
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
        fate: Fate::draw(sandbox),
        changes: watch::Sender::default(),
    })
}

/// The wait time from `Prefer: wait` or `wait=n`, up to 60 seconds.
fn patience(headers: &HeaderMap) -> Option<Duration> {
    let prefer = headers.get("prefer")?.to_str().ok()?;
    let seconds = match prefer.strip_prefix("wait")? {
        "" => 60,
        value => value.strip_prefix('=')?.parse().ok()?,
    };
    Some(Duration::from_secs(u64::clamp(seconds, 1, 60)))
}

/// Returns the prediction as it is when it ends, or when `patience` is over.
async fn wait_for_end(sandbox: &Shared, prediction: &Prediction, patience: Duration) -> Prediction {
    let _ = tokio::time::timeout(patience, run::ended(sandbox, prediction)).await;
    sandbox.find(&prediction.id).unwrap_or_else(|| prediction.clone())
}

/// A response that never arrives: the connection ends before its first byte.
fn silence() -> Response {
    ([("content-length", "1000")], Body::from_stream(Broken)).into_response()
}

struct Broken;

impl Stream for Broken {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(Some(Err(io::Error::other("the connection is lost"))))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn patience_lasts_from_a_second_to_a_minute() {
        for (prefer, seconds) in [
            ("wait", Some(60)),
            ("wait=5", Some(5)),
            ("wait=0", Some(1)),
            ("wait=3600", Some(60)),
            ("wait=long", None),
            ("respond-async", None),
        ] {
            let headers = HeaderMap::from_iter([(
                http::header::HeaderName::from_static("prefer"),
                HeaderValue::from_static(prefer),
            )]);
            assert_eq!(patience(&headers), seconds.map(Duration::from_secs), "{prefer}");
        }
    }
}
