//! Submitting: reserve, check the photo, create the prediction, attach it.

use axum::http::{HeaderMap, StatusCode};
use opusflair::caller::Caller;
use opusflair::database::Again;
use opusflair::deletion::Deletion;
use opusflair::error::Refusal;
use opusflair::photo::{Photo, Rejection};
use opusflair::prediction::capability_digest;
use opusflair::replicate::{Creation, NewPrediction, Prediction};
use opusflair::storage::INPUTS;
use opusflair::{App, Error};
use rand::Rng;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;
use uuid::Uuid;

/// What a person asks for. Names and ranges are judged by the database.
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

/// The client's name for this request: the same key and body give the same generation.
pub(crate) struct IdempotencyKey(String);

/// A generation that was asked for.
pub(crate) struct Submitted {
    /// Whether this request made it.
    pub(crate) is_new: bool,
    pub(crate) id: Uuid,
    pub(crate) generation: Value,
}

#[derive(Deserialize)]
struct Begun {
    generation: Value,
    /// Absent where the key was seen before.
    submission: Option<Submission>,
}

#[derive(Deserialize)]
struct Submission {
    replicate_model: String,
    prompt: String,
    settings: Map<String, Value>,
    deadline_seconds: u32,
}

#[derive(Deserialize)]
struct Recorded {
    outcome: String,
    deletions: Vec<Deletion>,
}

#[derive(Deserialize)]
struct Attached {
    outcome: String,
    generation: Option<Value>,
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

/// Reserves and submits. Whatever fails on the way ends the generation, and its credits go back; what
/// is uncertain is left open, for its events or the schedule to settle.
pub(crate) async fn submit(
    app: &App,
    caller: &Caller,
    key: &IdempotencyKey,
    new: &NewGeneration,
) -> Result<Submitted, Error> {
    let token = hex::encode(rand::rng().random::<[u8; 32]>());
    let begun: Begun = app
        .database
        .call_as(
            caller,
            "begin_generation",
            json!({
                "style": new.style,
                "input_path": new.input_path,
                "idempotency_key": key.0,
                "capability": capability_digest(&token),
                "model": new.model,
                "prompt": new.prompt,
                "settings": new.settings,
            }),
            Again::Unsafe,
        )
        .await?;
    let id = begun
        .generation
        .get("id")
        .and_then(|id| id.as_str()?.parse().ok())
        .ok_or_else(|| Error::Fault("a generation without an id".to_owned()))?;
    let Some(submission) = begun.submission else {
        return Ok(Submitted { is_new: false, id, generation: begun.generation });
    };

    let generation = match carry_out(app, id, &new.input_path, &token, &submission).await {
        Ok(Some(prediction)) => attach(app, id, &prediction).await?,
        Ok(None) => begun.generation,
        Err(Aborted { reason, error }) => {
            // If even this fails, its credits go back at its deadline.
            if let Err(error) = app.fail_generation(id, reason).await {
                tracing::error!(generation = %id, %error, "a generation was left to expire");
            }
            return Err(error);
        }
    };
    Ok(Submitted { is_new: true, id, generation })
}

/// A submission that came to nothing.
struct Aborted {
    /// One of `public.failure_reasons`.
    reason: &'static str,
    error: Error,
}

impl From<Error> for Aborted {
    fn from(error: Error) -> Self {
        Self { reason: "platform_error", error }
    }
}

/// Checks the photo and creates the prediction. `None` where Replicate's answer was lost: then the
/// prediction may exist, and its events will name it by their capability.
async fn carry_out(
    app: &App,
    id: Uuid,
    input_path: &str,
    token: &str,
    submission: &Submission,
) -> Result<Option<Prediction>, Aborted> {
    let photo = check_photo(app, input_path).await?;
    record_input(app, id, input_path, &photo).await?;
    let signed = app.storage.sign(INPUTS, input_path, submission.deadline_seconds).await?;

    let mut input = submission.settings.clone();
    input.insert("prompt".to_owned(), Value::from(submission.prompt.as_str()));
    input.insert("input_image".to_owned(), Value::from(signed.as_str()));
    let webhook = webhook_address(app, id, token)?;
    let creation = app
        .replicate
        .create(&NewPrediction {
            model: &submission.replicate_model,
            input: Value::Object(input),
            webhook: &webhook,
            deadline_seconds: submission.deadline_seconds,
        })
        .await?;
    match creation {
        Creation::Created(prediction) => Ok(Some(prediction)),
        Creation::Unknown => {
            tracing::warn!(generation = %id, "the answer to a create call was lost");
            Ok(None)
        }
        Creation::Busy => Err(Error::unavailable("Replicate", "busy").into()),
        Creation::Refused(status) => Err(Aborted {
            reason: "submit_refused",
            error: Error::unavailable("Replicate", format!("create: status {}", status.as_u16())),
        }),
    }
}

/// Judges the photo by its bytes (C2) and puts it back without its metadata (T2).
async fn check_photo(app: &App, input_path: &str) -> Result<Photo, Aborted> {
    let rejected = |rejection| Aborted { reason: "input_invalid", error: Error::Photo(rejection) };
    let bytes = match app.storage.download(INPUTS, input_path, Photo::LARGEST).await {
        Err(Error::BodyTooLarge { limit: max_bytes }) => {
            return Err(rejected(Rejection::TooManyBytes { max_bytes }));
        }
        downloaded => downloaded?
            .ok_or_else(|| Error::unavailable("Storage", "a photo that has a row and no bytes"))?,
    };
    // Decoding takes its time, and the runtime has other things to do.
    let photo = tokio::task::spawn_blocking(|| Photo::judge(bytes))
        .await
        .map_err(|_| Error::Fault("the photo could not be judged".to_owned()))?
        .map_err(rejected)?;
    if let Some(stripped) = photo.stripped() {
        app.storage.replace(INPUTS, input_path, photo.content_type(), stripped).await?;
    }
    Ok(photo)
}

/// Records what was measured. A generation that was canceled or deleted meanwhile has had its photo
/// deleted, and now it may be back: then it is deleted once more (R2), and nothing is submitted.
async fn record_input(app: &App, id: Uuid, input_path: &str, photo: &Photo) -> Result<(), Aborted> {
    let recorded: Recorded = app
        .ask(
            "record_input",
            json!({
                "generation_id": id,
                "path": input_path,
                "format": photo.format_name(),
                "width": photo.width(),
                "height": photo.height(),
                "bytes": photo.byte_size(),
            }),
        )
        .await?;
    app.execute_deletions_now(recorded.deletions).await;
    if recorded.outcome == "open" { Ok(()) } else { Err(ended_meanwhile().into()) }
}

fn ended_meanwhile() -> Error {
    Error::Refused(Refusal {
        status: StatusCode::CONFLICT,
        code: "generation_ended".to_owned(),
        sentence: "This generation was canceled or deleted while it was being submitted."
            .to_owned(),
        members: Map::new(),
    })
}

/// Names the generation, and proves by the token that whoever calls was told by us.
fn webhook_address(app: &App, id: Uuid, token: &str) -> Result<Url, Error> {
    let mut address = app.config.webhook_url.clone();
    address
        .path_segments_mut()
        .map_err(|()| Error::Fault("the address of the webhook".to_owned()))?
        .pop_if_empty()
        .push("replicate-webhook");
    address
        .query_pairs_mut()
        .append_pair("generation", &id.to_string())
        .append_pair("token", token);
    Ok(address)
}

async fn attach(app: &App, id: Uuid, prediction: &Prediction) -> Result<Value, Error> {
    let arguments = json!({ "generation_id": id, "prediction_id": prediction.id });
    let attached: Attached = app.ask("attach_prediction", arguments).await?;
    if attached.outcome == "ended"
        && let Err(error) = app.replicate.cancel(&prediction.id).await
    {
        tracing::warn!(generation = %id, %error, "a prediction was left to its deadline");
    }
    attached.generation.ok_or_else(ended_meanwhile)
}
