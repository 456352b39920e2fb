//! Submitting: reserves a generation with the user's own token, then dispatches it.

use axum::http::HeaderMap;
use opusflair::caller::Caller;
use opusflair::database::Retry;
use opusflair::dispatch::{Dispatch, Progress};
use opusflair::problem::Failure;
use opusflair::{App, Error, crash};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// The body of a request. The database checks names and ranges.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewGeneration {
    style: String,
    input_path: String,
    model: Option<String>,
    prompt: Option<String>,
    #[serde(default)]
    settings: Map<String, Value>,
}

/// The idempotency key that the client chose. The same key and body always give the same generation.
pub(crate) struct IdempotencyKey(String);

/// The result of a submit request.
pub(crate) struct Submitted {
    /// Whether this request created the generation.
    pub(crate) is_new: bool,
    pub(crate) id: Uuid,
    pub(crate) generation: Value,
}

#[derive(Deserialize)]
struct Begun {
    generation: Value,
    /// `None` if the key was used before.
    dispatch: Option<Dispatch>,
}

impl IdempotencyKey {
    const FORM: &str =
        "must be 1 to 255 visible ASCII characters; a new UUID for each new request does.";

    pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Self, Error> {
        headers
            .get("idempotency-key")
            .and_then(|key| key.to_str().ok())
            .filter(|key| {
                (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
            })
            .map(|key| Self(key.to_owned()))
            .ok_or_else(|| Error::invalid("Idempotency-Key", Self::FORM))
    }
}

/// Reserves a generation and dispatches it. After the reservation nothing is lost: sweeps retry a dispatch
/// that fails now. If it can never succeed, the generation ends and its credits are returned.
pub(crate) async fn submit(
    app: &App,
    caller: &Caller,
    key: &IdempotencyKey,
    new: &NewGeneration,
) -> Result<Submitted, Failure> {
    let lease = Uuid::new_v4();
    let begun: Begun = app
        .database
        .call_as(
            caller,
            "begin_generation",
            json!({
                "style": new.style,
                "input_path": new.input_path,
                "idempotency_key": key.0,
                "lease": lease,
                "model": new.model,
                "prompt": new.prompt,
                "settings": new.settings,
            }),
            // Safe to retry: the idempotency key makes it one generation, and the
            // lease shows that it is ours.
            Retry::Safe,
        )
        .await?;
    crash::reached("submit.begun");
    let id = begun
        .generation
        .get("id")
        .and_then(|id| id.as_str()?.parse().ok())
        .ok_or_else(|| Error::fault("a generation without an id"))?;
    let Some(dispatch) = begun.dispatch else {
        return Ok(Submitted { is_new: false, id, generation: begun.generation });
    };
    let generation = match app.dispatch(&dispatch, lease).await.map_err(|error| error.of(id))? {
        Progress::Attached(generation) => generation,
        Progress::Waiting => begun.generation,
    };
    Ok(Submitted { is_new: true, id, generation })
}
