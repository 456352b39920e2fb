//! Dispatches a reserved generation to Replicate: checks the photo, creates the prediction, and attaches it
//! to the generation. This happens during the request. If it fails there, the schedule retries it.

mod preparation;
mod stop;

use std::time::Instant;

use photo::Photo;
use rand::RngExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use self::stop::{Stop, ended_meanwhile, no_photo, refused_by_model};
use crate::cause::Cause;
use crate::deletion::Deletion;
use crate::prediction::{EventSource, capability_digest};
use crate::replicate::{Creation, Listing, NewPrediction, Prediction};
use crate::storage::INPUTS;
use crate::{App, Error, crash};

/// A generation that still needs a prediction, leased to this worker by the database.
#[derive(Debug, Deserialize)]
pub struct Dispatch {
    /// The id of the generation.
    pub generation: Uuid,
    input_path: String,
    /// The path of the prepared copy that the model receives. No client can write there.
    prepared_path: String,
    /// Whether the prepared copy exists.
    is_prepared: bool,
    replicate_model: String,
    prompt: String,
    settings: Map<String, Value>,
    deadline_seconds: u32,
    /// When this worker received the lease.
    #[serde(skip, default = "Instant::now")]
    told: Instant,
    /// The time since when an earlier create call may have been accepted, in Unix seconds.
    create_called_at: Option<f64>,
}

/// The shortest deadline that Replicate accepts, in seconds.
const SHORTEST: u32 = 5;

impl Dispatch {
    /// Returns whether an earlier create call may have been accepted. If so, Replicate's list must be
    /// searched for its prediction.
    #[must_use]
    pub fn may_exist(&self) -> bool {
        self.create_called_at.is_some()
    }

    /// Returns the seconds until the deadline. Signed URLs and predictions expire by then (T4). The time that
    /// has passed since the lease is subtracted.
    fn seconds_left(&self) -> Result<u32, Error> {
        let passed = u32::try_from(self.told.elapsed().as_secs()).unwrap_or(u32::MAX);
        let left = self.deadline_seconds.saturating_sub(passed.saturating_add(1));
        if left < SHORTEST {
            return Err(Error::unavailable("Replicate", "no time was left"));
        }
        Ok(left)
    }
}

/// The result of an attempt.
#[derive(Debug)]
pub enum Progress {
    /// The generation has a prediction. The value is the generation as the API returns it.
    Attached(Value),
    /// The generation has no prediction yet. A webhook event or the schedule will continue.
    Waiting,
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
    is_accepted_again: bool,
}

impl App {
    /// Dispatches a generation under `lease`.
    ///
    /// # Errors
    /// Returns an error if no retry can succeed: the generation has failed and its credits were released, or
    /// it had already ended. A temporary fault is not an error, because the schedule retries until the
    /// deadline.
    pub async fn dispatch(&self, dispatch: &Dispatch, lease: Uuid) -> Result<Progress, Error> {
        self.dispatch_knowing(dispatch, lease, None).await
    }

    /// Same as [`App::dispatch`], but takes Replicate's list if the caller already has it. The list must have
    /// been fetched after the lease was taken.
    ///
    /// # Errors
    /// Same as [`App::dispatch`].
    pub async fn dispatch_knowing(
        &self,
        dispatch: &Dispatch,
        lease: Uuid,
        listing: Option<&Listing>,
    ) -> Result<Progress, Error> {
        let generation = dispatch.generation;
        match self.carry_out(dispatch, lease, listing).await {
            Ok(attached) => Ok(Progress::Attached(attached)),
            Err(Stop::Refused { reason, error, input_sha256 }) => {
                self.refuse(generation, lease, reason, error, input_sha256).await
            }
            Err(Stop::Ended) => Err(ended_meanwhile()),
            Err(Stop::NotNow(error)) => {
                tracing::warn!(
                    %generation,
                    error = error.for_log(),
                    "a dispatch failed, and a later sweep tries again"
                );
                let arguments = json!({ "generation_id": generation, "lease": lease });
                if let Err(error) = self.ask::<Value>("postpone_dispatch", arguments).await {
                    tracing::warn!(
                        %generation,
                        error = error.for_log(),
                        "a lease could not be given back, so the job waits until it ends"
                    );
                }
                Ok(Progress::Waiting)
            }
            Err(Stop::AccountRefused(status)) => {
                self.record_account_refusal(generation, lease, status).await;
                Ok(Progress::Waiting)
            }
            Err(Stop::Unsure(why)) => {
                let why = Cause::from(why);
                tracing::warn!(
                    %generation,
                    why = why.for_log(),
                    "a dispatch stopped in doubt, and an event or a later sweep continues it"
                );
                Ok(Progress::Waiting)
            }
        }
    }

    /// Fetches Replicate's list if an earlier create call of one of `dispatches` may have been accepted.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if Replicate does not deliver the list.
    pub async fn list_created(&self, dispatches: &[Dispatch]) -> Result<Option<Listing>, Error> {
        let calls = dispatches.iter().filter_map(|dispatch| dispatch.create_called_at);
        match calls.reduce(f64::min) {
            Some(since) => self.replicate.list(time_of(since)?).await.map(Some),
            None => Ok(None),
        }
    }

    async fn carry_out(
        &self,
        dispatch: &Dispatch,
        lease: Uuid,
        listing: Option<&Listing>,
    ) -> Result<Value, Stop> {
        crash::reached("dispatch.leased");
        if let Some(since) = dispatch.create_called_at
            && let Some(prediction) = self.find_created(dispatch, since, listing).await?
        {
            let attached = self.attach(dispatch.generation, lease, &prediction.id, None).await?;
            // No event for this prediction has been processed yet. A function that cannot store artworks
            // leaves this to the next sweep.
            if self.marker.is_none() {
                return Ok(attached);
            }
            let followed = self
                .follow_prediction(
                    EventSource::Poll,
                    Uuid::new_v4(),
                    dispatch.generation,
                    &prediction,
                )
                .await;
            return followed.map(|_| attached).map_err(|_| Stop::Unsure("found, not followed"));
        }

        let photo =
            if dispatch.is_prepared { None } else { Some(self.prepare_photo(dispatch).await?) };
        crash::reached("dispatch.checked");
        let signed = self
            .storage
            .sign(INPUTS, &dispatch.prepared_path, dispatch.seconds_left()?)
            .await?
            .ok_or_else(no_photo)?;
        let token = hex::encode(rand::rng().random::<[u8; 32]>());
        let deletions = self.record_input(dispatch, lease, &token, photo.as_ref()).await?;
        crash::reached("dispatch.recorded");

        // Run both at the same time, so that a slow deletion in Storage does not delay the prediction.
        let (attached, ()) = tokio::join!(
            self.create_and_attach(dispatch, lease, &token, &signed),
            self.execute_deletions_now(dispatch.generation, deletions),
        );
        attached
    }

    async fn create_and_attach(
        &self,
        dispatch: &Dispatch,
        lease: Uuid,
        token: &str,
        signed: &Url,
    ) -> Result<Value, Stop> {
        let id = self.create(dispatch, token, signed).await?;
        crash::reached("dispatch.created");
        self.attach(dispatch.generation, lease, &id, Some(token)).await
    }

    /// Searches Replicate's list for a prediction that an earlier worker created. That worker may have died,
    /// or lost the response. Creating a second prediction would cost twice.
    async fn find_created(
        &self,
        dispatch: &Dispatch,
        since: f64,
        listing: Option<&Listing>,
    ) -> Result<Option<Prediction>, Stop> {
        let unsure = |_| Stop::Unsure("Replicate could not say whether it was created");
        let own;
        let listing = if let Some(listing) = listing {
            listing
        } else {
            own = self.replicate.list(time_of(since)?).await.map_err(unsure)?;
            &own
        };
        Ok(listing.find(&dispatch.prepared_path).map_err(unsure)?.cloned())
    }

    /// Records what was measured and gets permission for one create call. Returns the deletions to execute
    /// now: that of the original. If the generation has ended, or another worker has the lease, this deletes
    /// the prepared copy instead (R2).
    async fn record_input(
        &self,
        dispatch: &Dispatch,
        lease: Uuid,
        token: &str,
        photo: Option<&Photo>,
    ) -> Result<Vec<Deletion>, Stop> {
        let recorded: Recorded = self
            .ask(
                "record_input",
                json!({
                    "generation_id": dispatch.generation,
                    "lease": lease,
                    "capability": capability_digest(token),
                    "prepared_path": dispatch.prepared_path,
                    "format": photo.map(Photo::format_name),
                    "width": photo.map(Photo::width),
                    "height": photo.map(Photo::height),
                    "bytes": photo.map(Photo::byte_size),
                    "sha256": photo.map(Photo::sha256),
                }),
            )
            .await?;
        let stop = match recorded.outcome.as_str() {
            "open" => return Ok(recorded.deletions),
            "ended" => Stop::Ended,
            _ => Stop::Unsure("the lease was lost"),
        };
        self.execute_deletions_now(dispatch.generation, recorded.deletions).await;
        Err(stop)
    }

    async fn create(&self, dispatch: &Dispatch, token: &str, signed: &Url) -> Result<String, Stop> {
        let mut input = dispatch.settings.clone();
        input.insert("prompt".to_owned(), Value::from(dispatch.prompt.as_str()));
        input.insert("input_image".to_owned(), Value::from(signed.as_str()));
        let webhook = self.webhook_address(dispatch.generation, token)?;
        let new = NewPrediction {
            model: &dispatch.replicate_model,
            input: Value::Object(input),
            webhook: &webhook,
            deadline_seconds: dispatch.seconds_left()?,
        };
        match self.replicate.create(&new).await? {
            Creation::Created(prediction) => Ok(prediction.id),
            Creation::Busy => Err(Error::unavailable("Replicate", "busy").into()),
            Creation::Unknown => Err(Stop::Unsure("the answer to a create call was lost")),
            Creation::AccountRefused(status) => Err(Stop::AccountRefused(status)),
            // The job waits, so that the operator can repair this before the deadline.
            Creation::Misconfigured(status) => {
                let generation = dispatch.generation;
                let status = status.as_u16();
                tracing::error!(
                    %generation,
                    status,
                    "Replicate does not know the model or refuses the webhook"
                );
                Err(Error::unavailable("Replicate", Cause::status("create", status)).into())
            }
            Creation::Refused(status) => {
                let generation = dispatch.generation;
                let status = status.as_u16();
                tracing::warn!(%generation, status, "the model refuses a photo or its settings");
                Err(refused_by_model())
            }
        }
    }

    /// Returns the webhook URL of a generation. The token in it proves that the sender of an event received
    /// the URL from us.
    fn webhook_address(&self, id: Uuid, token: &str) -> Result<Url, Error> {
        let mut address = self.config.webhook_url.clone();
        address
            .path_segments_mut()
            .map_err(|()| Error::fault("the address of the webhook"))?
            .pop_if_empty()
            .push("replicate-webhook");
        address
            .query_pairs_mut()
            .append_pair("generation", &id.to_string())
            .append_pair("token", token);
        Ok(address)
    }

    async fn attach(
        &self,
        generation: Uuid,
        lease: Uuid,
        prediction: &str,
        token: Option<&str>,
    ) -> Result<Value, Stop> {
        let arguments = json!({
            "generation_id": generation,
            "lease": lease,
            "prediction_id": prediction,
            "capability": token.map(capability_digest),
        });
        let attached: Attached = self
            .ask("attach_prediction", arguments)
            .await
            .map_err(|_| Stop::Unsure("a prediction could not be attached"))?;
        if attached.is_accepted_again {
            tracing::info!("Replicate accepts our account again");
        }
        if attached.outcome == "superseded" {
            return Err(Stop::Unsure("the lease was lost"));
        }
        if attached.outcome == "ended" {
            self.cancel_prediction_now(generation, prediction.to_owned()).await;
        }
        attached.generation.ok_or(Stop::Ended)
    }
}

fn time_of(unix_seconds: f64) -> Result<OffsetDateTime, Error> {
    #[expect(clippy::cast_possible_truncation, reason = "Unix seconds fit")]
    OffsetDateTime::from_unix_timestamp(unix_seconds as i64)
        .map_err(|_| Error::fault("an impossible time"))
}
