//! Outbox tasks: calls to other services that the database has ordered. They cancel a prediction, search for
//! one, or abandon an upload. If a worker dies, the next one makes the call.

use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use crate::{App, Error, crash};

/// An outbox task.
#[derive(Clone, Debug, Deserialize)]
pub struct OutboxTask {
    kind: Kind,
    target: String,
    /// The generation of the prediction. `None` for an upload.
    pub generation: Option<Uuid>,
    /// The earliest creation time to search for, in Unix seconds.
    since: Option<f64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    CancelPrediction,
    FindPrediction,
    AbandonUpload,
}

impl OutboxTask {
    /// A task that cancels a prediction of `generation`.
    fn cancel(generation: Option<Uuid>, prediction: String) -> Self {
        Self { kind: Kind::CancelPrediction, target: prediction, generation, since: None }
    }
}

impl App {
    /// Makes the call and records that it was made.
    ///
    /// # Errors
    /// Returns an error if the call failed. The task then stays in the outbox.
    pub async fn run_outbox_task(&self, task: &OutboxTask) -> Result<(), Error> {
        let OutboxTask { kind, target, generation, since } = task;
        let name = match kind {
            Kind::CancelPrediction => {
                self.replicate.cancel(target).await?;
                "cancel_prediction"
            }
            Kind::FindPrediction => {
                self.stop_strays(*generation, target, since.unwrap_or_default()).await?;
                "find_prediction"
            }
            Kind::AbandonUpload => {
                let upload = Url::parse(target).map_err(|_| Error::fault("an upload's address"))?;
                self.storage.abandon_upload(&upload).await?;
                "abandon_upload"
            }
        };
        crash::reached("outbox.called");
        self.ask::<Value>("finish_outbox_task", json!({ "kind": name, "target": target })).await?;
        Ok(())
    }

    /// Cancels a prediction of `generation` during a request. A failure is not reported to the caller: the
    /// task stays in the outbox, and the schedule retries it.
    pub async fn cancel_prediction_now(&self, generation: Uuid, prediction: String) {
        if let Err(error) =
            self.run_outbox_task(&OutboxTask::cancel(Some(generation), prediction)).await
        {
            tracing::warn!(
                %generation,
                error = error.for_log(),
                "a prediction could not be canceled now, and a later sweep tries again"
            );
        }
    }

    /// Handles a generation that ended after the response to its create call was lost. Cancels the
    /// predictions that Replicate made from the photo. Each one is recorded, so that Replicate is later asked
    /// whether it has removed its data (T3).
    async fn stop_strays(
        &self,
        generation: Option<Uuid>,
        photo: &str,
        since: f64,
    ) -> Result<(), Error> {
        #[expect(clippy::cast_possible_truncation, reason = "Unix seconds fit")]
        let since = OffsetDateTime::from_unix_timestamp(since as i64)
            .map_err(|_| Error::fault("an impossible time"))?;
        let listing = self.replicate.list(since).await?;
        let found = listing.find_all(photo)?;
        let ids: Vec<&str> = found.iter().map(|prediction| prediction.id.as_str()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let arguments = json!({ "target": photo, "predictions": ids });
        self.ask::<Value>("record_found_predictions", arguments).await?;
        for id in ids {
            Box::pin(self.run_outbox_task(&OutboxTask::cancel(generation, id.to_owned()))).await?;
        }
        Ok(())
    }
}
