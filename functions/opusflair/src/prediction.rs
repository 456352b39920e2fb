//! Processes what Replicate says about a prediction, in a webhook event or in an answer to our question.

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::artwork::NotStored;
use crate::deletion::Deletion;
use crate::replicate::{Prediction, Status};
use crate::{App, Error, crash};

/// How we learned the state of a prediction.
#[derive(Clone, Copy, Debug)]
pub enum EventSource<'a> {
    /// From a signed webhook event.
    Webhook {
        /// The value of the header `webhook-id`.
        id: &'a str,
        /// The capability token in the webhook's URL.
        token: &'a str,
    },
    /// From Replicate's answer to our question.
    Poll,
}

/// The result of processing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The prediction belongs to none of our generations.
    Unknown,
    /// The state was recorded. Nothing else has to be done.
    Recorded,
    /// The artwork was stored and the generation succeeded.
    Stored,
    /// The generation failed, for example because its output was unusable.
    Failed,
    /// The generation had already ended.
    Ended,
    /// Another worker has taken over.
    Superseded,
    /// Nothing is decided yet. Replicate is asked again later.
    Waiting,
}

#[derive(Deserialize)]
struct Instruction {
    action: Action,
    artwork_path: Option<String>,
    /// The name of the model at Replicate.
    model: Option<String>,
    /// A prediction that still runs although its generation has ended.
    cancel_prediction: Option<String>,
    #[serde(default)]
    deletions: Vec<Deletion>,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Action {
    Unknown,
    None,
    Store,
}

impl Outcome {
    fn named(name: &str) -> Self {
        match name {
            "completed" => Self::Stored,
            "failed" => Self::Failed,
            "ended" => Self::Ended,
            "waiting" => Self::Waiting,
            _ => Self::Superseded,
        }
    }
}

#[derive(Deserialize)]
struct Ended {
    outcome: String,
    deletions: Vec<Deletion>,
}

/// Returns the digest of a capability token. The database stores only the digest.
#[must_use]
pub(crate) fn capability_digest(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

impl App {
    /// Records the state of a prediction and does what the database then asks for. If an output has to be
    /// stored, this happens under `lease`: a new lease, or one that the caller already holds.
    ///
    /// # Errors
    /// Returns an error if the database is unavailable, or if storing failed for a temporary reason. The
    /// lease is released, and the same event may be delivered again.
    pub async fn follow_prediction(
        &self,
        source: EventSource<'_>,
        lease: Uuid,
        generation: Uuid,
        prediction: &Prediction,
    ) -> Result<Outcome, Error> {
        let (event_id, capability) = match source {
            EventSource::Webhook { id, token } => (Some(id), Some(capability_digest(token))),
            EventSource::Poll => (None, None),
        };
        let output = prediction.output();
        let kind = match &output {
            Some(output) if prediction.status == Status::Succeeded => {
                Some(self.kind_of(output).await)
            }
            _ => None,
        };
        let instruction: Instruction = self
            .ask(
                "record_prediction_event",
                json!({
                    "lease": lease,
                    "event_id": event_id,
                    "generation_id": generation,
                    "capability": capability,
                    "prediction_id": prediction.id,
                    "status": prediction.status.as_str(),
                    "reason": prediction.failure_reason(),
                    "output_extension": kind,
                    "model_version": prediction.version,
                    "predict_seconds": prediction.predict_seconds(),
                }),
            )
            .await?;
        crash::reached("event.recorded");
        if let Some(stray) = instruction.cancel_prediction {
            self.cancel_prediction_now(generation, stray).await;
        }
        self.execute_deletions_now(generation, instruction.deletions).await;

        let Instruction { action, artwork_path, model, .. } = instruction;
        match (action, artwork_path.zip(model), output) {
            (Action::Unknown, ..) => Ok(Outcome::Unknown),
            (Action::Store, Some((path, model)), Some(output)) => {
                let made = prediction.made_by(model);
                let stored = self.store_artwork(&output, &path, made).await;
                crash::reached("artwork.stored");
                self.conclude(generation, lease, &path, stored).await
            }
            (Action::Store, ..) => {
                Err(Error::fault("an order to store without a place or a model"))
            }
            (Action::None, ..) => Ok(Outcome::Recorded),
        }
    }

    /// Ends a generation with one of `public.failure_reasons`. Its credits are released and its photo is
    /// deleted. If `lease` is given, this happens only while the lease is still valid. `input_sha256` is the
    /// SHA-256 of a photo that was judged and rejected. The receipt of its deletion contains a keyed digest
    /// of it.
    ///
    /// # Errors
    /// Returns an error if the database is unavailable.
    pub async fn fail_generation(
        &self,
        generation: Uuid,
        reason: &str,
        lease: Option<Uuid>,
        input_sha256: Option<String>,
    ) -> Result<Outcome, Error> {
        let arguments = json!({
            "generation_id": generation, "reason": reason, "lease": lease, "input_sha256": input_sha256,
        });
        let ended: Ended = self.ask("fail_generation", arguments).await?;
        self.execute_deletions_now(generation, ended.deletions).await;
        Ok(Outcome::named(&ended.outcome))
    }

    /// Records that Replicate does not know the prediction of a generation. If that stays so for some
    /// minutes, the generation ends.
    ///
    /// # Errors
    /// Returns an error if the database is unavailable.
    pub async fn record_absence(
        &self,
        generation: Uuid,
        prediction: &str,
    ) -> Result<Outcome, Error> {
        let arguments = json!({ "generation_id": generation, "prediction_id": prediction });
        let ended: Ended = self.ask("record_absence", arguments).await?;
        self.execute_deletions_now(generation, ended.deletions).await;
        Ok(Outcome::named(&ended.outcome))
    }

    /// Records that an output could not be fetched. Returns `found` as an error if the generation can still
    /// wait for the output.
    async fn doubt_output(
        &self,
        generation: Uuid,
        lease: Uuid,
        reason: &str,
        found: Error,
    ) -> Result<Ended, Error> {
        // A paid result may be lost, so this is an error in the log. The operator can repair it until the
        // deadline.
        tracing::error!(%generation, error = found.for_log(), "an output cannot be fetched");
        let arguments = json!({ "generation_id": generation, "lease": lease, "reason": reason });
        let ended: Ended = self.ask("doubt_output", arguments).await?;
        if ended.outcome == "waiting" { Err(found) } else { Ok(ended) }
    }

    async fn conclude(
        &self,
        generation: Uuid,
        lease: Uuid,
        path: &str,
        stored: Result<crate::artwork::Stored, NotStored>,
    ) -> Result<Outcome, Error> {
        let concluded = match stored {
            Ok(stored) => {
                let arguments = json!({
                    "generation_id": generation,
                    "lease": lease,
                    "artwork_path": path,
                    "content_type": stored.content_type,
                    "bytes": stored.bytes,
                    "sha256": stored.sha256,
                    "crc32": stored.crc32,
                });
                self.ask::<Ended>("complete_generation", arguments).await
            }
            Err(NotStored::Never(reason)) => {
                let arguments =
                    json!({ "generation_id": generation, "lease": lease, "reason": reason });
                self.ask::<Ended>("fail_generation", arguments).await
            }
            Err(NotStored::Doubtful { reason, error }) => {
                self.doubt_output(generation, lease, reason, error).await
            }
            Err(NotStored::NotNow(error)) => Err(error),
        };
        match concluded {
            Ok(ended) => {
                crash::reached("artwork.concluded");
                self.execute_deletions_now(generation, ended.deletions).await;
                Ok(Outcome::named(&ended.outcome))
            }
            Err(error) => {
                let arguments = json!({ "generation_id": generation, "lease": lease });
                if let Err(error) = self.ask::<Value>("release_lease", arguments).await {
                    tracing::warn!(
                        %generation,
                        error = error.for_log(),
                        "a lease could not be given back, so the job waits until it ends"
                    );
                }
                Err(error)
            }
        }
    }
}
